"""Several processes that torchrun started, training as one process would.

Gradients are added up explicitly, in one message a step, rather than by torch's
DistributedDataParallel. Our loss is a mean over the atoms of the whole batch, not the mean of the
processes' means; half of the steps call the network twice, the first time without gradient, and
use parameters that the other steps do not; and a process may have no structure of a small batch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from pigen.runtime.errors import PigenError, UsageError

if TYPE_CHECKING:  # heavy: imported when there is a group
    import torch
    from torch import Tensor

_T = TypeVar("_T")

_PATIENCE = timedelta(minutes=10)
"""After this long without a word the others count as lost; a step or a save takes seconds."""
_LAST_WORD_S = 3.0


class OneProcessError(PigenError):
    """What one process may be the only one to know of."""


class LostContactError(OneProcessError):
    """The other processes don't answer: one was killed, or a machine or the network is down."""


@dataclass(frozen=True)
class Group:
    """The processes of a training run, seen from one of them; the first reads and writes files.

    Attributes:
        device: where this process computes. rank: 0 … size − 1. store: keys that all can see.
    """

    device: torch.device
    rank: int = 0
    size: int = 1
    store: Any = None

    @property
    def first(self) -> bool:
        """Whether this is the process that reads, writes and shows progress."""
        return self.rank == 0

    def from_first(self, what: str, make: Callable[[], _T]) -> _T:
        """What ``make`` returns on the first process, on all; ``what`` names it, used once.

        The others wait as long as it takes. Raises LostContactError if a process is gone.
        """
        if self.size == 1:
            return make()
        import torch.distributed as dist

        made = [make() if self.first else None]
        if self.first:
            self.store.set(what, "made")
        with _answered():
            # Not inside the broadcast: it has a time limit, and no signal gets through to us there.
            while not self.store.check([what]):
                time.sleep(0.05)
            dist.broadcast_object_list(made, src=0)
        return made[0]  # type: ignore[return-value]

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Add up tensors of any shapes over the processes, in place. All have one type and device.

        Raises:
            LostContactError: a process is gone.
        """
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _answered():
            dist.all_reduce(flat)
        begin = 0
        for tensor in tensors:
            tensor.copy_(flat[begin : begin + tensor.numel()].view_as(tensor))
            begin += tensor.numel()

    def any(self, said: bool) -> bool:
        """Whether some process says so. Raises LostContactError."""
        import torch

        voices = torch.tensor(float(said))
        self.sum([voices])
        return bool(voices > 0)


@contextlib.contextmanager
def processes(device: str) -> Iterator[Group]:
    """The group that this process belongs to: alone, unless torchrun started it.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``; each process on a machine gets a GPU of its own.

    Raises:
        UsageError: no such device, more processes than GPUs, a torch without nccl or gloo.
        PigenError: the processes don't find each other.
    """
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    from pigen.runtime.device import resolve_device

    where = resolve_device(device)
    if n_processes() == 1:
        yield Group(where)
        return
    if where.type == "cuda":
        where = _own_gpu(os.environ, torch.cuda.device_count())
        torch.cuda.set_device(where)
    if not (dist.is_available() and dist.is_gloo_available()):
        raise UsageError("this build of torch has no gloo: one process is all it can train with")
    if where.type == "cuda" and not dist.is_nccl_available():
        raise UsageError("this build of torch has no nccl: use one process, or train.device='cpu'")
    try:
        store, rank, size = next(rendezvous("env://", timeout=_PATIENCE))
        # Messages of the CPU go over gloo on GPUs too: they need not wait for what the GPU does.
        backend = "cpu:gloo,cuda:nccl" if where.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    except ValueError as error:
        raise UsageError(f"{error}; start several processes with torchrun") from None
    except RuntimeError as error:
        raise PigenError(f"the processes do not find each other: {_line(error)}") from None
    try:
        yield Group(where, rank, size, PrefixStore("pigen", store))
    finally:
        dist.destroy_process_group()


def n_processes() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def is_first() -> bool:
    """Whether this is the first process of those that torchrun started, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Let the first process alone tell of what stops all: others end in silence (SystemExit)."""
    try:
        yield
    except OneProcessError:
        raise  # the first may not know, or be gone
    except (PigenError, KeyboardInterrupt) as error:
        if is_first():
            raise
        # torchrun ends all processes as soon as one has ended, and the first has yet to speak.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(_LAST_WORD_S)
        raise SystemExit(getattr(error, "exit_code", 130)) from None


def _own_gpu(environment: Mapping[str, str], n_gpus: int) -> torch.device:
    import torch

    n_here = int(environment.get("LOCAL_WORLD_SIZE", "1"))
    if n_here > n_gpus:
        raise UsageError(
            f"{n_here} processes on this machine, which has {n_gpus} GPUs: "
            f"use --nproc-per-node {n_gpus}, or --set train.device=cpu"
        )
    return torch.device("cuda", int(environment.get("LOCAL_RANK", "0")))


@contextlib.contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostContactError(
            f"another process of the training is gone ({_line(error)}); --resume goes on"
        ) from None


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
