"""pigen data fetch against servers of this machine: good, slow, wrong, absent."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner
from known_structures import known_structures

from pigen.cli import main
from pigen.io import fetch as fetching
from pigen.io import read
from pigen.io.fetch import DATASETS, Dataset, fetch
from pigen.runtime.errors import PigenError
from pigen.runtime.lock import Lock
from pigen.screening.label import label

TRAIN = "material_id,energy_above_hull,cif\n" + "mp-1,0.01,nothing\n" * 40_000


def archive_bytes() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:  # stored: a body of many blocks
        archive.writestr("small/train.csv", TRAIN)
        archive.writestr("small/val.csv", "material_id,cif\n")
        archive.writestr("small/ref.csv", "not wanted")
    return made.getvalue()


DATA = archive_bytes()


@dataclass
class Answers:
    """What the server does: a body, ranges or none, how much before it hangs up, a status."""

    body: bytes = DATA
    ranges: bool = True
    hang_up_after: list[int] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answers: Answers = cast(Any, self.server).answers
        wanted = self.headers.get("Range")
        answers.asked.append(wanted)
        if answers.status and (status := answers.status.pop(0)) != 200:
            self.send_error(status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and answers.ranges else 0
        body = answers.body[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(answers.body) - 1}/*")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if answers.hang_up_after:
            body = body[: answers.hang_up_after.pop(0)]
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_WAIT_S", 0.0)
    monkeypatch.setattr(fetching, "_BLOCK", 2**16)


@pytest.fixture
def server() -> Iterator[tuple[Answers, Dataset]]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        answers = Answers()
        cast(Any, served).answers = answers
        threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()
        yield answers, dataset_at(served.server_port)
        served.shutdown()


def dataset_at(port: int) -> Dataset:
    return Dataset(
        name="small",
        what="A small one",
        url=f"http://127.0.0.1:{port}/small.zip",
        size=len(DATA),
        sha256=hashlib.sha256(DATA).hexdigest(),
        licence="CC BY 4.0",
        cite="nobody",
    )


def test_tables_arrive(server: tuple[Answers, Dataset], tmp_path: Path) -> None:
    answers, dataset = server
    seen: list[int] = []
    tables = fetch(dataset, tmp_path / "a" / "b", seen.append)
    assert [table.name for table in tables] == ["train.csv", "val.csv"]
    assert tables[0].read_text() == TRAIN
    assert sorted(os.listdir(tmp_path / "a" / "b")) == ["small.zip", "train.csv", "val.csv"]
    assert seen == sorted(seen)
    assert seen[-1] == len(DATA)
    assert len(seen) > 5
    tables[1].unlink()
    fetch(dataset, tmp_path / "a" / "b")
    assert tables[1].exists()
    assert answers.asked == [None]  # what is there is not asked for again


def test_a_connection_that_drops_is_taken_up_where_it_ended(
    server: tuple[Answers, Dataset], tmp_path: Path
) -> None:
    answers, dataset = server
    answers.hang_up_after = [100_000, 200_000]
    fetch(dataset, tmp_path)
    assert answers.asked[0] is None
    starts = [int(str(asked).removeprefix("bytes=").rstrip("-")) for asked in answers.asked[1:]]
    assert len(starts) == 2
    assert 0 < starts[0] <= 100_000 < starts[1] <= 300_000


def test_an_earlier_download_is_gone_on_with(
    server: tuple[Answers, Dataset], tmp_path: Path
) -> None:
    answers, dataset = server
    (tmp_path / "small.zip.part").write_bytes(DATA[:1000])
    fetch(dataset, tmp_path)
    assert answers.asked == ["bytes=1000-"]
    assert not (tmp_path / "small.zip.part").exists()


@pytest.mark.parametrize("part", [b"x" * 1000, b"x" * len(DATA), b"x" * (len(DATA) + 5)])
def test_a_beginning_of_something_else_is_dropped(
    server: tuple[Answers, Dataset], tmp_path: Path, part: bytes
) -> None:
    answers, dataset = server
    (tmp_path / "small.zip.part").write_bytes(part)
    fetch(dataset, tmp_path)
    assert (tmp_path / "small.zip").read_bytes() == DATA
    assert answers.asked[-1] is None


def test_a_server_without_ranges_sends_all(server: tuple[Answers, Dataset], tmp_path: Path) -> None:
    answers, dataset = server
    answers.ranges = False
    (tmp_path / "small.zip.part").write_bytes(DATA[:1000])
    fetch(dataset, tmp_path)
    assert answers.asked == ["bytes=1000-"]


def test_a_busy_server_is_asked_again(server: tuple[Answers, Dataset], tmp_path: Path) -> None:
    answers, dataset = server
    answers.status = [503, 429, 500]
    fetch(dataset, tmp_path)
    assert len(answers.asked) == 4


def test_another_content_is_refused(server: tuple[Answers, Dataset], tmp_path: Path) -> None:
    answers, dataset = server
    answers.body = DATA[:-1] + b"!"
    with pytest.raises(PigenError, match=r"not small as published: sha256 .* expected"):
        fetch(dataset, tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("body", [DATA + b"more", b"version https://git-lfs.github.com/spec/v1"])
def test_another_length_is_refused_at_once(
    server: tuple[Answers, Dataset], tmp_path: Path, body: bytes
) -> None:
    answers, dataset = server
    answers.body = body
    with pytest.raises(PigenError, match=f"{len(body)} bytes, expected {len(DATA)}"):
        fetch(dataset, tmp_path)
    assert len(answers.asked) == 1


def test_no_such_file(server: tuple[Answers, Dataset], tmp_path: Path) -> None:
    answers, dataset = server
    answers.status = [404]
    with pytest.raises(PigenError, match=r"no such file for us \(404 .* put it at .*small.zip"):
        fetch(dataset, tmp_path)
    assert len(answers.asked) == 1


def test_offline(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as gone:
        port = gone.server_port
    dataset = dataset_at(port)
    with pytest.raises(PigenError, match="are you online") as refused:
        fetch(dataset, tmp_path)
    assert f"put it at {tmp_path / 'small.zip'}" in str(refused.value)
    (tmp_path / "small.zip").write_bytes(DATA)  # as the message says
    assert len(fetch(dataset, tmp_path)) == 2


def test_a_wrong_archive_put_there_by_hand(tmp_path: Path) -> None:
    (tmp_path / "small.zip").write_bytes(b"PK")
    with pytest.raises(PigenError, match="another sha256"):
        fetch(dataset_at(9), tmp_path)


def test_a_full_disk(
    server: tuple[Answers, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, dataset = server
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(PigenError, match="too full: 1 MiB are needed, 0 MiB free"):
        fetch(dataset, tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_disk_that_fills_up_on_the_way(server: tuple[Answers, Dataset], tmp_path: Path) -> None:
    _, dataset = server
    (tmp_path / "small.zip.part").symlink_to("/dev/full")
    with pytest.raises(PigenError, match=r"cannot write .*small.zip.part: No space left on device"):
        fetch(dataset, tmp_path)


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PigenError, match="cannot write in"):
        fetch(dataset_at(9), tmp_path / "file" / "folder")


def test_one_fetch_at_a_time(tmp_path: Path) -> None:
    held = Lock(tmp_path / "small.zip")
    with pytest.raises(PigenError, match="is being written by"):
        fetch(dataset_at(9), tmp_path)
    held.release()


def test_the_verb(
    server: tuple[Answers, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, dataset = server
    monkeypatch.setitem(DATASETS, "mp-20", replace(dataset, name="mp-20"))
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(main, ["data", "fetch", "mp-20", "--json"])
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["tables"] == ["mp-20/train.csv", "mp-20/val.csv"]
    assert "cite nobody" in CliRunner().invoke(main, ["data", "fetch", "mp-20"]).stdout


def test_what_is_fetched_can_be_labelled(tmp_path: Path) -> None:
    """A table with the columns of Alex-MP-20, in its archive."""
    cif = known_structures()["MgO"].crystals.to_pymatgen()[0].to(fmt="cif")
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(
        ["material_id", "reduced_formula", "space_group", "num_sites", "cif", "energy_above_hull"]
    )
    rows.writerow(["agm1", "MgO", 225, 2, cif, 0.02])
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("alex_mp_20/train.csv", table.getvalue())
    data = made.getvalue()
    (tmp_path / "small.zip").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    (train,) = fetch(replace(dataset_at(9), size=len(data), sha256=digest), tmp_path)
    labelled, missing = label(read(train), ["c"])
    assert not missing
    assert labelled.ids.tolist() == ["agm1"]
    assert labelled.columns["e_hull"].values.tolist() == [0.02]
    assert labelled.columns["e_hull"].unit == "eV/atom"
    assert labelled.columns["c"].values[0] == pytest.approx(0.8063, abs=1e-3)


def test_what_can_be_fetched_is_what_the_help_says() -> None:
    shown = CliRunner().invoke(main, ["data", "fetch", "--help"]).stdout
    assert "|".join(DATASETS) in shown
    for dataset in DATASETS.values():
        assert dataset.url.startswith("https://")
        assert len(bytes.fromhex(dataset.sha256)) == 32
        assert dataset.size > 10**6
