"""The report in real headless browsers; skipped where selenium or a browser with its driver lacks.

Install what it needs with ``pip install -e '.[browser]'`` and, on Debian, ``apt install chromium
chromium-driver``. Firefox is tried where ``geckodriver`` is on the path.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_structures import known_structures

from pigen.bundle import Bundle, Column, Criterion, Verdict, strings
from pigen.crystal.crystals import Crystals
from pigen.io.cif_text import to_cif
from pigen.report import prepare, report_of_chunks, to_html

selenium = pytest.importorskip("selenium", reason="selenium is not installed ('.[browser]')")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

NAMES = ("MgO", "CaF2", "SrTiO3", "LiCoO2")
EVIL = "<img src=x onerror='window.pwned=1'></script><script>window.pwned=1</script>"
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run"),
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader"),  # WebGL without a card
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--window-size=1300,1000",
)


def bundle() -> Bundle:
    """Known structures that all passed; one has no e_hull, and the last is badly named."""
    crystals = Crystals.concatenate([known_structures()[name].crystals for name in NAMES])
    n = len(crystals)
    passed = Verdict(np.ones(n, dtype=bool), strings([""] * n), Criterion("c", low=0.5))
    e_hull = Column(np.array([0.05, np.nan, -0.01, 0.1]), "eV/atom", "a test")
    return Bundle(
        crystals=crystals,
        ids=strings([*NAMES[:-1], EVIL]),
        columns={"e_hull": e_hull},
        verdicts={"c": passed},
    )


def chromium(downloads: Path) -> Any:
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no chromium with chromedriver on the path")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(driver))


def firefox(downloads: Path) -> Any:
    browser, driver = shutil.which("firefox"), shutil.which("geckodriver")
    if browser is None or driver is None:
        pytest.skip("no firefox with geckodriver on the path")
    options = webdriver.FirefoxOptions()
    options.binary_location = browser
    options.add_argument("-headless")
    options.set_preference("browser.download.folderList", 2)
    options.set_preference("browser.download.dir", str(downloads))
    service = webdriver.FirefoxService(driver, log_output=os.devnull)
    return webdriver.Firefox(options, service)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds page.html, without a viewer, and view.html; receives what is downloaded."""
    folder = tmp_path_factory.mktemp("page")
    report = report_of_chunks([prepare(bundle())], "known", 100)
    with pytest.MonkeyPatch.context() as patch:
        (folder / "view.html").write_text(to_html(report), encoding="utf-8")
        patch.setattr("pigen.report.page.viewer_script", lambda: "")
        (folder / "page.html").write_text(to_html(report), encoding="utf-8")
    return folder


@pytest.fixture(scope="module", params=[chromium, firefox], ids=lambda start: start.__name__)
def driver(request: pytest.FixtureRequest, folder: Path) -> Iterator[Any]:
    started = request.param(folder)
    yield started
    started.quit()


@pytest.fixture
def page(driver: Any, folder: Path) -> Any:
    """The page, just opened."""
    driver.get((folder / "page.html").as_uri())
    return driver


def css(page: Any, selector: str) -> Any:
    return page.find_element("css selector", selector)


def formulas(page: Any) -> list[str]:
    shown = page.find_elements("css selector", "#list tbody tr:not([hidden]) .open")
    return [e.text for e in shown]


def errors(page: Any) -> list[str]:
    if page.name != "chrome":
        return []
    return [e["message"] for e in page.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]


def wait(until: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_page_loads_nothing_runs_no_foreign_script_and_has_no_errors(page: Any) -> None:
    assert page.title == "known – PIGEN"
    assert page.execute_script("return window.pwned") is None
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert errors(page) == []
    assert EVIL in css(page, "#list").text


def test_the_policy_stops_a_script_that_would_get_in(page: Any) -> None:
    page.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.pwned = 1';"
        "document.body.append(s)"
    )
    assert page.execute_script("return window.pwned") is None
    if page.name == "chrome":
        page.get_log("browser")  # the refusal, which must not count against the next test


def test_the_list_sorts_by_click_and_by_key(page: Any) -> None:
    assert formulas(page) == ["SrTiO3", "MgO", "LiCoO2", "CaF2"]  # the best first
    headings = {
        e.text.split(" ")[0].split("\n")[0]: e for e in page.find_elements("css selector", ".sort")
    }
    headings["Formula"].click()
    assert formulas(page) == ["CaF2", "LiCoO2", "MgO", "SrTiO3"]
    headings["Formula"].click()
    assert formulas(page) == ["SrTiO3", "MgO", "LiCoO2", "CaF2"]
    (e_hull,) = [e for name, e in headings.items() if name.startswith("E")]
    e_hull.send_keys(Keys.ENTER)
    assert formulas(page) == ["SrTiO3", "MgO", "LiCoO2", "CaF2"]  # by number; the unknown last
    sorts = page.find_elements("css selector", "th[aria-sort=ascending]")
    assert [e.text for e in sorts] == [e_hull.text]
    e_hull.send_keys(Keys.SPACE)
    assert formulas(page) == ["LiCoO2", "MgO", "SrTiO3", "CaF2"]
    headings["Space"].click()
    assert formulas(page)[0] == "LiCoO2"  # 166, before the three-digit 221 and 225


def test_elements_are_asked_for_left_out_and_forgotten(page: Any) -> None:
    buttons = {e.text: e for e in page.find_elements("css selector", "#elements button")}
    assert list(buttons) == ["Ca", "Co", "F", "Li", "Mg", "O", "Sr", "Ti"]
    buttons["O"].click()
    assert formulas(page) == ["SrTiO3", "MgO", "LiCoO2"]
    assert css(page, "#save-all").text == "Download these 3"
    buttons["Li"].click()
    buttons["Li"].click()
    assert formulas(page) == ["SrTiO3", "MgO"]
    cards = page.find_elements("css selector", ".card:not([hidden]) h3 span")
    assert [card.text for card in cards] == ["SrTiO3", "MgO"]
    for name in ("O", "O", "Li"):
        buttons[name].click()
    assert len(formulas(page)) == 4


def test_what_is_ticked_comes_as_one_archive(page: Any, folder: Path) -> None:
    boxes = page.find_elements("css selector", "#list input")
    boxes[1].click()
    boxes[3].click()
    css(page, "#save-all").click()
    path = folder / "structures.zip"
    wait(path.exists)
    wait(lambda: zipfile.is_zipfile(path))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["1_MgO.cif", "2_CaF2.cif"]
        text = archive.read("2_CaF2.cif").decode()
    assert text == to_cif(bundle().crystals[1], "CaF2")
    path.unlink()


def test_a_chart_is_saved_as_it_is_seen(page: Any, folder: Path) -> None:
    css(page, '.save-chart[data-name="Compactness"]').click()
    path = folder / "Compactness.svg"
    wait(path.exists)
    wait(lambda: "</svg>" in path.read_text("utf-8"))
    text = path.read_text("utf-8")
    assert text.startswith("<svg")
    assert re.search(r'class="kept"[^>]* style="fill:\s?rgb\(0, 114, 178\)', text)
    path.unlink()


def test_a_point_of_the_map_opens_its_structure(page: Any, folder: Path) -> None:
    points = page.find_elements("css selector", "#map .point")
    assert len(points) == 3  # one has no energy
    across, up = page.find_elements("css selector", "#map select")
    assert (across.get_property("value"), up.get_property("value")) == ("6", "3")
    assert "Ehull (meV/atom)" in css(page, "#map svg").text
    names = [page.execute_script("return arguments[0].textContent", point) for point in points]
    assert names == ["SrTiO3", "MgO", "LiCoO2"]
    points[1].click()
    assert css(page, "#list tr.chosen .open").text == "MgO"
    ring, place = css(page, "#map .here"), points[1]
    assert ring.get_attribute("cx") == place.get_attribute("cx")
    assert float(points[0].get_attribute("cy")) > float(points[1].get_attribute("cy"))  # lower
    page.execute_script(
        "arguments[0].value = '4'; arguments[0].dispatchEvent(new Event('change'))", up
    )
    assert len(page.find_elements("css selector", "#map .point")) == 4  # all have atoms
    css(page, "#elements button").click()  # Ca
    assert len(page.find_elements("css selector", "#map .point")) == 1
    css(page, '.save-chart[data-name="map"]').click()
    path = folder / "map.svg"
    wait(path.exists)
    wait(lambda: "</svg>" in path.read_text("utf-8"))
    path.unlink()


@pytest.mark.slow  # WebGL without a card takes its time
def test_the_view_shows_the_structure_of_a_row(driver: Any, folder: Path) -> None:
    pytest.importorskip("weas_widget", reason="weas-widget is not installed ('.[report]')")
    driver.get((folder / "view.html").as_uri())
    wait(lambda: bool(driver.find_elements("css selector", "#stage canvas")), 120)
    assert errors(driver) == []
    assert css(driver, "#name").text == "SrTiO3"
    assert css(driver, "#legend").text.replace("\n", " ") == "O × 3 Ti × 1 Sr × 1"
    driver.find_elements("css selector", ".open")[1].send_keys(Keys.ENTER)
    assert css(driver, "#name").text == "MgO"
    assert "a = 4.2" in css(driver, "#cell").text
    script = "document.getElementById('style').value = '2';"
    script += "document.getElementById('style').dispatchEvent(new Event('change'))"
    driver.execute_script(script)
    severe = [e for e in driver.get_log("browser") if e["level"] == "SEVERE"]
    assert severe == []


def test_a_cif_is_what_export_writes(page: Any, folder: Path) -> None:
    expected = to_cif(bundle().crystals[1], "CaF2")
    page.find_elements("css selector", ".save")[3].click()
    first = folder / "CaF2.cif"
    wait(first.exists)
    wait(lambda: first.read_text("utf-8") == expected)
    first.unlink()


@pytest.mark.parametrize("width", [360, 768, 1440, 1920])
def test_no_column_leaves_the_screen(page: Any, width: int) -> None:
    if page.name != "chrome":
        pytest.skip("set by the DevTools of chromium")
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 800}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    out = (
        "return [...document.querySelectorAll('main *, header *')].filter((e) => "
        "!e.closest('svg') && getComputedStyle(e).position !== 'absolute' && "
        "e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"
    )
    split = (
        "return [...document.querySelectorAll('button.save')].filter((e) => "
        "e.getBoundingClientRect().height > 40).length"
    )
    beyond, broken, scrolled = (
        page.execute_script(out),
        page.execute_script(split),
        page.execute_script("return document.documentElement.scrollWidth"),
    )
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert (beyond, broken) == ([], 0)
    assert scrolled <= width


def test_dark_is_dark(page: Any) -> None:
    if page.name != "chrome":
        pytest.skip("set by the DevTools of chromium")
    colours = []
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        script = "return getComputedStyle(document.body).backgroundColor"
        colours.append(page.execute_script(script))
    assert colours == ["rgb(255, 255, 255)", "rgb(20, 23, 26)"]
