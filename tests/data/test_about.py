"""Anatomy and modality of a folder: who states them first, and that nothing is made up."""

import json
import os
import pathlib

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medgan_jax.data.about import NOT_STATED, about
from medgan_jax.errors import UserError
from medgan_jax.review import data_sets

REAL = pathlib.Path(os.environ.get("MEDGAN_JAX_TEST_DATA", "nowhere"))
GREY = np.zeros((4, 4, 1), np.float32)


def stated(folder, image=GREY, path=None):
    found = about(folder, image, path)
    return found.anatomy, found.modality


def dicom(path, modality, part):
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    header.Modality = modality
    if part is not None:
        header.BodyPartExamined = part
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path)
    return path


def test_nothing_is_made_up(tmp_path):
    assert stated(tmp_path) == (NOT_STATED, NOT_STATED)
    (tmp_path / "README.md").write_text("# My own images\n\nBrain MR.\n")
    assert stated(tmp_path) == (NOT_STATED, NOT_STATED)


def test_values_below_minus_500_are_hounsfield_units(tmp_path):
    assert stated(tmp_path, GREY - 1000) == (NOT_STATED, "CT (values below -500)")
    assert stated(tmp_path, GREY - 400)[1] == NOT_STATED


@pytest.mark.parametrize(
    ("heading", "anatomy", "modality"),
    [
        ("Brain MRI of 20 subjects", "brain", "MR"),
        ("mr_brain_t1", "brain", "MR"),
        ("Chest X-rays", "chest", "radiograph"),
        ("Fundus photographs", "retina", "fundus photograph"),
        ("Optical coherence tomography", NOT_STATED, "optical coherence tomography"),
        # Words, and no parts of words.
        ("Spectra of petals, directed", NOT_STATED, NOT_STATED),
    ],
)
def test_the_heading_of_the_readme(tmp_path, heading, anatomy, modality):
    (tmp_path / "README.md").write_text(f"Some words\n# {heading}\n# Liver CT\n")
    where = " (README.md)"
    assert stated(tmp_path) == tuple(
        word if word == NOT_STATED else word + where for word in (anatomy, modality)
    )


def test_the_row_of_a_table_beside_the_folder(tmp_path):
    table = (
        "# Chest CT\n\n| folder | serves |\n|---|---|\n| `eyes` | brain MR |\n\n"
        "| folder | modality |\n|---|---|\n| other | liver CT |\n| `eyes` | colour fundus photograph |\n"
    )
    (tmp_path / "README.md").write_text(table)
    (tmp_path / "eyes").mkdir()
    beside = "(README.md beside the folder)"
    assert stated(tmp_path / "eyes") == (f"retina {beside}", f"fundus photograph {beside}")


def test_dicom_headers_come_before_words(tmp_path):
    (tmp_path / "README.md").write_text("# Brain CT\n")
    path = dicom(tmp_path / "images" / "a.dcm", "MR", "HEAD")
    assert stated(tmp_path, path=path) == ("head (DICOM header)", "MR (DICOM header)")
    dicom(path, "PT", None)
    assert stated(tmp_path, path=path) == ("brain (README.md)", "PET (DICOM header)")
    # Of a series, its first file.
    assert stated(tmp_path, path=path.parent)[1] == "PET (DICOM header)"


def test_the_folders_own_words_come_first(tmp_path):
    (tmp_path / "README.md").write_text("# Brain CT\n")
    (tmp_path / "about.json").write_text(json.dumps({"modality": "synchrotron"}))
    assert stated(tmp_path, GREY - 1000) == ("brain (README.md)", "synchrotron (about.json)")


@pytest.mark.parametrize("content", ["{", "[]", '{"anatomy": 3}', '"brain"'])
def test_a_bad_statement_is_named(tmp_path, content):
    (tmp_path / "about.json").write_text(content)
    with pytest.raises(UserError, match=r"about\.json") as error:
        stated(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not REAL.is_dir(), reason="MEDGAN_JAX_TEST_DATA names no folder of the real data")
@pytest.mark.parametrize(
    ("name", "anatomy", "modality"),
    [
        ("blood_bccd", "blood", "microscopy"), ("brain_mr_ixi", "brain", "MR"), ("ct_chest_tcga", "chest", "CT"),
        ("hippocampus_mr3d", "hippocampus", "MR"), ("retina_chase", "retina", "fundus photograph"),
        ("us_breast_busi", "breast", "ultrasound"), ("mednist_6class", NOT_STATED, "CT, MR, radiograph"),
    ],
)  # fmt: skip
def test_the_real_sets(name, anatomy, modality):
    facts = data_sets.folder(REAL / name)
    assert anatomy in facts.anatomy and facts.modality.startswith(modality)
