"""The defects of one image, a mask file each, as sPRO takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.errors import DataError
from bench.evaluate.spro import Defect, saturation_area
from bench.files.folders import mask_files
from bench.files.images import mask_values

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def read_defects(masks: Path, saturation: Mapping[int, tuple[float, bool]]) -> list[Defect]:
    """One defect for each mask file of a folder, in the order of their names.

    Args:
        masks: `Sample.mask`, the folder of one image.
        saturation: value of a mask's pixels -> (threshold, relative), as `saturation_area` takes
            them.

    Raises:
        DataError: a file that cannot be read, an empty mask, one of several values, or a value
            that `saturation` does not have.
    """
    return [_defect(file, saturation) for file in mask_files(masks)]


def _defect(file: Path, saturation: Mapping[int, tuple[float, bool]]) -> Defect:
    values = mask_values(file)
    mask = values > 0
    found = [int(value) for value in np.unique(values[mask])]
    if len(found) != 1 or found[0] not in saturation:
        raise DataError(
            f"{file}: values {', '.join(map(str, found)) or 'none'} above 0; a mask holds one, of "
            f"{', '.join(map(str, sorted(saturation)))}"
        )
    threshold, relative = saturation[found[0]]
    return Defect(mask, saturation_area(int(mask.sum()), threshold, relative=relative))
