"""Tiles of whole slides (pyramidal TIFF), with the share of each that an annotation covers."""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from medgan_jax.data.formats import image as images
from medgan_jax.data.public.layout import Case, Field, Reading
from medgan_jax.errors import UserError

SIDE = 256
MICROMETRES = 0.5
MOST_TILES = 200
# A tile is tissue where this share of its pixels is coloured.
_TISSUE, _SATURATION = 0.5, 20
# The finest level of the public slides, where a file does not say.
_FINEST = 0.243


def tiles(fields: Sequence[Field], case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    """Up to `MOST_TILES` tiles with tissue of one slide, evenly spread, by '-row-column'.

    Raises UserError for a file that is no tiled RGB pyramid of 8 bits.
    """
    path = case.files["image"][0]
    with images.reading(path, "a slide"), contextlib.closing(tifffile.TiffFile(path)) as file:
        levels = file.series[0].levels
        first, page = levels[0].keyframe, _level(levels, path).keyframe
        factor = round(first.imagewidth / page.imagewidth)
        grid = page.imagelength // SIDE, page.imagewidth // SIDE
        outlines = _outlines(case.files["tumour"][0], factor) if "tumour" in case.files else []
        overview = levels[-1].asarray()
        coloured = np.ptp(overview[..., :3].astype(np.int16), axis=-1) > _SATURATION
        tissue = np.argwhere(_means(coloured, grid) > _TISSUE)
        if len(tissue) == 0:
            return
        chosen = tissue[np.linspace(0, len(tissue) - 1, min(MOST_TILES, len(tissue))).astype(int)]
        for row, column in chosen:
            corner = int(row) * SIDE, int(column) * SIDE
            yield (
                f"-{row}-{column}",
                {
                    "image": _window(page, *corner, path),
                    "tumour": np.float32(_covered(outlines, corner)),
                    "centre": _centre(case),
                },
            )


def _level(levels: Sequence[Any], path: pathlib.Path) -> Any:
    """The level that is nearest to `MICROMETRES` a pixel."""
    first = levels[0].keyframe
    if not first.is_tiled or first.samplesperpixel != 3 or first.dtype != np.uint8:
        raise UserError(f"{path}: not a tiled RGB slide of 8 bits")
    finest = _resolution(first) or _FINEST
    return min(
        levels, key=lambda l: abs(np.log(finest * first.imagewidth / l.keyframe.imagewidth / MICROMETRES))
    )


def _resolution(page: tifffile.TiffPage) -> float | None:
    """Micrometres a pixel, where the file gives dots per centimetre."""
    tag = page.tags.get("XResolution")
    if tag is None or page.tags.get("ResolutionUnit") is None or int(page.tags["ResolutionUnit"].value) != 3:
        return None
    dots, of = tag.value
    return 1e4 * of / dots if dots else None


def _window(page: tifffile.TiffPage, top: int, left: int, path: pathlib.Path) -> np.ndarray:
    """`(SIDE, SIDE, 3)` of a page, decoding only the stored tiles that it touches."""
    out = np.full((SIDE, SIDE, 3), 255, np.uint8)
    height, width = page.tilelength, page.tilewidth
    across = -(-page.imagewidth // width)
    handle = page.parent.filehandle
    for row in range(top // height, (top + SIDE - 1) // height + 1):
        for column in range(left // width, (left + SIDE - 1) // width + 1):
            index = row * across + column
            count = page.databytecounts[index]
            if not count:
                continue
            images.refuse_size(path, height * width * 3, images.MAXIMUM_BYTES)
            handle.seek(page.dataoffsets[index])
            tile = page.decode(handle.read(count), index, jpegtables=page.jpegtables)[0].reshape(
                -1, *_shape(page)
            )[0]
            y, x = row * height - top, column * width - left
            rows, columns = slice(max(y, 0), min(y + height, SIDE)), slice(max(x, 0), min(x + width, SIDE))
            out[rows, columns] = tile[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
    return out


def _shape(page: tifffile.TiffPage) -> tuple[int, int, int]:
    return page.tilelength, page.tilewidth, 3


def _means(inside: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Means of a picture over the cells of a grid that covers it."""
    rows = np.linspace(0, inside.shape[0], grid[0] + 1).astype(int)
    columns = np.linspace(0, inside.shape[1], grid[1] + 1).astype(int)
    total = np.pad(inside.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = total[np.ix_(rows, columns)]
    cells = sums[1:, 1:] - sums[:-1, 1:] - sums[1:, :-1] + sums[:-1, :-1]
    areas = np.outer(np.diff(rows), np.diff(columns))
    return cells / np.maximum(areas, 1)


def _outlines(path: pathlib.Path, factor: float) -> list[np.ndarray]:
    """Polygons `(K, 2)` of (row, column) at the level, from an ASAP annotation; exclusions are left out."""
    with images.reading(path, "annotations"):
        return [
            np.array([[float(p.get("Y")), float(p.get("X"))] for p in found.iter("Coordinate")]) / factor
            for found in ElementTree.parse(path).getroot().iter("Annotation")
            if found.get("PartOfGroup") in ("_0", "_1", "Tumor")
        ]


def _covered(outlines: Sequence[np.ndarray], corner: tuple[int, int]) -> float:
    from skimage.draw import polygon

    inside = np.zeros((SIDE, SIDE), bool)
    for outline in outlines:
        inside[polygon(*(outline - corner).T, inside.shape)] = True
    return float(inside.mean())


def _centre(case: Case) -> str:
    last = {"normal": 100, "tumor": 70}.get(case.keys["group"].lower())
    return "" if last is None else "radboud" if int(case.keys["number"]) <= last else "utrecht"


def _never(paths: Sequence[pathlib.Path], case: Case) -> Reading:
    raise ValueError("slides are read by tiles")


EXTRAS = (
    Field("tumour", "{group}_{number}.xml", _never, "float32", (), unit="share", optional=True),
    Field("centre", "{group}_{number}.tif", _never, "str", ()),
)
