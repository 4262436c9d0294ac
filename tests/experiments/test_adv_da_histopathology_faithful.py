"""Ren's adaptation against its figure: a fixed mapping, a copy that moves, D on scores, pairs of a slide."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.classification import adv_da_histopathology as ada

PAPER = ada.Config.paper()


def test_networks_are_the_default_table(parameters, layer):
    networks = ada.models(PAPER)
    widths = (3, 32, 64, 128, 128, 256)
    trunk = sum(layer(3, a, b) for a, b in itertools.pairwise(widths))
    mapping = trunk + layer(1, 256, 2, bias=True, norm=False)
    assert parameters(networks["M_s"], (1, 256, 256, 3)) == mapping
    assert networks["M_t"] == networks["M_s"]
    # D sees the last layer: two scores. S sees the features before it of two patches, joined.
    assert parameters(networks["D"], (1, 2)) == 2 * 512 + 512 + 512 * 512 + 512 + 512 + 1
    assert parameters(networks["S"], (1, 512)) == 512 + 1
    assert (PAPER.judges, PAPER.siamese) == ("scores", 0.1)


def mapping(factor):
    def call(x, features=False):
        rows = factor * x.reshape(len(x), -1)
        return (rows, 10 * rows) if features else rows

    return call


def game(table):
    return table(M_s=mapping(1.0), M_t=mapping(0.5), D=lambda s: s[:, :1] - s[:, 1:],
                 S=lambda pair: pair[:, :1] - 2 * pair[:, 3:])  # fmt: skip


def batch():
    rng = np.random.default_rng(0)
    source, target = (rng.normal(size=(8, 2, 1, 1)).astype(np.float32) for _ in range(2))
    grades = jnp.array([0, 0, 0, 0, 1, 1, 1, 1])
    return {"source": jnp.asarray(source), "target": jnp.asarray(target), "label": grades}


def rows(x):
    return np.asarray(x, np.float64).reshape(len(x), -1)


@pytest.mark.parametrize("judges", ["scores", "features"])
def test_losses_by_hand(table, context, cross_entropy, judges):
    config = dataclasses.replace(PAPER, bag=4, judges=judges)
    made, scale = game(table), {"scores": 1, "features": 10}[judges]
    x_s, x_t = rows(batch()["source"]), 0.5 * rows(batch()["target"])
    loss, _ = ada.classification_loss(made.nets, batch(), context())
    expected = np.mean([np.logaddexp(*row) - row[k] for row, k in zip(x_s, batch()["label"], strict=True)])
    assert float(loss) == pytest.approx(expected, rel=1e-5)

    scores = [scale * (each[:, 0] - each[:, 1]) for each in (x_s, x_t)]
    loss, _ = ada.discriminator_loss(config)(made.nets, batch(), context())
    assert float(loss) == pytest.approx(cross_entropy(scores[0], 1) + cross_entropy(scores[1], 0), rel=1e-5)
    # M_s is fixed in the game: it is called as at a test.
    assert made.modes["M_s"] == [True, False]

    loss, terms = ada.mapping_loss(config)(made.nets, batch(), context())
    # Bags of four: pairs (0, 1) and (2, 3) of the first slide, (4, 5) and (6, 7) of the second.
    f = 10 * x_t
    same = [f[a, 0] - 2 * f[b, 1] for a, b in ((0, 1), (2, 3), (4, 5), (6, 7))]
    other = [f[a, 0] - 2 * f[b, 1] for a, b in ((0, 5), (2, 7), (4, 1), (6, 3))]
    siamese = 0.5 * (cross_entropy(same, 1) + cross_entropy(other, 0))
    assert float(terms.values["siamese"]) == pytest.approx(0.1 * siamese, rel=1e-4)
    assert float(loss) == pytest.approx(cross_entropy(scores[1], 1) + 0.1 * siamese, rel=1e-4)


def test_without_the_siamese_term_it_is_plain_adda(table, context, cross_entropy):
    config = dataclasses.replace(PAPER, bag=4, siamese=0.0)
    made = game(table)
    loss, terms = ada.mapping_loss(config)(made.nets, batch(), context())
    x_t = 0.5 * rows(batch()["target"])
    assert set(terms.values) == {"adversarial"}
    assert float(loss) == pytest.approx(cross_entropy(x_t[:, 0] - x_t[:, 1], 1), rel=1e-5)
    assert made.seen["S"] == []


def experiment(**changes):
    return ada.experiment(dataclasses.replace(PAPER, size=16, bag=2, phantoms=(4, 4, 4), **changes))


def test_stages_data_and_choice():
    made = experiment()
    first, second = made.stages
    assert [phase.trains for phase in first.phases] == [("M_s",)]
    assert [phase.trains for phase in second.phases] == [("D",), ("M_t", "S")]
    assert [phase.trains for phase in experiment(siamese=0.0).stages[1].phases] == [("D",), ("M_t",)]
    streams = second.data.train
    # Only images of the target train, and none of its labels chooses.
    assert streams["target"].fields == ("image",)
    assert second.data.validation is None
    assert made.select is None
    assert "_B" in second.data.test.name
    assert (PAPER.learning_rate, PAPER.beta1) == (2e-4, 0.5)


def test_target_mapping_starts_as_the_sources():
    stored = {"M_s": {"batch_stats": {"m": jnp.ones(2)}}}
    old = {"params": {"M_s": {"w": jnp.arange(3.0)}}, "variables": stored}
    fresh = {
        "params": {"M_s": {"w": jnp.zeros(3)}, "M_t": {"w": jnp.zeros(3)}, "D": {"w": jnp.full(2, 7.0)}},
        "variables": {name: {"batch_stats": {"m": jnp.zeros(2)}} for name in ("M_s", "M_t")} | {"D": {}},
    }
    made = experiment().stages[1].carry_over(old, fresh)
    assert made["params"]["M_t"]["w"].tolist() == made["params"]["M_s"]["w"].tolist() == [0, 1, 2]
    assert made["variables"]["M_t"]["batch_stats"]["m"].tolist() == [1, 1]
    assert made["params"]["D"]["w"].tolist() == [7, 7]


def test_patches_of_a_slide_share_grade_and_domain():
    stage = experiment().stages[1]
    for stream in stage.data.train.values():
        record = stream.source.blank()[0]
        assert (record["image"].shape, record["label"].shape) == ((2, 16, 16, 3), ())
    bags = np.stack([np.full((2, 16, 16, 3), level, np.float32) for level in (0.0, 1.0)])
    labelled = {"image": bags, "label": np.array([0, 1])}
    ready = stage.prepare({"source": labelled, "target": bags}, jax.random.key(0))
    assert ready["label"].tolist() == [0, 0, 1, 1]
    assert ready["source"][:, 0, 0, 0].tolist() == [-1, -1, 1, 1]
    assert ready["target"].shape == (4, 16, 16, 3)


def test_scores_of_both_mappings_and_of_normalised_colours(table):
    made = game(table)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 2, 1, 1)), jnp.float32)
    outputs = ada.grade(made.nets, {"x": x, "normalised": 3 * x}, jax.random.key(0))
    odds = np.asarray(x[..., 1, 0, 0] - x[..., 0, 0, 0])
    assert np.allclose(outputs["source_score"], odds, rtol=1e-5)
    assert np.allclose(outputs["score"], 0.5 * odds, rtol=1e-5)
    assert np.allclose(outputs["normalised_score"], 3 * odds, rtol=1e-5)
