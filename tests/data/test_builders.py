"""TFDS sets: built and read as array_record without TensorFlow, and clear lines where they are not there."""

import dataclasses
import functools
import importlib
import io
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from medgan_jax.cli import main
from medgan_jax.data import catalogue
from medgan_jax.data.builders import mr_head_kspace
from medgan_jax.data.needs import declared
from medgan_jax.data.phantom_records import SEED, shapes
from medgan_jax.data.phantom_sets import DRAWN, KNOWN, phantom_sets
from medgan_jax.data.pipeline import Data, Stream, train_batches
from medgan_jax.data.prepared import PreparedSource, find_builder, open_prepared, prepare_builder
from medgan_jax.data.sources import SPLITS, PhantomSource, open_source
from medgan_jax.errors import UserError
from medgan_jax.review import data_sets
from medgan_jax.review.catalogue import entries, methods


class TinyHeadKspace(mr_head_kspace.MrHeadKspace):
    """The builder in a size for tests."""

    BUILDER_CONFIGS = [  # noqa: RUF012
        mr_head_kspace.HeadKspaceConfig(name="tiny", kind="radial", size=32, train=12, validation=2, test=3)
    ]
    DEFAULT_CONFIG_NAME = "tiny"


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
    assert folder == directory / "tiny_head_kspace/tiny/1.1.0"
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
        # What cannot be fetched has something in its place.
        assert row.set or row.stand_in
        known = {"phantoms", *(f"phantoms/{module}" for module in KNOWN)}
        assert all(
            other in builders or any(other.startswith(prefix) for prefix in known) for other in row.stand_in
        )


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


def test_phantoms_are_found_by_their_names():
    found = phantom_sets()
    assert {"head_slice_t1_256", "oct_patch_64", "chest_xray_128", "fundus_image_256"} <= found.keys()
    assert all(callable(one.generate) and one.known.anatomy for one in found.values())


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
    rows = {row.configuration: row for row in data_sets.available() if row.name == "phantoms"}
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
