"""Chest: LIDC-IDRI, the Mayo low-dose set of TCIA, JSRT with the masks of SCR, Montgomery County."""

from functools import partial

from medgan_jax.data.public import readers
from medgan_jax.data.public.fields import class_of, ct, labels, mask, radiograph
from medgan_jax.data.public.layout import Part, PublicSet

LIDC_IDRI = PublicSet(
    name="lidc_idri",
    title="LIDC-IDRI: Lung Image Database Consortium, nodules drawn by four readers",
    anatomy="chest, lung nodules",
    modality="CT",
    citation="Armato et al., The Lung Image Database Consortium (LIDC) and Image Database Resource "
    "Initiative (IDRI), Medical Physics 38(2), 2011, doi 10.7937/K9/TCIA.2015.LO9QL9SX",
    licence="CC BY 3.0",
    terms="https://www.cancerimagingarchive.net/collection/lidc-idri/",
    steps=(
        "Download the images with the NBIA Data Retriever: LIDC-IDRI/LIDC-IDRI-0001/<study>/<series>/*.dcm.",
        "Download LIDC-XML-only.zip only if the series' folders hold no .xml files; put each beside its "
        "series.",
    ),
    notes="nodule: how many of four readers drew a nodule of 3 mm or more there; radiographs beside the CT "
    "are left out. A few series lack slices: `--skip_refused` leaves those out and names them",
    forms={
        "": (
            Part(
                (
                    ct("{subject}/{study}/{series}/*.dcm", readers.series),
                    labels("{subject}/{study}/{series}/*.xml", readers.nodules, "nodule", optional=True),
                ),
                None,
                {"subject": r"LIDC-IDRI-\d{4}"},
                keep=partial(readers.is_modality, modality="CT"),
            ),
        )
    },
)


def _dose(letter: str) -> tuple[Part, ...]:
    folder = "{subject}/{study}/*%s dose images*/*.dcm"
    return (
        Part(
            (ct(folder % "low", readers.series), ct(folder % "full", readers.series, "target")),
            None,
            {"subject": rf"{letter}\d{{3}}"},
        ),
    )


LDCT = PublicSet(
    name="ldct",
    title="LDCT-and-Projection-data: paired low and full dose, Mayo Clinic",
    anatomy="abdomen, chest, head",
    modality="CT",
    citation="Moen et al., Low-dose CT image and projection dataset, Medical Physics 48(2), 2021, doi "
    "10.7937/9NPB-2637",
    licence="TCIA: see the terms; head scans under the restricted licence",
    terms="https://www.cancerimagingarchive.net/collection/ldct-and-projection-data/",
    registration="(a signed licence agreement for restricted parts)",
    steps=(
        "Choose the series 'Full Dose Images' and 'Low Dose Images' and download them with the NBIA Data "
        "Retriever.",
        "There are L004/<study>/1.000000-Low Dose Images-.../*.dcm and the like; projections are not needed.",
    ),
    notes="image: low dose (a quarter in abdomen and head, a tenth in the chest), target: full dose. Low "
    "dose images exist for the scanners of one maker only; the others have to be left out",
    forms={"abdomen": _dose("L"), "chest": _dose("C"), "head": _dose("N")},
)

_ORGANS = ("right lung", "left lung", "heart", "right clavicle", "left clavicle")
_JSRT_NAMES = {"group": "JPCLN|JPCNN", "number": r"\d{3}"}


def _fold(number: int, split: str) -> Part:
    masks = f"fold{number}/masks/*/{{group}}{{number}}.gif"
    # The masks of SCR are drawn at 1024 x 1024, half of the radiographs' size.
    organs = partial(readers.channels, of=_ORGANS, read=readers.picture_mask, repeat=2)
    radiographs = ("{group}{number}.IMG",)
    return Part(
        (
            mask("mask", masks, organs, shape=(None, None, len(_ORGANS))),
            radiograph(radiographs, readers.jsrt, "uint16"),
            class_of(radiographs, ("JPCNN", "JPCLN"), partial(readers.key, name="group")),
        ),
        split,
        _JSRT_NAMES,
        partial(_jsrt_cases, 2 - number % 2),
    )


def _jsrt_cases(first, root):
    """The radiographs with odd (1) or even (2) numbers."""
    sizes = {"JPCLN": 154, "JPCNN": 93}
    return [
        {"group": group, "number": f"{number:03d}"}
        for group, size in sizes.items()
        for number in range(first, size + 1, 2)
    ]


JSRT = PublicSet(
    name="jsrt",
    title="JSRT with SCR: 247 radiographs with lungs, heart and clavicles",
    anatomy="chest",
    modality="radiograph",
    citation="Shiraishi et al., Development of a digital image database for chest radiographs, AJR 174, "
    "2000; van Ginneken et al., Segmentation of anatomical structures in chest radiographs, Medical Image "
    "Analysis 10, 2006",
    licence="JSRT: for research, with the citation; SCR: for research",
    terms="http://db.jsrt.or.jp/eng.php",
    registration="(mail address for the download)",
    steps=(
        "Download the All247images archive of JSRT from the page of the terms and extract it (.IMG files).",
        "Download the SCR masks (https://zenodo.org/records/7056076) and extract fold1/ and fold2/ beside.",
    ),
    notes="12 bits, turned so that bone is bright, 0.175 mm; mask: right lung, left lung, heart, right "
    "clavicle, left clavicle, each pixel doubled to the radiograph's size; label: without (0) or with (1) "
    "nodule; SCR's fold 1 trains, fold 2 tests",
    forms={"": (_fold(1, "train"), _fold(2, "test"))},
)

_SIDES = ("rightmask", "leftmask")

MONTGOMERY = PublicSet(
    name="montgomery",
    title="Montgomery County: 138 radiographs with lung masks",
    anatomy="chest",
    modality="radiograph",
    citation="Jaeger et al., Two public chest X-ray datasets for computer-aided screening of pulmonary "
    "diseases, Quant. Imaging Med. Surg. 4(6), 2014",
    licence="by the terms of the National Library of Medicine, with the citation",
    terms="https://lhncbc.nlm.nih.gov/LHC-downloads/downloads.html",
    registration="(by request)",
    steps=(
        "Ask for the Montgomery County set at the page of the terms.",
        "Extract it: CXR_png/MCUCXR_0001_0.png, ManualMask/leftMask/ and ManualMask/rightMask/.",
    ),
    notes="mask: right lung, left lung; label: normal (0) or tuberculosis (1)",
    forms={
        "": (
            Part(
                (
                    radiograph("CXR_png/MCUCXR_{number}_{finding}.png"),
                    mask(
                        "mask",
                        "ManualMask/*/MCUCXR_{number}_{finding}.png",
                        partial(readers.channels, of=_SIDES, read=readers.mask),
                        shape=(None, None, 2),
                    ),
                    class_of(
                        "CXR_png/MCUCXR_{number}_{finding}.png",
                        ("0", "1"),
                        partial(readers.key, name="finding"),
                    ),
                ),
                None,
                {"number": r"\d{4}", "finding": "[01]"},
                count=138,
            ),
        )
    },
)

SETS = (LIDC_IDRI, LDCT, JSRT, MONTGOMERY)
