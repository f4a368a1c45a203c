"""What a data set may import beside `bench.api`: the layouts that published data sets share."""

from bench.files.layout import (
    MASK_SUFFIXES,
    Listing,
    Tree,
    absent,
    category_folder,
    image_files,
    listing,
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
    "test_samples",
    "train_samples",
]
