"""What people see of a training beside its bar: lines in a log, and its losses as a picture."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from pigen.config import LossConfig
from pigen.runtime.files import write_atomically

EVERY = 30.0
"""s between two lines of a log."""
_DPI = 150


class Log:
    """A line of progress now and then, for a stderr that is no terminal."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Lines go to ``say``; the first one comes with the first step."""
        self._say, self._last = say, 0.0

    def step(self, step: int, n_steps: int, epoch: float, loss: float, rate: float) -> None:
        """Say where training is, if it is time or it is over.

        Args:
            step, n_steps: done, and planned.
            epoch: passes over the training set, done.
            loss: mean of the total loss since the epoch began.
            rate: steps/s.
        """
        now = time.monotonic()
        if now - self._last < EVERY and step < n_steps:
            return
        self._last = now
        left = timedelta(seconds=round((n_steps - step) / max(rate, 1e-9)))
        self._say(
            f"train: step {step} of {n_steps}, epoch {epoch:.1f}, loss {loss:.3f}, {left} left"
        )


def draw_losses(rows: Sequence[Mapping[str, float]], weights: LossConfig, path: Path) -> None:
    """Draw the losses of each epoch, of training and validation, as a PNG.

    Args:
        rows: of ``metrics.csv``, one an epoch.
        weights: of the components in the total.
        path: of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    parts = [name for name in asdict(weights) if f"train_{name}" in rows[0]]
    epochs = [row["step"] * rows[-1]["epoch"] / rows[-1]["step"] for row in rows]
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    total, components = figure.subplots(1, 2)
    total.plot(epochs, [row["train_total"] for row in rows], label="training")
    if f"val_{parts[0]}" in rows[0]:
        summed = [sum(asdict(weights)[name] * row[f"val_{name}"] for name in parts) for row in rows]
        total.plot(epochs, summed, label="validation")
    kind = "val" if f"val_{parts[0]}" in rows[0] else "train"
    for name in parts:
        components.plot(epochs, [row[f"{kind}_{name}"] for row in rows], label=name)
    total.set(xlabel="epoch", ylabel="loss, weighted sum")
    components.set(
        xlabel="epoch",
        ylabel=f"loss of {'validation' if kind == 'val' else 'training'}",
        yscale="log",
    )
    for axes in (total, components):
        axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    write_atomically(path, buffer.getvalue())
