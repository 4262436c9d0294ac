"""What the images of a folder show: anatomy and modality, as stated beside them or as the files tell.

The first of these that states one of the two counts for it:

1. `about.json` in the folder: `{"anatomy": "brain", "modality": "MR"}`;
2. the headers of DICOM files: `BodyPartExamined` and `Modality`;
3. the first heading of the folder's `README.md`, and the columns `anatomy` and `modality` of the row on the
   folder in a table of the `README.md` beside it: the words known here that they hold;
4. the values: images that go below -500 are CT in Hounsfield units.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Iterator, Mapping

import numpy as np

from medgan_jax.data import formats
from medgan_jax.errors import UserError

NOT_STATED = "not stated"
STATED = ("anatomy", "modality")

# Words by what they mean; `*` stands for any ending.
ANATOMIES = {
    "abdomen": "abdomen abdominal", "blood": "blood", "brain": "brain cerebral", "breast": "breast mammogra*",
    "cells": "cell cells", "chest": "chest thorax thoracic", "colon": "colon colorectal",
    "coronary arteries": "coronary", "fetus": "fetus fetal obstetric", "hand": "hand", "head": "head",
    "heart": "heart cardiac", "hippocampus": "hippocamp*", "kidneys": "kidney* renal", "knee": "knee",
    "liver": "liver hepatic", "lungs": "lung* pulmonary", "neurons": "neuron*", "nuclei": "nucleus nuclei",
    "pancreas": "pancrea*", "pelvis": "pelvi*", "prostate": "prostat*", "retina": "retina* fundus",
    "skin": "skin dermoscop* dermatoscop*", "spine": "spine spinal vertebra*", "spleen": "spleen splenic",
    "tissue": "tissue histolog* histopatholog*",
}  # fmt: skip
MODALITIES = {
    "CT": "ct computed-tomography", "MR": "mr mri magnetic-resonance", "PET": "pet positron-emission",
    "ultrasound": "ultraso* sonogra* echocardiogra*", "radiograph": "radiogra* x-ray x-rays",
    "mammography": "mammogra*", "angiography": "angiogra*", "fundus photograph": "fundus",
    "optical coherence tomography": "oct optical-coherence", "dermoscopy": "dermoscop* dermatoscop*",
    "microscopy": "microscop* brightfield smear histolog* histopatholog*",
    "endomicroscopy": "endomicroscop*", "endoscopy": "endoscop* colonoscop*",
}  # fmt: skip
_DICOM_MODALITIES = {
    "CT": "CT", "MR": "MR", "PT": "PET", "US": "ultrasound", "IVUS": "intravascular ultrasound", "CR": "radiograph",
    "DX": "radiograph", "MG": "mammography", "XA": "angiography", "OP": "fundus photograph",
    "OPT": "optical coherence tomography", "SM": "slide microscopy", "ES": "endoscopy",
}  # fmt: skip
_LOWEST_OF_OTHERS = -500


@dataclasses.dataclass(frozen=True)
class About:
    """Anatomy and modality, each with where it is stated in brackets, or 'not stated'."""

    anatomy: str
    modality: str


def about(folder: str | pathlib.Path, image: np.ndarray, path: pathlib.Path | None = None) -> About:
    """What a data folder shows. image: of one record; path: its file or series, if it has one of its own.

    Raises UserError for an `about.json` that is not of the form above.
    """
    root = pathlib.Path(folder).expanduser().resolve()
    found: dict[str, str] = {}
    for where, stated in _statements(root, image, path):
        for name in STATED:
            if stated.get(name):
                found.setdefault(name, f"{stated[name]} ({where})")
    return About(*(found.get(name, NOT_STATED) for name in STATED))


def _statements(
    root: pathlib.Path, image: np.ndarray, path: pathlib.Path | None
) -> Iterator[tuple[str, Mapping[str, str]]]:
    yield "about.json", _own_words(root / "about.json")
    if path is not None and formats.format_of(path) == "dicom":
        yield "DICOM header", _dicom(path)
    yield "README.md", _named(_heading(root / "README.md"))
    row = _row(root.parent / "README.md", root.name)
    yield "README.md beside the folder", _named(", ".join(row.get(name, "") for name in STATED))
    yield "values below -500", {"modality": "CT"} if image.min() < _LOWEST_OF_OTHERS else {}


def _own_words(path: pathlib.Path) -> Mapping[str, str]:
    if not path.is_file():
        return {}
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(stated, dict) or not all(isinstance(stated.get(name, ""), str) for name in STATED):
        raise UserError(f"{path} is not of the form {json.dumps(dict.fromkeys(STATED, '...'))}")
    return stated


def _dicom(path: pathlib.Path) -> Mapping[str, str]:
    """Of a file, or of the first of a series, which was read before."""
    import pydicom

    file = path if path.is_file() else min(file for file in path.iterdir() if file.is_file())
    header = pydicom.dcmread(file, specific_tags=["Modality", "BodyPartExamined"], stop_before_pixels=True)
    code = str(header.get("Modality", "") or "")
    part = str(header.get("BodyPartExamined", "") or "")
    return {"anatomy": part.strip().lower(), "modality": _DICOM_MODALITIES.get(code, code)}


def _named(text: str) -> Mapping[str, str]:
    """The anatomies and modalities that a text names."""
    return {
        name: ", ".join(meaning for meaning, words in known.items() if _pattern(words).search(text))
        for name, known in zip(STATED, (ANATOMIES, MODALITIES), strict=True)
    }


def _pattern(words: str) -> re.Pattern:
    alternatives = "|".join(word.replace("-", "[- ]?").replace("*", r"\w*") for word in words.split())
    # An underscore parts words in names of sets.
    return re.compile(rf"(?<![^\W_])(?:{alternatives})(?![^\W_])", re.IGNORECASE)


def _lines(path: pathlib.Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _heading(path: pathlib.Path) -> str:
    return next((line.lstrip("# ") for line in _lines(path) if line.startswith("#")), "")


def _row(path: pathlib.Path, name: str) -> dict[str, str]:
    """Cells by their columns of the first row whose first cell is `name`, of a table with a column that counts."""
    columns: list[str] = []
    for line in _lines(path):
        if not line.startswith("|"):
            columns = []
            continue
        cells = [cell.strip(" `*") for cell in line.strip().strip("|").split("|")]
        columns = columns or [cell.lower() for cell in cells]
        if cells[0] == name and set(columns) & set(STATED):
            return dict(zip(columns, cells, strict=False))
    return {}
