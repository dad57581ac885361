"""Where memory runs out, fewer structures go together, and values are those of fewer."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
import torch

from pigen.runtime.device import Halving, available_memory, is_out_of_memory

CPU = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …")


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), True),
        (CPU, True),
        (RuntimeError("not enough memory: you tried to allocate"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_says_that_memory_ran_out(error: Exception, is_one: bool) -> None:
    assert is_out_of_memory(error) is is_one


def test_there_is_memory() -> None:
    assert 2**20 < available_memory() < 2**50


def test_halves_are_taken_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    def double(items: Sequence[int]) -> list[int]:
        calls.append(len(items))
        if len(items) > 3:
            raise CPU
        return [2 * i for i in items]

    halving = Halving("doubling")
    with caplog.at_level(logging.WARNING):
        assert halving(double, range(12)) == [2 * i for i in range(12)]
        assert halving(double, range(5)) == [2 * i for i in range(5)]
    assert calls == [12, 6, 3, 3, 3, 3, 3, 2]
    assert [r.message for r in caplog.records] == [
        "out of memory: doubling 6 at a time",
        "out of memory: doubling 3 at a time",
    ]


def test_one_that_never_fits_and_other_errors() -> None:
    def too_large(items: Sequence[int]) -> list[int]:
        raise MemoryError

    def wrong(items: Sequence[int]) -> list[int]:
        raise RuntimeError("shapes differ")

    with pytest.raises(MemoryError):
        Halving("work")(too_large, range(4))
    with pytest.raises(RuntimeError, match="shapes"):
        Halving("work")(wrong, range(4))
