"""Where loops over structures run: any `concurrent.futures.Executor`, a local pool by default."""

from pigen.runtime.executor.mapping import (
    TIME_LIMIT,
    Divisible,
    SerialExecutor,
    available_cores,
    map_ordered,
    width,
)
from pigen.runtime.executor.pool import LocalPool
from pigen.runtime.executor.where import FORMS, Where, open_executor
from pigen.runtime.executor.worker import alive

__all__ = [
    "FORMS",
    "TIME_LIMIT",
    "Divisible",
    "LocalPool",
    "SerialExecutor",
    "Where",
    "alive",
    "available_cores",
    "map_ordered",
    "open_executor",
    "width",
]
