"""Folders keep subjects apart and images on one grid: what is refused, and what looks like it and is not."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from medgan_jax.data.sources import SPLITS, open_domains, open_folder
from medgan_jax.errors import UserError

SHAPE = (4, 5, 6)


def picture(path, seed=0, size=(8, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)).save(path)


def volume(path, moved=0.0, spacing=1.5, shape=SHAPE, values=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[0, 3] = moved
    stored = np.random.default_rng(0).integers(0, values, shape).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(stored, affine), path)


def opened(folder):
    return [open_folder(folder, split=split) for split in SPLITS]


def refused(folder, *words, split="train", opening=open_folder):
    with pytest.raises(UserError) as error:
        opening(folder, split=split)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


# Subjects


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(
    ("train", "test", "subject"),
    [
        ("p0{}_1", "p0{}_2", "p00"),
        ("sub-0{}_ses-1", "sub-0{}_ses-2", "sub-00"),
        ("sub-0{}", "sub-0{}", "sub-00"),
        ("p0{}", "p0{}_2", "p00"),
        ("p0{}_1", "p0{}", "p00"),
    ],
)
def test_a_subject_of_a_name_is_in_one_part(tmp_path, split, train, test, subject):
    for number in range(4):
        picture(tmp_path / "train" / f"{train.format(number)}.png")
        picture(tmp_path / "test" / f"{test.format(number + 3 * (number > 0))}.png")
    words = f"subject '{subject}' in train and in test", f"{train.format(0)}.png", f"{test.format(0)}.png"
    refused(tmp_path, *words, split=split)


def test_a_subject_of_a_name_is_in_one_part_of_a_domain(tmp_path):
    for domain in "AB":
        for number in range(4):
            picture(tmp_path / f"train{domain}" / f"p{number}_1.png")
            picture(tmp_path / f"test{domain}" / f"p{number + 3}_1.png")
    refused(tmp_path, "subject 'p3' in test and in train", opening=open_domains)


def test_equal_numbers_in_parts_and_domains_are_different_subjects(tmp_path):
    for part in ("train", "test"):
        for number in range(4):
            picture(tmp_path / "plain" / part / f"{number:04d}.png")
            for domain in "AB":
                picture(tmp_path / "domains" / f"{part}{domain}" / f"{number:04d}.png")
    assert [len(source) for source in opened(tmp_path / "plain")] == [3, 1, 4]
    assert len(open_domains(tmp_path / "domains", split="test")["B"]) == 4


def test_subjects_of_a_table_are_in_one_part_of_all_domains(tmp_path):
    rows = ["id,domain,subject,split"]
    for number in range(6):
        for domain in ("pink", "purple"):
            picture(tmp_path / domain / "images" / f"{domain}{number}.png")
            part = "test" if number > 3 or (number, domain) == (2, "pink") else "train"
            rows.append(f"{domain}{number},{domain},case{number},{part}")
    (tmp_path / "split.csv").write_text("\n".join(rows))
    refused(
        tmp_path, "subject 'case2' in test and in train", "pink2.png", "purple2.png", opening=open_domains
    )
    (tmp_path / "split.csv").write_text("\n".join(rows).replace("case2,test", "case2,train"))
    assert {name: len(one) for name, one in open_domains(tmp_path, split="test").items()} == {
        "pink": 2,
        "purple": 2,
    }


def archives(folder, **columns):
    """`train.npz`, `validation.npz`, `test.npz` with six images each; a column is (train, validation, test)."""
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8)).astype(np.uint8)
    for number, part in enumerate(SPLITS):
        np.savez(
            folder / f"{part}.npz", images=images, **{k: np.array(v[number]) for k, v in columns.items()}
        )


def names(form, first):
    return [form.format(number) for number in range(first, first + 6)]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(
    ("columns", "subject"),
    [
        ({"patient": (names("p{}", 0), names("p{}", 6), names("p{}", 5))}, "p5"),
        ({"scanner_group": (list(range(6)), list(range(10, 16)), list(range(5, 11)))}, "5"),
        ({"ids": (names("p{}_1", 0), names("p{}_1", 6), names("p{}_2", 5))}, "p5"),
        ({"ids": (names("sub-{}_T1w", 0), names("sub-{}_T1w", 6), names("sub-{}_T2w", 5))}, "sub-5"),
    ],
)
def test_a_subject_is_in_one_archive(tmp_path, split, columns, subject):
    archives(tmp_path, **columns)
    words = "train.npz and", "test.npz share 1 of their subjects", f"'{subject}'"
    refused(tmp_path, *words, split=split)


def test_a_subject_of_the_table_is_in_one_archive(tmp_path):
    archives(tmp_path, ids=(names("a{}", 0), names("b{}", 0), names("c{}", 0)))
    (tmp_path / "split.csv").write_text("id,patient\na1,one\nb2,two\nc3,one\n")
    refused(tmp_path, "train.npz and", "test.npz share 1 of their subjects", "'one'")
    (tmp_path / "split.csv").write_text("id,patient\na1,one\nb2,two\nc3,three\n")
    assert opened(tmp_path)[2].subjects[3] == "three"


def test_archives_without_subjects_may_number_alike_and_stand_beside_others(tmp_path):
    archives(tmp_path)
    np.savez(tmp_path / "weights.npz", kernel=np.zeros(3))
    assert [len(source) for source in opened(tmp_path)] == [6, 6, 6]
    archives(tmp_path, ids=(names("{}", 0),) * 3)
    assert opened(tmp_path)[0].ids == tuple("012345")


def test_a_name_is_in_one_list(tmp_path):
    for number in range(6):
        picture(tmp_path / "images" / f"{number}.png")
    (tmp_path / "splits").mkdir()
    for name, members in {"train": "0 1 2", "val": "3", "validation": "3", "trainval": "0 3"}.items():
        (tmp_path / "splits" / f"{name}.txt").write_text(members)
    assert open_folder(tmp_path, split="validation").ids == ("3",)
    (tmp_path / "splits" / "test.txt").write_text("4 5 0")
    refused(tmp_path, "train.txt names '0', which is in test: keep it in one list")


# Grids


@pytest.mark.parametrize("targets", ["labels", "organs", "vessels_1st", "targets"])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"moved": 5.0}, "differ in affine: "),
        ({"spacing": 2.0}, "differ in spacing: [1.5, 1.5, 1.5] and [2.0, 2.0, 2.0]"),
        ({"shape": (4, 5, 7)}, "differ in size: [6, 5, 4] and [7, 5, 4]"),
        ({}, None),
    ],
)
def test_every_field_lies_on_the_grid_of_its_image(tmp_path, targets, other, message):
    for number in range(6):
        volume(tmp_path / "images" / f"case{number}.nii.gz", values=900)
        volume(tmp_path / targets / f"case{number}.nii.gz", **(other if number == 3 else {}))
    if message is None:
        assert sum(map(len, opened(tmp_path))) == 6
        return
    with pytest.raises(UserError, match=rf"images/case3.*{targets}/case3") as error:
        opened(tmp_path)
    assert message in str(error.value)


@pytest.mark.parametrize("moved", ["B", "masks"])
def test_pairs_and_their_masks_lie_on_one_grid(tmp_path, moved):
    for number in range(6):
        for field in ("A", "B", "masks"):
            away = 30.0 if (number, field) == (3, moved) else 0.0
            volume(tmp_path / field / f"case{number}.nii", moved=away, values=2 if field == "masks" else 900)
    with pytest.raises(UserError, match=rf"A/case3.*{moved}/case3.* differ in affine: .*30\.0"):
        opened(tmp_path)
    volume(tmp_path / moved / "case3.nii", values=2)
    record = opened(tmp_path)[0][0]
    assert {"A", "B", "mask"} < set(record) and record["mask"].dtype == np.int32
    assert record["A"].dtype == record["B"].dtype == np.float32


def test_masks_of_pairs_are_zeros_and_ones_of_the_size_of_the_pair(tmp_path):
    for number in range(6):
        picture(tmp_path / "A" / f"{number}.png", number)
        picture(tmp_path / "B" / f"{number}.png", number + 10, size=(4, 5))
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.eye(8, 10, dtype=np.uint8) * 255).save(tmp_path / "masks" / f"{number}.png")
    record = open_folder(tmp_path, split="test")[0]
    # Without an affine, a smaller input may be of the same place.
    assert record["B"].shape == (4, 5, 1)
    np.testing.assert_array_equal(record["mask"][..., 0], np.eye(8, 10))
    for number in range(6):
        picture(tmp_path / "masks" / f"{number}.png", size=(4, 5))
    refused(tmp_path, "A/", "masks/", "differ in size: [8, 10] and [4, 5]")


def test_inputs_without_an_affine_may_be_smaller(tmp_path):
    for number in range(6):
        picture(tmp_path / "images" / f"{number}.png", number)
        picture(tmp_path / "low" / f"{number}.png", number, size=(4, 5))
    record = open_folder(tmp_path, split="train")[0]
    assert record["image"].shape == (8, 10, 1) and record["low"].shape == (4, 5, 1)


def test_domains_of_different_subjects_lie_where_they_like(tmp_path):
    for number in range(6):
        volume(tmp_path / "A" / f"{number}.nii")
        volume(tmp_path / "B" / f"{number}.nii", moved=30.0, spacing=2.0, shape=(7, 6, 5))
    assert {name: len(one) for name, one in open_domains(tmp_path, split="train").items()} == {"A": 4, "B": 4}
    refused(tmp_path, "A/", "B/", "differ in size")


def test_boxes_beside_volumes_have_no_grid(tmp_path):
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"
    for number in range(6):
        volume(tmp_path / "images" / f"{number}.nii")
        (tmp_path / "annotations").mkdir(exist_ok=True)
        text = f"<annotation><object><name>node</name>{box}</object></annotation>"
        (tmp_path / "annotations" / f"{number}.xml").write_text(text)
    np.testing.assert_array_equal(open_folder(tmp_path, split="test")[0]["boxes"], [[2, 1, 4, 3]])
