"""A property of the user's own, from its values to samples that were asked for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import models
from pigen.crystals import Crystals
from pigen.errors import UsageError
from pigen.experiment import DiffusionConfig
from pigen.model.checkpoint import Header, load_checkpoint, save_checkpoint
from pigen.model.init_from import Start, check_start
from pigen.model.network import Denoiser
from pigen.model.spec import ModelSpec

CPU = torch.device("cpu")


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
