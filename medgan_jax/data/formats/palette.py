"""Palette images as colour, and colour that still fits its palette as indices again."""

import numpy as np


def as_colour(index: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """(H, W) indices into an (N, 3) palette as (H, W, 3) colours."""
    return palette[index]


def as_index(colour: np.ndarray, palette: np.ndarray) -> np.ndarray | None:
    """(H, W, 1) indices of (H, W, 3) colours, or None where a colour is not in the palette."""
    weights = np.array([2**32, 2**16, 1], np.int64)
    codes, known = colour.astype(np.int64) @ weights, palette.astype(np.int64) @ weights
    order = np.argsort(known, kind="stable")
    found = np.searchsorted(known[order], codes)
    index = order[np.minimum(found, len(known) - 1)]
    if not np.array_equal(known[index], codes):
        return None
    return index.astype(np.uint8 if len(palette) <= 256 else np.uint16)[..., None]
