"""The campaign of docs/scaling.md: its files load, its scripts are shell, its commands exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from pigen.cli import main
from pigen.config import load_experiment

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "src" / "pigen" / "data" / "experiments"
CAMPAIGN = EXPERIMENTS / "alex_mp_20"
TOMLS = sorted(EXPERIMENTS.rglob("*.toml"))
SCRIPTS = sorted([*CAMPAIGN.glob("*.sbatch"), *CAMPAIGN.glob("*.sh")])
DOCS = ROOT / "docs" / "scaling.md"


def commands_of(text: str) -> list[list[str]]:
    """The words of every pigen command in a script or in the indented code of a page."""
    text = re.sub(r"\\\n", " ", text)
    for name, value in (
        ("$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT", "3/8"),
        ("$part", "3/8"),
        ("$SLURM_CPUS_PER_TASK", "8"),
        ("$workers", "local:8"),
    ):
        text = text.replace(name, value)
    lines = [line.split("&&")[-1].strip() for line in text.splitlines() if "echo" not in line]
    found = [re.search(r"(?:^|-m )pigen .*", line) for line in lines if not line.startswith("#")]
    return [shlex.split(m[0].removeprefix("-m "), comments=True)[1:] for m in found if m]


def check_command(words: list[str]) -> None:
    """Parse it as pigen would; a file that would be there by then is made."""
    command: click.Command = main
    ctx = click.Context(main, info_name="pigen")
    while isinstance(command, click.Group):
        ctx = click.Context(command, parent=ctx, info_name=words[0])
        found = command.get_command(ctx, words[0])
        assert found is not None, f"no verb {words[0]}"
        command, words = found, words[1:]
    for word in words:
        if re.search(r"\.(csv|h5|gz)$", word) and not Path(word).exists():
            Path(word).write_text("")
        elif word in ("csp", "csp/filtered"):
            Path(word).mkdir(exist_ok=True)
    command.make_context(command.name or "", list(words), parent=ctx)


@pytest.mark.parametrize("path", TOMLS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_experiment_loads(path: Path) -> None:
    assert load_experiment(path, check_files=False).name


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_shell(path: Path) -> None:
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "set -euo pipefail" in path.read_text("utf-8")


@pytest.mark.parametrize("path", [*SCRIPTS, DOCS], ids=lambda path: path.name)
def test_commands_exist(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = commands_of(path.read_text("utf-8"))
    assert commands or path.suffix == ".sh"
    for words in commands:
        check_command(words)


def test_an_option_that_does_not_exist_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(click.UsageError, match="No such option"):
        check_command(["merge", "a.h5", "-o", "b.h5", "--parts", "3"])


def test_steps_are_submitted_in_order_and_are_all() -> None:
    text = (CAMPAIGN / "submit.sh").read_text("utf-8")
    steps = re.findall(r"for step in (.*); do", text)[0].split()
    assert sorted(steps) == sorted(path.stem for path in CAMPAIGN.glob("*.sbatch"))


def test_arrays_fit_what_is_merged() -> None:
    """The parts that are merged are as many as the array that writes them."""
    arrays = {}
    for path in CAMPAIGN.glob("*.sbatch"):
        text = path.read_text("utf-8")
        for output in re.findall(r"-o (\w+)\.h5 --shard", text):
            arrays[output] = re.findall(r"#SBATCH --array=1-(\d+)", text)
    merged = {
        name: [count]
        for path in CAMPAIGN.glob("*.sbatch")
        for name, count in re.findall(r"(\w+)\.\*-of-(\d+)\.h5", path.read_text("utf-8"))
    }
    assert merged == arrays


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_submit_chains_the_jobs(tmp_path: Path) -> None:
    """With a sbatch that only writes down what it is told."""
    for path in SCRIPTS:
        shutil.copy(path, tmp_path)
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text('#!/bin/bash\necho "$@" >> told; wc -l < told\n')
    sbatch.chmod(0o755)
    environment = {"PATH": f"{sbatch.parent}:/usr/bin:/bin"}
    subprocess.run(["bash", "submit.sh"], cwd=tmp_path, env=environment, check=True)
    told = (tmp_path / "told").read_text().splitlines()
    assert told[0] == "--parsable label.sbatch"
    assert told[1] == "--parsable --dependency=afterok:1 merge_labels.sbatch"
    assert len(told) == len(list(CAMPAIGN.glob("*.sbatch")))
