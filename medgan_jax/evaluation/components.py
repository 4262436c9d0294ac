"""Connected components of masks: how many there are, and masks as objects with a number each.

Masks are `(B, H, W, 1)` or `(B, D, H, W, 1)`; pixels are connected across edges and, in `objects`, nothing
else, so that objects which touch at a corner stay apart.
"""

import numpy as np
from scipy import ndimage


def count_components(masks) -> np.ndarray:
    """Number of connected components of each mask `(B,)`; a plain organ has one (Moeskops et al. 2017)."""
    return np.array([ndimage.label(mask[..., 0] != 0)[1] for mask in np.asarray(masks)])


def objects(masks, *, smallest: int = 1) -> np.ndarray:
    """Label maps int32 of the shape of `masks`: a number for each component of at least `smallest` pixels.

    Smaller components become background. Numbers are consecutive from 1.
    """
    masks = np.asarray(masks)
    labels = np.zeros(masks.shape, np.int32)
    for case, mask in enumerate(masks[..., 0] != 0):
        found, count = ndimage.label(mask)
        sizes = np.bincount(found.ravel(), minlength=count + 1)
        kept = np.flatnonzero(sizes >= smallest)
        numbers = np.zeros(count + 1, np.int32)
        numbers[kept[kept > 0]] = np.arange(1, (kept > 0).sum() + 1)
        labels[case, ..., 0] = numbers[found]
    return labels
