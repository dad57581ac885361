"""What travels with the package: the files in ``pigen/data``."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

DATA = Path(str(resources.files("pigen"))) / "data"
"""Folder of the package data."""
SPP_TABLE = DATA / "spp.npz"
"""Pair potentials fitted to the training split."""
KNOWN_COMPOSITIONS = DATA / "compositions.txt.gz"
"""Reduced formulas of every structure that the shipped model saw."""
PUBLISHED_TABLES = DATA / "published_tables.toml"
"""The figures printed in the paper."""
TRAINING_HISTOGRAMS = DATA / "training_histograms.json"
"""Counts over the labels of the shipped model's training set, for figures."""
PROTOTYPES = DATA / "prototypes"
"""Folder of the libraries of frameworks, a bundle each."""
HULL = DATA / "hull"
"""Folder of the reference compounds with CHGNet energies."""
EXPERIMENTS = DATA / "experiments"
"""Folder of the shipped experiments, a TOML each."""


SHIPPED_CHECKPOINTS = ("pigen",)
"""Names of the checkpoints that travel with the package."""


def checkpoint(name: str) -> Path:
    """File of the shipped checkpoint of that name."""
    return DATA / "checkpoints" / f"{name}.safetensors"
