"""Local environments of many sites at once: order parameters, motifs, CrystalNN neighbours.

Compiled kernels, arrays in and arrays out; they know nothing of elements or of descriptors.
"""

from pigen.local_env.batch import (
    COINCIDENT,
    DEGENERATE,
    DONE,
    OPEN_CELL,
    TOO_COMPLEX,
    LocalEnvironments,
    local_environments,
)

__all__ = [
    "COINCIDENT",
    "DEGENERATE",
    "DONE",
    "OPEN_CELL",
    "TOO_COMPLEX",
    "LocalEnvironments",
    "local_environments",
]
