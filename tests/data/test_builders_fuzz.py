"""Damaged files of public sets are read, or refused in one line that names them."""

import gzip
import io
import json
import pathlib
import tempfile
import time
import tracemalloc
from functools import partial

import h5py
import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from medgan_jax.data.public import readers
from medgan_jax.data.public.layout import Case
from medgan_jax.errors import UserError

PIXELS = np.random.default_rng(3).integers(0, 256, (19, 14)).astype(np.uint8)
MEMORY, SECONDS = 64 * 2**20, 5.0


def picture(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, kind)
    return stream.getvalue()


def hdf5() -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["kspace"] = np.zeros((3, 5, 4), np.complex64)
    return stream.getvalue()


VOLUME = nibabel.AnalyzeImage(np.stack([PIXELS] * 3).astype(np.int16), np.eye(4))
SCAN = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4)).to_bytes()
_MAP = {name: nibabel.FileHolder(fileobj=io.BytesIO()) for name in ("header", "image")}
VOLUME.to_file_map(_MAP)
HEADER, VOXELS = (_MAP[name].fileobj.getvalue() for name in ("header", "image"))
CENTROIDS = json.dumps([{"direction": ["P", "I", "R"]}, {"label": 20, "X": 1.0, "Y": 2.0, "Z": 3.0}]).encode()
TABLE = b"ImageId,EncodedPixels,Height,Width\ncase,1 2 10 3,9,10\ncase,21 1,9,10\n"
RUNS = partial(readers.run_lengths, id="ImageId", runs="EncodedPixels", height="Height", width="Width")

# Name of the file that is damaged: its content, the files beside it, the file that is read, and the reader.
FILES = {
    "mask.gif": (picture("GIF"), {}, "mask.gif", readers.picture),
    "image.bmp": (picture("BMP"), {}, "image.bmp", readers.picture),
    "image.ppm": (picture("PPM"), {}, "image.ppm", readers.picture),
    "image.ppm.gz": (gzip.compress(picture("PPM"), mtime=0), {}, "image.ppm.gz", readers.picture),
    "brain.hdr": (HEADER, {"brain.img": VOXELS}, "brain.img", readers.analyze),
    "brain.img": (VOXELS, {"brain.hdr": HEADER}, "brain.img", readers.analyze),
    "file.h5": (hdf5(), {}, "file.h5", partial(readers.hdf5, name="kspace")),
    "points.json": (CENTROIDS, {"scan.nii": SCAN}, "points.json", readers.centroids),
    "spine.lml": (b"header\n8\tT1_center\t10.5\t20\t-30\n", {}, "spine.lml", readers.landmarks),
    "Info.cfg": (b"ED: 1\nGroup: DCM\n", {}, "Info.cfg", partial(readers.information, name="Group")),
    "runs.csv": (TABLE, {}, "runs.csv", RUNS),
    "cells.csv": (b"12,30\n4,5\n", {}, "cells.csv", readers.points),
}
POSITIONS = st.one_of(st.floats(0, 1, exclude_max=True), st.floats(0, 0.2))
FLIPS = st.lists(st.tuples(POSITIONS, st.one_of(st.integers(0, 255), st.just(255))), max_size=4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
@settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(flips=FLIPS, kept=st.one_of(st.just(1.0), st.floats(0, 1)))
def test_a_damaged_file_is_read_or_refused_in_one_line(name, flips, kept):
    content, beside, read, reader = FILES[name]
    content = bytearray(content)
    for position, value in flips:
        content[int(position * len(content))] = value
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for other, bytes_beside in beside.items():
            (folder / other).write_bytes(bytes_beside)
        (folder / name).write_bytes(bytes(content[: round(kept * len(content))]))
        paths = (folder / read,)
        case = Case("case", "case", None, {"image": (folder / "scan.nii",)}, {}, 0)
        started = time.perf_counter()
        tracemalloc.start()
        try:
            reader(paths, case)
        except UserError as error:
            assert str(folder) in str(error) and "\n" not in str(error)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < MEMORY
        assert time.perf_counter() - started < SECONDS
