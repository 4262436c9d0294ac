"""Sources: what each layout of a folder becomes, how records are split, and what a bad folder says."""

import csv
import functools
import os
import pathlib
import subprocess
import sys

import jax
import nibabel
import numpy as np
import pytest
from PIL import Image

from medgan_jax.data.sources import (
    SPLITS,
    ArraySource,
    PhantomSource,
    cached,
    common_shape,
    joined,
    mapped,
    open_domains,
    open_folder,
    open_source,
    split_validation,
    subset,
    where,
)
from medgan_jax.errors import UserError
from medgan_jax.phantoms.fundus import vessel_tree

REAL = pathlib.Path(os.environ.get("MEDGAN_JAX_TEST_DATA", "nowhere"))
VOC = (
    "<annotation>{}</annotation>",
    "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>",
)


def picture(
    path: pathlib.Path, seed: int = 0, size: tuple[int, ...] = (8, 10), binary: bool = False
) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)
    values = np.where(values > 127, 255, 0).astype(np.uint8) if binary else values
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def table(path: pathlib.Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def tabled(tmp_path):
    """Twelve subjects with two images and masks each, the last two in the test part."""
    rows = []
    for subject in range(12):
        for side in "ab":
            name = f"{subject:02d}{side}"
            picture(tmp_path / "images" / f"{name}.png", seed=subject)
            picture(tmp_path / "masks" / f"{name}.png", seed=subject, binary=True)
            split = "test" if subject >= 10 else "train"
            rows.append(
                {
                    "id": name,
                    "subject": f"{subject:02d}",
                    "split": split,
                    "label": "sick" if side == "a" else "fit",
                }
            )
    table(tmp_path / "split.csv", rows)
    return tmp_path


def parts(folder: pathlib.Path) -> list:
    return [open_folder(folder, split=split) for split in SPLITS]


def assert_disjoint(sources) -> None:
    subjects = [set(source.subjects) for source in sources]
    assert sum(len(group) for group in subjects) == len(set.union(*subjects))


def test_table_gives_the_parts_by_subject(tabled):
    train, validation, test = parts(tabled)
    assert (len(train), len(validation), len(test)) == (16, 4, 4)
    assert_disjoint([train, validation, test])
    assert test.ids == ("10a", "10b", "11a", "11b")
    assert train.name == tabled.name


def test_record_holds_natural_units_and_binary_masks(tabled):
    test = open_folder(tabled, split="test")
    record = test[0]
    expected = np.asarray(Image.open(tabled / "images/10a.png"))
    assert record["image"].dtype == np.float32 and record["image"].shape == (8, 10, 1)
    np.testing.assert_array_equal(record["image"][..., 0], expected)
    assert record["mask"].dtype == np.int32
    np.testing.assert_array_equal(record["mask"][..., 0], expected > 127)
    assert record["id"] == "10a" and record["subject"] == "10"
    assert test.class_names == ("fit", "sick") and record["label"] == 1 and test[1]["label"] == 0
    assert test.path(0) == tabled / "images/10a.png"


def test_fingerprint_follows_the_content_and_not_the_place(tabled, tmp_path):
    before = open_folder(tabled, split="test").fingerprint
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    tabled.rename(moved)
    assert open_folder(moved, split="test").fingerprint == before
    picture(moved / "images/11b.png", seed=99)
    assert open_folder(moved, split="test").fingerprint != before


def test_explicit_validation_rows_are_kept(tmp_path):
    splits = {"a": "train", "b": "train", "c": "val", "d": "test"}
    for name in splits:
        picture(tmp_path / "images" / f"{name}.png")
    table(tmp_path / "split.csv", [{"id": name, "split": split} for name, split in splits.items()])
    assert [source.ids for source in parts(tmp_path)] == [("a", "b"), ("c",), ("d",)]


def test_flat_folder_is_split_by_the_subject_in_the_name(tmp_path):
    for subject in range(10):
        for number in range(3):
            picture(tmp_path / f"p{subject}_slice{number}.png", seed=subject)
    sources = parts(tmp_path)
    assert [len(source) for source in sources] == [18, 6, 6]
    assert_disjoint(sources)
    assert {subject for source in sources for subject in source.subjects} == {f"p{n}" for n in range(10)}


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("p01_slice12", "p01"),
        ("IM-0001-0005", "IM-0001"),
        ("sub-07_ses-1_T1w", "sub-07"),
        ("benign_015", "benign_015"),
        ("001a", "001a"),
    ],
)
def test_subject_from_a_name(tmp_path, name, subject):
    picture(tmp_path / f"{name}.png")
    for other in ("q1", "q2", "q3", "q4", "q5"):
        picture(tmp_path / f"{other}.png")
    assert subject in {found for source in parts(tmp_path) for found in source.subjects}


def test_sub_folders_are_the_parts(tmp_path):
    for name in "abcde":
        picture(tmp_path / "training/images" / f"{name}.png")
        picture(tmp_path / "training/labels" / f"{name}.png")
    picture(tmp_path / "test/images/x.png")
    picture(tmp_path / "test/labels/x.png")
    train, validation, test = parts(tmp_path)
    assert sorted(train.ids + validation.ids) == list("abcde") and len(validation) == 1
    assert test.ids == ("x",) and test[0]["label"].dtype == np.int32


def test_paired_folders_name_the_fields(tmp_path):
    for part in ("train", "test"):
        for name in "abcd":
            picture(tmp_path / part / "ct" / f"{name}.png", seed=1)
            picture(tmp_path / part / "mr" / f"{name}.png", seed=2, binary=True)
    record = open_folder(tmp_path, split="test")[0]
    assert set(record) == {"ct", "mr", "id", "subject"}
    assert record["mr"].dtype == np.float32 and record["mr"].max() == 255


def test_domains_beside_a_table(tmp_path):
    rows = []
    for domain in ("pink", "purple"):
        for number in range(6):
            name = f"{domain}{number}"
            picture(tmp_path / domain / "images" / f"{name}.png")
            rows.append({"id": name, "domain": domain, "split": "test" if number == 5 else "train"})
    table(tmp_path / "split.csv", rows)
    domains = open_domains(tmp_path, split="train")
    assert {name: len(source) for name, source in domains.items()} == {"pink": 4, "purple": 4}
    whole = open_folder(tmp_path, split="train")
    assert len(whole) == 8 and where(whole, domain="pink").ids == domains["pink"].ids
    assert open_folder(tmp_path / "pink", split="test").ids == ("pink5",)


@pytest.mark.parametrize("layout", ["{part}{domain}", "{part}/{domain}"])
def test_unpaired_domains_by_part(tmp_path, layout):
    counts = {("train", "A"): 5, ("train", "B"): 10, ("test", "A"): 2, ("test", "B"): 3}
    for (part, domain), count in counts.items():
        for number in range(count):
            picture(tmp_path / layout.format(part=part, domain=domain) / f"{part}{domain}{number}.png")
    for split, sizes in {"train": (4, 8), "validation": (1, 2), "test": (2, 3)}.items():
        domains = open_domains(tmp_path, split=split)
        assert tuple(len(domains[name]) for name in "AB") == sizes


def test_lists_of_names_and_boxes(tmp_path):
    for number, kind in enumerate(["WBC", "RBC", "RBC"]):
        picture(tmp_path / "images" / f"{number}.png")
        xml = tmp_path / "annotations" / f"{number}.xml"
        xml.parent.mkdir(exist_ok=True)
        xml.write_text(VOC[0].format(VOC[1].format(kind, 1, 2, 3, 4) * number))
    (tmp_path / "splits").mkdir()
    for part, names in {"train": "0\n", "val": "1\n", "test": "2\n", "trainval": "0\n1\n"}.items():
        (tmp_path / "splits" / f"{part}.txt").write_text(names)
    train, validation, test = parts(tmp_path)
    assert (train.ids, validation.ids, test.ids) == (("0",), ("1",), ("2",))
    assert train[0]["boxes"].shape == (0, 4) and test.class_names == ("RBC",)
    np.testing.assert_array_equal(test[0]["boxes"], [[2, 1, 4, 3]] * 2)
    np.testing.assert_array_equal(test[0]["box_labels"], [0, 0])


def test_volumes_and_series_of_files(tmp_path):
    for name in "abcdef":
        values = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
        (tmp_path / "images").mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "images" / f"{name}.nii.gz")
    train, validation, test = parts(tmp_path)
    assert sorted(train.ids + validation.ids + test.ids) == list("abcdef")
    assert sorted(train[0]["image"].shape) == [1, 4, 5, 6] and train[0]["image"].shape[-1] == 1


def test_archive_with_slope_and_intercept(tmp_path):
    raw = np.arange(10 * 6 * 6, dtype=np.int16).reshape(10, 6, 6)
    for part in ("train", "test"):
        np.savez(
            tmp_path / f"{part}.npz",
            raw=raw,
            slope=np.full(10, 0.5),
            intercept=np.full(10, -1024.0),
            patient=np.array([f"{part}{n // 2}" for n in range(10)]),
            contrast=np.arange(10) % 2,
            ids=np.array([f"{part}-{n}" for n in range(10)]),
        )
    train, validation, test = parts(tmp_path)
    assert (len(train), len(validation), len(test)) == (8, 2, 10)
    assert_disjoint([train, validation, test])
    assert test[3]["image"].dtype == np.float32
    np.testing.assert_array_equal(test[3]["image"][..., 0], raw[3] * 0.5 - 1024)
    assert test[3]["contrast"] == 1 and len(where(test, contrast=1)) == 5 and test.ids[3] == "test-3"


def test_archive_with_label_maps_and_class_names(tmp_path):
    images = np.zeros((4, 6, 6, 3), np.uint8)
    np.savez(tmp_path / "train.npz", images=images, labels=np.ones((4, 6, 6), np.uint16))
    np.savez(
        tmp_path / "test.npz", images=images, labels=np.arange(4), class_names=np.array(["a", "b", "c", "d"])
    )
    train, test = open_folder(tmp_path, split="train"), open_folder(tmp_path, split="test")
    assert train[0]["image"].shape == (6, 6, 3) and train[0]["label"].shape == (6, 6, 1)
    assert test[2]["label"] == 2 and test.class_names == ("a", "b", "c", "d")


def test_binary_masks_of_archives_are_zeros_and_ones(tmp_path):
    masks = np.where(np.random.default_rng(0).random((4, 6, 6)) > 0.5, 255, 0).astype(np.uint8)
    np.savez(
        tmp_path / "test.npz", images=np.zeros((4, 6, 6), np.float32), masks=masks, vessels=masks, slope=2.0
    )
    record = open_folder(tmp_path, split="test")[1]
    for field in ("mask", "vessels"):
        assert record[field].dtype == np.int32
        np.testing.assert_array_equal(record[field][..., 0], masks[1] // 255)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": np.zeros((2, 4, 4))}, r"neither an array 'images' nor 'raw'; it has pictures"),
        ({"images": np.zeros((2, 4))}, r"images of shape \(2, 4\)"),
        ({"images": np.full((2, 4, 4), np.inf)}, r"'image' of record 0 holds NaN or infinity"),
        ({"raw": np.zeros((2, 4, 4)), "slope": np.ones(3)}, r"'slope' has \(3,\) values for 2 images"),
    ],
)
def test_bad_archives_are_named(tmp_path, arrays, message):
    np.savez(tmp_path / "test.npz", **arrays)
    with pytest.raises(UserError, match=rf"test\.npz.*{message}"):
        open_folder(tmp_path, split="test")


def test_archives_of_objects_are_refused(tmp_path):
    np.savez(tmp_path / "train.npz", images=np.array([{}, {}], object))
    with pytest.raises(UserError, match=r"train\.npz.*objects"):
        open_folder(tmp_path, split="train")


def broken(folder: pathlib.Path, what: str) -> pathlib.Path:
    """The folder of `tabled`, spoiled in one way."""
    images = folder / "images"
    match what:
        case "missing":
            return folder / "none"
        case "file":
            return folder / "split.csv"
        case "empty":
            (folder / "hollow").mkdir()
            return folder / "hollow"
        case "no images":
            (folder / "text").mkdir()
            (folder / "text/notes.txt").write_text("none")
            return folder / "text"
        case "truncated":
            content = (images / "03a.png").read_bytes()
            (images / "03a.png").write_bytes(content[: len(content) // 2])
        case "not a number":
            values = np.full((4, 4, 4), np.nan, np.float32)
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), images / "03a.nii")
            (images / "03a.png").unlink()
        case "no partner":
            (folder / "masks/03a.png").unlink()
        case "two of one name":
            picture(images / "03a.tif")
        case "split subject":
            text = (folder / "split.csv").read_text()
            (folder / "split.csv").write_text(text.replace("03a,03,train", "03a,03,test"))
        case "twice":
            with (folder / "split.csv").open("a") as file:
                file.write("03a,03,train,sick\n")
        case "blank id":
            with (folder / "split.csv").open("a") as file:
                file.write(",03,train,sick\n")
        case "no id":
            (folder / "split.csv").write_text("name,split\n03a,train\n")
        case "no such part":
            text = (folder / "split.csv").read_text()
            (folder / "split.csv").write_text(text.replace("train", "extra"))
    return folder


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", "none does not exist"),
        ("file", "is a file, not a folder"),
        ("empty", "hollow is empty"),
        ("no images", r"text holds no images.*\.png"),
        ("truncated", r"03a\.png"),
        ("not a number", r"03a\.nii.*NaN"),
        ("no partner", "'03a' of split.csv has no partner among the files of 'mask'"),
        ("two of one name", r"03a\.png and 03a\.tif"),
        ("split subject", "subject '03' in test and in train"),
        ("twice", "names '03a' twice"),
        ("no id", "no column 'id'"),
        ("blank id", "no id in line 26"),
        ("no such part", r"no part 'train', only extra \(20\), test \(4\)"),
    ],
)
def test_a_bad_folder_is_one_clear_line(tabled, what, message):
    with pytest.raises(UserError, match=message) as error:
        for split in SPLITS:
            open_folder(broken(tabled, what), split=split)
            what = "nothing"
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("shape", "shift", "message"),
    [
        ((4, 5, 6), 0.5, r"differ in affine: .*-90\.0.* and .*-89\.5"),
        ((4, 5, 7), 0.0, r"differ in size: \[6, 5, 4\] and \[7, 5, 4\]"),
        ((4, 5, 6), 1e-5, None),
    ],
)
def test_a_label_on_another_grid_is_refused_with_both(tmp_path, shape, shift, message):
    for number in range(6):
        for folder, size, move in (("images", (4, 5, 6), 0.0), ("labels", shape, shift)):
            affine = np.diag([1.5, 1.5, 3, 1.0])
            affine[0, 3] = -90 + (move if number == 3 else 0)
            size = size if number == 3 else (4, 5, 6)
            (tmp_path / folder).mkdir(exist_ok=True)
            volume = nibabel.Nifti1Image(np.ones(size, np.int16), affine)
            nibabel.save(volume, tmp_path / folder / f"case{number}.nii.gz")
    if message is None:
        assert sum(map(len, parts(tmp_path))) == 6
        return
    with pytest.raises(UserError, match=rf"images/case3.*labels/case3.* {message}"):
        parts(tmp_path)


def test_masks_of_another_size_in_an_archive_are_refused(tmp_path):
    images, masks = np.zeros((6, 8, 9), np.uint8), np.zeros((6, 4, 9), np.uint8)
    np.savez(tmp_path / "train.npz", images=images, masks=masks)
    with pytest.raises(UserError, match=r"'mask' is \(6, 4, 9\) and the images are \(6, 8, 9\)"):
        open_folder(tmp_path, split="train")


@pytest.mark.parametrize(("missing", "named"), [("A", "B/x.png"), ("B", "A/x.png")])
def test_pairs_that_do_not_match_are_named(tmp_path, missing, named):
    for folder in "AB":
        for name in "abcdx":
            picture(tmp_path / folder / f"{name}.png")
    (tmp_path / missing / "x.png").unlink()
    with pytest.raises(UserError, match=r"x.*has no partner"):
        open_folder(tmp_path, split="train")
    assert len(open_domains(tmp_path, split="train")) == 2


def test_mixed_sizes_are_named(tmp_path):
    for number in range(6):
        picture(tmp_path / f"{number}.png", size=(8 + number, 8))
    source = open_folder(tmp_path, split="train")
    with pytest.raises(UserError, match=r"mixes sizes.*choose an image size"):
        common_shape(source)
    cut = mapped(source, lambda record: {**record, "image": record["image"][:8]})
    assert common_shape(cut) == (8, 8, 1)


def test_too_few_subjects_to_split(tmp_path):
    picture(tmp_path / "p1_1.png")
    picture(tmp_path / "p1_2.png")
    with pytest.raises(UserError, match=r"has 1 subject.*split.csv"):
        open_folder(tmp_path, split="train")


def test_validation_depends_on_the_subjects_alone():
    subjects = [f"s{n % 20}" for n in range(60)]
    source = ArraySource({"image": np.zeros((60, 2, 2, 1), np.float32)}, subjects)
    train, validation = split_validation(source)
    assert len(set(validation.subjects)) == 4 and len(validation) == 12
    assert_disjoint([train, validation])
    turned = split_validation(subset(source, range(59, -1, -1)))[1]
    assert set(turned.subjects) == set(validation.subjects)


def test_array_source():
    arrays = {"image": np.random.default_rng(0).random((3, 2, 2, 1), np.float32), "label": np.arange(3)}
    source = ArraySource(arrays, ["a", "a", "b"], name="toy")
    assert len(source) == 3 and source[-1]["subject"] == "b" and source[1]["label"] == 1
    with pytest.raises(ValueError, match="read-only"):
        source[0]["image"][:] = 0
    with pytest.raises(IndexError):
        source[3]
    assert source.fingerprint == ArraySource(arrays, ["a", "a", "b"], name="toy").fingerprint
    assert (
        source.fingerprint
        != ArraySource({**arrays, "label": np.arange(3) + 1}, ["a", "a", "b"], name="toy").fingerprint
    )
    assert subset(source, [0]).fingerprint != subset(source, [1]).fingerprint
    arrays["image"][1, 0, 0] = np.nan
    with pytest.raises(UserError, match="'image' of '1' in 'toy' holds NaN"):
        ArraySource(arrays, name="toy")


def test_cached_records_are_read_once():
    reads = []

    def note(record):
        reads.append(record["id"])
        return record

    images = np.random.default_rng(0).random((4, 2, 2, 1), np.float32)
    source = cached(mapped(ArraySource({"image": images}), note))
    for index in (1, 2, 1, 2):
        np.testing.assert_array_equal(source[index]["image"], images[index])
        source[index]["image"] = None
    assert reads == ["1", "2"]
    with pytest.raises(ValueError, match="read-only"):
        source[1]["image"][:] = 0


def test_joined_domains():
    sources = {
        name: ArraySource({"image": np.full((count, 2, 2, 1), count, np.float32)}, name=name)
        for name, count in (("ct", 3), ("mr", 5))
    }
    both = joined(sources)
    assert len(both) == 3 and both[2]["id"] == "2|2"
    assert both[0]["ct"].max() == 3 and both[0]["mr"].max() == 5


def noise(key):
    return {"image": jax.random.normal(key, (4, 4, 1)), "label": jax.random.randint(key, (), 0, 9)}


def test_phantoms_depend_on_seed_part_and_index_alone():
    forwards = PhantomSource("noise", noise, 20, seed=3)
    backwards = PhantomSource("noise", noise, 11, seed=3)
    for index in (10, 9, 0):
        np.testing.assert_array_equal(backwards[index]["image"], forwards[index]["image"])
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), 0), 10)
    np.testing.assert_allclose(forwards[10]["image"], noise(key)["image"], rtol=1e-6)
    assert forwards.name == "phantom:noise" and isinstance(forwards[0]["image"], np.ndarray)


def test_phantoms_may_be_read_while_a_function_is_traced():
    first, again = (PhantomSource("traced", noise, 3, seed) for seed in (11, 11))
    traced = jax.jit(lambda x: x * again[1]["image"])(1.0)
    np.testing.assert_array_equal(traced, first[1]["image"])
    other = PhantomSource("traced", noise, 3, seed=12)
    np.testing.assert_array_equal(jax.jit(lambda x: x * other[2]["image"])(1.0), other[2]["image"])


DRAWING = """
import functools, hashlib, sys
import jax
from medgan_jax.data.sources import PhantomSource
from medgan_jax.phantoms.liver_lesions import liver_lesion_patch
from medgan_jax.phantoms.vessels import coronary_centreline

lesion = functools.partial(liver_lesion_patch, lesion=1, size=32)
artery = functools.partial(coronary_centreline, points=32)
print(len(jax.devices()))
with jax.default_device(jax.devices()[-1]):
    for generate in (lesion, artery):
        source = PhantomSource(generate.func.__name__, generate, 20, seed=3)
        for index in (19, 0, 8):
            for field, value in sorted(source[index].items()):
                if not isinstance(value, str):
                    print(source.name, index, field, hashlib.sha256(value.tobytes()).hexdigest())
"""


def drawing(devices: int) -> subprocess.Popen:
    """A process with so many devices, that draws on the last of them; nothing compiled comes from another one."""
    options = {
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    command = [sys.executable, "-c", DRAWING]
    return subprocess.Popen(command, env=os.environ | options, stdout=subprocess.PIPE, text=True)


def test_phantoms_are_the_same_on_any_number_of_devices():
    processes = [drawing(devices) for devices in (1, 8)]
    (one, *alone), (eight, *among) = [process.communicate()[0].splitlines() for process in processes]
    assert (one, eight) == ("1", "8")
    assert alone == among
    shapes = {line for line in alone if " image " in line or " centreline " in line}
    assert len({line.split()[-1] for line in shapes}) == 6


def test_no_two_subjects_of_a_population_are_alike():
    # A tree of vessels has no noise, which would make any two images differ.
    trees = functools.partial(vessel_tree, size=64)
    counts = dict(zip(SPLITS, (200, 50, 50), strict=True))
    sources = [PhantomSource("trees", trees, count, seed=3, split=split) for split, count in counts.items()]
    drawn = [source[index]["vessel_mask"] for source in sources for index in range(len(source))]
    assert len({mask.tobytes() for mask in drawn}) == 300


def test_phantoms_of_different_parts_and_seeds_differ():
    sources = [PhantomSource("noise", noise, 4, seed, split=split) for seed in (0, 1) for split in SPLITS]
    images = {source[0]["image"].tobytes() for source in sources}
    assert len(images) == 6 and len({source.fingerprint for source in sources}) == 6
    assert_disjoint(sources[:3])


def test_open_source_by_its_name(tabled):
    phantom = PhantomSource("noise", noise, 4, seed=0)
    assert open_source("phantom", split="train", phantom=lambda split: phantom) is phantom
    assert len(open_source(str(tabled), split="test", phantom=lambda split: phantom)) == 4


@pytest.mark.parametrize(
    ("name", "counts", "shape", "targets"),
    [
        ("retina_chase", (16, 4, 8), (960, 999, 3), {"fov", "vessels_1st", "vessels_2nd"}),
        ("nuclei_fluo_dsb2018", (199, 50, 85), (256, 256, 1), {"label"}),
        ("histology_stain_dsb2018", (56, 16, 31), (256, 320, 3), {"label"}),
        ("histology_stain_dsb2018/purple_white", (27, 8, 15), (256, 320, 3), {"label"}),
        ("cxr_lungs_nc", (18, 6, 12), None, {"mask"}),
        ("brain_mr_ixi", (112, 28, 60), (256, 256, 1), set()),
        ("hippocampus_mr3d", (80, 20, 40), None, {"label"}),
        (
            "ct_chest_tcga",
            (52, 13, 29),
            (512, 512, 1),
            {"contrast", "slope", "intercept", "pixel_spacing_mm"},
        ),
        ("mednist_6class", (2400, 600, 600), (64, 64, 1), {"label"}),
        ("blood_bccd", (205, 87, 72), (480, 640, 3), {"boxes", "box_labels"}),
        ("us_breast_busi", (76, 19, 40), None, {"mask", "label"}),
    ],
)
def test_the_real_sets_open_by_the_general_rules(name, counts, shape, targets):
    if not (REAL / name).is_dir():
        pytest.skip(f"{REAL / name} is not here: MEDGAN_JAX_TEST_DATA names the folder of the real data")
    sources = parts(REAL / name)
    assert tuple(len(source) for source in sources) == counts
    assert_disjoint(sources)
    for source in sources:
        record = source[len(source) // 2]
        assert {field for field, value in record.items() if not isinstance(value, str)} == {"image", *targets}
        assert record["image"].dtype == np.float32 and record["image"].ndim in (3, 4)
        assert shape is None or record["image"].shape == shape
        assert len(source.fingerprint) == 64


@pytest.mark.skipif(not REAL.is_dir(), reason="MEDGAN_JAX_TEST_DATA names no folder")
def test_real_domains_and_classes():
    domains = open_domains(REAL / "histology_stain_dsb2018", split="train")
    assert set(domains) == {"purple_purple", "purple_white"}
    normal = where(open_folder(REAL / "us_breast_busi", split="test"), label="normal")
    assert all(normal[index]["mask"].max() == 0 for index in range(3))
    lesions = where(open_folder(REAL / "us_breast_busi", split="test"), label="malignant")
    assert set(np.unique(lesions[0]["mask"])) == {0, 1}
