"""The folder of a CSP experiment: what is in it, and its manifests.

DIR/manifest.json              the experiment (`Experiment`)
DIR/searches.txt               a search folder a line, for job scripts
DIR/001_MgO/manifest.json    one composition (`Composition`)
DIR/001_MgO/seeded/          a search that starts from the generated structure too
DIR/001_MgO/composition_only/
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pigen.config.searches import Settings
from pigen.crystal.elements import Z_OF
from pigen.runtime.checked import read_checked
from pigen.runtime.errors import PigenError, UsageError
from pigen.runtime.files import parse_json, read_text, write_atomically

MANIFEST = "manifest.json"
MODES = ("seeded", "composition_only")
"""The two searches of a composition, which are also the names of their folders."""
SEEDS = "seeds"
"""Folder in a seeded search: the originals, of which each run gets fresh copies."""

MAX_SEARCH_ATOMS = 1000
"""In a cell of a search."""
MAX_FOLDER_NAME = 200
"""Characters of the name of a composition's folder."""


@dataclass(frozen=True)
class Composition:
    """One composition: its manifest.

    Attributes:
        folder: name of its folder.
        formula: reduced, elements in alphabetical order, e.g. "Mg1O1".
        elements: element → atoms in the reduced formula.
        id: the generated structure's; of several seeds, the first's.
        parents: what it was made from.
        generated_energy: eV/atom, the lowest of its seeds; None if the source has none.
        generated_atoms: atoms in the largest cell as generated: the largest that a search on equal
            terms needs.
        seed_atoms: atoms in the largest conventional standardised cell of a seed.
        seed_sha256: of the seed's CIF; of several, of one after the other.
        max_atoms: of a cell in the search with FUSE, which must hold the seed.
        random_seeds: mode → seed of that search.
        n_seeds: generated structures in the seeded search.
    """

    folder: str
    formula: str
    elements: Mapping[str, int]
    id: str
    parents: tuple[str, ...]
    generated_energy: float | None
    generated_atoms: int
    seed_atoms: int
    seed_sha256: str
    max_atoms: int
    random_seeds: Mapping[str, int]
    n_seeds: int = 1

    def __post_init__(self) -> None:
        """ValueError for what no search could be made of: a manifest may be a stranger's."""
        check_folder_name(self.folder)
        if not self.elements or not self.elements.keys() <= Z_OF.keys():
            raise ValueError(f"elements: expected symbols of elements, got {self.elements!r:.60}")
        sizes = (self.generated_atoms, self.seed_atoms, self.max_atoms, *self.elements.values())
        if self.n_seeds < 1:
            raise ValueError(f"n_seeds: expected 1 or more, got {self.n_seeds}")
        if not all(1 <= n <= MAX_SEARCH_ATOMS for n in sizes):
            raise ValueError(f"atoms in a cell: expected 1 … {MAX_SEARCH_ATOMS} (MAX_SEARCH_ATOMS)")
        if not self.random_seeds.keys() >= set(MODES) or min(self.random_seeds.values()) < 0:
            raise ValueError(f"random_seeds: expected numbers from 0 for {' and '.join(MODES)}")


@dataclass(frozen=True)
class Experiment:
    """Compositions of one model and one way to choose them: the manifest at the top.

    Attributes:
        engine: whose seeds these are, "fuse" for searches that FUSE or `pigen csp-run` runs.
        model: row of the published table, or the name of what generated the structures.
        chosen: "filtered", "unfiltered" or "lowest-energy".
        seed: of the choice, and of what the searches draw.
        settings: of every search.
        read: structures in the source.
        sources: their paths.
        refused: id → why it can be no seed.
        compositions: folders, in order.
        pigen_version: that wrote it.
    """

    engine: str
    model: str
    chosen: str
    seed: int
    settings: Settings
    read: int
    sources: tuple[str, ...]
    refused: Mapping[str, str]
    compositions: tuple[str, ...]
    pigen_version: str

    def __post_init__(self) -> None:
        """ValueError for a name that would lead out of the folder, or of no engine."""
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,30}", self.engine, re.ASCII):
            raise ValueError(f"engine: expected a name in small letters, got {self.engine!r:.60}")
        for name in self.compositions:
            check_folder_name(name)


def check_folder_name(name: str) -> None:
    """Raise ValueError unless a name is of a folder beside the manifest."""
    if not re.fullmatch(r"\w[\w.+-]*", name, re.ASCII) or len(name) > MAX_FOLDER_NAME:
        raise ValueError(f"folder: expected a plain name, got {name[:60]!r}")


def write_manifest(folder: Path, manifest: Experiment | Composition) -> None:
    """Write it into its folder, whole or not at all."""
    text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / MANIFEST, text)


def read_experiment(folder: Path) -> Experiment:
    """The manifest at the top of a CSP folder.

    Raises:
        UsageError: there is none, or the folder is that of one composition or one search.
        PigenError: it is damaged.
    """
    for inner, kind in ((folder, "one composition"), (folder / "..", "one search")):
        if _holds_composition(inner):
            whole = inner / ".."
            raise UsageError(f"{folder} is {kind}; give the folder of all, {whole.resolve()}")
    otherwise = "not a folder that pigen csp-seed wrote"
    return read_checked(Experiment, folder / MANIFEST, otherwise=otherwise)


def _holds_composition(folder: Path) -> bool:
    """Whether a manifest is a composition's."""
    try:
        content = parse_json(read_text(folder / MANIFEST))
    except (OSError, ValueError, UsageError):
        return False
    return isinstance(content, dict) and "seed_sha256" in content


def read_composition(folder: Path) -> Composition:
    """The manifest of one composition; UsageError if none, PigenError if damaged."""
    otherwise = "the folder of no composition"
    return read_checked(Composition, folder / MANIFEST, otherwise=otherwise)


def compositions(folder: Path, experiment: Experiment) -> list[Composition]:
    """The manifests of all compositions, in order. Raises as `read_composition`."""
    found = []
    for name in experiment.compositions:
        composition = read_composition(folder / name)
        if composition.folder != name:
            raise PigenError(f"{folder / name / MANIFEST}: folder is {composition.folder!r}")
        found.append(composition)
    return found
