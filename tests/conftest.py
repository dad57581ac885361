"""What every test shares: one thread per process, and the shared real data where it is at hand."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# Before numpy, numba or torch is imported: a pool of workers with threads in each is slower.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

os.environ.setdefault(
    "PIGEN_QUIET", "1"
)  # or what compiles first would say so among a test's lines

# A job in the background is started with Ctrl-C ignored, and its children would ignore it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real structures (``mp20/``, ``generated/``); the test is skipped without it.

    ``PIGEN_TEST_DATA`` names it; otherwise ``shared/data`` beside the repository is tried.
    """
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("PIGEN_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"real structures not found at {folder}; set PIGEN_TEST_DATA")
    return folder
