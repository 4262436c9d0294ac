"""Dermoscopy: ISIC 2017 and 2018."""

from functools import partial

from medgan_jax.data.public import readers
from medgan_jax.data.public.fields import class_of, mask, photograph
from medgan_jax.data.public.layout import Part, PublicSet

_NAME = {"id": r"ISIC_\d{7}"}
_CLASSES_2017 = ("melanoma", "seborrheic_keratosis", "nevus")
_CLASSES_2018 = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


def _isic2017(part: str, split: str, count: int) -> Part:
    image = f"ISIC-2017_{part}_Data/{{id}}.jpg"
    return Part(
        (
            photograph(image),
            mask("mask", f"ISIC-2017_{part}_Part1_GroundTruth/{{id}}_segmentation.png"),
            class_of(
                f"ISIC-2017_{part}_Part3_GroundTruth.csv",
                _CLASSES_2017,
                partial(readers.one_hot, id="image_id"),
            ),
        ),
        split,
        _NAME,
        count=count,
    )


ISIC2017 = PublicSet(
    name="isic2017",
    title="ISIC 2017: Skin Lesion Analysis Towards Melanoma Detection",
    anatomy="skin",
    modality="dermoscopy",
    citation="Codella et al., Skin lesion analysis toward melanoma detection: a challenge at ISBI 2017, "
    "ISBI 2018",
    licence="CC0",
    terms="https://challenge.isic-archive.com/data/#2017",
    steps=(
        "Download Data, Part1 and Part3 ground truth of training, validation and test (Test_v2) from there.",
        "Extract the archives into one folder, ISIC-2017_Training_Data/ and so on, with the .csv files "
        "beside.",
    ),
    notes="each image is its own subject, as the set does not tell patients",
    forms={
        "": (
            _isic2017("Training", "train", 2000),
            _isic2017("Validation", "validation", 150),
            _isic2017("Test_v2", "test", 600),
        )
    },
)


def _lesions(part: str, split: str, count: int) -> Part:
    return Part(
        (
            photograph(f"ISIC2018_Task1-2_{part}_Input/{{id}}.jpg"),
            mask("mask", f"ISIC2018_Task1_{part}_GroundTruth/{{id}}_segmentation.png"),
        ),
        split,
        _NAME,
        count=count,
    )


ISIC2018 = PublicSet(
    name="isic2018",
    title="ISIC 2018: lesion boundaries (task 1) and diagnosis (task 3, HAM10000)",
    anatomy="skin",
    modality="dermoscopy",
    citation="Codella et al., Skin lesion analysis toward melanoma detection 2018, arXiv 1902.03368; "
    "Tschandl et al., The HAM10000 dataset, Scientific Data 5, 2018",
    licence="task 1: CC0; task 3: CC BY-NC 4.0",
    terms="https://challenge.isic-archive.com/data/#2018",
    steps=(
        "For 'segmentation', download input and ground truth of task 1: training, validation and test.",
        "For 'diagnosis', download training input, ground truth and LesionGroupings.csv of task 3.",
        "Extract the archives into one folder: ISIC2018_Task1-2_Training_Input/ and so on.",
    ),
    notes="'diagnosis' is split by lesion, of which there are up to six photographs; 'segmentation' as "
    "published",
    forms={
        "segmentation": (
            _lesions("Training", "train", 2594),
            _lesions("Validation", "validation", 100),
            _lesions("Test", "test", 1000),
        ),
        "diagnosis": (
            Part(
                (
                    photograph("ISIC2018_Task3_Training_Input/{id}.jpg"),
                    class_of(
                        "ISIC2018_Task3_Training_GroundTruth.csv",
                        _CLASSES_2018,
                        partial(readers.one_hot, id="image"),
                    ),
                ),
                None,
                _NAME,
                count=10015,
                subjects=partial(
                    readers.subjects_from_table,
                    file="ISIC2018_Task3_Training_LesionGroupings.csv",
                    id="image",
                    subject="lesion_id",
                ),
            ),
        ),
    },
)

SETS = (ISIC2017, ISIC2018)
