"""`pigen run` and `pigen table` end to end, on pseudo-random cells and on small real models."""

from __future__ import annotations

import csv
import json
from collections import Counter
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from pigen.bundle import Bundle, BundleWriter, bundle_info, read_bundle, reading, write_bundle
from pigen.cli import main
from pigen.config import PseudoRandomConfig, load_experiment
from pigen.crystal.elements import SYMBOLS
from pigen.model.pseudo_random import pseudo_random_bundles
from pigen.paper.columns import LETTERS, SEQUENCE, columns_of
from pigen.paper.tables import joined
from pigen.run.experiment import run
from pigen.run.table import RunTable

TINY_MODEL = [
    *("--set", "model.scalars=8", "--set", "model.vectors=4", "--set", "model.messages=4"),
    *("--set", "model.layers=1", "--set", "train.epochs=2", "--set", "train.batch_size=8"),
    *("--set", "sample.n=3", "--set", "sample.steps=3", "--set", "sample.checkpoint=''"),
]


def pigen(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def refusal(*args: str | Path) -> str:
    """The one line that a command must end in with exit code 2."""
    result = pigen(*args)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("pigen: error: ")
    assert result.stdout == ""
    return line


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of pseudo-random cells."""
    out = tmp_path_factory.mktemp("runs") / "random"
    result = pigen("run", "pseudo_random", "--set", "sample.n=40", "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[-1] == (
        f"{out} holds samples.h5, evaluated.h5, survivors.h5, table.json, table.md; "
        f"`pigen report {out}` shows it"
    )
    return out


@pytest.fixture(scope="module")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle to train on: small cells of two elements."""
    path = tmp_path_factory.mktemp("data") / "train.h5"
    config = PseudoRandomConfig(n_atoms=(2, 4), min_separation=2.0)
    chunks = list(pseudo_random_bundles(config, 24, 0, ["Na", "Cl"]))
    write_bundle(path, Bundle.concatenate(chunks))
    return path


@pytest.fixture(scope="module")
def trained(training_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that trained its own tiny model, without labels."""
    out = tmp_path_factory.mktemp("runs") / "trained"
    data = f'data.train=["{training_set}"]'
    result = pigen("run", "diffcsp", *TINY_MODEL, "--set", data, "--out", out)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def opened() -> list[str]:
    """The bundles that the run `with_energies` opens to read, once for each time."""
    return []


@pytest.fixture(scope="module")
def with_energies(tmp_path_factory: pytest.TempPathFactory, opened: list[str]) -> Path:
    """A finished run whose cells of one or two atoms all pass, and are relaxed."""
    out = tmp_path_factory.mktemp("runs") / "energies"
    lenient = ("filter.spp=1e9", "filter.c=[0, 9]", "filter.mled=0", "filter.novel=false")
    settings = ("sample.n=4", "energy.relax=true", "energy.device='cpu'", *lenient)
    cells = (
        "n_atoms=[1, 2]",
        "min_separation=2.5",
        "volume_per_atom=[20.0, 22.0]",
        "elements=['Na', 'K']",
    )
    sets = [*settings, *(f"pseudo_random.{cell}" for cell in cells)]
    args = [arg for setting in sets for arg in ("--set", setting)]
    open_bundle = reading._opened

    def noting(path: str | Path) -> AbstractContextManager[h5py.File]:
        if Path(path).parent == out:
            opened.append(Path(path).name)
        return open_bundle(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_opened", noting)
        result = pigen("run", "pseudo_random", *args, "--out", out)
    assert result.exit_code == 0, result.output
    return out


# -- what a run leaves ---------------------------------------------------------------------------
def test_run_folder_holds_every_stage(finished: Path) -> None:
    assert sorted(path.name for path in finished.iterdir()) == [
        "evaluated.h5",
        "experiment.toml",
        "samples.h5",
        "survivors.h5",
        "table.json",
        "table.md",
    ]
    resolved = load_experiment(finished / "experiment.toml")
    assert resolved == load_experiment("pseudo_random", ["sample.n=40"])
    samples, evaluated = (
        read_bundle(finished / "samples.h5"),
        read_bundle(finished / "evaluated.h5"),
    )
    assert bundle_info(finished / "samples.h5").complete
    assert list(samples.ids) == list(evaluated.ids)
    assert load_text(samples.provenance["experiment"], finished) == resolved


def load_text(text: str, folder: Path) -> object:
    path = folder.parent / "from_bundle.toml"
    path.write_text(text, encoding="utf-8")
    return load_experiment(path)


def test_rates_equal_a_recount_of_the_bundle(finished: Path) -> None:
    table, evaluated = RunTable.read(finished), read_bundle(finished / "evaluated.h5")
    left = np.ones(len(evaluated), dtype=bool)
    for letter, name in LETTERS.items():
        assert table.rates[letter].passed == evaluated.verdicts[name].passed.sum()
        assert table.rates[letter].total == 40
    for letter in SEQUENCE:
        left &= evaluated.verdicts[LETTERS[letter]].passed
        assert table.funnel[letter].passed == left.sum()
    survivors = bundle_info(finished / "survivors.h5")
    assert table.rates["sequence"].passed == survivors.n_crystals
    assert survivors.n_crystals + survivors.n_rejects == 40
    c = evaluated.columns["c"].values
    assert ((c > 0.55) & (c < 0.85)).sum() == table.rates["C"].passed


def test_printed_table_is_the_one_on_disk_and_names_its_ground(finished: Path) -> None:
    result = pigen("run", "pseudo_random", "--set", "sample.n=40", "--out", finished, "--resume")
    assert result.stdout == (finished / "table.md").read_text("utf-8")
    for said in ("seed 0", "spp.npz sha256", "compositions.txt.gz sha256", "| 100.0 % |"):
        assert said in result.stdout
    as_json = pigen(
        *("run", "pseudo_random", "--set", "sample.n=40", "--out", finished, "--resume", "--json")
    )
    assert json.loads(as_json.stdout) == json.loads((finished / "table.json").read_text("utf-8"))


def test_the_generator_keeps_its_promises(finished: Path) -> None:
    evaluated = read_bundle(finished / "evaluated.h5")
    assert evaluated.columns["min_distance"].values.min() >= 1.0
    assert RunTable.read(finished).rates["A_prime"].fraction == 1.0
    assert RunTable.read(finished).rates["A"].fraction < 0.2


def test_table_joins_runs(finished: Path, trained: Path) -> None:
    for which in ("1", "ed1"):
        result = pigen("table", which, trained, finished)
        assert result.exit_code == 0
        assert "| pseudo_random | measured, n = 40 |" in result.stdout
        assert "| diffcsp | measured, n = 3 |" in result.stdout
    assert "not a finished run" in refusal("table", "1", finished.parent)


# -- interruption --------------------------------------------------------------------------------
def test_interrupted_run_resumes_to_the_same_result(finished: Path, tmp_path: Path) -> None:
    experiment = load_experiment("pseudo_random", ["sample.n=40"])
    out = tmp_path / "run"

    def interrupt(line: str) -> None:
        if line.startswith("filter"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(experiment, out, say=interrupt)
    assert not (out / "table.json").exists()
    assert run(experiment, out, resume=True) == RunTable.read(finished)


def test_what_was_interrupted_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pigen.run.experiment.run", interrupted)
    result = pigen("run", "pseudo_random", "--out", tmp_path / "run")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == (
        "pigen: error: interrupted; the same command with --resume goes on"
    )


def test_half_written_samples_are_completed(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_at_once = partial(pseudo_random_bundles, chunk_size=7)
    monkeypatch.setattr("pigen.run.experiment.pseudo_random_bundles", few_at_once)
    experiment = load_experiment("pseudo_random", ["sample.n=40"])
    out = tmp_path / "run"
    run(experiment, out)
    whole = read_bundle(out / "samples.h5")
    (out / "evaluated.h5").unlink()
    writer = BundleWriter(out / "samples.h5", whole.provenance)
    writer.append(whole.select(slice(0, 7)))
    writer.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert bundle_info(out / "samples.h5").n_crystals == 7
    assert run(experiment, out, resume=True) == RunTable.read(finished)


def test_a_run_is_replaced_only_on_request(tmp_path: Path) -> None:
    command = ("run", "pseudo_random", "--set", "sample.n=2", "--out", tmp_path / "run")
    assert pigen(*command).exit_code == 0
    assert "--resume continues it, --force starts over" in refusal(*command)
    assert "give one of them" in refusal(*command, "--resume", "--force")
    assert "another sample.n" in refusal(*command, "--resume", "--set", "sample.n=3")
    (tmp_path / "run" / "mine.txt").touch()
    assert pigen(*command, "--force", "--set", "sample.n=3").exit_code == 0
    assert RunTable.read(tmp_path / "run").rates["A"].total == 3
    assert (tmp_path / "run" / "mine.txt").exists()


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    for options in ((), ("--force",), ("--resume",)):
        said = refusal("run", "pseudo_random", "--out", tmp_path, *options)
        assert "not the folder of a run" in said
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


# -- models --------------------------------------------------------------------------------------
def test_a_model_is_trained_where_none_is_named(trained: Path) -> None:
    assert (trained / "train" / "model.safetensors").exists()
    evaluated = read_bundle(trained / "evaluated.h5")
    found = {SYMBOLS[z] for z in evaluated.crystals.atomic_numbers}
    assert found <= {"Na", "Cl"}
    # Novel is what this model's own training set lacks, not the shipped one's.
    assert "known.txt.gz" in RunTable.read(trained).provenance["novel"]


@pytest.mark.slow
def test_an_interrupted_training_run_is_completed(
    training_set: Path, trained: Path, tmp_path: Path
) -> None:
    data = ("--set", f'data.train=["{training_set}"]')
    out = tmp_path / "run"
    experiment = load_experiment("diffcsp", [*TINY_MODEL[1::2], data[1]])

    def interrupt(line: str) -> None:
        if line.startswith("sample"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(experiment, out, say=interrupt, progress=False)
    result = pigen("run", "diffcsp", *TINY_MODEL, *data, "--out", out, "--resume")
    assert result.exit_code == 0, result.output
    assert RunTable.read(out).rates == RunTable.read(trained).rates


def test_the_shipped_model_runs_guided(tmp_path: Path) -> None:
    options = ("--set", "sample.n=4", "--set", "sample.steps=4", "--set", "sample.n_atoms=[3, 4]")
    result = pigen("run", "pigen_mled_c", *options, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "targets mled = 9.0, c = 0.7, guidance 0.75" in result.stdout
    samples = read_bundle(tmp_path / "run" / "samples.h5")
    assert set(samples.crystals.n_atoms) <= {3, 4}
    assert samples.columns["target_c"].values[0] == 0.7


# -- bad input: exit code 2 before any work ------------------------------------------------------
def test_bad_requests_stop_before_any_work(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    own = f"sample.checkpoint={trained / 'train' / 'model.safetensors'}"
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "table.npz").write_text("no table")
    for name, overrides, says in (
        ("pigen_c", ["sample.stesp=1"], "unknown key; did you mean sample.steps?"),
        ("pigen_c", ["sample.n=many"], "expected a whole number"),
        ("pigen_c", ["filter.c=[0.9, 0.5]"], "lower end 0.9 is above 0.5"),
        ("pigen_c", ["sample.checkpoint=gone.safetensors"], "no such file"),
        ("pigen_c", [f"sample.checkpoint={tmp_path / 'empty.safetensors'}"], "checkpoint"),
        ("pigen_c", ["filter.spp_table=gone.npz"], "no such file"),
        ("pigen_c", [f"filter.spp_table={tmp_path / 'table.npz'}"], "table.npz"),
        ("pigen_c", [own], "not trained with label 'c'"),
        ("pigen_c", ["sample.elements_required=['Lr']"], "doesn't know element 'Lr'"),
        ("pigen_c", ["sample.elements_allowed=['Xx']"], "'Xx' is not allowed"),
        ("pigen_c", ["sample.n_atoms=21"], "sample.n_atoms"),
        ("pigen_c", ["sample.device=cuda"], "CUDA"),
        ("diffcsp", ["sample.checkpoint=''"], "nothing to train on"),
        ("diffcsp", ["data.train=['gone.h5']"], "no such file"),
        (
            "diffcsp",
            ["sample.checkpoint=''", f"data.train=['{tmp_path / 'table.npz'}']"],
            "table.npz",
        ),
        ("pigen_q", [], "no such file, and no shipped experiment"),
    ):
        if says == "CUDA" and has_cuda():
            continue
        options = [option for text in overrides for option in ("--set", text)]
        line = refusal("run", name, "--out", out, *options)
        assert says in line, line
        assert not out.exists()


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


# -- energies ------------------------------------------------------------------------------------
@pytest.mark.slow
def test_energies_of_survivors_fill_columns_e_f_and_sun(with_energies: Path) -> None:
    survivors = read_bundle(with_energies / "survivors.h5")
    relaxed = read_bundle(with_energies / "relaxed.h5")
    assert len(survivors) > 0
    assert relaxed.parents.tolist() == survivors.ids.tolist()
    assert {"e_relaxed", "e_hull", "status"} <= relaxed.columns.keys()
    table = RunTable.read(with_energies)
    assert {rate.total for rate in table.rates.values()} == {4}
    energies = relaxed.columns["e_hull"].values
    assert table.rates["E100"].passed == (energies < 0.1).sum()
    assert table.rates["E50"].passed == (energies < 0.05).sum()
    assert table.rates["SUN"].passed <= table.rates["E100"].passed
    near = survivors.columns["mled"].values[energies < 0.05]
    assert table.largest_mled == (near.max() if len(near) else None)
    assert "hull(reference=" in table.provenance["hull"]
    text = (with_energies / "table.md").read_text(encoding="utf-8")
    assert text.count("| E |") == 4
    joined = pigen("table", "1", with_energies)
    assert f"- Measured energies: {table.provenance['hull']}." in joined.stdout


@pytest.mark.slow
def test_a_run_opens_its_bundles_no_more_often_than_it_must(
    with_energies: Path, opened: list[str]
) -> None:
    assert with_energies.exists()
    assert Counter(opened) == {
        "samples.h5": 2,  # for its hash, and to be judged
        "evaluated.h5": 1,
        "survivors.h5": 1,
        "relaxed.h5": 1,
    }


def test_run_without_survivors_has_rates_of_zero(tmp_path: Path) -> None:
    settings = ("sample.n=2", "energy.relax=true", "filter.spp=-1000")
    args = [arg for setting in settings for arg in ("--set", setting)]
    result = pigen("run", "pseudo_random", *args, "--out", tmp_path / "none")
    assert result.exit_code == 0, result.output
    table = RunTable.read(tmp_path / "none")
    assert (table.rates["E100"].passed, table.rates["E100"].total) == (0, 2)
    assert table.largest_mled is None


def test_a_reference_that_is_none_ends_a_run_before_any_work(tmp_path: Path) -> None:
    line = refusal(
        *("run", "pseudo_random", "--set", "energy.relax=true"),
        *("--set", f"energy.reference='{tmp_path}'", "--out", tmp_path / "out"),
    )
    assert "no reference of a hull" in line
    assert not (tmp_path / "out").exists()


# -- where figures come from ---------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("which", ["1", "ed1"])
def test_every_query_gives_its_figure(which: str, with_energies: Path) -> None:
    table = joined(which, {with_energies: RunTable.read(with_energies)})
    measured = [
        cell for _, cell in table.cells() if cell.value is not None and cell.column != "SUN"
    ]
    columns = {cell.column for cell in measured}
    assert columns >= {c.key for c in columns_of(which)} - {
        "B",
        "F",
        "SUN",
    }  # novelty is off in this run
    for cell in measured:
        opened = {name: h5py.File(path) for name, path in zip("fg", cell.files, strict=False)}
        answer = eval(cell.query, {"np": np, **opened})
        assert answer == (cell.value if cell.passed is None else cell.passed), cell.query
    text = pigen("table", which, with_energies, "--explain").stdout
    assert all(
        f"pseudo_random {cell.column} = " in text and cell.query in text for cell in measured
    )


@pytest.mark.slow
def test_table_as_csv_and_json_holds_what_the_markdown_holds(with_energies: Path) -> None:
    rate = RunTable.read(with_energies).rates["E100"]
    lines = list(
        csv.DictReader(pigen("table", "1", with_energies, "--format", "csv").output.splitlines())
    )
    (cell,) = [line for line in lines if (line["run"], line["column"]) == ("pseudo_random", "E100")]
    assert (int(cell["passed"]), int(cell["n"])) == (rate.passed, rate.total)
    assert float(cell["value"]) == 100 * rate.fraction
    content = json.loads(pigen("table", "1", with_energies, "--json").output)
    assert [one["column"] for one in content["cells"] if one["run"]] == [
        column.key for column in columns_of("1")
    ]
    assert "hull(reference=" in content["head"]["hull"]
    (mattergen,) = [line for line in lines if (line["row"], line["column"]) == ("MatterGen", "E50")]
    assert mattergen["published"] == "1.2 or 2.5"
    assert mattergen["value"] == ""


# -- structures of another program ---------------------------------------------------------------
def test_imported_structures_are_a_row_too(finished: Path, tmp_path: Path) -> None:
    source = tmp_path / "theirs.h5"
    write_bundle(source, read_bundle(finished / "samples.h5"))
    sets = ("--set", f"imported.source='{source}'")
    result = pigen("run", "mattergen", *sets, "--out", tmp_path / "all")
    assert result.exit_code == 0, result.output
    assert RunTable.read(tmp_path / "all").rates["A"].total == 40
    command = ("run", "mattergen", *sets, "--set", "imported.n=30", "--out", tmp_path / "out")
    assert pigen(*command).exit_code == 0
    table = RunTable.read(tmp_path / "out")
    assert (table.row, table.rates["A"].total) == ("MatterGen", 30)
    assert "imported.n takes the first" in refusal("run", "mattergen", "--set", "sample.n=30")
    first = read_bundle(finished / "evaluated.h5").verdicts["c"].passed[:30]
    assert table.rates["C"].passed == first.sum()
    assert table.provenance["generator"] == "another program: theirs.h5"
    assert "--set imported.source=FILE" in refusal("run", "mattergen", "--out", tmp_path / "none")
