"""Checks of a method that its author runs: shapes, repeatability, and a planted defect."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.errors import counted
from bench.files.manifest import SPLITS
from bench.plan import discovery
from bench.plan.request import Planned, Request, plan_request
from bench.run.plugin_errors import told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from bench.api import Method, Prediction
    from bench.settings.config import Settings

TOLERANCE = 1e-4
"""Of the range of the maps: sums in another order differ by rounding, more where they cancel."""
CATEGORY = "bolt"
SMALL = {
    "synthetic.categories_only": CATEGORY,
    "synthetic.size": 64,
    "synthetic.train": 8,
    "synthetic.good": 4,
    "synthetic.bad": 4,
}


@dataclass(frozen=True)
class Fitted:
    """A method after training.

    Attributes:
        pixels: (N, 3, H, W) test images.
        epochs: how often `fit` yielded.
        is_cut: whether it was told to end; it might have gone on.
        warning: about frozen parameters of its own; or nothing.
    """

    method: Method
    pixels: Tensor
    epochs: int
    is_cut: bool
    warning: str


def check_method(
    settings: Settings,
    name: str,
    say: Callable[[str], None],
    overrides: Mapping[str, object] | None = None,
    seconds: float = math.inf,
) -> list[str]:
    """Fit a method twice on one small synthetic category and look at its predictions.

    Args:
        overrides: fields of the method, as `--set` gives them.
        seconds: the first training ends with the epoch in which they are over; the second after as
            many epochs.

    Returns:
        the promises that it breaks, a line each; empty if it keeps them all.
    """
    say(f"{name}: {discovery.describe('methods', name).summary}")
    given = {**SMALL, **(overrides or {})}
    planned = plan_request(settings, Request([name], ["synthetic"], [CATEGORY], given))[0]
    planned.dataset.prepare([CATEGORY])
    say(_length(planned, seconds))
    with told(name, discovery.describe("methods", name).files):
        return _problems(planned, say, seconds)


def _length(planned: Planned, seconds: float) -> str:
    """How long training takes as the fields are, and how it is made shorter."""
    params = planned.cells[0].params
    found = {
        name: value
        for name, value in params.items()
        if name.split("_")[-1] in ("epochs", "steps") and type(value) is int
    }
    limit = f", each to the epoch that passes {seconds:g} s" if seconds < math.inf else ""
    if not found:
        return f"trains twice{limit}"
    named = ", ".join(f"{name} = {value}" for name, value in found.items())
    longest = max(found, key=lambda name: found[name])
    return f"trains twice{limit}, with {named}; shorter by --set {longest}=1"


def _problems(planned: Planned, say: Callable[[str], None], seconds: float) -> list[str]:
    begun = time.monotonic()
    first = _fit(planned, lambda _: time.monotonic() - begun > seconds)
    method, pixels = first.method, first.pixels
    if first.warning:
        say(f"WARNING {first.warning}; rows are marked")
    if first.is_cut:
        after = counted(first.epochs, "epoch")
        say(f"ended after {after} of training, {seconds:g} s; --seconds sets another limit")
    problems = _check_shapes(method, pixels)
    if problems:  # the other checks compare maps with each other
        return problems
    again = _fit(planned, lambda epochs: first.is_cut and epochs == first.epochs)
    problems += _check_repeatable(method, again.method, pixels)
    problems += _check_batch(method, pixels)
    problems += _check_finish(method, pixels)
    problems += [
        f"{text}, even after {counted(first.epochs, 'epoch')}" if first.is_cut else text
        for text in _check_planted(method, pixels)
    ]
    problems += _check_state(planned, method, pixels)
    if not problems:
        say(
            "shapes, finite, repeatable, independent of the batch, sees a planted square, loads "
            "back: fine"
        )
    return problems


def _fit(planned: Planned, is_enough: Callable[[int], bool]) -> Fitted:
    """Train until `fit` ends, or `is_enough` says so of the number of epochs."""
    import torch

    from bench.run.context import CellRun, image_set, make_method, seed_everything
    from bench.run.training import epochs_of
    from bench.weights.choice import Weights

    cell, cpu = replace(planned.cells[0], seed=0), torch.device("cpu")
    seed_everything(cell.seed, cell.precision)
    method = make_method(cell)
    train, test = (
        image_set(cell, method, list(planned.dataset.samples(CATEGORY, split)), split, cpu)
        for split in SPLITS
    )
    folders = planned.folders.get(planned.cells[0].id)
    run = CellRun(cell, cpu, train.image_size, Weights("random"), folders)
    method.prepare(run)
    warning = run.note_unrecorded(method)
    epochs, is_cut = 0, False
    training = epochs_of(method, train, run)
    for epochs, _ in enumerate(training, 1):
        if is_cut := is_enough(epochs):
            break
    return Fitted(method, torch.cat(list(test.batches(8))), epochs, is_cut, warning)


def _predict(method: Method, pixels: Tensor) -> Prediction:
    from bench.profile.mode import prediction_mode
    from bench.run.predicting import require_prediction

    with prediction_mode(method):
        return require_prediction(method, method.predict(pixels))


def _compared(method: Method, pixels: Tensor) -> Tensor:
    """What a prediction says of each image: its map, or its score where there are no maps."""
    return _values(_predict(method, pixels))


def _values(found: Prediction) -> Tensor:
    values = found.maps if found.maps is not None else found.scores
    assert values is not None  # a prediction has one of the two
    return values


def _check_shapes(method: Method, pixels: Tensor) -> list[str]:
    import torch

    done = method.finish(_predict(method, pixels))
    maps, scores = done.maps, done.scores
    problems = []
    if maps is not None and (maps.ndim != 3 or len(maps) != len(pixels)):
        problems.append(f"maps must be ({len(pixels)}, H, W), not {tuple(maps.shape)}")
    if scores is not None and tuple(scores.shape) != (len(pixels),):
        problems.append(f"scores must be ({len(pixels)},), not {tuple(scores.shape)}")
    for what, values in (("maps", maps), ("scores", scores)):
        if values is not None and not bool(torch.isfinite(values).all()):
            problems.append(f"{what} must be finite")
        if values is not None and values.requires_grad:
            problems.append(f"{what} must not hold the graph that made them: return .detach()")
    return problems


def _check_repeatable(method: Method, again: Method, pixels: Tensor) -> list[str]:
    differs = _differs(_compared(method, pixels), _compared(again, pixels), 0.0)
    text = "the same seed must give the same maps: draw random numbers through run"
    return [f"{text} ({differs})"] if differs else []


def _differs(ours: Tensor, theirs: Tensor, share: float) -> str:
    """How far two predictions are apart; empty where it is no more than a share of their range."""
    if ours.shape != theirs.shape:
        return f"shapes {tuple(ours.shape)} and {tuple(theirs.shape)}"
    difference = float((ours - theirs).abs().max())
    spread = float(theirs.max() - theirs.min())
    if difference <= share * spread:
        return ""
    return f"difference {difference:.3g}, range {spread:.3g}, tolerance {share * spread:.3g}"


def _check_batch(method: Method, pixels: Tensor) -> list[str]:
    import torch

    alone = torch.cat([_compared(method, image[None]) for image in pixels[:3]])
    differs = _differs(alone, _compared(method, pixels)[:3], TOLERANCE)
    text = "a map must not depend on the other images of its batch"
    return [f"{text} ({differs})"] if differs else []


def _check_finish(method: Method, pixels: Tensor) -> list[str]:
    import torch

    from bench.api import Method

    if method.is_transductive or type(method).finish is Method.finish:
        return []
    each = [_values(method.finish(_predict(method, image[None]))) for image in pixels[:3]]
    whole = _values(method.finish(_predict(method, pixels)))[:3]
    differs = _differs(torch.cat(each), whole, TOLERANCE)
    text = "finish lets one image change another: set is_transductive"
    return [f"{text} ({differs})"] if differs else []


def _check_planted(method: Method, pixels: Tensor) -> list[str]:
    import torch

    planted = pixels[:1].clone()
    height, width = planted.shape[-2:]
    planted[..., height // 3 : height // 2, width // 3 : width // 2] = 4.0
    both = method.finish(_predict(method, torch.cat([pixels[:1], planted])))
    if both.maps is not None:
        clean, marked = (float(one.max()) for one in both.maps)
        what = "maximum"
    else:
        assert both.scores is not None  # a prediction has one of the two
        clean, marked = both.scores.tolist()
        what = "score"
    return (
        [] if marked > clean else [f"an image with a planted white square must get a higher {what}"]
    )


def _check_state(planned: Planned, method: Method, pixels: Tensor) -> list[str]:
    import torch

    from bench.run.context import CellRun, make_method, seed_everything
    from bench.run.loading_back import loads_back
    from bench.weights.choice import Weights

    cell = replace(planned.cells[0], seed=0)
    seed_everything(cell.seed, cell.precision)
    size = (pixels.shape[-2], pixels.shape[-1])
    run = CellRun(cell, torch.device("cpu"), size, Weights("random"))
    problem = loads_back(method, make_method(cell), run, pixels[:2])
    return [problem] if problem else []
