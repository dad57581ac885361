"""`pigen import`, `export` and `show`, and how any verb ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from real_crystals import ALL, QUARTZ, bundle_of

import pigen.cli
from pigen.bundle import BundleWriter, bundle_info, read_bundle, write_bundle
from pigen.cli import main
from pigen.io.cif_text import to_cif
from pigen.runtime.errors import PigenError, UsageError


def run(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def error_of(result: Result, code: int) -> str:
    """The one line of a failure."""
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("pigen: error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four CIFs, one of them broken and one of quartz with nine atoms."""
    (tmp_path / "cifs").mkdir()
    for i, crystal in enumerate(ALL):
        (tmp_path / "cifs" / f"gen_{i}.cif").write_text(to_cif(crystal, "x"))
    (tmp_path / "cifs" / "gen_1.cif").write_text("data_")
    return tmp_path / "cifs"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "b.h5", bundle_of(20))
    return tmp_path / "b.h5"


# -- import --------------------------------------------------------------------------------------
def test_import_says_what_became_of_every_entry(folder: Path, tmp_path: Path) -> None:
    result = run("import", folder, "-o", tmp_path / "o.h5")
    assert result.exit_code == 0
    assert "read 4, kept 3, rejected 1" in result.output
    assert "1  no structure" in result.output
    assert bundle_info(tmp_path / "o.h5").complete
    assert read_bundle(tmp_path / "o.h5").ids.tolist() == ["gen_0", "gen_2", "gen_3"]


def test_import_json(folder: Path, tmp_path: Path) -> None:
    result = run("import", folder, "-o", tmp_path / "o.h5", "--json", "--max-atoms", 8)
    counts = json.loads(result.stdout)
    assert counts["read"] == 4 == counts["kept"] + counts["rejected"]
    assert counts["reasons"] == {"no structure": 1, "oversized": 1}
    assert counts["output"] == str(tmp_path / "o.h5")


def test_import_of_several_sources_keeps_provenance(
    folder: Path, bundle: Path, tmp_path: Path
) -> None:
    cif = folder / "gen_0.cif"
    assert run("import", folder, cif, bundle, "-o", tmp_path / "o.h5").exit_code == 0
    found = read_bundle(tmp_path / "o.h5")
    assert found.ids.tolist()[:5] == ["gen_0", "gen_2", "gen_3", "gen_0#2", "s0"]
    assert found.provenance["sources"].split("\n") == [str(folder), str(cif), str(bundle)]
    assert len(found.provenance[f"sha256 of {cif}"]) == 64


def test_import_does_not_overwrite(folder: Path, bundle: Path) -> None:
    assert "exists; --force replaces it" in error_of(run("import", folder, "-o", bundle), 2)
    assert len(read_bundle(bundle)) == 20
    assert run("import", folder, "-o", bundle, "--force").exit_code == 0
    assert len(read_bundle(bundle)) == 3


def test_import_onto_its_own_source_is_refused(bundle: Path) -> None:
    assert "is a source too" in error_of(run("import", bundle, "-o", bundle, "--force"), 2)


def test_a_wrong_source_leaves_the_old_output(folder: Path, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("hello")
    result = run("import", folder, tmp_path / "x.txt", "-o", bundle, "--force")
    assert "Accepted: CIF" in error_of(result, 2)
    assert len(read_bundle(bundle)) == 20


def test_import_of_nothing_that_is_a_crystal_fails(tmp_path: Path) -> None:
    (tmp_path / "a.cif").write_text("data_")
    result = run("import", tmp_path / "a.cif", "-o", tmp_path / "o.h5")
    assert "no entry became a crystal" in result.stderr
    assert result.exit_code == 1
    assert "read 1, kept 0, rejected 1" in result.stdout
    assert bundle_info(tmp_path / "o.h5").n_rejects == 1


def test_hydrogen_without_coordinates_is_refused_or_ignored(tmp_path: Path) -> None:
    found = tmp_path / "water.cif"
    cell = "".join(
        f"_cell_{name} {value}\n"
        for name, value in zip(
            ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"),
            (5, 5, 5, 90, 90, 90),
            strict=True,
        )
    )
    site = "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
    found.write_text(f"data_water\n{cell}_chemical_formula_sum 'H2 O'\n{site}O1 0 0 0\n")
    refused = run("import", found, "-o", tmp_path / "refused.h5")
    assert refused.exit_code == 1
    assert "missing hydrogen" in refused.output
    run("import", found, "--ignore-hydrogen", "-o", tmp_path / "kept.h5")
    kept = read_bundle(tmp_path / "kept.h5")
    assert kept.crystals.atomic_numbers.tolist() == [8]
    assert "--ignore-hydrogen" in kept.provenance["hydrogen"]


def test_import_with_workers_is_the_same(folder: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        target = tmp_path / f"{workers}.h5"
        assert run("import", folder, "-o", target, "--executor", f"local:{workers}").exit_code == 0
    one, two = (read_bundle(tmp_path / f"{n}.h5") for n in (1, 2))
    assert one.ids.tolist() == two.ids.tolist()
    assert one.crystals.frac_coords.tolist() == two.crystals.frac_coords.tolist()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["import", "-o", "o.h5"], "Missing argument 'SRC...'"),
        (["import", "missing.cif", "-o", "o.h5"], "'missing.cif' does not exist"),
        (["import", ".", "-o", "no/o.h5"], "no such folder"),
        (["import", ".", "-o", "."], "is a source too"),
        (["import", ".", "-o", ".."], "is a folder"),
        (["import", ".", "-o", "..", "--force"], "is a folder"),
        (["import", ".", "-o", "o.h5", "--max-atoms", "0"], "--max-atoms"),
        (["export", "."], "Missing option '-o'"),
        (["show"], "Missing argument 'BUNDLE'"),
        (["show", "."], "is not a PIGEN bundle"),
        (["nonsense"], "No such command 'nonsense'"),
        (["--nonsense"], "No such option"),
    ],
)
def test_bad_usage_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in error_of(run(*args), 2)


# -- export and show -----------------------------------------------------------------------------
def test_export(bundle: Path, tmp_path: Path) -> None:
    for form, name in (("cif", "d"), ("cif", "a.zip"), ("extxyz", "a.xyz"), ("csv", "a.csv")):
        result = run("export", bundle, "--format", form, "-o", tmp_path / name)
        assert result.exit_code == 0
        assert result.output.endswith(": 20 crystals\n")
    assert "exists" in error_of(run("export", bundle, "--format", "csv", "-o", bundle), 2)
    assert "not one of" in error_of(run("export", bundle, "--format", "pdf", "-o", "x"), 2)


def test_show(bundle: Path) -> None:
    lines = run("show", bundle).output.splitlines()
    assert "20 crystals of 1 to 9 atoms" in lines[0]
    assert "1 rejected" in lines[0]
    text = "\n".join(lines)
    for part in ("energy ", "eV/atom", "2 distinct texts", "energy < 0", "unreadable CIF"):
        assert part in text
    assert "experiment: a = 1 … (2 lines)" in text
    assert "incomplete" not in text


def test_show_json(bundle: Path) -> None:
    said = json.loads(run("show", bundle, "--json").stdout)
    found = read_bundle(bundle)
    assert said["crystals"] == 20
    assert said["columns"]["count"]["max"] == found.columns["count"].values.max()
    assert said["verdicts"]["low"]["passed"] == found.verdicts["low"].passed.sum()
    assert said["rejects"] == {"unreadable CIF": 1}
    assert said["provenance"]["seed"] == "0"


def test_show_an_unfinished_bundle(tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path / "b.h5", {})
    writer.append(bundle_of(3))
    assert "incomplete: its writer has not finished" in run("show", tmp_path / "b.h5").output
    writer.close()


def test_show_an_empty_bundle(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b.h5", bundle_of(3).select([]))
    assert "0 crystals" in run("show", tmp_path / "b.h5").output
    assert json.loads(run("show", tmp_path / "b.h5", "--json").stdout)["crystals"] == 0


# -- how a command ends --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (PigenError("two\nlines"), 1, "two lines"),
        (UsageError("bad"), 2, "bad"),
        (OSError(28, "No space left on device", "/x"), 1, "No space left on device: /x"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_failures_are_one_line_and_a_code(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("pigen.bundle.summary.summarise", fail)
    assert error_of(run("show", bundle), code).removeprefix("pigen: error: ") == line + "\n"


def test_a_bug_is_not_hidden(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("pigen.bundle.summary.summarise", fail)
    assert isinstance(run("show", bundle).exception, ZeroDivisionError)


def test_help_lists_every_verb() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert all(verb in result.output for verb in pigen.cli.VERBS)
    assert run("--version").output.startswith("pigen, version")


def command(*args: object) -> list[str]:
    return [sys.executable, "-c", "from pigen.cli import main; main()", *map(str, args)]


def test_a_reader_that_goes_away_is_no_error(bundle: Path) -> None:
    process = subprocess.Popen(
        command("show", bundle), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), said) == (141, b"")


def test_interrupted_import_leaves_whole_chunks(tmp_path: Path) -> None:
    many = tmp_path / "many.extxyz"
    frame = "9\n" + 'Lattice="9 0 0 0 9 0 0 0 9"\n' + "".join(f"O {i} 0 0\n" for i in range(9))
    many.write_text(frame * 200_000)
    output = tmp_path / "o.h5"
    process = subprocess.Popen(
        command("import", many, "-o", output, "--executor", "local:2"),
        stderr=subprocess.PIPE,
        text=True,
    )
    while not output.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert said == "pigen: error: interrupted\n"
    assert process.returncode == 130
    found = read_bundle(output)
    assert len(found) % 1000 == 0
    assert len(found) > 0
    assert sorted(os.listdir(tmp_path)) == ["many.extxyz", "o.h5"]


def test_the_example_of_the_docs_runs(tmp_path: Path) -> None:
    """The programming interface in a few lines, as a user would write it in a script."""
    (tmp_path / "a.cif").write_text(to_cif(QUARTZ, "q"))
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from pigen.runtime.executor import Where, open_executor
            from pigen.io import read_chunks

            if __name__ == "__main__":
                with open_executor(Where(2)) as executor:
                    for chunk in read_chunks([{str(tmp_path / "a.cif")!r}], executor=executor):
                        print(chunk)
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.stdout == "Bundle(1 crystal, 0 rejects, columns [], verdicts [])\n", done.stderr
