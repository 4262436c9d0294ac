"""Folders with odd entries open, or are refused in one line: no other error, and no wait for what never comes."""

import os
import pathlib
import shutil
import tempfile
import threading
import time

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medgan_jax import cli
from medgan_jax.data.sources import SPLITS, open_domains, open_folder
from medgan_jax.errors import UserError

SECONDS = 20.0
RECORDS = 6
VOC = (
    "<annotation><object><name>cell</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax>"
    "</bndbox></object></annotation>"
)


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(len(path.name)).integers(0, 256, (8, 8)).astype(np.uint8)).save(
        path
    )


def slice_of(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID, dataset.Modality, dataset.PixelSpacing = "1.2.3", "CT", [1, 1]
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 3 * number]
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 8, 8, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = np.full((8, 8), number, "<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def table_layout(root):
    rows = ["id,split,label"]
    for number in range(RECORDS):
        picture(root / f"images/s{number}.png")
        picture(root / f"masks/s{number}.png")
        rows.append(f"s{number},{'test' if number == 0 else 'train'},{number % 2}")
    (root / "split.csv").write_text("\n".join(rows))
    (root / "notes.csv").write_text("word\nnone")


def list_layout(root):
    for number in range(RECORDS):
        picture(root / f"images/s{number}.png")
        (root / "annotations").mkdir(exist_ok=True)
        (root / f"annotations/s{number}.xml").write_text(VOC)
    (root / "splits").mkdir()
    for part, names in {"train": "s0 s1 s2", "val": "s3", "test": "s4 s5"}.items():
        (root / f"splits/{part}.txt").write_text(names)


def series_layout(root):
    for number in range(RECORDS):
        for place in range(3):
            slice_of(root / f"images/s{number}/{place}.dcm", place)
    slice_of(root / "images/s6", 0)


def archive_layout(root):
    for part in SPLITS:
        np.savez(root / f"{part}.npz", images=np.zeros((4, 8, 8), np.uint8), ids=np.array(list("abcd")))
    (root / "split.csv").write_text("id,label\na,0\nb,1")


def part_layout(root):
    for part in ("train", "test"):
        for number in range(RECORDS):
            picture(root / part / f"images/s{number}.png")
            picture(root / part / f"labels/s{number}.png")


def domain_layout(root):
    for domain in "AB":
        for number in range(RECORDS):
            picture(root / domain / f"images/{domain}{number}.png")
    rows = [f"{d}{n},{d},{'test' if n == 0 else 'train'}" for d in "AB" for n in range(RECORDS)]
    (root / "split.csv").write_text("\n".join(["id,domain,split", *rows]))


LAYOUTS = {
    table_layout: (
        "images", "images/s3.png", "masks", "masks/s3.png", "split.csv", "notes.csv", "new.csv", "new.png", "new",
    ),
    list_layout: ("annotations", "annotations/s3.xml", "splits", "splits/train.txt", "splits/test.txt"),
    series_layout: ("images/s3", "images/s3/0.dcm", "images/s3/1.dcm", "images/s3/new", "images/s6", "images/new"),
    archive_layout: ("train.npz", "validation.npz", "test.npz", "split.csv", "other.npz"),
    part_layout: ("train", "test", "test/labels", "train/images/s3.png", "train/split.csv"),
    domain_layout: ("A", "A/images", "A/images/A3.png", "split.csv", "A/split.csv"),
}  # fmt: skip


def locked(path):
    path.write_text("id,split\ns0,train")
    path.chmod(0)


ODD = {
    "folder": pathlib.Path.mkdir,
    "folder of text": lambda path: (path.mkdir(), (path / "text.txt").write_text("text")),
    "link to nothing": lambda path: path.symlink_to("nowhere"),
    "link to itself": lambda path: path.symlink_to(path),
    "link to the folder": lambda path: path.symlink_to(path.parent),
    "pipe": os.mkfifo,
    "locked file": locked,
    "empty file": pathlib.Path.touch,
    "binary file": lambda path: path.write_bytes(bytes(range(256)) * 20),
    "text file": lambda path: path.write_text('id,split\n"s0\n",train\n\0,test\n,,,,\n<a>&b;</a>'),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A sound folder of every layout."""
    folders = {}
    for layout in LAYOUTS:
        folders[layout] = tmp_path_factory.mktemp(layout.__name__)
        layout(folders[layout])
    return folders


class Watch:
    """Frees a reader who waits at a pipe of `root` when the time is over, so that a test fails and ends."""

    def __init__(self, root):
        self._timer = threading.Timer(SECONDS, self._free, [root])

    def __enter__(self):
        self._started = time.perf_counter()
        self._timer.start()

    def __exit__(self, *error):
        self._timer.cancel()
        assert time.perf_counter() - self._started < SECONDS

    def _free(self, root):
        while not self._timer.finished.wait(0.1):
            for path in [root, *root.rglob("*")]:
                if path.is_fifo():
                    os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))


def opens_or_refuses(root) -> list[str]:
    """The lines in which parts and domains are refused; whatever opens can be read."""
    said = []
    with Watch(root):
        for opening in (open_folder, open_domains):
            for split in SPLITS:
                try:
                    found = opening(root, split=split)
                    for source in found.values() if isinstance(found, dict) else [found]:
                        assert [source[index]["id"] for index in range(len(source))] == list(source.ids)
                except UserError as error:
                    said.append(str(error))
    assert not [line for line in said if "\n" in line or len(line) < 20]
    return said


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(("layout", "entry"), [(one, entry) for one, all in LAYOUTS.items() for entry in all])
def test_odd_entries(tmp_path, sound, layout, entry, odd):
    root = tmp_path / "data"
    shutil.copytree(sound[layout], root)
    path = root / entry
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    ODD[odd](path)
    opens_or_refuses(root)


def test_sound_folders_open(sound):
    for layout, root in sound.items():
        assert sum(len(open_folder(root, split=split)) for split in SPLITS) >= RECORDS, layout


@pytest.mark.parametrize(
    ("layout", "entry", "odd", "message"),
    [
        (
            table_layout,
            "images/s3.png",
            "link to nothing",
            r"s3\.png is a link to nothing: mend it or take it out",
        ),
        (table_layout, "images/s3.png", "link to itself", r"s3\.png is a link to nothing"),
        (table_layout, "images/s3.png", "pipe", r"s3\.png is neither a file nor a folder"),
        (table_layout, "split.csv", "pipe", r"split\.csv is not a file: it is the table"),
        (table_layout, "split.csv", "folder", r"split\.csv is not a file: it is the table"),
        (table_layout, "split.csv", "link to nothing", r"split\.csv is not a file: it is the table"),
        (list_layout, "splits/train.txt", "folder", r"train\.txt is not a file: it lists .* 'train'"),
        (list_layout, "splits/train.txt", "pipe", r"train\.txt is not a file"),
        (list_layout, "splits/train.txt", "link to nothing", r"train\.txt is not a file"),
        (list_layout, "annotations/s3.xml", "pipe", r"s3\.xml is neither a file nor a folder"),
        (series_layout, "images/s3/0.dcm", "link to nothing", r"s3/0\.dcm: not a file, or a link to nothing"),
        (series_layout, "images/s3/1.dcm", "folder", r"s3/1\.dcm: not a file"),
        (series_layout, "images/s3/1.dcm", "pipe", r"s3/1\.dcm: not a file"),
        (archive_layout, "train.npz", "folder", r"train\.npz: cannot be opened"),
        (archive_layout, "test.npz", "link to nothing", r"test\.npz is a link to nothing"),
        (archive_layout, "test.npz", "pipe", r"test\.npz is neither a file nor a folder"),
    ],
)
def test_odd_entries_are_named(tmp_path, sound, layout, entry, odd, message):
    root = tmp_path / "data"
    shutil.copytree(sound[layout], root)
    (root / entry).unlink()
    ODD[odd](root / entry)
    with Watch(root), pytest.raises(UserError, match=message):
        for split in SPLITS:
            open_folder(root, split=split)


@pytest.mark.parametrize("odd", ["link to itself", "locked file", "pipe", "link to nothing"])
def test_a_data_folder_that_is_none(tmp_path, odd):
    ODD[odd](tmp_path / "data")
    with Watch(tmp_path):
        for path in (tmp_path / "data", f"{tmp_path}/da\0ta", "~no such user/data"):
            for opening in (open_folder, open_domains):
                with pytest.raises(UserError, match=r"^data folder .*da.*ta"):
                    opening(path, split="train")


@pytest.mark.parametrize(
    ("layout", "entry", "odd"),
    [
        (table_layout, "images/s3.png", "link to nothing"),
        (table_layout, "images/s3.png", "pipe"),
        (list_layout, "splits/train.txt", "folder"),
    ],
)
def test_training_ends_in_one_line_that_names_the_entry(tmp_path, sound, capsys, layout, entry, odd):
    root = tmp_path / "data"
    shutil.copytree(sound[layout], root)
    (root / entry).unlink()
    ODD[odd](root / entry)
    argv = ["train", "dcgan", "--preset", "tiny", "--no_progress", "--data.source", str(root)]
    with Watch(root):
        assert cli.main([*argv, "--workdir", str(tmp_path / "run")]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"medgan_jax: error: {root / entry} ") and said.err.count("\n") == 1


# What a table, a list or a file of boxes may hold in place of words.
WORDS = st.sampled_from(
    [
        "id",
        "split",
        "subject",
        "s0",
        "s1",
        "train",
        "test",
        ",",
        "\n",
        '"',
        "\0",
        "\r",
        "é",
        " ",
        ";",
        "../s0",
        "domain",
    ]
)
TAGS = st.sampled_from(
    ["<annotation>", "</annotation>", "<object>", "</object>", "<name>", "a", "</name>", "<bndbox>", "</bndbox>",
     "<xmin>", "nan", "</xmin>", "<ymin>1</ymin>", "<xmax>1e999</xmax>", "<ymax/>", VOC, "&a;", "\0", "]]>",
     '<?xml version="1.0" encoding="none"?>', '<!DOCTYPE a [<!ENTITY a "b">]>']
)  # fmt: skip
CONTENTS = {
    (table_layout, "split.csv"): WORDS,
    (list_layout, "splits/train.txt"): WORDS,
    (domain_layout, "split.csv"): WORDS,
    (list_layout, "annotations/s3.xml"): TAGS,
    (archive_layout, "split.csv"): WORDS,
}


@pytest.mark.parametrize(("layout", "entry"), CONTENTS)
def test_odd_contents_of_texts(sound, layout, entry):
    pieces = st.lists(CONTENTS[layout, entry], max_size=20).map(lambda some: "".join(some).encode())
    contents = st.one_of(pieces, pieces.map(lambda text: b"id,split\n" + text), st.binary(max_size=40))

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(contents)
    def check(content):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder) / "data"
            shutil.copytree(sound[layout], root)
            (root / entry).write_bytes(content)
            opens_or_refuses(root)

    check()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"ids": np.array("a")}, r"'ids' has shape \(\) for 4 images"),
        ({"ids": np.arange(3)}, r"'ids' has shape \(3,\) for 4 images"),
        ({"ids": np.arange(8).reshape(4, 2)}, r"'ids' has shape \(4, 2\)"),
        ({"class_names": np.array("a")}, r"'class_names' has shape \(\)"),
        ({"slope": np.array(["a"] * 4), "intercept": np.ones(4)}, r"'slope' is of dtype <U1"),
        ({"vessels": np.zeros((0, 8, 8), np.uint8)}, None),
        ({"times": np.zeros(4, "datetime64[s]"), "sizes": np.zeros(4, [("a", "i4")])}, None),
        ({"labels": np.array(list("abcd"))}, None),
    ],
)
def test_odd_arrays_of_archives(tmp_path, arrays, message):
    np.savez(tmp_path / "train.npz", images=np.zeros((4, 8, 8), np.uint8), **arrays)
    np.savez(tmp_path / "test.npz", images=np.zeros((4, 8, 8), np.uint8))
    said = opens_or_refuses(tmp_path)
    if message is not None:
        with pytest.raises(UserError, match=rf"train\.npz.*{message}"):
            open_folder(tmp_path, split="train")
    else:
        assert not [line for line in said if "holds no domains" not in line]
