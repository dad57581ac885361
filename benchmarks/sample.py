"""What steps, guidance and noise buy: rates of the filters, network calls and samples per second.

    python benchmarks/sample.py [--checkpoint pigen] [--n 200] [--seed 0]

Every line samples the same seeds for the targets M_LED = 9 and C = 0.7. The baseline, the first
line, is the posterior sampler (noise 1), 250 steps, plain conditioning; times, in CPU seconds of
this process, are ratios to it.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from pigen.bundle import Bundle
from pigen.config import FilterConfig, SampleConfig
from pigen.crystal.crystals import Crystals
from pigen.model.checkpoint import Header, find_checkpoint, load_checkpoint
from pigen.model.diffusion.state import Noised
from pigen.model.network import Denoiser
from pigen.model.request import plan
from pigen.model.sample import sample
from pigen.screening.criteria import paper_criteria
from pigen.screening.filter import FilterStage

SETTINGS = [  # steps, noise, guidance, between times, sharpness
    (250, 1.0, 0.0, (0.0, 1.0), 1.0),
    (66, 0.0, 2.0, (0.5, 1.0), 1.5),
    (66, 0.0, 2.0, (0.5, 1.0), 1.0),
    (50, 0.0, 2.0, (0.0, 1.0), 1.5),
    (66, 0.0, 2.0, (0.0, 0.5), 1.5),
    (66, 0.0, 1.0, (0.5, 1.0), 1.5),
    (66, 0.0, 4.0, (0.5, 1.0), 1.5),
    (100, 0.0, 0.0, (0.0, 1.0), 1.5),
    (33, 0.0, 2.0, (0.5, 1.0), 1.5),
    (133, 0.0, 2.0, (0.5, 1.0), 1.5),
    (667, 0.0, 2.0, (0.5, 1.0), 1.5),
]
CHUNK = 64


def drawn(model: Denoiser, header: Header, config: SampleConfig, seed: int) -> Crystals:
    parts = []
    for first in range(0, config.n, CHUNK):
        indices = range(first, min(first + CHUNK, config.n))
        parts.append(
            sample(model, header, config, [plan(i, seed, config, header) for i in indices])
        )
    return Crystals.concatenate(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="pigen")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model, header = load_checkpoint(find_checkpoint(args.checkpoint), torch.device("cpu"))
    criteria = paper_criteria(FilterConfig())
    baseline = 0.0
    settings = "| steps | η | g | at t | sharpness | calls "
    print(f"{settings}| samples/s | time | SPP | C | M_LED | A–D |")
    print("|---" * 12 + "|")
    for steps, noise, guidance, interval, sharpness in SETTINGS:
        config = SampleConfig(
            n=args.n,
            steps=steps,
            noise=noise,
            guidance=guidance,
            guidance_interval=interval,
            sharpness=sharpness,
            targets={"mled": 9.0, "c": 0.7},
        )
        calls = 0

        def count(module: object, args: tuple[Noised, ...]) -> None:
            nonlocal calls
            calls += len(args[0].t)

        hook = model.register_forward_pre_hook(count)
        start = time.process_time()
        crystals = drawn(model, header, config, args.seed)
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
            f"| {steps} | {noise:g} | {guidance:g} | {interval[0]:g} … {interval[1]:g} "
            f"| {sharpness:g} | {calls / args.n:.0f} | {args.n / seconds:.2f} "
            f"| {seconds / baseline:.2f}× | {shown} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
