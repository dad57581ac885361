"""A property of the user's own, from its values to samples that were asked for it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import models
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from known_structures import displaced, known_structures

from pigen.bundle import Bundle, Column, read_bundle, strings, write_bundle
from pigen.bundle.targets import compare_targets
from pigen.cli import main
from pigen.config import DiffusionConfig, load_experiment
from pigen.crystal.crystals import Crystals
from pigen.descriptors import descriptor_names, load_descriptors, registry
from pigen.descriptors import registry as own_descriptors
from pigen.io import read_chunks
from pigen.io.values import read_values
from pigen.model.checkpoint import Header, load_checkpoint, read_header, save_checkpoint
from pigen.model.init_from import Start, check_start
from pigen.model.network import Denoiser
from pigen.model.spec import ModelSpec
from pigen.model.train import train
from pigen.runtime.errors import UsageError
from pigen.runtime.executor import LocalPool
from pigen.screening.criteria import window_on
from pigen.screening.filter import FilterStage, apply_filters
from pigen.screening.label import LabelStage, label

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _registry_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor_names()  # all of PIGEN's
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(own_descriptors, "_LOADED", {})


# -- starting from a checkpoint -------------------------------------------------------------------
def saved(folder: Path, header: Header) -> tuple[Path, Denoiser]:
    """A checkpoint of random weights, and its network."""
    path = folder / "base.safetensors"
    save_checkpoint(path, models.model(header).state_dict(), header)
    return path, load_checkpoint(path, CPU)[0]


def started(
    path: Path, labels: tuple[str, ...], values: np.ndarray, crystals: Crystals = models.CRYSTALS
) -> tuple[Start, Denoiser, ModelSpec]:
    start = Start.load(str(path))
    spec = start.spec(ModelSpec.fit(crystals, labels, values), labels)
    network = Denoiser(replace(models.CONFIG, labels=labels), len(spec.elements))
    start.fill(network, spec)
    return start, network.eval().requires_grad_(False), spec


def test_a_network_begins_as_the_one_it_starts_from(tmp_path: Path) -> None:
    header = models.header()  # labels c, mled, e_hull, k
    path, base = saved(tmp_path, header)
    values = np.random.default_rng(1).normal(5, 2, (4, 2))
    _, network, spec = started(path, ("k", "density"), values)
    assert spec.elements == header.spec.elements
    assert spec.lattice == header.spec.lattice
    assert (spec.label_mean[0], spec.label_sd[0]) == (
        header.spec.label_mean[3],
        header.spec.label_sd[3],
    )
    assert spec.label_mean[1] == pytest.approx(values[:, 1].mean())
    noised, *_ = models.noised(header)
    nan = float("nan")
    k = torch.tensor([0.3, -1.0, nan, 2.0], dtype=torch.float64)
    none = torch.full_like(k, nan)
    density = torch.tensor([1.0, nan, -2.0, 0.5], dtype=torch.float64)
    base, network = base.double(), network.double()
    expected = base(noised, torch.stack([none, none, none, k], 1))
    found = network(noised, torch.stack([k, density], 1))
    for name in vars(expected):
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-5
        )
    # The new label does nothing yet, but can learn.
    network.requires_grad_(True)
    network(noised, torch.stack([k, density], 1)).coords.square().sum().backward()
    assert network.embed_labels.weight.grad[1].abs().max() > 0


def test_elements_keep_their_weights_and_new_ones_get_some(tmp_path: Path) -> None:
    few = models.CRYSTALS[[0, 1]]
    header = models.header(few)
    path, base = saved(tmp_path, header)
    start, network, spec = started(path, ("c",), np.ones((4, 1)) + np.arange(4)[:, None])
    known, everything = header.spec.elements, spec.elements
    assert set(known) < set(everything)
    assert list(everything) == sorted(everything)
    for z in known:
        old, new = known.index(z), everything.index(z)
        for name in ("type_head.2.weight", "type_head.2.bias"):
            assert torch.equal(network.state_dict()[name][new], base.state_dict()[name][old])
        assert torch.equal(network.embed_type.weight[new + 1], base.embed_type.weight[old + 1])
        assert torch.equal(network.guess_types.weight[:, new], base.guess_types.weight[:, old])
    fresh = next(i for i, z in enumerate(everything) if z not in known)
    torch.testing.assert_close(
        network.embed_type.weight[fresh + 1], base.embed_type.weight[1:].mean(0)
    )
    said = "\n".join(start.lines(spec, ("c",)))
    assert "base.safetensors sha256" in said
    assert "taken: c; new: none; left out: mled, e_hull, k" in said
    assert f"{len(known)} known, new: " in said


def test_moments_of_labels_are_in_the_scale_of_the_checkpoint(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, models.header())
    crystals = Crystals.concatenate([models.CRYSTALS] * 40)
    values = np.random.default_rng(2).normal(3.0, 0.5, (len(crystals), 1))
    values[crystals.n_atoms == 2] += 2.0
    _, _, spec = started(path, ("c",), values, crystals)
    of_two = values[crystals.n_atoms == 2]
    expected = spec.standardise(of_two).mean()
    overall = spec.standardise(values).mean()
    shrunk = (len(of_two) * expected + 30 * overall) / (len(of_two) + 30)
    assert spec.sizes.mean[1, 0] == pytest.approx(shrunk)


def test_another_network_is_refused_by_what_differs(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, models.header())
    check_start(str(path), replace(models.CONFIG, labels=("density",)), DiffusionConfig())
    other = replace(models.CONFIG, scalars=32, cutoff=5.0)
    with pytest.raises(UsageError, match=r"model.scalars = 24 \(here 32\), model.cutoff = 6.0"):
        check_start(str(path), other, DiffusionConfig())
    with pytest.raises(UsageError, match=r"diffusion.sigma_max = 0.65"):
        check_start(str(path), models.CONFIG, DiffusionConfig(sigma_max=0.5))
    with pytest.raises(UsageError, match="no such checkpoint"):
        check_start(str(tmp_path / "gone"), models.CONFIG, DiffusionConfig())


# -- values by id ---------------------------------------------------------------------------------
def test_numbers_are_joined_by_id(tmp_path: Path) -> None:
    path = tmp_path / "props.csv"
    path.write_text("Name,id,gap,k,phase\nx,MgO.cif,4.5,7,a\ny,Si,,8,b\nz,gone,1,9,c\n")
    values = read_values(path)
    assert values.left_out == {"Name": "x", "phase": "a"}
    joined = values.join(bundle_of("Si", "Cu", "MgO"))
    np.testing.assert_array_equal(joined.columns["gap"].values, [np.nan, np.nan, 4.5])
    # The name of a descriptor of PIGEN's: this k is somebody's bulk modulus.
    np.testing.assert_array_equal(joined.columns["imported_k"].values, [8, np.nan, 7])
    assert values.missing(joined) == {"no row in props.csv": 1, "no gap, an empty field": 1}
    assert next(values.lines(2)).endswith("2 of 3 rows joined, gap, imported_k")
    with pytest.raises(UsageError, match=r"'gap' is in the source and in props.csv"):
        values.join(joined)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column material_id or id"),
        ("name,gap\na,1\n", "its columns: name, gap"),
        ("id,gap\na,1\na.cif,2\n", "line 3: id 'a' was there before"),
        ("id,gap\na,1,2\n", "line 2: 3 fields, expected 2"),
        ("id,gap\na,wide\n", "no column of numbers: gap has 'wide'"),
        ("id,gap\na,inf\n", "gap has 'inf'"),
        ("id\na\n", "no column of numbers"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(UsageError, match=says):
        read_values(tmp_path / "p.csv")


# -- a descriptor of one's own --------------------------------------------------------------------
def page_code(start: str) -> str:
    """The block of docs/own_property.md that starts so."""
    page = (ROOT / "docs/own_property.md").read_text("utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    return next(block for block in blocks if block.startswith(start))


@pytest.fixture
def density_py(tmp_path: Path) -> Path:
    """The file that the page shows."""
    path = tmp_path / "density.py"
    path.write_text(page_code('"""Mass density'))
    assert len(path.read_text().splitlines()) <= 20
    return path


def bundle_of(*names: str) -> Bundle:
    crystals = Crystals.concatenate([known_structures()[name].crystals for name in names])
    return Bundle(crystals=crystals, ids=strings(names))


def test_a_descriptor_of_ones_own_is_one_like_the_others(density_py: Path) -> None:
    assert load_descriptors([density_py]) == ["density"]
    assert load_descriptors([density_py]) == ["density"]  # no second run of the file
    labelled, _ = label(bundle_of("MgO", "Cu"), ["density", "c"])
    column = labelled.columns["density"]
    np.testing.assert_allclose(column.values, [3.588, 8.972], rtol=1e-3)
    assert column.unit == "g/cm3"
    assert re.fullmatch(r"density.py sha256 [0-9a-f]{16} density\(\)", column.source)
    judged = apply_filters(labelled, [window_on("density", (3, 5))])
    assert judged.verdicts["density"].reasons.tolist() == ["", "density not below 5: 8.972"]


def test_workers_load_it_too(density_py: Path) -> None:
    load_descriptors([density_py])
    with LocalPool(1) as pool:
        (found,) = LabelStage(["density"]).over([bundle_of("MgO")], pool)
        stage = FilterStage([window_on("density", (3, 5))])
        (judged,) = stage.over([bundle_of("MgO")], pool)
    assert found.columns["density"].values[0] == pytest.approx(3.588, rel=1e-3)
    assert judged.verdicts["density"].passed.all()


OWN = """
import numpy as np
from pigen import ColumnSpec, Evaluated, descriptor, no_reasons

@descriptor("{name}", ColumnSpec("{name}", "", "a test"))
def compute(crystals):
    {body}
"""


def own(folder: Path, name: str, body: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(OWN.format(name=name, body=body))
    return path


def test_where_it_fails_there_is_a_reason(tmp_path: Path) -> None:
    body = (
        "if 14 in crystals.atomic_numbers: raise KeyError('Si')\n"
        "    v = np.where(crystals.n_atoms == 4, np.inf, 1.0)\n"
        "    return Evaluated({'own_a': v}, no_reasons(crystals))"
    )
    load_descriptors([own(tmp_path, "own_a", body)])
    labelled, missing = label(bundle_of("MgO", "Si", "Cu"), ["own_a"])
    np.testing.assert_array_equal(labelled.columns["own_a"].values, [1, np.nan, np.nan])
    assert missing == {"no own_a, own_a failed": 1, "no own_a, no value": 1}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return 3", "must return Evaluated, got int"),
        ("return Evaluated({'own_b': np.zeros(9)}, no_reasons(crystals))", r"shape \(1,\)"),
        ("return Evaluated({'b': np.zeros(1)}, no_reasons(crystals))", "no column 'own_b'"),
    ],
)
def test_what_it_returns_is_checked(tmp_path: Path, body: str, says: str) -> None:
    load_descriptors([own(tmp_path, "own_b", body)])
    with pytest.raises(UsageError, match=says):
        label(bundle_of("MgO"), ["own_b"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\ny = x / 0\n", "line 2: ZeroDivisionError"),
        ("def (\n", "SyntaxError"),
        ("x = 1\n", "registers no descriptor"),
        (OWN.format(name="c", body="pass"), "'c' is taken by the descriptor 'c' of pigen"),
        (OWN.format(name="e_hull", body="pass"), "that `pigen energy` makes"),
    ],
)
def test_a_file_that_registers_nothing_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(UsageError, match=says):
        load_descriptors([tmp_path / "bad.py"])


# -- from values to samples -----------------------------------------------------------------------
def test_samples_are_held_against_their_targets() -> None:
    bundle = bundle_of("MgO", "Cu", "Si").with_columns(
        {
            "target_c": Column(np.array([0.5, 0.7, np.nan]), "", "asked"),
            "c": Column(np.array([0.6, 0.6, 0.6]), "", "computed"),
            "target_gap": Column(np.zeros(3), "eV", "asked"),
        }
    )
    (comparison,) = compare_targets([bundle.select([0]), bundle.select([1, 2])]).values()
    assert (comparison.n, comparison.low, comparison.high) == (2, 0.5, 0.7)
    assert comparison.mean_difference == pytest.approx(0.1)
    assert str(comparison).startswith("asked 0.5 to 0.7 (mean 0.6), found 0.6 ± 0")


def tiny_experiment(folder: Path, source: Path) -> Path:
    """A checkpoint of the tests' small network, and an experiment that goes on from it."""
    header = models.header()
    save_checkpoint(folder / "base.safetensors", models.model(header).state_dict(), header)
    path = folder / "own.toml"
    sizes = models.CONFIG
    path.write_text(
        'name = "own"\ndescriptors = ["density.py"]\n'
        f'[data]\ntrain = ["{source}"]\n'
        '[model]\nlabels = ["c", "density", "gap"]\n'
        f"scalars = {sizes.scalars}\nvectors = {sizes.vectors}\nmessages = {sizes.messages}\n"
        f"layers = {sizes.layers}\nradial = {sizes.radial}\n"
        '[train]\nepochs = 2\nbatch_size = 8\ndevice = "cpu"\ninit_from = "base.safetensors"\n'
        '[sample]\nn = 4\nsteps = 4\ndevice = "cpu"\n'
        "[sample.targets]\ndensity = [2.0, 6.0]\ngap = 3.0\n"
        "[filter]\nnovel = false\n[filter.where]\ndensity = [1.0, inf]\n"
    )
    return path


def end_to_end(folder: Path, structures: Bundle) -> tuple[str, Bundle]:
    """label → run (train from a checkpoint, sample to targets, filter) on the command line."""
    source, table = folder / "structures.h5", folder / "gaps.csv"
    write_bundle(source, structures)
    gaps = structures.crystals.volume / structures.crystals.n_atoms / 10
    lines = [f"{name},{gap}" for name, gap in zip(structures.ids, gaps, strict=True)]
    table.write_text("\n".join(["id,gap", *lines[1:], "nobody,1"]) + "\n")
    runner = CliRunner()
    args = ["label", source, "--values", table, "--descriptors", folder / "density.py"]
    done = runner.invoke(main, [*map(str, args), "--columns", "density", "-o", f"{folder}/l.h5"])
    assert done.exit_code == 0, done.output
    assert f"{len(lines) - 1} of {len(lines)} rows joined, gap" in done.output
    experiment = tiny_experiment(folder, folder / "l.h5")
    done = runner.invoke(main, ["run", str(experiment), "-o", str(folder / "run")])
    assert done.exit_code == 0, done.output
    return done.output, read_bundle(folder / "run" / "evaluated.h5")


def check_end_to_end(folder: Path, structures: Bundle) -> None:
    said, samples = end_to_end(folder, structures)
    assert "starts from base.safetensors sha256" in said
    assert "labels: taken: c; new: density, gap; left out: mled, e_hull, k" in said
    assert "| density > 1 g/cm3 |" in said
    assert re.search(r"- target density: asked \S+ to \S+ \(mean \S+\), found .*, n = 4", said)
    targets = samples.columns["target_density"]
    assert targets.unit == "g/cm3"
    assert ((targets.values > 2) & (targets.values < 6)).all()
    assert len(set(targets.values)) == 4
    assert (samples.columns["target_gap"].values == 3).all()
    assert np.isfinite(samples.columns["density"].values).all()
    header = read_header(folder / "run" / "train" / "model.safetensors")
    assert header.training["init_from"].startswith("base.safetensors sha256 ")
    assert header.spec.label_unit == ("", "g/cm3", "")


@pytest.mark.slow
def test_a_property_of_ones_own_end_to_end(density_py: Path, tmp_path: Path) -> None:
    parts = [known_structures()[n].crystals for n in ("MgO", "Cu", "CaF2", "ZnS", "SrTiO3")]
    every = Crystals.concatenate(
        [displaced(one, 0.05, seed) for seed in range(6) for one in [*parts, *models.CRYSTALS]]
    )
    bundle = Bundle(crystals=every, ids=strings(f"s{i}" for i in range(len(every))))
    check_end_to_end(tmp_path, bundle)


@pytest.mark.slow
def test_it_works_on_real_structures(density_py: Path, tmp_path: Path, shared_data: Path) -> None:
    chunk = next(read_chunks([shared_data / "mp20" / "val.csv.gz"], chunk_size=60))
    check_end_to_end(tmp_path, replace(chunk, columns={}))


def test_another_checkpoint_is_no_way_to_go_on(density_py: Path, tmp_path: Path) -> None:
    experiment = tiny_experiment(tmp_path, tmp_path / "l.h5")
    labelled, _ = label(bundle_of("MgO", "Cu", "CaF2", "ZnS"), ["c"])
    gap = {"gap": Column(np.arange(4.0), "eV", "a test")}
    write_bundle(tmp_path / "l.h5", labelled.with_columns(gap))
    loaded = load_experiment(experiment)
    train(loaded, tmp_path / "m", progress=False)
    train(loaded, tmp_path / "m", resume=True, progress=False)  # nothing left to do
    header = models.header()
    changed = models.model(header, seed=1).state_dict()
    save_checkpoint(tmp_path / "base.safetensors", changed, header)
    with pytest.raises(UsageError, match=r"train.init_from was base.safetensors sha256"):
        train(loaded, tmp_path / "m", resume=True, progress=False)
