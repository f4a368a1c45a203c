"""`bench fit` and `bench predict`: a fitted method on disk, and maps of new images."""

from __future__ import annotations

import csv
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.commands.options import (
    AuxiliaryRoot,
    MapFormat,
    checked_precision,
    pairs,
    with_auxiliary,
)
from bench.errors import ConfigError, DataError, StoreError
from bench.plan import discovery
from bench.plan.request import Planned, Request, asked_weights, plan_request
from bench.rows import provenance
from bench.run.plugin_errors import told
from bench.run.slots import threads_of_cells
from bench.settings.config import RunSettings, Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.deploy.inference import Predicted
    from bench.plan.cells import Cell


Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads; by default the cores it may use.")
]


def fit(
    method: Annotated[str, typer.Option("--method", "-m", help="The method.")],
    out: Annotated[Path, typer.Option(help="Folder of the model.")],
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="The data set.")] = "synthetic",
    category: Annotated[
        str | None, typer.Option("--category", "-c", help="The category, if there are several.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The seed.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Name of a protocol.")] = None,
    preset: Annotated[str | None, typer.Option(help="A [presets.NAME] of bench.toml.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="key=value for the method; NAME.key=value for one plugin. "
            "Several values: layers=[1,2].",
        ),
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    auxiliary_root: AuxiliaryRoot = None,
    device: Device = None,
    weights: Annotated[
        Path | None, typer.Option(help="Backbone weights: .safetensors or a state dict.")
    ] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Random encoder weights: for tests.")
    ] = False,
    precision: Annotated[
        str | None, typer.Option(help="float32; tf32 on a GPU; bfloat16: of encoders in scoring.")
    ] = None,
    threads: Threads = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the model in the folder.")
    ] = False,
) -> None:
    """Train a method on the training images of one category, and save it for `bench predict`."""
    if weights is not None and random_weights:
        raise ConfigError("--weights and --random-weights exclude each other")
    _refuse_filled(out, force)
    given: dict[str, Any] = {
        "seeds": (seed,) if seed is not None else None,
        "protocol": protocol,
        "device": device,
        "threads": threads,
        "precision": checked_precision(precision),
        "weights": "random" if random_weights else None,
    }
    settings = load_settings(preset=preset)
    run = replace(settings.run, **{k: v for k, v in given.items() if v is not None})
    settings = with_auxiliary(replace(settings, run=run), auxiliary_root)
    request = Request(
        methods=[method],
        datasets=[dataset],
        categories=[category] if category else [],
        overrides=pairs(set_),
        data_root=data_root,
        weights_file=weights,
        splits=("train",),
    )
    planned, cell = _only_cell(settings, request)
    from bench.deploy.checkpoint import save_model
    from bench.deploy.fitting import Options, fit_model

    _limit_threads(run)
    planned.dataset.prepare([cell.category])
    folders = planned.folders.get(cell.id, {})
    asked = asked_weights(settings, request)
    options = Options(asked, run.device, run.loaders, run.batch, folders)
    with told(method, discovery.describe("methods", method).files):
        model = fit_model(cell, planned.dataset, options, lambda text: typer.echo(text, err=True))
    code = discovery.describe("methods", method).code()
    save_model(out, model, code=code, commit=provenance.commit(settings.project))
    typer.echo(f"{out}: {cell.label}, epoch {model.epochs}, protocol {cell.protocol.name}")
    if model.train is not None:
        typer.echo(f"threshold {_threshold_text(model.train.score_max, model.train.images)}")


def predict(
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    model: Annotated[Path, typer.Option(help="Folder that `bench fit` wrote.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for maps and overlays; without it only scores.")
    ] = None,
    format_: Annotated[MapFormat, typer.Option("--format", help="How maps are written.")] = (
        "tiff"
    ),
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Write the scores to this file.  [stdout]")
    ] = None,
    device: Device = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 8,
    threads: Threads = None,
    force: Annotated[
        bool, typer.Option("--force", help="Load a model of another version of the method.")
    ] = False,
) -> None:
    """Score new images with a fitted model; maps are float32 at the size of each image.

    The CSV holds file, score, and whether the score exceeds that of every training image.
    """
    settings = load_settings()
    from bench.deploy.checkpoint import load_model
    from bench.deploy.inference import output_names, overlay, predict_images
    from bench.files.map_files import write_map

    _limit_threads(replace(settings.run, threads=threads or settings.run.threads))
    # The same image twice is one result.
    images = list(dict.fromkeys(file for path in images for file in images_of(path)))
    names = output_names(images) if out is not None else {}
    loaded = load_model(model, device or settings.run.device, force=force)
    for note in loaded.notes:
        typer.echo(f"note: {note}", err=True)
    if loaded.train is not None:
        text = _threshold_text(loaded.train.score_max, loaded.train.images)
        typer.echo(f"threshold {text}", err=True)
    with _open_csv(csv_file) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["file", "score", "above_training"])
        name = loaded.cell.method
        for found in _told_each(name, predict_images(loaded, images, batch)):
            above = "" if loaded.train is None else int(found.score > loaded.train.score_max)
            writer.writerow([found.image, repr(found.score), above])
            if out is not None and found.map is not None:
                stem = names[found.image]
                write_map(out / f"{stem}.{format_}", found.map)
                overlay(found, loaded.train, loaded.bits).save(out / f"{stem}.overlay.png")
    if out is not None and found.map is None:
        typer.echo(f"note: {loaded.cell.method} gives no maps; --out {out} holds none", err=True)


def _told_each(method: str, results: Iterator[Predicted]) -> Iterator[Predicted]:
    """Results as they come; an error of the method becomes one line and its own frames."""
    files = discovery.describe("methods", method).files
    while True:
        with told(method, files):
            found = next(results, None)
        if found is None:
            return
        yield found


def images_of(path: Path) -> list[Path]:
    """The image itself, or those of a folder, sorted, without its folders.

    Raises:
        DataError: a folder without an image.
    """
    if not path.is_dir():
        return [path]
    from bench.files.folders import listing

    found = listing(path, path)
    if not found.images:
        below = f"; it holds the folder {found.folders[0]}" if found.folders else ""
        raise DataError(f"{path}: a folder without images{below}; name a folder that holds some")
    return found.images


def _only_cell(settings: Settings, request: Request) -> tuple[Planned, Cell]:
    """The one cell that was asked for, with its data set."""
    (planned,) = plan_request(settings, request)
    categories = list(dict.fromkeys(cell.category for cell in planned.cells))
    if len(categories) > 1:
        raise ConfigError(
            f"{planned.plugin.name} has {len(categories)} categories and a model is of one; give "
            f"--category: {', '.join(categories)}"
        )
    if len(planned.cells) > 1:
        raise ConfigError(f"{len(planned.cells)} seeds are set and a model is of one; give --seed")
    return planned, planned.cells[0]


def _refuse_filled(out: Path, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise StoreError(f"--out {out} is not a folder")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise StoreError(f"--out {out} is not empty; name another folder, or replace by --force")


def _limit_threads(run: RunSettings) -> None:
    import torch

    torch.set_num_threads(threads_of_cells(run, 1))


def _threshold_text(value: float, images: int) -> str:
    return f"{value:.6g}: the highest score of the {images} training images"


def _open_csv(file: Path | None) -> Any:
    if file is None:
        return nullcontext(sys.stdout)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return file.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise StoreError(f"--csv {file} cannot be written: {error.strerror}") from error
