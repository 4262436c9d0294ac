"""The image that every reader returns and every writer takes: natural units, and what its file needs."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from medgan_jax.errors import UserError

# No file may ask for more decoded bytes than this: a header can lie, memory cannot.
MAXIMUM_BYTES = 4 * 2**30
# DEFLATE cannot expand by more than this factor (RFC 1951: a match of 258 bytes takes at least two bits).
DEFLATE_RATIO = 1032
# One picture plane; Pillow refuses more than this too.
MAXIMUM_PIXELS = 178_956_970
READ_BLOCK = 2**24


@dataclass(frozen=True)
class MedicalImage:
    """One image or volume in natural units, channels last, with all that its file needs to be written again.

    Attributes:
      array: (H, W, C) or (D, H, W, C), in `unit`: the stored values times `slope` plus `intercept`. Stored
        values without a slope keep their dtype; scaled integers become float32 (float64 if not exact).
      unit: what a value of one means: "HU", "BQML", "label", or "raw" where the file does not say.
      format: "nifti", "dicom", "png", "jpeg", "tiff", "npz" or "npy".
      stored_dtype: the dtype inside the file, in this machine's byte order.
      slope, intercept: numbers, or (D, 1, 1, 1) arrays where a series scales each slice by itself.
      spacing: millimetres between voxel centres along (H, W) or (D, H, W); None where the file does not say.
      affine: (4, 4), array index (depth, row, column, 1) to millimetres in RAS+; None if the file has none.
      geometry: what the format's own writer needs (header bytes, data sets, palette); opaque to others.
      path: where the image was read.
    """

    array: np.ndarray
    unit: str
    format: str
    stored_dtype: np.dtype
    slope: Any = 1.0
    intercept: Any = 0.0
    spacing: tuple[float, ...] | None = None
    affine: np.ndarray | None = None
    geometry: Any = None
    path: pathlib.Path | None = None

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """(H, W) or (D, H, W)."""
        return self.array.shape[:-1]

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return self.array.shape[-1]


def is_identity(slope: Any, intercept: Any) -> bool:
    """Whether stored values are the natural values."""
    return bool(np.all(np.asarray(slope) == 1) and np.all(np.asarray(intercept) == 0))


def to_natural(stored: np.ndarray, slope: Any, intercept: Any) -> np.ndarray:
    """Stored values times `slope` plus `intercept`, in float32 where that can be undone, else float64."""
    native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    if is_identity(slope, intercept):
        return native
    values = native.astype(np.float64) * slope + intercept
    if native.dtype.kind == "f" or not values.size:
        return values
    steps = np.abs(values) / np.abs(slope)
    return values.astype(np.float32) if steps.max() < 2**22 else values


def to_stored(
    values: np.ndarray,
    dtype: np.dtype,
    slope: Any = 1.0,
    intercept: Any = 0.0,
    limits: tuple[int, int] | None = None,
) -> np.ndarray:
    """The inverse of `to_natural`; integers are rounded and clipped to `limits` (None: the dtype's)."""
    dtype = np.dtype(dtype).newbyteorder("=")
    identity = is_identity(slope, intercept)
    if identity and values.dtype == dtype and limits is None:
        return values
    if identity and values.dtype.kind in "iub" and dtype.kind in "iu":
        raw = values.astype(np.int64) if values.dtype.kind == "b" else values
    else:
        raw = (values.astype(np.float64) - intercept) / slope
    if dtype.kind not in "iu":
        return raw.astype(dtype)
    if raw.dtype.kind == "f" and not np.isfinite(raw).all():
        raise UserError("the values to write hold NaN or infinity, which an integer format cannot store")
    low, high = limits or (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if raw.dtype.kind == "f":
        # The largest 64-bit integers round up in float64 and would wrap.
        top = np.nextafter(float(high) + 1, 0) if high > 2**53 else float(high)
        return np.clip(np.rint(raw), float(low), top).astype(dtype)
    own = np.iinfo(raw.dtype)
    return np.clip(raw, max(low, own.min), min(high, own.max)).astype(dtype)


def one_line(error: BaseException) -> str:
    """The message of an exception on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


@contextlib.contextmanager
def reading(path: pathlib.Path, kind: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one line that names the file: damage has countless forms."""
    try:
        yield
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{path}: does not fit into memory as {kind}") from error
    except (PermissionError, FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror})") from error
    except Exception as error:
        raise UserError(
            f"{path}: cannot be read as {kind}, damaged or truncated ({one_line(error)})"
        ) from error


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[BinaryIO]:
    """A stream whose content takes the place of `path` only when all of it was written."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            yield stream
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise UserError(
            f"{path}: cannot be written ({reason}); free space or choose another folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def refuse_size(path: pathlib.Path, claimed: int, available: int) -> None:
    """Refuse a header that claims more decoded bytes than the file can hold, before anything is allocated."""
    if claimed > available:
        raise UserError(
            f"{path}: its header claims {claimed} bytes, the file holds at most {available}; it is truncated"
        )
    if claimed > MAXIMUM_BYTES:
        raise UserError(
            f"{path}: decodes to {claimed} bytes, over the limit of {MAXIMUM_BYTES}; cut it into parts"
        )


def read_exactly(stream: BinaryIO, count: int, path: pathlib.Path) -> bytearray:
    """`count` bytes, block by block, so that memory follows what is there and not what is claimed."""
    content = bytearray()
    while len(content) < count:
        block = stream.read(min(READ_BLOCK, count - len(content)))
        if not block:
            raise UserError(f"{path}: truncated after {len(content)} of {count} bytes of data")
        content += block
    return content


def with_channels(values: np.ndarray) -> np.ndarray:
    """A C-ordered copy or view with a channel axis at the end: (H, W) becomes (H, W, 1)."""
    return np.ascontiguousarray(values)[..., None]


def refuse_pixels(path: pathlib.Path, height: int, width: int) -> None:
    """Refuse pictures of more than `MAXIMUM_PIXELS`: whole slides are cut into tiles first."""
    if height * width > MAXIMUM_PIXELS:
        raise UserError(
            f"{path}: {height} x {width} pixels exceed the limit of {MAXIMUM_PIXELS}; cut it into tiles"
        )
