"""Experiments: strict loading, overrides, round trip, reference page."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from pigen.config import (
    Experiment,
    FilterConfig,
    SampleConfig,
    dump_experiment,
    load_experiment,
    shipped_experiments,
)
from pigen.config.reference import reference_page
from pigen.runtime.checked import known_keys
from pigen.runtime.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
NAMES = [
    "diffcsp",
    "diffcsp_cfg",
    "diffcsp_pi",
    "diffcsp_symmetric",
    "mattergen",
    "mattergen_mled_c",
    "pigen_c",
    "pigen_ehull",
    "pigen_k",
    "pigen_k_c",
    "pigen_mled",
    "pigen_mled_c",
    "pigen_mled_c_free",
    "pigen_mled_ehull",
    "pseudo_random",
    "substitution",
]
UNPUBLISHED = ("diffcsp_symmetric", "pigen_mled_c_free", "substitution")


def write(folder: Path, text: str) -> Path:
    path = folder / "exp.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path | str, *overrides: str) -> str:
    """The message of the UsageError that loading must end in: one line."""
    with pytest.raises(UsageError) as caught:
        load_experiment(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


# -- the shipped experiments ---------------------------------------------------------------------
def test_every_experiment_of_the_tables_is_shipped() -> None:
    assert list(shipped_experiments()) == NAMES
    link = ROOT / "experiments"  # a source distribution has none
    if link.exists() or (ROOT / ".git").exists():
        assert link.resolve() == (ROOT / "src/pigen/data/experiments").resolve()


@pytest.mark.parametrize("name", UNPUBLISHED)
def test_what_the_paper_has_not_names_no_row(name: str) -> None:
    assert load_experiment(name).row == ""


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNPUBLISHED])
def test_shipped_experiment_loads_and_names_a_published_row(name: str) -> None:
    experiment = load_experiment(name)
    published = tomli.loads((ROOT / "src/pigen/data/published_tables.toml").read_text("utf-8"))
    assert experiment.name == name
    assert experiment.row in [row["model"] for row in published["extended_data_table_1"]["rows"]]
    # The targets are those the row's name states.
    symbols = {"c": "C", "mled": "M_LED", "e_hull": "E_hull", "k": "K"}
    for label, target in experiment.sample.targets.items():
        assert f"{symbols[label]}={target:g}" in experiment.row
    if experiment.generator != "import":
        assert experiment.row.count("=") == len(experiment.sample.targets)


def test_the_experiments_differ_as_the_paper_says() -> None:
    plain, pi, cfg = (load_experiment(name) for name in ("diffcsp", "diffcsp_pi", "diffcsp_cfg"))
    assert plain.loss.compactness == 0
    assert plain.model.labels == ()
    assert pi.loss.compactness > 0
    assert pi.model.labels == ()
    assert cfg.loss.compactness == 0
    assert set(cfg.sample.targets) == {"mled", "c"}
    assert load_experiment("pseudo_random").generator == "pseudo_random"
    assert load_experiment("pigen_c").sample.checkpoint == "pigen"


# -- what is refused -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("[sample]\nstesp = 3", "sample.stesp", "did you mean sample.steps?"),
        ("[smaple]\nn = 3", "smaple", "did you mean sample?"),
        ("guidence = 1.0", "guidence", "did you mean sample.guidance?"),
        ("[sample.targets]\ncompactnes = 1.0", "sample.targets.compactnes", "c, mled,"),
        ("[sample]\nn = 2.5", "sample.n", "expected a whole number, got 2.5"),
        ("[sample]\nn = true", "sample.n", "expected a whole number, got true"),
        ('[train]\nlr = "fast"', "train.lr", "expected a number, got text 'fast'"),
        ("[filter]\nnovel = 1", "filter.novel", "expected true or false, got 1"),
        ("sample = 3", "sample", "expected a table, got 3"),
        ("[filter]\nc = 0.7", "filter.c", "expected [lo, hi], got 0.7"),
        ("[filter]\nc = [0.1, 0.2, 0.3]", "filter.c", "expected [lo, hi], got [0.1, 0.2, 0.3]"),
        ("[filter]\nc = [0.85, 0.55]", "filter.c", "lower end 0.85 is above 0.55"),
        ("[sample.targets]\nc = [0.8, 0.6]", "sample.targets.c", "lower end 0.8 is above 0.6"),
        ("[sample]\nn = 0", "sample.n", "must be at least 1, got 0"),
        ("[train]\nlr = 0", "train.lr", "must be above 0, got 0"),
        ("[train]\nlr = nan", "train.lr", "must be finite"),
        ("[train]\nlr = inf", "train.lr", "must be finite"),
        ('[train]\ndevice = "gpu"', "train.device", "'gpu' is not allowed"),
        ('[model]\nlabels = ["c", "c"]', "model", "labels: expected different names"),
        ("[filter.where]\nc = [0.5, 0.6]", "filter", "a key of its own, filter.c"),
        ("[filter.where]\ndensity = 5.0", "filter.where.density", "expected [lo, hi], got 5.0"),
        ('[sample]\nn_atoms = "trian"', "sample.n_atoms", "did you mean train?"),
        ("[sample]\nn_atoms = [4, 0]", "sample.n_atoms", "must be at least 1, got 0"),
        ('[data]\ntrain = ["gone.h5"]', "data.train", "no such file: "),
        ('[sample]\ncheckpoint = "pigenn"', "sample.checkpoint", "the shipped 'pigen'?"),
        ('[pseudo_random]\nelements = ["Xx"]', "pseudo_random.elements", "'Xx' is not allowed"),
        ("[diffusion]\nsigma_min = 0.9", "diffusion", "sigma_min must be below sigma_max"),
        (
            '[energy]\npotential = "ase.calculators.emt:EMT"',
            "energy",
            "needs a reference of its own",
        ),
        ('[model]\nlabels = ["c"]\n[sample.targets]\nk = 3', "", "sample.targets.k"),
    ],
)
def test_bad_input_names_file_key_and_remedy(
    tmp_path: Path, text: str, key: str, says: str
) -> None:
    path = write(tmp_path, f'name = "x"\n{text}\n')
    message = refusal(path)
    assert message.startswith(f"{path}: {key}")
    assert says in message


def test_a_missing_name_is_refused(tmp_path: Path) -> None:
    assert "name: missing" in refusal(write(tmp_path, "seed = 1"))


def test_a_broken_or_missing_file_is_refused(tmp_path: Path) -> None:
    assert "not valid TOML" in refusal(write(tmp_path, "name = "))
    assert "no such file" in refusal(tmp_path / "gone.toml")
    assert "did you mean the shipped experiment pigen_mled_c?" in refusal("pigen_mled_cc")


def test_a_name_cannot_leave_the_run_folder(tmp_path: Path) -> None:
    assert "name" in refusal(write(tmp_path, 'name = "../x"'))


# -- overrides -----------------------------------------------------------------------------------
def test_overrides_are_toml_values_or_bare_text() -> None:
    experiment = load_experiment(
        "pigen_c",
        [
            "sample.n=200",
            "sample.targets.mled=[8, 10]",
            "train.device=cpu",
            'name="other"',
            "filter.c = [0.5, inf]",
        ],
    )
    assert experiment.sample.n == 200
    assert experiment.sample.targets == {"c": 0.7, "mled": (8.0, 10.0)}
    assert (experiment.train.device, experiment.name) == ("cpu", "other")
    assert experiment.filter.c == (0.5, math.inf)
    assert load_experiment("pigen_c", ["sample.targets={}"]).sample.targets == {}


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("sample.n", "expected table.key=value"),
        ("=3", "expected table.key=value"),
        ("sample..n=3", "expected table.key=value"),
        ("sample.nn=3", "--set sample.nn: unknown key; did you mean sample.n?"),
        ("sample.n=2OO", "--set sample.n: expected a whole number, got text '2OO'"),
        ("filter.c=[0.5,", "--set filter.c: expected [lo, hi], got text '[0.5,'"),
        ("seed.x=1", "seed is not a table"),
        ("sample={n=1}\nseed=4", "--set sample: expected a table"),
    ],
)
def test_bad_overrides_are_refused(tmp_path: Path, override: str, says: str) -> None:
    path = write(tmp_path, 'name = "x"\nseed = 0\n')
    with pytest.raises(UsageError) as caught:
        load_experiment(path, [override])
    assert says in str(caught.value)


def test_paths_are_relative_to_the_file_and_those_of_overrides_to_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "data.h5").touch()
    path = write(there, 'name = "x"\n[data]\ntrain = ["data.h5"]\n')
    monkeypatch.chdir(here)
    assert load_experiment(path).data.train == (str(there / "data.h5"),)
    overridden = load_experiment(path, ['data.train=["data.h5"]'])
    assert overridden.data.train == (str(here / "data.h5"),)
    (there / "data.h5").unlink()
    assert load_experiment(path, check_files=False).data.train == (str(there / "data.h5"),)


# -- round trip ----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_dumped_experiment_loads_back_equal(tmp_path: Path, name: str) -> None:
    experiment = load_experiment(name)
    assert load_experiment(write(tmp_path, dump_experiment(experiment))) == experiment


@given(
    row=st.text(st.characters(exclude_categories=["Cs"])),
    seed=st.integers(0, 2**62),
    spp=st.floats(allow_nan=False, allow_infinity=False),
    targets=st.dictionaries(st.sampled_from(["c", "k"]), st.floats(-1e9, 1e9)),
)
def test_any_values_survive_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    row: str,
    seed: int,
    spp: float,
    targets: dict[str, float],
) -> None:
    experiment = Experiment(
        name="x",
        row=row,
        seed=seed,
        filter=FilterConfig(spp=spp),
        sample=SampleConfig(targets=targets),
    )
    path = write(tmp_path_factory.getbasetemp(), dump_experiment(experiment))
    assert load_experiment(path) == experiment


def test_experiments_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_experiment("pigen_c").seed = 1  # type: ignore[misc]


# -- documentation -------------------------------------------------------------------------------
def test_reference_page_is_current_and_complete() -> None:
    page = (ROOT / "docs/experiments.md").read_text("utf-8")
    assert page == reference_page(), "run `make docs`"
    for key in known_keys(Experiment):
        assert f"`{key.rpartition('.')[2]}`" in page or f"[{key}]" in page
    assert not re.search(r"/(work|home|tmp|root)/", page)
