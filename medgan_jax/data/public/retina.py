"""Fundus photographs: DRIVE, STARE, CHASE_DB1, HRF, Messidor and RIM-ONE DL."""

from functools import partial

from medgan_jax.data.public import readers
from medgan_jax.data.public.fields import class_of, mask, photograph
from medgan_jax.data.public.layout import UNLABELLED, Part, PublicSet, numbered

_DRIVE_TRAINING = (
    photograph("training/images/{id}_training.tif"),
    mask("vessels", "training/1st_manual/{id}_manual1.gif", readers.picture_mask),
    mask("field_of_view", "training/mask/{id}_training_mask.gif", readers.picture_mask),
)
_DRIVE_TEST = (
    photograph("test/images/{id}_test.tif"),
    mask("field_of_view", "test/mask/{id}_test_mask.gif", readers.picture_mask),
)
_DRIVE_VESSELS = (
    mask("vessels", "test/1st_manual/{id}_manual1.gif", readers.picture_mask),
    mask("vessels_second", "test/2nd_manual/{id}_manual2.gif", readers.picture_mask, optional=True),
)
_DRIVE_NUMBERS = {"id": r"\d\d"}

DRIVE = PublicSet(
    name="drive",
    title="DRIVE: Digital Retinal Images for Vessel Extraction",
    anatomy="retina",
    modality="colour fundus photograph",
    citation="Staal et al., Ridge-based vessel segmentation in color images of the retina, IEEE Trans. "
    "Med. Imaging 23(4), 2004",
    licence="for research; not to be passed on",
    terms="https://drive.grand-challenge.org/",
    registration="(account and joining the challenge)",
    steps=(
        "Sign in at https://drive.grand-challenge.org, join, and download datasets.zip.",
        "Extract training.zip and test.zip of it, so that there are training/ and test/.",
    ),
    notes="the test labels are withheld: 'withheld' splits the 20 training images by subject and keeps the "
    "test images as 'unlabelled'; 'official' needs a copy from before, with test/1st_manual",
    forms={
        "withheld": (
            Part(_DRIVE_TRAINING, None, _DRIVE_NUMBERS, numbered("id", range(21, 41), 2)),
            Part(_DRIVE_TEST, UNLABELLED, _DRIVE_NUMBERS, numbered("id", range(1, 21), 2)),
        ),
        "official": (
            Part(_DRIVE_TRAINING, "train", _DRIVE_NUMBERS, numbered("id", range(21, 41), 2)),
            Part((*_DRIVE_TEST, *_DRIVE_VESSELS), "test", _DRIVE_NUMBERS, numbered("id", range(1, 21), 2)),
        ),
    },
)

_STARE_NUMBERS = (1, 2, 3, 4, 5, 44, 77, 81, 82, 139, 162, 163, 235, 236, 239, 240, 255, 291, 319, 324)

STARE = PublicSet(
    name="stare",
    title="STARE: Structured Analysis of the Retina, the 20 images with vessels",
    anatomy="retina",
    modality="colour fundus photograph",
    citation="Hoover et al., Locating blood vessels in retinal images by piecewise threshold probing of a "
    "matched filter response, IEEE Trans. Med. Imaging 19(3), 2000",
    licence="none stated; for research",
    terms="https://cecas.clemson.edu/~ahoover/stare/probing/index.html",
    steps=(
        "Download stare-images.tar, labels-ah.tar and labels-vk.tar from the page of the terms.",
        "Extract the three into one folder; the .ppm.gz files may stay compressed.",
    ),
    forms={
        "": (
            Part(
                (
                    photograph(("im{id}.ppm.gz", "im{id}.ppm"), readers.picture),
                    mask("vessels", ("im{id}.ah.ppm.gz", "im{id}.ah.ppm"), readers.picture_mask),
                    mask("vessels_second", ("im{id}.vk.ppm.gz", "im{id}.vk.ppm"), readers.picture_mask),
                ),
                None,
                {"id": r"\d{4}"},
                numbered("id", _STARE_NUMBERS, 4),
            ),
        )
    },
)

_CHASE_FIELDS = (
    photograph("Image_{subject}{eye}.jpg"),
    mask("vessels", "Image_{subject}{eye}_1stHO.png"),
    mask("vessels_second", "Image_{subject}{eye}_2ndHO.png"),
)


def _eyes(first: int, last: int):
    return partial(_eyes_of, range(first, last + 1))


def _eyes_of(numbers, root):
    return [{"subject": f"{number:02d}", "eye": eye} for number in numbers for eye in "LR"]


CHASE_DB1 = PublicSet(
    name="chase_db1",
    title="CHASE_DB1: Child Heart and Health Study in England, retinal vessels",
    anatomy="retina",
    modality="colour fundus photograph",
    citation="Fraz et al., An ensemble classification-based approach applied to retinal blood vessel "
    "segmentation, IEEE Trans. Biomed. Eng. 59(9), 2012",
    licence="CC BY 4.0",
    terms="https://researchdata.kingston.ac.uk/96/",
    steps=("Download CHASEDB1.zip from the page of the terms and extract it.",),
    notes="split as is customary: the first 20 images (10 children) train, the last 8 test",
    forms={
        "": (
            Part(_CHASE_FIELDS, "train", {"subject": "0[1-9]|10", "eye": "[LR]"}, _eyes(1, 10)),
            Part(_CHASE_FIELDS, "test", {"subject": "1[1-4]", "eye": "[LR]"}, _eyes(11, 14)),
        )
    },
)


def _hrf_cases(root):
    return [{"number": f"{number:02d}", "group": group} for number in range(1, 16) for group in _HRF_GROUPS]


_HRF_GROUPS = ("h", "dr", "g")

HRF = PublicSet(
    name="hrf",
    title="HRF: High-Resolution Fundus images",
    anatomy="retina",
    modality="colour fundus photograph",
    citation="Budai et al., Robust vessel segmentation in fundus images, Int. J. Biomed. Imaging, 2013",
    licence="CC BY 4.0",
    terms="https://www5.cs.fau.de/research/data/fundus-images/",
    steps=("Download all.zip from the page of the terms and extract it (images/, manual1/, mask/).",),
    forms={
        "": (
            Part(
                (
                    photograph("images/{number}_{group}.jpg"),
                    mask("vessels", "manual1/{number}_{group}.tif"),
                    mask("field_of_view", "mask/{number}_{group}_mask.tif"),
                    class_of("images/{number}_{group}.jpg", _HRF_GROUPS, partial(readers.key, name="group")),
                ),
                None,
                {"number": r"\d\d", "group": "h|dr|g"},
                _hrf_cases,
            ),
        )
    },
)

MESSIDOR = PublicSet(
    name="messidor",
    title="Messidor: 1200 fundus photographs from three departments",
    anatomy="retina",
    modality="colour fundus photograph",
    citation="Decenciere et al., Feedback on a publicly distributed image database: the Messidor database, "
    "Image Anal. Stereol. 33(3), 2014",
    licence="for research and education; not to be passed on",
    terms="https://www.adcis.net/en/third-party/messidor/",
    registration="(form)",
    steps=(
        "Fill in the form at the page of the terms; download the twelve archives Base11.zip to Base34.zip.",
        "Extract each into its own folder, Base11/ to Base34/.",
    ),
    notes="each image is its own subject, as the set does not tell patients; grades are in Excel files and "
    "not read; Base33 is known to repeat images",
    forms={
        "": (
            Part(
                (photograph("{base}/{id}.tif"),),
                None,
                {"base": r"Base[1-3][1-4]", "id": r"[^/]+"},
                count=1200,
            ),
        )
    },
)


def _rim_one(partition: str, split: str, folders: tuple[str, ...]) -> Part:
    images = tuple(f"{partition}/{folder}/{{group}}/{{id}}.png" for folder in folders)
    outline = "RIM-ONE_DL_reference_segmentations/{group}/{id}-*-%s-T.png"
    return Part(
        (
            photograph(images),
            mask("disc", outline % "Disc"),
            mask("cup", outline % "Cup"),
            class_of(images, ("normal", "glaucoma"), partial(readers.key, name="group")),
        ),
        split,
        {"group": "normal|glaucoma", "id": r"r\d_[^/]+?"},
    )


RIM_ONE_DL = PublicSet(
    name="rim_one_dl",
    title="RIM-ONE DL: optic discs and cups",
    anatomy="retina, optic disc",
    modality="colour fundus photograph",
    citation="Fumero et al., RIM-ONE DL: a unified retinal image database for assessing glaucoma using "
    "deep learning, Image Anal. Stereol. 39(3), 2020",
    licence="for research and education",
    terms="https://github.com/miag-ull/rim-one-dl",
    steps=(
        "Download RIM-ONE_DL_images.zip and RIM-ONE_DL_reference_segmentations.zip by the links there.",
        "Extract both into one folder.",
    ),
    notes="'randomly' and 'by_hospital' are the two official partitions; each image is its own subject",
    forms={
        name: (
            _rim_one(f"partitioned_{name}", "train", ("training_set", "train")),
            _rim_one(f"partitioned_{name}", "test", ("test_set", "test")),
        )
        for name in ("by_hospital", "randomly")
    },
)

SETS = (DRIVE, STARE, CHASE_DB1, HRF, MESSIDOR, RIM_ONE_DL)
