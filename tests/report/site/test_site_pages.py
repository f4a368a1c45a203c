"""The pages as HTML: valid, linked, escaped, accessible, and of nobody else's host."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from bench.report.site import build_site, load_site_data
from tests.report.site.elements import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.rows.row import Row

    SiteRow = Callable[..., Row]
    WriteResults = Callable[[Path, Sequence[Row]], Path]


@pytest.fixture(scope="module")
def pages(site: Path) -> list[Page]:
    return [Page(file) for file in sorted(site.rglob("*.html"))]


@pytest.fixture(scope="module")
def mvtec(site: Path) -> Page:
    return Page(site / "datasets" / "mvtec.html")


def test_every_link_leads_to_a_file_and_an_id_of_the_site(site: Path, pages: list[Page]) -> None:
    ids = {p.file.resolve(): {e.attributes.get("id") for e in p.elements} for p in pages}
    for page in pages:
        for element in page.all("a", "link", "script", "img"):
            target = element.attributes.get("href", element.attributes.get("src", ""))
            if element.attributes.get("rel") == "external noreferrer":
                continue
            name, _, anchor = unquote(target).partition("#")
            file = (page.file.parent / name).resolve() if name else page.file.resolve()
            assert site.resolve() in file.parents, f"{page.file}: {target} leaves the site"
            assert file.is_file(), f"{page.file}: {target} leads nowhere"
            assert not anchor or anchor in ids[file], f"{page.file}: no {target}"


def test_nothing_is_loaded_from_another_host(site: Path, pages: list[Page]) -> None:
    for page in pages:
        for element in page.elements:
            for name, value in element.attributes.items():
                if "//" not in value:
                    continue
                allowed = element.tag == "a" and value.startswith("https://")
                assert (allowed and name == "href") or name == "title", f"{page.file}: {value}"
    for file in (site / "static").iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text
        assert "url(" not in text


def test_ids_are_unique_on_each_page(pages: list[Page]) -> None:
    for page in pages:
        ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
        assert len(ids) == len(set(ids)), page.file


def test_no_text_of_a_row_becomes_markup(pages: list[Page], site: Path) -> None:
    seen = 0
    for page in pages:
        seen += "<script>alert('x')</script>" in "".join(e.text for e in page.all("main"))
        assert [e.attributes["src"].endswith("site.js") for e in page.all("script")] == [True]
        for element in page.elements:
            assert not [n for n in element.attributes if n.startswith("on")], page.file
            assert not element.attributes.get("href", "").lower().startswith("javascript")
            assert element.tag != "img" or element.attributes["src"] != "x"
    assert seen >= 4  # the index, its data set, its method, its runs
    assert not [f for f in site.rglob("*") if set(f.name) & set('<>"&é')]


def test_templates_in_data_are_not_run(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    assert "{{ 7 * 7 }}" in text


def test_every_table_has_a_caption_and_headings_with_a_scope(pages: list[Page]) -> None:
    for page in pages:
        captions = {id(e.within("table")) for e in page.all("caption") if e.text.strip()}
        for table in page.all("table"):
            assert id(table) in captions, page.file
        for heading in page.all("th"):
            assert heading.attributes.get("scope") in ("col", "row", "rowgroup"), page.file


def test_every_caption_of_scores_names_its_protocol(pages: list[Page]) -> None:
    for page in pages:
        if page.file.name == "index.html":
            continue
        for caption in page.all("caption"):
            if caption.attributes["id"] in ("cap-fields", "cap-provenance"):
                continue
            assert "protocol" in caption.text, f"{page.file}: {caption.text}"


def test_pages_can_be_used_with_a_keyboard_and_a_screen_reader(pages: list[Page]) -> None:
    for page in pages:
        assert [e.attributes["lang"] for e in page.all("html")] == ["en"]
        assert len(page.all("h1")) == 1
        assert page.all("title")[0].text.strip()
        assert page.all("a")[0].attributes == {"class": "skip", "href": "#main"}
        assert len(page.all("main")) == 1
        for scroll in [e for e in page.all("div") if e.attributes.get("class") == "scroll"]:
            assert scroll.attributes["tabindex"] == "0"
            assert scroll.attributes["role"] == "region"
        for control in page.all("input", "select"):
            assert control.within("label"), page.file
        for link in page.all("a"):
            assert link.text.strip() or link.attributes.get("aria-label") or link.around


def table_texts(page: Page) -> list[str]:
    return [e.text for e in page.all("table")]


def test_published_numbers_stand_in_a_group_of_their_own(mvtec: Page) -> None:
    groups = [e.attributes["class"] for e in mvtec.all("tbody")]
    assert "published" in groups
    for line in [e for e in mvtec.all("tr") if "line" in e.attributes.get("class", "")]:
        body = line.within("tbody")
        assert body is not None
        is_published = "papers/" in "".join(
            e.attributes.get("href", "") for e in mvtec.all("a") if line in e.around
        )
        assert is_published == (body.attributes["class"] == "published")
    for best in mvtec.all("strong"):
        body = best.within("tbody")
        assert body is not None
        assert body.attributes["class"] == "measured"


def test_random_weights_never_stand_beside_published_numbers(mvtec: Page) -> None:
    tables = [t for t in table_texts(mvtec) if "99.9" in t]
    assert len(tables) == 1
    assert "§ Random encoder weights" in tables[0]
    assert "Published" not in tables[0]
    folded = next(e for e in mvtec.all("details") if e.attributes.get("class") == "random")
    assert "open" not in folded.attributes


def test_only_random_weights_leave_published_numbers_away(
    tmp_path: Path, site_row: Callable[..., Row], write_results: WriteResults
) -> None:
    results = write_results(tmp_path / "r", [site_row(pretrained="random")])
    build_site(load_site_data([results]), tmp_path / "out")
    page = Page(tmp_path / "out" / "datasets" / "mvtec.html")
    assert "No line with trained encoder weights" in page.all("main")[0].text
    assert not [e for e in page.all("tbody") if e.attributes.get("class") == "published"]


def test_marks_stand_with_their_meaning(site: Path) -> None:
    text = (site / "datasets" / "mvtec.html").read_text(encoding="utf-8")
    assert '<abbr class="mark" title="random encoder weights' in text
    assert "<dt>§</dt>" in text


def test_a_number_is_one_link_away_from_what_made_it(site: Path, mvtec: Page) -> None:
    row = next(e for e in mvtec.all("tr") if e.attributes.get("data-method", "") == "padim ")
    links = [e.attributes["href"] for e in mvtec.all("a") if row in e.around]
    runs = next(link for link in links if "runs/" in link)
    text = (mvtec.file.parent / runs.partition("#")[0]).resolve().read_text(encoding="utf-8")
    assert runs.endswith("#provenance")
    cell = next(e for e in mvtec.all("th") if row in e.around)
    assert "runs" in cell.text  # in the first column, which stays in view
    for fact in ("bench run -m padim", "resnet18.tv_in1k@0123456789ab", "feed", "beef"):
        assert fact in text


def test_the_download_holds_the_rows(site: Path, rows: Sequence[Row]) -> None:
    with (site / "data" / "mvtec.csv").open(encoding="utf-8", newline="") as stream:
        cells = {record["cell"] for record in csv.DictReader(stream)}
    assert cells == {row.cell for row in rows}


def test_each_line_shows_its_own_parameters_and_what_is_not_the_default(
    tmp_path: Path, site_row: Callable[..., Row], write_results: WriteResults
) -> None:
    params = {"backbone": "wide_resnet50_2.tv_in1k", "sigma": 4.0}
    rows = [site_row(params=params), site_row(method="mine", params={"depth": 3})]
    build_site(load_site_data([write_results(tmp_path / "r", rows)]), tmp_path / "out")
    page = Page(tmp_path / "out" / "methods" / "padim.html")
    changed = {e.text for e in page.all("div") if e.attributes.get("class") == "changed"}
    assert changed == {"backbonewide_resnet50_2.tv_in1k default resnet18.tv_in1k"}
    mine = Page(tmp_path / "out" / "methods" / "mine.html")
    assert "not among those installed" in mine.all("main")[0].text
    assert "depth3" in "".join(e.text for e in mine.all("dl"))


def test_options_of_a_data_set_that_are_not_its_defaults_are_named(
    tmp_path: Path, site_row: Callable[..., Row], write_results: WriteResults
) -> None:
    defaults = {"categories_only": "", "good": 8, "size": 256}
    rows = [
        site_row(dataset="synthetic", category="weave", protocol=name, dataset_params=options)
        for name, options in (
            ("standard", {**defaults, "good": 40}),
            ("padim", defaults),
        )
    ]
    build_site(load_site_data([write_results(tmp_path / "r", rows)]), tmp_path / "out")
    assert Page(tmp_path / "out" / "datasets" / "synthetic.html").texts("p", "small")[1:] == [
        "Data set options: good = 40; others at their defaults.",
        "Data set options: each at its default.",
    ]
    runs = [Page(file) for file in (tmp_path / "out" / "runs").iterdir()]
    texts = {"".join(e.text for e in page.all("dl")).replace("\n", "") for page in runs}
    assert sum('categories_only""good40 default 8size256' in text for text in texts) == 1
    assert sum('categories_only""good8size256' in text for text in texts) == 1


def test_a_paper_with_many_tables_lists_them(site: Path) -> None:
    page = Page(site / "papers" / "pyramidflow.html")
    (nav,) = (e for e in page.all("nav") if e.attributes["aria-label"] == "Tables on this page")
    links = [e.attributes["href"] for e in page.all("a") if nav in e.around]
    headings = [f"#{e.attributes['id']}" for e in page.all("h2") if e.attributes["id"] != "notes"]
    assert links == headings
    text = page.all("main")[0].text
    assert "CVPR 2023, pp. 14143-14152" in text
    assert "mean of 12 registered" in text
    assert "mean_" not in "".join(e.text for e in page.all("th"))
    assert not Page(site / "papers" / "stpm.html").all("nav")[1:]


def test_the_definition_of_a_printed_aupro_stands_only_where_one_is_printed(site: Path) -> None:
    said = {
        name: "AUPRO as printed is" in (site / "datasets" / f"{name}.html").read_text("utf-8")
        for name in ("mvtec", "btad", "mtd")
    }
    assert said == {"mvtec": True, "btad": True, "mtd": False}


def test_a_data_set_says_where_its_images_come_from(mvtec: Page) -> None:
    links = {e.text: e.attributes["href"] for e in mvtec.all("a")}
    assert links["Where the images come from"].startswith("https://www.mvtec.com/")


def test_headings_of_a_run_are_those_of_the_other_pages(
    tmp_path: Path, site_row: Callable[..., Row], write_results: WriteResults
) -> None:
    row = site_row(region_aupro_30_worst=0.5)
    build_site(load_site_data([write_results(tmp_path / "r", [row])]), tmp_path / "out")
    (runs,) = (Page(file) for file in (tmp_path / "out" / "runs").iterdir())
    head = runs.all("thead")[0].text
    assert "Image AUROC" in head
    assert "Region AUPRO 0.3 worst" in head
    facts = "".join(e.text for e in runs.all("dl"))
    assert "Encoder weightsnone; prior none" in facts


def test_published_rows_stand_once_and_a_few_beside_each_board(site: Path, mvtec: Page) -> None:
    text = mvtec.file.read_text(encoding="utf-8")
    assert text.count(">MahalanobisAD") == 1
    assert "more published rows on mvtec" in text
    links = [e.attributes["href"] for e in mvtec.all("a")]
    assert any(link.startswith("../papers/padim.html#t") for link in links)
    assert len(text) < 200_000


def test_mixed_sources_and_uncommitted_changes_are_told_with_the_runs(
    tmp_path: Path, site_row: Callable[..., Row], write_results: WriteResults
) -> None:
    rows = [site_row(code="a", commit="1-dirty"), site_row(code="b", seed=1, fps=12.5)]
    build_site(load_site_data([write_results(tmp_path / "r", rows)]), tmp_path / "out")
    (runs,) = (tmp_path / "out" / "runs").iterdir()
    page = Page(runs)
    texts = [e.text for e in page.all("li")]
    assert "Runs made by 2 states of the method's source: a, b" in texts
    assert "Runs 1 of 2 made from files that were changed after the commit" in texts
    assert "FPS" in page.all("thead")[0].text


def test_what_was_not_scored_is_told_with_the_runs(
    tmp_path: Path, site_row: Callable[..., Row], write_results: WriteResults
) -> None:
    results = write_results(tmp_path / "r", [site_row(regions=7, regions_lost=3, n_unmasked=2)])
    build_site(load_site_data([results]), tmp_path / "out")
    (runs,) = (tmp_path / "out" / "runs").iterdir()
    for page in (runs, tmp_path / "out/datasets/mvtec.html", tmp_path / "out/methods/padim.html"):
        text = page.read_text(encoding="utf-8")
        assert "carpet: 3 defect regions vanish" in text
        assert "carpet: 2 anomalous images without a usable mask" in text


def test_disturbed_timings_are_marked_wherever_a_speed_stands(
    tmp_path: Path, site_row: Callable[..., Row], write_results: WriteResults
) -> None:
    timing = {"speed": "speed-1", "fps_batch": 8, "fps": 10.0, "latency_p50_ms": 90.0}
    rows = [
        site_row(category="carpet", noisy=True, **timing),
        site_row(category="grid", **timing),
        site_row(method="cflow", noisy=True),  # nothing was timed
        site_row(method="mean", **timing),
        site_row(method="busy", noisy=True, **timing),
    ]
    build_site(load_site_data([write_results(tmp_path / "r", rows)]), tmp_path / "out")
    text = (tmp_path / "out/datasets/mvtec.html").read_text(encoding="utf-8")
    assert "FPS, p50 ms: from 1 of 2 rows of padim, the others are noisy." in text
    assert len(re.findall(r">10(\.0)?\*<", text)) == len(re.findall(r">90(\.0)?\*<", text)) == 1
    assert "<dt>*</dt><dd>step times spread by more than 10 %" in text
    runs = [page.read_text(encoding="utf-8") for page in (tmp_path / "out/runs").iterdir()]
    assert sorted(len(re.findall(r">10(\.0)?\*<", page)) for page in runs) == [0, 0, 1, 1]
    assert sorted("<dt>*</dt>" in page for page in runs) == [False, False, True, True]


def test_a_device_stands_with_the_threads_of_its_runs(
    tmp_path: Path, site_row: Callable[..., Row], write_results: WriteResults
) -> None:
    rows = [
        site_row(device="CPU a", threads=1),
        *(site_row(method="cflow", device="CPU b", category=f"c{n}", threads=n) for n in (2, 4)),
        site_row(method="mean", device="CPU c", threads=None),
    ]
    build_site(load_site_data([write_results(tmp_path / "r", rows)]), tmp_path / "out")
    text = (tmp_path / "out/datasets/mvtec.html").read_text(encoding="utf-8")
    for device in ("CPU a, 1 thread", "CPU b, 2 and 4 threads", "CPU c"):
        assert f'<td class="device"><bdi>{device}</bdi></td>' in text
    assert "<option>CPU a</option>" in text
    method = (tmp_path / "out/methods/padim.html").read_text(encoding="utf-8")
    assert "CPU a, 1 thread; backbone" in method


def test_protocols_whose_scores_say_nothing_are_in_the_download_alone(
    tmp_path: Path, make_row: Callable[..., Row], write_results: Any
) -> None:
    rows = [
        make_row(),
        make_row(method="cflow", protocol="costs", image_auroc=0.123),
        make_row(dataset="visa", protocol="costs", image_auroc=0.123),
    ]
    data = load_site_data([write_results(tmp_path / "r", rows)], ["costs"])
    out = tmp_path / "out"
    build_site(data, out)
    page = out / "datasets" / "synthetic.html"
    text = page.read_text()
    visa = (out / "datasets" / "visa.html").read_text()
    assert 'href="data/visa.csv"' in (out / "index.html").read_text()
    assert "0.123" in (out / "data" / "visa.csv").read_text()
    assert "1 row of protocol costs, whose scores say nothing, is in the CSV alone" in text
    assert "12.3" not in text
    assert "1 row of protocol costs, whose scores say nothing, is in the CSV alone" in visa
    assert 'href="../data/visa.csv"' in visa
    assert "Published numbers only" in visa
    assert "No score is measured on <bdi>visa</bdi> here yet" in visa
    assert "Nothing is measured" not in visa
    assert not (out / "methods" / "cflow.html").exists()
    (download,) = (file for file in (out / "data").glob("*.csv") if file.stem == page.stem)
    assert "0.123" in download.read_text()


def test_runs_that_do_not_count_are_listed_with_the_reason(
    site_row: SiteRow, write_results: WriteResults, tmp_path: Path
) -> None:
    rows = [
        site_row(category="carpet", image_auroc=0.9),
        site_row(category="grid", image_auroc=0.9),
        site_row(category="carpet", image_auroc=0.1, seed=1),
    ]
    build_site(load_site_data([write_results(tmp_path / "results", rows)]), tmp_path / "out")
    (runs,) = (Page(file) for file in (tmp_path / "out" / "runs").glob("*.html"))
    grey = [e.text for e in runs.all("tr") if "unranked" in e.attributes.get("class", "")]
    assert len(grey) == 1
    assert "does not count: seed 1 lacks grid" in grey[0]
    method = Page(tmp_path / "out" / "methods" / "padim.html")
    cells = [e.text for e in method.all("td") if e.attributes.get("class") == "n"]
    assert cells == ["90.0", "95.0", "85.0"] * 3
    assert "seed 0." in "".join(e.text for e in method.all("caption"))
