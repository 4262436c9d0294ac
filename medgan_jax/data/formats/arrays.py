"""NumPy files (.npz, .npy): plain arrays, never pickled objects, and no header that the size belies."""

import math
import pathlib
import zipfile
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from medgan_jax.data.formats import image as images
from medgan_jax.data.formats.image import MedicalImage
from medgan_jax.errors import UserError

KEYS = ("image", "images")
MAXIMUM_CHANNELS = 4


@dataclass(frozen=True)
class ArrayGeometry:
    """Key and shape of the image inside the file, and the other members, to be written beside it again."""

    key: str | None
    shape: tuple[int, ...]
    others: dict[str, np.ndarray]


def _read_array(stream: BinaryIO, size: int, path: pathlib.Path, name: str) -> np.ndarray:
    """One array of `size` bytes with its header; the header's shape must fill the file exactly."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise UserError(f"{path}: {name} has the unknown NumPy format version {version}")
    # Version 3 differs from 2 in the encoding of the header alone, and NumPy reads both by one function.
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(stream)
    if dtype.hasobject:
        raise UserError(f"{path}: {name} holds Python objects, which could run code; save plain numbers")
    count = math.prod(shape) * dtype.itemsize
    offset = stream.tell()
    images.refuse_size(path, count, size - offset)
    if count != size - offset:
        raise UserError(f"{path}: {name} holds {size - offset} bytes of data, its header describes {count}")
    content = images.read_exactly(stream, count, path)
    if stream.read(1):
        raise UserError(f"{path}: {name} is longer than the archive says")
    if dtype.itemsize == 0:
        return np.zeros(shape, dtype)
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def read_arrays(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Every array of an .npz file by name.

    Raises:
      UserError: the archive is damaged, holds Python objects, or its headers do not fit its size.
    """
    path = pathlib.Path(path)
    arrays = {}
    with images.reading(path, "npz"), zipfile.ZipFile(path) as archive:
        total = 0
        for member in archive.infolist():
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UserError(f"{path}: {member.filename} is compressed in a way that NumPy does not write")
            total += member.file_size
            images.refuse_size(path, member.file_size, member.compress_size * images.DEFLATE_RATIO)
            images.refuse_size(path, total, images.MAXIMUM_BYTES)
            if not member.filename.endswith(".npy"):
                raise UserError(f"{path}: {member.filename} is no NumPy array")
            name = member.filename.removesuffix(".npy")
            with archive.open(member) as stream:
                arrays[name] = _read_array(stream, member.file_size, path, name)
    return arrays


def _spatial(values: np.ndarray, key: str | None, path: pathlib.Path) -> np.ndarray:
    """(H, W, C) or (D, H, W, C); in three axes a last one of at most four is the channels."""
    if values.dtype.kind not in "iufb" or values.dtype.itemsize > 8:
        raise UserError(f"{path}: an image of dtype {values.dtype} cannot be used; save integers or floats")
    if values.size == 0 or values.ndim not in (2, 3, 4):
        raise UserError(
            f"{path}: an image of shape {values.shape} cannot be used; save (H,W[,C]) or (D,H,W[,C])"
        )
    channels_last = values.ndim == 4 or (
        values.ndim == 3 and key != "images" and values.shape[-1] <= MAXIMUM_CHANNELS
    )
    return values if channels_last else values[..., None]


def _spacing(others: dict[str, np.ndarray], rank: int, path: pathlib.Path) -> tuple[float, ...] | None:
    if "spacing" not in others:
        return None
    spacing = others["spacing"]
    numeric = spacing.shape == (rank,) and spacing.dtype.kind in "iuf"
    if not numeric or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise UserError(f"{path}: 'spacing' must be {rank} positive millimetres")
    return tuple(float(step) for step in spacing)


def read(path: pathlib.Path) -> MedicalImage:
    """The array `image` (or `images`, a stack along the first axis) of an .npz file, or all of an .npy file.

    An .npz may carry `spacing` (millimetres along the spatial axes) and `unit` (a string) beside it.
    """
    key, others = None, {}
    if path.suffix.lower() == ".npy":
        with images.reading(path, "npy"), path.open("rb") as stream:
            values = _read_array(stream, path.stat().st_size, path, path.name)
    else:
        others = read_arrays(path)
        key = next((name for name in KEYS if name in others), None)
        if key is None:
            raise UserError(
                f"{path}: has no array named 'image' or 'images' (it has: {', '.join(others) or 'none'})"
            )
        values = others.pop(key)
    array = _spatial(values, key, path)
    native = np.dtype(np.uint8) if array.dtype.kind == "b" else array.dtype.newbyteorder("=")
    unit = others.get("unit")
    return MedicalImage(
        array=array.astype(native, copy=False),
        unit=str(unit) if unit is not None and unit.dtype.kind == "U" and unit.ndim == 0 else "raw",
        format="npy" if key is None else "npz",
        stored_dtype=values.dtype.newbyteorder("="),
        spacing=_spacing(others, array.ndim - 1, path),
        geometry=ArrayGeometry(key, values.shape, others),
        path=path,
    )


def write(path: pathlib.Path, image: MedicalImage, values: np.ndarray) -> None:
    """`values` under the key, with the dtype and beside the members that came in."""
    if image.stored_dtype.kind == "b":
        stored = np.asarray(values) > 0.5 if values.dtype.kind == "f" else values.astype(bool)
    else:
        stored = images.to_stored(values, image.stored_dtype)
    geometry: ArrayGeometry = image.geometry
    if stored.shape[-1] == 1 and len(geometry.shape) == stored.ndim - 1:
        stored = stored[..., 0]
    with images.replacing(path) as file:
        if image.format == "npy":
            np.lib.format.write_array(file, stored, allow_pickle=False)
            return
        members = {geometry.key: stored, **geometry.others}
        if image.unit != "raw":
            members["unit"] = np.array(image.unit)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, member in members.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, np.asanyarray(member), allow_pickle=False)
