"""TIFF of any plain integer or float depth; several pages are one volume."""

import logging
import math
import pathlib
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from medgan_jax.data.formats import image as images
from medgan_jax.data.formats.image import MedicalImage
from medgan_jax.data.formats.palette import as_colour, as_index
from medgan_jax.errors import UserError

# What tifffile logs about damage is raised here, as one line.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

# LZW codes of 12 bits stand for at most 4096 bytes; Zstandard and LZMA reach more, but not in images.
CODEC_RATIO = 8192
MINISWHITE, MINISBLACK, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
NO_COMPRESSION = 1
CENTIMETRE = 3
MICROMETRE = ("um", "\\u00B5m", "µm", "micron", "microns")
MILLIMETRES = {"mm": 1.0, "cm": 10.0, "nm": 1e-6} | dict.fromkeys(MICROMETRE, 1e-3)


@dataclass(frozen=True)
class TiffGeometry:
    """Axes as stored, and the tags that are written again."""

    axes: str
    shape: tuple[int, ...]
    bits: int
    inverted: bool
    indexed: bool
    palette: np.ndarray | None
    tags: dict[str, Any]


def _count_pages(path: pathlib.Path) -> int:
    """Length of the chain of image directories; one that leaves the file or runs in a circle is an error."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(start[:2])
        version = struct.unpack(order + "H", start[2:4])[0] if order and len(start) >= 8 else 0
        if version not in (42, 43):
            raise UserError(f"{path}: not a TIFF file (no TIFF mark in its first bytes), damaged or misnamed")
        # Classic: 2-byte count, 12-byte entries, 4-byte offsets. BigTIFF: 8, 20 and 8.
        counter, entry, pointer = ("H", 12, "I") if version == 42 else ("Q", 20, "Q")
        offset = struct.unpack_from(order + pointer, start, 4 if version == 42 else 8)[0]
        seen = set()
        while offset:
            if offset in seen or offset >= size:
                raise UserError(
                    f"{path}: truncated or damaged TIFF, page {len(seen) + 1} lies outside the file"
                )
            seen.add(offset)
            file.seek(offset)
            entries = struct.unpack(order + counter, file.read(struct.calcsize(counter)))[0]
            if offset + entries * entry > size:
                raise UserError(
                    f"{path}: truncated or damaged TIFF, the tags of page {len(seen)} leave the file"
                )
            file.seek(entries * entry, 1)
            offset = struct.unpack(order + pointer, file.read(struct.calcsize(pointer)))[0]
    if not seen:
        raise UserError(f"{path}: a TIFF without any page")
    return len(seen)


def _check_segments(page: tifffile.TiffPage, number: int, path: pathlib.Path) -> None:
    """As many strips or tiles as the size of the page asks for: missing ones would be read as zeros."""
    # The list of a page is cut to what it needs, its tag is not; pages like the first may come without tags.
    tags = getattr(page, "tags", {})
    tag = tags.get("TileOffsets") or tags.get("StripOffsets")
    given = len(page.dataoffsets) if tag is None else tag.count
    # Plain pixels in one piece fill the page, whatever is said of its strips.
    needed = len(page.dataoffsets) if page.is_contiguous else math.prod(page.chunked)
    if given != needed:
        raise UserError(
            f"{path}: damaged TIFF, page {number} of {page.imagelength} x {page.imagewidth} pixels has {given} "
            f"of {needed} strips or tiles; get a whole copy"
        )


def _plain_bytes(page: tifffile.TiffPage) -> int:
    """What the pixels of a page take in the file if they are not compressed; single bits are packed."""
    return -(-page.nbytes // 8) if page.bitspersample == 1 else page.nbytes


def _check_pages(tif: tifffile.TiffFile, pages: int, path: pathlib.Path) -> None:
    """Every strip and tile is there and lies in the file, and what the pages claim fits what they hold."""
    size = path.stat().st_size
    if len(tif.pages) != pages:
        raise UserError(f"{path}: damaged TIFF, {len(tif.pages)} of {pages} pages can be read")
    total = 0
    for number, page in enumerate(tif.pages, 1):
        segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        if not segments or any(count <= 0 or offset + count > size for offset, count in segments):
            raise UserError(f"{path}: truncated or damaged TIFF, the pixels of page {number} leave the file")
        _check_segments(page, number, path)
        held = sum(count for _, count in segments)
        images.refuse_pixels(path, page.imagelength, page.imagewidth)
        if page.compression == NO_COMPRESSION:
            images.refuse_size(path, _plain_bytes(page), held)
        images.refuse_size(path, page.nbytes, held * CODEC_RATIO)
        total += page.nbytes
    images.refuse_size(path, total, images.MAXIMUM_BYTES)


def _series(tif: tifffile.TiffFile, path: pathlib.Path) -> tifffile.TiffPageSeries:
    if len(tif.series) != 1 or len(tif.series[0].levels) != 1:
        raise UserError(
            f"{path}: its pages differ in size or kind (a slide and its overviews?); save one alone"
        )
    series = tif.series[0]
    claimed = math.prod(series.shape) * series.dtype.itemsize
    # ImageJ writes one page for a whole stack, so the pages alone do not tell.
    if series.dataoffset is not None:
        images.refuse_size(path, claimed, path.stat().st_size - series.dataoffset)
    elif claimed != sum(page.nbytes for page in tif.pages):
        raise UserError(f"{path}: damaged TIFF, its description and its pages disagree about its size")
    return series


def _decode(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: pathlib.Path) -> np.ndarray:
    """Pixels in the series' own axes; Pillow decodes what tifffile cannot alone, where that is exact."""
    page = tif.pages[0]
    if page.compression in tifffile.TIFF.DECOMPRESSORS and page.predictor in tifffile.TIFF.UNPREDICTORS:
        return series.asarray(maxworkers=1)
    pixels = []
    with Image.open(path, formats=("TIFF",)) as picture:
        for number in range(len(tif.pages)):
            picture.seek(number)
            picture.load()
            pixels.append(np.asarray(picture))
    stored = np.stack(pixels)
    if stored.dtype.newbyteorder("=") != series.dtype.newbyteorder("=") or stored.size != math.prod(
        series.shape
    ):
        name = tifffile.COMPRESSION(page.compression).name
        raise UserError(f"{path}: {page.bitspersample} bits compressed as {name}: 'pip install imagecodecs'")
    return stored.reshape(series.shape)


def _channels_last(stored: np.ndarray, axes: str, path: pathlib.Path) -> np.ndarray:
    """(H, W, C) or (D, H, W, C) from the stored axes."""
    depth = [index for index, name in enumerate(axes) if name not in "YXSC"]
    channel = [index for index, name in enumerate(axes) if name in "SC"]
    if len(depth) > 1 or len(channel) > 1 or "Y" not in axes or "X" not in axes:
        raise UserError(
            f"{path}: axes {axes} {stored.shape} are not one image or volume; split it into files"
        )
    ordered = stored.transpose(*depth, axes.index("Y"), axes.index("X"), *channel)
    return ordered if channel else ordered[..., None]


def _spacing(tif: tifffile.TiffFile, volume: bool) -> tuple[float, ...] | None:
    """Millimetres, from centimetres or as ImageJ gives them; dots per inch are rarely true."""
    page = tif.pages[0]
    metadata = tif.imagej_metadata or {}
    unit = MILLIMETRES.get(str(metadata.get("unit", "")))
    if unit is None and page.resolutionunit == CENTIMETRE:
        unit = 10.0
    x, y = page.resolution
    if unit is None or not (x > 0 and y > 0 and math.isfinite(x) and math.isfinite(y)):
        return None
    plane = (unit / float(y), unit / float(x))
    if not volume:
        return plane
    step = metadata.get("spacing")
    return (float(step) * unit, *plane) if isinstance(step, int | float) and 0 < step < math.inf else None


def _tags(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> dict[str, Any]:
    """Arguments under which tifffile writes the same kind of file."""
    compressed = page.compression != NO_COMPRESSION
    tags = {
        "byteorder": tif.byteorder,
        "bigtiff": tif.is_bigtiff,
        "photometric": RGB if page.photometric == YCBCR else page.photometric,
        "planarconfig": page.planarconfig if page.samplesperpixel > 1 else None,
        "extrasamples": page.extrasamples or None,
        "compression": "zlib" if compressed else None,
        "description": page.description or None,
        "software": page.software or None,
    }
    if "XResolution" in page.tags and "YResolution" in page.tags:
        unit = page.resolutionunit
        tags |= {"resolution": tuple(float(value) for value in page.resolution), "resolutionunit": int(unit)}
    return tags


def _palette(page: tifffile.TiffPage) -> np.ndarray | None:
    """(N, 3) colours, uint8 where nothing is lost by it."""
    if page.photometric != PALETTE:
        return None
    wide = np.asarray(page.colormap).T.astype(np.uint16)
    for scale in (257, 256):
        if not (wide % scale).any():
            return (wide // scale).astype(np.uint8)
    return wide


def read(path: pathlib.Path, indexed: bool = False) -> MedicalImage:
    """A TIFF as (H, W, C), or (D, H, W, C) where it has pages; a palette becomes colour unless `indexed`.

    Where white is stored as 0 the values are inverted, so that larger is brighter. One bit spans 0 to 255.
    """
    with images.reading(path, "TIFF"):
        pages = _count_pages(path)
        with tifffile.TiffFile(path, _multifile=False) as tif:
            _check_pages(tif, pages, path)
            series, page = _series(tif, path), tif.pages[0]
            stored, axes = _decode(tif, series, path), series.axes
            palette, tags = _palette(page), _tags(tif, page)
            bits = page.bitspersample
            array = _channels_last(stored, axes, path)
            spacing = _spacing(tif, array.ndim == 4)
        if array.dtype.kind not in "iufb" or array.dtype.itemsize > 8:
            raise UserError(f"{path}: a TIFF of {array.dtype} cannot be used; save integers or floats")
        if array.dtype.kind == "b":
            array = array.astype(np.uint8) * 255
        inverted = page.photometric == MINISWHITE and array.dtype.kind == "u"
        array = np.iinfo(array.dtype).max - array if inverted else array
        if palette is not None and not indexed:
            array = as_colour(array[..., 0], palette)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return MedicalImage(
        array=array,
        unit="raw",
        format="tiff",
        stored_dtype=array.dtype,
        spacing=spacing,
        geometry=TiffGeometry(
            axes, stored.shape, bits, inverted, indexed and palette is not None, palette, tags
        ),
        path=path,
    )


def _unpalette(pixels: np.ndarray, geometry: TiffGeometry) -> tuple[np.ndarray, np.ndarray | None]:
    """Indices and colour map, where every pixel is in the palette that came in; else the pixels and None."""
    palette = geometry.palette
    if palette is None or pixels.dtype.kind != "u":
        return pixels, None
    index = pixels
    if not geometry.indexed:
        index = as_index(pixels, palette) if pixels.shape[-1] == 3 else None
    if index is None or index.shape[-1] != 1 or index.max() >= len(palette):
        return pixels, None
    wide = palette.astype(np.uint16) * (257 if palette.dtype == np.uint8 else 1)
    return index, wide.T


def write(path: pathlib.Path, image: MedicalImage, values: np.ndarray) -> None:
    """A TIFF with the depth, byte order, axes and tags that came in; compressed ones go out by DEFLATE."""
    geometry: TiffGeometry = image.geometry
    pixels = images.to_stored(values, image.stored_dtype)
    pixels = np.iinfo(pixels.dtype).max - pixels if geometry.inverted and pixels.dtype.kind == "u" else pixels
    pixels, colormap = _unpalette(pixels, geometry)
    tags = dict(geometry.tags)
    if geometry.bits == 1 and pixels.shape[-1] == 1 and pixels.dtype == np.uint8:
        pixels = pixels > 127
    if pixels.shape[-1] == 1 and "S" not in geometry.axes and "C" not in geometry.axes:
        pixels = pixels[..., 0]
    same = math.prod(pixels.shape) == math.prod(geometry.shape)
    if same:
        last = [axis for axis in geometry.axes if axis not in "YXSC"] + ["Y", "X"]
        last += [axis for axis in geometry.axes if axis in "SC"]
        pixels = pixels.transpose([last.index(axis) for axis in geometry.axes])
    else:
        pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
        tags |= {"planarconfig": None, "extrasamples": None, "description": None}
        tags["photometric"] = RGB if values.shape[-1] in (3, 4) else MINISBLACK
        if values.shape[-1] not in (1, 3, 4):
            tags["planarconfig"] = 1
    if colormap is not None:
        tags |= {"photometric": PALETTE, "colormap": colormap}
    elif tags["photometric"] == PALETTE:
        tags["photometric"] = RGB if values.shape[-1] == 3 else MINISBLACK
    with images.replacing(path) as file:
        tifffile.imwrite(file, pixels, metadata=None, **tags)
