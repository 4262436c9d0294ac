"""Public sets fetched by hand: each is read from a small fake of its real layout, and says what it lacks."""

import dataclasses
import gzip
import io
import json
import pathlib

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medgan_jax.data import catalogue
from medgan_jax.data.builders.public import BUILDERS, declared_features
from medgan_jax.data.prepared import open_prepared
from medgan_jax.data.public import readers, slides
from medgan_jax.data.public.layout import UNLABELLED, Part, find_cases
from medgan_jax.data.public.reading import read_case
from medgan_jax.data.public.registry import SETS
from medgan_jax.errors import UserError

CHANCE = np.random.default_rng(0)
SHAPE = (6, 7, 8)
# Of the radiographs of JSRT, whose true side of 2048 pixels takes seconds.
SIDE = 64
AFFINE = np.array([[-1.5, 0, 0, 90], [0, 1.25, 0, -80], [0, 0, 3, 10], [0, 0, 0, 1.0]])


def picture(path: pathlib.Path, shape=(9, 10, 3), binary=False, high=256):
    """A picture in the format of its suffix; masks are of 0 and 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = CHANCE.integers(0, high, shape).astype(np.uint8)
    values = (255 * (values > 127)).astype(np.uint8) if binary else values
    if path.suffix == ".gz":
        stream = io.BytesIO()
        Image.fromarray(values).save(stream, "PPM")
        path.write_bytes(gzip.compress(stream.getvalue()))
    else:
        Image.fromarray(values).save(path)


def mask(path: pathlib.Path, shape=(9, 10)):
    picture(path, shape, binary=True)


def nifti(path: pathlib.Path, dtype=np.int16, shape=SHAPE, high=3, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(CHANCE.integers(0, high, shape).astype(dtype), affine), path)


def analyze(path: pathlib.Path, high=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.AnalyzeImage(CHANCE.integers(0, high, (*SHAPE, 1)).astype(np.int16), AFFINE), path)


def series(folder: pathlib.Path, count=3, modality="CT", shape=(8, 9)) -> list[str]:
    """A DICOM series; returns the identifiers of its slices."""
    folder.mkdir(parents=True, exist_ok=True)
    names, uid = [], generate_uid()
    for number in range(count):
        slice = Dataset()
        slice.file_meta = FileMetaDataset()
        slice.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice.file_meta.MediaStorageSOPClassUID = slice.SOPClassUID = CTImageStorage
        slice.file_meta.MediaStorageSOPInstanceUID = slice.SOPInstanceUID = generate_uid()
        slice.SeriesInstanceUID, slice.Modality = uid, modality
        slice.RescaleSlope, slice.RescaleIntercept = 1, -1024 if modality == "CT" else 0
        slice.PixelSpacing, slice.ImagePositionPatient = [0.7, 0.8], [-10, -20, 2.5 * number]
        slice.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        slice.Rows, slice.Columns = shape
        slice.SamplesPerPixel, slice.PhotometricInterpretation, slice.PixelRepresentation = (
            1,
            "MONOCHROME2",
            0,
        )
        slice.BitsAllocated, slice.BitsStored, slice.HighBit = 16, 12, 11
        slice.PixelData = CHANCE.integers(0, 4096, shape).astype("<u2").tobytes()
        slice["PixelData"].VR = "OW"
        pydicom.dcmwrite(folder / f"1-{number + 1:02d}.dcm", slice, enforce_file_format=True)
        names.append(str(slice.SOPInstanceUID))
    return names


def text(path: pathlib.Path, *lines: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


# --- the layouts, as the archives extract ---


def drive(root):
    for number in range(21, 41):
        picture(root / f"DRIVE/training/images/{number}_training.tif")
        mask(root / f"DRIVE/training/1st_manual/{number}_manual1.gif")
        mask(root / f"DRIVE/training/mask/{number}_training_mask.gif")
    for number in range(1, 21):
        picture(root / f"DRIVE/test/images/{number:02d}_test.tif")
        mask(root / f"DRIVE/test/mask/{number:02d}_test_mask.gif")
        mask(root / f"DRIVE/test/1st_manual/{number:02d}_manual1.gif")
    (root / "DRIVE/.DS_Store").write_bytes(b"x")


def stare(root):
    for number in (1, 2, 3, 4, 5, 44, 77, 81, 82, 139, 162, 163, 235, 236, 239, 240, 255, 291, 319, 324):
        picture(root / f"stare-images/im{number:04d}.ppm.gz")
        picture(root / f"labels-ah/im{number:04d}.ah.ppm.gz", (9, 10), binary=True)
        picture(root / f"labels-vk/im{number:04d}.vk.ppm.gz", (9, 10), binary=True)


def chase_db1(root):
    for child in range(1, 15):
        for eye in "LR":
            picture(root / f"Image_{child:02d}{eye}.jpg")
            mask(root / f"Image_{child:02d}{eye}_1stHO.png")
            mask(root / f"Image_{child:02d}{eye}_2ndHO.png")


def hrf(root):
    for number in range(1, 16):
        for group in ("h", "dr", "g"):
            picture(root / f"images/{number:02d}_{group}.{'JPG' if group == 'dr' else 'jpg'}")
            mask(root / f"manual1/{number:02d}_{group}.tif")
            picture(root / f"mask/{number:02d}_{group}_mask.tif", binary=True)


def messidor(root):
    for base in ("Base11", "Base12"):
        for number in range(3):
            picture(root / f"{base}/2005{number}_3855{base[-1]}_0100_PP.tif")
        text(root / f"{base}/Annotation_{base}.xls", "not read")


def rim_one_dl(root):
    for number in range(6):
        group, part = ("normal", "glaucoma")[number % 2], ("training_set", "test_set")[number // 4]
        for partition in ("by_hospital", "randomly"):
            picture(root / f"RIM-ONE_DL_images/partitioned_{partition}/{part}/{group}/r1_Im00{number}.png")
        for kind in ("Disc", "Cup"):
            outline = root / f"RIM-ONE_DL_reference_segmentations/{group}/r1_Im00{number}-1-{kind}-T"
            mask(outline.with_suffix(".png"))
            text(outline.with_suffix(".txt"), "0 0")


def ixi(root):
    for number in range(5):
        for contrast in ("T1", "T2", "PD", "MRA"):
            shape = SHAPE if contrast in ("T2", "PD") else (5, 5, 5)
            nifti(root / f"IXI-{contrast}/IXI00{number}-Guys-070{number}-{contrast}.nii.gz", shape=shape)


def decathlon(task, prefix, channels=1, unlabelled=2):
    def make(root):
        shape = (*SHAPE, channels) if channels > 1 else SHAPE
        names = [f"{prefix}_{number:03d}" for number in range(1, 7)]
        for name in names:
            nifti(root / f"{task}/imagesTr/{name}.nii.gz", shape=shape, dtype=np.float32)
            nifti(root / f"{task}/labelsTr/{name}.nii.gz", dtype=np.uint8)
            (root / f"{task}/imagesTr/._{name}.nii.gz").write_bytes(b"what an archiver adds")
        for number in range(50, 50 + unlabelled):
            nifti(root / f"{task}/imagesTs/{prefix}_{number:03d}.nii.gz", shape=shape, dtype=np.float32)
        listed = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names]
        text(root / f"{task}/dataset.json", json.dumps({"training": listed}))

    return make


def lpba40(root):
    for number in range(1, 41):
        base = root / f"delineation_space/S{number:02d}/S{number:02d}.delineation"
        analyze(base.with_name(base.name + ".skullstripped.img"))
        analyze(base.with_name(base.name + ".structure.label.img"))


def ibsr18(root):
    for number in range(1, 19):
        folder = root / f"IBSR_{number:02d}"
        nifti(folder / f"IBSR_{number:02d}_ana_strip.nii.gz")
        nifti(folder / f"IBSR_{number:02d}_seg_ana.nii.gz")
        nifti(folder / f"IBSR_{number:02d}_ana.nii.gz")


def klein(letter, count):
    def make(root):
        for number in range(1, count + 1):
            analyze(root / f"set/Brains/{letter}{number}.img")
            analyze(root / f"set/Atlases/{letter}{number}.img", high=160)

    return make


def adni(root):
    rows = ["Image Data ID,Subject,Group"]
    for number in range(6):
        subject = f"00{number}_S_029{number}"
        nifti(root / f"ADNI/{subject}/MPR__GradWarp/2006-04-18_08_20_30.0/I1186{number}/ADNI_{number}.nii")
        series(root / f"ADNI/{subject}/MP-RAGE/2006-04-18_08_20_30.0/I1187{number}", modality="MR")
        rows += [f"I118{kind}{number},{subject},{('AD', 'CN')[number % 2]}" for kind in "67"]
    text(root / "collection.csv", *rows)


def hcp(root):
    for number in range(5):
        for name in ("T1w", "T2w"):
            nifti(root / f"10030{number}/T1w/{name}_acpc_dc_restore_brain.nii.gz", np.float32)


NODULE = """<LidcReadMessage xmlns="http://www.nih.gov"><readingSession><unblindedReadNodule><roi>
<imageSOP_UID>{}</imageSOP_UID><inclusion>TRUE</inclusion>{}</roi></unblindedReadNodule></readingSession>
<readingSession><nonNodule/></readingSession></LidcReadMessage>"""


def lidc_idri(root):
    square = [(2, 2), (3, 2), (4, 2), (5, 2), (5, 3), (5, 4), (5, 5), (4, 5), (3, 5), (2, 5), (2, 4), (2, 3)]
    edge = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in square)
    for number in range(1, 6):
        study = root / f"LIDC-IDRI/LIDC-IDRI-000{number}/1.3.6.{number}"
        names = series(study / "3000566-03192")
        series(study / "3000923-62357", modality="DX", count=1)
        text(study / "3000566-03192/069.xml", NODULE.format(names[1], edge))


def ldct(root):
    for letter in "LCN":
        for number in range(5):
            study = root / f"LDCT-and-Projection-data/{letter}00{number}/12-23-2021-NA-NA-62464"
            for name in ("1.000000-Low Dose Images-39882", "2.000000-Full dose images-67226"):
                series(study / name)
            series(study / "3.000000-Full Dose Projections-1", count=1)


def jsrt(root):
    organs = ("right lung", "left lung", "heart", "right clavicle", "left clavicle")
    for number in (1, 2):
        (root / "All247images").mkdir(exist_ok=True)
        stored = CHANCE.integers(0, 4096, (SIDE, SIDE)).astype(">u2")
        (root / f"All247images/JPCLN00{number}.IMG").write_bytes(stored.tobytes())
        for organ in organs:
            mask(root / f"scr/fold{2 - number % 2}/masks/{organ}/JPCLN00{number}.gif", (SIDE // 2, SIDE // 2))


def montgomery(root):
    for number in range(5):
        name = f"MCUCXR_000{number}_{number % 2}.png"
        picture(root / f"MontgomerySet/CXR_png/{name}", (9, 10))
        for side in ("left", "right"):
            mask(root / f"MontgomerySet/ManualMask/{side}Mask/{name}")


def acdc(root):
    for number in (1, 2, 101, 102):
        folder = root / ("training" if number < 101 else "testing") / f"patient{number:03d}"
        for frame in ("01", "12"):
            nifti(folder / f"patient{number:03d}_frame{frame}.nii.gz")
            nifti(folder / f"patient{number:03d}_frame{frame}_gt.nii.gz", np.uint8)
        nifti(folder / f"patient{number:03d}_4d.nii.gz")
        text(folder / "Info.cfg", "ED: 1", "ES: 12", "Group: DCM", "Height: 184.0")


def mm_whs(root):
    for modality in ("ct", "mr"):
        for number in range(5):
            base = root / f"{modality}_train/{modality}_train_100{number}"
            nifti(base.with_name(base.name + "_image.nii.gz"))
            nifti(base.with_name(base.name + "_label.nii.gz"), np.uint16, high=851)
            nifti(root / f"{modality}_test/{modality}_test_200{number}_image.nii.gz")


def prostatex(root):
    rows = ["ProxID,fid,pos,zone,ClinSig"]
    for number in range(6):
        subject = f"ProstateX-000{number}"
        for name in ("4.000000-t2tsetra-98209", "5.000000-t2tsesag-1"):
            series(root / f"PROSTATEx/{subject}/07-07-2011-1/{name}", modality="MR")
        if number < 5:
            rows.append(f"{subject},1,25.7457 31.8707 -38.511,PZ,{'TRUE' if number else 'FALSE'}")
    text(root / "ProstateX-Findings-Train.csv", *rows)


def verse(root):
    for folder, numbers in (("01training", (4, 5)), ("02validation", (6,)), ("03test", (7,))):
        for number in numbers:
            subject = f"sub-verse00{number}"
            end = "" if number < 7 else "_dir-ax"
            base = root / f"dataset-{folder}"
            nifti(base / f"rawdata/{subject}/{subject}{end}_ct.nii.gz")
            nifti(base / f"derivatives/{subject}/{subject}{end}_seg-vert_msk.nii.gz", np.uint8)
            # P, I, R: from front to back, from top to bottom, from left to right.
            places = [{"direction": ["P", "I", "R"]}, {"label": 20, "X": 1.0, "Y": 2.0, "Z": 3.0}]
            text(base / f"derivatives/{subject}/{subject}{end}_seg-subreg_ctd.json", json.dumps(places))


def csi2014(root):
    for folder, numbers in (("spine-train-1", range(3)), ("spine-test-data", range(3, 5))):
        for number in numbers:
            nifti(root / f"{folder}/451{number}904.nii.gz")
            text(root / f"{folder}/451{number}904.lml", "header", "8\tT1_center\t10.5\t20\t-30")


def fastmri(root):
    for coils, name, target in (
        ("singlecoil", "file{}", "esc"),
        ("multicoil", "file{}", "rss"),
        ("multicoil", "file_brain_AXT2_{}", "rss"),
    ):
        for part, numbers in (("train", range(4)), ("val", range(4, 6))):
            for number in numbers:
                path = root / f"{coils}_{part}/{name.format(1000 + number)}.h5"
                path.parent.mkdir(parents=True, exist_ok=True)
                shape = (3, 8, 6) if coils == "singlecoil" else (3, 2, 8, 6)
                with h5py.File(path, "w") as file:
                    kspace = CHANCE.normal(size=(2, *shape)).astype(np.float32)
                    file["kspace"] = (kspace[0] + 1j * kspace[1]).astype(np.complex64)
                    file[f"reconstruction_{target}"] = CHANCE.random((3, 5, 5)).astype(np.float32)
                    file.attrs["patient_id"] = f"patient{number if number != 4 else 0}"


def isic2017(root):
    number = 0
    for part in ("Training", "Validation", "Test_v2"):
        rows = ["image_id,melanoma,seborrheic_keratosis"]
        for kind in range(3):
            name = f"ISIC_{number:07d}"
            picture(root / f"ISIC-2017_{part}_Data/{name}.jpg")
            picture(root / f"ISIC-2017_{part}_Data/{name}_superpixels.png")
            mask(root / f"ISIC-2017_{part}_Part1_GroundTruth/{name}_segmentation.png")
            rows.append(f"{name},{float(kind == 0)},{float(kind == 1)}")
            number += 1
        text(root / f"ISIC-2017_{part}_Part3_GroundTruth.csv", *rows)


def isic2018(root):
    for number, part in enumerate(("Training", "Validation", "Test")):
        picture(root / f"ISIC2018_Task1-2_{part}_Input/ISIC_000000{number}.jpg")
        mask(root / f"ISIC2018_Task1_{part}_GroundTruth/ISIC_000000{number}_segmentation.png")
    rows, groups = ["image,MEL,NV,BCC,AKIEC,BKL,DF,VASC"], ["image,lesion_id,diagnosis_confirm_type"]
    for number in range(8):
        picture(root / f"ISIC2018_Task3_Training_Input/ISIC_002{number:04d}.jpg")
        rows.append(f"ISIC_002{number:04d},0.0,1.0,0.0,0.0,0.0,0.0,0.0")
        groups.append(f"ISIC_002{number:04d},HAM_000{number // 2},histopathology")
    text(root / "ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv", *rows)
    text(root / "ISIC2018_Task3_Training_LesionGroupings.csv", *groups)


def camelyon16(root):
    slide = np.full((768, 1024, 3), 255, np.uint8)
    slide[256:, :512] = (200, 80, 160)
    annotation = (
        '<ASAP_Annotations><Annotations><Annotation PartOfGroup="_0"><Coordinates>'
        '<Coordinate X="0" Y="256"/><Coordinate X="255" Y="256"/><Coordinate X="255" Y="383"/>'
        '<Coordinate X="0" Y="383"/></Coordinates></Annotation></Annotations></ASAP_Annotations>'
    )
    for name in ("training/normal/normal_101", "training/tumor/tumor_001", "testing/images/test_001"):
        path = root / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {"tile": (256, 256), "photometric": "rgb", "compression": "zlib"}
        with tifffile.TiffWriter(path) as writer:
            size = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
            writer.write(slide, subifds=1, **options, **size)
            writer.write(slide[::4, ::4], subfiletype=1, **options)
    text(root / "training/lesion_annotations/tumor_001.xml", annotation)


def glas(root):
    rows = ["name, patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    for number in range(1, 7):
        name = ("train_", "testA_")[number % 2] + str(number)
        picture(root / f"Warwick/{name}.bmp")
        picture(root / f"Warwick/{name}_anno.bmp", (9, 10), high=5)
        rows.append(f"{name}, {number // 2 + 1}, benign, adenomatous")
    text(root / "Warwick/Grade.csv", *rows)


def mitos_atypia(root):
    for slide in ("03", "04", "06"):
        for scanner, shape in (("A", (12, 13, 3)), ("H", (14, 15, 3))):
            for frame in ("00A", "00B"):
                for size in ("x20", "x10"):
                    name = f"{scanner}{slide}_{frame}.tiff"
                    picture(root / f"{scanner}{slide}/{scanner}{slide}/frames/{size}/{name}", shape)


def dsb2018(root):
    for number in range(2):
        name = f"{number:064x}"
        picture(root / f"stage1_train/{name}/images/{name}.png", (9, 10, 4))
        for nucleus in range(3):
            mask(root / f"stage1_train/{name}/masks/{nucleus}{name[1:]}.png")
    name = f"{7:064x}"
    picture(root / f"stage1_test/{name}/images/{name}.png", (9, 10, 4))
    text(root / "stage1_solution.csv", "ImageId,EncodedPixels,Height,Width,Usage",
         f"{name},1 2 10 3,9,10,Public", f"{name},21 1,9,10,Public")  # fmt: skip


def cell_tracking(root):
    for name in SETS["cell_tracking"].forms:
        for real in ("PhC-C2DH-U373", "DIC-C2DH-HeLa", "Fluo-N2DH-SIM+"):
            if name not in ("transmitted_light", "fluo_n2dh_sim_plus"):
                continue
            for sequence in ("01", "02"):
                dtype = np.uint16 if "SIM" in real else np.uint8
                for frame in range(2):
                    for path, kind in (
                        (f"{sequence}/t00{frame}.tif", dtype),
                        (f"{sequence}_{'GT' if 'SIM' in real else 'ST'}/SEG/man_seg00{frame}.tif", np.uint16),
                    ):
                        (root / real / path).parent.mkdir(parents=True, exist_ok=True)
                        tifffile.imwrite(root / real / path, CHANCE.integers(0, 200, (9, 10)).astype(kind))
                    for frame_alone in ("t005.tif",):
                        tifffile.imwrite(root / real / sequence / frame_alone, np.zeros((9, 10), dtype))


# Name: what makes the fake, and the form that is read (None: the first, or all).
FAKES = {
    "drive": drive, "stare": stare, "chase_db1": chase_db1, "hrf": hrf, "messidor": messidor,
    "rim_one_dl": rim_one_dl, "ixi": ixi, "lpba40": lpba40, "ibsr18": ibsr18, "adni": adni, "hcp": hcp,
    "msd_brain_tumours": decathlon("Task01_BrainTumour", "BRATS", channels=4),
    "msd_hippocampus": decathlon("Task04_Hippocampus", "hippocampus"),
    "msd_liver": decathlon("Task03_Liver", "liver"),
    "msd_prostate": decathlon("Task05_Prostate", "prostate", channels=2),
    "msd_spleen": decathlon("Task09_Spleen", "spleen"),
    "cumc12": klein("m", 12), "mgh10": klein("g", 10), "lidc_idri": lidc_idri, "ldct": ldct, "jsrt": jsrt,
    "montgomery": montgomery, "acdc": acdc, "mm_whs": mm_whs, "prostatex": prostatex, "verse": verse,
    "csi2014": csi2014, "fastmri": fastmri, "isic2017": isic2017, "isic2018": isic2018,
    "camelyon16": camelyon16, "glas": glas, "mitos_atypia": mitos_atypia, "dsb2018": dsb2018,
    "cell_tracking": cell_tracking,
}  # fmt: skip
# Forms that the fakes have no files for.
OTHER_FORMS = {("lpba40", "klein2009"), ("ibsr18", "klein2009")} | {
    ("cell_tracking", form)
    for form in SETS["cell_tracking"].forms
    if form not in ("transmitted_light", "fluo_n2dh_sim_plus")
}
# Parts of sets whose number of cases is known; the fakes have fewer.
FEWER = {"messidor", "jsrt", "montgomery", "acdc", "mm_whs", "isic2017", "isic2018", "glas", "dsb2018"}


def fewer(public):
    """The set as if it had only as many cases as are there."""

    def cut(part: Part) -> Part:
        return dataclasses.replace(part, count=None, expected=None)

    return dataclasses.replace(public, forms={n: tuple(map(cut, parts)) for n, parts in public.forms.items()})


@pytest.fixture(scope="module", autouse=True)
def small_radiographs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "JSRT_SIDE", SIDE)
        yield


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    """name -> folder of the fake, made once."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            FAKES[name](made[name])
        return made[name]

    return make


def test_every_set_has_a_fake():
    assert FAKES.keys() == SETS.keys() == BUILDERS.keys()


@pytest.mark.parametrize("name", FAKES)
def test_every_case_is_read_in_the_features_that_are_declared(name, fake):
    public = fewer(SETS[name]) if name in FEWER else SETS[name]
    for form in public.forms:
        if (name, form) in OTHER_FORMS:
            continue
        splits = find_cases(public, form, fake(name))
        assert {"train", "test"} <= splits.keys() <= {"train", "validation", "test", UNLABELLED}
        owners = {}
        for split, cases in splits.items():
            for case in cases:
                assert owners.setdefault(case.subject, split) == split
        features = declared_features(public.fields(form))
        for split, cases in splits.items():
            records = read_case(name, form, cases[0])
            assert not isinstance(records, str), records
            for id, record in records:
                assert record["id"] == id and record.keys() == features.keys()
                for field, feature in features.items():
                    feature.encode_example(record[field])
                if "affine" in record and split != UNLABELLED:
                    norms = np.linalg.norm(record["affine"][:3, :3], axis=0)
                    np.testing.assert_allclose(norms, record["spacing"], atol=1e-5)


@pytest.mark.parametrize("name", FAKES)
def test_a_missing_file_is_named(name, fake, tmp_path):
    public = fewer(SETS[name]) if name in FEWER else SETS[name]
    form = next(form for form in public.forms if (name, form) not in OTHER_FORMS)
    part = public.forms[form][0]
    last = [field for field in part.fields if not field.optional and field.name != "centre"][-1]
    case = find_cases(public, form, fake(name))["train"][-1]
    moved = list(case.files[last.name])
    for path in moved:
        path.rename(path.with_name("." + path.name))
    try:
        with pytest.raises(UserError) as error:
            # Where nothing else tells of a case, only the count does.
            find_cases(SETS[name] if len(part.fields) == 1 else public, form, fake(name))
            raise UserError(f"{name}: files are missing: nothing tells of {moved[0].stem}")
    finally:
        for path in moved:
            path.with_name("." + path.name).rename(path)
    message = str(error.value)
    assert message.startswith(f"{name}: ") and "missing" in message and "\n" not in message
    fixed = last.templates[0].rsplit("/", 1)[-1]
    if len(part.fields) > 1 and "*" not in fixed and last.templates[0] != part.fields[0].templates[0]:
        assert moved[0].name.casefold() in message.casefold()


@pytest.mark.parametrize("name", sorted(FEWER))
def test_a_half_extracted_archive_is_counted(name, fake):
    with pytest.raises(UserError, match=rf"{name}: \d+ files are missing in .*: .*data list {name}"):
        find_cases(SETS[name], next(iter(SETS[name].forms)), fake(name))


def records(name, form, fake, split="train"):
    public = fewer(SETS[name]) if name in FEWER else SETS[name]
    return [read_case(name, form, case)[0][1] for case in find_cases(public, form, fake(name))[split]]


def test_hounsfield_units_and_axes_of_dicom(fake):
    record = records("ldct", "abdomen", fake)[0]
    path = sorted((fake("ldct") / f"LDCT-and-Projection-data/{record['subject']}").rglob("*Low*/*.dcm"))[1]
    stored = pydicom.dcmread(path)
    assert record["image"].dtype == np.int16
    np.testing.assert_array_equal(record["image"][1, ..., 0], stored.pixel_array.astype(int) - 1024)
    assert record["target"].shape == record["image"].shape
    np.testing.assert_allclose(record["spacing"], (2.5, 0.7, 0.8))


def test_volumes_have_the_geometry_of_their_files(fake):
    record = records("msd_spleen", "", fake)[0]
    assert record["image"].shape == (8, 7, 6, 1)
    np.testing.assert_allclose(record["affine"] @ (1, 2, 3, 1), AFFINE @ (3, 2, 1, 1))
    record = records("cumc12", "", fake)[0]
    assert record["label"].shape == record["image"].shape == (8, 7, 6, 1)


def test_nodules_are_votes_of_readers(fake):
    record = records("lidc_idri", "", fake)[0]
    expected = np.zeros((3, 8, 9, 1))
    expected[1, 3:5, 3:5] = 1
    np.testing.assert_array_equal(record["nodule"], expected)


def test_radiographs_of_jsrt_are_bright_where_bone_is(fake):
    record = records("jsrt", "", fake)[0]
    assert record["image"].shape == (SIDE, SIDE, 1) and record["mask"].shape == (SIDE, SIDE, 5)
    stored = np.fromfile(fake("jsrt") / "All247images/JPCLN001.IMG", ">u2").reshape(SIDE, SIDE)
    np.testing.assert_array_equal(record["image"][..., 0], 4095 - stored)
    heart = np.asarray(Image.open(fake("jsrt") / "scr/fold1/masks/heart/JPCLN001.gif").convert("L")) > 0
    np.testing.assert_array_equal(record["mask"][::2, 1::2, 2], heart)


def test_centroids_of_any_direction_are_places_in_the_array(fake):
    record = records("verse", "", fake)[0]
    place = record["centroids"][0]
    assert place[0] == 20
    # The file's axes run to the left (6 voxels), to the front (7) and up (8), the point's the other way.
    np.testing.assert_allclose(place[1:], (7 - 2, 6 - 1, 5 - 3))


def test_kspace_and_subjects_of_fastmri(fake):
    splits = find_cases(SETS["fastmri"], "knee_multicoil", fake("fastmri"))
    # The subject of a validation file is in training, too: the test part keeps it.
    assert {case.subject for case in splits["test"]} == {"patient0", "patient5"}
    assert len(splits["train"]) == 3
    case = splits["train"][0]
    record = read_case("fastmri", "knee_multicoil", case)[0][1]
    with h5py.File(case.files["image"][0]) as file:
        kspace = file["kspace"][()]
    np.testing.assert_array_equal(record["kspace"][..., 2] + 1j * record["kspace"][..., 3], kspace[:, 1])
    assert records("fastmri", "brain_multicoil", fake)[0]["image"].shape == (3, 5, 5, 1)


def test_runs_and_joined_masks_are_label_maps(fake):
    label = records("dsb2018", "", fake, "test")[0]["label"][..., 0]
    expected = np.zeros((9, 10), int)
    expected[0:2, 0], expected[0:3, 1], expected[2, 2] = 1, 1, 2
    np.testing.assert_array_equal(label, expected)
    assert records("dsb2018", "", fake)[0]["label"].max() == 3


def test_tiles_of_slides(fake):
    public = SETS["camelyon16"]
    cases = find_cases(public, "", fake("camelyon16"))["train"]
    found = {case.id: dict(read_case("camelyon16", "", case)) for case in cases}
    tiles = found["tumor_001"]
    assert sorted(tiles) == [f"tumor_001-{row}-{column}" for row in (1, 2) for column in (0, 1)]
    first = tiles["tumor_001-1-0"]
    assert first["image"].shape == (slides.SIDE, slides.SIDE, 3) and (first["image"] == (200, 80, 160)).all()
    assert abs(first["tumour"] - 0.5) < 0.01 and tiles["tumor_001-2-0"]["tumour"] == 0
    assert first["centre"] == "radboud" and found["normal_101"]["normal_101-1-0"]["centre"] == "utrecht"


def test_findings_classes_and_groups(fake):
    found = records("prostatex", "", fake)
    np.testing.assert_allclose(found[0]["findings"][0, 1:], (-25.7457, -31.8707, -38.511), rtol=1e-5)
    assert {record["group"] for record in records("acdc", "", fake)} == {"DCM"}
    assert {int(record["label"]) for record in records("isic2017", "", fake)} == {0, 1, 2}
    assert {record["group"] for record in records("adni", "t1", fake)} <= {"AD", "CN"}
    lesions = find_cases(fewer(SETS["isic2018"]), "diagnosis", fake("isic2018"))
    assert sum(len(cases) for cases in lesions.values()) == 8
    assert len({case.subject for cases in lesions.values() for case in cases}) == 4


@pytest.mark.parametrize("processes", [1, 2])
def test_a_set_is_prepared_and_opened(fake, tmp_path, processes):
    folder = catalogue.prepare("drive", tmp_path, manual=fake("drive"), processes=processes)
    assert folder == tmp_path / "drive/withheld/1.0.0"
    train, test, rest = (
        open_prepared("drive", split=split, directory=tmp_path) for split in ("train", "test", UNLABELLED)
    )
    assert len(train) + len(open_prepared("drive", split="validation", directory=tmp_path)) == 16
    assert len(test) == 4 and len(rest) == 20 and not set(train.subjects) & set(test.subjects)
    record = test[0]
    image = np.asarray(Image.open(fake("drive") / f"DRIVE/training/images/{record['id']}_training.tif"))
    np.testing.assert_array_equal(record["image"], image)
    vessels = Image.open(fake("drive") / f"DRIVE/training/1st_manual/{record['id']}_manual1.gif")
    np.testing.assert_array_equal(record["vessels"][..., 0], np.asarray(vessels.convert("L")) > 0)
    assert "vessels" not in rest[0] and "image" in rest[0]
    assert test.shapes("image") == [(9, 10, 3)] * 4 and rest.shapes("vessels") is None


def test_volumes_are_prepared_without_loss(fake, tmp_path):
    catalogue.prepare("msd_brain_tumours", tmp_path, manual=fake("msd_brain_tumours"))
    source = open_prepared("msd_brain_tumours", split="test", directory=tmp_path)
    record = source[0]
    file = nibabel.load(
        fake("msd_brain_tumours") / f"Task01_BrainTumour/imagesTr/BRATS_{record['id']}.nii.gz"
    )
    np.testing.assert_array_equal(record["image"], np.asarray(file.dataobj).transpose(2, 1, 0, 3))
    np.testing.assert_allclose(record["affine"] @ (1, 2, 3, 1), AFFINE @ (3, 2, 1, 1))


def test_a_damaged_file_is_named_or_left_out(fake, tmp_path, capfd):
    root = tmp_path / "hippocampus"
    FAKES["msd_hippocampus"](root)
    path = root / "Task04_Hippocampus/imagesTr/hippocampus_003.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"hippocampus_003\.nii\.gz.*--skip_refused"):
        catalogue.prepare("msd_hippocampus", tmp_path, manual=root)
    catalogue.prepare("msd_hippocampus", tmp_path, manual=root, skip_refused=True)
    assert "left out" in capfd.readouterr().err
    splits = ("train", "validation", "test")
    sources = [open_prepared("msd_hippocampus", split=split, directory=tmp_path) for split in splits]
    assert sorted(id for source in sources for id in source.ids) == ["001", "002", "004", "005", "006"]


def test_label_and_image_on_different_grids_are_refused(tmp_path):
    FAKES["msd_spleen"](tmp_path)
    moved = AFFINE.copy()
    moved[0, 3] += 2
    nifti(tmp_path / "Task09_Spleen/labelsTr/spleen_001.nii.gz", np.uint8, affine=moved)
    cases = [case for cases in find_cases(SETS["msd_spleen"], "", tmp_path).values() for case in cases]
    line = read_case("msd_spleen", "", next(case for case in cases if case.id == "001"))
    assert "differ in affine" in line and "90.0" in line and "92.0" in line


def test_values_that_would_change_are_refused(tmp_path):
    FAKES["msd_spleen"](tmp_path)
    path = tmp_path / "Task09_Spleen/imagesTr/spleen_001.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.full(SHAPE, 0.5, np.float32), AFFINE), path)
    cases = [case for cases in find_cases(SETS["msd_spleen"], "", tmp_path).values() for case in cases]
    line = read_case("msd_spleen", "", next(case for case in cases if case.id == "001"))
    assert "int16 cannot store exactly" in line and "spleen_001" in line


@pytest.mark.parametrize(
    ("state", "message"),
    [("absent", "which does not exist"), ("empty", "which is empty"), ("file", "which is a file")],
)
def test_what_has_to_be_fetched_is_one_line(tmp_path, state, message):
    folder = tmp_path / "downloads/manual/stare"
    folder.parent.mkdir(parents=True)
    if state != "absent":
        folder.mkdir() if state == "empty" else folder.write_text("")
    with pytest.raises(UserError, match=f"fetched by hand into .*stare, {message}.*data list stare") as error:
        catalogue.prepare("stare", tmp_path)
    assert "\n" not in str(error.value)


def test_a_set_of_another_name_is_not_found_in_this_folder(fake):
    with pytest.raises(UserError, match="stare: 60 files are missing"):
        find_cases(SETS["stare"], "", fake("drive"))


def test_instructions_are_steps_with_licence_and_terms():
    for public in SETS.values():
        said = BUILDERS[public.name].MANUAL_DOWNLOAD_INSTRUCTIONS
        assert public.licence in said and public.terms.startswith("http") and public.terms in said
        assert said.splitlines()[1].startswith("1. ") and len(public.steps) >= 1
