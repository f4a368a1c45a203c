"""Weights by a recipe instead of by a file, and long arrays of which a file holds a sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from tests.golden_files import GoldenFile

SAMPLE = 300
FEATURES = 3000


def by_recipe(
    shapes: Mapping[str, Sequence[int]], names: Sequence[str], seed: int
) -> dict[str, Tensor]:
    """Weights of the n-th name from NumPy's legacy generator seeded by `seed` + n.

    Args:
        shapes: of the tensors wanted; others of `names` count, and are left out.
        names: sorted, without counters of batches.
    """
    found = {}
    for number, name in enumerate(names):
        if name not in shapes:
            continue
        z = np.random.RandomState(seed + number).standard_normal(tuple(shapes[name]))
        if name.endswith("running_var"):
            value = 1 + 0.2 * np.abs(z)
        elif name.endswith("running_mean"):
            value = 0.1 * z
        elif z.ndim >= 2:
            value = z * np.sqrt(2 / np.prod(z.shape[1:]))
        else:
            value = 1 + 0.1 * z if name.endswith("weight") else 0.1 * z
        found[name] = torch.from_numpy(value.astype(np.float32))
    return found


def check_sampled(
    golden: GoldenFile, name: str, found: Tensor, count: int = SAMPLE, *, relative: float
) -> None:
    """`golden.check` of an array that the file holds whole, or sampled and by its sums.

    Args:
        count: about how many entries a sample has.
        relative: of the largest entry; of the sums, of the sum of magnitudes.
    """
    if name in golden:
        golden.check(name, found, relative=relative)
        return
    flat = found.detach().flatten()
    golden.check(f"{name}/every", flat[:: max(1, len(flat) // count)], relative=relative)
    if f"{name}/sums" in golden:
        wide = flat.double()
        golden.check(f"{name}/sums", torch.stack([wide.sum(), wide.abs().sum()]), relative=relative)
