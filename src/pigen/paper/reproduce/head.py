"""What the tables rest on, and where the protocol departs from the paper's: said above each."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from pigen.bundle import bundle_info
from pigen.energy.hull import load_reference
from pigen.paper.published import PUBLISHED_BATCH
from pigen.paper.reproduce.rows import LIBRARY, TOP, Row
from pigen.paper.reproduce.scales import Scale
from pigen.paper.tables import head_of
from pigen.run.table import RunTable
from pigen.runtime import resources
from pigen.runtime.executor import available_cores


def head(scale: Scale, rows: Iterable[Row], tables: Iterable[RunTable]) -> dict[str, str]:
    """Heading → text, the same for all tables of a reproduction."""
    relaxed = {
        bundle_info(row.folder / "relaxed.h5").provenance.get("relaxed_by", "") for row in rows
    }
    library = bundle_info(resources.PROTOTYPES / f"{LIBRARY}.h5")
    said = head_of(tables)
    return {
        "scale": f"{scale.name}, {scale.n} structures a row (paper: {PUBLISHED_BATCH})",
        **said,
        "hull": said.get("hull") or load_reference().note,
        "energies": f"{', '.join(sorted(relaxed))} of what passes A–D; no DFT (paper: VASP single "
        "points on CHGNet's geometries)",
        "prototype library": f"{LIBRARY}, {library.n_crystals} frameworks ranked by the structures "
        f"that share one, the first {TOP} for Fig. 3d (paper: ICSD)",
        "searches": _searches(scale),
        "hardware": hardware(),
    }


def _searches(scale: Scale) -> str:
    settings = scale.search
    atoms = f", seeds of at most {scale.seed_atoms} atoms" if scale.seed_atoms else ""
    chosen = "A–D and E_hull < 50 meV/atom" if scale.near_hull else "A–D (paper: and E_hull < 50)"
    return (
        f"pigen csp-run (paper: FUSE 2.05), {scale.compositions} compositions a set, "
        f"{settings.initial} initial structures, rmax {settings.rmax}, at most "
        f"{settings.iterations} relaxations (paper: 20, 250, 1500){atoms}; filtered: {chosen}"
    )


def hardware() -> str:
    """Processor and accelerator of this machine."""
    import torch

    cores = available_cores()
    said = [f"{_processor()}, {cores} core{'s' * (cores != 1)}, {platform.system()}"]
    if torch.cuda.is_available():
        said.append(f"{torch.cuda.get_device_name()}, CUDA")
    return f"{', '.join(said)}; torch {torch.__version__}, chgnet {version('chgnet')}"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
