"""The device that torch computes on, and memory: how much there is, and when it runs out."""

from __future__ import annotations

import logging
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pigen.runtime.errors import UsageError

if TYPE_CHECKING:  # takes seconds to import
    import torch

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger(__name__)
_SAID = ("not enough memory", "can't allocate memory", "out of memory")
"""What torch's errors of its CPU allocator and of CUDA libraries say."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, of this machine or of a device."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID)


def available_memory() -> int:
    """Bytes that this process and its children may still take, as far as the system tells.

    OSError if it tells nothing.
    """
    found = [_of_machine(), *_of_groups()]
    return min(found)


def _of_machine() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo does not tell the available memory")


def _of_groups() -> list[int]:
    """What is left of the limits that a container or a job scheduler has set."""
    found = []
    for folder, most, used in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            limit = Path(folder, most).read_text(encoding="ascii").strip()
            taken = int(Path(folder, used).read_text(encoding="ascii"))
            reclaimable = _inactive_file(Path(folder, "memory.stat"))
        except (OSError, ValueError):
            continue
        if limit.isdecimal():
            found.append(max(int(limit) - taken + reclaimable, 0))
    return found


def _inactive_file(path: Path) -> int:
    """Bytes of cached files that count as used and can be had."""
    for line in path.read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def limit_memory(size: int) -> None:
    """Let this process hold so many bytes of data; more is a MemoryError, or an abort."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (size, most))


def unlimit_memory() -> None:
    """Undo `limit_memory`: CUDA takes addresses far beyond what it uses."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


class Halving:
    """Does many things together, fewer once memory has run out; one at a time if need be."""

    def __init__(self, what: str) -> None:
        """``what`` is done, as the warning puts it; there is one warning each time it is halved."""
        self._what = what
        self._most = 0

    def __call__(self, fn: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R]:
        """``fn`` of all items, which gives one result each; what it raises for one item alone."""
        done: list[R] = []
        while len(done) < len(items):
            size = min(self._most or len(items), len(items) - len(done))
            try:
                done += fn(items[len(done) : len(done) + size])
                continue
            except Exception as error:
                if size == 1 or not is_out_of_memory(error):
                    raise
            self._most = size // 2  # beyond the handler: the traceback holds what did not fit
            _log.warning("out of memory: %s %d at a time", self._what, self._most)
            _give_back()
        return done


def _give_back() -> None:
    """Have torch return what it keeps of a device for later."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def resolve_device(name: str) -> torch.device:
    """``auto`` is CUDA where present; UsageError for CUDA where there is none.

    A worker that takes CUDA is freed of its limit of memory.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device = 'cuda', but this machine has no usable CUDA device; use 'auto'")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        unlimit_memory()
    return torch.device(name)


def fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 products are worth using in training: on CUDA, and CPUs with AVX512-BF16."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # Older versions of torch lack the call.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16"))
