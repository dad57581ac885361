"""What travels with the package: the files in ``pigen/data``, and their checksums.

``python -m pigen.runtime.resources > src/pigen/data/SHA256SUMS`` renews the checksums.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from importlib import resources
from pathlib import Path

from pigen.runtime.errors import UsageError
from pigen.runtime.files import sha256_of

DATA = Path(str(resources.files("pigen"))) / "data"
"""Folder of the package data."""
SPP_TABLE = DATA / "spp.npz"
"""Pair potentials fitted to the training split."""
KNOWN_COMPOSITIONS = DATA / "compositions.txt.gz"
"""Reduced formulas of every structure that the shipped model saw."""
MP_COMPOSITIONS = DATA / "compositions_mp.txt.gz"
"""Reduced formulas of the Materials Project in 2018, CC BY 4.0; its first lines give credit."""
KNOWN_LISTS = {"training": KNOWN_COMPOSITIONS, "mp": MP_COMPOSITIONS}
"""Shipped lists of known compositions, by name."""
PUBLISHED_TABLES = DATA / "published_tables.toml"
"""The figures printed in the paper."""
TEMPLATES = DATA / "templates.npz"
"""Space groups and sites of the structures that the shipped model saw, with their labels."""
TRAINING_HISTOGRAMS = DATA / "training_histograms.json"
"""Counts over the labels of the shipped model's training set, for figures."""
PROTOTYPES = DATA / "prototypes"
"""Folder of the libraries of frameworks, a bundle each."""
HULL = DATA / "hull"
"""Folder of the reference compounds with CHGNet energies."""
HULL_DFT = DATA / "hull_dft"
"""Folder of the Materials Project's stable compounds with its DFT energies, CC BY 4.0."""
CALIBRATION = DATA / "calibration.json"
"""Coefficients that turn energies above that hull into an estimate of DFT's."""
EXPERIMENTS = DATA / "experiments"
"""Folder of the shipped experiments, a TOML each."""
CHECKSUMS = DATA / "SHA256SUMS"
"""SHA-256 of every computed file of the package data, as ``sha256sum`` writes it."""


SHIPPED_CHECKPOINTS = ("base", "pi", "cfg", "pigen")
"""Names of the checkpoints that travel with the package: without compactness loss and labels,
with the loss, with the labels, with both."""


def checkpoint(name: str) -> Path:
    """File of the shipped checkpoint of that name."""
    return DATA / "checkpoints" / f"{name}.safetensors"


def find_checkpoint(name: str) -> Path:
    """The file of a shipped checkpoint's name, or of a path; UsageError if there is none."""
    path = checkpoint(name) if name in SHIPPED_CHECKPOINTS else Path(name)
    if not path.is_file():
        raise UsageError(f"{path}: no such checkpoint")
    return path


def computed_files() -> list[Path]:
    """The package data that programs made: model, tables, libraries, reference compounds."""
    files = [
        SPP_TABLE,
        KNOWN_COMPOSITIONS,
        MP_COMPOSITIONS,
        TEMPLATES,
        TRAINING_HISTOGRAMS,
        CALIBRATION,
    ]
    files += [checkpoint(name) for name in SHIPPED_CHECKPOINTS]
    folders = (PROTOTYPES, HULL, HULL_DFT)
    return [*files, *(path for folder in folders for path in sorted(folder.iterdir()))]


def checksums() -> dict[str, str]:
    """Path below `DATA` → the SHA-256 that the file must have."""
    lines = CHECKSUMS.read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def versions() -> dict[str, str]:
    """Each thing that figures rest on → the first 16 digits of its hash, as bundles record it."""
    level = json.loads((HULL / "reference.json").read_text(encoding="utf-8"))["level"]
    hull = hashlib.sha256(level.encode() + gzip.decompress((HULL / "entries.csv.gz").read_bytes()))
    return {
        **{f"checkpoint {name}": sha256_of(checkpoint(name)) for name in SHIPPED_CHECKPOINTS},
        "pair potentials (SPP)": sha256_of(SPP_TABLE),
        "known compositions": sha256_of(KNOWN_COMPOSITIONS),
        "compositions of the Materials Project": sha256_of(MP_COMPOSITIONS),
        **{f"prototypes {p.stem}": sha256_of(p) for p in sorted(PROTOTYPES.glob("*.h5"))},
        "hull reference": hull.hexdigest()[:16],
    }


if __name__ == "__main__":
    for path in computed_files():
        print(f"{sha256_of(path, 64)}  {path.relative_to(DATA).as_posix()}")
