"""Readers and writers of medical images: what comes in goes out in the same format, geometry and units."""

import dataclasses
import pathlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from medgan_jax.data.formats import arrays, dicom, jpeg, nifti, png, tiff
from medgan_jax.data.formats.arrays import read_arrays
from medgan_jax.data.formats.image import MedicalImage, reading
from medgan_jax.errors import UserError

__all__ = [
    "SUFFIXES",
    "ImageSummary",
    "MedicalImage",
    "check_geometry",
    "check_image",
    "check_images",
    "format_of",
    "read_arrays",
    "read_image",
    "with_storage",
    "write_image",
]

READERS = {
    "nifti": nifti, "dicom": dicom, "png": png, "jpeg": jpeg, "tiff": tiff, "npz": arrays, "npy": arrays,
}  # fmt: skip
SUFFIXES = {
    ".nii": "nifti", ".nii.gz": "nifti", ".dcm": "dicom", ".ima": "dicom", ".png": "png", ".jpg": "jpeg",
    ".jpeg": "jpeg", ".tif": "tiff", ".tiff": "tiff", ".npz": "npz", ".npy": "npy",
}  # fmt: skip
WITH_PALETTE = ("png", "tiff")


@dataclass(frozen=True)
class ImageSummary:
    """What `check_image` found: shape channels last, and the range of the values in `unit`."""

    path: pathlib.Path
    format: str
    shape: tuple[int, ...]
    stored_dtype: np.dtype
    unit: str
    spacing: tuple[float, ...] | None
    minimum: float
    maximum: float


def _suffix(path: pathlib.Path) -> str:
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def format_of(path: str | pathlib.Path) -> str | None:
    """Name of the format of a file, or of a folder of DICOM files, or None where it is no image.

    The name decides; a file without a known one is DICOM where it carries the DICOM mark.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return "dicom"
    known = SUFFIXES.get(_suffix(path))
    if known is None and path.is_file() and dicom.is_dicom(path):
        return "dicom"
    return known


def read_image(path: str | pathlib.Path, *, indexed: bool = False, finite: bool = True) -> MedicalImage:
    """Read one image or volume.

    Args:
      path: .nii, .nii.gz, .dcm (or any name, where the content is DICOM), a folder of one DICOM series, .png,
        .jpg, .tif, .npz or .npy.
      indexed: read a palette PNG or TIFF as its indices (label maps) and not as colour.
      finite: refuse NaN and infinity.

    Returns:
      The image, (H, W, C) or (D, H, W, C), in natural units.

    Raises:
      UserError: the file is missing, empty, damaged, unsupported, lies about its size, or holds NaN.
    """
    path = pathlib.Path(path)
    with reading(path, "an image"):
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
        if not path.is_file() and not path.is_dir():
            raise UserError(f"{path}: neither a file nor a folder")
        if path.is_file() and path.stat().st_size == 0:
            raise UserError(f"{path}: an empty file of zero bytes")
        kind = format_of(path)
    if kind is None:
        raise UserError(f"{path}: not a supported image; use one of {', '.join(SUFFIXES)}")
    options = {"indexed": indexed} if kind in WITH_PALETTE else {}
    image = READERS[kind].read(path, **options)
    if finite and image.array.dtype.kind == "f":
        size = image.array.size
        bad = size - int(np.isfinite(image.array).sum())
        if bad:
            raise UserError(f"{path}: {bad} of {size} values are NaN or infinite; mend or mask them first")
    return image


def write_image(path: str | pathlib.Path, image: MedicalImage, array: np.ndarray | None = None) -> None:
    """Write an array in the format, geometry, stored dtype and units of the image that came in.

    Args:
      path: the new file, or folder for a DICOM series; its suffix must be one of the image's format.
      image: what `read_image` returned, or `with_storage` made of it.
      array: values in `image.unit`, of the image's spatial shape, with any number of channels that the format
        takes; (H, W) and (D, H, W) are one channel. None writes the image itself. Integers round and clip.

    Raises:
      UserError: the place cannot be written, the suffix is another format's, or it cannot hold the array.
      ValueError: the spatial shape differs from the image's.
    """
    path = pathlib.Path(path)
    # DICOM files often have no suffix, or a counter in its place.
    if image.format != "dicom" and SUFFIXES.get(_suffix(path)) != image.format:
        names = " or ".join(suffix for suffix, kind in SUFFIXES.items() if kind == image.format)
        raise UserError(f"{path}: the image came in as {image.format}; give a name that ends in {names}")
    values = image.array if array is None else np.asarray(array)
    if values.shape == image.spatial_shape:
        values = values[..., None]
    if values.ndim != image.array.ndim or values.shape[:-1] != image.spatial_shape:
        raise ValueError(
            f"the array {values.shape} and the image {image.array.shape} differ in spatial shape"
        )
    try:
        READERS[image.format].write(path, image, values)
    except UserError as error:
        message = str(error)
        raise UserError(message if message.startswith(str(path)) else f"{path}: {message}") from error


def with_storage(image: MedicalImage, dtype: np.dtype | type, unit: str) -> MedicalImage:
    """The same geometry with another stored dtype and no slope: for label maps, probabilities and the like.

    Args:
      image: what `read_image` returned; its array is kept until `write_image` is given another.
      dtype: what the file stores; each format takes the dtypes that it can hold.
      unit: what a value of one then means, such as "label".
    """
    dtype = np.dtype(dtype)
    allowed = {"dicom": "uint8 uint16 int16", "png": "uint8 uint16", "jpeg": "uint8"}.get(image.format)
    if allowed is not None and dtype.name not in allowed.split():
        raise UserError(f"{image.path}: {image.format} cannot store {dtype.name}; it takes {allowed}")
    return dataclasses.replace(image, stored_dtype=dtype, slope=1.0, intercept=0.0, unit=unit)


def check_image(path: str | pathlib.Path, *, indexed: bool = False) -> ImageSummary:
    """Decode all of a file, as damage often shows only then, and return what is in it.

    Raises:
      UserError: as `read_image`.
    """
    image = read_image(path, indexed=indexed)
    return ImageSummary(
        path=pathlib.Path(path),
        format=image.format,
        shape=image.array.shape,
        stored_dtype=image.stored_dtype,
        unit=image.unit,
        spacing=image.spacing,
        minimum=float(image.array.min()),
        maximum=float(image.array.max()),
    )


def check_images(paths: Iterable[str | pathlib.Path], *, indexed: bool = False) -> list[ImageSummary]:
    """Check every file before a run starts; one error names the first bad file and counts the others."""
    summaries, errors = [], []
    for path in paths:
        try:
            summaries.append(check_image(path, indexed=indexed))
        except UserError as error:
            errors.append(str(error))
    if errors:
        total = len(errors) + len(summaries)
        raise UserError(errors[0] + (f" ({len(errors)} bad of {total} files)" if len(errors) > 1 else ""))
    return summaries


def check_geometry(image: MedicalImage, label: MedicalImage, tolerance: float = 1e-3) -> None:
    """Refuse an image and a label that do not lie on the same grid.

    Args:
      image, label: any two images; spacing and affine are compared where both have them.
      tolerance: millimetres.
    """
    pairs = [("size", image.spatial_shape, label.spatial_shape)]
    pairs += [("spacing", image.spacing, label.spacing), ("affine", image.affine, label.affine)]
    for name, one, other in pairs:
        if one is None or other is None:
            continue
        if len(one) != len(other) or not np.allclose(one, other, rtol=0, atol=tolerance):
            shown = [np.round(value, 4).tolist() for value in (one, other)]
            raise UserError(f"{image.path} and {label.path} differ in {name}: {shown[0]} and {shown[1]}")
