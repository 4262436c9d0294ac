"""TFDS sets: built and read as array_record without TensorFlow, and clear lines where they are not there."""

import dataclasses
import functools
import importlib
import io
import json
import pathlib
import platform
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image

from medgan_jax.cli import main
from medgan_jax.data import catalogue, phantom_records
from medgan_jax.data.builders import mr_head_kspace
from medgan_jax.data.needs import declared
from medgan_jax.data.phantom_records import SEED, shapes
from medgan_jax.data.phantom_sets import DRAWN, KNOWN, phantom_sets
from medgan_jax.data.pipeline import Data, Stream, evaluation_batches, train_batches
from medgan_jax.data.prepared import PreparedSource, find_builder, open_prepared, prepare_builder
from medgan_jax.data.record_files import PlainWriter
from medgan_jax.data.sources import SPLITS, PhantomSource, joined, mapped, open_source, subset
from medgan_jax.errors import UserError
from medgan_jax.review import data_sets
from medgan_jax.review.catalogue import entries, methods

ROOT = pathlib.Path(__file__).resolve().parents[2]


class TinyHeadKspace(mr_head_kspace.MrHeadKspace):
    """The builder in a size for tests."""

    BUILDER_CONFIGS = [  # noqa: RUF012
        mr_head_kspace.HeadKspaceConfig(name="tiny", kind="radial", size=32, train=12, validation=2, test=3)
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "tiny"


def stand_in(key, size):
    """A head as far as shapes go, quick to compile."""
    field = jax.random.normal(key, (size, size, 2))
    return {
        "image": jnp.linalg.norm(field, axis=-1, keepdims=True),
        "complex": field,
        "labels": (field[..., 0] > 0).astype(jnp.int32),
    }


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mr_head_kspace, "head_slice", stand_in)
        folder = catalogue.prepare("tiny_head_kspace", directory)
    assert folder == directory / "tiny_head_kspace/tiny/1.2.0"
    return directory


def test_no_tensorflow(prepared):
    open_source("tfds:tiny_head_kspace", split="train", phantom=None, directory=prepared)[0]
    assert "tensorflow" not in sys.modules


def test_splits_hold_the_phantoms(prepared):
    sources = [open_prepared("tiny_head_kspace/tiny", split=split, directory=prepared) for split in SPLITS]
    assert [len(source) for source in sources] == [12, 2, 3]
    assert len({subject for source in sources for subject in source.subjects}) == 17
    phantoms = PhantomSource("head", functools.partial(stand_in, size=32), 12, 0)
    for index in range(3):
        record = sources[0][index]
        expected = phantoms[phantoms.ids.index(record["id"])]
        np.testing.assert_array_equal(record["complex"], expected["complex"])
        np.testing.assert_array_equal(record["label"][..., 0], expected["labels"])
        assert record["subject"] == sources[0].subjects[index] and record["id"] == sources[0].ids[index]
    assert sources[0].name == "tfds:tiny_head_kspace/tiny"
    assert len({source.fingerprint for source in sources}) == 3


def test_kspace_is_the_sampled_transform(prepared):
    record = open_prepared("tiny_head_kspace", split="test", directory=prepared)[1]
    image = record["complex"][..., 0] + 1j * record["complex"][..., 1]
    spectrum = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image), norm="ortho"))
    measured = record["kspace"][..., 0] + 1j * record["kspace"][..., 1]
    sampling = record["sampling"][..., 0]
    np.testing.assert_allclose(measured, spectrum * sampling, atol=1e-4)
    assert set(np.unique(sampling)) == {0, 1} and abs(sampling.mean() - 0.3) < 0.01
    assert {name: value.dtype.name for name, value in record.items() if not isinstance(value, str)} == {
        "image": "float32", "complex": "float32", "kspace": "float32", "sampling": "int32", "label": "int32"
    }  # fmt: skip


def test_batches_from_a_prepared_set(prepared):
    source = open_prepared("tiny_head_kspace", split="train", directory=prepared)
    batch = next(train_batches(Data(Stream(source, 4, fields=("image", "kspace"))), seed=0))
    assert batch["kspace"].shape == (4, 32, 32, 2)


@pytest.fixture
def decoded(monkeypatch):
    """Shapes of the numbers that were decoded since, in order."""
    shapes, decode = [], tfds.features.Tensor.decode_example_np

    def noting(feature, example):
        if feature.np_dtype == np.float32:
            shapes.append(feature.shape)
        return decode(feature, example)

    monkeypatch.setattr(tfds.features.Tensor, "decode_example_np", noting)
    return shapes


def test_fields_that_are_not_wanted_are_not_decoded(prepared, decoded):
    whole = open_prepared("tiny_head_kspace", split="train", directory=prepared)
    images = subset(whole, [4, 2]).with_fields(("image",))
    record, expected = images[1], whole[2]
    assert record.keys() == {"image", "id", "subject"} and record["id"] == expected["id"]
    np.testing.assert_array_equal(record["image"], expected["image"])
    assert images.fingerprint == subset(whole, [4, 2]).fingerprint
    decoded.clear()
    images[0]
    assert decoded == [(32, 32, 1)]
    joined({"A": whole, "B": whole})[0]
    assert decoded == 3 * [(32, 32, 1)]


def test_a_function_of_records_gets_them_whole(prepared):
    source = open_prepared("tiny_head_kspace", split="test", directory=prepared)
    half = mapped(source, lambda record: record | {"half": record["complex"] / 2}).with_fields(("half",))
    assert half[0].keys() == source[0].keys() | {"half"}


@pytest.mark.parametrize(("augment", "whole_records"), [(None, 1), (lambda record, random: record, 12)])
def test_batches_of_some_fields_decode_those_unless_records_are_augmented(
    prepared, decoded, augment, whole_records
):
    source = open_prepared("tiny_head_kspace", split="train", directory=prepared)
    batches = train_batches(Data(Stream(source, 6, augment), fields=("image",)), seed=0, threads=0)
    for _ in range(2):
        assert next(batches).keys() == {"image"}
    # One record is read as a whole beforehand, to name what it lacks; each has two fields of two channels.
    assert decoded.count((32, 32, 2)) == 2 * whole_records


def test_evaluation_batches_of_some_fields_decode_those(prepared, decoded):
    source = open_prepared("tiny_head_kspace", split="test", directory=prepared)
    (batch, count), = evaluation_batches(source, 4, fields=("kspace",), threads=0)
    assert batch.keys() == {"kspace"} and count == 3
    assert decoded.count((32, 32, 1)) == 1


READS_LARGE_RECORDS = """
import resource, sys
from array_record.python.array_record_data_source import ArrayRecordDataSource
from medgan_jax.data.prepared import keep_freed_memory

records = ArrayRecordDataSource(sys.argv[1])
keep_freed_memory()
for number in range(5):
    records[number]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for number in range(20):
    records[number]
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that gives memory back")
def test_the_memory_of_a_record_is_used_for_the_next(tmp_path):
    file = tmp_path / "large.array_record"
    PlainWriter("array_record").write(file, ((number, bytes(10**6)) for number in range(20)))
    command = [sys.executable, "-c", READS_LARGE_RECORDS, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    # A record has 244 pages, in three buffers.
    assert float(done.stdout) < 60, done.stderr[-2000:]


def test_preparing_again_does_nothing(prepared):
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*.array_record*")}
    catalogue.prepare("tiny_head_kspace", prepared)
    assert before and before == {path: path.stat().st_mtime_ns for path in prepared.rglob("*.array_record*")}


BOX = tfds.features.Tensor(shape=(4,), dtype=np.float32)


class ToyScans(tfds.core.GeneratorBasedBuilder):
    """Images, classes and nested boxes, without subjects and without a validation split."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(6, 6, 1)),
            "label": tfds.features.ClassLabel(names=["fit", "sick"]),
            "objects": tfds.features.Sequence({"box": BOX}),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, download_manager):
        return {"train": self._generate_examples(10), "test": self._generate_examples(2)}

    def _generate_examples(self, count):
        for number in range(count):
            stream = io.BytesIO()
            Image.fromarray(np.full((6, 6), number, np.uint8)).save(stream, "PNG")
            stream.seek(0)
            yield (
                number,
                {"image": stream, "label": number % 2, "objects": {"box": np.ones((number, 4), np.float32)}},
            )


def test_any_tfds_set_opens(tmp_path):
    catalogue.prepare("toy_scans", tmp_path)
    train, validation, test = (
        open_prepared("toy_scans", split=split, directory=tmp_path) for split in SPLITS
    )
    assert (len(train), len(validation), len(test)) == (8, 2, 2)
    assert not set(train.subjects) & set(validation.subjects)
    record = test[0]
    assert record["image"].dtype == np.float32 and record["image"].shape == (6, 6, 1)
    assert test.class_names == ("fit", "sick") and record["label"] == int(record["image"][0, 0, 0]) % 2
    assert record["objects/box"].shape == (int(record["image"][0, 0, 0]), 4)
    with pytest.raises(UserError, match="has no split 'other'; it has train, test"):
        open_prepared("toy_scans", split="other", directory=tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "mr_head_kspace",
            "is not prepared in .*: run python -m medgan_jax data prepare mr_head_kspace --directory",
        ),
        ("no_such_set", "TFDS knows no data set 'no_such_set'"),
        ("mr_head_kspace/gaussian1d_31", "has no configuration 'gaussian1d_31'; the nearest are gaussian1d_"),
    ],
)
def test_what_is_not_there_is_one_line(tmp_path, name, message):
    with pytest.raises(UserError, match=message) as error:
        open_source(f"tfds:{name}", split="train", phantom=None, directory=tmp_path)
    assert "\n" not in str(error.value)


def test_an_earlier_version_is_named_where_it_lies(tmp_path):
    (tmp_path / "mr_head_kspace/gaussian1d_30/1.1.0").mkdir(parents=True)
    (tmp_path / "mr_head_kspace/gaussian1d_30/1.1.0/dataset_info.json").write_text("{}")
    with pytest.raises(UserError, match=r"1\.2\.0 \(version 1\.1\.0, which is there, is stored otherwise\): run"):
        open_prepared("mr_head_kspace/gaussian1d_30", split="train", directory=tmp_path)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="toy_scans cannot be prepared"):
        catalogue.prepare("toy_scans", tmp_path / "file")


def test_catalogue_rows_have_builders():
    rows = data_sets.available()
    names = {row.name for row in rows}
    assert {"mr_head_kspace", "phantoms", "drive", "fastmri"} <= names
    for name in names - {"phantoms"}:
        default = find_builder(name).builder_config
        assert catalogue.configurations(name)[:1] == ([default.name] if default else [])
    for row in rows:
        assert row.anatomy and row.modality and (row.manual or row.name in ("mr_head_kspace", "phantoms"))
    names = set(catalogue.configurations("mr_head_kspace"))
    assert {f"{kind}_30" for kind in ("gaussian1d", "gaussian2d", "poisson2d", "radial", "spiral")} <= names


def test_every_set_of_the_review_has_a_status():
    rows = data_sets.review_sets()
    assert {row.name for row in rows} == {d.name for method in methods() for d in method.datasets}
    builders = {row.name for row in data_sets.available()}
    for row in rows:
        assert row.status and (not row.set or row.set in builders)
        # What cannot be fetched has something in its place, by the name that `data prepare` takes.
        assert row.set or row.stand_in
        assert set(row.stand_in) <= builders | {f"phantoms/{form}" for form in phantom_sets()}, row.name
        # No one phantom stands for sets of several methods under one name.
        assert ("phantoms" in row.stand_in) == ("each experiment draws its own phantom" in row.note)


def test_experiments_of_a_set_are_those_that_declare_its_fields():
    by_name = {(row.name, row.configuration): row for row in data_sets.available()}
    assert "anogan" in by_name["montgomery", ""].experiments
    assert "anogan" not in by_name["messidor", ""].experiments
    for entry in entries():
        needs = declared(entry.module) if entry.implemented else None
        if needs is not None:
            assert needs == importlib.import_module(entry.module).NEEDS


def test_what_a_folder_holds(tmp_path):
    for part, count in (("train", 5), ("test", 2)):
        for number in range(count):
            for folder in ("images", "masks"):
                path = tmp_path / part / folder / f"p{number}_{part}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((8, 8 + number), 255 * (number % 2), np.uint8)).save(path)
    facts = data_sets.folder(tmp_path)
    assert facts.fields == {"image": "8 x 8-12 x 1", "mask": "8 x 8-12 x 1"}
    assert facts.parts["train"] == {"records": 4, "subjects": 4} and facts.parts["test"]["records"] == 2
    assert {"anogan", "wgan_gp"} <= set(facts.experiments) and "pix2pix" not in facts.experiments
    with pytest.raises(UserError, match="no data set here is called 'drives'"):
        data_sets.describe("drives")
    assert any("datasets.zip" in line for line in data_sets.describe("drive"))
    lines = data_sets.describe("phantoms/obstetric")
    assert len(lines) == 3 and lines[0].startswith("fetal_frame_256: fetal head; ultrasound; ")
    assert data_sets.describe("phantoms/fetal_frame_64") == [lines[2]]
    with pytest.raises(UserError, match="no phantom is called 'obstetrics'"):
        data_sets.describe("phantoms/obstetrics")


def small(key, size):
    """A phantom as far as types go."""
    field = jax.random.normal(key, (size, size))
    return {"image": field[..., None], "labels": (field > 0).astype(jnp.int32), "nodule_mask": field > 1,
            "level": field[0, 0]}  # fmt: skip


def test_phantoms_are_built_as_they_are_drawn(tmp_path, monkeypatch):
    from medgan_jax.data.builders import phantoms

    made = dataclasses.replace(phantom_sets()["oct_patch_64"], name="small_8", counts=(10, 2, 3))
    monkeypatch.setattr(type(made), "generate", functools.partial(small, size=8))
    monkeypatch.setattr(phantoms, "phantom_sets", lambda: {"small_8": made})
    builder = phantoms.Phantoms(
        config=tfds.core.BuilderConfig(name="small_8"), data_dir=str(tmp_path), file_format="array_record"
    )
    prepare_builder(builder)
    sources = [PreparedSource(builder, split) for split in SPLITS]
    assert [len(source) for source in sources] == [10, 2, 3]
    assert len({subject for source in sources for subject in source.subjects}) == 15
    drawn = PhantomSource("small_8", made.generate, 10, SEED)
    record = sources[0][3]
    expected = drawn[drawn.ids.index(record["id"])]
    np.testing.assert_array_equal(record["image"], expected["image"])
    np.testing.assert_array_equal(record["label"][..., 0], expected["labels"])
    assert record["nodule_mask"].shape == (8, 8, 1) and record["level"] == expected["level"]
    assert sources[0].shapes("image") == [(8, 8, 1)] * 10
    assert {name: array.dtype.name for name, array in record.items() if not isinstance(array, str)} == {
        "image": "float32", "label": "int32", "nodule_mask": "int32", "level": "float32"
    }  # fmt: skip
    stored = builder.info.features
    assert stored["label"].np_dtype == stored["nodule_mask"].np_dtype == np.uint8
    file, = tmp_path.rglob("*train.array_record*")
    assert {"group_size:1", "uncompressed"} <= set(ArrayRecordReader(str(file)).writer_options_string().split(","))


def test_class_numbers_that_a_byte_does_not_hold_are_refused(tmp_path, monkeypatch):
    def crowded(key, size):
        return small(key, size) | {"labels": jnp.full((size, size), 256)}

    made = dataclasses.replace(phantom_sets()["oct_patch_64"], name="crowded_8")
    monkeypatch.setattr(type(made), "generate", functools.partial(crowded, size=8))
    with pytest.raises(UserError, match="crowded_8 has numbers in 'labels' that uint8 does not hold"):
        phantom_records.draw(made, "train", 0)


def test_a_set_without_a_configuration_is_its_default():
    names = {name: find_builder(name).builder_config.name for name in ("phantoms", "mr_head_kspace")}
    assert names == {"phantoms": "head_slice_t1_256", "mr_head_kspace": "gaussian1d_30"}


def test_phantoms_are_found_by_their_names():
    found = phantom_sets()
    assert {"head_slice_t1_256", "oct_patch_64", "chest_xray_128", "fundus_image_256"} <= found.keys()
    assert all(callable(one.generate) and one.known.anatomy for one in found.values())
    assert {one.module for one in found.values()} == KNOWN.keys()


@pytest.mark.parametrize(
    ("name", "module", "keywords"),
    [
        ("abdomen_slice_mr_256", "abdomen", {"modality": "mr"}),
        ("abdomen_volume_pet_64", "abdomen", {"modality": "pet"}),
        ("cardiac_slice_ct_128", "cardiac", {"modality": "ct"}),
        ("cardiac_slice_late_enhancement_128", "cardiac", {"modality": "late_enhancement", "infarct": True}),
        ("head_study_flair_256", "head_study", {"modalities": ("flair",)}),
        ("head_study_second_scanner_256", "head_study", {"second_scanner": True}),
        ("head_volume_second_scanner_64", "head_volume", {"second_scanner": True}),
        ("head_effect_healthy_128", "head_study", {"subtype": 0}),
        ("head_effect_behind_128", "head_study", {"subtype": 2}),
        ("chest_ct_slice_nodules_256", "chest_ct", {"nodules": True}),
        ("tissue_patch_scanner_b_64", "tissue", {"scanner": "B"}),
        ("fetal_frame_256", "obstetric", {"shape": (256, 256)}),
    ],
)
def test_variants_of_phantoms_are_sets_of_their_own(name, module, keywords):
    one = phantom_sets()[name]
    assert one.module == module and keywords.items() <= dict(one.keywords).items()
    # Late enhancement is no cine, and a function without the keyword has no such variant.
    assert {"cardiac_cine_late_enhancement_64", "head_effect_64", "head_effect_flair_64"}.isdisjoint(phantom_sets())


def test_phantoms_with_several_keys_draw_another_subject_in_every_record():
    made = dataclasses.replace(phantom_sets()["fetal_frame_64"], counts=(3, 0, 0))
    records = [record for _, record in phantom_records.draw(made, "train", 0)]
    assert records[0]["image"].shape == (64, 64, 1) and len(records) == 3
    # Places of the landmarks belong to the subject, the pose to its frame.
    for field in ("landmark_places", "pose", "image"):
        assert len({record[field].tobytes() for record in records}) == 3, field


def test_what_phantoms_draw_is_listed_as_it_is():
    one_each = {phantom.function: phantom for phantom in reversed(phantom_sets().values())}
    assert one_each.keys() == DRAWN.keys()
    for function, phantom in one_each.items():
        fields, listed = shapes(phantom), DRAWN[function]
        assert set(listed.targets) == fields.keys() - {"image"} and listed.module == phantom.module
        if listed.rank is None:
            assert "image" not in fields
        else:
            shape = fields["image"].shape
            assert (len(shape) - 1, shape[-1]) == (listed.rank, listed.channels), function
        assert ("label" in listed.maps) == ("label" in fields and fields["label"].shape != ()), function
    rows = {row.configuration: row for row in data_sets.available() if row.name == "phantoms"}
    assert "cgan" in rows["liver_lesion_patch_..."].experiments and "cgan" not in rows["head_slice_..."].experiments
    assert "dagan" in rows["head_slice_..."].experiments and "label" in rows["spine_volume_..."].targets


def test_processes_are_only_for_what_takes_them(tmp_path):
    with pytest.raises(UserError, match="toy_scans does not take --processes"):
        catalogue.prepare("toy_scans", tmp_path, processes=2)
    with pytest.raises(UserError, match="--processes is 0"):
        catalogue.prepare("mr_head_kspace", tmp_path, processes=0)


def test_the_command_line_lists_sets_folders_and_the_review(tmp_path, capsys):
    def said(*argv):
        assert main(["data", "list", *map(str, argv)]) == 0
        return capsys.readouterr().out

    assert "retina" in said() and "BRATS 2017" in said("--review")
    assert {"name", "status", "set", "stand_in"} <= json.loads(said("--review", "--json"))[0].keys()
    drive = said("drive")
    assert "1. Sign in" in drive and "training/images/{id}_training.tif" in drive and "Licence" in drive
    for number in range(6):
        path = tmp_path / "images" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    assert "train: 4 records of 4 subjects" in said(tmp_path)
    assert json.loads(said(tmp_path, "--json"))["fields"] == {"image": "8 x 8 x 1"}
    assert main(["data", "list", "drives"]) == 2
    assert "no data set here is called 'drives'" in capsys.readouterr().err
    assert main(["data", "prepare", "drive", "--directory", str(tmp_path), "--manual", str(tmp_path)]) == 2
    assert "drive: 100 files are missing" in capsys.readouterr().err
