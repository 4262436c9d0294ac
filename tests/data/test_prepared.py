"""The parts of a prepared set share no subject, where it tells subjects."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from medgan_jax.data import catalogue, prepared
from medgan_jax.data.prepared import INDEX, open_prepared
from medgan_jax.data.sources import SPLITS
from medgan_jax.errors import UserError

FEATURES = {"image": tfds.features.Tensor(shape=(4, 4, 1), dtype=np.float32), "id": tfds.features.Text()}


class ToyVisits(tfds.core.GeneratorBasedBuilder):
    """Two visits of each subject; those of `shared` train and test."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name=name) for name in ("apart", "shared", "unlabelled", "untold")
    ]

    def _info(self):
        features = dict(FEATURES)
        if self.builder_config.name != "untold":
            features["subject"] = tfds.features.Text()
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, download_manager):
        name = self.builder_config.name
        starts = {"train": 0, "test": 4 if name == "shared" else 6}
        starts |= {"unlabelled": 0} if name == "unlabelled" else {}
        return {split: self._generate_examples(split, first) for split, first in starts.items()}

    def _generate_examples(self, split, first):
        for number in range(12):
            id = f"{number}" if self.builder_config.name == "untold" else f"{split}{number}"
            record = {"image": np.full((4, 4, 1), number, np.float32), "id": id}
            if self.builder_config.name != "untold":
                record["subject"] = f"patient{first + number // 2}"
            yield id, record


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    for config in ToyVisits.BUILDER_CONFIGS:
        catalogue.prepare(f"toy_visits/{config.name}", directory)
    return directory


@pytest.fixture(params=["noted", "read"])
def known(request, directory, monkeypatch):
    """Whether ids and subjects were noted beside the files, or have to be read."""
    if request.param == "read":
        monkeypatch.setattr(prepared, "INDEX", f"no_{INDEX}")
    return directory


@pytest.mark.parametrize("split", SPLITS)
def test_a_subject_in_two_official_parts_is_refused(known, split):
    with pytest.raises(
        UserError, match=r"'train' and 'test' share 2 .* subjects, such as 'patient4'"
    ) as error:
        open_prepared("toy_visits/shared", split=split, directory=known)
    assert str(known) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["apart", "unlabelled", "untold"])
def test_parts_that_share_no_known_subject_open(known, name):
    sources = [open_prepared(f"toy_visits/{name}", split=split, directory=known) for split in SPLITS]
    assert sum(map(len, sources)) == 24 and len(sources[2]) == 12
    assert not set(sources[0].subjects) & set(sources[1].subjects)
    if name == "unlabelled":
        assert len(open_prepared("toy_visits/unlabelled", split="unlabelled", directory=known)) == 12


def test_opening_reads_no_record_where_subjects_were_noted(directory, monkeypatch):
    def fail(builder, split):
        raise AssertionError(f"read all of {split}")

    monkeypatch.setattr(prepared, "_index", fail)
    assert len(open_prepared("toy_visits/apart", split="test", directory=directory)) == 12
