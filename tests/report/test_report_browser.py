"""The report in real headless browsers; skipped where selenium or a browser with its driver lacks.

Install what it needs with ``pip install -e '.[browser]'`` and, on Debian, ``apt install chromium
chromium-driver``. Firefox is tried where ``geckodriver`` is on the path.
"""

from __future__ import annotations

import os
import shutil
import time
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
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

NAMES = ("MgO", "CaF2", "SrTiO3", "LiCoO2")
EVIL = "<img src=x onerror='window.pwned=1'></script><script>window.pwned=1</script>"
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
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
    """Holds page.html, and receives what is downloaded."""
    folder = tmp_path_factory.mktemp("page")
    page = to_html(report_of_chunks([prepare(bundle())], "known", 100))
    (folder / "page.html").write_text(page, encoding="utf-8")
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
    return [e.text for e in page.find_elements("css selector", "#list tbody .open")]


def picture(page: Any) -> str:
    return str(page.execute_script("return document.getElementById('canvas').toDataURL()"))


def wait(until: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_page_loads_nothing_runs_no_foreign_script_and_has_no_errors(page: Any) -> None:
    assert page.title == "known – PIGEN"
    assert page.execute_script("return window.pwned") is None
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0
    if page.name == "chrome":
        assert page.get_log("browser") == []
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


def test_a_structure_turns_by_itself_by_mouse_and_by_key(page: Any) -> None:
    canvas, button = css(page, "#canvas"), css(page, "#rotate")
    if button.get_attribute("aria-pressed") == "false":  # the system asks for less motion
        button.click()
    start = picture(page)
    wait(lambda: picture(page) != start)
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    still = picture(page)
    time.sleep(0.2)
    assert picture(page) == still
    ActionChains(page).drag_and_drop_by_offset(canvas, 40, 25).perform()
    dragged = picture(page)
    assert dragged != still
    canvas.send_keys(Keys.ARROW_LEFT)
    assert picture(page) not in (dragged, still)
    canvas.send_keys(Keys.ARROW_RIGHT)
    canvas.send_keys("+")
    assert picture(page) != dragged
    canvas.send_keys("-")
    assert picture(page) == dragged


def test_another_row_shows_another_structure(page: Any) -> None:
    css(page, "#rotate").click()
    first = picture(page)
    assert css(page, "#name").text == "SrTiO3"
    assert css(page, "#legend").text.replace("\n", " ") == "Sr × 1 Ti × 1 O × 3"
    page.find_elements("css selector", ".open")[1].send_keys(Keys.ENTER)
    assert css(page, "#name").text == "MgO"
    assert css(page, "#legend").text.split() == ["Mg", "×", "4", "O", "×", "4"]
    assert picture(page) != first
    assert css(page, "tr.chosen .open").text == "MgO"


def test_a_cif_is_what_export_writes(page: Any, folder: Path) -> None:
    expected = to_cif(bundle().crystals[1], "CaF2")
    page.find_elements("css selector", ".save")[3].click()
    first = folder / "CaF2.cif"
    wait(first.exists)
    wait(lambda: first.read_text("utf-8") == expected)
    first.unlink()
    page.find_elements("css selector", ".open")[3].click()
    css(page, "#cif").click()
    wait(first.exists)
    wait(lambda: first.read_text("utf-8") == expected)
    first.unlink()


def test_a_phone_need_not_scroll_sideways_and_dark_is_dark(page: Any) -> None:
    if page.name != "chrome":
        pytest.skip("set by the DevTools of chromium")
    metrics = {"width": 390, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    width = page.execute_script("return document.documentElement.scrollWidth")
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert width <= 390
    colours = []
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        script = "return getComputedStyle(document.body).backgroundColor"
        colours.append(page.execute_script(script))
    assert colours == ["rgb(255, 255, 255)", "rgb(20, 23, 26)"]
