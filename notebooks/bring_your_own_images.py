# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Bring your own NIfTI and DICOM
#
# From files as a hospital's archive gives them to a trained network and back: the same format, geometry and
# units. The "hospital" is a phantom here, so that the notebook runs anywhere; point `ARCHIVE` at your own
# files instead.

# %%
import pathlib

import jax
import matplotlib.pyplot as plt
import nibabel
import numpy as np

from medgan_jax import cli
from medgan_jax.data.formats import read_image, write_image
from medgan_jax.data.sources import open_folder
from medgan_jax.errors import UserError
from medgan_jax.phantoms.head import head_slice

ARCHIVE = pathlib.Path("archive")
SIDE = 32

# %% [markdown]
# ## 1. Files
#
# Sixteen patients, two slices each, as NIfTI with 16-bit integers, a slope and an oblique affine, and named so that
# the reader knows which slices belong together: no patient will be in two parts of the split.

# %%
subjects, slices = 16, 2
draw = jax.jit(jax.vmap(lambda key: head_slice(key, SIDE)["image"]))
images = np.asarray(draw(jax.random.split(jax.random.key(0), subjects * slices)))
affine = np.array([[0.0, 6.1, 0.4, -90], [6.2, 0.0, 0.0, -110], [0.0, -0.4, 5.0, 20], [0, 0, 0, 1]])
(ARCHIVE / "images").mkdir(parents=True, exist_ok=True)
for number, image in enumerate(images):
    raw = np.round(image[..., 0].T / image.max() * 3000).astype(np.int16)
    nifti = nibabel.Nifti1Image(raw, affine)
    nifti.header.set_slope_inter(0.5, 0)
    nifti.to_filename(ARCHIVE / "images" / f"p{number // slices:02d}_slice{number % slices}.nii.gz")
print(len(list((ARCHIVE / "images").iterdir())), "files")

# %% [markdown]
# ## 2. What is read
#
# `read_image` gives natural units (raw value times slope plus intercept) and keeps the geometry. `data list FOLDER`
# tells how a folder is understood and which experiments can take it.

# %%
path = ARCHIVE / "images" / "p00_slice0.nii.gz"
image = read_image(path)
print("array", image.array.shape, image.array.dtype, "range", image.array.min(), image.array.max())
print("spacing", image.spacing)
status = cli.main(["data", "list", str(ARCHIVE)])

# %%
parts = {split: open_folder(ARCHIVE, split=split) for split in ("train", "validation", "test")}
patients = {split: set(source.subjects) for split, source in parts.items()}
for split, source in parts.items():
    print(f"{split:10s} {len(source):2d} slices of {len(patients[split])} patients")
print("shared by two parts:", len(patients["train"] & patients["test"] | patients["train"] & patients["validation"]))

# %% [markdown]
# ## 3. Broken files are named before training starts

# %%
broken = pathlib.Path("broken") / "images"
broken.mkdir(parents=True, exist_ok=True)
for number in range(5):
    whole = path.read_bytes()
    (broken / f"p{number:02d}.nii.gz").write_bytes(whole if number else whole[:200])
try:
    open_folder(broken.parent, split="train")
except UserError as error:
    print(error)

# %% [markdown]
# ## 4. Train and predict
#
# DAGAN reconstructs undersampled magnitudes. `tiny` runs in seconds and learns nothing; `small` takes minutes. The
# command line does the same: `python -m medgan_jax train dagan --workdir runs/mine --data.source archive`.

# %%
common = ["--workdir", "runs/mine"]
training = ["--preset", "tiny", "--config.size", str(SIDE), "--data.source", str(ARCHIVE), "--no-progress"]
assert cli.main(["train", "dagan", *common, *training]) == 0
assert cli.main(["predict", "dagan", *common, "--input", str(path), "--output", "results"]) == 0

# %%
result = read_image(pathlib.Path("results") / path.name)
stored, written = nibabel.load(path), nibabel.load(pathlib.Path("results") / path.name)
print("same affine:", np.allclose(stored.affine, written.affine))
print("same shape:", stored.shape == written.shape)
print("units: input up to", image.array.max(), ", output up to", round(float(result.array.max())))

figure, axes = plt.subplots(1, 2, figsize=(6, 3))
for ax, (title, picture) in zip(axes, {"input": image, "output": result}.items(), strict=True):
    ax.imshow(np.squeeze(picture.array), cmap="gray")
    ax.set_title(title)
    ax.axis("off")
plt.show()

# %% [markdown]
# ## 5. DICOM
#
# A series is a folder of files. What is written keeps the series' identity and marks the pixels as derived. Here a
# CT slice is made from nothing, read in Hounsfield units, and written back without loss.

# %%
from pydicom.dataset import FileDataset, FileMetaDataset  # noqa: E402
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid  # noqa: E402

meta = FileMetaDataset()
meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
meta.TransferSyntaxUID = ExplicitVRLittleEndian
data = FileDataset("slice.dcm", {}, file_meta=meta, preamble=b"\0" * 128)
data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
data.Modality, data.PatientID, data.SeriesInstanceUID = "CT", "p00", generate_uid()
data.Rows = data.Columns = SIDE
data.PixelSpacing, data.SliceThickness = [0.8, 0.7], 5.0
data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, -1024, "HU"
values = np.round(1024 + 1000 * (images[0, ..., 0] / images[0].max() - 0.5)).astype(np.uint16)
data.PixelData = values.tobytes()
series = pathlib.Path("series")
series.mkdir(exist_ok=True)
data.save_as(series / "slice.dcm", enforce_file_format=True)

scan = read_image(series)
print("HU from", scan.array.min(), "to", scan.array.max(), "spacing", scan.spacing)
write_image(pathlib.Path("copy"), scan, scan.array)
again = read_image(pathlib.Path("copy"))
print("largest difference after writing and reading:", float(np.abs(again.array - scan.array).max()), "HU")
