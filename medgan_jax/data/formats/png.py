"""PNG at every bit depth, 16-bit colour included: checksums verified first, ancillary chunks kept."""

import io
import math
import pathlib
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from medgan_jax.data.formats import image as images
from medgan_jax.data.formats.image import MedicalImage
from medgan_jax.data.formats.palette import as_colour, as_index
from medgan_jax.errors import UserError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, COLOUR: 3, PALETTE: 1, GREY_ALPHA: 2, COLOUR_ALPHA: 4}
DEPTHS = {
    GREY: (1, 2, 4, 8, 16),
    COLOUR: (8, 16),
    PALETTE: (1, 2, 4, 8),
    GREY_ALPHA: (8, 16),
    COLOUR_ALPHA: (8, 16),
}
# Chunks whose meaning does not depend on the pixels, in the order in which the standard wants them.
KEPT = b"cICP cHRM gAMA iCCP sRGB pHYs eXIf tIME tEXt zTXt iTXt".split()


@dataclass(frozen=True)
class PngGeometry:
    """Colour type, bit depth, palette (N, 3) and the chunks that are written again."""

    colour_type: int
    bits: int
    palette: np.ndarray | None
    indexed: bool
    kept: tuple[tuple[bytes, bytes], ...]
    transparency: bytes | None


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    bits: int
    colour_type: int
    interlaced: bool


def _chunks(data: bytes, path: pathlib.Path) -> list[tuple[bytes, bytes]]:
    """All chunks up to IEND, each with its checksum verified."""
    if not data.startswith(SIGNATURE):
        raise UserError(f"{path}: not a PNG file (wrong signature), damaged or misnamed")
    chunks, position = [], len(SIGNATURE)
    while not chunks or chunks[-1][0] != b"IEND":
        if position + 12 > len(data):
            raise UserError(f"{path}: truncated PNG, it ends before its last chunk")
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise UserError(f"{path}: truncated PNG, it ends inside a chunk")
        body = data[position + 8 : end - 4]
        if zlib.crc32(data[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise UserError(f"{path}: damaged PNG, the checksum of a chunk is wrong")
        chunks.append((name, body))
        position = end
    return chunks


def _header(chunks: list[tuple[bytes, bytes]], path: pathlib.Path) -> _Header:
    name, body = chunks[0]
    if name != b"IHDR" or len(body) != 13:
        raise UserError(f"{path}: damaged PNG, it does not start with its header")
    width, height, bits, colour_type, compression, filtering, interlace = struct.unpack(">IIBBBBB", body)
    if (
        bits not in DEPTHS.get(colour_type, ())
        or compression
        or filtering
        or interlace > 1
        or not width * height
    ):
        raise UserError(f"{path}: damaged PNG, its header is impossible")
    if any(name == b"acTL" for name, _ in chunks):
        raise UserError(f"{path}: an animated PNG; save its frames as single images or as a TIFF volume")
    return _Header(width, height, bits, colour_type, interlace == 1)


def _inflate(compressed: bytes, header: _Header, path: pathlib.Path) -> np.ndarray:
    """(H, 1 + row bytes) of filtered rows of an image without interlacing."""
    row = 1 + math.ceil(header.width * header.bits * CHANNELS[header.colour_type] / 8)
    inflater = zlib.decompressobj()
    content = inflater.decompress(compressed, header.height * row)
    if len(content) != header.height * row:
        raise UserError(f"{path}: truncated PNG, its pixels do not fill {header.width} x {header.height}")
    return np.frombuffer(content, np.uint8).reshape(header.height, row)


def unfilter(rows: np.ndarray, step: int) -> np.ndarray:
    """Undo the five PNG filters (PNG specification, section 9) for pixels of `step` bytes.

    A byte depends on its left, upper and upper-left neighbours, so an anti-diagonal is found at once.

    Args:
      rows: (H, 1 + W * step) uint8, each row led by its filter type.
      step: bytes of a pixel.
    """
    kinds, filtered = rows[:, 0].astype(np.int64), rows[:, 1:]
    if kinds.max() > 4:
        raise ValueError("unknown PNG filter")
    height, width = len(filtered), filtered.shape[1] // step
    pixels = filtered.reshape(height, width, step).astype(np.int16)
    done = np.zeros((height + 1, width + 1, step), np.int16)
    for diagonal in range(height + width - 1):
        row = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        column = diagonal - row
        left, up, corner = done[row + 1, column], done[row, column + 1], done[row, column]
        kind = kinds[row][:, None]
        estimate = left + up - corner
        distances = [np.abs(estimate - neighbour) for neighbour in (left, up, corner)]
        paeth = np.where(
            (distances[0] <= distances[1]) & (distances[0] <= distances[2]),
            left,
            np.where(distances[1] <= distances[2], up, corner),
        )
        predicted = np.choose(kind, [np.zeros_like(left), left, up, (left + up) // 2, paeth])
        done[row + 1, column + 1] = (pixels[row, column] + predicted) & 255
    return done[1:, 1:].astype(np.uint8).reshape(height, width * step)


def _wide_colour(compressed: bytes, header: _Header, path: pathlib.Path) -> np.ndarray:
    """16-bit pixels with several channels, which Pillow would cut to 8 bits."""
    if header.interlaced:
        raise UserError(f"{path}: interlaced 16-bit colour PNG is not supported; save it without interlacing")
    channels = CHANNELS[header.colour_type]
    content = unfilter(_inflate(compressed, header, path), 2 * channels)
    return content.view(">u2").astype(np.uint16).reshape(header.height, header.width, channels)


def _pillow(data: bytes, header: _Header, path: pathlib.Path) -> np.ndarray:
    """Pixels, or palette indices, as stored; greyscale below 8 bits spread over 0 to 255."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        picture.load()
        pixels = np.asarray(picture)
    if pixels.dtype.kind == "b":
        pixels = pixels.astype(np.uint8) * 255
    if pixels.shape[:2] != (header.height, header.width) or pixels.dtype.kind != "u":
        raise UserError(f"{path}: damaged PNG, its pixels do not fit its header")
    return pixels


def read(path: pathlib.Path, indexed: bool = False) -> MedicalImage:
    """A PNG as (H, W, C), uint8 or uint16; a palette becomes colour unless `indexed` asks for the indices.

    Greyscale of 1, 2 or 4 bits spans 0 to 255.
    """
    with images.reading(path, "PNG"):
        data = path.read_bytes()
        chunks = _chunks(data, path)
        header = _header(chunks, path)
        compressed = b"".join(body for name, body in chunks if name == b"IDAT")
        channels = CHANNELS[header.colour_type]
        claimed = header.height * math.ceil(header.width * header.bits * channels / 8)
        images.refuse_size(path, claimed, len(compressed) * images.DEFLATE_RATIO)
        images.refuse_pixels(path, header.height, header.width)
        if not header.interlaced:
            _inflate(compressed, header, path)
        wide = header.bits == 16 and channels > 1
        pixels = _wide_colour(compressed, header, path) if wide else _pillow(data, header, path)
        named = dict(chunks)
        palette = None
        if header.colour_type == PALETTE:
            palette = np.frombuffer(named[b"PLTE"], np.uint8).reshape(-1, 3)
            if pixels.max() >= len(palette):
                raise UserError(f"{path}: damaged PNG, a pixel lies outside the palette")
            pixels = pixels if indexed else as_colour(pixels, palette)
    array = pixels if pixels.ndim == 3 else images.with_channels(pixels)
    return MedicalImage(
        array=array,
        unit="raw",
        format="png",
        stored_dtype=array.dtype,
        geometry=PngGeometry(
            colour_type=header.colour_type,
            bits=header.bits,
            palette=palette,
            indexed=indexed and palette is not None,
            kept=tuple((name, body) for name, body in chunks if name in KEPT),
            transparency=named.get(b"tRNS"),
        ),
        path=path,
    )


def _packed(pixels: np.ndarray, bits: int) -> np.ndarray:
    """(H, W, C) values as (H, row bytes), most significant bits first."""
    height = len(pixels)
    if bits == 16:
        return np.ascontiguousarray(pixels, ">u2").view(np.uint8).reshape(height, -1)
    if bits == 8:
        return pixels.astype(np.uint8).reshape(height, -1)
    planes = np.unpackbits(pixels.astype(np.uint8).reshape(height, -1, 1), axis=-1)[..., 8 - bits :]
    return np.packbits(planes.reshape(height, -1), axis=-1)


def _filtered(rows: np.ndarray, bits: int) -> bytes:
    """Rows led by their filter: the difference from the row above, or none where samples share a byte."""
    if bits < 8:
        return np.pad(rows, ((0, 0), (1, 0))).tobytes()
    differences = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    return np.pad(differences, ((0, 0), (1, 0)), constant_values=2).tobytes()


def _encoded(pixels: np.ndarray, image: MedicalImage) -> tuple[int, int, np.ndarray, bytes | None]:
    """Colour type, bit depth, samples and palette under which the pixels are exact."""
    geometry: PngGeometry = image.geometry
    channels, bits = pixels.shape[-1], image.stored_dtype.itemsize * 8
    if geometry.palette is not None:
        same = pixels.shape[-1] == (1 if geometry.indexed else 3) and bits == 8
        index = None
        if same:
            index = as_index(pixels, geometry.palette) if not geometry.indexed else pixels
        if index is not None and index.max() < len(geometry.palette):
            return PALETTE, geometry.bits, index, geometry.palette.tobytes()
    colour_type = {1: GREY, 2: GREY_ALPHA, 3: COLOUR, 4: COLOUR_ALPHA}[channels]
    if colour_type == GREY == geometry.colour_type and geometry.bits < 8 and bits == 8:
        return GREY, geometry.bits, np.rint(pixels / (255 // (2**geometry.bits - 1))), None
    return colour_type, bits, pixels, None


def write(path: pathlib.Path, image: MedicalImage, values: np.ndarray) -> None:
    """A PNG with the bit depth, palette and ancillary chunks that came in."""
    if not 1 <= values.shape[-1] <= 4:
        raise UserError(f"{path}: PNG takes one to four channels, not {values.shape[-1]}")
    pixels = images.to_stored(values, image.stored_dtype)
    colour_type, bits, samples, palette = _encoded(pixels, image)
    height, width = pixels.shape[:2]
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)),
        *image.geometry.kept,
    ]
    if palette is not None:
        chunks.append((b"PLTE", palette))
    if image.geometry.transparency is not None and colour_type == image.geometry.colour_type:
        chunks.append((b"tRNS", image.geometry.transparency))
    chunks += [(b"IDAT", zlib.compress(_filtered(_packed(samples, bits), bits), 6)), (b"IEND", b"")]
    with images.replacing(path) as file:
        file.write(SIGNATURE)
        for name, body in chunks:
            checksum = zlib.crc32(name + body)
            file.write(struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum))
