"""The bar: it goes on while nothing is done, and leaves whole lines."""

from __future__ import annotations

import io
import time
from contextlib import redirect_stderr

from pigen.runtime.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_drawn_before_anything_is_done() -> None:
    limit = time.monotonic() + 60
    with redirect_stderr(Terminal()) as shown, progress_bar(10, title="relax"):
        while shown.getvalue().count("relax:   0%") < 3:
            assert time.monotonic() < limit
            time.sleep(0.05)
    assert shown.getvalue().endswith("\n")


def test_short_work_has_none() -> None:
    with redirect_stderr(Terminal()) as shown, progress_bar(10, delay=60) as bar:
        bar.update(10)
    assert shown.getvalue() == ""
