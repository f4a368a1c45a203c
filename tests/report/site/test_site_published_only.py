"""Data sets without a measured score: a page and a line on the index with what papers print."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

import pytest

from bench.plan import discovery
from bench.report.site import build_site, load_site_data

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.report.site.printed import Printer
    from bench.rows.row import Row

    SiteRow = Callable[..., Row]
    WriteResults = Callable[[Path, Sequence[Row]], Path]


def words(markup: str) -> str:
    """The text of a page, or of a part of it, with single spaces."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def section(file: Path, heading: str) -> str:
    """The markup of the section with a heading of this id."""
    markup = file.read_text(encoding="utf-8")
    return markup.partition(f'aria-labelledby="{heading}"')[2].partition("</section>")[0]


@pytest.fixture(scope="module")
def visa(site: Path) -> str:
    return (site / "datasets" / "visa.html").read_text(encoding="utf-8")


def test_every_installed_data_set_that_papers_print_numbers_for_has_a_page(site: Path) -> None:
    pages = {file.stem for file in (site / "datasets").iterdir()}
    assert {"mvtec", "btad", "visa", "mtd", "stc"} <= pages
    assert not pages & {"rd-mvtec", "any", "folder", "synthetic"}


def test_such_a_page_says_that_nothing_is_measured_and_which_command_measures(visa: str) -> None:
    text = words(visa)
    assert "Published numbers only. Nothing is measured on visa here yet" in text
    methods = ",".join(plugin.name for plugin in discovery.describe_all("methods")[0])
    assert f"bench run --method {methods} --dataset visa" in text
    assert "<title>visa: published numbers only · Flawbench</title>" in visa
    assert 'aria-label="Published numbers on visa"' in visa
    assert "All published rows" not in visa
    assert 'href="../data/visa.csv"' not in visa
    assert 'href="../data/published.csv"' in visa


def test_such_a_page_shows_the_lines_that_stand_at_the_end_of_a_measured_one(
    tmp_path: Path, site: Path, site_row: SiteRow, write_results: WriteResults
) -> None:
    results = write_results(tmp_path / "r", [site_row(dataset="visa", category="pcb1")])
    build_site(load_site_data([results]), tmp_path / "out")
    for name in ("mvtec", "visa"):  # each is measured on one of the two sites
        first, second = (
            section(folder / "datasets" / f"{name}.html", "published")
            for folder in (site, tmp_path / "out")
        )
        lines = r'<tr class="line.*?</tr>'
        assert re.findall(lines, first, re.S) == re.findall(lines, second, re.S)
        assert first.count('<tr class="line') > 12


def test_such_a_page_ranks_nothing_and_marks_epochs_on_test_and_definitions(site: Path) -> None:
    page = (site / "datasets" / "btad.html").read_text(encoding="utf-8")
    assert set(re.findall(r'<tbody class="(\w+)"', page)) == {"published"}
    assert "(best)" not in page
    text = words(page)
    assert "these rows are not ranked with measured lines, nor with each other" in text
    assert "PyramidFlow † Res18, 1024 px pyramidflow: Table 4" in text
    assert "† epoch chosen on the test set" in text
    assert "AUPRO as printed is each paper's own definition" in text
    assert "S25 BTAD baselines disagree" in text


def test_columns_in_which_no_paper_prints_a_number_are_left_out(visa: str, site: Path) -> None:
    headings = [words(h) for h in re.findall(r"<th scope=\"col\".*?</th>", visa)]
    scores = ["Image AUROC", "Pixel AUROC", "AUPRO as printed"]
    assert headings == ["Method and source", *scores, "Categories", "Backbone", "Prior"]
    mtd = words(section(site / "datasets" / "mtd.html", "published"))
    assert "Image AUROC Categories" in mtd


def test_sources_that_are_not_shown_are_named_with_their_pages(site: Path) -> None:
    sources = section(site / "datasets" / "btad.html", "sources")
    shown, left = sources.split("Other papers and repositories with numbers on btad")
    assert 'href="../papers/pyramidflow.html"' in shown
    assert 'href="../papers/im_iad.html"' in left
    assert 'href="../papers/pyramidflow.html"' not in left


def test_the_index_lists_measured_data_sets_first_and_the_others_apart(site: Path) -> None:
    index = site / "index.html"
    markup = index.read_text(encoding="utf-8")
    assert markup.index('id="datasets"') < markup.index('id="published-only"')
    measured, printed = section(index, "datasets"), section(index, "published-only")
    assert "datasets/mvtec.html" in measured
    assert not re.search(r"datasets/(btad|visa|mtd)\.html", measured)
    assert re.findall(r'href="datasets/(\w+)\.html"', printed) == ["btad", "mtd", "stc", "visa"]
    assert printed.count("published only</td>") == 4
    assert "Data sets with published numbers only" in words(printed)


def test_a_data_set_with_random_weights_alone_is_measured_and_shows_nothing_published(
    tmp_path: Path, site_row: SiteRow, write_results: WriteResults
) -> None:
    results = write_results(tmp_path / "r", [site_row(dataset="btad", pretrained="random")])
    build_site(load_site_data([results]), tmp_path / "out")
    page = (tmp_path / "out" / "datasets" / "btad.html").read_text(encoding="utf-8")
    assert "../papers/" not in page
    assert "Nothing is measured" not in page
    assert "btad.html" not in section(tmp_path / "out" / "index.html", "published-only")


def test_a_paper_leads_to_the_data_sets_that_have_a_page(site: Path, printer: Printer) -> None:
    named = {n.dataset for n in printer.published.numbers if n.paper == "spade"}
    page = (site / "papers" / "spade.html").read_text(encoding="utf-8")
    assert set(re.findall(r"datasets/([\w-]+)\.html", page)) == named & {"mvtec", "stc"}
    assert "stc" in named


def test_a_data_set_whose_scores_do_not_compare_says_so_at_every_table(
    tmp_path: Path, site: Path, site_row: SiteRow, write_results: WriteResults
) -> None:
    warning = "Scores on mtd do not compare with published ones"
    alone = section(site / "datasets" / "mtd.html", "published")
    page = (site / "datasets" / "mtd.html").read_text(encoding="utf-8")
    assert warning in page.partition(alone)[0]
    row = site_row(dataset="mtd", category="tile", dataset_version=1)
    build_site(load_site_data([write_results(tmp_path / "r", [row])]), tmp_path / "out")
    measured = words((tmp_path / "out/datasets/mtd.html").read_text(encoding="utf-8"))
    assert warning in measured.partition("Method and source")[0]
    assert "not ranked with the measured lines, nor comparable with them" in measured
    assert warning not in (site / "datasets" / "mvtec.html").read_text(encoding="utf-8")
