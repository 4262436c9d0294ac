"""Abdomen, pelvis, heart, spine: Decathlon tasks, ACDC, MM-WHS, ProstateX, CSI 2014 and VerSe, fastMRI."""

from functools import partial

from medgan_jax.data.public import readers
from medgan_jax.data.public.decathlon import decathlon
from medgan_jax.data.public.fields import VOLUME, ct, labels, mr, places, text
from medgan_jax.data.public.layout import UNLABELLED, Field, Part, PublicSet

_LIVER = decathlon(
    "Task03_Liver", "liver", "msd_liver", "abdomen, liver", "CT",
    ct("imagesTr/liver_{id}.nii.gz"), ct("imagesTs/liver_{id}.nii.gz"),
    notes="labels: 1 liver, 2 tumour; the scans of LiTS 2017",
)  # fmt: skip
_PROSTATE = decathlon(
    "Task05_Prostate", "prostate", "msd_prostate", "pelvis, prostate", "MR: T2, ADC",
    mr("imagesTr/prostate_{id}.nii.gz", channels=2), mr("imagesTs/prostate_{id}.nii.gz", channels=2),
    notes="labels: 1 peripheral zone, 2 transition zone",
)  # fmt: skip
_SPLEEN = decathlon(
    "Task09_Spleen", "spleen", "msd_spleen", "abdomen, spleen", "CT",
    ct("imagesTr/spleen_{id}.nii.gz"), ct("imagesTs/spleen_{id}.nii.gz"), notes="labels: 1 spleen",
)  # fmt: skip


def _acdc(folder: str, split: str, first: int, last: int) -> Part:
    frame = f"{folder}/{{subject}}/{{subject}}_frame{{frame}}"
    return Part(
        (
            mr(f"{frame}.nii.gz"),
            labels(f"{frame}_gt.nii.gz"),
            text("group", f"{folder}/{{subject}}/Info.cfg", partial(readers.information, name="Group")),
            text("end_diastole", f"{folder}/{{subject}}/Info.cfg", partial(readers.information, name="ED")),
        ),
        split,
        {"subject": r"patient\d{3}", "frame": r"\d+"},
        count=2 * (last - first + 1),
    )


ACDC = PublicSet(
    name="acdc",
    title="ACDC: Automated Cardiac Diagnosis Challenge, end diastole and end systole",
    anatomy="heart, short axis",
    modality="MR: cine",
    citation="Bernard et al., Deep learning techniques for automatic MRI cardiac multi-structures "
    "segmentation and diagnosis, IEEE Trans. Med. Imaging 37(11), 2018",
    licence="CC BY-NC-SA 4.0",
    terms="https://www.creatis.insa-lyon.fr/Challenge/acdc/databases.html",
    steps=(
        "Download ACDC.zip from https://humanheart-project.creatis.insa-lyon.fr/database/ and extract it.",
        "There are training/patient001 to patient100 and testing/patient101 to patient150.",
    ),
    notes="labels: 1 right ventricle, 2 myocardium, 3 left ventricle",
    forms={"": (_acdc("training", "train", 1, 100), _acdc("testing", "test", 101, 150))},
)


def _whole_heart(modality: str, image) -> tuple[Part, ...]:
    train, test = f"{modality}_train_{{id}}", f"{modality}_test_{{id}}"
    training = Part(
        (image(f"**/{train}_image.nii.gz"), labels(f"**/{train}_label.nii.gz", dtype="uint16")),
        None,
        {"id": r"\d{4}"},
        count=20,
    )
    return training, Part((image(f"**/{test}_image.nii.gz"),), UNLABELLED, {"id": r"\d{4}"}, count=40)


MM_WHS = PublicSet(
    name="mm_whs",
    title="MM-WHS 2017: Multi-Modality Whole Heart Segmentation",
    anatomy="heart",
    modality="CT angiography, MR",
    citation="Zhuang and Shen, Multi-scale patch and multi-modality atlases for whole heart segmentation "
    "of MRI, Medical Image Analysis 31, 2016",
    licence="for research, by the challenge's agreement",
    terms="https://zmiclab.github.io/zxh/0/mmwhs/",
    registration="(registration form)",
    steps=(
        "Register at the page of the terms and download the training and test archives of CT and MR.",
        "Extract them: ct_train/ct_train_1001_image.nii.gz, ct_train_1001_label.nii.gz, ct_test/..., mr_...",
    ),
    notes="labels: 500, 600, 420, 550, 205, 820, 850 (one file has 421 for 420); test labels are encrypted",
    forms={"ct": _whole_heart("ct", ct), "mr": _whole_heart("mr", mr)},
)

PROSTATEX = PublicSet(
    name="prostatex",
    title="SPIE-AAPM-NCI PROSTATEx, T2-weighted transverse volumes with findings",
    anatomy="pelvis, prostate",
    modality="MR: T2",
    citation="Litjens et al., ProstateX Challenge data, The Cancer Imaging Archive, 2017, doi "
    "10.7937/K9TCIA.2017.MURS5CL",
    licence="CC BY 3.0",
    terms="https://www.cancerimagingarchive.net/collection/prostatex/",
    steps=(
        "Download the images with the NBIA Data Retriever (folders by descriptive names).",
        "Download ProstateX-Findings-Train.csv (in the archive of lesion information) and put it beside.",
    ),
    notes="findings (K, 4): clinically significant, x, y, z in mm, RAS+; cases without a row in the table "
    "are those of the challenge's test, whose truth is withheld",
    forms={
        "": (
            Part(
                (
                    mr("{subject}/{study}/{series}/*.dcm", readers.series),
                    places("findings", "ProstateX-Findings-Train.csv", readers.findings, "mm"),
                ),
                None,
                {"subject": r"ProstateX-\d{4}", "series": r"[^/]*t2[^/]*tra[^/]*"},
                keep=partial(readers.has_row, field="findings", id="ProxID"),
            ),
        )
    },
)

_VERSE_NAMES = {"subject": r"sub-[a-z]+\d+", "scan": r"(?:_(?:dir|split)-[a-z0-9]+)*"}


def _verse(folder: str, split: str) -> Part:
    name = "{subject}/{subject}{scan}"
    return Part(
        (
            ct(f"{folder}/rawdata/{name}_ct.nii.gz"),
            labels(f"{folder}/derivatives/{name}_seg-vert_msk.nii.gz"),
            places(
                "centroids", f"{folder}/derivatives/{name}_seg-subreg_ctd.json", readers.centroids, "voxels"
            ),
        ),
        split,
        _VERSE_NAMES,
    )


VERSE = PublicSet(
    name="verse",
    title="VerSe 2019 and 2020: vertebrae with masks and labelled centroids",
    anatomy="spine",
    modality="CT",
    citation="Sekuboyina et al., VerSe: a vertebrae labelling and segmentation benchmark for "
    "multi-detector CT images, Medical Image Analysis 73, 2021",
    licence="CC BY-SA 4.0",
    terms="https://github.com/anjany/verse",
    steps=(
        "Download the training, validation and test archives of VerSe 2019 or 2020 (links at the terms' "
        "page).",
        "Extract them: dataset-01training/rawdata/sub-verse004/..., dataset-02validation, dataset-03test.",
    ),
    notes="centroids (K, 4): label, then depth, row, column of the CT's array; stands in for CSI 2014",
    forms={
        "": (
            _verse("dataset-*training", "train"),
            _verse("dataset-*validation", "validation"),
            _verse("dataset-*test", "test"),
        )
    },
)


def _spines(folder: str, split: str) -> Part:
    scan = f"{folder}/**/{{subject}}{{scan}}"
    fields = ct(f"{scan}.nii.gz"), places("landmarks", f"{scan}.lml", readers.landmarks, "mm")
    return Part(fields, split, {"subject": r"\d{1,4}", "scan": r"\d{3}"})


CSI2014 = PublicSet(
    name="csi2014",
    title="CSI 2014: vertebrae localisation in pathological spine CT",
    anatomy="spine",
    modality="CT",
    citation="Glocker et al., Vertebrae localization in pathological spine CT via dense classification "
    "from sparse annotations, MICCAI 2013",
    licence="BioMedIA, for research",
    terms="https://biomedia.doc.ic.ac.uk/data/spine/",
    registration="(by request; the page is not always reachable)",
    steps=(
        "Ask for the data at the page of the terms; extract the five training archives into spine-train/.",
        "Extract the test archive into spine-test-data/; each scan has a .nii.gz and an .lml file of its "
        "name.",
    ),
    notes="landmarks (K, 4): vertebra 1 (C1) to 24 (L5) and on, then x, y, z in mm as the file gives them; "
    "the folders' names are ours, as the archives have none that are documented; patients: the part of a "
    "name before its last three digits",
    forms={
        "": (
            _spines("spine-train*", "train"),
            _spines("spine-test*", "test"),
        )
    },
)


def _fastmri(coils: str, names: str) -> tuple[Part, ...]:
    """The public validation part tests, since the test part has no truth; training holds out its own."""
    target = "reconstruction_esc" if coils == "singlecoil" else "reconstruction_rss"

    def part(kind: str, split: str) -> Part:
        files = f"{coils}_{kind}*/**/{{id}}.h5"
        channels = 2 if coils == "singlecoil" else None
        image = Field("image", files, partial(readers.hdf5, name=target), "float32", VOLUME, "raw")
        shape = (*VOLUME[:-1], channels)
        read = partial(readers.hdf5, name="kspace")
        kspace = Field("kspace", files, read, "float32", shape, "raw", aligned=False)
        return Part((image, kspace), split, {"id": names}, subjects=readers.hdf5_subjects)

    return part("train", "train"), part("val", "test")


FASTMRI = PublicSet(
    name="fastmri",
    title="fastMRI: raw k-space of knees and brains",
    anatomy="knee, head",
    modality="MR, complex k-space",
    citation="Zbontar et al., fastMRI: an open dataset and benchmarks for accelerated MRI, arXiv "
    "1811.08839, 2018",
    licence="fastMRI data sharing agreement; not to be passed on",
    terms="https://fastmri.med.nyu.edu/",
    registration="(form; links come by mail)",
    steps=(
        "Accept the agreement at the page of the terms; download the archives of train and val.",
        "Extract them: singlecoil_train/file1000001.h5, singlecoil_val/..., or knee/ and brain/ with "
        "multicoil_*.",
    ),
    notes="kspace has real and imaginary parts of each coil in turn; the public validation part is the "
    "test part",
    forms={
        "knee_singlecoil": _fastmri("singlecoil", r"file\d+"),
        "knee_multicoil": _fastmri("multicoil", r"file\d+"),
        "brain_multicoil": _fastmri("multicoil", r"file_brain_\w+"),
    },
)

SETS = (_LIVER, _PROSTATE, _SPLEEN, ACDC, MM_WHS, PROSTATEX, VERSE, CSI2014, FASTMRI)
