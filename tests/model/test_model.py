"""The network: equality with e3nn's generic path, symmetry in float64, conditions, checkpoints."""

from __future__ import annotations

import pickle
from dataclasses import replace
from math import sqrt
from pathlib import Path

import models
import numpy as np
import pytest
import torch
from e3nn import o3
from models import CRYSTALS
from pymatgen.optimization.neighbors import find_points_in_spheres
from real_crystals import COPPER, PEROVSKITE
from test_diffusion import rotation

from pigen.config import ModelConfig, SampleConfig
from pigen.crystal.cells import niggli
from pigen.crystal.crystals import Crystals
from pigen.descriptors import get_descriptor
from pigen.model.checkpoint import ADDED, load_checkpoint, read_header, save_checkpoint
from pigen.model.data import TrainingData, batches, drop_labels
from pigen.model.diffusion.state import Noised, Prediction
from pigen.model.layers import Messages, PairMatrices
from pigen.model.loss import expected_compactness, losses, noised_vector
from pigen.model.nodes import Nodes
from pigen.model.pairs import basis_of_edges, edges, pair_basis, radial_basis
from pigen.model.size_prior import SizePrior
from pigen.model.spec import ModelSpec
from pigen.runtime.errors import UsageError

HEADER = models.header()
MODEL = models.model(HEADER)


def predict(batch: Noised, labels: torch.Tensor, guess: Prediction | None = None) -> Prediction:
    return MODEL(batch, labels, guess)  # type: ignore[no-any-return]


def assert_equal(a: Prediction, b: Prediction) -> None:
    for name in ("logits", "coords", "lattice"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-8, atol=1e-9)


# -- geometry ------------------------------------------------------------------------------------
def test_edges_are_those_of_pymatgens_neighbour_list() -> None:
    skewed = np.array([[1, 0, 0], [2, 1, 0], [0, -1, 1]])
    for one in CRYSTALS:
        cell = skewed @ one.lattice[0]
        frac = one.frac_coords @ np.linalg.inv(skewed)
        b, i, j, vectors = edges(
            torch.from_numpy(frac)[None],
            torch.from_numpy(cell)[None],
            torch.ones(1, len(frac), dtype=torch.bool),
            5.0,
        )
        cart = frac @ cell
        first, second, _, distance = find_points_in_spheres(
            cart, cart, r=5.0, pbc=np.array([1, 1, 1]), lattice=cell, tol=1e-8
        )
        real = distance > 1e-8
        expected = sorted(zip(first[real], second[real], distance[real].round(6), strict=True))
        length = vectors.norm(dim=1).numpy().round(6)
        found = sorted(zip(i.tolist(), j.tolist(), length, strict=True))
        assert found == expected
        assert (b == 0).all()


def test_messages_equal_e3nns_tensor_product_edge_by_edge() -> None:
    torch.manual_seed(0)
    m, k, cutoff = 4, 8, 5.0
    one = CRYSTALS[3]
    n = int(one.n_atoms[0])
    frac, cell = (
        torch.from_numpy(one.frac_coords.copy())[None],
        torch.from_numpy(one.lattice.copy()),
    )
    mask = torch.ones(1, n, dtype=torch.bool)
    layer = Messages(5, 3, m, k).double()
    x = torch.randn(1, n, m, dtype=torch.float64)
    y = torch.randn(1, n, 3, m, dtype=torch.float64)
    basis = pair_basis(frac, cell, mask, cutoff=cutoff, radial=k)
    nodes = Nodes(mask, torch.full((1, n), 1 / n))
    scalars, vectors = layer.receive(x, y, PairMatrices.of(basis, nodes, basis.dtype))

    _, i, j, d = edges(frac, cell, mask, cutoff)
    harmonics = o3.spherical_harmonics([0, 1], d, normalize=True, normalization="component")
    radial = radial_basis(d.norm(dim=-1), cutoff, k)
    product = o3.TensorProduct(
        f"{m}x0e + {m}x1o",
        "1x0e + 1x1o",
        f"{m}x0e + {m}x0e + {m}x1o + {m}x1o",
        [
            (0, 0, 0, "uvu", False),
            (1, 1, 1, "uvu", False),
            (0, 1, 2, "uvu", False),
            (1, 0, 3, "uvu", False),
        ],
        irrep_normalization="none",
        path_normalization="none",
    ).double()
    sender = torch.cat([x[0], y[0].transpose(1, 2).reshape(n, 3 * m)], dim=1)
    per_edge = product(sender[j], harmonics)  # (E, 8 m)
    summed = torch.zeros(n, k, 8 * m, dtype=torch.float64)
    summed.index_add_(0, i, radial[:, :, None] * per_edge[:, None, :])
    s_x, s_y, v_x, v_y = summed.split([m, m, 3 * m, 3 * m], dim=-1)
    # e3nn's couplings with one scalar leg carry 1/sqrt(3); ours are plain products.
    expected_s = torch.cat([s_x, sqrt(3) * s_y], dim=1).reshape(n, 2 * k * m)
    torch.testing.assert_close(scalars[0], layer.to_scalar(expected_s))
    as_vectors = [
        sqrt(3) * v.view(n, k, m, 3).permute(0, 3, 1, 2).reshape(n, 3, k * m) for v in (v_x, v_y)
    ]
    torch.testing.assert_close(vectors[0], layer.to_vector(torch.cat(as_vectors, dim=-1)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_pair_basis_equals_the_one_from_e3nns_harmonics(dtype: torch.dtype) -> None:
    batch, *_ = models.noised(HEADER)
    arguments = (batch.frac.to(dtype), batch.lattice.to(dtype), batch.mask)
    fast = pair_basis(*arguments, cutoff=6.0, radial=12)
    slow = basis_of_edges(*arguments, cutoff=6.0, radial=12)
    assert slow.abs().max() > 0.5
    tolerance = 2e-5 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(fast, slow, rtol=0.0, atol=tolerance)


def test_a_cell_that_is_not_a_number_passes_through_the_pair_basis() -> None:
    batch, *_ = models.noised(HEADER)
    bad = torch.full_like(batch.lattice, float("nan"))
    assert bool((pair_basis(batch.frac, bad, batch.mask, cutoff=6.0, radial=4) == 0).all())


# -- symmetry ------------------------------------------------------------------------------------
@pytest.mark.parametrize("improper", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_rotating_the_crystal_changes_no_prediction(seed: int, improper: bool) -> None:
    batch, _, _, labels = models.noised(HEADER, seed=seed)
    guess = predict(batch, labels)
    by = rotation(seed, improper)
    assert_equal(predict(models.turned(batch, by), labels, guess), predict(batch, labels, guess))
    # not because there is nothing to see: coordinates and cell shape do get a prediction
    assert guess.coords.abs().max() > 1e-3
    assert guess.lattice[:, 1:].abs().max() > 1e-3


def test_translating_or_rewrapping_the_atoms_changes_no_prediction() -> None:
    batch, _, _, labels = models.noised(HEADER)
    moved = batch.frac + torch.rand(len(batch.t), 1, 3, dtype=torch.float64)
    moved = moved + torch.randint(-2, 3, moved.shape)
    assert_equal(predict(replace(batch, frac=moved), labels), predict(batch, labels))


def test_permuting_the_atoms_permutes_the_prediction() -> None:
    batch, _, _, labels = models.noised(HEADER, CRYSTALS[2:3])
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted = replace(batch, types=batch.types[:, order], frac=batch.frac[:, order])
    a, b = predict(batch, labels), predict(permuted, labels)
    assert_equal(b, Prediction(a.logits[:, order], a.coords[:, order], a.lattice))


def test_relabelling_the_cell_vectors_relabels_the_prediction() -> None:
    batch, _, _, labels = models.noised(HEADER)
    order = [2, 0, 1]
    log_p = batch.lattice.new_tensor(np.eye(3)[order])
    spec = HEADER.spec.lattice
    cell = log_p @ batch.lattice
    n = batch.mask.sum(1)
    from pigen.model.diffusion.lattice import to_vector

    relabelled = replace(
        batch, frac=batch.frac[..., order], lattice=cell, shape=to_vector(cell, n, spec)[:, 1:]
    )
    a, b = predict(batch, labels), predict(relabelled, labels)
    torch.testing.assert_close(b.logits, a.logits, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(b.coords, a.coords[..., order], rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(b.lattice[:, 0], a.lattice[:, 0], rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(b.lattice.norm(dim=1), a.lattice.norm(dim=1), rtol=1e-7, atol=1e-8)


def test_a_batch_predicts_what_its_crystals_predict_alone() -> None:
    batch, _, _, labels = models.noised(HEADER)
    together = predict(batch, labels)
    for row, n in enumerate(batch.mask.sum(1).tolist()):
        alone = Noised(
            batch.types[row : row + 1, :n],
            batch.frac[row : row + 1, :n],
            batch.lattice[row : row + 1],
            batch.shape[row : row + 1],
            batch.mask[row : row + 1, :n],
            batch.t[row : row + 1],
        )
        assert_equal(
            predict(alone, labels[row : row + 1]),
            Prediction(
                together.logits[row : row + 1, :n],
                together.coords[row : row + 1, :n],
                together.lattice[row : row + 1],
            ),
        )


def test_inputs_are_not_mutated() -> None:
    batch, _, _, labels = models.noised(HEADER)
    before = {k: v.clone() for k, v in vars(batch).items() if v is not None}
    predict(batch, labels)
    for name, value in before.items():
        torch.testing.assert_close(getattr(batch, name), value, rtol=0, atol=0)


@pytest.mark.parametrize("improper", [False, True])
def test_the_loss_ignores_orientation(improper: bool) -> None:
    batch, clean, draw, labels = models.noised(HEADER)
    radii = HEADER.spec.cubed_radii(clean.frac)

    def found(noised: Noised) -> torch.Tensor:
        one = losses(
            predict(noised, labels),
            noised,
            clean,
            draw,
            scale=HEADER.spec.lattice,
            cubed_radii=radii,
            config=HEADER.diffusion,
        )
        return torch.stack([one.types, one.coords, one.lattice, one.compactness])

    turned = models.turned(batch, rotation(5, improper))
    torch.testing.assert_close(found(turned), found(batch), rtol=1e-8, atol=1e-9)


# -- compactness ---------------------------------------------------------------------------------
def test_expected_compactness_of_a_known_crystal_is_the_descriptor() -> None:
    clean, _ = models.clean(HEADER)
    spec = HEADER.spec
    from pigen.model.diffusion.lattice import log_volume

    found = expected_compactness(
        torch.zeros(*clean.types.shape, len(spec.elements), dtype=torch.float64),
        clean.types,
        clean.mask,
        log_volume(clean.y, clean.n_atoms, spec.lattice),
        spec.cubed_radii(clean.frac),
    )
    expected = get_descriptor("c")(CRYSTALS).values["c"]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_compactness_loss_has_gradient_through_types_and_lattice() -> None:
    batch, clean, draw, labels = models.noised(HEADER)
    guess = predict(batch, labels)
    logits, y = guess.logits.requires_grad_(True), guess.lattice.requires_grad_(True)
    all_hidden = replace(batch, types=torch.zeros_like(batch.types))
    found = losses(
        Prediction(logits, guess.coords, y),
        all_hidden,
        clean,
        draw,
        scale=HEADER.spec.lattice,
        cubed_radii=HEADER.spec.cubed_radii(clean.frac),
        config=HEADER.diffusion,
    )
    by_logits, by_y = torch.autograd.grad(found.compactness, [logits, y])
    assert by_logits[clean.mask].abs().sum(-1).min() > 0
    assert by_y[:, 0].abs().min() > 0


def test_lattice_vector_of_a_noised_batch_is_the_one_it_was_made_from() -> None:
    batch, clean, _, _ = models.noised(HEADER)
    from pigen.model.diffusion.lattice import to_vector

    expected = to_vector(batch.lattice, clean.n_atoms, HEADER.spec.lattice)
    torch.testing.assert_close(noised_vector(batch, HEADER.spec.lattice), expected)


# -- conditions ----------------------------------------------------------------------------------
def test_each_label_matters_and_a_dropped_one_counts_as_missing() -> None:
    batch, _, _, labels = models.noised(HEADER)
    labels = torch.zeros_like(labels)
    reference = predict(batch, labels).logits
    for place in range(4):
        other = labels.clone()
        other[:, place] = 1.5
        missing = labels.clone()
        missing[:, place] = float("nan")
        assert (predict(batch, other).logits - reference).abs().max() > 1e-6
        assert (predict(batch, missing).logits - reference).abs().max() > 1e-6
        assert torch.isfinite(predict(batch, missing).logits).all()


def test_labels_are_dropped_independently_at_their_rate() -> None:
    labels = torch.zeros(20000, 4)
    dropped = torch.isnan(drop_labels(labels, 0.6, torch.Generator().manual_seed(0))).double()
    np.testing.assert_allclose(dropped.mean(0).numpy(), 0.6, atol=0.015)
    assert float(dropped.prod(1).mean()) == pytest.approx(0.6**4, abs=0.01)


def test_a_model_without_labels_takes_none() -> None:
    made = models.header(config=replace(models.CONFIG, labels=()))
    batch, _, _, labels = models.noised(HEADER)
    found = models.model(made)(batch, labels[:, :0])
    assert torch.isfinite(found.coords).all()


def test_guidance_is_the_extrapolation_of_two_calls() -> None:
    from pigen.model.guidance import guided
    from pigen.model.request import plan

    config = SampleConfig(
        n=4,
        targets={"c": 0.7, "mled": (8.0, 9.0)},
        guidance=1.7,
        guidance_interval=(0.0, 1.0),
    )
    plans = [plan(i, 0, config, HEADER) for i in range(4)]
    batch, *_ = models.noised(HEADER)
    raw = np.stack([p.targets for p in plans])
    asked = torch.from_numpy(HEADER.spec.standardise(raw))
    with_labels = predict(batch, asked)
    without = predict(batch, torch.full_like(asked, float("nan")))
    found = guided(MODEL, HEADER, config, plans)(batch, None)
    for name in ("logits", "coords", "lattice"):
        expected = 2.7 * getattr(with_labels, name) - 1.7 * getattr(without, name)
        torch.testing.assert_close(getattr(found, name), expected)
    plain = guided(MODEL, HEADER, replace(config, guidance=0.0), plans)(batch, None)
    assert_equal(plain, with_labels)


# -- sizes ---------------------------------------------------------------------------------------
def test_sizes_given_a_target_follow_bayes_rule() -> None:
    rng = np.random.default_rng(0)
    n = rng.integers(1, 11, 50000)
    label = (n - 5.5) / 3 + 0.3 * rng.normal(size=len(n))
    other = rng.normal(size=len(n))
    other[::2] = np.nan
    prior = SizePrior.fit(n, np.stack([label, other], axis=1))
    expected = np.exp(-0.5 * ((0.9 - (np.arange(1, 11) - 5.5) / 3) / 0.3) ** 2)
    found = prior.given(np.array([0.9, np.nan]))
    np.testing.assert_allclose(found, expected / expected.sum(), atol=0.03)
    np.testing.assert_allclose(prior.given(np.array([np.nan, np.nan])), prior.frequency)
    assert prior.given(np.array([0.9, 0.3])).sum() == pytest.approx(1)


# -- data ----------------------------------------------------------------------------------------
def test_batches_hold_every_row_once_and_depend_on_seed_and_epoch_alone() -> None:
    sizes = np.random.default_rng(0).integers(1, 20, 333)
    a = list(batches(sizes, 32, seed=1, epoch=2))
    assert sorted(np.concatenate(a).tolist()) == list(range(333))
    b = list(batches(sizes, 32, seed=1, epoch=2))
    assert all((x == y).all() for x, y in zip(a, b, strict=True))
    c = list(batches(sizes, 32, seed=1, epoch=3))
    assert not all(len(x) == len(y) and (x == y).all() for x, y in zip(a, c, strict=True))


def test_niggli_keeps_the_crystal() -> None:
    change = np.array([[1, 0, 0], [3, 1, 0], [0, -2, 1]])
    skewed = Crystals.single(
        change @ PEROVSKITE.lattice[0],
        PEROVSKITE.frac_coords @ np.linalg.inv(change),
        PEROVSKITE.atomic_numbers,
    )
    reduced = niggli(skewed)
    np.testing.assert_allclose(
        np.sort(np.linalg.norm(reduced.lattice[0], axis=1)), [3.905] * 3, atol=1e-9
    )
    distance = get_descriptor("min_distance")
    np.testing.assert_allclose(
        distance(reduced).values["min_distance"], distance(PEROVSKITE).values["min_distance"]
    )


def test_an_element_the_model_does_not_know_is_named() -> None:
    with pytest.raises(UsageError, match="Cu"):
        models.header(Crystals.concatenate([PEROVSKITE] * 2)).spec.classes(COPPER.atomic_numbers)


def test_a_label_without_values_is_refused() -> None:
    labels = models.labels_of(CRYSTALS)
    labels[:, 1] = np.nan
    with pytest.raises(UsageError, match="mled"):
        ModelSpec.fit(CRYSTALS, ModelConfig().labels, labels)


def test_padded_data_gives_the_crystals_back() -> None:
    data = TrainingData.of(CRYSTALS, models.labels_of(CRYSTALS), HEADER.spec)
    clean, labels = data.batch(torch.tensor([1, 3]))
    assert clean.types.shape == (2, 9)
    assert clean.n_atoms.tolist() == [1, 9]
    assert labels.shape == (2, 4)


# -- checkpoints ---------------------------------------------------------------------------------
def test_checkpoint_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    single = models.model(HEADER, torch.float32)
    save_checkpoint(path, single.state_dict(), HEADER)
    loaded, found = load_checkpoint(path, torch.device("cpu"))
    assert (found.model, found.diffusion, found.training) == (
        HEADER.model,
        HEADER.diffusion,
        HEADER.training,
    )
    assert found.spec.elements == HEADER.spec.elements
    assert found.spec.label_mean == HEADER.spec.label_mean
    np.testing.assert_array_equal(found.spec.sizes.covariance, HEADER.spec.sizes.covariance)
    for name, weight in single.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], weight.half().float(), rtol=0, atol=0)


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code ran on load')",)


def test_a_checkpoint_from_before_anything_could_be_given_predicts_the_same(tmp_path: Path) -> None:
    model = models.model(HEADER, torch.float32)
    old = {k: v for k, v in model.state_dict().items() if k not in ADDED}
    save_checkpoint(tmp_path / "old.safetensors", old, HEADER)
    found, _ = load_checkpoint(tmp_path / "old.safetensors", torch.device("cpu"))
    for name in ADDED:
        assert not found.state_dict()[name].any()
    for name, value in old.items():
        torch.testing.assert_close(found.state_dict()[name], value.half().float())


def test_what_is_no_checkpoint_is_refused_without_running_it(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for content in (b"", b"nonsense", pickle.dumps(_Bomb())):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"model\.safetensors"):
            read_header(path)
    with pytest.raises(UsageError, match="no such checkpoint"):
        read_header(tmp_path / "absent.safetensors")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    single = models.model(HEADER, torch.float32)
    save_checkpoint(path, single.state_dict(), replace(HEADER, model=ModelConfig(layers=1)))
    with pytest.raises(UsageError, match="do not fit"):
        load_checkpoint(path, torch.device("cpu"))
