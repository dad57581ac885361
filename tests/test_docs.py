"""The pages: links between them resolve, what is generated is current, what is shown is printed."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from transcripts import check, steps_of

from pigen.cli import main
from pigen.cli.reference import reference_page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")])
MAX_IMAGE_BYTES = 150 * 1024


def prose_of(page: Path) -> str:
    """The page without its code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^ {4}.*$|`[^`\n]*`", "", text, flags=re.MULTILINE)


def anchors_of(page: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them (`make docs` checks those of the site)."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_file(), f"{page.name}: {link} leads nowhere"
        assert target.is_relative_to(ROOT)
        if page.parent == DOCS:  # the site holds nothing else
            assert target.is_relative_to(DOCS), f"{page.name}: {link} leaves docs/"
        if anchor:
            assert anchor in anchors_of(target), f"{page.name}: no heading for {link}"


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    navigation = re.findall(r"([\w-]+\.md)$", text, re.MULTILINE)
    assert sorted(navigation) == sorted(page.name for page in DOCS.glob("*.md"))


def test_pages_name_no_path_of_this_machine() -> None:
    for page in [*PAGES, ROOT / "mkdocs.yml"]:
        assert not re.search(r"(?<![\w.])/(work|home|tmp|root)/", page.read_text("utf-8")), page


def test_images_are_small_and_used() -> None:
    text = "".join(page.read_text("utf-8") for page in PAGES)
    for image in (DOCS / "images").iterdir():
        assert image.stat().st_size < MAX_IMAGE_BYTES
        assert f"images/{image.name}" in text


def test_command_line_page_is_current() -> None:
    assert (DOCS / "cli.md").read_text("utf-8") == reference_page(), "run `make docs`"


def test_messages_of_the_faq_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    steps = steps_of(DOCS / "faq.md")
    assert len(steps) > 10
    for step in steps:
        for part in step.command.strip().split("; "):  # in this process: a tenth of the time
            if part.startswith("pigen "):
                with pytest.raises(SystemExit):
                    main(shlex.split(part)[1:])
            else:
                subprocess.run(["bash", "-c", part], check=True)
        printed = capfd.readouterr()
        check(DOCS / "faq.md", step, printed.out + printed.err)
