"""TFDS sets: built and read as array_record without TensorFlow, and clear lines where they are not there."""

import functools
import io
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from medgan_jax.data import catalogue
from medgan_jax.data.builders import mr_head_kspace
from medgan_jax.data.pipeline import Data, Stream, train_batches
from medgan_jax.data.prepared import find_builder, open_prepared
from medgan_jax.data.sources import SPLITS, PhantomSource, open_source
from medgan_jax.errors import UserError


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
    for row in catalogue.available():
        assert row.anatomy and row.modality and row.targets
        configurations = catalogue.configurations(row.name)
        assert configurations[0] == find_builder(row.name).builder_config.name
    names = set(catalogue.configurations("mr_head_kspace"))
    assert {f"{kind}_30" for kind in ("gaussian1d", "gaussian2d", "poisson2d", "radial", "spiral")} <= names
