"""What all verbs share: help, version, quiet, completion, tables on a terminal; init, doctor."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import tomli
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from pigen import __version__
from pigen.cli import SECTIONS, VERBS, doctor, main
from pigen.cli.common import for_terminal
from pigen.config import dump_experiment, load_experiment, shipped_experiments
from pigen.config.settings import Experiment
from pigen.energy.hull import load_reference
from pigen.runtime import resources
from pigen.runtime.files import sha256_of

PIGEN = [sys.executable, "-c", "from pigen.cli import main; main()"]
WIDTH = 80


def run(*args: object, **environment: str) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args], env=environment, prog_name="pigen")


def error_of(*args: object) -> str:
    result = run(*args)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    return result.stderr


def commands(group: click.Group = main, path: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


COMMANDS = dict(commands())


# -- help ----------------------------------------------------------------------------------------
def test_help_lists_the_verbs_in_the_order_of_work() -> None:
    text = run("--help").stdout
    places = [text.index(f"{heading}:") for heading in SECTIONS]
    assert places == sorted(places)
    assert re.findall(r"^  ([a-z][a-z-]*)  +[A-Z]", text, re.MULTILINE) == list(VERBS)
    assert "experiment → train → sample → filter → energy → csp-seed" in text


@pytest.mark.parametrize("verb", ["", *VERBS, *(name for name in COMMANDS if " " in name)])
def test_help_fits_a_terminal(verb: str) -> None:
    lines = run(*verb.split(), "--help", COLUMNS=str(WIDTH)).stdout.splitlines()
    assert [line for line in lines if len(line) > WIDTH] == []


def test_summaries_in_the_help_are_whole() -> None:
    for name in ("", *(name for name in VERBS if name not in COMMANDS)):
        listed = run(name, "--help", COLUMNS=str(WIDTH)) if name else run("--help")
        assert not re.findall(r"^  [a-z][a-z-]*  .*\.\.\.$", listed.stdout, re.MULTILINE)


def test_help_and_version_are_quick() -> None:
    for option in ("--help", "--version"):
        before = os.times()
        subprocess.run([*PIGEN, option], check=True, capture_output=True, timeout=60)
        after = os.times()
        used = after.children_user + after.children_system
        assert used - before.children_user - before.children_system < 0.5


def test_options_of_one_name_are_one_thing() -> None:
    kinds: dict[str, set[tuple[object, ...]]] = {}
    for command in COMMANDS.values():
        for option in command.params:
            if isinstance(option, click.Option):
                for name in option.opts:
                    kinds.setdefault(name, set()).add((tuple(option.opts), option.is_flag))
    assert {name: kind for name, kind in kinds.items() if len(kind) > 1} == {}


def test_every_verb_takes_quiet_and_what_counts_takes_json() -> None:
    options = {name: {o for p in c.params for o in p.opts} for name, c in COMMANDS.items()}
    assert [name for name, known in options.items() if "--quiet" not in known] == []
    without = {name for name, known in options.items() if "--json" not in known}
    assert without <= {"init", "completion", "train"}  # these print a path or a script


# -- version -------------------------------------------------------------------------------------
def test_version_names_what_figures_rest_on() -> None:
    first, *rest = run("--version").stdout.splitlines()
    assert first == f"pigen, version {__version__}"
    said = dict(line.strip().rsplit(" sha256 ", 1) for line in rest)
    said = {name.strip(): digest for name, digest in said.items()}
    assert said["hull reference"] == load_reference().digest
    assert resources.checksums()["spp.npz"].startswith(said["pair potentials (SPP)"])
    assert resources.checksums()["checkpoints/pigen.safetensors"].startswith(
        said["checkpoint pigen"]
    )


def test_checksums_are_current() -> None:
    files = resources.computed_files()
    found = {path.relative_to(resources.DATA).as_posix(): path for path in files}
    current = {name: sha256_of(path, 64) for name, path in found.items()}
    renew = "run: python -m pigen.runtime.resources > src/pigen/data/SHA256SUMS"
    assert resources.checksums() == current, renew


# -- quiet ---------------------------------------------------------------------------------------
def test_quiet_leaves_results_and_errors(tmp_path: Path) -> None:
    command = ("run", "pseudo_random", "--set", "sample.n=2", "--out", tmp_path / "run")
    loud = run(*command)
    assert loud.exit_code == 0
    assert loud.stderr
    quiet = run(*command, "--force", "--quiet")
    assert quiet.exit_code == 0
    assert quiet.stderr == ""
    assert quiet.stdout == loud.stdout
    assert "holds a run" in error_of(*command, "-q")
    assert "Missing argument" in error_of("show", "--quiet")


# -- what was meant ------------------------------------------------------------------------------
def test_an_error_says_the_next_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "samples.h5").touch()
    assert "did you mean 'pigen filter'?" in error_of("filtr")
    assert "No such command 'nonsense' (see 'pigen --help')" in error_of("nonsense")
    assert "pigen run pigen_c" in error_of("pigen_c")
    assert "pigen run mine.toml" in error_of("mine.toml")
    assert "did you mean samples.h5?" in error_of("show", "sample.h5")
    assert "does not exist (see" in error_of("show", "x.h5")
    assert "shipped experiment pigen_mled_c" in error_of("run", "pigen_mledc")
    assert "`pigen init` makes one" in error_of("run", "nonsense")
    assert "--resume" in error_of("run", "pigen_c", "--resum")
    assert "`pigen run` makes one" in error_of("table", "1", ".")
    (tmp_path / "experiment.toml").touch()
    assert "pigen run experiment.toml --out . --resume" in error_of("table", "1", ".")


# -- init ----------------------------------------------------------------------------------------
def test_init_makes_an_experiment_that_loads(tmp_path: Path) -> None:
    result = run("init", tmp_path / "my folder")
    path = tmp_path / "my folder" / "experiment.toml"
    assert f"pigen run '{path}' --out '{path.parent / 'run'}'" in result.stdout
    experiment = load_experiment(path)
    assert experiment.name == "my folder"
    assert experiment.sample.checkpoint == "pigen"
    assert experiment.sample.targets


def test_init_shows_every_setting_at_its_default(tmp_path: Path) -> None:
    run("init", tmp_path)
    path = tmp_path / "experiment.toml"
    given = path.read_text("utf-8")
    lines = given.splitlines()
    assert max(map(len, lines)) <= WIDTH
    uncommented = "\n".join(re.sub(r"^#(?=[a-z_]+ = )", "", line) for line in lines)
    path.write_text(uncommented, "utf-8")
    assert dump_experiment(load_experiment(path)).count("\n") > 50
    everything, chosen = tomli.loads(uncommented), tomli.loads(given)
    path.write_text(given, "utf-8")
    plain = tomli.loads(dump_experiment(load_experiment(path)))
    assert everything == plain
    assert sum(len(table) for table in chosen.values() if isinstance(table, dict)) == 3
    assert set(plain) == {*plain, "sample", "filter", "energy", "train", "imported"}


def test_init_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "experiment.toml").write_text("mine", "utf-8")
    assert "left as it is" in error_of("init", tmp_path)
    assert (tmp_path / "experiment.toml").read_text("utf-8") == "mine"


def test_what_init_makes_runs(tmp_path: Path) -> None:
    run("init", tmp_path)
    sets = ("--set", "sample.n=2", "--set", "sample.steps=2")
    result = run("run", tmp_path / "experiment.toml", *sets, "--out", tmp_path / "run", "-q")
    assert result.exit_code == 0, result.output
    assert "In sequence, of 2 structures" in result.stdout


# -- completion ----------------------------------------------------------------------------------
def completed(*args: str) -> list[str]:
    *before, last = args
    shell = ShellComplete(main, {}, "pigen", "_PIGEN_COMPLETE")
    return [item.value for item in shell.get_completions(before, last)]


def test_shells_complete_verbs_options_and_experiments() -> None:
    assert completed("") == list(VERBS)
    assert completed("csp") == ["csp-seed", "csp-run", "csp-collect"]
    assert completed("hull", "e") == ["evaluate"]
    assert completed("run", "--res") == ["--resume"]
    assert completed("run", "") == sorted(shipped_experiments())
    assert completed("sample", "pseudo") == ["pseudo_random"]
    assert completed("run", "my.toml") == ["my.toml"]  # files are the shell's to complete
    assert completed("table", "e") == ["ed1", "ed2", "ed3"]


@pytest.mark.parametrize("shell", ["zsh", "fish", "bash"])
def test_completion_prints_a_script(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert f"_PIGEN_COMPLETE={shell}_complete" in result.stdout


def test_the_script_works_in_bash(tmp_path: Path) -> None:
    (tmp_path / "pigen").write_text(f'#!/bin/sh\nexec {sys.executable} -m pigen "$@"\n')
    (tmp_path / "pigen").chmod(0o755)
    script = (
        'eval "$(pigen completion bash)"; COMP_WORDS=(pigen run pigen_k); COMP_CWORD=2; '
        "_pigen_completion pigen pigen_k run; echo ${COMPREPLY[@]}"
    )
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.stdout.split() == ["pigen_k", "pigen_k_c"], done.stderr


# -- on a terminal -------------------------------------------------------------------------------
MARKDOWN = """# A title

A line of text that is much too long for a terminal of eighty columns and goes on and on.

| | criterion | measured |
|---|---|---|
| A | a text \\| with a bar, long enough to be more than what is left | 1 / 2 (50.0 ± 3.0 %) |
| B | short | – |
"""


def test_tables_are_aligned_within_the_width() -> None:
    lines = click.unstyle(for_terminal(MARKDOWN, WIDTH)).splitlines()
    assert max(map(len, lines)) <= WIDTH
    (row,) = (line for line in lines if line.startswith("A  "))
    (last,) = (line for line in lines if line.startswith("B  "))
    assert row.endswith("1 / 2 (50.0 ± 3.0 %)")
    assert last.index("–") == row.index("1 / 2")
    assert "a text | with a bar" in row
    assert "|---" not in "\n".join(lines)


def on_terminal(*args: object, **environment: str) -> str:
    """What a verb prints on a terminal."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "COLUMNS": str(WIDTH), "TERM": "xterm", **environment}
    command = [*PIGEN, *map(str, args)]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                block = os.read(ours, 4096)
            except OSError:  # Linux ends a pseudo-terminal so
                break
            if not block:
                break
            shown += block
    os.close(ours)
    assert process.returncode == 0
    return shown.decode().replace("\r\n", "\n")


def test_colours_are_for_terminals_alone(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    rates = {"A": {"passed": 1, "total": 2}, "sequence": {"passed": 1, "total": 2}}
    content = {"name": "mine", "row": "", "rates": rates, "funnel": {}, "criteria": {}}
    table.write_text(json.dumps({**content, "provenance": {}}), "utf-8")
    shown = on_terminal("table", "ed1", tmp_path)
    assert "\x1b[1m" in shown
    plain = on_terminal("table", "ed1", tmp_path, NO_COLOR="1")
    assert "\x1b" not in plain
    assert click.unstyle(shown) == plain
    assert max(map(len, plain.splitlines())) <= WIDTH
    piped = run("table", "ed1", tmp_path).stdout
    assert "| model | source |" in piped
    assert "\x1b" not in piped


# -- doctor --------------------------------------------------------------------------------------
def test_doctor_finds_a_sound_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("doctor", "--json")
    said = json.loads(result.stdout)
    assert [check for check in said["checks"] if check["status"] == doctor.FAIL] == []
    assert (said["ok"], result.exit_code) == (True, 0)
    names = [check["name"] for check in said["checks"]]
    assert {"python", "package data", "cpu", "cuda", "numba", "self test", "chgnet"} <= {*names}
    assert os.listdir(tmp_path) == []


def test_doctor_says_what_is_wrong_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged() -> Iterator[doctor.Check]:
        raise ImportError("no\nsuch library")

    for check in ("_torch", "_model", "_numba", "_self_test", "_chgnet"):
        monkeypatch.setattr(doctor, check, damaged)
    (tmp_path / "SHA256SUMS").write_text("00  experiments\n00  spp.npz\n", "utf-8")
    (tmp_path / "spp.npz").touch()
    monkeypatch.setattr(resources, "DATA", tmp_path)
    monkeypatch.setattr(resources, "CHECKSUMS", tmp_path / "SHA256SUMS")
    result = run("doctor", COLUMNS=str(WIDTH))
    assert result.exit_code == 1
    assert "ImportError: no such library" in result.stdout
    assert "experiments is missing; spp.npz differs" in result.stdout
    assert "→ install again" in result.stdout
    assert "→ install the tested versions" in result.stdout
    assert "checks failed" in result.stdout.splitlines()[-1]
    assert max(map(len, result.stdout.splitlines())) <= WIDTH


def test_doctor_compares_versions_with_requirements() -> None:
    required = ["click>=8", "numpy<1", "no-such-package", "extra>=1; extra == 'docs'"]
    numpy, absent, fine = doctor.check_requirements(required)
    assert (numpy.status, absent.status, fine.status) == (doctor.FAIL, doctor.FAIL, doctor.OK)
    assert "<1 is needed" in numpy.found
    assert numpy.remedy == "pip install 'numpy<1'"
    assert absent.found == "not installed"
    assert fine.found.startswith("1 as required: click ")


def test_doctor_tells_of_a_gpu_that_torch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    cpu, cuda = doctor._torch()
    assert (cpu.name, cuda.status) == ("cpu", doctor.WARN)
    assert "pytorch.org" in cuda.remedy


def test_doctor_knows_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (check,) = doctor._folder(tmp_path / "none")
    assert check.status == doctor.FAIL
    assert "cannot be written" in check.found


def test_the_settings_of_init_are_those_of_an_experiment() -> None:
    from pigen.config.starter import starter

    tables = set(tomli.loads(starter("x"))) - {"name"}
    fields = Experiment.__dataclass_fields__
    assert tables == {name for name, field in fields.items() if "note" not in field.metadata}
