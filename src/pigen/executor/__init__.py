"""Where loops over structures run: any `concurrent.futures.Executor`, a local pool by default."""

from pigen.executor.pool import SerialExecutor, available_cores, local_executor, map_ordered
from pigen.executor.where import FORMS, Where, open_executor

__all__ = [
    "FORMS",
    "SerialExecutor",
    "Where",
    "available_cores",
    "local_executor",
    "map_ordered",
    "open_executor",
]
