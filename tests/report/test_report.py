"""`pigen report`: what the page says, that it is one file, and that no text becomes markup."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from known_structures import known_structures

from pigen.bundle import (
    Bundle,
    BundleWriter,
    Column,
    Criterion,
    Reject,
    Verdict,
    read_bundle,
    strings,
    write_bundle,
)
from pigen.cli import main
from pigen.crystal.crystals import Crystals
from pigen.io.cif_text import to_cif
from pigen.report import Report, prepare, report_of_chunks, report_of_run, to_html
from pigen.report.charts import histogram
from pigen.report.content import Distribution
from pigen.report.page import draw
from pigen.report.viewer import parameters, viewer_script
from pigen.run.table import RunTable
from pigen.screening.stability import STABLE, SUN

NAMES = sorted(known_structures())
EVIL = "</script><script>alert(1)</script><img src=x onerror='alert(2)'>\"&amp;<!--\u2028\x00"
LENIENT = ("filter.spp=1e9", "filter.c=[0, 9]", "filter.mled=0", "filter.k=2")
VOID = {"meta", "rect", "path", "br", "input"}


def pigen(*args: str | Path, expect: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == expect, result.output + result.stderr
    if expect:
        assert result.stderr.startswith("pigen: error: ")
        assert result.stderr.count("\n") == 1
    return result


class Page(HTMLParser):
    """A page taken apart: elements that nest, their attributes, and texts by element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def inside(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]

    @property
    def words(self) -> str:
        shown = [text for name, text in self.texts if name not in ("script", "style")]
        return " ".join(" ".join(shown).split())

    @property
    def structures(self) -> dict[str, list[list[dict[str, str]]]]:
        found = json.loads(self.inside("script")[0])
        assert isinstance(found, dict)
        return found


def known_bundle() -> Bundle:
    crystals = [known_structures()[name].crystals for name in NAMES]
    return Bundle(crystals=Crystals.concatenate(crystals), ids=strings(NAMES))


def report_of(bundle: Bundle, most: int = 1000) -> Report:
    return report_of_chunks([prepare(bundle)], "known", most)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of pseudo-random cells, lenient enough that some pass."""
    out = tmp_path_factory.mktemp("runs") / "random"
    elements = "pseudo_random.elements=['Na', 'Cl', 'Ti', 'O']"
    settings = ("sample.n=20", "pseudo_random.n_atoms=[1, 8]", elements, *LENIENT)
    sets = [arg for setting in settings for arg in ("--set", setting)]
    pigen("run", "pseudo_random", *sets, "--out", out)
    return out


@pytest.fixture(scope="module")
def relaxed(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as if its survivors had been relaxed: cells 1 % larger, the first one stable."""
    out = tmp_path_factory.mktemp("runs") / "relaxed"
    out.mkdir()
    for name in ("evaluated.h5", "experiment.toml"):
        (out / name).write_bytes((finished / name).read_bytes())
    survivors = read_bundle(finished / "survivors.h5")
    energies = np.linspace(-0.01, 0.4, len(survivors))
    energies[-1] = np.nan
    reasons = strings(["", *[""] * (len(survivors) - 2), "no hull: Na"])
    bundle = Bundle(
        crystals=replace(survivors.crystals, lattice=1.01 * survivors.crystals.lattice),
        ids=strings(f"{i}-relaxed" for i in survivors.ids),
        parents=survivors.ids,
        columns={
            "e_hull": Column(energies, "eV/atom", "hull of a test"),
            "e_hull_reason": Column(reasons, "", "hull of a test"),
        },
        provenance={"relaxed_by": "springs"},
    )
    write_bundle(out / "relaxed.h5", bundle)
    table = RunTable.read(finished)
    total = table.rates["sequence"].total
    rates = {
        name: replace(table.rates["A"], passed=int(sum(energies < threshold)), total=total)
        for name, threshold in STABLE.items()
    }
    rates[SUN] = replace(rates["E100"], passed=1)
    table = replace(table, rates={**table.rates, **rates}, largest_mled=9.5)
    (out / "table.json").write_text(table.to_json(), encoding="utf-8")
    return out


# -- a run ----------------------------------------------------------------------------------------
def test_page_of_a_run_holds_its_table_counts_and_survivors(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    said = pigen("report", finished, "-o", out).stdout
    table = RunTable.read(finished)
    kept = table.rates["sequence"].passed
    assert 2 < kept < 20
    assert said == f"{out}: 20 structures, {kept} passed, {kept} listed\n"
    page = Page(out.read_text("utf-8"))
    assert page.inside("h1") == ["pseudo_random"]
    for rate in table.rates.values():
        assert f"{rate.passed} / 20 {100 * rate.fraction:.1f} ± " in page.words
    assert "99.8 %" not in page.words  # published for another row
    assert "76.6 %" in page.words  # D of the pseudo-random row
    for text in table.provenance.values():
        assert text in page.words
    survivors = read_bundle(finished / "survivors.h5")
    cifs = [views[0]["cif"] for views in page.structures["entries"]]
    best = np.argsort(-survivors.columns["mled"].values, kind="stable")
    assert cifs == [to_cif(survivors.crystals[int(i)], survivors.ids[i]) for i in best]
    heads = page.inside("h2")
    assert heads[:2] == ["Filters in sequence", "Best candidates"]
    assert heads[-1] == "Provenance"


def test_bars_of_the_funnel_are_those_of_the_table(finished: Path) -> None:
    report = report_of_run(finished, 5)
    table = RunTable.read(finished)
    bars = [(step.heading, step.left) for step in report.funnel]
    assert bars == [(letter, rate.passed) for letter, rate in table.funnel.items()]
    assert report.read == 20
    assert sum(n for _, n in report.reasons) == 20 - report.kept
    assert len(report.listing.rows) == min(5, report.kept)
    assert report.listing.total == report.kept


def test_relaxed_survivors_have_energies_and_two_views(relaxed: Path) -> None:
    report = report_of_run(relaxed, 1000)
    headings = [heading.text for heading in report.listing.headings]
    e_hull = [row[headings.index("E_hull")] for row in report.listing.rows]
    assert (e_hull[0].text, e_hull[0].key) == ("−10", -10.0)
    assert (e_hull[-1].text, e_hull[-1].key, e_hull[-1].remark) == ("–", None, "no hull: Na")
    first = report.listing.views[0]
    assert [view["label"] for view in first] == ["as generated", "relaxed"]
    lengths = [float(re.findall(r"_cell_length_a (\S+)", view["cif"])[0]) for view in first]
    assert lengths[1] == pytest.approx(1.01 * lengths[0])
    (drawn,) = [d for d in report.distributions if d.symbol == "E_hull"]
    assert (drawn.unit, drawn.missing) == ("meV/atom", 1)
    assert drawn.marks == (100.0, 50.0, 35.0, 25.0)
    assert [step.heading for step in report.funnel][-5:] == ["E", "E", "E", "E", "S.U.N."]
    assert report.provenance["relaxation"] == "springs"
    words = Page(to_html(report)).words
    assert "largest mled, e_hull < 50 meV/atom 9.5 bits" in words


def test_estimates_of_dft_come_first_with_their_errors(relaxed: Path, tmp_path: Path) -> None:
    for path in relaxed.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    bundle = read_bundle(relaxed / "relaxed.h5")
    estimate = np.linspace(0.2, 0.05, len(bundle))
    columns = {
        "e_hull_est": Column(estimate, "eV/atom", "a test"),
        "e_hull_est_sd": Column(np.full(len(bundle), 0.08), "eV/atom", "a test"),
        "p_hull_050": Column(np.full(len(bundle), 0.25), "", "a test"),
    }
    write_bundle(tmp_path / "relaxed.h5", replace(bundle, columns={**bundle.columns, **columns}))
    report = report_of_run(tmp_path, 1000)
    headings = [heading.text for heading in report.listing.headings]
    best = report.listing.rows[0]
    assert [best[headings.index(name)].text for name in ("E_hull_est", "P_50")] == ["50 ± 80", "25"]
    assert best[-1].text == bundle.parents[-1]  # the estimate decides, not CHGNet
    assert headings.index("E_hull_est") < headings.index("E_hull")


def test_of_many_survivors_those_near_the_hull_are_listed() -> None:
    bundle = known_bundle()
    e_hull = np.arange(len(bundle), dtype=float)[::-1].copy()
    e_hull[-1] = np.nan
    everything = Verdict(
        np.ones(len(bundle), dtype=bool), strings([""] * len(bundle)), Criterion("c", low=0.0)
    )
    bundle = replace(
        bundle,
        columns={"e_hull": Column(e_hull, "eV/atom", "a test")},
        verdicts={"c": everything},
    )
    report = report_of(bundle, most=2)
    assert [row[-1].text for row in report.listing.rows] == NAMES[-3:-1][::-1]
    assert f"2 of the {len(NAMES)} structures that passed" in to_html(report)


def test_unfinished_or_mixed_runs_are_refused(finished: Path, tmp_path: Path) -> None:
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "experiment.toml").write_bytes((finished / "experiment.toml").read_bytes())
    assert "not a finished run" in pigen("report", unfinished, expect=2).stderr
    (unfinished / "table.json").write_bytes((finished / "table.json").read_bytes())
    assert "--resume` finishes it" in pigen("report", unfinished, expect=2).stderr
    write_bundle(unfinished / "evaluated.h5", prepare(known_bundle()))
    assert "not of the same run" in pigen("report", unfinished, expect=1).stderr


# -- other sources --------------------------------------------------------------------------------
def test_structures_without_verdicts_are_judged_as_filter_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_bundle("known.h5", replace(known_bundle(), rejects=(Reject("x", "no cell: 7"),)))
    counts = json.loads(pigen("filter", "known.h5", "--keep-all", "--json").stdout)
    n = counts["kept"]
    said = pigen("report", "known.h5").stdout
    assert said == f"known_report.html: {len(NAMES) + 1} structures, {n} passed, {n} listed\n"
    page = Page((tmp_path / "known_report.html").read_text("utf-8"))
    for criterion in counts["criteria"]:
        rate = criterion["alone"]
        assert f"{rate['passed']} / {rate['total']}" in page.words
    for reason, times in counts["reasons"].items():
        assert f"{times} {reason}" in page.words
    assert "exists" in pigen("report", "known.h5", expect=2).stderr
    pigen("report", "known.h5", "--force")
    judged = tmp_path / "judged.html"
    pigen("report", "known_passed.h5", "-o", judged)  # judged already: the same verdicts
    assert Page(judged.read_text("utf-8")).words.count("not novel") == page.words.count("not novel")


def test_verdicts_of_a_bundle_count_and_lacking_columns_are_computed(tmp_path: Path) -> None:
    source, kept = tmp_path / "known.h5", tmp_path / "kept.h5"
    write_bundle(source, known_bundle())
    pigen("filter", source, "--k", "0.95:", "--c", "0.6:0.82", "-o", kept)
    page = report_of_chunks([prepare(read_bundle(kept))], "kept", 100)
    assert [words for _, words, _ in page.rates] == ["0.6 < c < 0.82", "k > 0.95 bits/atom"]
    drawn = {d.symbol: d for d in page.distributions}
    assert (drawn["C"].low, drawn["C"].high) == (0.6, 0.82)
    assert (drawn["K"].low, drawn["K"].high) == (0.95, None)
    assert (drawn["M_LED"].low, drawn["M_LED"].high) == (None, None)
    assert len(drawn["M_LED"].judged) == page.kept == len(read_bundle(kept))
    # The survivors of a filter, with what it took out among the reasons.
    assert sum(n for _, n in page.reasons) == len(NAMES) - page.kept
    assert "survivors of an earlier filter:" in page.remarks[0]
    known = {row[-1].text: row for row in page.listing.rows}["MgO"]
    texts = [entry.text for entry in known]
    assert texts == ["MgO", "Fm-3m (225)", "8", "0.806", "6.27", texts[5], "1.00", "MgO"]


def test_criteria_counted_alone_take_nothing_out(tmp_path: Path) -> None:
    source, judged = tmp_path / "known.h5", tmp_path / "judged.h5"
    write_bundle(source, known_bundle())
    pigen("filter", source, "--keep-all", "-o", judged)
    report = report_of_chunks([prepare(read_bundle(judged))], "judged", 100)
    assert [heading for heading, _, _ in report.rates] == ["A′", "A", "B", "C", "D", "K"]
    assert [step.heading for step in report.funnel] == ["A", "B", "C", "D"]
    assert {d.symbol: d.remark for d in report.distributions}["K"] == "takes nothing out"


def test_nothing_to_show_is_said(tmp_path: Path) -> None:
    empty = tmp_path / "empty.h5"
    write_bundle(empty, Bundle.empty())
    pigen("report", empty, "-o", tmp_path / "empty.html")
    page = Page((tmp_path / "empty.html").read_text("utf-8"))
    assert "No structure passed all filters." in page.words
    assert page.words.count("no values") == 5
    assert page.structures["entries"] == []
    writer = BundleWriter(tmp_path / "part.h5", {})
    with writer:
        writer.append(known_bundle())
        pigen("report", tmp_path / "part.h5", "-o", tmp_path / "part.html")
    assert "The bundle is incomplete" in (tmp_path / "part.html").read_text("utf-8")
    assert "no such folder" in pigen("report", empty, "-o", tmp_path / "x" / "y", expect=2).stderr


# -- the page -------------------------------------------------------------------------------------
def hostile() -> Bundle:
    """Markup wherever a bundle can hold text."""
    bundle = known_bundle()
    n = len(bundle)
    passed = np.arange(n) > 2
    reasons = strings("" if ok else f"{EVIL} {i}: x" for i, ok in enumerate(passed))
    return replace(
        bundle,
        ids=strings(f"{EVIL}{i}" for i in range(n)),
        columns={
            "prototype": Column(strings([EVIL] * n), EVIL, EVIL),
            "e_hull": Column(np.full(n, np.inf), "eV/atom", EVIL),
            "e_hull_reason": Column(strings([EVIL] * n), "", EVIL),
            "c": Column(np.full(n, 1e300), "", EVIL),
            "k": Column(strings([EVIL] * n), "", EVIL),
        },
        verdicts={
            re.sub("[/\0]", "", EVIL): Verdict(
                passed, reasons, Criterion(re.sub("[/\0]", "", EVIL), wording=EVIL)
            )
        },
        rejects=(Reject(EVIL, EVIL),),
        provenance={EVIL: EVIL, "experiment": EVIL},
    )


def test_no_text_of_a_bundle_becomes_markup(tmp_path: Path) -> None:
    text = to_html(report_of_chunks([prepare(hostile())], EVIL, 100))
    page = Page(text)
    kinds = [a.get("type") for a in page.all("script")]
    assert kinds == ["application/json", *["module"] * (1 + bool(viewer_script()))]
    assert len(page.all("style")) == 1
    assert not {"img", "iframe", "object", "embed", "base", "link", "form"} & {
        tag for tag, _ in page.elements
    }
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
    assert "<!--" not in text
    assert "\x00" not in text
    assert "alert(1)" in page.words  # shown as text
    for views in page.structures["entries"]:
        assert re.fullmatch(r"[A-Za-z0-9._+=-]+\.cif", views[0]["file"])
        assert re.match(r"data_[!-~]+\n_cell_length_a ", views[0]["cif"])


def test_the_page_needs_nothing_and_runs_no_script_but_its_own(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pigen.report.page.viewer_script", lambda: "")
    text = to_html(report_of_run(finished, 10))
    page = Page(text)
    text_alone = text.replace("http://www.w3.org/2000/svg", "")  # a name, fetched by nobody
    for tag, attributes in page.elements:
        assert not attributes.keys() & {"src", "srcset", "action", "style"}, tag
        assert (attributes.get("href") or "#").startswith("#"), tag
    assert not re.search(r"https?:|@import|url\((?!#)|fetch\(|XMLHttp|import\(", text_alone)
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    for kind, content in (("style", page.inside("style")), ("script", page.inside("script")[1:])):
        digest = b64encode(sha256("".join(content).encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert text == to_html(report_of_run(finished, 10))


def test_two_hundred_survivors_fit_in_five_megabytes() -> None:
    rng = np.random.default_rng(0)
    n, atoms = 200, 20
    crystals = Crystals(
        lattice=np.tile(8.0 * np.eye(3), (n, 1, 1)),
        frac_coords=rng.random((n * atoms, 3)),
        atomic_numbers=rng.integers(1, 84, n * atoms),
        ptr=np.arange(n + 1) * atoms,
    )
    figures = {
        name: Column(rng.random(n), "", "a test") for name in ("spp", "c", "mled", "k", "e_hull")
    }
    passed = Verdict(np.ones(n, dtype=bool), strings([""] * n), Criterion("c", low=0.0))
    bundle = Bundle(
        crystals=crystals,
        ids=strings(f"{'x' * 50}-{i}" for i in range(n)),
        columns=figures,
        verdicts={"c": passed},
    )
    size = len(to_html(report_of(bundle)).encode())
    assert size < 5e6


# -- charts ---------------------------------------------------------------------------------------
def distribution(values: list[float], **more: float | bool) -> Distribution:
    array = np.array(values)
    return Distribution("T", "T", "u", array, array[::2], 0, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "more"),
    [
        ([0.7], {}),
        ([0.0, 0.0, 0.0], {"low": -1.0}),
        ([1e99, -1e99], {}),
        ([5.0, 5.0 + 1e-13], {"high": 1e6}),
        ([1.0, 2.0, 2.0, 20.0], {"whole": True}),
        ([*np.linspace(-1, 1, 50), 1e12], {"high": 0.362}),
        ([*range(1, 200), 100000], {"whole": True}),
    ],
)
def test_a_histogram_counts_every_value_once(
    values: list[float], more: dict[str, float | bool]
) -> None:
    drawn = distribution(values, **more)
    chart = draw(drawn)
    found = histogram(drawn)
    assert found is not None
    Page(chart)
    bars = re.findall(r"<title>[^<]*: (\d+), of which (\d+) passed</title>", chart)
    assert sum(int(n) for n, _ in bars) + sum(found.beyond) == len(values)
    assert len(bars) <= 70
    assert 2 <= chart.count('class="middle"') <= 14
    for x in re.findall(r' x="(-?[\d.e+-]+)"', chart):
        assert -1 <= float(x) <= 381


def test_a_window_is_drawn_between_its_ends() -> None:
    chart = draw(distribution([0.5, 0.7, 0.9], low=0.55, high=0.85))
    (left, width) = re.findall(r'class="window" x="([\d.]+)" y="22" width="([\d.]+)"', chart)[0]
    lines = re.findall(r'class="threshold" d="M([\d.]+) ', chart)
    assert lines == [left, str(round(float(left) + float(width), 1))]
    assert ">0.55</text>" in chart
    assert ">0.85</text>" in chart


def test_the_best_have_cards_with_pictures_and_error_bars(relaxed: Path, tmp_path: Path) -> None:
    report = report_of_run(relaxed, 1000)
    assert [card.id for card in report.cards] == [row[-1].text for row in report.listing.rows][:12]
    first = report.cards[0]
    assert ("E_hull", "−10 meV/atom") in first.figures
    assert first.estimate is None
    marked = replace(report, cards=(replace(first, estimate=(-10.0, 40.0)), *report.cards[1:]))
    page = Page(to_html(marked))
    shown = [a["class"] for _, a in page.elements if a.get("class") in ("crystal", "errorbar")]
    assert shown.count("crystal") == len(report.cards)
    assert shown.count("errorbar") == 1
    labels = [a.get("aria-label") for _, a in page.elements]
    assert "-10 ± 40 meV/atom above the hull" in labels


def test_the_viewer_is_embedded_once_and_named_by_its_hash(finished: Path) -> None:
    pytest.importorskip("weas_widget", reason="weas-widget is not installed ('.[report]')")
    page = Page(to_html(report_of_run(finished, 10)))
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv")]
    script = viewer_script()
    assert 5e5 < len(script) < 2e6
    digest = b64encode(sha256(script.encode()).digest()).decode()
    assert policy is not None
    assert f"'sha256-{digest}'" in policy
    for views in page.structures["entries"]:
        seen = views[0]["seen"]
        assert len(seen["atoms"]["positions"]) == len(seen["atoms"]["symbols"])
        assert set(seen["speciesSettings"]) == set(seen["atoms"]["symbols"])
        assert views[0]["parameters"].startswith("a = ")


def test_cell_parameters_in_words() -> None:
    lattice = np.array([[3.0, 0, 0], [-1.5, 1.5 * 3**0.5, 0], [0, 0, 5.0]])
    assert (
        parameters(lattice) == "a = 3.000, b = 3.000, c = 5.000 Å; α = 90.0°, β = 90.0°, γ = 120.0°"
    )
