"""Seeded damage to files: blind on bytes, and knowing on what a format is made of."""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import warnings
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

HUGE = 10**400
NUMBERS = (
    *("0", "-1", "1e308", "-1e308", "1e999", "nan", "-inf", "1" * 30, "9" * 5000, "1e-320"),
    *("2147483648", "9223372036854775808", "1_000", "0x10", "٣", "+", "1e", "200", "201", "1e6"),
)
TOKENS = (
    *("loop_", "data_", "save_", "_atom_site_occupancy 0.5", ";\n", "'", '"', "\n", "\r", "\0"),
    *(
        "{",
        "[",
        "]",
        "}",
        ",",
        "=",
        ":",
        "\t",
        "#",
        "T",
        "?",
        ".",
        "..",
        "../../x",
        "/etc/x",
        "~x/y",
    ),
    *("\ufeff", "\u2028", "Å", "\x1b[31m", "</script>", "NaN", "null", "true", "(" * 2000),
    *("[" * 5000, "{a=" * 500, "a." * 300, " " * 5000, "\n" * 5000, "x" * 70_000, "_x " * 3000),
    *("<!DOCTYPE a>", "<!ENTITY a 'b'>", "&a;", "<a>" * 2000, "Fe", "Xx", "Fe" * 200, "1 " * 3000),
)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, HUGE, -HUGE, 2**63, float("nan"), float("inf"), "", "x", "..", "/"),
    *([], {}, [[]], [0.5] * 400, {"a": {}}, "../../x", "\0", "x" * 5000, [1, "a", None], "nan"),
    *({"@module": "subprocess", "@class": "Popen", "args": ["touch", "pwned"]}, [[1.0] * 3] * 3),
)


def mutate(path: Path, rng: Random) -> None:
    """Damage a file in place, by its suffix in half of the cases, else blindly."""
    knowing = {
        ".json": _json,
        ".h5": _hdf5,
        ".zip": _zip,
        ".npz": _npz,
        ".gz": _gzip,
        ".safetensors": _safetensors,
        ".parquet": _parquet,
    }.get(path.suffix)
    if knowing and rng.random() < 0.6:
        knowing(path, rng)
        return
    content = path.read_bytes()
    textual = not content[:512].count(0) and knowing in (None, _json)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        content = _edit(content, rng) if textual and rng.random() < 0.8 else _flip(content, rng)
    path.write_bytes(content)


# -- blind ---------------------------------------------------------------------------------------
def _flip(content: bytes, rng: Random) -> bytes:
    if not content:
        return rng.randbytes(8)
    at = rng.randrange(len(content))
    end = min(len(content), at + rng.randint(0, 64))
    change = rng.randrange(6)
    if change == 0:
        return content[:at]
    if change == 1:
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    if change == 2:
        return content[:at] + rng.randbytes(end - at) + content[end:]
    if change == 3:
        return content[:at] + content[end:]
    if change == 4:
        return content[:end] + content[at:]
    whole = rng.choice((b"\xff" * 8, b"\0" * 8, struct.pack("<q", rng.getrandbits(40))))
    return content[:at] + whole + content[at + 8 :]


def _edit(content: bytes, rng: Random) -> bytes:
    """A change as a text: numbers, tokens, pieces doubled or moved."""
    numbers = list(re.finditer(rb"-?\d+\.?\d*(?:[eE][-+]?\d+)?", content))
    if numbers and rng.random() < 0.4:
        found = rng.choice(numbers)
        return content[: found.start()] + rng.choice(NUMBERS).encode() + content[found.end() :]
    at = rng.randint(0, len(content))
    end = min(len(content), at + rng.randint(0, 200))
    piece = rng.choice(TOKENS).encode("utf-8", "surrogatepass")
    if rng.random() < 0.3:
        other = rng.randint(0, len(content))
        piece = content[other : other + rng.randint(0, 400)] * rng.choice((1, 2, 50))
    return content[:at] + piece + content[rng.choice((at, end)) :]


# -- knowing -------------------------------------------------------------------------------------
def tree(node: Any, rng: Random) -> Any:
    """A JSON value with one of its nodes changed."""
    if isinstance(node, dict) and node and rng.random() < 0.85:
        key = rng.choice(list(node))
        change = rng.random()
        if change < 0.1:
            return {k: v for k, v in node.items() if k != key}
        if change < 0.2:
            return {**node, rng.choice(TOKENS): rng.choice(VALUES)}
        return {**node, key: tree(node[key], rng)}
    if isinstance(node, list) and node and rng.random() < 0.85:
        at = rng.randrange(len(node))
        if rng.random() < 0.1:
            return node[:at] + node[at + 1 :]
        return [*node[:at], tree(node[at], rng), *node[at + 1 :]]
    if isinstance(node, str) and rng.random() < 0.5:
        return rng.choice(TOKENS)
    return rng.choice(VALUES)


def _json(path: Path, rng: Random) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(tree(content, rng)))


def _gzip(path: Path, rng: Random) -> None:
    inner = gzip.decompress(path.read_bytes())
    for _ in range(rng.randint(1, 3)):
        inner = _edit(inner, rng)
    if rng.random() < 0.1:
        inner += bytes(5_000_000)
    path.write_bytes(gzip.compress(inner))


def _zip(path: Path, rng: Random) -> None:
    """Members renamed, doubled, packed otherwise, and their headers forged."""
    with zipfile.ZipFile(path) as archive:
        members = [(m.filename, archive.read(m)) for m in archive.infolist()]
    names = ("../x.cif", "/etc/x.cif", "a\\..\\x.cif", "", "x" * 3000 + ".cif", "CON.cif", "./.cif")
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")
        for name, content in members:
            info = zipfile.ZipInfo(rng.choice((name, name, *names)))
            info.external_attr = rng.choice((0, 0o120777 << 16, 0o010644 << 16, 0x10))
            if rng.random() < 0.3:
                content = _edit(content, rng)
            if rng.random() < 0.1:
                content += bytes(3_000_000)
            methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)
            archive.writestr(info, content, rng.choice(methods))
    packed = bytearray(file.getvalue())
    for _ in range(rng.randint(0, 3)):  # in the list of members at the end, which is believed first
        at = packed.find(b"PK\x01\x02")
        at = rng.randrange(max(at, 0), len(packed)) if rng.random() < 0.7 else at
        packed[at : at + 4] = struct.pack("<I", rng.choice((0, 1, 2**31, 2**32 - 1, 99)))
    path.write_bytes(packed)


def _npz(path: Path, rng: Random) -> None:
    with np.load(path) as stored:
        arrays = dict(stored)
    name = rng.choice(list(arrays))
    change = rng.randrange(5)
    if change == 0:
        del arrays[name]
    elif change == 1:
        arrays[name] = np.array(rng.choice(("x", 1.5, np.nan, 2**40)))
    elif change == 2:
        arrays[name] = (
            arrays[name].astype("S3" if rng.random() < 0.5 else complex, copy=False)
            if arrays[name].dtype.kind in "iuf"
            else np.array([b"x"])
        )
    elif change == 3:
        arrays[name] = arrays[name].ravel()[:3]
    else:
        arrays[name] = np.full(arrays[name].shape, 12345) if arrays[name].ndim else np.zeros(3)
    np.savez(path, **arrays)
    if rng.random() < 0.3:
        path.write_bytes(path.read_bytes().replace(b"'shape': (", b"'shape': (999999999,", 1))


def _safetensors(path: Path, rng: Random) -> None:
    content = path.read_bytes()
    (n,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + n])
    if rng.random() < 0.6 and "header" in header.get("__metadata__", {}):
        said = json.loads(header["__metadata__"]["header"])
        header["__metadata__"]["header"] = json.dumps(tree(said, rng))
    else:
        header = tree(header, rng)
    text = json.dumps(header).encode()
    size = len(text) if rng.random() < 0.9 else rng.getrandbits(50)
    path.write_bytes(struct.pack("<Q", size) + text + content[8 + n :])


def _parquet(path: Path, rng: Random) -> None:
    """Blind, but in the metadata at the end, which says how all else is to be read."""
    content = bytearray(path.read_bytes())
    (n,) = struct.unpack("<I", content[-8:-4])
    for _ in range(rng.randint(1, 4)):
        content[rng.randrange(max(len(content) - 8 - n, 0), len(content))] = rng.randrange(256)
    path.write_bytes(content)


def _hdf5(path: Path, rng: Random) -> None:
    with h5py.File(path, "r+") as file:
        for _ in range(rng.randint(1, 3)):
            _forge(file, rng)


def _forge(file: h5py.File, rng: Random) -> None:
    names: list[str] = []
    file.visit(names.append)
    name = rng.choice([n for n in names if n in file] or ["/"])
    item = file[name]
    change = rng.randrange(10)
    if change <= 2 or not isinstance(item, h5py.Dataset):
        holder = rng.choice((file, item))
        keys = [*holder.attrs, "n_crystals", "version", "x"]
        values = (-1, 0, 10**12, 2.5, np.inf, "x", "x" * 70_000, np.zeros(3), b"\xff", True)
        holder.attrs[rng.choice(keys)] = rng.choice(values)
    elif change == 3:
        del file[name]
    elif change == 4 and item.maxshape[0] is None:
        item.resize(rng.choice((0, 1, len(item) + 1, 10**6, 10**12)), axis=0)
    elif change == 5 and item.shape and len(item):
        values = (-1, 0, 255, np.nan, 1e300, 10**9) if item.dtype.kind in "iuf" else ("", "\x1b[2J")
        try:
            item[rng.randrange(len(item))] = rng.choice(values)
        except (OverflowError, ValueError, TypeError):
            return
    elif change == 6:
        del file[name]
        shapes = ((3,), (0,), (2, 2), (5, 3, 3), ())
        kinds = ("f4", "c8", "S5", "u1", "i8", h5py.string_dtype(), np.dtype([("a", "f8")]))
        file.create_dataset(name, rng.choice(shapes), rng.choice(kinds))
    elif change == 7:
        del file[name]
        links = (
            h5py.SoftLink("/id"),
            h5py.ExternalLink("other.h5", "/id"),
            h5py.SoftLink(f"/{name}"),
        )
        file[name] = rng.choice(links)
    elif change == 8 and item.dtype.kind in "iuf":
        data = item[()]
        del file[name]
        options = rng.choice(({"compression": "lzf"}, {"compression": 9}, {"scaleoffset": 2}))
        chunks = (max(len(data), 1) * rng.choice((1, 1000)), *data.shape[1:]) if data.ndim else None
        maxshape = (None,) * data.ndim
        if data.ndim:
            file.create_dataset(name, data=data, chunks=chunks, maxshape=maxshape, **options)
    else:
        file[f"{rng.choice(('columns', 'verdicts', 'provenance', ''))}/{rng.randrange(99)}"] = [
            1,
            2,
        ]
