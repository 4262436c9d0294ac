"""JPEG at 8 bits, greyscale or colour; written with the quantisation tables that came in."""

import io
import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from medgan_jax.data.formats import image as images
from medgan_jax.data.formats.image import MedicalImage
from medgan_jax.errors import UserError

# The shortest code of a block of 8 x 8 samples is one bit.
PIXELS_PER_BYTE = 512
MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class JpegGeometry:
    """Quantisation tables and metadata that are written again."""

    tables: dict[int, list[int]]
    metadata: dict[str, Any]


def read(path: pathlib.Path) -> MedicalImage:
    """A JPEG as (H, W, 1) or (H, W, 3) uint8, as stored: an EXIF rotation is kept as a mark, not applied."""
    with images.reading(path, "JPEG"):
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            width, height = picture.size
            images.refuse_pixels(path, height, width)
            images.refuse_size(path, width * height, len(data) * PIXELS_PER_BYTE)
            if picture.mode not in MODES.values():
                raise UserError(
                    f"{path}: a JPEG in {picture.mode} is not supported; save it as greyscale or RGB"
                )
            picture.load()
            pixels = np.asarray(picture)
            metadata = {
                key: picture.info[key] for key in ("dpi", "exif", "icc_profile") if picture.info.get(key)
            }
            tables = {key: list(table) for key, table in picture.quantization.items()}
    return MedicalImage(
        array=pixels if pixels.ndim == 3 else images.with_channels(pixels),
        unit="raw",
        format="jpeg",
        stored_dtype=np.dtype(np.uint8),
        geometry=JpegGeometry(tables, metadata),
        path=path,
    )


def write(path: pathlib.Path, image: MedicalImage, values: np.ndarray) -> None:
    """A JPEG without chroma subsampling; JPEG is lossy, so values come back near and not equal."""
    if values.shape[-1] not in MODES or image.stored_dtype != np.uint8:
        raise UserError(f"{path}: JPEG takes one or three channels of 8 bits; write a PNG or TIFF instead")
    pixels = images.to_stored(values, image.stored_dtype)
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    with images.replacing(path) as file:
        picture.save(file, "JPEG", qtables=image.geometry.tables, subsampling=0, **image.geometry.metadata)
