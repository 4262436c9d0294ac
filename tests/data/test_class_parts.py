"""Cases of several classes: phantoms and folders, apart in training, together and labelled elsewhere."""

import functools

import jax
import numpy as np
import pytest

from medgan_jax.data.class_parts import LIVER_LESIONS, open_class_parts, open_liver_lesions
from medgan_jax.data.pipeline import train_batches
from medgan_jax.errors import UserError


def phantom(key, label, *, size):
    return {"image": (label + 0.5 * jax.random.uniform(key, (size, size, 1))) / 3}


def opened(source, counts=((5, 6, 7), 12, 30), classes=("a", "b", "c")):
    return open_class_parts(
        source, functools.partial(phantom, size=4), classes, size=4, channels=1, name="blots", counts=counts
    )


def test_phantoms():
    parts = opened("phantom")
    assert [len(each) for each in parts.train.values()] == [5, 6, 7]
    for label, source in enumerate(parts.train.values()):
        # Label 0 is below a sixth, label 1 between a third and a half, and so on.
        assert (3 * source[0]["image"]).astype(int).max() == label
    labels = [int(parts.test[index]["label"]) for index in range(30)]
    assert set(labels) == {0, 1, 2}
    assert all(int(3 * parts.test[i]["image"].max()) == label for i, label in enumerate(labels))
    # No subject of one class is one of another, nor in two parts.
    assert len({source.fingerprint for source in (*parts.train.values(), parts.validation, parts.test)}) == 5


def write(root, labels=(0, 1, 2, 0, 1, 2)):
    for part in ("train", "validation", "test"):
        images = np.stack([np.full((4, 4), 10.0 + label) for label in labels]).astype(np.float32)
        ids = np.array([f"{part}{n}" for n in range(len(labels))])
        np.savez(root / f"{part}.npz", images=images, labels=np.array(labels), ids=ids)
    return str(root)


def test_folder(tmp_path):
    parts = opened(write(tmp_path))
    assert [len(each) for each in parts.train.values()] == [2, 2, 2]
    for label, source in enumerate(parts.train.values()):
        assert source[0]["image"].max() == 10 + label
    # The range is that of all classes.
    intensity = parts.symmetric_range()
    assert (intensity.forward(10.0 * np.ones(1)), intensity.forward(12.0 * np.ones(1))) == (-1, 1)
    batch = next(train_batches(parts.data(2), seed=0, threads=0))
    assert {name: float(image.mean()) for name, image in batch.items()} == {"a": 10, "b": 11, "c": 12}


def test_folder_with_other_classes(tmp_path):
    with pytest.raises(UserError, match=r"classes \[0, 1\]; this experiment takes 0 \(a\), 1 \(b\), 2 \(c\)"):
        opened(write(tmp_path, (0, 1)))


def test_folder_without_classes(tmp_path):
    for part in ("train", "validation", "test"):
        np.savez(tmp_path / f"{part}.npz", images=np.zeros((2, 4, 4)), ids=np.array([f"{part}0", f"{part}1"]))
    with pytest.raises(UserError, match="no class for each case"):
        opened(str(tmp_path))


def test_liver_lesions_are_apart_by_class_in_training():
    lesions = open_liver_lesions("phantom", size=32, counts=((2, 1, 1), 1, 1))
    assert tuple(lesions.train) == LIVER_LESIONS == ("cyst", "metastasis", "haemangioma")
    first = lesions.train["cyst"][0]["image"]
    assert first.shape == (32, 32, 1)
    assert first.min() >= 0 and first.max() <= 1
    assert set(lesions.test[0]) >= {"image", "label"}


def test_a_margin_leaves_the_middle_of_larger_liver_lesions():
    counts = (1, 1, 1), 1, 1
    whole = open_liver_lesions("phantom", size=24, counts=counts).train["cyst"][0]["image"]
    middle = open_liver_lesions("phantom", size=16, counts=counts, margin=4).train["cyst"][0]["image"]
    assert np.allclose(middle, whole[4:20, 4:20])
    smooth = open_liver_lesions("phantom", size=16, counts=counts, margin=4, noise=0.0)
    assert 0 < np.abs(smooth.train["cyst"][0]["image"] - middle).mean() < 0.1
