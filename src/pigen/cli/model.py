"""Verbs that make a model and use it: train, sample."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pigen.cli.chemistry import chemistry_options, chemistry_settings, known_option
from pigen.cli.common import check_output, output_of, say, show_result
from pigen.cli.options import (
    batch_executor_option,
    bundle_shard_option,
    experiment_options,
    folder_as,
    output_as,
    resume_option,
    writing_options,
)
from pigen.runtime.errors import UsageError

if TYPE_CHECKING:  # imported when a verb runs
    from pigen.runtime.executor import Where
    from pigen.runtime.shard import Shard


@click.command()
@experiment_options
@folder_as("Folder of the model; models/NAME of the experiment by default.")
@click.option(
    "--init-from",
    metavar="FILE",
    help="Start from a checkpoint, a file or a shipped one, not from random weights.",
)
@resume_option
def train(
    experiment: str,
    out: Path | None,
    init_from: str | None,
    resume: bool,
    overrides: tuple[str, ...],
) -> None:
    """Train a model on labelled structures.

    EXPERIMENT is a TOML file or the name of a shipped one. The folder gets model.safetensors,
    metrics.csv with the losses of each epoch, and the state that --resume needs; all are written
    every few minutes and on Ctrl-C, and the picture losses.png at the end. Where no validation set
    is given, a tenth of the structures is held out for it (data.val_share). Processes that torchrun
    starts train together, as one would.

    \b
    Example:
        pigen label train.csv.gz -o train.h5
        pigen train pigen_mled_c --set 'data.train=["train.h5"]' --out models/mine
        pigen train my_density.toml --init-from pigen
    """
    from pigen.config import load_experiment
    from pigen.runtime.distributed import is_first, one_voice

    if init_from is not None:
        overrides = (*overrides, f"train.init_from={json.dumps(init_from)}")
    with one_voice():
        loaded = load_experiment(experiment, overrides)
        out = out or Path("models") / loaded.name

        from pigen.model.train import (
            train as train_model,
        )  # takes seconds: a wrong setting is told first

        path = train_model(loaded, out, resume=resume, say=say)
    if is_first():
        click.echo(f"{path}")


@click.command()
@experiment_options
@output_as("Bundle file; NAME.h5 of the experiment by default.", required=False)
@click.option(
    "--checkpoint",
    metavar="FILE",
    help="Checkpoint to sample from, instead of the one the experiment names.",
)
@click.option("--n", type=click.IntRange(1), help="How many.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="LABEL=VALUE",
    help="What to guide to, e.g. c=0.65; in place of the experiment's targets. Repeatable.",
)
@chemistry_options
@known_option
@bundle_shard_option
@batch_executor_option
@resume_option
@writing_options
def sample(
    experiment: str,
    output: Path | None,
    checkpoint: str | None,
    n: int | None,
    targets: tuple[str, ...],
    known: Path | None,
    shard: Shard | None,
    where: Where | None,
    resume: bool,
    force: bool,
    as_json: bool,
    overrides: tuple[str, ...],
    **chemistry: Any,
) -> None:
    """Draw new crystals from a trained model.

    EXPERIMENT is a TOML file or the name of a shipped one. Crystals are written in batches as they
    come; Ctrl-C leaves a readable bundle and --resume completes it. Sample i depends on the seed
    and on i alone. What is asked of compositions steers the model; a sample that misses it is drawn
    again. --known: compositions that samples must not have.

    \b
    Examples:
        pigen sample pigen_mled_c --n 500 --set seed=1 -o candidates.h5
        pigen sample pigen_c --n 40 --target c=0.65 --elements Li \\
            --elements-one-of O,S --n-elements 3:4 --charge-balanced -o new.h5
    """
    from pigen.bundle import bundle_info
    from pigen.config import load_experiment
    from pigen.config.dump import format_value
    from pigen.model.sample import chains_of, sample_to_bundle
    from pigen.runtime.executor import open_executor
    from pigen.runtime.resources import find_checkpoint

    given: dict[str, Any] = {"n": n, "checkpoint": checkpoint, "known": known and str(known)}
    given["targets"] = _targets(targets) if targets else None
    asked = chemistry_settings(chemistry) | {k: v for k, v in given.items() if v is not None}
    own = [f"sample.{key}={format_value(value)}" for key, value in asked.items()]
    loaded = load_experiment(experiment, (*own, *overrides))
    if loaded.generator != "model":
        raise UsageError(f"{experiment} uses no model; `pigen run` makes its structures")
    if not loaded.sample.checkpoint:
        raise UsageError(
            f"{experiment} names no checkpoint: give --checkpoint FILE (made by `pigen train`)"
        )
    output = output_of(output or Path(f"{loaded.name}.h5"), shard)
    check_output(output, (), force=force, resume=resume)
    found = find_checkpoint(loaded.sample.checkpoint)
    with open_executor(where) if where else nullcontext() as executor:
        sample_to_bundle(loaded, found, output, resume=resume, shard=shard, executor=executor)
    info, drawn = bundle_info(output), chains_of(output)
    counts: dict[str, Any] = {"crystals": info.n_crystals, "rejects": info.n_rejects}
    lines = [f"{output}: {info.n_crystals} crystals, {info.n_rejects} failed"]
    if drawn is not None:
        counts["drawn"] = drawn
        asked_for = info.n_crystals + info.n_rejects
        lines.append(f"asked {asked_for}, drawn {drawn}, kept {info.n_crystals}")
    show_result(as_json, {**counts, "output": str(output)}, *lines)


def _targets(texts: Sequence[str]) -> dict[str, float | list[float]]:
    """Targets by label, from texts like ``c=0.65`` and ``c=0.6:0.7``."""
    found: dict[str, float | list[float]] = {}
    for text in texts:
        label, equals, value = text.partition("=")
        try:
            numbers = [float(part) for part in value.split(":")]
        except ValueError:
            numbers = []
        if not (equals and label.strip() and 0 < len(numbers) < 3):
            raise UsageError(f"--target {text}: expected LABEL=VALUE or LABEL=LO:HI")
        found[label.strip()] = numbers if len(numbers) == 2 else numbers[0]
    return found
