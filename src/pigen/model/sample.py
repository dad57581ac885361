"""Sampling crystals from a trained model, each a function of (seed, index) alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pigen import __version__
from pigen.bundle import Bundle, BundleWriter, Column, Reject
from pigen.bundle.marks import marked
from pigen.config import Experiment, SampleConfig, dump_experiment
from pigen.crystal.cells import niggli
from pigen.crystal.crystals import Crystals
from pigen.crystal.elements import SYMBOLS
from pigen.crystal.template_library import TemplateLibrary
from pigen.crystal.templates import WHOLE, Template
from pigen.model.checkpoint import Header, checkpoint_hash, load_checkpoint
from pigen.model.diffusion.invariance import Invariance
from pigen.model.diffusion.reverse import Draws, reverse_chain
from pigen.model.diffusion.state import Noised, Prediction
from pigen.model.network import Denoiser
from pigen.model.request import Plan, check_request, library_of, plan
from pigen.runtime.device import resolve_device
from pigen.runtime.executor import map_ordered
from pigen.runtime.memory import Halving
from pigen.runtime.progress import progress_bar
from pigen.runtime.shard import SHARD, Shard

if TYPE_CHECKING:
    from tqdm import tqdm

_GROUP = 32
"""Samples per network call; a batch is sorted by size first, so that little of it is padding."""


def sample(
    model: Denoiser,
    header: Header,
    config: SampleConfig,
    plans: list[Plan],
    on_step: Callable[[int], None] = lambda n: None,
) -> Crystals:
    """Denoise the planned samples; crystals in the order of ``plans``, Niggli-reduced.

    A chain that ends in a number that is not finite leaves an empty crystal (no atoms). Where
    memory runs out, fewer go together.
    """
    order = np.argsort([p.n_atoms for p in plans], kind="stable")
    done: dict[int, Crystals] = {}
    fitting = Halving("sampling")

    def denoise(group: Sequence[Plan]) -> list[Crystals]:
        return _sample_group(model, header, config, list(group), on_step)

    for first in range(0, len(order), _GROUP):
        rows = order[first : first + _GROUP]
        group = [plans[i] for i in rows]
        for row, crystal in zip(rows, fitting(denoise, group), strict=True):
            done[int(row)] = crystal
    return niggli(Crystals.concatenate([done[i] for i in range(len(plans))]))


def _sample_group(
    model: Denoiser,
    header: Header,
    config: SampleConfig,
    plans: list[Plan],
    on_step: Callable[[int], None],
) -> list[Crystals]:
    device = next(model.parameters()).device
    sizes = torch.tensor([p.n_atoms for p in plans], device=device)
    n = int(sizes.max())
    mask = torch.arange(n, device=device)[None] < sizes[:, None]
    start = torch.zeros(len(plans), n, dtype=torch.long, device=device)
    for row, one in enumerate(plans):
        start[row, : one.n_atoms] = torch.from_numpy(one.classes(header.spec))
    templates = [one.template for one in plans]
    begin = plans[0].start  # a setting, the same for all
    draws = _draws(plans, n, config.steps, device, header)
    sampled = reverse_chain(
        guided(model, header, config, plans),
        start,
        mask,
        draws,
        scale=header.spec.lattice,
        config=header.diffusion,
        eta=config.noise,
        sharpness=config.sharpness,
        symmetry=Invariance.of(templates, n, draws.frac) if any(templates) else None,
        given=None if begin is None else begin.given(draws.frac),
        begin=1.0 if begin is None else begin.time,
        on_step=lambda: on_step(len(plans)),
    )
    elements = np.array([0, *header.spec.elements], dtype=np.uint8)
    crystals = []
    for row, one in enumerate(plans):
        cell = sampled.lattice[row].double().cpu().numpy()
        numbers = elements[sampled.types[row, : one.n_atoms].cpu().numpy()]
        found = sampled.frac[row, : one.n_atoms]
        if one.template is None:
            found = torch.remainder(found, 1.0)
        frac = found.double().cpu().numpy()
        if one.template is not None and np.isfinite(cell).all():  # exact in double precision
            frac, cell = one.template.place(frac), one.template.cell(cell)
        if one.start is not None:
            frac = np.where(one.start.held[:, None], one.start.crystal.frac_coords, frac)
            cell = one.start.crystal.lattice[0] if one.start.cell else cell
        if not (np.isfinite(frac).all() and np.isfinite(cell).all()):
            frac, cell, numbers = np.zeros((0, 3)), np.eye(3), numbers[:0]
        crystals.append(Crystals.single(cell, frac, numbers))
    return crystals


def guided(
    model: Denoiser, header: Header, config: SampleConfig, plans: list[Plan]
) -> Callable[[Noised, Prediction | None], Prediction]:
    """The predictor ε* = (1 + g) ε(z|q) − g ε(z), both passes in one call of the network.

    Guidance acts on types (logits), coordinates and lattice alike. Without targets, at g = 0, and
    outside the guidance interval (Kynkäänniemi et al., arXiv:2404.07724), one pass is enough.
    """
    parameter = next(model.parameters())
    raw = np.stack([p.targets for p in plans])
    labels = torch.as_tensor(
        header.spec.standardise(raw), dtype=parameter.dtype, device=parameter.device
    )
    banned = _banned(header, config, parameter)
    g = config.guidance if bool((~torch.isnan(labels)).any()) else 0.0
    first, last = config.guidance_interval

    def predict(noised: Noised, guess: Prediction | None) -> Prediction:
        if g == 0.0 or not first <= float(noised.t[0]) <= last:
            found = model(noised, labels, guess)
        else:
            both = model(
                _twice(noised),
                torch.cat([labels, torch.full_like(labels, float("nan"))]),
                None if guess is None else _twice(guess),
                _twice(model.geometry(noised)),
            )
            found = Prediction(
                *(
                    (1 + g) * x[: len(labels)] - g * x[len(labels) :]
                    for x in (both.logits, both.coords, both.lattice)
                )
            )
        return Prediction(found.logits + banned, found.coords, found.lattice)

    return predict


_Batch = TypeVar("_Batch")


def _twice(batch: _Batch) -> _Batch:
    """Tensors, None, or dataclasses of them, each beside itself."""
    twice: Any = batch
    if isinstance(batch, Tensor):
        twice = torch.cat([batch, batch])
    elif batch is not None:
        twice = type(batch)(**{k: _twice(x) for k, x in vars(batch).items()})
    return cast(_Batch, twice)


def _banned(header: Header, config: SampleConfig, like: Tensor) -> Tensor:
    """Added to logits: 0 for the elements allowed, a large negative number for the others."""
    values = torch.zeros(len(header.spec.elements), dtype=like.dtype, device=like.device)
    if config.elements_allowed:
        for place, z in enumerate(header.spec.elements):
            if SYMBOLS[z] not in config.elements_allowed:
                values[place] = -1e4
    return values


def _draws(plans: list[Plan], n: int, steps: int, device: torch.device, header: Header) -> Draws:
    """Random numbers of each sample from its own stream, padded to n atoms."""
    b = len(plans)
    frac, y = np.zeros((b, n, 3)), np.zeros((b, 6))
    coord, lattice = np.zeros((steps, b, n, 3)), np.zeros((steps, b, 6))
    uniform = np.zeros((2, steps, b, n))
    for row, one in enumerate(plans):
        size, rng = one.n_atoms, deepcopy(one.rng)  # which is drawn from again if memory runs out
        frac[row, :size] = _start(one.template, rng.random((size, 3)))
        y[row] = rng.standard_normal(6)
        if one.start is not None:
            frac[row, :size], y[row] = one.start.noised(header, frac[row, :size], y[row])
        coord[:, row, :size] = rng.standard_normal((steps, size, 3))
        lattice[:, row] = rng.standard_normal((steps, 6))
        if one.start is not None:
            coord[:, row, :size][:, one.start.held] = 0.0
        uniform[:, :, row, :size] = rng.random((2, steps, size), dtype=np.float32)
    tensors = [
        torch.as_tensor(x, dtype=torch.float32, device=device)
        for x in (frac, y, coord, lattice, *uniform)
    ]
    return Draws(*tensors)


def _start(template: Template | None, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where coordinates (n, 3) start: anywhere, or anywhere that the template allows."""
    if template is None:
        return uniform
    # A multiple of the projector that is whole wraps a cube of numbers evenly around the cell.
    return template.place(WHOLE * uniform)


def sample_to_bundle(
    experiment: Experiment,
    checkpoint: Path,
    out_path: Path,
    *,
    resume: bool = False,
    progress: bool = True,
    shard: Shard | None = None,
    executor: Executor | None = None,
) -> None:
    """Sample ``experiment.sample.n`` crystals into a bundle, written batch by batch.

    Columns: ``target_<label>`` for each target. A chain that failed is a counted reject. With
    ``resume`` the batches already in the bundle are kept; with ``shard`` only its batches are made.
    With an ``executor`` each batch is a task of its workers; else all are drawn in this process.

    Raises:
        UsageError: the model can't do what is asked, or the bundle was made with other settings.
    """
    config = experiment.sample
    model, header = load_checkpoint(checkpoint, resolve_device(config.device))
    library = library_of(config, checkpoint)
    check_request(config, header, str(checkpoint), library)
    provenance = _provenance(experiment, checkpoint)
    indices, size = range(config.n), config.batch_size
    batches = [(k, indices[k * size : (k + 1) * size]) for k in range(-(-config.n // size))]
    if shard is not None:
        provenance[SHARD] = str(shard)
        batches = list(shard.own(batches))
    with BundleWriter(out_path, provenance, resume=resume) as writer:
        done = writer.n_written + writer.n_rejected
        total = sum(len(batch) for _, batch in batches)
        with progress_bar(total, title="sample", done=done, delay=0, show=progress) as bar:
            left = batches[-(-done // size) :]
            stream: Iterator[Bundle]
            if executor is None:
                on_step = _Steps(bar, config.steps)
                task = partial(_draw, (model, header, library), experiment, on_step=on_step)
                stream = map(task, (batch for _, batch in left))
            else:
                there = partial(_draw_there, checkpoint, experiment)
                stream = map_ordered(executor, there, (batch for _, batch in left))
            for (number, batch), drawn in zip(left, stream, strict=True):
                if shard is not None:
                    drawn = marked(drawn, number)
                writer.append(drawn)
                if executor is not None:
                    bar.update(len(batch))


class _Steps:
    """Moves a bar of structures on as their steps are done."""

    def __init__(self, bar: tqdm[Any], steps: int) -> None:
        """Of a bar, and the steps that a structure takes."""
        self._bar, self._steps, self._done = bar, steps, bar.n * steps

    def __call__(self, n: int) -> None:
        """Count n steps, one each of n structures."""
        self._done += n
        self._bar.update(self._done // self._steps - self._bar.n)


def _draw(
    loaded: tuple[Denoiser, Header, TemplateLibrary | None],
    experiment: Experiment,
    batch: Sequence[int],
    on_step: Callable[[int], None] = lambda n: None,
) -> Bundle:
    """The samples of these numbers."""
    model, header, library = loaded
    plans = [plan(i, experiment.seed, experiment.sample, header, library) for i in batch]
    crystals = sample(model, header, experiment.sample, plans, on_step=on_step)
    return _as_bundle(crystals, plans, header, experiment.name)


def _draw_there(checkpoint: Path, experiment: Experiment, batch: Sequence[int]) -> Bundle:
    """`_draw` in a worker."""
    config = experiment.sample
    loaded = (*_loaded(checkpoint, config.device), library_of(config, checkpoint))
    return _draw(loaded, experiment, batch)


@lru_cache(maxsize=1)
def _loaded(checkpoint: Path, device: str) -> tuple[Denoiser, Header]:
    return load_checkpoint(checkpoint, resolve_device(device))


def sample_in_memory(experiment: Experiment, checkpoint: Path, *, progress: bool = False) -> Bundle:
    """What `sample_to_bundle` would write.

    Raises:
        UsageError: the model can't do what is asked.
    """
    config = experiment.sample
    model, header = load_checkpoint(checkpoint, resolve_device(config.device))
    library = library_of(config, checkpoint)
    check_request(config, header, str(checkpoint), library)
    parts = []
    with progress_bar(config.n, title="sample", delay=0, show=progress) as bar:
        on_step = _Steps(bar, config.steps)
        for first in range(0, config.n, config.batch_size):
            batch = range(first, min(first + config.batch_size, config.n))
            parts.append(_draw((model, header, library), experiment, batch, on_step))
    drawn = Bundle.concatenate(parts)
    return replace(drawn, provenance=_provenance(experiment, checkpoint))


def _provenance(experiment: Experiment, checkpoint: Path) -> dict[str, str]:
    return {
        "experiment": dump_experiment(experiment),
        "pigen": __version__,
        "torch": str(torch.__version__),
        "seed": str(experiment.seed),
        "checkpoint": f"{checkpoint.name} sha256 {checkpoint_hash(checkpoint)}",
    }


def _names(indices: Iterable[int], name: str) -> tuple[str, ...]:
    return tuple(f"{name}-{index:06d}" for index in indices)


def _as_bundle(crystals: Crystals, plans: list[Plan], header: Header, name: str) -> Bundle:
    ids = np.array(_names((one.index for one in plans), name), dtype=object)
    failed = crystals.n_atoms == 0
    targets = np.stack([one.targets for one in plans])
    columns = {
        f"target_{label}": Column(targets[:, place], unit, "asked of the model")
        for place, (label, unit) in enumerate(
            zip(header.model.labels, header.spec.label_unit, strict=True)
        )
        if not np.isnan(targets[:, place]).all()
    }
    bundle = Bundle(crystals=crystals, ids=ids, columns=columns)
    rejects = tuple(Reject(str(i), "the sampler ended in NaN or infinity") for i in ids[failed])
    return replace(bundle.select(~failed), rejects=rejects)
