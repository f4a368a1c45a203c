"""Writes the pages: index, data sets, methods, runs, papers, and the files that they link to."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.discovery import builtin_root
from bench.errors import StoreError
from bench.report.quantities import LABELS, SCORES
from bench.report.site.boards import (
    COLUMNS,
    HEADINGS,
    PRINTED_AUPRO,
    Board,
    Line,
    Value,
    better,
    read_json,
    value_of,
)
from bench.report.site.data import describe
from bench.report.site.names import PRIORS, protocol_words, slug
from bench.report.site.pictures import SIDE, Gallery, Plot, gallery, plots
from bench.report.site.printed import PrintedLine, beside, paper_tables
from bench.report.summary import notes, percent
from bench.row import MAIN_SCORES
from bench.store import write_csv

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.report.site.data import SiteData
    from bench.row import Row

HERE = Path(__file__).parent
MARK = ".bench-site"
"""Lists the files of a site, so that the next one removes what it does not write again."""


@dataclass(frozen=True)
class Built:
    """What `build_site` wrote."""

    index: Path
    pages: int
    rows: int


@dataclass(frozen=True)
class Shown:
    """A board with what stands beside and below its lines."""

    board: Board
    printed: Sequence[PrintedLine]
    columns: Sequence[tuple[int, str, str]]  # index into values, heading, better
    by_category: Sequence[tuple[str, Sequence[tuple[Line, Sequence[Value]]]]]

    def marks(self, lines: Sequence[Line]) -> dict[str, str]:
        """Every mark of the lines, with its meaning."""
        return {mark: text for line in lines for mark, text in line.marks.items()}

    def timing(self, lines: Sequence[Line]) -> str:
        """Batch sizes and speed protocols of the timed columns."""
        rows = [row for line in lines for row in line.rows if row.speed]
        batches = sorted({row.fps_batch for row in rows if row.fps_batch})
        if not batches:
            return ""
        speeds = " and ".join(sorted({row.speed for row in rows}))
        sizes = ", ".join(map(str, batches))
        return f" FPS at batch {sizes}, latency at batch 1, timed under {speeds}."


def build_site(data: SiteData, out: Path, galleries: bool = True) -> Built:
    """Write the whole site into a folder that is empty, new, or holds an earlier site.

    Args:
        galleries: whether to draw test images where panels lie among the artifacts; some data
            sets do not allow their images to be published.

    Raises:
        StoreError: the folder holds something else or cannot be written; artifacts are damaged.
    """
    earlier = _earlier(out)
    site = _Site(data, out, galleries)
    try:
        out.mkdir(parents=True, exist_ok=True)
        try:
            site.build()
            for name in earlier - site.written:
                (out / name).unlink(missing_ok=True)
            earlier = set()
        finally:
            # Also after an error, so that the next call knows what it may replace.
            names = sorted(earlier | site.written)
            (out / MARK).write_text("\n".join(names) + "\n", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error}; choose another --out") from error
    pages = sum(name.endswith(".html") for name in site.written)
    return Built(out / "index.html", pages, len(data.rows))


def _earlier(out: Path) -> set[str]:
    """Files of the site that the folder holds."""
    if not out.exists():
        return set()
    if not out.is_dir():
        raise StoreError(f"{out} is a file; choose a folder with --out")
    if not (out / MARK).is_file():
        if any(out.iterdir()):
            raise StoreError(f"{out} holds other files; choose an empty folder with --out")
        return set()
    names = (out / MARK).read_text(encoding="utf-8").splitlines()
    inside = out.resolve()
    return {name for name in names if inside in (out / name).resolve().parents}


class _Site:
    """Renders and writes; knows every file that it wrote."""

    def __init__(self, data: SiteData, out: Path, galleries: bool) -> None:
        self.data = data
        self.out = out
        self.galleries = galleries
        self.written: set[str] = set()
        self.cells: dict[str, dict[str, tuple[Value, ...]]] = {}
        self.templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self.templates.filters |= {"slug": slug, "percent": percent, "words": protocol_words}
        self.templates.globals |= {
            "priors": PRIORS,
            "papers": data.published.papers,
            "side": SIDE,
            "main_scores": [(name, HEADINGS[name]) for name in MAIN_SCORES],
            "metric_labels": LABELS,
            "printed_aupro": PRINTED_AUPRO,
        }

    def build(self) -> None:
        """Every page and file."""
        self._static()
        self._downloads()
        shown = [self._show(board) for board in self.data.boards]
        printed = sorted({number.paper for number in self.data.published.numbers})
        for dataset in self.data.datasets:
            self._dataset(dataset, [s for s in shown if s.board.first.dataset == dataset])
        for method in self.data.methods:
            self._method(method)
        for board in self.data.boards:
            for line in board.all_lines:
                self._runs(board, line)
        for paper in printed:
            self._paper(paper)
        self.page(
            "index.html",
            boards=self.data.boards,
            methods=[(name, self._own(name)) for name in self.data.methods],
            describe=describe,
            printed=printed,
            rows=self.data.rows,
        )

    def page(self, file: str, template: str = "", **values: Any) -> None:
        """Render one page; `root` leads from it to the top of the site."""
        text = self.templates.get_template(template or file).render(
            root="../" * file.count("/"), file=file, **values
        )
        self._target(file).write_text(text, encoding="utf-8")

    def _target(self, file: str) -> Path:
        self.written.add(file)
        target = self.out / file
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def _static(self) -> None:
        for source in sorted((HERE / "static").iterdir()):
            shutil.copyfile(source, self._target(f"static/{source.name}"))

    def _downloads(self) -> None:
        for dataset in self.data.datasets:
            rows = [row for row in self.data.rows if row.dataset == dataset]
            write_csv(self._target(f"data/{slug(dataset)}.csv"), rows)
        source = builtin_root() / "results" / "published" / "published.csv"
        shutil.copyfile(source, self._target("data/published.csv"))

    def _show(self, board: Board) -> Shown:
        """A board with published lines; random weights alone never stand beside them."""
        first = board.first
        printed = beside(self.data.published, first.dataset, first.protocol) if board.lines else []
        every = [line.values for line in board.all_lines] + [line.values for line in printed]
        columns = [
            (index, HEADINGS[name], better(name))
            for index, name in enumerate(COLUMNS)
            if name in MAIN_SCORES or any(values[index].text not in ("", "n/a") for values in every)
        ]
        by_category = [
            (HEADINGS[name], [(line, self._row(line, board, i)) for line in board.lines])
            for i, name in enumerate(MAIN_SCORES)
        ]
        return Shown(board, printed, columns, by_category)

    def _row(self, line: Line, board: Board, index: int) -> list[Value]:
        cells = self._cells(line)
        return [cells[c][index] if c in cells else Value("") for c in board.categories]

    def _cells(self, line: Line) -> dict[str, tuple[Value, ...]]:
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

    def _dataset(self, dataset: str, shown: Sequence[Shown]) -> None:
        lines: list[Line | PrintedLine] = []
        for s in shown:
            lines += [*s.board.all_lines, *s.printed]
        notes = {n for s in shown for line in s.printed for v in line.values for n in v.notes}
        self.page(
            f"datasets/{slug(dataset)}.html",
            "dataset.html",
            name=dataset,
            plugin=describe("datasets", dataset),
            shown=shown,
            choices=_choices(lines),
            notes=self._notes(notes),
            papers_here=sorted({line.paper for s in shown for line in s.printed}),
        )

    def _own(self, method: str) -> list[tuple[Board, Line]]:
        return [
            (board, line)
            for board in self.data.boards
            for line in board.all_lines
            if line.first.method == method
        ]

    def _method(self, method: str) -> None:
        own = self._own(method)
        pictures = {line.key: self._pictures(line) for _, line in own}
        self.page(
            f"methods/{slug(method)}.html",
            "method.html",
            name=method,
            plugin=describe("methods", method),
            own=[(board, line, self._cells(line), pictures[line.key]) for board, line in own],
            paper=self.data.published.papers.get(method),
            paper_numbers=any(n.paper == method for n in self.data.published.numbers),
            arxiv=_arxiv,
        )

    def _pictures(self, line: Line) -> list[tuple[str, list[Plot], Gallery | None]]:
        """Of each category the first seed that has artifacts."""
        found: dict[str, tuple[str, list[Plot], Gallery | None]] = {}
        for row in line.rows:
            folder = self.data.artifacts.get(row.cell)
            if folder is None or row.category in found:
                continue
            picture = self._gallery(folder, row)
            curves = plots(folder)
            if picture or curves:
                title = f"{row.category}, seed {row.seed}"
                found[row.category] = (title, curves, picture)
        return list(found.values())

    def _gallery(self, folder: Path, row: Row) -> Gallery | None:
        if not self.galleries or not (folder / "panels.npz").is_file():
            return None
        file = f"images/{slug(row.cell)}.webp"
        found = gallery(folder, row, self._target(file), file)
        if found is None:
            self.written.remove(file)
        return found

    def _runs(self, board: Board, line: Line) -> None:
        scores = [n for n in SCORES if any(getattr(row, n) is not None for row in line.rows)]
        keys = dict.fromkeys(row.env for row in (*line.rows, *line.older) if row.env)
        self.page(
            f"runs/{line.key}.html",
            "runs.html",
            board=board,
            line=line,
            params=_params(line),
            notes=[text for text in notes(line.rows) if text and text[0] not in line.marks],
            scores=[(name, LABELS.get(name, name.replace("_", " "))) for name in scores],
            environments=[(key, self.data.environments.get(key)) for key in keys],
        )

    def _paper(self, paper: str) -> None:
        tables = paper_tables(self.data.published, paper)
        ids = {i for table in tables for i in table.notes}
        ids |= {i for t in tables for _, values in t.lines for v in values for i in v.notes}
        self.page(
            f"papers/{slug(paper)}.html",
            "paper.html",
            name=paper,
            paper=self.data.published.papers[paper],
            tables=tables,
            notes=self._notes(ids),
            arxiv=_arxiv,
            is_measured=paper in self.data.methods,
        )

    def _notes(self, ids: Iterable[str]) -> list[tuple[str, str]]:
        wanted = set(ids)
        return [(note.id, note.text) for note in self.data.published.notes if note.id in wanted]


def _choices(lines: Iterable[Line | PrintedLine]) -> dict[str, list[str]]:
    """What the filters of a page offer."""
    found: dict[str, set[str]] = {"backbone": set(), "prior": set(), "device": set()}
    for line in lines:
        found["prior"].add(line.prior)
        if isinstance(line, PrintedLine):
            found["backbone"].add(line.encoder or "not stated")
        else:
            found["backbone"].add(line.backbone)
            found["device"].add(line.first.device)
    ordered = {name: sorted(values) for name, values in found.items()}
    ordered["prior"] = [prior for prior in PRIORS if prior in found["prior"]]
    return ordered


def _params(line: Line) -> list[tuple[str, str]]:
    """Parameters of a line; where categories differ, each value with its categories."""
    values: dict[str, dict[str, list[str]]] = {}
    for row in line.rows:
        for name, value in read_json(row, "params").items():
            places = values.setdefault(name, {}).setdefault(str(value), [])
            if row.category not in places:
                places.append(row.category)
    return [(name, _by_category(found)) for name, found in sorted(values.items())]


def _by_category(found: Mapping[str, Sequence[str]]) -> str:
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{value} ({', '.join(places)})" for value, places in found.items())


def _arxiv(paper: Mapping[str, str]) -> str:
    """Address of the abstract; empty where the paper has none."""
    number = paper.get("arxiv", "")
    return f"https://arxiv.org/abs/{quote(number)}" if number else ""
