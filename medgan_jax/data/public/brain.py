"""Brain MR: IXI, Decathlon tumours and hippocampi, the four registration sets of Klein et al., ADNI, HCP."""

from functools import partial

from medgan_jax.data.public import readers
from medgan_jax.data.public.decathlon import decathlon
from medgan_jax.data.public.fields import labels, mr, text
from medgan_jax.data.public.layout import Part, PublicSet

_IXI_NAME = {"subject": r"IXI\d{3}", "site": "[A-Za-z]+", "scan": r"\d+"}


def _ixi(contrasts: dict[str, str]) -> tuple[Part, ...]:
    """Contrasts by field; each may lie flat or in a folder of its name."""
    fields = tuple(
        mr(f"{{subject}}-{{site}}-{{scan}}-{contrast}.nii.gz", name=name, aligned=name != "mra")
        for name, contrast in contrasts.items()
    )
    return (Part(fields, None, _IXI_NAME),)


IXI = PublicSet(
    name="ixi",
    title="IXI: Information eXtraction from Images, 600 healthy subjects",
    anatomy="head",
    modality="MR",
    citation="IXI dataset, Imperial College London, brain-development.org/ixi-dataset",
    licence="CC BY-SA 3.0",
    terms="https://brain-development.org/ixi-dataset/",
    steps=(
        "Download IXI-T1.tar, IXI-T2.tar, IXI-PD.tar and IXI-MRA.tar, or those of one form alone.",
        "Extract them into one folder; the files are named IXI002-Guys-0828-T1.nii.gz and so on.",
    ),
    notes="forms t1, t2, pd, mra: one contrast each; pd_t2: both echoes of one scan, on one grid; t1_mra: "
    "two grids of one subject, for methods that resample. A subject without one of the files is refused: "
    "remove its others",
    forms={
        "t1": _ixi({"image": "T1"}),
        "t2": _ixi({"image": "T2"}),
        "pd": _ixi({"image": "PD"}),
        "mra": _ixi({"image": "MRA"}),
        "pd_t2": _ixi({"pd": "PD", "t2": "T2"}),
        "t1_mra": _ixi({"t1": "T1", "mra": "MRA"}),
    },
)

_BRAIN_TUMOURS = decathlon(
    "Task01_BrainTumour", "BRATS", "msd_brain_tumours", "brain, glioma", "MR: FLAIR, T1, contrast-enhanced "
    "T1, T2",
    mr("imagesTr/BRATS_{id}.nii.gz", channels=4), mr("imagesTs/BRATS_{id}.nii.gz", channels=4),
    notes="labels: 1 oedema, 2 non-enhancing, 3 enhancing; scans of BRATS 2016 and 2017, the subjects not "
    "told",
)  # fmt: skip
_HIPPOCAMPUS = decathlon(
    "Task04_Hippocampus", "hippocampus", "msd_hippocampus", "brain, hippocampus", "MR: T1",
    mr("imagesTr/hippocampus_{id}.nii.gz"), mr("imagesTs/hippocampus_{id}.nii.gz"),
    notes="labels: 1 anterior, 2 posterior; left and right of one subject may be two cases, which are not "
    "told",
)  # fmt: skip

_MINDBOGGLE = "https://mindboggle.info/data.html"
_KLEIN = (
    "Klein et al., Evaluation of 14 nonlinear deformation algorithms applied to human brain MRI "
    "registration, "
    "NeuroImage 46(3), 2009"
)


def _klein(letter: str, count: int) -> tuple[Part, ...]:
    """Skull-stripped brains and their atlases, as they were gathered for the comparison of 2009."""
    suffixes = ("img", "nii.gz", "nii", "img.gz")
    brains = tuple(f"Brains/{letter}{{id}}.{suffix}" for suffix in suffixes)
    atlases = tuple(f"Atlases/{letter}{{id}}.{suffix}" for suffix in suffixes)
    fields = mr(brains, readers.volume), labels(atlases, readers.volume, dtype="uint16")
    return (Part(fields, None, {"id": r"\d+"}, partial(_counted, count)),)


def _counted(count, root):
    return [{"id": str(number)} for number in range(1, count + 1)]


def _lpba_subjects(root):
    return [{"id": f"S{number:02d}"} for number in range(1, 41)]


def _ibsr_subjects(root):
    return [{"id": f"{number:02d}"} for number in range(1, 19)]


_LPBA_BRAINS = tuple(
    f"**/{{id}}.delineation.skullstripped.{end}" for end in ("img", "img.gz", "nii.gz", "nii")
)
_LPBA_LABELS = tuple(
    f"**/{{id}}.delineation.structure.label.{end}" for end in ("img", "img.gz", "nii.gz", "nii")
)

LPBA40 = PublicSet(
    name="lpba40",
    title="LPBA40: LONI Probabilistic Brain Atlas, 40 subjects with 56 structures",
    anatomy="brain",
    modality="MR: T1, skull-stripped",
    citation="Shattuck et al., Construction of a 3D probabilistic atlas of human cortical structures, "
    "NeuroImage 39(3), 2008",
    licence="LONI research licence",
    terms="https://www.loni.usc.edu/research/atlases",
    registration="(LONI account)",
    steps=(
        "Ask for LPBA40 at the page of the terms and download the subjects in delineation space.",
        "Extract it: delineation_space/S01/S01.delineation.skullstripped.img (or .nii.gz) and so on.",
    ),
    notes="form klein2009: Brains/l1.img and Atlases/l1.img, as gathered for the comparison of 2009",
    forms={
        "delineation": (
            Part(
                (mr(_LPBA_BRAINS, readers.volume), labels(_LPBA_LABELS, readers.volume)),
                None,
                {"id": r"S\d\d"},
                _lpba_subjects,
            ),
        ),
        "klein2009": _klein("l", 40),
    },
)

_IBSR_BRAINS = tuple(f"IBSR_{{id}}_ana_strip.{end}" for end in ("nii.gz", "nii", "img"))
_IBSR_LABELS = tuple(f"IBSR_{{id}}_seg_ana.{end}" for end in ("nii.gz", "nii", "img"))

IBSR18 = PublicSet(
    name="ibsr18",
    title="IBSR18: Internet Brain Segmentation Repository, 18 subjects with 84 structures",
    anatomy="brain",
    modality="MR: T1, skull-stripped",
    citation="Rohlfing, Image similarity and tissue overlaps as surrogates for image registration "
    "accuracy, IEEE Trans. Med. Imaging 31(2), 2012; data: Center for Morphometric Analysis, MGH",
    licence="CC BY-NC 1.0",
    terms="https://www.nitrc.org/projects/ibsr",
    registration="(NITRC account)",
    steps=("Download IBSR_V2.0_nifti_stripped.tgz from the page of the terms and extract it.",),
    notes="form klein2009: Brains/c1.img and Atlases/c1.img, as gathered for the comparison of 2009",
    forms={
        "nitrc": (
            Part(
                (mr(_IBSR_BRAINS, readers.volume), labels(_IBSR_LABELS, readers.volume)),
                None,
                {"id": r"\d\d"},
                _ibsr_subjects,
            ),
        ),
        "klein2009": _klein("c", 18),
    },
)


def _klein_set(name: str, title: str, source: str, letter: str, count: int) -> PublicSet:
    return PublicSet(
        name=name,
        title=title,
        anatomy="brain",
        modality="MR: T1, skull-stripped",
        citation=f"{source}; {_KLEIN}",
        licence="none stated; for research, with these citations",
        terms=_MINDBOGGLE,
        registration="(ask for the brains of 2009)",
        steps=(
            f"Ask for the set as gathered by Klein et al. 2009 ({_MINDBOGGLE}).",
            f"Put it as Brains/{letter}1.img and Atlases/{letter}1.img, up to {letter}{count} (or .nii.gz).",
        ),
        notes="the layout is that of copies in use, not of a document: the publisher gives none",
        forms={"": _klein(letter, count)},
    )


CUMC12 = _klein_set(
    "cumc12", "CUMC12: 12 subjects with 128 regions, Columbia University Medical Center",
    "Columbia University Medical Center, labels by the Cardviews method", "m", 12,
)  # fmt: skip
MGH10 = _klein_set(
    "mgh10", "MGH10: 10 subjects with 74 regions, Massachusetts General Hospital",
    "Martinos Center, MGH, labels by the method of Tourville and Guenther", "g", 10,
)  # fmt: skip

ADNI = PublicSet(
    name="adni",
    title="ADNI: Alzheimer's Disease Neuroimaging Initiative, T1 volumes",
    anatomy="head",
    modality="MR: T1",
    citation="Jack et al., The Alzheimer's Disease Neuroimaging Initiative (ADNI): MRI methods, J. Magn. "
    "Reson. Imaging 27(4), 2008",
    licence="ADNI data use agreement; not to be passed on",
    terms="https://adni.loni.usc.edu/data-samples/adni-data/",
    registration="(application, approved by a committee)",
    steps=(
        "Apply at the page of the terms; in the image archive choose T1 volumes as NIfTI and download them.",
        "Extract the archives: ADNI/002_S_0295/<description>/<date>/<image>/ADNI_*.nii.",
        "Download the table of the collection and save it beside ADNI/ as collection.csv.",
    ),
    notes="label: the group in the table's column Group (AD, MCI, CN, ...) of the column 'Image Data ID'",
    forms={
        "t1": (
            Part(
                (
                    mr(tuple(f"{{subject}}/*/*/{{image}}/*.{end}" for end in ("nii", "nii.gz"))),
                    text("group", "collection.csv", readers.adni_group, optional=True),
                ),
                None,
                {"subject": r"\d{3}_S_\d{4}", "image": r"I?\d+"},
            ),
        ),
        "t1_dicom": (
            Part(
                (
                    mr("{subject}/*/*/{image}/*.dcm", readers.series),
                    text("group", "collection.csv", readers.adni_group, optional=True),
                ),
                None,
                {"subject": r"\d{3}_S_\d{4}", "image": r"I?\d+"},
            ),
        ),
    },
)

HCP = PublicSet(
    name="hcp",
    title="HCP: Human Connectome Project, young adults, structural MR",
    anatomy="head",
    modality="MR: T1, T2",
    citation="Van Essen et al., The WU-Minn Human Connectome Project: an overview, NeuroImage 80, 2013",
    licence="HCP open access data use terms; not to be passed on",
    terms="https://www.humanconnectome.org/study/hcp-young-adult/data-use-terms",
    registration="(account and acceptance of the terms)",
    steps=(
        "Accept the terms and download 'Structural Preprocessed' for the subjects wanted.",
        "Extract the archives: 100307/T1w/T1w_acpc_dc_restore_brain.nii.gz and so on.",
    ),
    notes="siblings are in the set; the families are in restricted data, so a split by subject may split "
    "them",
    forms={
        "t1": (Part((mr("{id}/T1w/T1w_acpc_dc_restore_brain.nii.gz"),), None, {"id": r"\d{6}"}),),
        "t1_t2": (
            Part(
                (
                    mr("{id}/T1w/T1w_acpc_dc_restore_brain.nii.gz", name="t1"),
                    mr("{id}/T1w/T2w_acpc_dc_restore_brain.nii.gz", name="t2"),
                ),
                None,
                {"id": r"\d{6}"},
            ),
        ),
    },
)

SETS = (IXI, _BRAIN_TUMOURS, _HIPPOCAMPUS, LPBA40, IBSR18, CUMC12, MGH10, ADNI, HCP)
