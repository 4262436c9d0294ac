"""DICOM files, multi-frame files, and folders that are one series; a written copy is a new series."""

import copy
import io
import logging
import math
import pathlib
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.pixels import apply_color_lut, get_decoder, pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid

from medgan_jax.data.formats import image as images
from medgan_jax.data.formats.image import MedicalImage
from medgan_jax.errors import UserError

# What pydicom says about files that bend the standard is either read right or raised here, as one line.
logging.getLogger("pydicom").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")

# Codes that describe a run of equal pixels in almost no bytes; the others spend bits on each block or row.
UNBOUNDED_CODECS = ("JPEG 2000", "JPEG-LS", "High-Throughput JPEG 2000")
CODEC_RATIO = 1100
UNBOUNDED_RATIO = 100_000
MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
# Distance along the normal below which two slices are the same one, in millimetres.
SAME_PLACE = 1e-3
# A slice may lie this part of a step away from its even place before one counts as missing.
UNEVEN = 0.1
# Even steps of this many times the distance that the headers give leave slices out.
SKIPPING = 1.5
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class DicomGeometry:
    """The data sets without their pixels, by file name, and where each slice of the array came from."""

    datasets: dict[str, Dataset]
    places: tuple[tuple[str, int], ...]
    volume: bool
    inverted: bool
    folder: bool
    dtype: np.dtype
    unit: str


@dataclass(frozen=True)
class _Slice:
    """One frame of one file with its place in space and its scaling."""

    name: str
    frame: int
    pixels: np.ndarray
    slope: float
    intercept: float
    position: np.ndarray | None
    orientation: np.ndarray | None
    spacing: tuple[float, float] | None
    distance: float | None
    thickness: float | None


def is_dicom(path: pathlib.Path) -> bool:
    """Whether the file carries the DICOM mark after its preamble."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _refuse_bomb(content: bytes, path: pathlib.Path) -> None:
    """Inflate a deflated file without keeping it: its size shows only then, and pydicom does it at once."""
    stream = io.BytesIO(content)
    stream.seek(132)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, representation, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    rest, inflater, size = stream.read(), zlib.decompressobj(-zlib.MAX_WBITS), 0
    while rest and not inflater.eof:
        size += len(inflater.decompress(rest, images.READ_BLOCK))
        rest = inflater.unconsumed_tail
        images.refuse_size(path, size, images.MAXIMUM_BYTES)


def _load(path: pathlib.Path) -> Dataset:
    if not path.is_file():
        raise UserError(f"{path}: not a file, or a link to nothing; mend it or take it out")
    if not is_dicom(path):
        raise UserError(f"{path}: not a DICOM file (no DICM mark after the preamble), damaged or truncated")
    # A file reserves as much memory as a damaged length claims; bytes in memory give no more than there are.
    content = path.read_bytes()
    _refuse_bomb(content, path)
    dataset = pydicom.dcmread(io.BytesIO(content))
    dataset.buffer = None
    if "TransferSyntaxUID" not in dataset.file_meta:
        raise UserError(f"{path}: gives no transfer syntax, so its pixels cannot be decoded")
    for keyword in ("Rows", "Columns", "SOPClassUID"):
        if dataset.get(keyword) in (None, ""):
            raise UserError(f"{path}: has no {keyword}; not an image, damaged or truncated")
    if "ModalityLUTSequence" in dataset:
        raise UserError(f"{path}: maps its values through a Modality LUT Sequence, which is not supported")
    return dataset


def _pixel_keyword(dataset: Dataset, path: pathlib.Path) -> str:
    for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        if keyword in dataset:
            return keyword
    raise UserError(f"{path}: has no pixel data, damaged or truncated")


def _frame_count(dataset: Dataset) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _check_layout(dataset: Dataset, path: pathlib.Path) -> None:
    """Refuse what cannot be read right, and headers whose pixels cannot be in the file, before decoding."""
    keyword = _pixel_keyword(dataset, path)
    samples = int(dataset.get("SamplesPerPixel", 1))
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    known = (*MONOCHROME, PALETTE) if samples == 1 else COLOUR if samples == 3 else ()
    if photometric not in known:
        raise UserError(f"{path}: {samples} samples per pixel as {photometric or 'nothing'} is not supported")
    allocated, stored = int(dataset.BitsAllocated), int(dataset.get("BitsStored", dataset.BitsAllocated))
    high = int(dataset.get("HighBit", stored - 1))
    if allocated not in (1, 8, 16, 32, 64) or not 1 <= stored <= allocated or high != stored - 1:
        raise UserError(f"{path}: {stored} bits of {allocated} with high bit {high} are not supported")
    rows, columns, frames = int(dataset.Rows), int(dataset.Columns), _frame_count(dataset)
    if min(rows, columns, frames) < 1:
        raise UserError(f"{path}: its header gives {frames} frames of {rows} x {columns}")
    claimed = math.ceil(rows * columns * frames * samples * allocated / 8)
    syntax = dataset.file_meta.TransferSyntaxUID
    length = len(dataset[keyword].value or b"")
    if not syntax.is_compressed or syntax.is_deflated:
        # Chroma of 4:2:2 is stored once for two pixels.
        claimed = claimed * 2 // 3 if photometric == "YBR_FULL_422" else claimed
        images.refuse_size(path, claimed, length)
        # Some writers fill the last block with zeros.
        surplus = bytes(dataset[keyword].value[claimed:])
        if len(surplus) > max(1, columns * samples * allocated // 8) or (len(surplus) > 1 and any(surplus)):
            raise UserError(f"{path}: holds {length} bytes of pixels, its header describes {claimed}")
        return
    ratio = UNBOUNDED_RATIO if syntax.name.startswith(UNBOUNDED_CODECS) else CODEC_RATIO
    images.refuse_size(path, claimed, length * ratio)
    decoder = get_decoder(syntax)
    if not decoder.is_available:
        raise UserError(
            f"{path}: compressed as {syntax.name}; 'pip install pylibjpeg[all]', or decompress it"
        )


def _frames(dataset: Dataset, path: pathlib.Path) -> np.ndarray:
    """(frames, H, W, C) of stored values, colour as RGB."""
    _check_layout(dataset, path)
    pixels = pixel_array(dataset)
    samples = int(dataset.get("SamplesPerPixel", 1))
    if dataset.PhotometricInterpretation == PALETTE:
        pixels, samples = _colours(pixels, dataset), 3
    return pixels.reshape(_frame_count(dataset), int(dataset.Rows), int(dataset.Columns), samples)


def _colours(index: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Palette indices as RGB, of 8 bits where the palette has no more."""
    colours = apply_color_lut(index, dataset)
    if colours.dtype == np.uint16:
        for scale in (257, 256):
            if not (colours % scale).any():
                return (colours // scale).astype(np.uint8)
    return colours


def _attribute(dataset: Dataset, frame: int, macro: str, keyword: str) -> Any:
    """An attribute of one frame: from its functional groups, the shared ones, or the data set itself."""
    for groups, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups) or []
        if index < len(items):
            found = items[index].get(macro) or []
            if len(found) and found[0].get(keyword) not in (None, ""):
                return found[0].get(keyword)
    value = dataset.get(keyword)
    return None if value is None or value == "" else value


def _numbers(value: Any, count: int, keyword: str, path: pathlib.Path) -> np.ndarray | None:
    if value is None:
        return None
    numbers = np.atleast_1d(np.asarray(value, np.float64))
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise UserError(f"{path}: its {keyword} is {value}, not {count} finite numbers")
    return numbers


def _slices(dataset: Dataset, path: pathlib.Path) -> list[_Slice]:
    """Every frame of a file."""
    slices = []
    # Without groups for each frame, the one position in a multi-frame file is that of its first frame.
    placed = len(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    for frame, pixels in enumerate(_frames(dataset, path)):

        def get(macro: str, keyword: str, count: int) -> np.ndarray | None:
            return _numbers(_attribute(dataset, frame, macro, keyword), count, keyword, path)

        slope = get("PixelValueTransformationSequence", "RescaleSlope", 1)
        intercept = get("PixelValueTransformationSequence", "RescaleIntercept", 1)
        if slope is not None and slope[0] == 0:
            raise UserError(f"{path}: its RescaleSlope is 0")
        spacing = get("PixelMeasuresSequence", "PixelSpacing", 2)
        spacing = get("PixelMeasuresSequence", "ImagerPixelSpacing", 2) if spacing is None else spacing
        slices.append(
            _Slice(
                name=path.name,
                frame=frame,
                pixels=pixels,
                slope=1.0 if slope is None else float(slope[0]),
                intercept=0.0 if intercept is None else float(intercept[0]),
                position=get("PlanePositionSequence", "ImagePositionPatient", 3)
                if frame < max(placed, 1)
                else None,
                orientation=get("PlaneOrientationSequence", "ImageOrientationPatient", 6),
                spacing=None
                if spacing is None or spacing.min() <= 0
                else (float(spacing[0]), float(spacing[1])),
                distance=_length(get("PixelMeasuresSequence", "SpacingBetweenSlices", 1)),
                thickness=_length(get("PixelMeasuresSequence", "SliceThickness", 1)),
            )
        )
    return slices


def _length(numbers: np.ndarray | None) -> float | None:
    """A length in millimetres, whose sign may tell an order of slices; None where it is zero or not given."""
    return None if numbers is None or numbers[0] == 0 else abs(float(numbers[0]))


def _label(part: _Slice, path: pathlib.Path) -> str:
    return part.name if path.is_dir() else f"frame {part.frame + 1}"


def _check_alike(slices: list[_Slice], path: pathlib.Path) -> None:
    """Refuse slices that differ in size, storage, direction or pixel spacing."""
    first = slices[0]
    for part in slices[1:]:
        names = f"{path}: {_label(first, path)} and {_label(part, path)}"
        if part.pixels.shape != first.pixels.shape or part.pixels.dtype != first.pixels.dtype:
            raise UserError(
                f"{names} differ in size or storage: {first.pixels.shape[:2]} {first.pixels.dtype} and "
                f"{part.pixels.shape[:2]} {part.pixels.dtype}"
            )
        for kind in ("orientation", "spacing"):
            one, other = getattr(first, kind), getattr(part, kind)
            if (one is None) != (other is None) or (
                one is not None and not np.allclose(one, other, atol=1e-3)
            ):
                raise UserError(f"{names} differ in {kind}: {one} and {other}; keep one series in a folder")


def _ordered(slices: list[_Slice], path: pathlib.Path) -> list[_Slice]:
    """Slices along the normal of their plane; one that is missing, doubled or out of line is an error."""
    directions = slices[0].orientation
    normal = np.cross(directions[:3], directions[3:])
    slices = sorted(slices, key=lambda part: float(part.position @ normal))
    places = np.array([part.position for part in slices])
    along = places @ normal
    steps = np.diff(along)
    listed = ", ".join(f"{place:g}" for place in along)
    for index in np.flatnonzero(steps < SAME_PLACE):
        names = f"{_label(slices[index], path)} and {_label(slices[index + 1], path)}"
        raise UserError(f"{path}: doubled slice at {along[index]:g} mm ({names}); positions: {listed}")
    step = float(np.median(steps))
    for index in np.flatnonzero(np.abs(steps - step) > UNEVEN * step):
        raise UserError(
            f"{path}: slice missing or uneven between {along[index]:g} and {along[index + 1]:g} mm, "
            f"the step is {step:g} mm; positions: {listed}"
        )
    if distance := _contradicted(slices, step):
        raise UserError(
            f"{path}: slices missing, the step is {step:g} mm and SpacingBetweenSlices {distance:g} mm; add "
            f"them, or take that tag out if it is wrong; positions: {listed}"
        )
    # A tilted gantry moves slices sideways too, but all by the same step.
    line = np.linspace(places[0], places[-1], len(places))
    if np.abs(places - line).max() > UNEVEN * max(step, 1.0):
        raise UserError(f"{path}: slices do not lie on one line; positions: {np.round(places, 3).tolist()}")
    return slices


def _contradicted(slices: list[_Slice], step: float) -> float | None:
    """The distance between slices that the headers give, if a step between theirs leaves slices out."""
    distances = [part.distance for part in slices if part.distance is not None]
    if not distances or step < SKIPPING * (distance := float(np.median(distances))):
        return None
    thickness = float(np.median([part.thickness or 0.0 for part in slices]))
    # Some programs write the gap between the sides of slices, or another number beside slices that touch.
    gap = distance < (1 - UNEVEN) * thickness and abs(thickness + distance - step) <= UNEVEN * step
    touching = step <= (1 + UNEVEN) * thickness
    return None if gap or touching else distance


def _space(slices: list[_Slice], volume: bool) -> tuple[tuple[float, ...] | None, np.ndarray | None]:
    """Spacing in millimetres and the affine (depth, row, column) -> RAS+ of ordered slices."""
    first, last = slices[0], slices[-1]
    placed = first.orientation is not None and first.position is not None
    step = first.distance or first.thickness
    if placed:
        rows, columns = first.orientation[3:], first.orientation[:3]
        shift = np.cross(columns, rows) * (step or 1.0)
        if volume and len(slices) > 1 and last.position is not None:
            shift = (last.position - first.position) / (len(slices) - 1)
            step = float(abs(shift @ np.cross(columns, rows))) or step
    if first.spacing is None or (volume and step is None):
        return None, None
    spacing = (step, *first.spacing) if volume else first.spacing
    if not placed:
        return spacing, None
    affine = np.eye(4)
    affine[:3, :3] = RAS_FROM_LPS @ np.stack([shift, rows * first.spacing[0], columns * first.spacing[1]], 1)
    affine[:3, 3] = RAS_FROM_LPS @ first.position
    return spacing, affine


def _unit(dataset: Dataset) -> str:
    kind = _attribute(dataset, 0, "PixelValueTransformationSequence", "RescaleType")
    if kind not in (None, "US"):
        return str(kind)
    # Only a rescaled CT is in HU; the standard lets it leave the type out.
    if dataset.get("Modality") == "CT" and kind is None and _is_rescaled(dataset):
        return "HU"
    return str(dataset.Units) if dataset.get("Units") else "raw"


def _is_rescaled(dataset: Dataset) -> bool:
    """Whether the data set gives both a slope and an intercept."""
    macro = "PixelValueTransformationSequence"
    return None not in [_attribute(dataset, 0, macro, name) for name in ("RescaleSlope", "RescaleIntercept")]


def _limits(dataset: Dataset) -> tuple[int, int] | None:
    """Smallest and largest value that the stored bits can hold; None for floating point pixels."""
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset or "BitsStored" not in dataset:
        return None
    bits = int(dataset.BitsStored)
    signed = int(dataset.get("PixelRepresentation", 0)) == 1
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def _scaling(values: list[float]) -> Any:
    if len(set(values)) == 1:
        return values[0]
    return np.array(values).reshape(-1, 1, 1, 1)


def _assemble(slices: list[_Slice], datasets: dict[str, Dataset], path: pathlib.Path) -> MedicalImage:
    _check_alike(slices, path)
    located = all(part.position is not None and part.orientation is not None for part in slices)
    if len(slices) > 1 and located:
        slices = _ordered(slices, path)
    elif len(datasets) > 1:
        raise UserError(f"{path}: its slices give no position and orientation, so no order is known")
    first = next(iter(datasets.values()))
    volume = len(slices) > 1
    unit, photometric = _unit(first), str(first.get("PhotometricInterpretation", ""))
    stored = np.stack([part.pixels for part in slices]) if volume else slices[0].pixels
    # MONOCHROME1 shows the smallest value white. Values with a physical unit keep it, however they are shown.
    inverted = photometric == "MONOCHROME1" and unit == "raw" and _limits(first) is not None
    if inverted:
        stored = _invert(stored, first)
    slope, intercept = (
        _scaling([part.slope for part in slices]),
        _scaling([part.intercept for part in slices]),
    )
    spacing, affine = _space(slices, volume)
    dtype = stored.dtype.newbyteorder("=")
    for dataset in datasets.values():
        for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
            if keyword in dataset:
                dataset[keyword].value = b""
    return MedicalImage(
        array=images.to_natural(stored, slope, intercept),
        unit=unit,
        format="dicom",
        stored_dtype=dtype,
        slope=slope,
        intercept=intercept,
        spacing=spacing,
        affine=affine,
        geometry=DicomGeometry(
            datasets,
            tuple((part.name, part.frame) for part in slices),
            volume,
            inverted,
            path.is_dir(),
            dtype,
            unit,
        ),
        path=path,
    )


def _invert(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    low, high = _limits(dataset)
    return (low + high - stored.astype(np.int64)).astype(stored.dtype)


def read(path: pathlib.Path) -> MedicalImage:
    """One DICOM file as (H, W, C), or (D, H, W, C) where it has frames; a folder of a series as (D, H, W, C).

    Slices are sorted along the normal of their plane. Slope and intercept are applied, so CT that has them is
    in HU.
    MONOCHROME1 without a physical unit is inverted, so that larger is brighter; colour comes as RGB.
    """
    with images.reading(path, "DICOM"):
        files = series_files(path) if path.is_dir() else [path]
    datasets, slices, series = {}, [], {}
    for file in files:
        with images.reading(file, "DICOM"):
            dataset = _load(file)
            series.setdefault(str(dataset.get("SeriesInstanceUID", "")), file.name)
            slices += _slices(dataset, file)
            datasets[file.name] = dataset
    if len(series) > 1:
        names = ", ".join(sorted(series.values())[:2])
        raise UserError(
            f"{path}: holds {len(series)} DICOM series (see {names}); keep one series in a folder"
        )
    if len(files) > 1 and any(_frame_count(dataset) > 1 for dataset in datasets.values()):
        raise UserError(f"{path}: mixes multi-frame files with others; give each multi-frame file by itself")
    with images.reading(path, "DICOM"):
        return _assemble(slices, datasets, path)


def series_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The DICOM files directly inside a folder, by name; files named .dcm count even if damaged."""
    files = [
        file
        for file in sorted(folder.iterdir())
        if not file.name.startswith(".")
        and file.name.upper() != "DICOMDIR"
        and (file.suffix.lower() in (".dcm", ".ima") or (file.is_file() and is_dicom(file)))
    ]
    if not files:
        raise UserError(f"{folder}: holds no DICOM files")
    return files


def _set_layout(dataset: Dataset, stored: np.ndarray, image: MedicalImage) -> None:
    """Make the header describe `stored` (frames, H, W, C)."""
    channels, relabelled = stored.shape[-1], image.stored_dtype != image.geometry.dtype
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if channels == 1 and (relabelled or photometric not in MONOCHROME):
        dataset.PhotometricInterpretation = "MONOCHROME2"
    if channels == 3:
        dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    elif "PlanarConfiguration" in dataset:
        del dataset.PlanarConfiguration
    if (relabelled or photometric == PALETTE) and stored.dtype.kind in "iu":
        bits = stored.dtype.itemsize * 8
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
        dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    for element in [element for element in dataset if "PaletteColor" in element.keyword]:
        del dataset[element.tag]
    dataset.SamplesPerPixel = channels
    for keyword, value in (
        ("SmallestImagePixelValue", stored.min()),
        ("LargestImagePixelValue", stored.max()),
    ):
        if keyword in dataset:
            dataset[keyword].VR = "SS" if stored.dtype.kind == "i" else "US"
            dataset[keyword].value = int(value)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
            if keyword in dataset:
                delattr(dataset, keyword)


def _drop_scaling(dataset: Dataset) -> None:
    """Slope one and intercept zero of no given unit, wherever the data set says something else."""
    scaled = [dataset] if "RescaleSlope" in dataset or "RescaleIntercept" in dataset else []
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for item in dataset.get(groups) or []:
            scaled += list(item.get("PixelValueTransformationSequence") or [])
    # A rescaled CT without a type is taken to be in HU, so the type is always said.
    for place in scaled or [dataset]:
        place.RescaleSlope, place.RescaleIntercept, place.RescaleType = 1, 0, "US"


def _set_pixels(dataset: Dataset, stored: np.ndarray) -> None:
    """Pixels in the byte order of the data set's transfer syntax, padded to an even length."""
    for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        if keyword in dataset:
            del dataset[keyword]
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    if stored.dtype.kind == "f":
        content = np.ascontiguousarray(stored, stored.dtype.newbyteorder(order)).tobytes()
        setattr(dataset, "FloatPixelData" if stored.dtype.itemsize == 4 else "DoubleFloatPixelData", content)
        return
    if int(dataset.BitsAllocated) == 1:
        content = np.packbits(stored.ravel() > 0, bitorder="little").tobytes()
    else:
        content = np.ascontiguousarray(stored, stored.dtype.newbyteorder(order)).tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if int(dataset.BitsAllocated) <= 8 else "OW"
    dataset["PixelData"].is_undefined_length = False


def _derived(dataset: Dataset, stored: np.ndarray, image: MedicalImage, series: str) -> Dataset:
    """A copy of the data set as a new instance that names its source."""
    result = copy.deepcopy(dataset)
    result.file_meta = copy.deepcopy(dataset.file_meta)
    # Elements still raw cannot be written under another transfer syntax.
    for _ in result.iterall():
        pass
    _set_layout(result, stored, image)
    _set_pixels(result, stored)
    if image.unit != image.geometry.unit:
        _drop_scaling(result)
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = (
        dataset.SOPClassUID,
        dataset.SOPInstanceUID,
    )
    result.SourceImageSequence = [source]
    result.ImageType = ["DERIVED", "SECONDARY", *list(dataset.get("ImageType") or [])[2:]]
    result.SOPInstanceUID, result.SeriesInstanceUID = generate_uid(), series
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    return result


def write(path: pathlib.Path, image: MedicalImage, values: np.ndarray) -> None:
    """A new series with the geometry, scaling and bits that came in: a file or a folder."""
    geometry: DicomGeometry = image.geometry
    if values.shape[-1] not in (1, 3) or (
        values.shape[-1] > image.channels and image.stored_dtype != np.uint8
    ):
        raise UserError(
            f"{path}: DICOM takes 1 channel, or 3 of 8 bits, not {values.shape[-1]} of {image.stored_dtype}"
        )
    if geometry.folder and path.is_file():
        raise UserError(f"{path}: is a file, but a DICOM series is written as a folder; give another name")
    first = next(iter(geometry.datasets.values()))
    same_dtype = image.stored_dtype == geometry.dtype
    limits = _limits(first) if same_dtype and image.stored_dtype.kind in "iu" else None
    stored = images.to_stored(values, image.stored_dtype, image.slope, image.intercept, limits)
    inverted = geometry.inverted and same_dtype and stored.shape[-1] == 1
    stored = _invert(stored, first) if inverted else stored
    stored = stored if geometry.volume else stored[None]
    series = generate_uid()
    for name, dataset in geometry.datasets.items():
        own = [index for index, (file, _) in enumerate(geometry.places) if file == name]
        frames = stored[sorted(own, key=lambda index: geometry.places[index][1])]
        target = path / name if geometry.folder else path
        try:
            result = _derived(dataset, frames, image, series)
            with images.replacing(target) as file:
                pydicom.dcmwrite(file, result, enforce_file_format=True)
        except (UserError, MemoryError):
            raise
        except Exception as error:
            raise UserError(
                f"{target}: cannot be written, DICOM forbids an element of {name} ({images.one_line(error)})"
            ) from error
