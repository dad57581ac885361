"""Stamps: what a stage was made from, so that it is done again only when that has changed.

A stamp is written twice: before the work, so that a stage that was killed is continued only with
the inputs it began with, and, as finished, after it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pigen.runtime.files import parse_json, read_text, write_atomically


@dataclass(frozen=True)
class Stamp:
    """The stamp of one stage.

    Attributes:
        path: of its file.
        inputs: what the stage is to be made from: hashes and settings by name.
        outputs: what it leaves; all must be there for it to count as finished.
    """

    path: Path
    inputs: Mapping[str, str]
    outputs: Sequence[Path]

    @property
    def fresh(self) -> bool:
        """Whether the stage is finished, and made from these inputs."""
        found = self._read()
        return (
            found.get("finished") is True
            and found.get("inputs") == dict(self.inputs)
            and all(path.exists() for path in self.outputs)
        )

    def changed(self) -> frozenset[str]:
        """Inputs that differ from those of the work that is there; none where there is none."""
        before = self._read().get("inputs")
        if not isinstance(before, dict):
            return frozenset()
        keys = before.keys() | self.inputs.keys()
        return frozenset(key for key in keys if before.get(key) != self.inputs.get(key))

    @contextmanager
    def work(self) -> Iterator[None]:
        """Around the work: says before it what it is made from, and after it that it is done.

        What was made from anything else must be gone.
        """
        self._write({"inputs": dict(self.inputs), "finished": False})
        wall, cpu = time.monotonic(), time.process_time()
        yield
        seconds = {"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu}
        self._write({"inputs": dict(self.inputs), "finished": True, "seconds": seconds})

    def seconds(self) -> dict[str, float]:
        """How long the work took, by the clock and of its process; empty if it is not done."""
        found = self._read().get("seconds")
        if not isinstance(found, dict):
            return {}
        numbers = {str(k): v for k, v in found.items() if isinstance(v, int | float)}
        return {key: float(v) for key, v in numbers.items() if abs(v) < 2**63}

    def _read(self) -> dict[str, object]:
        try:
            content = parse_json(read_text(self.path))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _write(self, content: Mapping[str, object]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps(content, indent=1) + "\n")
