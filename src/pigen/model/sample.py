"""Sampling crystals from a trained model, each a function of (seed, index) alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from pigen import __version__
from pigen.bundle import Bundle, BundleWriter, Column, Reject, iter_bundle
from pigen.bundle.marks import marked
from pigen.config import Experiment, SampleConfig, dump_experiment
from pigen.crystal.cells import niggli
from pigen.crystal.crystals import Crystals
from pigen.crystal.template_library import TemplateLibrary
from pigen.crystal.templates import WHOLE, Template
from pigen.descriptors.chemistry import compositions
from pigen.model.asked import warn_of_far_targets
from pigen.model.checkpoint import Header, checkpoint_hash, load_checkpoint
from pigen.model.diffusion.invariance import Invariance
from pigen.model.diffusion.reverse import Draws, reverse_chain
from pigen.model.diffusion.types import Steer
from pigen.model.guidance import guided
from pigen.model.network import Denoiser
from pigen.model.request import Plan, check_request, library_of, plan
from pigen.model.steering import Steering, Wanted, steered, wanted_of
from pigen.runtime.device import Halving, resolve_device
from pigen.runtime.executor import map_ordered
from pigen.runtime.progress import progress_bar
from pigen.runtime.shard import SHARD, Shard

if TYPE_CHECKING:
    from tqdm import tqdm

MAX_DRAWS = 5
"""Chains run for a sample before it is given up, if its composition is not as asked."""
DRAWS = "draws"
"""Column that counts them."""
MISSED = f"composition not as asked in {MAX_DRAWS} draws"
"""Why such a sample is a reject."""
_GROUP = 32
"""Samples per network call; a batch is sorted by what the network computes of each, so that little
of it is padding."""


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
    order = np.lexsort([[p.n_atoms for p in plans], [p.n_nodes for p in plans]])
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
    wanted = wanted_of(config)
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
        steer=None if wanted is None else _steer(wanted, header, plans),
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


def _steer(wanted: Wanted, header: Header, plans: list[Plan]) -> Steer:
    """Draws the elements of these samples, each from a random stream of its own."""
    elements = header.spec.elements
    streams = [deepcopy(one.rng).spawn(1)[0] for one in plans]
    return partial(
        steered,
        [
            Steering(wanted, elements, one.template, one.slots, stream)
            for one, stream in zip(plans, streams, strict=True)
        ],
    )


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
    warn_of_far_targets(config, header)
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


def chains_of(path: Path) -> int | None:
    """Chains run for the samples of a bundle; None where nothing was asked of compositions."""
    total = 0
    for chunk in iter_bundle(path):
        missed = sum(one.reason.startswith(MISSED) for one in chunk.rejects)
        if DRAWS in chunk.columns:
            total += int(chunk.columns[DRAWS].values.sum())
        elif len(chunk) or not missed:
            return None
        total += MAX_DRAWS * missed + len(chunk.rejects) - missed
    return total


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
    config = experiment.sample

    def planned(rows: Iterable[int], attempt: int) -> list[Plan]:
        return [plan(batch[k], experiment.seed, config, header, library, attempt) for k in rows]

    plans = planned(range(len(batch)), 0)
    crystals = sample(model, header, config, plans, on_step=on_step)
    wanted = wanted_of(config)
    if wanted is None:
        return _as_bundle(crystals, plans, header, experiment.name)
    draws = np.ones(len(batch), dtype=np.int64)
    failures = _failures(crystals, wanted)
    for attempt in range(1, MAX_DRAWS):
        again = np.flatnonzero(failures != "")
        if not len(again):
            break
        others = planned(again.tolist(), attempt)
        redrawn = sample(model, header, config, others)
        crystals = crystals.replaced(again, redrawn)
        for k, one in zip(again.tolist(), others, strict=True):
            plans[k] = one
        draws[again] += 1
        failures = _failures(crystals, wanted)
    return _as_bundle(crystals, plans, header, experiment.name, draws, failures)


def _failures(crystals: Crystals, wanted: Wanted) -> NDArray[np.object_]:
    """What each crystal fails of what is asked, "" where nothing and where there is no crystal."""
    found = [wanted.failure(counts) if counts else "" for counts in compositions(crystals)]
    return np.array(found, dtype=object)


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
    warn_of_far_targets(config, header)
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


def _as_bundle(
    crystals: Crystals,
    plans: list[Plan],
    header: Header,
    name: str,
    draws: NDArray[np.int64] | None = None,
    failures: NDArray[np.object_] | None = None,
) -> Bundle:
    """The samples; those whose chain failed, or that are not as asked, are rejects."""
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
    if draws is not None:
        columns[DRAWS] = Column(draws, "", "chains run until the composition was as asked")
    reasons = np.where(failed, "the sampler ended in NaN or infinity", "")
    if failures is not None:
        missed = [f"{MISSED}: {one}" if one else "" for one in failures]
        reasons = np.where(failed, reasons, missed)
    bundle = Bundle(crystals=crystals, ids=ids, columns=columns)
    rejects = tuple(
        Reject(str(i), str(reason)) for i, reason in zip(ids, reasons, strict=True) if reason
    )
    return replace(bundle.select(reasons == ""), rejects=rejects)
