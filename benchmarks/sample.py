"""What steps, guidance and noise buy: rates of the filters, network calls and samples per second.

    python benchmarks/sample.py [--checkpoint pigen] [--n 200] [--seed 0]
        [--only training] [--unguided]

Every line samples the same seeds for the targets M_LED = 9 and C = 0.7. The baseline, the first
line, is the posterior sampler (noise 1), 250 steps, plain conditioning; times, in CPU seconds of
this process, are ratios to it. Lines with space groups (training) compute one atom of each orbit;
one of them computes all atoms, for comparison.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from pigen.bundle import Bundle
from pigen.config import FilterConfig, SampleConfig
from pigen.crystal.crystals import Crystals
from pigen.model.checkpoint import Header, load_checkpoint
from pigen.model.diffusion.state import Noised
from pigen.model.network import Denoiser
from pigen.model.nodes import Nodes
from pigen.model.request import library_of, plan
from pigen.model.sample import sample
from pigen.runtime.resources import find_checkpoint
from pigen.screening.criteria import paper_criteria
from pigen.screening.filter import FilterStage


class Setting(NamedTuple):
    """A line of the table.

    With ``every_atom`` the network computes all atoms of crystals with symmetry, not one of each
    orbit.
    """

    steps: int
    noise: float
    guidance: float
    between: tuple[float, float]
    sharpness: float
    symmetry: str = "free"
    every_atom: bool = False


SETTINGS = [
    Setting(250, 1.0, 0.0, (0.0, 1.0), 1.0),
    Setting(73, 0.0, 2.0, (0.5, 1.0), 1.5),
    Setting(73, 0.0, 2.0, (0.5, 1.0), 1.0),
    Setting(50, 0.0, 2.0, (0.0, 1.0), 1.5),
    Setting(73, 0.0, 2.0, (0.0, 0.5), 1.5),
    Setting(73, 0.0, 1.0, (0.5, 1.0), 1.5),
    Setting(73, 0.0, 4.0, (0.5, 1.0), 1.5),
    Setting(100, 0.0, 0.0, (0.0, 1.0), 1.5),
    Setting(36, 0.0, 2.0, (0.5, 1.0), 1.5),
    Setting(146, 0.0, 2.0, (0.5, 1.0), 1.5),
    Setting(730, 0.0, 2.0, (0.5, 1.0), 1.5),
    Setting(90, 0.0, 0.75, (0.5, 1.0), 4.0, "training", every_atom=True),
    Setting(90, 0.0, 0.75, (0.5, 1.0), 4.0, "training"),
    Setting(12, 0.0, 0.75, (0.5, 1.0), 4.0, "training"),
    Setting(24, 0.0, 0.75, (0.5, 1.0), 4.0, "training"),
    Setting(200, 0.0, 0.75, (0.5, 1.0), 4.0, "training"),
]
CHUNK = 64


def drawn(
    model: Denoiser, header: Header, config: SampleConfig, seed: int, checkpoint: Path
) -> Crystals:
    parts = []
    library = library_of(config, checkpoint)
    for first in range(0, config.n, CHUNK):
        indices = range(first, min(first + CHUNK, config.n))
        parts.append(
            sample(model, header, config, [plan(i, seed, config, header, library) for i in indices])
        )
    return Crystals.concatenate(parts)


ONE_OF_EACH_ORBIT = Nodes.of


def every_atom(noised: Noised) -> Nodes:
    """Nodes of a batch with symmetry: all of its atoms."""
    nodes = ONE_OF_EACH_ORBIT(replace(noised, symmetry=None))
    symmetry = noised.symmetry
    return replace(nodes, allowed=None if symmetry is None else symmetry.allowed(noised.lattice))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="pigen")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("free", "training"), help="lines of one symmetry")
    parser.add_argument("--unguided", action="store_true", help="no targets")
    args = parser.parse_args()
    checkpoint = find_checkpoint(args.checkpoint)
    model, header = load_checkpoint(checkpoint, torch.device("cpu"))
    criteria = paper_criteria(FilterConfig())
    baseline = 0.0
    settings = "| symmetry | steps | η | g | at t | sharpness | calls "
    print(f"{settings}| samples/s | time | SPP | C | M_LED | A–D |")
    print("|---" * 13 + "|")
    for one in SETTINGS:
        if args.only not in (None, one.symmetry):
            continue
        config = SampleConfig(
            n=args.n,
            steps=one.steps,
            noise=one.noise,
            guidance=one.guidance,
            guidance_interval=one.between,
            sharpness=one.sharpness,
            symmetry=one.symmetry,
            targets={} if args.unguided else {"mled": 9.0, "c": 0.7},
        )
        nodes = every_atom if one.every_atom else ONE_OF_EACH_ORBIT
        Nodes.of = nodes  # type: ignore[method-assign, assignment]
        calls = 0

        def count(module: object, args: tuple[Noised, ...]) -> None:
            nonlocal calls
            calls += len(args[0].t)

        hook = model.register_forward_pre_hook(count)
        start = time.process_time()
        crystals = drawn(model, header, config, args.seed, checkpoint)
        seconds = time.process_time() - start
        hook.remove()
        baseline = baseline or seconds
        ids = np.array([str(i) for i in range(len(crystals))], dtype=object)
        stage = FilterStage(criteria)
        list(stage.over([Bundle(crystals=crystals, ids=ids)]))
        funnel = stage.funnel
        alone = {c.name: funnel.alone(c) for c in criteria}
        rates = [alone[name] for name in ("spp", "c", "mled")]
        last = [rate for c in criteria if (rate := funnel.sequence(c)) is not None][-1]
        shown = " | ".join(str(rate) for rate in (*rates, last))
        print(
            f"| {one.symmetry}{', all atoms' if one.every_atom else ''} | {one.steps} "
            f"| {one.noise:g} | {one.guidance:g} | {one.between[0]:g} … {one.between[1]:g} "
            f"| {one.sharpness:g} | {calls / args.n:.0f} | {args.n / seconds:.2f} "
            f"| {seconds / baseline:.2f}× | {shown} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
