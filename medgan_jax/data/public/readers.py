"""Readers of the files of public data sets: common formats through `formats`, and those of one set alone."""

import csv
import functools
import gzip
import io
import json
import pathlib
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from xml.etree import ElementTree

import nibabel
import numpy as np
import pydicom
from PIL import Image

from medgan_jax.data import formats
from medgan_jax.data.formats import image as images
from medgan_jax.data.public.layout import Case, Reading
from medgan_jax.errors import UserError

Paths = Sequence[pathlib.Path]

JSRT_SIDE = 2048
_LARGEST_PICTURE = 3 * images.MAXIMUM_PIXELS + 2**10
_LPS = np.diag([-1.0, -1.0, 1.0])


def _one(paths: Paths) -> pathlib.Path:
    if len(paths) > 1:
        raise UserError(f"{paths[0]} and {paths[1]} are the same file of one case: keep one")
    return paths[0]


def _reading(image: formats.MedicalImage) -> Reading:
    return Reading(image.array, image.spacing, image.affine)


def image(paths: Paths, case: Case) -> Reading:
    """One image or volume of any format that `formats` reads."""
    return _reading(formats.read_image(_one(paths)))


def label(paths: Paths, case: Case) -> Reading:
    """One label map, with a palette read as its indices."""
    return _reading(formats.read_image(_one(paths), indexed=True))


def mask(paths: Paths, case: Case) -> Reading:
    """One picture of a mask as zeros and ones; what is not black is inside."""
    read = formats.read_image(_one(paths))
    return Reading((read.array != 0).any(-1, keepdims=True).astype(np.uint8), read.spacing, read.affine)


def series(paths: Paths, case: Case) -> Reading:
    """A DICOM series, which is all of one folder."""
    folders = sorted({path.parent for path in paths})
    if len(folders) > 1:
        raise UserError(f"{folders[0]} and {folders[1]} are both the series of '{case.id}': keep one")
    read = formats.read_image(folders[0])
    if read.array.ndim != 4:
        raise UserError(f"{folders[0]}: holds a single slice, not a volume; it is half fetched")
    return _reading(read)


def picture(paths: Paths, case: Case) -> Reading:
    """GIF, BMP, PPM or PGM, also compressed (.gz), as (H, W, C) of 8 bits."""
    return Reading(_picture(_one(paths)))


def picture_mask(paths: Paths, case: Case) -> Reading:
    """The mask in such a picture as zeros and ones."""
    return Reading((_picture(_one(paths)) != 0).any(-1, keepdims=True).astype(np.uint8))


def _picture(path: pathlib.Path) -> np.ndarray:
    with images.reading(path, "a picture"):
        content = path.read_bytes()
        if path.suffix.lower() == ".gz":
            content = _unpacked(path, content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(content), formats=["GIF", "BMP", "PPM"])
        images.refuse_pixels(path, opened.height, opened.width)
        grey = opened.mode in ("1", "L") or (opened.mode == "P" and _is_grey(opened))
        array = np.asarray(opened.convert("L" if grey else "RGB"))
    return array[..., None] if array.ndim == 2 else array


def _unpacked(path: pathlib.Path, content: bytes) -> bytes:
    """What a .gz file holds, read piece by piece: asked for the most at once, Python sets so much aside."""
    stream, pieces, size = gzip.GzipFile(fileobj=io.BytesIO(content)), [], 0
    while piece := stream.read(2**20):
        pieces.append(piece)
        size += len(piece)
        images.refuse_size(path, size, _LARGEST_PICTURE)
    return b"".join(pieces)


def _is_grey(opened: Image.Image) -> bool:
    colours = np.array(opened.getpalette("RGB")).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def analyze(paths: Paths, case: Case) -> Reading:
    """An Analyze pair, named by its .img file (also .img.gz), as (D, H, W, C)."""
    path = _one(paths)
    with images.reading(path, "Analyze"):
        base = path.name.lower().removesuffix(".gz").removesuffix(".img")
        header = next(
            (p for p in sorted(path.parent.iterdir()) if p.name.lower() in (f"{base}.hdr", f"{base}.hdr.gz")),
            None,
        )
        if header is None:
            raise UserError(f"{path}: its header {path.name[: len(base)]}.hdr is missing beside it")
        opened = nibabel.AnalyzeImage if _is_analyze(header) else nibabel.Nifti1Pair
        pair = opened.from_file_map(
            {"image": nibabel.FileHolder(str(path)), "header": nibabel.FileHolder(str(header))}
        )
        size = int(np.prod(pair.shape)) * pair.get_data_dtype().itemsize
        stored = path.stat().st_size * (images.DEFLATE_RATIO if path.suffix.lower() == ".gz" else 1)
        images.refuse_size(path, size, stored)
        voxels = np.asarray(pair.dataobj)
    if voxels.ndim not in (3, 4):
        raise UserError(f"{path}: has {voxels.ndim} axes, not those of a volume")
    voxels = voxels[..., None] if voxels.ndim == 3 else voxels
    affine = pair.affine[:, [2, 1, 0, 3]]
    spacing = tuple(float(step) for step in np.linalg.norm(affine[:3, :3], axis=0))
    return Reading(np.ascontiguousarray(voxels.transpose(2, 1, 0, 3)), spacing, affine)


def _is_analyze(header: pathlib.Path) -> bool:
    with (gzip.open if header.suffix.lower() == ".gz" else open)(header, "rb") as file:
        return file.read(348)[344:347] != b"ni1"


def volume(paths: Paths, case: Case) -> Reading:
    """A NIfTI file or an Analyze pair, with a last axis of one left out."""
    name = _one(paths).name.lower()
    return analyze(paths, case) if name.endswith((".img", ".img.gz")) else image(paths, case)


def joined_masks(paths: Paths, case: Case) -> Reading:
    """One picture for each object as a label map: 0, then 1, 2, ... in the order of names.

    Where two overlap, the first keeps the pixels.
    """
    labels = None
    for number, path in enumerate(sorted(paths), start=1):
        inside = formats.read_image(path).array[..., :1] != 0
        labels = np.zeros(inside.shape, np.uint16) if labels is None else labels
        if inside.shape != labels.shape:
            raise UserError(
                f"{path} is {inside.shape[:2]}, other masks of '{case.id}' are {labels.shape[:2]}"
            )
        labels[inside & (labels == 0)] = number
    return Reading(labels)


def run_lengths(paths: Paths, case: Case, *, id: str, runs: str, height: str, width: str) -> Reading:
    """Objects that a table gives as runs (start, length) down the columns, counted from 1, as a label map."""
    rows = [row for row in _table(_one(paths)) if row.get(id) == case.id]
    if not rows:
        raise UserError(f"{paths[0]} has no row for '{case.id}'")
    with images.reading(paths[0], "a table of runs"):
        shape = int(rows[0][height]), int(rows[0][width])
        images.refuse_pixels(paths[0], *shape)
        labels = np.zeros(shape[0] * shape[1], np.uint16)
        for number, row in enumerate(rows, start=1):
            numbers = np.array(row[runs].split(), np.int64).reshape(-1, 2)
            for start, length in numbers:
                if not 1 <= start <= start + length - 1 <= labels.size:
                    raise UserError(f"{paths[0]}: a run of '{case.id}' leaves its image")
                part = labels[start - 1 : start - 1 + length]
                part[part == 0] = number
    return Reading(labels.reshape(shape[::-1]).T[..., None])


@functools.lru_cache(maxsize=16)
def _rows(path: pathlib.Path, changed: int) -> list[dict[str, str]]:
    with images.reading(path, "a table"), path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        return [{(k or "").strip(): (v or "").strip() for k, v in row.items() if k} for row in reader]


def _table(path: pathlib.Path) -> list[dict[str, str]]:
    return _rows(path, path.stat().st_mtime_ns)


def _row(path: pathlib.Path, id: str, value: str) -> dict[str, str]:
    for row in _table(path):
        if id not in row:
            raise UserError(f"{path} has no column '{id}'; its columns are {', '.join(row)}")
        if row[id].casefold() == value.casefold():
            return row
    raise UserError(f"{path} has no row for '{value}' in its column '{id}'")


def column(paths: Paths, case: Case, *, id: str, value: str) -> Reading:
    """What a table says in one column of the case with this id, as text."""
    row = _row(_one(paths), id, case.id)
    if value not in row:
        raise UserError(f"{paths[0]} has no column '{value}'; its columns are {', '.join(row)}")
    return Reading(row[value])


def one_hot(paths: Paths, case: Case, *, id: str, classes: tuple[str, ...]) -> Reading:
    """The class whose column is one; the last of `classes` where it has no column and all others are zero."""
    row = _row(_one(paths), id, case.id)
    with images.reading(paths[0], "a table of classes"):
        on = [name for name in classes if name in row and float(row[name]) == 1]
    if not on and classes[-1] not in row:
        on = [classes[-1]]
    if len(on) != 1:
        raise UserError(f"{paths[0]}: '{case.id}' has {len(on)} classes, not one")
    return Reading(classes.index(on[0]))


def subjects_from_table(
    root: pathlib.Path, cases: Sequence[Case], *, file: str, id: str, subject: str
) -> Mapping[str, str]:
    """The subjects that the table `file`, anywhere below `root`, gives in the column `subject`."""
    found = sorted(path for path in root.rglob(file) if not path.name.startswith("."))
    if not found:
        raise UserError(f"1 file is missing in {root}: {file}, which says whose each image is")
    rows = {row.get(id, ""): row.get(subject, "") for row in _table(found[0])}
    lacking = [case.id for case in cases if not rows.get(case.id)]
    if lacking:
        raise UserError(f"{found[0]} has no '{subject}' of {len(lacking)} images, such as '{lacking[0]}'")
    return {case.id: rows[case.id] for case in cases}


def key(paths: Paths, case: Case, *, name: str, classes: tuple[str, ...]) -> Reading:
    """The class that a named part of the path tells, in any case of letters."""
    words = [word.casefold() for word in classes]
    found = case.keys[name].casefold()
    if found not in words:
        raise UserError(f"{paths[0]}: '{case.keys[name]}' is none of {', '.join(classes)}")
    return Reading(words.index(found))


def channels(paths: Paths, case: Case, *, of: tuple[str, ...], read: Callable, repeat: int = 1) -> Reading:
    """Masks in folders or files named by `of`, as channels in that order, each pixel `repeat` times."""
    planes = []
    for name in of:
        fitting = [p for p in paths if name in (p.parent.name.casefold(), p.stem.casefold())]
        if not fitting:
            raise UserError(f"'{case.id}' has no mask '{name}': {paths[0].parent.parent} should hold it")
        planes.append(read(fitting, case).value)
    if len({plane.shape for plane in planes}) > 1:
        raise UserError(f"the masks of '{case.id}' differ in size: {[p.shape[:2] for p in planes]}")
    joined = np.concatenate(planes, axis=-1)
    return Reading(joined.repeat(repeat, 0).repeat(repeat, 1))


def jsrt(paths: Paths, case: Case) -> Reading:
    """A radiograph of JSRT: 2048 x 2048, 12 bits, big-endian, turned to be large where bright."""
    path = _one(paths)
    with images.reading(path, "a JSRT image"):
        content = path.read_bytes()
    wanted = JSRT_SIDE * JSRT_SIDE * 2
    if len(content) != wanted:
        raise UserError(f"{path}: holds {len(content)} bytes, a JSRT image {wanted}; damaged or truncated")
    stored = np.frombuffer(content, ">u2").astype(np.uint16).reshape(JSRT_SIDE, JSRT_SIDE, 1)
    if stored.max() > 4095:
        raise UserError(f"{path}: has values up to {stored.max()}, a JSRT image up to 4095; damaged")
    return Reading(4095 - stored, (0.175, 0.175))


def information(paths: Paths, case: Case, *, name: str) -> Reading:
    """One entry of a text file with lines `name: value`."""
    path = _one(paths)
    with images.reading(path, "a list of entries"):
        entries = dict(line.split(":", 1) for line in path.read_text("utf-8").splitlines() if ":" in line)
    if name not in entries:
        raise UserError(f"{path}: has no entry '{name}'")
    return Reading(entries[name].strip())


def points(paths: Paths, case: Case) -> Reading:
    """Rows of two or more numbers, separated by commas, as (row, column) from (column, row)."""
    path = _one(paths)
    with images.reading(path, "a table of points"):
        rows = [line.split(",")[:2] for line in path.read_text("utf-8").splitlines() if line.strip()]
        found = np.array(rows, np.float32).reshape(-1, 2)
    return Reading(found[:, ::-1])


def landmarks(paths: Paths, case: Case) -> Reading:
    """Vertebrae of an .lml file, `(K, 4)`: label, then x, y, z in millimetres as the file gives them."""
    path = _one(paths)
    rows = []
    with images.reading(path, "landmarks"):
        for line in path.read_text("utf-8").splitlines():
            words = line.split()
            if len(words) == 5 and words[0].isdecimal():
                rows.append([float(word) for word in (words[0], *words[2:])])
    return Reading(np.array(rows, np.float32).reshape(-1, 4))


def centroids(paths: Paths, case: Case) -> Reading:
    """Vertebrae of a VerSe .json file, `(K, 4)`: label, then depth, row, column in voxels of the CT's array.

    The file gives voxels along the axes of its 'direction', such as P, I, R, which need not be the CT's.
    """
    path, scan = _one(paths), case.files["image"][0]
    with images.reading(path, "centroids"):
        entries = json.loads(path.read_text("utf-8"))
        direction = next(entry["direction"] for entry in entries if "direction" in entry)
        rows = [entry for entry in entries if "label" in entry]
        header = nibabel.load(scan)
        stored = nibabel.io_orientation(header.affine)
        turn = nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt(direction), stored)
        back = nibabel.orientations.ornt_transform(stored, nibabel.orientations.axcodes2ornt(direction))
        sizes = nibabel.orientations.apply_orientation(np.empty(header.shape[:3], np.bool_), back).shape
        matrix = nibabel.orientations.inv_ornt_aff(turn, sizes)
        places = np.array([[row["X"], row["Y"], row["Z"]] for row in rows], np.float64).reshape(-1, 3)
        voxels = nibabel.affines.apply_affine(np.linalg.inv(matrix), places)
        labels = np.array([row["label"] for row in rows], np.float64)
    return Reading(np.column_stack([labels, voxels[:, ::-1]]).astype(np.float32))


def findings(paths: Paths, case: Case) -> Reading:
    """Findings of ProstateX, `(K, 4)`: 1 if clinically significant, else 0, then x, y, z in mm, RAS+."""
    rows = [row for row in _table(_one(paths)) if row.get("ProxID") == case.subject]
    with images.reading(paths[0], "a table of findings"):
        places = [[float(word) for word in row["pos"].split()] for row in rows]
        significant = [row["ClinSig"].casefold() == "true" for row in rows]
        places = np.array(places, np.float64).reshape(-1, 3) @ _LPS
    return Reading(np.column_stack([significant, places]).astype(np.float32).reshape(-1, 4))


def is_modality(case: Case, *, modality: str) -> bool:
    """Whether the first file of the image is DICOM of this modality; other series stand beside them."""
    path = case.files["image"][0]
    with images.reading(path, "DICOM"):
        return (
            str(pydicom.dcmread(path, specific_tags=["Modality"], stop_before_pixels=True).Modality)
            == modality
        )


def nodules(paths: Paths, case: Case) -> Reading:
    """How many of four readers drew a nodule of 3 mm or more round each voxel of a LIDC-IDRI scan.

    A reader's outline is the first ring of pixels outside; what is drawn as an exclusion is a hole.
    """
    from skimage.draw import polygon

    scan = formats.read_image(case.files["image"][0].parent)
    places = {}
    for index, (name, _) in enumerate(scan.geometry.places):
        places[str(scan.geometry.datasets[name].SOPInstanceUID)] = index
    votes = np.zeros((*scan.spatial_shape, 1), np.uint8)
    path = _one(paths)
    with images.reading(path, "LIDC-IDRI annotations"):
        for session in _children(ElementTree.parse(path).getroot(), "readingSession"):
            drawn = np.zeros(scan.spatial_shape, bool)
            for region in _children(session, "roi"):
                edge = [
                    [int(_text(point, name)) for name in ("yCoord", "xCoord")]
                    for point in _children(region, "edgeMap")
                ]
                if len(edge) < 3:
                    continue
                place = places.get(_text(region, "imageSOP_UID"))
                if place is None:
                    raise UserError(
                        f"{path}: draws on the slice {_text(region, 'imageSOP_UID')}, not in the scan"
                    )
                rows, columns = np.array(edge).T
                inside = np.zeros(scan.spatial_shape[1:], bool)
                inside[polygon(rows, columns, inside.shape)] = True
                inside[rows, columns] = False
                drawn[place] = (
                    drawn[place] | inside if _text(region, "inclusion") != "FALSE" else drawn[place] & ~inside
                )
            votes[drawn] += 1
    return Reading(votes, scan.spacing, scan.affine)


def _children(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """Elements below of this name, in whatever namespace."""
    return [child for child in element.iter() if child.tag.rsplit("}", 1)[-1] == name]


def _text(element: ElementTree.Element, name: str) -> str:
    found = _children(element, name)
    return (found[0].text or "").strip() if found else ""


def hdf5(paths: Paths, case: Case, *, name: str) -> Reading:
    """One data set of an HDF5 file as (slices, H, W, C).

    Complex numbers are two channels; coils `(slices, coils, H, W)` become channels, real and imaginary in
    turn.
    """
    import h5py

    path = _one(paths)
    with images.reading(path, "HDF5"), h5py.File(path, "r") as file:
        if name not in file:
            raise UserError(f"{path}: has no '{name}'; it has {', '.join(file)}")
        stored = file[name]
        images.refuse_size(path, int(np.prod(stored.shape)) * stored.dtype.itemsize, images.MAXIMUM_BYTES)
        values = stored[()]
    if values.ndim not in (3, 4):
        raise UserError(f"{path}: '{name}' has the shape {values.shape}, not (slices[, coils], H, W)")
    values = values[:, None] if values.ndim == 3 else values
    values = np.moveaxis(values, 1, -1)
    if values.dtype.kind == "c":
        values = np.stack([values.real, values.imag], -1).reshape(*values.shape[:3], -1)
    return Reading(np.ascontiguousarray(values))


def hdf5_subjects(root: pathlib.Path, cases: Sequence[Case]) -> Mapping[str, str]:
    """The attribute 'patient_id' of each case's file."""
    import h5py

    subjects = {}
    for case in cases:
        path = next(iter(case.files.values()))[0]
        with images.reading(path, "HDF5"), h5py.File(path, "r") as file:
            subjects[case.id] = str(file.attrs.get("patient_id", case.id))
    return subjects


def decathlon_cases(root: pathlib.Path, *, task: str, prefix: str) -> list[dict[str, str]]:
    """The training cases that the task's dataset.json lists; none where it is missing, which is said then."""
    found = sorted(root.rglob(f"{task}/dataset.json")) or sorted(root.glob("dataset.json"))
    if not found:
        return []
    with images.reading(found[0], "a list of cases"):
        listed = [entry["image"] for entry in json.loads(found[0].read_text("utf-8"))["training"]]
        pattern = re.compile(rf"{prefix}_(\w+)\.nii")
        return [{"id": pattern.search(name)[1]} for name in listed]


def word(paths: Paths, case: Case, *, name: str) -> Reading:
    """A named part of the path, as text."""
    return Reading(case.keys[name])


def has_row(case: Case, *, field: str, id: str) -> bool:
    """Whether the table of `field` has a row for the case's subject."""
    return any(row.get(id) == case.subject for row in _table(case.files[field][0]))


def adni_group(paths: Paths, case: Case) -> Reading:
    """The group of the image in the table of an ADNI collection."""
    image = case.keys["image"].lstrip("Ii")
    for row in _table(_one(paths)):
        if row.get("Image Data ID", "").lstrip("Ii") == image:
            return Reading(row.get("Group", ""))
    raise UserError(f"{paths[0]} has no row for the image 'I{image}'")
