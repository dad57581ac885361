"""docs/first_hour.md, run as it stands in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from transcripts import run_page, steps_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "first_hour.md"


def test_the_first_hour_shows_each_step() -> None:
    verbs = {step.command.split()[1] for step in steps_of(PAGE) if "pigen" in step.command}
    assert {"run", "report", "filter", "label", "train", "sample", "csp-seed", "init"} <= verbs


@pytest.mark.slow
def test_the_first_hour_runs_as_written(tmp_path: Path) -> None:
    # Another processor rounds otherwise, and a chain then ends elsewhere: words are compared.
    run_page(PAGE, tmp_path, numbers=False)
