"""The folder of a run: what is in it, and when it may be continued or replaced."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from pigen.bundle import bundle_info
from pigen.errors import UsageError
from pigen.experiment import Experiment, dump_experiment, load_experiment
from pigen.experiment.load import differing_keys

_FILES = (
    *("samples.h5", "evaluated.h5", "survivors.h5", "relaxed.h5"),
    *("known.txt.gz", "table.json", "table.md"),
)


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run. Make one with `open`."""

    path: Path

    @classmethod
    def open(cls, path: Path, experiment: Experiment, *, resume: bool, force: bool) -> RunFolder:
        """Claim a folder for an experiment and write the resolved experiment into it.

        Raises:
            UsageError: the path is no folder, or holds something and neither ``resume`` nor
                ``force`` applies: with ``resume`` it must hold the same experiment, with ``force``
                some run. Nothing else is ever removed.
        """
        folder = cls(path)
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is not a folder")
        if path.is_dir() and any(path.iterdir()):
            if not folder.experiment.exists():
                raise UsageError(f"{path} is not empty and not the folder of a run")
            if force:
                folder._clear()
            elif not resume:
                raise UsageError(f"{path} holds a run; --resume continues it, --force starts over")
            else:
                folder._check_same(experiment)
                return folder
        path.mkdir(parents=True, exist_ok=True)
        folder.write("experiment.toml", dump_experiment(experiment))
        return folder

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
        part = self.path / f".{name}.part"
        part.write_text(text, encoding="utf-8")
        part.replace(self.path / name)

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


def is_complete(path: Path) -> bool:
    """Whether a stage has written its bundle to the end."""
    return path.exists() and bundle_info(path).complete


def sha256_of(path: Path) -> str:
    """First 16 digits of the hash of a file."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()[:16]
