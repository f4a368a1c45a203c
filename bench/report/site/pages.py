"""Writes the pages: index, data sets, methods, runs, papers, and the files that they link to."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.report.choice.quantities import SCORES, label
from bench.report.choice.summary import notes
from bench.report.paper.published import head_of
from bench.report.site.folder import SiteFolder
from bench.report.site.lines import (
    COSTS,
    HEADINGS,
    TIMED,
    BoardLine,
    Value,
    better,
    value_of,
)
from bench.report.site.names import (
    PRIORS,
    capital,
    protocol_words,
    slug,
    venue,
)
from bench.report.site.parameters import parameters
from bench.report.site.pictures import SIDE, Pictures, absent, draw
from bench.report.site.printed import PrintedLine, beside
from bench.report.site.shown import (
    Shown,
    ShownLine,
    choices,
    columns,
    has,
    mixed,
    printed_columns,
)
from bench.rows.csv_file import write_csv
from bench.rows.row import MAIN_SCORES
from bench.rows.text import percent, three_digits
from bench.rows.upgrade import artifacts_of
from bench.settings.shipped import builtin_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from bench.report.site.boards import Board
    from bench.report.site.data import SiteData
    from bench.rows.row import Row

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Built:
    """What `build_site` wrote; `damaged` are artifacts that it could not read."""

    index: Path
    pages: int
    rows: int
    damaged: tuple[str, ...] = ()


def build_site(
    data: SiteData,
    out: Path,
    galleries: bool = True,
    report: Callable[[str], None] = lambda _: None,
) -> Built:
    """Write the whole site into a folder that is empty, new, or holds an earlier site.

    Args:
        galleries: whether to draw test images where panels lie among the artifacts; some data
            sets do not allow their images to be published.
        report: called with what is made next, where it takes its time.

    Raises:
        StoreError: the folder holds something else or cannot be written.
    """
    folder = SiteFolder(out)
    site = _Site(data, folder, galleries, report)
    with folder.replacing():
        site.build()
    pages = sum(name.endswith(".html") for name in folder.written)
    return Built(out / "index.html", pages, len(data.rows), tuple(site.damaged))


class _Site:
    """Renders and writes."""

    def __init__(
        self, data: SiteData, folder: SiteFolder, galleries: bool, report: Callable[[str], None]
    ) -> None:
        self.data = data
        self.folder = folder
        self.galleries = galleries
        self.report = report
        self.damaged: list[str] = []
        self.cells: dict[str, dict[str, tuple[Value, ...]]] = {}
        self.templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self.templates.filters |= {
            "slug": slug,
            "percent": percent,
            "three_digits": three_digits,
            "words": protocol_words,
            "category": head_of,
            "venue": venue,
        }
        self.templates.globals |= {
            "priors": PRIORS,
            "papers": data.published.papers,
            "downloads": data.downloads,
            "side": SIDE,
            "main_scores": [(name, HEADINGS[name]) for name in MAIN_SCORES],
        }

    def build(self) -> None:
        """Every page and file."""
        self._static()
        self._downloads()
        papers = sorted({number.paper for number in self.data.published.numbers})
        for dataset in self.data.datasets:
            self.report(f"page of {dataset}")
            self._measured(dataset)
        for dataset, lines in self.data.printed_only.items():
            self._published(dataset, lines)
        for method in self.data.methods:
            self._method(method)
        for board in self.data.boards:
            for line in board.all_lines:
                self._runs(board, line)
        for paper in papers:
            self.report(f"page of the paper {paper}")
            self._paper(paper)
        self.page(
            "index.html",
            boards=self.data.boards,
            printed_only=self.data.printed_only,
            datasets=self.data.plugins.datasets,
            methods=[(name, self._own(name)) for name in self.data.methods],
            plugins=self.data.plugins.methods,
            printed=papers,
            rows=[row for row in self.data.rows if row.protocol not in self.data.skipped],
        )

    def page(self, file: str, template: str = "", **values: Any) -> None:
        """Render one page; `root` leads from it to the top of the site."""
        text = self.templates.get_template(template or file).render(
            root="../" * file.count("/"), file=file, **values
        )
        self.folder.target(file).write_text(text, encoding="utf-8")

    def _static(self) -> None:
        for source in sorted((HERE / "static").iterdir()):
            shutil.copyfile(source, self.folder.target(f"static/{source.name}"))

    def _downloads(self) -> None:
        for dataset in self.data.downloads:
            rows = [row for row in self.data.rows if row.dataset == dataset]
            write_csv(self.folder.target(f"data/{slug(dataset)}.csv"), rows)
        source = builtin_root() / "results" / "published" / "published.csv"
        shutil.copyfile(source, self.folder.target("data/published.csv"))

    def _show(self, board: Board, printed: Sequence[PrintedLine]) -> Shown:
        """A board with the published lines that stand beside it; none beside random weights."""
        methods = {line.first.method for line in board.lines}
        near = beside(printed, board.first.protocol, methods) if board.lines else []
        scores, costs = columns([*board.all_lines, *near])
        by_category = [
            (HEADINGS[name], [(line, self._row(line, board, i)) for line in board.lines])
            for i, name in enumerate(MAIN_SCORES)
        ]
        return Shown(board, near, len(printed) - len(near), scores, costs, by_category)

    def _row(self, line: BoardLine, board: Board, index: int) -> list[Value]:
        cells = self._cells(line)
        return [cells[c][index] if c in cells else Value("") for c in board.measured]

    def _cells(self, line: BoardLine) -> dict[str, tuple[Value, ...]]:
        """For each category of a line, its main scores over seeds."""
        if line.key not in self.cells:
            parts: dict[str, list[Row]] = {}
            for row in line.rows:
                parts.setdefault(row.category, []).append(row)
            self.cells[line.key] = {
                category: tuple(
                    value_of(replace(line, rows=tuple(rows)), name, [category])
                    for name in MAIN_SCORES
                )
                for category, rows in parts.items()
            }
        return self.cells[line.key]

    def _measured(self, dataset: str) -> None:
        """The page of a data set with boards."""
        boards = [board for board in self.data.boards if board.first.dataset == dataset]
        printed = self._beside(dataset, boards)
        shown = [self._show(board, printed) for board in boards]
        self.page(
            f"datasets/{slug(dataset)}.html",
            "dataset.html",
            **self._printed(dataset, printed),
            shown=shown,
            left=any(each.left for each in shown),
            choices=choices([*(line for b in boards for line in b.all_lines), *printed]),
        )

    def _published(self, dataset: str, printed: Sequence[PrintedLine]) -> None:
        """The page of a data set with published numbers alone."""
        self.page(
            f"datasets/{slug(dataset)}.html",
            "published.html",
            **self._printed(dataset, printed),
            runnable=self.data.plugins.runnable,
            choices=choices(printed),
        )

    def _printed(self, dataset: str, printed: Sequence[PrintedLine]) -> dict[str, Any]:
        """What both kinds of pages show: the data set, and the published lines."""
        papers = {line.paper for line in printed}
        naming = {n.paper for n in self.data.published.numbers if n.dataset == dataset}
        return {
            "name": dataset,
            "plugin": self.data.plugins.datasets.get(dataset),
            "skipped": self._skipped(dataset),
            "printed": printed,
            "printed_columns": printed_columns(printed),
            "printed_marks": {m: text for line in printed for m, text in line.marks.items()},
            "notes": self._notes(n for line in printed for v in line.values for n in v.notes),
            "prints_aupro": any(line.prints_aupro for line in printed),
            "papers_here": sorted(papers),
            "papers_left": sorted(naming - papers),
        }

    def _beside(self, dataset: str, boards: Sequence[Board]) -> list[PrintedLine]:
        """Published lines beside measured ones: none where all of these have random weights."""
        if not any(board.lines for board in boards):
            return []
        first = boards[0].first
        known = self.data.plugins.categories(dataset, first.dataset_params)
        return self.data.printer.means(dataset, len(known))

    def _skipped(self, dataset: str) -> dict[str, int]:
        """Rows of a data set that no page shows, by protocol."""
        protocols = [r.protocol for r in self.data.rows if r.dataset == dataset]
        return {name: n for name in self.data.skipped if (n := protocols.count(name))}

    def _own(self, method: str) -> list[tuple[Board, BoardLine]]:
        return [
            (board, line)
            for board in self.data.boards
            for line in board.all_lines
            if line.first.method == method
        ]

    def _method(self, method: str) -> None:
        plugin = self.data.plugins.methods.get(method)
        self.page(
            f"methods/{slug(method)}.html",
            "method.html",
            name=method,
            plugin=plugin,
            own=[self._shown_line(board, line) for board, line in self._own(method)],
            paper=self.data.published.papers.get(method),
            paper_numbers=any(n.paper == method for n in self.data.published.numbers),
            arxiv=_arxiv,
        )

    def _shown_line(self, board: Board, line: BoardLine) -> ShownLine:
        pictures = self._pictures(line)
        self.damaged += [error for p in pictures for error in p.errors]
        return ShownLine(
            board,
            line,
            self._cells(line),
            parameters(line.rows),
            [p for p in pictures if p.plots or p.gallery],
            [f"artifacts/{p.row.cell}/{name}" for p in pictures for name in p.damaged],
            absent(
                line,
                pictures,
                self.galleries,
                people=self.data.plugins.shows_people(line.first.dataset),
            ),
        )

    def _pictures(self, line: BoardLine) -> list[Pictures]:
        """Of each category the first seed that has artifacts."""
        found: dict[str, Pictures] = {}
        for row in line.rows:
            place = self.data.artifacts.get(row.cell)
            if place is None or row.category in found:
                continue
            folder = artifacts_of(place, row)
            file = f"images/{slug(row.cell)}.webp"
            people = self.data.plugins.shows_people(row.dataset)
            drawn = self.galleries and not people and (folder / "panels.npz").is_file()
            if drawn:
                self.report(f"test images of {row.method} on {row.dataset}/{row.category}")
            pictures = draw(folder, row, self.folder.target(file) if drawn else None, file)
            if pictures.gallery is None:
                self.folder.written.discard(file)
            if pictures.plots or pictures.gallery or pictures.damaged:
                found[row.category] = pictures
        return list(found.values())

    def _runs(self, board: Board, line: BoardLine) -> None:
        scores = [n for n in SCORES if any(getattr(row, n) is not None for row in line.rows)]
        others = (*(row for row, _ in line.uncounted), *line.older)
        keys = dict.fromkeys(row.env for row in (*line.rows, *others) if row.env)
        self.page(
            f"runs/{line.key}.html",
            "runs.html",
            board=board,
            line=line,
            params=parameters(line.rows),
            notes=[text for text in notes(line.rows) if text and text[0] not in line.marks],
            mixed=mixed(line),
            others=others,
            counted=tuple((row, "") for row in line.rows),
            scores=[(name, capital(label(name))) for name in scores],
            costs=[(name, HEADINGS[name], better(name)) for name in COSTS if has(line, name)],
            timed=TIMED,
            environments=[(key, self.data.environments.get(key)) for key in keys],
        )

    def _paper(self, paper: str) -> None:
        tables = self.data.printer.tables(paper)
        ids = {i for table in tables for i in table.notes}
        ids |= {i for t in tables for x in t.lines for v in x.values for i in v.notes}
        self.page(
            f"papers/{slug(paper)}.html",
            "paper.html",
            name=paper,
            paper=self.data.published.papers[paper],
            tables=tables,
            notes=self._notes(ids),
            datasets=self._pages_of(paper),
            arxiv=_arxiv,
            is_measured=paper in self.data.methods,
        )

    def _pages_of(self, paper: str) -> list[str]:
        """Data sets with a page for which a paper prints numbers."""
        named = {n.dataset for n in self.data.published.numbers if n.paper == paper}
        return sorted(named & {*self.data.datasets, *self.data.printed_only})

    def _notes(self, ids: Iterable[str]) -> list[tuple[str, str]]:
        wanted = set(ids)
        return [(note.id, note.text) for note in self.data.published.notes if note.id in wanted]


def _arxiv(paper: Mapping[str, str]) -> str:
    """Address of the abstract; empty where the paper has none."""
    number = paper.get("arxiv", "")
    return f"https://arxiv.org/abs/{quote(number)}" if number else ""
