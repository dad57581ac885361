"""What other generators publish of the yardsticks that `pigen compare` measures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One model trained on MP-20, unguided; None where its figure is not known to us.

    Attributes:
        model: its name.
        no_symmetry: %, space group P1 at 0.1 Å.
        smact: %, valid compositions.
        density: g/cm³, Wasserstein distance.
        n_elements: Wasserstein distance of the number of elements.
        source: of the figures.
    """

    model: str
    no_symmetry: float | None
    smact: float | None
    density: float | None
    n_elements: float | None
    source: str


_WYFORMER = "P1: Kazeev et al., arXiv:2503.02407"
PUBLISHED = (
    Published(
        *("CDVAE", None, 86.70, 0.688, 1.432),
        "Xie et al., ICLR 2022",
    ),
    Published(
        *("DiffCSP", 36.6, 83.25, 0.350, 0.340),
        f"Jiao et al., NeurIPS 2023; {_WYFORMER}",
    ),
    Published(
        *("FlowMM", 44.3, 83.19, 0.239, 0.083),
        f"Miller et al., ICML 2024; {_WYFORMER}",
    ),
)
NOTE = (
    "Published distances are to the test set of MP-20, ours to the reference named: compare them "
    "where the reference is MP-20 too. Published shares are of 10,000 samples or fewer."
)
