"""Local environments of many sites at once: order parameters, motifs, CrystalNN neighbours.

Compiled kernels, arrays in and arrays out; they know nothing of elements or of descriptors.
The first call compiles them (about 20 s); `pigen.runtime.kernels` keeps the machine code. numba
looks at one source only: after a change to a kernel that another file calls, delete what is kept.
"""

from pigen.descriptors.local_env.batch import (
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
