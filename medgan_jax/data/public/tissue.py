"""Histology and cells: CAMELYON16, GlaS, MITOS-ATYPIA, Data Science Bowl 2018, Cell Tracking Challenge."""

import re
from functools import partial

from medgan_jax.data.public import readers, slides
from medgan_jax.data.public.fields import photograph, radiograph, text
from medgan_jax.data.public.layout import Field, Part, PublicSet


def _slides(folder: str, split: str, pattern: str, fields: tuple[Field, ...]) -> Part:
    image = photograph(f"{folder}{{group}}_{{number}}.tif")
    return Part((image, *fields), split, {"group": pattern, "number": r"\d{3}"})


CAMELYON16 = PublicSet(
    name="camelyon16",
    title="CAMELYON16: lymph nodes, tiles of whole slides",
    anatomy="lymph node",
    modality="brightfield histology, haematoxylin and eosin",
    citation="Litjens et al., 1399 H&E-stained sentinel lymph node sections of breast cancer patients: the "
    "CAMELYON dataset, GigaScience 7(6), 2018",
    licence="CC0",
    terms="https://camelyon17.grand-challenge.org/Data/",
    steps=(
        "Download training/normal, training/tumor and testing/images (by the links of the page of the "
        "terms).",
        "Extract training/lesion_annotations.zip and testing/lesion_annotations.zip where they lie.",
    ),
    notes=f"records are tiles of {slides.SIDE} pixels at about {slides.MICROMETRES:g} micrometres a pixel, "
    f"at most "
    f"{slides.MOST_TILES} a slide, evenly spread over its tissue; tumour: the share of the tile in an "
    f"annotation; "
    "centre: slides normal 1-100 and tumor 1-70 are of Radboud, the others in training of Utrecht, which "
    "the publication's numbers imply; '' in the test part",
    forms={
        "": (
            _slides("training/**/", "train", "normal|tumor", slides.EXTRAS),
            _slides("testing/**/", "test", "test", slides.EXTRAS),
        )
    },
    records=slides.tiles,
)

GLAS = PublicSet(
    name="glas",
    title="GlaS: gland segmentation in colon histology, MICCAI 2015",
    anatomy="colon",
    modality="brightfield histology, haematoxylin and eosin",
    citation="Sirinukunwattana et al., Gland segmentation in colon histology images: the GlaS challenge "
    "contest, Medical Image Analysis 35, 2017",
    licence="for research and education, not commercial",
    terms="https://warwick.ac.uk/fac/cross_fac/tia/data/glascontest/",
    steps=("Download warwick_qu_dataset_released_2016_07_08.zip from there and extract it.",),
    notes="split by patient (Grade.csv): the contest's own parts share patients; `part` keeps them (train, "
    "testA, testB)",
    forms={
        "": (
            Part(
                (
                    photograph("{part}_{number}.bmp", readers.picture),
                    Field("label", "{part}_{number}_anno.bmp", readers.picture, "uint8", unit="label"),
                    text("grade", "Grade.csv", partial(readers.column, id="name", value="grade (GlaS)")),
                    text("part", "{part}_{number}.bmp", partial(readers.word, name="part")),
                ),
                None,
                {"part": "train|testA|testB", "number": r"\d+"},
                count=165,
                subjects=partial(
                    readers.subjects_from_table, file="Grade.csv", id="name", subject="patient ID"
                ),
            ),
        )
    },
)

_TRAINING_SLIDES = "0[34578]|1[0-24578]"
_TEST_SLIDES = "0[689]|1[36]"


def _scanners(split: str, slides_pattern: str) -> Part:
    files = "%s{subject}/frames/x20/%s{subject}_{frame}.tiff"
    shape = (None, None, 3)
    return Part(
        (
            Field("aperio", files % ("A", "A"), readers.image, shape=shape, unit="raw"),
            Field("hamamatsu", files % ("H", "H"), readers.image, shape=shape, unit="raw", aligned=False),
        ),
        split,
        {"subject": slides_pattern, "frame": r"\d\d[A-D]"},
    )


MITOS_ATYPIA = PublicSet(
    name="mitos_atypia",
    title="MITOS-ATYPIA 2014: breast tissue under two scanners",
    anatomy="breast",
    modality="brightfield histology, haematoxylin and eosin, two scanners",
    citation="Roux et al., MITOS & ATYPIA, Image Pervasive Access Lab, 2014",
    licence="for research, by the challenge's terms",
    terms="https://mitos-atypia-14.grand-challenge.org/",
    registration="(account and joining the challenge)",
    steps=(
        "Join the challenge and download the training and test archives of both scanners.",
        "Extract them: A03/frames/x20/A03_00A.tiff, H03/frames/x20/H03_00A.tiff and so on.",
    ),
    notes="frames at x20 of one place under both scanners, of different sizes and not registered",
    forms={"": (_scanners("train", _TRAINING_SLIDES), _scanners("test", _TEST_SLIDES))},
)

_NUCLEI_TABLE = partial(
    readers.run_lengths, id="ImageId", runs="EncodedPixels", height="Height", width="Width"
)

DSB2018 = PublicSet(
    name="dsb2018",
    title="Data Science Bowl 2018 (BBBC038): nuclei",
    anatomy="cells, nuclei",
    modality="fluorescence and brightfield microscopy",
    citation="Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl, "
    "Nature Methods 16, 2019",
    licence="CC0",
    terms="https://bbbc.broadinstitute.org/BBBC038",
    steps=(
        "Download stage1_train.zip, stage1_test.zip and stage1_solution.csv from the page of the terms.",
        "Extract each archive into a folder of its name, stage1_train/<image>/images/ and masks/.",
    ),
    notes="each tile is its own subject: many are neighbours of one field, which the set does not tell",
    forms={
        "": (
            Part(
                (
                    photograph("stage1_train/{id}/images/{id}.png", channels=4),
                    Field(
                        "label", "stage1_train/{id}/masks/*.png", readers.joined_masks, "uint16", unit="label"
                    ),
                ),
                "train",
                {"id": "[0-9a-f]{64}"},
                count=670,
            ),
            Part(
                (
                    photograph("stage1_test/{id}/images/{id}.png", channels=4),
                    Field("label", "stage1_solution.csv", _NUCLEI_TABLE, "uint16", unit="label"),
                ),
                "test",
                {"id": "[0-9a-f]{64}"},
                count=65,
            ),
        )
    },
)

# Names of the sets and the type of their images.
_TRACKING = {
    "PhC-C2DH-U373": "uint8",
    "DIC-C2DH-HeLa": "uint8",
    "PhC-C2DL-PSC": "uint8",
    "BF-C2DL-HSC": "uint8",
    "BF-C2DL-MuSC": "uint8",
    "Fluo-C2DL-MSC": "uint16",
    "Fluo-N2DH-GOWT1": "uint8",
    "Fluo-N2DH-SIM+": "uint16",
    "Fluo-N2DL-HeLa": "uint16",
}


def _sequence(name: str, number: str, split: str) -> Part:
    """The frames of one sequence with a complete truth, drawn by people or, where all are, by consensus."""
    truth = tuple(f"{{set}}/{{sequence}}_{kind}/SEG/man_seg{{frame}}.tif" for kind in ("ST", "GT"))
    return Part(
        (
            Field("label", truth, readers.label, "uint16", unit="label"),
            radiograph("{set}/{sequence}/t{frame}.tif", dtype=_TRACKING[name]),
        ),
        split,
        {"set": re.escape(name), "sequence": number, "frame": r"\d{3,4}"},
        subject=("set", "sequence"),
    )


def _two_sequences(name: str) -> tuple[Part, ...]:
    return _sequence(name, "01", "train"), _sequence(name, "02", "test")


_TRANSMITTED = (
    *_two_sequences("PhC-C2DH-U373"),
    _sequence("DIC-C2DH-HeLa", "01", "train"),
    _sequence("DIC-C2DH-HeLa", "02", "validation"),
)

CELL_TRACKING = PublicSet(
    name="cell_tracking",
    title="Cell Tracking Challenge, two-dimensional sequences",
    anatomy="cells",
    modality="phase contrast, DIC, brightfield, fluorescence microscopy",
    citation="Ulman et al., An objective comparison of cell-tracking algorithms, Nature Methods 14, 2017",
    licence="for research, with the citation",
    terms="http://celltrackingchallenge.net/2d-datasets/",
    steps=(
        "Download the training archive of the wanted set from the page of the terms.",
        "Extract it: PhC-C2DH-U373/01/t000.tif, 01_GT/SEG/man_seg000.tif, 02/, 02_GT/.",
    ),
    notes="subjects are sequences, and each set has two: 01 trains, 02 tests, and nothing is left to "
    "validate. Form transmitted_light joins PhC-C2DH-U373 and DIC-C2DH-HeLa, whose second sequence "
    "validates. Frames with a silver truth, else with a gold one, in which some cells may be missing",
    forms={
        "transmitted_light": _TRANSMITTED,
        **{name.lower().replace("-", "_").replace("+", "_plus"): _two_sequences(name) for name in _TRACKING},
    },
)

SETS = (CAMELYON16, GLAS, MITOS_ATYPIA, DSB2018, CELL_TRACKING)
