"""NIfTI-1 and NIfTI-2 in one file (.nii, .nii.gz): header, extensions and dtype go out as they came in."""

import gzip
import math
import pathlib
from dataclasses import dataclass
from typing import BinaryIO

import nibabel
import numpy as np

from medgan_jax.data.formats import image as images
from medgan_jax.data.formats.image import MedicalImage
from medgan_jax.errors import UserError

HEADERS = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
RGB_CODES = {128: 3, 2304: 4}


@dataclass(frozen=True)
class NiftiGeometry:
    """The bytes in front of the voxels, verbatim: header, extensions and padding."""

    prefix: bytes
    flat: bool

    def header(self) -> nibabel.Nifti1Header:
        """The header, decoded anew so that changing it leaves this record alone."""
        return _parse_header(self.prefix)


def _parse_header(prefix: bytes) -> nibabel.Nifti1Header:
    size = min(int.from_bytes(prefix[:4], order) for order in ("little", "big"))
    return HEADERS[size](binaryblock=prefix[:size], check=False)


def _read_header(stream: BinaryIO, path: pathlib.Path) -> tuple[bytes, nibabel.Nifti1Header]:
    start = stream.read(4)
    sizes = {int.from_bytes(start, order) for order in ("little", "big")} & set(HEADERS)
    if not sizes:
        raise UserError(f"{path}: not a NIfTI file (its first bytes are no NIfTI header size)")
    block = start + bytes(images.read_exactly(stream, sizes.pop() - 4, path))
    header = _parse_header(block)
    magic = bytes(np.asarray(header["magic"]).tobytes())[:3]
    if magic in (b"ni1", b"ni2"):
        raise UserError(f"{path}: a header of a .hdr/.img pair; convert it to one .nii file")
    if magic not in (b"n+1", b"n+2"):
        raise UserError(f"{path}: no NIfTI magic in the header (Analyze files must be converted to NIfTI)")
    return block, header


def _shape(header: nibabel.Nifti1Header, path: pathlib.Path) -> tuple[int, ...]:
    dim = [int(size) for size in header["dim"]]
    rank = dim[0]
    shape = tuple(dim[1 : rank + 1])
    if not 2 <= rank <= 7 or min(shape) < 1:
        raise UserError(f"{path}: its header gives the impossible dimensions {dim}")
    extra = [size for size in shape[3:] if size > 1]
    if len(extra) > 1:
        raise UserError(f"{path}: {shape} has more than one axis beyond space; split it into files first")
    return shape


def _dtype(header: nibabel.Nifti1Header, path: pathlib.Path) -> tuple[np.dtype, int]:
    """Scalar dtype in the file's byte order, and how many of them make one voxel."""
    code, bits = int(header["datatype"]), int(header["bitpix"])
    dtype, parts = np.dtype(np.uint8), RGB_CODES.get(code, 0)
    if not parts:
        try:
            dtype, parts = header.get_data_dtype(), 1
        except Exception as error:
            raise UserError(f"{path}: unsupported NIfTI data type {code}") from error
    if dtype.kind == "c":
        dtype, parts = np.dtype(f"f{dtype.itemsize // 2}").newbyteorder(dtype.byteorder), 2
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise UserError(f"{path}: unsupported NIfTI data type {code}")
    needed = dtype.itemsize * 8 * parts
    if bits != needed:
        raise UserError(f"{path}: its header says {bits} bits a voxel, its data type {code} needs {needed}")
    return dtype, parts


def _scaling(header: nibabel.Nifti1Header, path: pathlib.Path) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if not math.isfinite(slope) or not math.isfinite(intercept):
        raise UserError(f"{path}: its scl_slope {slope} and scl_inter {intercept} are not finite")
    return slope, intercept


def _affine(
    header: nibabel.Nifti1Header, flat: bool, path: pathlib.Path
) -> tuple[np.ndarray, tuple[float, ...] | None]:
    """(4, 4) affine of array indices (depth, row, column), and the spacing along them, in millimetres."""
    try:
        affine = np.asarray(header.get_best_affine(), np.float64)
    except Exception as error:
        raise UserError(f"{path}: its orientation cannot be read ({images.one_line(error)})") from error
    scale = MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    affine = np.diag([scale, scale, scale, 1.0]) @ affine[:, [2, 1, 0, 3]]
    if not np.isfinite(affine).all():
        raise UserError(f"{path}: its affine holds NaN or infinity")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    declared = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    if declared and not flat and (spacing.min() == 0 or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-6):
        raise UserError(f"{path}: its affine is singular: {affine[:3].tolist()}")
    kept = spacing[1:] if flat else spacing
    return affine, tuple(float(step) for step in kept) if kept.min() > 0 else None


def _voxels(content: bytearray, dtype: np.dtype, parts: int, shape: tuple[int, ...]) -> np.ndarray:
    """(D, H, W, C): the file runs fastest along x, so the reversed shape is in C order."""
    x, y, z = (*shape, 1)[:3]
    volumes = math.prod(shape[3:])
    stored = np.frombuffer(content, dtype).reshape(volumes, z, y, x, parts)
    return np.moveaxis(stored, 0, -2).reshape(z, y, x, volumes * parts)


def read(path: pathlib.Path) -> MedicalImage:
    """A NIfTI file as (D, H, W, C) = (z, y, x, C), or (H, W, C) where it has one slice.

    Time or vector axes become channels; complex voxels become two channels (real, imaginary), RGB three.
    """
    with images.reading(path, "NIfTI"), path.open("rb") as file:
        size = path.stat().st_size
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream = gzip.GzipFile(fileobj=file) if compressed else file
        block, header = _read_header(stream, path)
        shape, (dtype, parts) = _shape(header, path), _dtype(header, path)
        offset = float(header["vox_offset"])
        if not (math.isfinite(offset) and offset == int(offset) and offset >= len(block)):
            raise UserError(f"{path}: its header places the voxels at the impossible offset {offset}")
        count = math.prod(shape) * parts * dtype.itemsize
        claimed = int(offset) + count
        images.refuse_size(path, claimed, size * images.DEFLATE_RATIO if compressed else size)
        prefix = block + bytes(images.read_exactly(stream, int(offset) - len(block), path))
        content = images.read_exactly(stream, count, path)
        if stream.read(1):
            raise UserError(f"{path}: holds more voxels than its header's shape {shape} describes")
    flat = len(shape) < 3 or shape[2] == 1
    affine, spacing = _affine(header, flat, path)
    slope, intercept = _scaling(header, path)
    stored = _voxels(content, dtype, parts, shape)
    return MedicalImage(
        array=images.to_natural(stored[0] if flat else stored, slope, intercept),
        unit="raw",
        format="nifti",
        stored_dtype=dtype.newbyteorder("="),
        slope=slope,
        intercept=intercept,
        spacing=spacing,
        affine=affine,
        geometry=NiftiGeometry(prefix, flat),
        path=path,
    )


def _fitted_header(image: MedicalImage, channels: int) -> nibabel.Nifti1Header:
    """The header that came in, changed only where the number of channels or the stored dtype differ."""
    header = image.geometry.header()
    parts = RGB_CODES.get(int(header["datatype"]), 2 if header.get_data_dtype().kind == "c" else 1)
    scalar = np.dtype(np.uint8) if int(header["datatype"]) in RGB_CODES else header.get_data_dtype()
    if scalar.kind == "c":
        scalar = np.dtype(f"f{scalar.itemsize // 2}")
    dim = np.array(header["dim"])
    volumes = math.prod(int(size) for size in dim[4 : dim[0] + 1])
    same_dtype = scalar.newbyteorder("=") == image.stored_dtype
    if same_dtype and volumes * parts == channels:
        return header
    if parts > 1 or not same_dtype:
        header.set_data_dtype(image.stored_dtype)
    rank = min(int(dim[0]), 3)
    dim[rank + 1 :] = 1
    if channels > 1:
        dim[rank + 1 : 4], dim[4], rank = 1, channels, 4
    dim[0] = rank
    header["dim"] = dim
    header["scl_slope"], header["scl_inter"] = image.slope, image.intercept
    header["cal_max"] = header["cal_min"] = 0
    return header


def write(path: pathlib.Path, image: MedicalImage, values: np.ndarray) -> None:
    """`values` behind the header bytes that came in; compressed where the name ends in .gz."""
    header = _fitted_header(image, values.shape[-1])
    stored = images.to_stored(values, image.stored_dtype, image.slope, image.intercept)
    stored = stored[None] if image.geometry.flat else stored
    code = int(header["datatype"])
    parts = RGB_CODES.get(code, 2 if header.get_data_dtype().kind == "c" else 1)
    grouped = stored.reshape(*stored.shape[:3], -1, parts)
    ordered = np.ascontiguousarray(
        np.moveaxis(grouped, -2, 0), image.stored_dtype.newbyteorder(header.endianness)
    )
    block = header.binaryblock
    with images.replacing(path) as file:
        stream = gzip.GzipFile("", "wb", 6, file, mtime=0) if path.name.lower().endswith(".gz") else file
        stream.write(block + image.geometry.prefix[len(block) :])
        stream.write(ordered.data)
        if stream is not file:
            stream.close()
