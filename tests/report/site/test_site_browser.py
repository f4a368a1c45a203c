"""The pages in headless Chromium, opened from disk: sorting, filters, keyboard, widths, colours."""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM = next(
    (p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None
)

PATIENCE_MS = 120_000
"""For Chromium to start and for what is looked for in a page, on a busy machine too."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None,
        reason="the playwright package is not installed: pip install playwright",
    ),
    pytest.mark.skipif(
        CHROMIUM is None, reason="no chromium on the path: apt-get install chromium"
    ),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    # Chromium refuses its sandbox to the superuser, as in containers.
    flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=flags, timeout=PATIENCE_MS
        )
        yield opened
        opened.close()


class Tab:
    """One page, with everything that went wrong in it."""

    def __init__(self, browser: Any, site: Path, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.site = site
        self.wrong: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("requestfailed", self._failed)
        self.page.on("request", self._local)

    def _failed(self, request: Any) -> None:
        # The icon of a page that is left before it was read is given up, not missing.
        if request.failure != "net::ERR_ABORTED":
            self.wrong.append(request.url)

    def _local(self, request: Any) -> None:
        if not request.url.startswith("file://"):
            self.wrong.append(request.url)

    def go(self, name: str) -> Any:
        self.page.goto((self.site / name).resolve().as_uri())
        return self.page

    def methods(self, group: str = "measured") -> list[str]:
        """First column of the visible lines of the first table."""
        lines = self.page.locator("table").first.locator(f"tbody.{group} tr.line:visible")
        names = lines.locator("th").all_inner_texts()
        return [text.split("\n")[0].rstrip("†‡§ ") for text in names]


@pytest.fixture
def tab(browser: Any, site: Path) -> Iterator[Tab]:
    opened = Tab(browser, site)
    yield opened
    opened.context.close()
    assert not opened.wrong


def test_every_kind_of_page_opens_without_an_error_or_a_request(tab: Tab, site: Path) -> None:
    folders = ("datasets", "methods", "runs", "papers")
    names = ["index.html"] + [
        file.relative_to(site).as_posix()
        for folder in folders
        for file in sorted((site / folder).glob("*.html"))[:3]
    ]
    for name in names:
        assert tab.go(name).locator("h1").is_visible()


def test_a_heading_sorts_its_column_both_ways_within_each_group(tab: Tab) -> None:
    page = tab.go("datasets/mvtec.html")
    table = page.locator("table").first
    assert tab.methods() == ["cflow", "padim", "mean"]
    published = tab.methods("published")
    heading = table.locator("thead th", has_text="Image AUROC")
    assert heading.get_attribute("aria-sort") == "descending"
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    # The line that lacks a category stays last.
    assert tab.methods() == ["padim", "cflow", "mean"]
    assert sorted(tab.methods("published")) == sorted(published)
    table.locator("thead th", has_text="Method").get_by_role("button").click()
    assert heading.get_attribute("aria-sort") is None
    names = table.locator("tbody.published tr.line:not(.unranked) th").all_inner_texts()
    assert names == sorted(names, key=str.lower)


def test_missing_numbers_stay_last_whichever_way_is_sorted(tab: Tab) -> None:
    page = tab.go("datasets/mvtec.html")
    table = page.locator("table").first
    button = table.locator("thead th", has_text="Image AUROC").get_by_role("button")
    for _ in range(2):
        button.click()
        rows = table.locator("tbody.published tr.line:not(.unranked) td:nth-child(2)")
        present = [bool(text.strip()) for text in rows.all_inner_texts()]
        assert present == sorted(present, reverse=True)


def test_filters_hide_lines_and_say_how_many_are_left(tab: Tab) -> None:
    page = tab.go("datasets/mvtec.html")
    everything = len(tab.methods("published"))
    page.get_by_role("combobox", name="Prior").select_option("ImageNet")
    assert tab.methods() == ["padim"]
    assert len(tab.methods("published")) == everything
    everywhere = page.locator("table.main tr.line")
    visible = page.locator("table.main tr.line:visible").count()
    status = page.get_by_role("status").inner_text()
    assert status.startswith(f"{visible} of {everywhere.count()} lines")
    page.get_by_role("checkbox", name="Published rows").uncheck()
    assert tab.methods("published") == []
    page.get_by_role("button", name="Clear").click()
    page.wait_for_function("document.querySelector('.status').textContent === ''")
    assert len(tab.methods("published")) == everything
    page.get_by_role("searchbox", name="Method").fill("CFL")
    assert tab.methods() == ["cflow"]
    page.get_by_role("searchbox", name="Method").fill("nothing is called this")
    empty = page.locator(".nomatch:visible")
    assert empty.count() == page.locator("table.main").count()
    page.get_by_role("searchbox", name="Method").fill("CFL")
    assert page.locator(".nomatch:visible").count() < page.locator("table.main").count()
    page.get_by_role("searchbox", name="Method").fill("")
    page.get_by_role("combobox", name="Device").select_option("CUDA")
    assert tab.methods() == ["cflow"]
    page.get_by_role("combobox", name="Device").select_option("")
    page.get_by_role("combobox", name="Backbone").select_option("ResNet18")
    assert tab.methods() == ["padim"]
    assert 0 < len(tab.methods("published")) < everything


def test_a_page_of_published_numbers_alone_sorts_and_filters(tab: Tab) -> None:
    page = tab.go("datasets/btad.html")
    everything = tab.methods("published")
    assert everything[0] == "PyramidFlow"
    assert len(everything) == 7
    pixel = page.locator("thead th", has_text="Pixel AUROC")
    pixel.get_by_role("button").click()
    assert pixel.get_attribute("aria-sort") == "descending"
    assert sorted(tab.methods("published")) == sorted(everything)
    assert page.get_by_role("combobox", name="Device").count() == 0
    assert page.get_by_role("checkbox").count() == 0
    page.get_by_role("searchbox", name="Method").fill("vt-adl")
    assert tab.methods("published") == ["VT-ADL", "VT-ADL"]
    assert page.get_by_role("status").inner_text() == "2 of 7 published lines shown."
    page.get_by_role("searchbox", name="Method").fill("nothing is called this")
    assert page.locator(".nomatch:visible").count() == 1
    page.get_by_role("button", name="Clear").click()
    page.wait_for_function("document.querySelector('.status').textContent === ''")
    page.get_by_role("combobox", name="Prior").select_option("ImageNet")
    assert tab.methods("published") == ["PyramidFlow"]


def test_a_published_number_leads_to_the_table_of_its_paper(tab: Tab) -> None:
    page = tab.go("datasets/btad.html")
    page.locator("tr.line", has_text="PyramidFlow").first.get_by_role("link").last.click()
    assert page.locator("h1").inner_text().startswith("PyramidFlow")
    assert page.locator(":target").inner_text().startswith("Table 4")
    page.get_by_role("link", name="data set btad").click()
    assert page.locator("h1").inner_text() == "btad"


def test_the_keyboard_alone_reaches_and_sorts(tab: Tab) -> None:
    page = tab.go("datasets/mvtec.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    heading = page.locator("thead th", has_text="Pixel AUROC").first
    heading.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "ascending"


def test_a_line_leads_to_its_runs_and_back(tab: Tab) -> None:
    page = tab.go("datasets/mvtec.html")
    page.locator("tr.line", has_text="padim").first.get_by_role("link").last.click()
    assert page.locator("h1").inner_text() == "Runs of padim on mvtec"
    assert page.locator(":target").inner_text() == "Where the numbers come from"
    page.locator("table").first.get_by_role("link").first.click()
    assert page.locator("tr:target").count() == 1
    page.locator("h1").get_by_role("link", name="mvtec").click()
    assert page.locator("h1").inner_text() == "mvtec"


def test_random_weights_are_folded_until_asked_for(tab: Tab) -> None:
    page = tab.go("datasets/mvtec.html")
    hidden = page.locator("details.random table").first
    assert not hidden.is_visible()
    page.locator("details.random summary").first.click()
    assert hidden.is_visible()


@pytest.mark.parametrize("width", [320, 390, 1400])
def test_no_page_is_wider_than_the_window(browser: Any, site: Path, width: int) -> None:
    tab = Tab(browser, site, viewport={"width": width, "height": 800})
    names = ("index", "datasets/mvtec", "datasets/btad", "methods/padim", "papers/cflow")
    for name in names:
        page = tab.go(f"{name}.html")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        captions = page.locator("caption span:visible")
        boxes = [box for box in (c.bounding_box() for c in captions.all()[:3]) if box]
        assert all(box["x"] + box["width"] <= width for box in boxes), name
    tab.context.close()
    assert not tab.wrong


@pytest.mark.parametrize("width", [390, 1400])
def test_where_a_number_comes_from_is_in_view(browser: Any, site: Path, width: int) -> None:
    tab = Tab(browser, site, viewport={"width": width, "height": 800})
    page = tab.go("datasets/mvtec.html")
    lines = page.locator("table.main tr.line:visible")
    assert lines.count() > 5
    for line in lines.all():
        for link in line.locator("a.source, .source a").all():
            box = link.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width, link.inner_text()
    tab.context.close()
    assert not tab.wrong


def test_a_table_that_goes_on_beyond_the_edge_says_so(browser: Any, site: Path) -> None:
    tab = Tab(browser, site, viewport={"width": 390, "height": 800})
    page = tab.go("datasets/mvtec.html")
    region = page.locator(".scroll").first
    cue = page.locator(".cue").first
    assert cue.is_visible()
    assert "more" in region.get_attribute("class")
    region.evaluate("e => e.scrollLeft = e.scrollWidth")
    page.wait_for_function("!document.querySelector('.scroll').classList.contains('more')")
    assert cue.is_visible()
    page.set_viewport_size({"width": 2600, "height": 800})
    page.wait_for_function("!document.querySelector('.cue').classList.contains('more')")
    assert not cue.is_visible()
    tab.context.close()
    assert not tab.wrong


def test_what_is_said_to_be_sorted_is_sorted(tab: Tab) -> None:
    page = tab.go("datasets/mvtec.html")
    for body in page.locator("table.main tbody").all():
        rows = body.locator("tr.line:not(.unranked) td:nth-child(2)")
        found = [c.get_attribute("data-n") for c in rows.all()]
        present = [float(n) for n in found if n is not None]
        assert present == sorted(present, reverse=True)
        assert found[: len(present)] == [n for n in found if n is not None]


def test_the_link_to_the_other_published_rows_unfolds_nothing_but_leads_there(tab: Tab) -> None:
    page = tab.go("datasets/mvtec.html")
    page.get_by_role("link", name="more published rows").first.click()
    assert page.locator(":target").inner_text() == "All published rows on mvtec"
    page.locator("summary", has_text="published rows on mvtec").click()
    assert page.locator("table", has_text="MahalanobisAD").is_visible()


def _brightness(colour: str) -> float:
    """Relative luminance of "rgb(r, g, b)" (WCAG 2.2)."""
    parts = [float(p) / 255 for p in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_colour_schemes(browser: Any, site: Path, scheme: str) -> None:
    tab = Tab(browser, site, color_scheme=scheme)
    background = "e => { while (getComputedStyle(e).backgroundColor === 'rgba(0, 0, 0, 0)') "
    background += "e = e.parentElement; return getComputedStyle(e).backgroundColor; }"
    places = ("h1", "caption", "tbody.published th", "tbody.published small", ".mark", "tr.line a")
    found = [("datasets/mvtec.html", place) for place in places]
    found += [("datasets/btad.html", place) for place in (".notice p", ".notice code")]
    for name, place in found:
        element = tab.go(name).locator(place).first
        back = _brightness(element.evaluate(background))
        front = _brightness(element.evaluate("e => getComputedStyle(e).color"))
        contrast = (max(back, front) + 0.05) / (min(back, front) + 0.05)
        assert contrast >= 4.5, f"{place}: {contrast:.1f}"
        assert (front < back) == (scheme == "light")
    tab.context.close()


def test_without_scripts_the_tables_are_whole(browser: Any, site: Path) -> None:
    tab = Tab(browser, site, java_script_enabled=False)
    page = tab.go("datasets/mvtec.html")
    assert not page.locator("form.filters").is_visible()
    assert tab.methods() == ["cflow", "padim", "mean"]
    assert tab.methods("published")
    tab.context.close()
    assert not tab.wrong
