"""Damaged files are read, or refused in one line that names them: no other error, no hang, bounded memory."""

import gzip
import io
import pathlib
import tempfile
import time
import tracemalloc

import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

from medgan_jax.data import formats
from medgan_jax.errors import UserError

PIXELS = np.random.default_rng(3).integers(0, 256, (19, 14)).astype(np.uint8)
MEMORY = 64 * 2**20
SECONDS = 5.0


def _saved(save) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def _nifti() -> bytes:
    picture = nibabel.Nifti1Image(np.stack([PIXELS] * 3, -1).astype(np.int16), np.diag([1.0, 2.0, 3.0, 1.0]))
    picture.header.set_slope_inter(2.0, -1024.0)
    return picture.to_bytes()


def _dicom(compress: str | None) -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid(
        entropy_srcs=["fuzz"]
    )
    dataset.Modality, dataset.RescaleSlope, dataset.RescaleIntercept = "CT", 1, -1024
    dataset.PixelSpacing, dataset.ImagePositionPatient = [1, 1], [0, 0, 0]
    dataset.Rows, dataset.Columns = PIXELS.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = (
        1,
        "MONOCHROME2",
        0,
    )
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = PIXELS.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    if compress:
        dataset.compress(compress, generate_instance_uid=False)
    return _saved(lambda stream: pydicom.dcmwrite(stream, dataset, enforce_file_format=True))


FILES = {
    "a.nii": _nifti(),
    "a.nii.gz": gzip.compress(_nifti(), mtime=0),
    "plain.dcm": _dicom(None),
    "runs.dcm": _dicom(RLELossless),
    "a.png": _saved(lambda stream: Image.fromarray(PIXELS).save(stream, "PNG")),
    "a.jpg": _saved(lambda stream: Image.fromarray(PIXELS).save(stream, "JPEG")),
    "plain.tif": _saved(lambda stream: tifffile.imwrite(stream, np.stack([PIXELS] * 3).astype(np.uint16))),
    "packed.tif": _saved(lambda stream: tifffile.imwrite(stream, np.stack([PIXELS] * 3), compression="zlib")),
    "a.npz": _saved(lambda stream: np.savez_compressed(stream, image=PIXELS)),
    "a.npy": _saved(lambda stream: np.save(stream, PIXELS)),
}

# Headers come first in most formats, and that is where a byte does harm.
POSITIONS = st.one_of(st.floats(0, 1, exclude_max=True), st.floats(0, 0.2))
FLIPS = st.lists(st.tuples(POSITIONS, st.one_of(st.integers(0, 255), st.just(255))), max_size=4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(flips=FLIPS, kept=st.one_of(st.just(1.0), st.floats(0, 1)))
def test_a_damaged_file_is_read_or_refused_in_one_line(name, flips, kept):
    content = bytearray(FILES[name])
    for position, value in flips:
        content[int(position * len(content))] = value
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / name
        path.write_bytes(bytes(content[: round(kept * len(content))]))
        started = time.perf_counter()
        tracemalloc.start()
        try:
            image = formats.read_image(path)
            assert image.array.ndim in (3, 4) and np.isfinite(image.array).all()
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < MEMORY
        assert time.perf_counter() - started < SECONDS
