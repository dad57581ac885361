"""What an experiment is: frozen dataclasses, one per TOML table, each field with its meaning.

The dataclasses are the one description of the configuration: the strict loader, the TOML writer
and ``docs/experiments.md`` are all driven by their types and by the notes given to `setting`.
A rule that joins two fields belongs in ``__post_init__`` as a ValueError; the loader adds the
file and the table to its message.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from pigen.config.filters import ChemistryConfig, FilterConfig
from pigen.crystal.elements import SYMBOLS
from pigen.runtime.checked import REQUIRED, setting
from pigen.runtime.resources import KNOWN_LISTS, SHIPPED_CHECKPOINTS

CRYSTAL_SYSTEMS = {
    "triclinic": (1, 2),
    "monoclinic": (3, 15),
    "orthorhombic": (16, 74),
    "tetragonal": (75, 142),
    "trigonal": (143, 167),
    "hexagonal": (168, 194),
    "cubic": (195, 230),
}
"""First and last space group of each crystal system."""

LABELS: tuple[str, ...] = ("c", "mled", "e_hull", "k")
"""Structure labels a model is conditioned on unless its experiment names others."""


DEVICES = ("auto", "cpu", "cuda")
_WHERE = "Where to compute; auto takes CUDA if present."


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """The structures a model is trained on."""

    train: tuple[str, ...] = setting(
        (), "Training sources: labelled bundles or anything `pigen import` reads.", path=True
    )
    val: tuple[str, ...] = setting((), "Validation sources, same kinds.", path=True)
    val_share: float = setting(
        0.1,
        "Where val is empty, this share of train is held out for validation, 1,000 structures at "
        "most, no composition in both; 0: none.",
        lo=0.0,
        hi=0.5,
    )
    max_atoms: int = setting(20, "Structures with more atoms are left out.", lo=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The equivariant denoising network."""

    scalars: int = setting(192, "Scalar (l = 0) channels per atom.", lo=1)
    vectors: int = setting(64, "Vector (l = 1) channels per atom.", lo=1)
    messages: int = setting(32, "Channels of each message.", lo=1)
    layers: int = setting(4, "Message-passing layers.", lo=1)
    radial: int = setting(12, "Radial basis functions.", lo=1)
    cutoff: float = setting(6.0, "Neighbour cutoff; all periodic images.", unit="Å", above=0.0)
    labels: tuple[str, ...] = setting(
        LABELS,
        "Labels the model can be guided by: numeric columns of the training set, or descriptors.",
    )

    def __post_init__(self) -> None:
        """A label is named once."""
        for label in self.labels:
            if not label or self.labels.count(label) > 1:
                raise ValueError(f"labels: expected different names, got {list(self.labels)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionConfig:
    """The corruption processes of elements, coordinates and lattice."""

    sigma_min: float = setting(
        0.012, "Smallest noise of fractional coordinates in an 8-atom cell.", above=0.0
    )
    sigma_max: float = setting(
        0.65, "Largest noise of fractional coordinates in an 8-atom cell.", above=0.0
    )
    time_power: float = setting(
        2.0, "Elements and lattice are denoised at time t to this power.", above=0.0
    )

    def __post_init__(self) -> None:
        """Noise must grow."""
        if not self.sigma_min < self.sigma_max:
            raise ValueError(
                f"sigma_min must be below sigma_max, got {self.sigma_min} and {self.sigma_max}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Weights of the loss components."""

    types: float = setting(0.3, "Weight λ_A of the element loss.", lo=0.0)
    coords: float = setting(4.0, "Weight λ_F of the coordinate loss.", lo=0.0)
    lattice: float = setting(1.0, "Weight λ_L of the lattice loss.", lo=0.0)
    compactness: float = setting(
        1.0, "Weight λ_C of the physics-informed compactness loss; 0 switches it off.", lo=0.0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Optimisation."""

    epochs: float = setting(106.0, "Passes over the training set.", above=0.0)
    hours: float = setting(
        0.0,
        "Time after which training ends, its learning rate lowered by then, if the epochs have not "
        "ended it before; 0: no limit. In one process only.",
        unit="h",
        lo=0.0,
    )
    batch_size: int = setting(32, "Structures per step, of all processes together.", lo=1)
    accumulate: int = setting(
        1, "Parts in which a process computes its share of a batch; saves memory.", lo=1
    )
    lr: float = setting(1e-3, "Peak learning rate of AdamW.", above=0.0)
    weight_decay: float = setting(0.01, "Weight decay of AdamW.", lo=0.0)
    clip: float = setting(1.0, "Largest norm of the gradient.", above=0.0)
    ema: float = setting(0.9995, "Decay of the moving average of the weights.", lo=0.0, hi=1.0)
    p_drop: float = setting(
        0.6, "Probability of hiding each label of a structure during training.", lo=0.0, hi=1.0
    )
    symmetric: float = setting(
        0.7,
        "Share of the structures of a batch whose noise keeps their space group; the rest is free.",
        lo=0.0,
        hi=1.0,
    )
    given: Mapping[str, float] = setting(
        {"types": 0.25, "geometry": 0.05, "atoms": 0.05},
        "Shares of the structures of a batch of which something is given: all elements (types), "
        "coordinates and cell (geometry), or some atoms (atoms); the model learns the rest.",
        keys=("types", "geometry", "atoms"),
        lo=0.0,
        hi=1.0,
    )
    init_from: str = setting(
        "",
        "Checkpoint to start from: a file, or a shipped one by name; empty: random weights.",
        path=True,
        names=("", *SHIPPED_CHECKPOINTS),
    )
    checkpoint_minutes: float = setting(3.0, "Time between checkpoints.", unit="min", above=0.0)
    device: str = setting("auto", _WHERE, choices=DEVICES)

    def __post_init__(self) -> None:
        """A structure is given in one way."""
        if sum(self.given.values()) > 1:
            raise ValueError(f"given: expected shares that add up to 1 at most, got {self.given}")


N_SAMPLES = 64
"""Structures to generate, unless an experiment says how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleConfig(ChemistryConfig):
    """Sampling from a trained model."""

    known: str = setting(
        "",
        "Compositions samples must not have: mp, training or a list (.txt); empty: any may be.",
        path=True,
        names=("", *KNOWN_LISTS),
    )
    n: int = setting(N_SAMPLES, "Structures to generate; `imported.n` limits imported ones.", lo=1)
    steps: int = setting(100, "Denoising steps.", lo=1)
    guidance: float = setting(
        2.0, "Strength g of classifier-free guidance; 0 is plain conditioning.", lo=0.0
    )
    guidance_interval: tuple[float, float] = setting(
        (0.5, 1.0),
        "Times t (1 is noise) between which g acts; elsewhere conditioning is plain, and half the "
        "calls of the network are saved.",
        lo=0.0,
        hi=1.0,
        window=True,
    )
    noise: float = setting(
        0.0, "Scale η of the noise added to coordinates and lattice at each step.", lo=0.0
    )
    sharpness: float = setting(
        1.5, "Factor on the coordinates' score; above 1, atoms settle in likelier places.", lo=0.0
    )
    targets: Mapping[str, float | tuple[float, float]] = setting(
        {},
        "Label → target value, or [lo, hi] to draw each structure's target from.",
        window=True,
    )
    n_atoms: str | int | tuple[int, ...] = setting(
        "targets",
        "Atoms per cell: the training distribution given the targets (targets) or as it is "
        "(train), one number, or a list to draw from.",
        choices=("train", "targets"),
        lo=1,
    )
    symmetry: str = setting(
        "free",
        "Symmetry that the noise keeps, so that the crystals have it: none (free), that of a "
        "structure of the training set, its elements, coordinates and cell forgotten (training), "
        "or sites of a group drawn to fill the cell (drawn).",
        choices=("free", "training", "drawn"),
    )
    space_group: str | int | tuple[str | int, ...] = setting(
        (), "Only these space groups, numbers or symbols; empty: any.", lo=1, hi=230
    )
    crystal_system: str = setting(
        "", "Only space groups of this crystal system; empty: any.", choices=("", *CRYSTAL_SYSTEMS)
    )
    composition: str = setting("", "Formula of every structure, such as LiFePO4; empty: any.")
    formula_units: str | int | tuple[int, ...] = setting(
        "any",
        "How often the cell holds the composition: one number, a list to draw from, or as the "
        "sizes of the training set have it (any).",
        choices=("any",),
        lo=1,
    )
    start: str = setting(
        "", "A file with one structure that every sample begins from; empty: noise.", path=True
    )
    fixed: str | int | tuple[str | int, ...] = setting(
        (),
        "What stays of `start`: elements, numbers of atoms from 0, or cell; with any, the cell.",
        lo=0,
    )
    strength: float = setting(
        1.0,
        "Time t up to which the rest of `start` is noised; 1: nothing of it is left.",
        above=0.0,
        hi=1.0,
    )
    batch_size: int = setting(
        16,
        "Structures denoised together: what a kill can lose. No effect on results; on a GPU more "
        "are faster, e.g. 256.",
        lo=1,
    )
    checkpoint: str = setting(
        "",
        "A checkpoint file, a shipped one (base, pi, cfg, pigen), or empty: train first.",
        path=True,
        names=("", *SHIPPED_CHECKPOINTS),
    )
    device: str = setting("auto", _WHERE, choices=DEVICES)


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudoRandomConfig:
    """Pseudo-random cells, the baseline without a model; `sample.n` of them."""

    n_atoms: tuple[int, int] = setting(
        (1, 20), "Atoms per cell, drawn uniformly.", lo=1, hi=200, window=True
    )
    min_separation: float = setting(
        1.0, "Least distance between atoms, own images included.", unit="Å", above=0.0, hi=5.0
    )
    volume_per_atom: tuple[float, float] = setting(
        (5.0, 40.0), "Volume per atom, drawn uniformly.", unit="Å^3", above=0.0, window=True
    )
    elements: tuple[str, ...] = setting(
        (), "Elements to draw from; empty: those of the training set.", choices=SYMBOLS[1:]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SubstitutionConfig:
    """Elements exchanged for similar ones in known frameworks, a floor without a model.

    `sample.n` structures; frameworks are those of `data.train`, or the shipped stable phases.
    """

    n_atoms: tuple[int, int] = setting(
        (1, 20), "Atoms in the cell of a framework.", lo=1, hi=200, window=True
    )
    exchanged: int = setting(1, "Elements exchanged, as far as there are similar ones.", lo=1)
    elements: tuple[str, ...] = setting(
        (), "Elements that may come in; empty: those of the frameworks.", choices=SYMBOLS[1:]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportConfig:
    """Structures that another program generated."""

    source: str = setting("", "Anything `pigen import` reads.", path=True)
    n: int = setting(0, "Only the first so many; 0: all.", lo=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaxConfig:
    """How structures are relaxed."""

    potential: str = setting(
        "chgnet",
        "chgnet; mace, mattersim, orb, sevennet, sevennet-l3i5, where its package is installed; or "
        "MODULE:CALLABLE, which returns an ASE calculator.",
    )
    fmax: float = setting(
        0.05, "Largest force of a relaxation that has converged.", unit="eV/Å", above=0.0
    )
    max_steps: int = setting(500, "Evaluations before a structure is given up.", lo=1)
    rattle: bool = setting(
        True, "Rattle what has relaxed with symmetry, and relax it again; the lower one stays."
    )
    judge: str = setting(
        "",
        "Potential that gives a second opinion on what has relaxed, such as sevennet-l3i5, of the "
        "extra pigen[judge]; one that learned the Materials Project's uncorrected energies.",
    )
    device: str = setting("auto", _WHERE, choices=DEVICES)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyConfig(RelaxConfig):
    """Energies of what passes the filters A–D: the tables' columns E, F and S.U.N."""

    relax: bool = setting(False, "Relax what passes, and give it its energy above the hull.")
    reference: str = setting(
        "", "Folder that `pigen hull` made; empty: the shipped reference.", path=True
    )

    def __post_init__(self) -> None:
        """The shipped reference holds energies of CHGNet, which mix with no other."""
        if self.potential != "chgnet" and not self.reference:
            raise ValueError(f"potential {self.potential} needs a reference of its own energies")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One experiment: what is generated, how it is filtered, and its row in the paper's tables."""

    name: str = setting(REQUIRED, "Name of the experiment and of its run folder.")
    row: str = setting("", "Row of the published tables to show beside the measured figures.")
    seed: int = setting(0, "Seed of every random number.", lo=0)
    generator: str = setting(
        "model",
        "What makes the structures.",
        choices=("model", "pseudo_random", "substitution", "import"),
    )
    descriptors: tuple[str, ...] = setting(
        (), "Python files that register descriptors of your own; they are run.", path=True
    )
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    diffusion: DiffusionConfig = dataclasses.field(default_factory=DiffusionConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    sample: SampleConfig = dataclasses.field(default_factory=SampleConfig)
    pseudo_random: PseudoRandomConfig = dataclasses.field(default_factory=PseudoRandomConfig)
    substitution: SubstitutionConfig = dataclasses.field(default_factory=SubstitutionConfig)
    imported: ImportConfig = dataclasses.field(default_factory=ImportConfig)
    filter: FilterConfig = dataclasses.field(default_factory=FilterConfig)
    energy: EnergyConfig = dataclasses.field(default_factory=EnergyConfig)

    def __post_init__(self) -> None:
        """The name must be one of a folder, and guidance needs a model that knows the labels."""
        if not self.name or set(self.name) & set("/\\\0") or self.name in (".", ".."):
            raise ValueError(f"name: expected the name of a folder, got {self.name!r}")
        if self.generator == "import" and self.sample.n != N_SAMPLES:
            raise ValueError(
                "sample.n: nothing is sampled; imported.n takes the first so many of a source"
            )
        if self.generator == "model" and not self.sample.checkpoint:
            for label in self.sample.targets:
                if label not in self.model.labels:
                    known = ", ".join(self.model.labels) or "none"
                    raise ValueError(
                        f"sample.targets.{label}: not among the labels of the model to train "
                        f"(model.labels: {known})"
                    )

    @property
    def n_structures(self) -> int | None:
        """How many structures are made or taken; None for all of a source."""
        return (self.imported.n or None) if self.generator == "import" else self.sample.n
