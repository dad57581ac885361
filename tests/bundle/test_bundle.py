"""Bundles: exact round trips, growth in chunks, and files that survive whatever stops a writer."""

from __future__ import annotations

import contextlib
import os
import random
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_crystals import NACL, assert_same, bundle_of

from pigen.bundle import (
    Bundle,
    BundleWriter,
    Column,
    Criterion,
    Reject,
    Verdict,
    bundle_info,
    count_rejects,
    iter_bundle,
    read_bundle,
    strings,
    write_bundle,
)
from pigen.bundle.summary import summarise
from pigen.runtime.errors import PigenError, UsageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "b.h5"


# -- in memory -----------------------------------------------------------------------------------
def test_columns_come_in_four_kinds() -> None:
    kinds = [
        Column(np.array(values), "", "").kind
        for values in ([1.5], np.float32([1.5]), [1], np.uint8([1]), [True], ["a"])
    ]
    assert kinds == ["float64", "float64", "int64", "int64", "bool", "str"]
    with pytest.raises(ValueError, match="complex"):
        Column(np.array([1j]), "", "")
    with pytest.raises(ValueError, match=r"shape \(n,\)"):
        Column(np.zeros((2, 2)), "", "")


def test_values_are_read_only_copies() -> None:
    values = np.zeros(3)
    column = Column(values, "", "")
    values[0] = 1
    assert column.values[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        column.values[0] = 1


def test_lengths_must_agree() -> None:
    two = Column(np.zeros(2), "", "")
    with pytest.raises(ValueError, match="ids must have length 1, got 0"):
        Bundle(crystals=NACL, ids=strings([]))
    with pytest.raises(ValueError, match="column 'x' must have length 1, got 2"):
        Bundle(crystals=NACL, ids=strings(["a"]), columns={"x": two})
    assert Bundle(crystals=NACL, ids=strings(["a"]), columns={"x": replace(two, per_atom=True)})
    verdict = Verdict(np.zeros(2, bool), strings(["", ""]), Criterion("v"))
    with pytest.raises(ValueError, match="verdict 'v' must have length 1, got 2"):
        Bundle(crystals=NACL, ids=strings(["a"]), verdicts={"v": verdict})


@pytest.mark.parametrize("name", ["", ".", "a/b", "a\0b"])
def test_names_that_a_file_could_not_hold(name: str) -> None:
    with pytest.raises(ValueError, match="name must be"):
        Bundle(crystals=NACL, ids=strings(["a"]), columns={name: Column(np.zeros(1), "", "")})


def test_selecting_takes_values_along() -> None:
    bundle = bundle_of(6)
    picked = bundle.select(np.array([4, 1]))
    assert picked.ids.tolist() == ["s4", "s1"]
    ptr = bundle.crystals.ptr
    motif = bundle.columns["motif"].values
    expected = np.concatenate([motif[ptr[4] : ptr[5]], motif[ptr[1] : ptr[2]]])
    assert picked.columns["motif"].values.tolist() == expected.tolist()
    assert picked.verdicts["low"].passed.tolist() == bundle.verdicts["low"].passed[[4, 1]].tolist()
    assert picked.rejects == bundle.rejects
    mask = np.isin(np.arange(6), [1, 4])
    assert_same(bundle.select(mask), bundle.select([1, 4]))
    assert len(bundle.select([])) == 0
    assert len(bundle.select(slice(2, 4))) == 2


def test_halves_joined_are_the_whole() -> None:
    bundle = bundle_of(7)
    halves = [bundle.select(slice(0, 3)), replace(bundle.select(slice(3, 7)), rejects=())]
    assert_same(Bundle.concatenate(halves), bundle)


def one(kind: str, **values: Any) -> Bundle:
    columns = {name: Column(np.array([v]), "", kind) for name, v in values.items()}
    return Bundle(crystals=NACL, ids=strings([kind]), columns=columns)


def joined(tmp_path: Path, *parts: Bundle) -> list[Bundle]:
    """Parts joined in memory and by a writer, which must do the same."""
    with BundleWriter(tmp_path / "joined.h5", {}) as writer:
        for part in parts:
            writer.append(part)
    return [Bundle.concatenate(parts), read_bundle(tmp_path / "joined.h5")]


def test_missing_values_when_columns_differ(tmp_path: Path) -> None:
    for bundle in joined(tmp_path, one("p", f=1.0, i=1, b=True, s="x"), one("q", n=2, t="y")):
        values = {name: column.values.tolist() for name, column in bundle.columns.items()}
        assert values["s"] == ["x", ""]
        assert values["t"] == ["", "y"]
        for name, expected in {"f": [1, np.nan], "i": [1, np.nan], "n": [np.nan, 2]}.items():
            np.testing.assert_array_equal(values[name], expected)
            assert bundle.columns[name].kind == "float64"
        np.testing.assert_array_equal(values["b"], [1, np.nan])


def test_kinds_meet(tmp_path: Path) -> None:
    for bundle in joined(tmp_path, one("p", a=1, b=2.5, c=True), one("q", a=0.5, b="x", c="y")):
        assert bundle.columns["a"].values.tolist() == [1.0, 0.5]
        assert bundle.columns["b"].values.tolist() == ["2.5", "x"]
        assert bundle.columns["c"].values.tolist() == ["True", "y"]
        assert bundle.columns["a"].source == "p; q"


def test_a_part_without_crystals_lacks_nothing(tmp_path: Path) -> None:
    empty = Bundle(crystals=NACL[0:0], ids=strings([]), rejects=(Reject("a", "b"),))
    for parts in ([empty, one("p", i=1)], [one("p", i=1), empty]):
        for bundle in joined(tmp_path, *parts):
            assert bundle.columns["i"].kind == "int64"
            assert bundle.rejects == (Reject("a", "b"),)


def test_units_and_verdicts_must_agree(path: Path) -> None:
    ev = one("p").with_columns({"e": Column(np.zeros(1), "eV", "")})
    mev = one("q").with_columns({"e": Column(np.zeros(1), "meV", "")})
    judged = one("r").with_verdicts({"v": Verdict(np.ones(1, bool), strings([""]), Criterion("v"))})
    with pytest.raises(ValueError, match="meV"):
        Bundle.concatenate([ev, mev])
    with pytest.raises(ValueError, match="some structures have the verdicts"):
        Bundle.concatenate([one("p"), judged])
    with BundleWriter(path, {}) as writer:
        writer.append(ev)
        with pytest.raises(PigenError, match="meV"):
            writer.append(mev)
        with pytest.raises(PigenError, match="verdicts"):
            writer.append(judged.with_columns(ev.columns))
        writer.append(ev)
    assert read_bundle(path).ids.tolist() == ["p", "p"]


def test_reasons_are_counted_by_kind() -> None:
    rejects = [Reject(str(i), f"oversized: {i} atoms") for i in range(3)] + [Reject("x", "empty")]
    assert count_rejects(rejects) == {"oversized": 3, "empty": 1}


# -- on disk -------------------------------------------------------------------------------------
def test_round_trip_is_exact(path: Path) -> None:
    bundle = bundle_of(50)
    write_bundle(path, bundle)
    again = read_bundle(path)
    assert_same(again, bundle)
    assert again.provenance == bundle.provenance
    assert os.listdir(path.parent) == ["b.h5"]


def test_an_empty_bundle_keeps_its_columns(path: Path) -> None:
    bundle = bundle_of(3).select([])
    write_bundle(path, bundle)
    assert_same(read_bundle(path), bundle)
    (chunk,) = iter_bundle(path)
    assert_same(chunk, bundle)


def test_long_provenance(path: Path) -> None:
    text = "Å" * 200_000  # an HDF5 attribute of the oldest format ends at 64 KiB
    write_bundle(path, replace(bundle_of(1), provenance={"toml": text}))
    assert read_bundle(path).provenance["toml"] == text


@given(sizes=st.lists(st.integers(0, 5), max_size=6), chunk=st.integers(1, 7))
@settings(max_examples=25, deadline=None)
def test_appended_chunks_are_the_whole(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], chunk: int
) -> None:
    path = tmp_path_factory.mktemp("b") / "b.h5"
    parts = [bundle_of(n, seed, f"{seed}-") for seed, n in enumerate(sizes)]
    with BundleWriter(path, {"a": "b"}) as writer:
        for part in parts:
            writer.append(part)
    whole = Bundle.concatenate(parts)
    assert (writer.n_written, writer.n_rejected) == (len(whole), len(whole.rejects))
    assert_same(read_bundle(path), whole)
    chunks = list(iter_bundle(path, chunk))
    assert_same(Bundle.concatenate(chunks), whole)
    assert max(map(len, chunks)) <= chunk


def test_info_tells_without_loading(path: Path) -> None:
    bundle = bundle_of(5)
    write_bundle(path, bundle)
    info = bundle_info(path)
    assert (info.n_crystals, info.n_rejects, info.complete) == (5, 1, True)
    assert info.n_atoms == len(bundle.crystals.atomic_numbers)
    assert {n: c.kind for n, c in info.columns.items()} == {
        n: c.kind for n, c in bundle.columns.items()
    }
    assert info.columns["energy"].unit == "eV/atom"
    assert info.verdicts == {"low": Criterion("low", wording="energy < 0")}
    assert info.provenance["seed"] == "0"


def test_summary(path: Path) -> None:
    bundle = bundle_of(40)
    write_bundle(path, bundle)
    summary = summarise(path)
    energy, column = summary.columns["energy"], bundle.columns["energy"].values
    assert (energy.low, energy.high) == (np.nanmin(column), np.nanmax(column))
    assert energy.mean == pytest.approx(np.nanmean(column))
    assert energy.n_missing == np.isnan(column).sum()
    assert summary.columns["formula"].distinct == 2
    assert summary.passed == {"low": bundle.verdicts["low"].passed.sum()}
    assert summary.rejects == {"unreadable CIF": 1}
    assert summary.atoms == (1, 9)
    assert summary.elements[8] == np.isin(bundle.crystals.n_atoms, [5, 9]).sum()


def test_plain_h5py_as_documented(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = Path(__file__).resolve().parents[2] / "docs" / "bundle.md"
    (code,) = re.findall(r"```python\n(.*?)```", document.read_text("utf-8"), re.DOTALL)
    write_bundle(path, bundle_of(30))
    found: dict[str, Any] = {}
    exec(code.replace("bundle.h5", str(path)), found)
    last = read_bundle(path).crystals[-1]
    np.testing.assert_array_equal(found["cartesian"], last.frac_coords @ last.lattice[0])
    assert "rejected: unreadable CIF: line 3" in capsys.readouterr().out


# -- resuming and being stopped ------------------------------------------------------------------
def test_resume_goes_on(path: Path) -> None:
    parts = [bundle_of(4, seed, f"{seed}-") for seed in range(4)]
    with contextlib.suppress(InterruptedError), BundleWriter(path, {"a": "b"}) as writer:
        writer.append(parts[0])
        writer.append(parts[1])
        raise InterruptedError
    assert not bundle_info(path).complete
    with BundleWriter(path, {"a": "b", "created": "later"}, resume=True) as writer:
        assert (writer.n_written, writer.n_rejected) == (8, 2)
        for part in parts[2:]:
            writer.append(part)
    assert bundle_info(path).complete
    assert_same(read_bundle(path), Bundle.concatenate(parts))


def test_resume_of_nothing_is_a_start(path: Path) -> None:
    with BundleWriter(path, {}, resume=True) as writer:
        assert writer.n_written == 0
    assert len(read_bundle(path)) == 0


def test_resume_with_other_settings_is_refused(path: Path) -> None:
    write_bundle(path, replace(bundle_of(1), provenance={"seed": "1"}))
    with pytest.raises(UsageError, match="seed was '1' and is now '2'"):
        BundleWriter(path, {"seed": "2"}, resume=True)


def test_without_resume_the_old_file_stays_until_the_first_chunk(path: Path) -> None:
    write_bundle(path, bundle_of(3))
    with contextlib.suppress(InterruptedError), BundleWriter(path, {}):
        raise InterruptedError
    assert len(read_bundle(path)) == 3
    with BundleWriter(path, {}) as writer:
        writer.append(bundle_of(1))
    assert len(read_bundle(path)) == 1


def test_second_writer_is_told_who_holds_the_file(path: Path) -> None:
    holder = f"being written by process {os.getpid()} on"
    with BundleWriter(path, {}), pytest.raises(PigenError, match=holder):
        BundleWriter(path, {})
    with BundleWriter(path, {}):
        pass


def test_a_reader_that_holds_the_old_file_sees_it_unchanged(path: Path) -> None:
    with BundleWriter(path, {}) as writer:
        writer.append(bundle_of(3))
        with h5py.File(path) as held:
            for seed in range(3):
                writer.append(bundle_of(2000, seed))
            assert held.attrs["n_crystals"] == 3
            assert held["id"].shape == (3,)
        writer.append(bundle_of(3))
    assert len(read_bundle(path)) == 6006


def test_iterating_does_not_lock_out_the_writer(path: Path) -> None:
    with BundleWriter(path, {}) as writer:
        writer.append(bundle_of(4))
        chunks = iter_bundle(path, 2)
        next(chunks)
        writer.append(bundle_of(4))
        assert [len(chunk) for chunk in chunks] == [2]  # as many as there were when it began


def test_no_place_to_write(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        BundleWriter(tmp_path / "no" / "b.h5", {})
    with pytest.raises(UsageError, match="is a folder"):
        BundleWriter(tmp_path, {})


def test_without_hard_links(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", no_links)
    parts = [bundle_of(4, seed) for seed in range(3)]
    with BundleWriter(path, {}) as writer:
        for part in parts:
            writer.append(part)
    assert_same(read_bundle(path), Bundle.concatenate(parts))


WRITER = """
    import os, sys
    from dataclasses import replace
    sys.path.insert(0, {tests!r})
    from real_crystals import bundle_of
    from pigen.bundle import BundleWriter
    with BundleWriter({path!r}, {{"a": "b"}}, resume=True) as writer:
        for seed in range(writer.n_written // 50, {chunks}):
            writer.append(bundle_of(50, seed, f"{{seed}}-"))
            print(seed, flush=True)
            {then}
"""


def writer_process(path: Path, chunks: int, then: str = "pass") -> subprocess.Popen[str]:
    tests = str(Path(__file__).parents[1] / "support")
    code = textwrap.dedent(WRITER.format(tests=tests, path=str(path), chunks=chunks, then=then))
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def whole(chunks: int) -> Bundle:
    return Bundle.concatenate([bundle_of(50, seed, f"{seed}-") for seed in range(chunks)])


def test_ctrl_c_during_an_append_waits_for_its_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, parts = os.fsync, [bundle_of(3, seed) for seed in range(2)]

    def interrupted(descriptor: int) -> None:
        signal.raise_signal(signal.SIGINT)
        real(descriptor)

    writer = BundleWriter(path, {})
    writer.append(parts[0])
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer.append(parts[1])
    monkeypatch.undo()
    assert writer.n_written == 6
    writer.close()
    assert_same(read_bundle(path), Bundle.concatenate(parts))


def test_exit_between_appends(path: Path) -> None:
    process = writer_process(path, 9, "os._exit(3) if seed == 4 else None")
    process.communicate()
    assert process.returncode == 3
    assert not bundle_info(path).complete
    assert_same(read_bundle(path), whole(5))


@pytest.mark.parametrize("call", ["os.fsync", "os.replace", "h5py.Dataset.resize", "h5py.File"])
def test_exit_during_an_append(path: Path, call: str) -> None:
    # Dies within the append of chunk 3, each time at another point of it.
    then = (
        f"if seed == 2:\n"
        f"                import h5py, random\n"
        f"                left, was = iter([{random.Random(call).randrange(2)}, -1]), {call}\n"
        f"                budget = [next(left)]\n"
        f"                def die(*a, **k):\n"
        f"                    budget[0] -= 1\n"
        f"                    return os._exit(3) if budget[0] < 0 else was(*a, **k)\n"
        f"                {call} = die"
    )
    process = writer_process(path, 9, then)
    process.communicate()
    assert process.returncode == 3
    assert len(read_bundle(path)) in (150, 200)
    writer_process(path, 9).communicate()
    assert_same(read_bundle(path), whole(9))
    assert os.listdir(path.parent) == ["b.h5"]


def test_killed_at_random_moments(path: Path) -> None:
    rng = random.Random(7)
    chunks, stops = 60, 0
    while not path.exists() or not bundle_info(path).complete:
        process = writer_process(path, chunks)
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(3)]
        if stops < 6:
            time.sleep(rng.random() * 0.1)
            process.send_signal(signal.SIGKILL)
            stops += 1
        said += process.communicate()[0].split()
        done = [int(line) for line in said if line.strip()]
        if path.exists():
            n = len(read_bundle(path))
            assert n % 50 == 0
            assert not done or n >= 50 * (done[-1] + 1)  # nothing reported is lost
    assert_same(read_bundle(path), whole(chunks))


def test_full_disk_is_one_line_and_a_readable_file(path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import resource, signal, sys
        sys.path.insert(0, {str(Path(__file__).parents[1] / "support")!r})
        from real_crystals import bundle_of
        from pigen.bundle import BundleWriter
        from pigen.runtime.errors import PigenError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6_000_000, 6_000_000))
        try:
            with BundleWriter({str(path)!r}, {{}}) as writer:
                for seed in range(100):
                    writer.append(bundle_of(500, seed, f"{{seed}}-"))
        except PigenError as error:
            print(writer.n_written, error)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    n, message = done.stdout.strip().split(" ", 1)
    assert re.search(rf"cannot write .*b.h5: .*; it holds the {n} crystals before", message)
    assert "\n" not in message
    again = read_bundle(path)
    assert len(again) == int(n) > 0
    assert os.listdir(path.parent) == ["b.h5"]


# -- hostile files -------------------------------------------------------------------------------
def test_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_bundle(tmp_path / "no.h5")
    with pytest.raises(UsageError, match="not an HDF5 file"):
        read_bundle(tmp_path)
    (tmp_path / "text.h5").write_text("data_NaCl")
    with pytest.raises(UsageError, match="not an HDF5 file"):
        read_bundle(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(UsageError, match="of another kind"):
        read_bundle(tmp_path / "other.h5")


def test_a_later_version_is_refused(path: Path) -> None:
    write_bundle(path, bundle_of(1))
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 3
    with pytest.raises(UsageError, match="version 3; this PIGEN reads 1 to 2"):
        read_bundle(path)


def replace_dataset(file: h5py.File, name: str, **spec: Any) -> None:
    del file[name]
    file.create_dataset(name, **spec)


FORGERIES = {
    "a missing dataset": lambda f: f.__delitem__("crystals/lattice"),
    "a wrong shape": lambda f: replace_dataset(f, "crystals/lattice", data=np.zeros((5, 9))),
    "too few rows": lambda f: f["columns/energy"].resize(3, axis=0),
    "a negative count": lambda f: f.attrs.__setitem__("n_crystals", -1),
    "a count of text": lambda f: f.attrs.__setitem__("n_crystals", "many"),
    "pointers outside": lambda f: f["crystals/ptr"].__setitem__(5, 10**9),
    "pointers backwards": lambda f: f["crystals/ptr"].__setitem__(2, 0),
    "an element 0": lambda f: f["crystals/atomic_numbers"].__setitem__(0, 0),
    "NaN coordinates": lambda f: f["crystals/frac_coords"].__setitem__(0, np.nan),
    "text for numbers": lambda f: replace_dataset(f, "crystals/lattice", data=["x"] * 5),
    "numbers for text": lambda f: replace_dataset(f, "id", data=np.zeros(5)),
    "a complex column": lambda f: replace_dataset(f, "columns/energy", data=np.zeros(5, "c8")),
    "a column without unit": lambda f: f["columns/energy"].attrs.__delitem__("unit"),
    "a group for a column": lambda f: f["columns"].create_group("g").attrs.update(per_atom=False),
    "no column group": lambda f: f.__delitem__("columns"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_files_are_errors_of_one_line(path: Path, forgery: str) -> None:
    write_bundle(path, bundle_of(5))
    with h5py.File(path, "r+") as file:
        FORGERIES[forgery](file)
    with pytest.raises(PigenError, match="damaged") as caught:
        read_bundle(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(PigenError, match="damaged"):
        list(iter_bundle(path, 2))


def test_links_to_other_files_are_not_followed(tmp_path: Path, path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["lattice"] = np.zeros((5, 3, 3))
    (tmp_path / "raw").write_bytes(bytes(1000))
    layout = h5py.VirtualLayout((5, 3, 3), float)
    layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "lattice", (5, 3, 3))
    for name in ("external link", "soft link", "external storage", "virtual"):
        write_bundle(path, bundle_of(5))
        with h5py.File(path, "r+") as file:
            del file["crystals/lattice"]
            if name == "external link":
                file["crystals/lattice"] = h5py.ExternalLink("secret.h5", "lattice")
            elif name == "soft link":
                file["crystals/lattice"] = h5py.SoftLink("/x")
            elif name == "external storage":
                file.create_dataset(
                    "crystals/lattice", (5, 3, 3), float, external=[(tmp_path / "raw", 0, 1000)]
                )
            else:
                file.create_virtual_dataset("crystals/lattice", layout)
        with pytest.raises(PigenError, match=r"link|another file"):
            read_bundle(path)


def test_a_trillion_declared_rows_take_no_memory(path: Path) -> None:
    write_bundle(path, bundle_of(5))
    n = 10**12
    with h5py.File(path, "r+") as file:
        for name in ("crystals/lattice", "id", "parent", "columns/energy"):
            file[name].resize(n, axis=0)
        file["crystals/ptr"].resize(n + 1, axis=0)
        file.attrs["n_crystals"] = n
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PigenError, match="declares"):
        read_bundle(path)
    with pytest.raises(PigenError, match="declares"):
        next(iter_bundle(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_truncated_and_garbled_files(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("b") / "b.h5"
    write_bundle(path, bundle_of(5))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 20))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(PigenError):
        read_bundle(path)
