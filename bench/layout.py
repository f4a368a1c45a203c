"""What a data set may import beside `bench.api`: layouts that data sets share, reading of text."""

from bench.disk import read_text
from bench.files.folders import Listing, image_files, listing
from bench.files.layout import (
    MASK_SUFFIXES,
    Tree,
    absent,
    category_folder,
    locate,
    pair_masks,
    test_samples,
    train_samples,
)

__all__ = [
    "MASK_SUFFIXES",
    "Listing",
    "Tree",
    "absent",
    "category_folder",
    "image_files",
    "listing",
    "locate",
    "pair_masks",
    "read_text",
    "test_samples",
    "train_samples",
]
