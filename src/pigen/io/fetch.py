"""Public data sets: where they are, and a download that goes on after an interruption."""

from __future__ import annotations

import os
import shutil
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from pigen import __version__
from pigen.runtime.errors import PigenError
from pigen.runtime.files import replaced, sha256_of
from pigen.runtime.lock import Lock

TABLES = ("train.csv", "val.csv", "test.csv")
"""Files that are taken out of an archive, if it has them."""

_BLOCK = 2**20
_TIMEOUT_S = 60.0
_ATTEMPTS = 5
"""Attempts in a row that bring nothing before the download gives up; any byte resets the count."""
_WAIT_S = 1.0
"""Before the second attempt; twice as long before each further one."""
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers of a server after which another attempt may succeed."""

_MATTERGEN = "https://media.githubusercontent.com/media/microsoft/mattergen/main/data-release"


@dataclass(frozen=True)
class Dataset:
    """A public archive of tables with a column ``cif``.

    Attributes:
        name: on the command line; what: in words.
        url: of a zip archive; size: its bytes; sha256: its hash.
        licence: of the data; cite: whom to name, with DOI or URL.
    """

    name: str
    what: str
    url: str
    size: int
    sha256: str
    licence: str
    cite: str

    @property
    def archive(self) -> str:
        """Name of the archive's file."""
        return self.url.rsplit("/", 1)[-1]


# Sizes and hashes are those of the Git LFS pointers in MatterGen's repository.
DATASETS = {
    found.name: found
    for found in (
        Dataset(
            name="alex-mp-20",
            what="Alexandria and Materials Project, up to 20 atoms, relaxed with PBE",
            url=f"{_MATTERGEN}/alex-mp/alex_mp_20.zip",
            size=186_506_244,
            sha256="6688e652e45fac4ac8b016dbc4a3280afde9ba687bdacfd8c676775ed19b6228",
            licence="CC BY 4.0",
            cite="Zeni et al., Nature 2025, doi:10.1038/s41586-025-08628-5; Schmidt et al., "
            "doi:10.24435/materialscloud:m7-50; Jain et al., doi:10.1063/1.4812323",
        ),
        Dataset(
            name="mp-20",
            what="Materials Project, up to 20 atoms",
            url=f"{_MATTERGEN}/mp-20/mp_20.zip",
            size=12_254_159,
            sha256="5f44d6ad75299b6c08a3679ebcbd166def45c6d7733baacdce3972c2ec452e3a",
            licence="CC BY 4.0",
            cite="Jain et al., doi:10.1063/1.4812323; Xie et al., arXiv:2110.06197; "
            "Zeni et al., Nature 2025, doi:10.1038/s41586-025-08628-5",
        ),
    )
}


def fetch(
    dataset: Dataset, folder: Path, watch: Callable[[int], None] = lambda done: None
) -> list[Path]:
    """Download a data set and take its tables out of the archive.

    An archive that is there already, even one put there by hand, is checked and not downloaded
    again. An interrupted download continues.

    Args:
        dataset: which one.
        folder: where archive and tables go; made if it is not there.
        watch: called with the number of bytes of the archive that have arrived, after each block.

    Returns:
        The tables, in the order of `TABLES`.

    Raises:
        PigenError: the server cannot be reached or has no such file; what came is not what the
            hash says; the disk is full; another process fetches into the folder.
    """
    archive = folder / dataset.archive
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(archive)
    except OSError as error:
        raise PigenError(f"cannot write in {folder}: {error.strerror or error}") from error
    try:
        if not archive.exists():
            _download(dataset, archive, watch)
        elif sha256_of(archive, 64) != dataset.sha256:
            raise PigenError(
                f"{archive} is not {dataset.name} as published (another sha256): remove it to "
                f"fetch it again"
            )
        watch(dataset.size)
        return _unpack(archive)
    finally:
        lock.release()


def _download(dataset: Dataset, archive: Path, watch: Callable[[int], None]) -> None:
    """Download the archive, or the rest of it; it gets its name once its hash is right."""
    part = archive.with_name(f"{archive.name}.part")
    resumed = part.exists()
    _transfer(dataset, part, watch)
    if resumed and sha256_of(part, 64) != dataset.sha256:
        part.unlink()  # begun with what was another file then
        _transfer(dataset, part, watch)
    found = sha256_of(part, 64)
    if found != dataset.sha256:
        part.unlink()
        raise PigenError(
            f"{dataset.url}: what came is not {dataset.name} as published: sha256 {found}, "
            f"expected {dataset.sha256}. {_by_hand(dataset, archive)}"
        )
    with _writing(part):
        os.replace(part, archive)


def _transfer(dataset: Dataset, part: Path, watch: Callable[[int], None]) -> None:
    failures = 0
    while (have := _size(part)) < dataset.size:
        problem = ""
        try:
            _receive(dataset, part, have, watch)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in _TRY_AGAIN:
                raise PigenError(
                    f"{dataset.url}: the server has no such file for us ({error.code} "
                    f"{error.reason}). {_by_hand(dataset, part)}"
                ) from error
            problem = f"{error.code} {error.reason}"
        except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
            problem = str(getattr(error, "reason", "") or error) or type(error).__name__
        if _size(part) > have:
            failures = 0
            continue
        failures += 1
        if failures == _ATTEMPTS:
            raise PigenError(
                f"cannot download {dataset.url}: {problem or 'the server sends nothing'}; "
                f"are you online? What came is kept: the same command goes on with it. "
                f"{_by_hand(dataset, part)}"
            )
        time.sleep(_WAIT_S * 2 ** (failures - 1))


def _receive(dataset: Dataset, part: Path, have: int, watch: Callable[[int], None]) -> None:
    """Send one request for all bytes that are missing; it may end early."""
    headers = {"User-Agent": f"pigen/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(dataset.url, headers=headers)
    response: HTTPResponse
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
        begins = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if not (response.status == 206 and begins):
            have = 0  # a server that knows no ranges sends everything
        _check_length(dataset, have, response.headers.get("Content-Length"))
        _check_space(part, dataset.size - have)
        with _writing(part), part.open("ab" if have else "wb") as file:
            while block := _read(response):
                _check_length(dataset, have, str(max(len(block), dataset.size - have)))
                file.write(block)
                have += len(block)
                watch(have)


def _check_length(dataset: Dataset, have: int, more: str | None) -> None:
    """PigenError if so many bytes more would not make the data set."""
    if more is not None and have + int(more) != dataset.size:
        raise PigenError(
            f"{dataset.url} is not {dataset.name} as published: {have + int(more)} bytes, "
            f"expected {dataset.size}"
        )


def _read(response: HTTPResponse) -> bytes:
    # An OSError here is the network's; around the caller's writing it would be the disk's.
    try:
        return response.read(_BLOCK)
    except OSError as error:
        raise urllib.error.URLError(error) from error


def _unpack(archive: Path) -> list[Path]:
    with zipfile.ZipFile(archive) as opened:
        members = {Path(member.filename).name: member for member in opened.infolist()}
        tables = [archive.parent / name for name in TABLES if name in members]
        for table in tables:
            member = members[table.name]
            if _size(table) == member.file_size:
                continue
            _check_space(table, member.file_size)
            with replaced(table) as path, opened.open(member) as packed, path.open("wb") as file:
                shutil.copyfileobj(packed, file, _BLOCK)
    return tables


def _by_hand(dataset: Dataset, near: Path) -> str:
    return f"Or load it with a browser and put it at {near.with_name(dataset.archive)}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _check_space(path: Path, need: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if need > free:
        raise PigenError(
            f"the disk of {path.parent} is too full: {need / 2**20:.0f} MiB are needed, "
            f"{free / 2**20:.0f} MiB free"
        )


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn errors of writing a local file into a message; errors of the network pass."""
    try:
        yield
    except urllib.error.URLError:
        raise
    except OSError as error:
        raise PigenError(f"cannot write {path}: {error.strerror or error}") from error
