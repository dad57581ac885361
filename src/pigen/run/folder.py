"""The folder of a run: what is in it, and when it may be continued or replaced."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pigen.bundle import bundle_info
from pigen.config import Experiment, dump_experiment, load_experiment
from pigen.config.load import differing_keys
from pigen.runtime.errors import UsageError
from pigen.runtime.files import check_writable, part_of, write_atomically
from pigen.runtime.lock import Lock, lock_of

_FILES = (
    *("samples.h5", "evaluated.h5", "survivors.h5", "relaxed.h5"),
    *("known.txt.gz", "table.json", "table.md"),
)


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run; `open` claims them for writing."""

    path: Path

    @classmethod
    @contextmanager
    def open(
        cls, path: Path, experiment: Experiment, *, resume: bool, force: bool
    ) -> Iterator[RunFolder]:
        """Claim a folder for an experiment, with the resolved experiment written into it.

        Raises:
            UsageError: the path is no folder, or one that can't be written in, or it holds
                something and neither ``resume`` nor ``force`` applies: with ``resume`` it must hold
                the same experiment, with ``force`` some run. Nothing else is ever removed.
            PigenError: another process runs in it (names it).
        """
        folder = cls(path)
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is not a folder")
        check_writable(path)
        if path.is_dir() and not folder.experiment.exists() and folder._holds_something():
            raise UsageError(
                f"{path} is not empty and not the folder of a run; choose another with --out"
            )
        path.mkdir(parents=True, exist_ok=True)
        with Lock(folder.experiment):
            if folder.experiment.exists() and not force:
                if not resume:
                    raise UsageError(
                        f"{path} holds a run; --resume continues it, --force starts over"
                    )
                folder._check_same(experiment)
            else:
                folder._clear()
                folder.write("experiment.toml", dump_experiment(experiment))
            yield folder

    def _holds_something(self) -> bool:
        """Whether there is more than what a run that was killed as it began leaves."""
        own = {part_of(self.experiment), lock_of(self.experiment)}
        return any(path not in own for path in self.path.iterdir())

    def _check_same(self, experiment: Experiment) -> None:
        other = load_experiment(self.experiment, check_files=False)
        changed = differing_keys(other, experiment)
        if changed:
            raise UsageError(
                f"{self.path} holds a run with another {', '.join(changed)}; "
                "choose another folder, or --force to start over"
            )

    def _clear(self) -> None:
        for name in _FILES:
            (self.path / name).unlink(missing_ok=True)
        if self.train.is_dir():
            shutil.rmtree(self.train)

    def write(self, name: str, text: str) -> None:
        """Write a text file, whole or not at all."""
        write_atomically(self.path / name, text)

    @property
    def experiment(self) -> Path:
        """The resolved experiment."""
        return self.path / "experiment.toml"

    @property
    def train(self) -> Path:
        """Folder of the model, where one is trained."""
        return self.path / "train"

    @property
    def samples(self) -> Path:
        """Bundle of every structure generated."""
        return self.path / "samples.h5"

    @property
    def evaluated(self) -> Path:
        """The same with descriptors and verdicts."""
        return self.path / "evaluated.h5"

    @property
    def survivors(self) -> Path:
        """Bundle of those that pass A–D in sequence."""
        return self.path / "survivors.h5"

    @property
    def relaxed(self) -> Path:
        """Bundle of the survivors, relaxed, with their energies above the hull."""
        return self.path / "relaxed.h5"

    @property
    def known(self) -> Path:
        """Compositions of the training set, where the experiment brings its own."""
        return self.path / "known.txt.gz"


def kept(path: Path) -> list[str]:
    """Names of the files that a run has left in its folder."""
    return [name for name in _FILES if (path / name).exists()]


def is_complete(path: Path) -> bool:
    """Whether a stage has written its bundle to the end."""
    return path.exists() and bundle_info(path).complete
