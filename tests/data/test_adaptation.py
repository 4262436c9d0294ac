"""Domains for adaptation: phantoms of other subjects, folders with the labels that are needed."""

import csv
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from medgan_jax.data import adaptation
from medgan_jax.data.adaptation import open_adaptation_parts, with_reinhard
from medgan_jax.data.records import ArraySource
from medgan_jax.errors import UserError
from medgan_jax.physics.staining import opponent_colours

COUNTS = (4, 2, 2)


def drawn(key, domain, *, size):
    level = {"A": 0.0, "B": 10.0}[domain]
    return {"image": level + jax.random.uniform(key, (size, size, 1)), "label": jnp.int32(key.size)}


def opened(source, classes=2, side=4):
    return open_adaptation_parts(
        str(source), functools.partial(drawn, size=4), name="toy", counts=COUNTS, classes=classes,
        shape=(side, side, 1),
    )


def folder(root, labels=("high", "low"), labelled=("he", "purple")):
    for domain, level in (("he", 40), ("purple", 200)):
        (root / domain / "images").mkdir(parents=True)
        with (root / domain / "split.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "split", "patient", *(["label"] if domain in labelled else [])])
            for n in range(8):
                image = Image.fromarray(np.full((4, 4), level + n, np.uint8))
                image.save(root / domain / "images" / f"p{n}.png")
                split = ("train", "validation", "test", "test")[n % 4]
                writer.writerow(
                    [f"p{n}", split, f"{n}", *([labels[n // 4 % len(labels)]] if domain in labelled else [])]
                )
    return root


def test_phantoms_of_two_domains_share_no_subject():
    parts = opened("phantom")
    assert [len(part) for part in (parts.source.train, parts.target.train, parts.target.test)] == [4, 4, 2]
    assert parts.source.train[0]["image"].max() < 1 < parts.target.train[0]["image"].min()
    # The same number draws another subject in the other domain.
    assert not np.allclose(parts.source.train[0]["image"] + 10, parts.target.train[0]["image"], atol=1e-3)


def test_patches_of_a_laboratory_share_its_stains(monkeypatch):
    def in_one_tone(key, size, *, slide, **options):
        return {"image": jnp.full((size, size, 3), jax.random.uniform(slide))}

    monkeypatch.setattr(adaptation, "tissue_patch", in_one_tone)
    parts = adaptation.open_patches("phantom", size=4, channels=3, classes=2, counts=(32, 2, 2), slides=3)
    tones = [
        {float(part[n]["image"][0, 0, 0]) for n in range(32)}
        for part in (parts.source.train, parts.target.train)
    ]
    assert [len(each) for each in tones] == [3, 3]
    assert not tones[0] & tones[1]


def test_a_folder_has_the_domains_in_order_of_names(tmp_path):
    parts = opened(folder(tmp_path))
    assert parts.source.train[0]["image"].max() < 100 < parts.target.train[0]["image"].min()
    assert sorted({int(parts.source.test[n]["label"]) for n in range(4)}) == [0, 1]
    with pytest.raises(UserError, match=r"images \(4, 4, 1\), and this experiment is set to \(8, 8, 1\)"):
        opened(tmp_path, side=8)


def test_labels_are_needed_where_they_are_read(tmp_path):
    with pytest.raises(UserError, match="column 'label'"):
        opened(folder(tmp_path, labelled=("purple",)))


def test_too_many_classes_are_named(tmp_path):
    with pytest.raises(UserError, match="has 2 classes, and this experiment is set to 1"):
        opened(folder(tmp_path), classes=1)


def test_one_domain_is_not_enough(tmp_path):
    (tmp_path / "only").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "only" / "a.png")
    with pytest.raises(UserError):
        opened(tmp_path)
    with pytest.raises(UserError, match="folders"):
        opened("tfds:cells")


def test_colours_after_reinhard_are_those_of_the_other_domain():
    random = np.random.default_rng(0)
    pink = random.uniform(0.4, 0.9, (2, 8, 8, 3)).astype(np.float32) * [255, 180, 220]
    blue = random.uniform(0.4, 0.9, (1, 2, 8, 8, 3)).astype(np.float32) * [90, 100, 255]
    cases = with_reinhard(ArraySource({"image": blue.astype(np.float32)}), ArraySource({"image": pink}))
    record = cases[0]
    assert record["normalised"].shape == (2, 8, 8, 3)
    wanted, found = (opponent_colours(x / 255).reshape(-1, 3) for x in (pink, record["normalised"]))
    np.testing.assert_allclose(found.mean(0), wanted.mean(0), atol=0.02)
    assert np.array_equal(record["image"], blue[0].astype(np.float32))
