"""SCGAN against what is known: D classifies, two generators an end, slices without labels, two stages."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.classification import scgan
from medgan_jax.data.needs import declared

PAPER = scgan.Config.paper()


def test_networks_of_both_ends(parameters, layer):
    networks = scgan.models(PAPER)
    assert set(networks) == {"D_mbs", "D_mas", "C_mbs", "C_mas", "G_mbs", "G_mas"}
    trunk = layer(4, 1, 64, bias=True, norm=False)
    trunk += sum(layer(4, a, b) for a, b in ((64, 128), (128, 256), (256, 512)))
    # One dense layer for both heads: one score of reality, two of classes.
    assert parameters(networks["D_mbs"], (1, 64, 64, 1)) == trunk + 8192 * 3 + 3
    assert parameters(networks["C_mas"], (1, 4, 4, 512)) == 8192 + 1
    shared = 100 * 8192 + 2 * 512 + layer(4, 512, 256)
    own = layer(4, 256, 128) + layer(4, 128, 64) + layer(4, 64, 1, bias=True, norm=False)
    # Of five layers two are shared by G_0 and G_1.
    assert parameters(networks["G_mbs"], (1, 2, 100)) == shared + 2 * own
    # The twin is the same trunk with the same classifier.
    assert set(scgan.models(PAPER.twin())) == {"D_mbs", "D_mas", "C_mbs", "C_mas"}
    assert declared("experiments.classification.scgan").rank == 3


def game(table):
    def discriminator(x, features=False):
        rows = x.reshape(len(x), -1)
        outputs = rows.sum(1), rows[:, :2]
        return (outputs, 2 * x) if features else outputs

    return table(
        D_mbs=discriminator,
        G_mbs=lambda z: (z[:, 0, :, None, None], 0.5 * z[:, 1, :, None, None]),
        C_mbs=lambda f: f.reshape(len(f), -1)[:, :1],
        C_mas=lambda f: f.reshape(len(f), -1)[:, 1:2],
        D_mas=discriminator,
        G_mas=lambda z: (z[:, 0, :, None, None], z[:, 1, :, None, None]),
    )


def batch():
    rng = np.random.default_rng(0)
    x, u = (jnp.asarray(rng.normal(size=(3, 2, 1, 1)), jnp.float32) for _ in range(2))
    z = jnp.asarray(rng.normal(size=(3, 2, 2)), jnp.float32)
    return {"x": x, "u": u, "y": jnp.array([1, 0, 0]), "z": z}


def log_loss(rows, classes):
    return np.mean([np.logaddexp(*row) - row[k] for row, k in zip(rows, classes, strict=True)])


def rows(x):
    return np.asarray(x, np.float64).reshape(len(x), -1)


def test_discriminator_loss_by_hand(table, context, cross_entropy):
    one, made = batch(), game(table)
    loss, terms = scgan.discriminator_loss(PAPER, "mbs")(made.nets, {"mbs": one}, context())
    g_0, g_1 = rows(one["z"][:, 0]), 0.5 * rows(one["z"][:, 1])
    real = np.concatenate([rows(one["x"]), rows(one["u"])])
    game_term = cross_entropy(real.sum(1), 1)
    game_term += 0.5 * (cross_entropy(g_0.sum(1), 0) + cross_entropy(g_1.sum(1), 0))
    classes = log_loss(rows(one["x"]), (1, 0, 0))
    generated = 0.1 * 0.5 * (log_loss(g_0, (0, 0, 0)) + log_loss(g_1, (1, 1, 1)))
    assert float(terms.values["adversarial"]) == pytest.approx(game_term, rel=1e-5)
    assert float(terms.values["classes"]) == pytest.approx(classes, rel=1e-5)
    assert float(loss) == pytest.approx(game_term + classes + generated, rel=1e-5)
    # Slices without labels enter the game beside those with labels.
    assert [len(seen) for seen in made.seen["D_mbs"]] == [6, 6]


def test_generator_loss_by_hand(table, context, cross_entropy):
    one, made = batch(), game(table)
    loss, terms = scgan.generator_loss(PAPER, "mbs")(made.nets, {"mbs": one}, context())
    g_0, g_1 = rows(one["z"][:, 0]), 0.5 * rows(one["z"][:, 1])
    game_term = cross_entropy(g_0.sum(1), 1) + cross_entropy(g_1.sum(1), 1)
    classes = log_loss(g_0, (0, 0, 0)) + log_loss(g_1, (1, 1, 1))
    # f is twice the image; the means are over slices of the generator's own class.
    real = 2 * rows(one["x"])
    matched = ((real[1:].mean(0) - 2 * g_0.mean(0)) ** 2).mean() + ((real[0] - 2 * g_1.mean(0)) ** 2).mean()
    assert float(terms.values["features"]) == pytest.approx(matched, rel=1e-4)
    assert float(loss) == pytest.approx(game_term + classes + matched, rel=1e-4)


def test_the_twin_is_the_trunk_on_the_same_labels(table, context):
    one, made = batch(), game(table)
    loss, terms = scgan.discriminator_loss(PAPER.twin(), "mbs")(made.nets, {"mbs": one}, context())
    assert set(terms.values) == {"classes"}
    assert float(loss) == pytest.approx(log_loss(rows(one["x"]), (1, 0, 0)), rel=1e-5)


def test_second_stage_has_fixed_features_and_both_decisions(table, context, cross_entropy):
    one, made = batch(), game(table)
    both = {"mbs": one, "mas": {**one, "y": jnp.array([0, 1, 0])}}
    loss, _ = scgan.classifier_loss(made.nets, both, context())
    features = 2 * rows(one["x"])
    expected = sum(cross_entropy(features[:, n], np.eye(3)[n]) for n in range(2))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert set(made.modes["D_mbs"]) == {False}
    found = {"mbs_slice": one["x"], "mas_slice": one["u"], "z": one["z"]}
    outputs = scgan.assess(made.nets, found, jax.random.key(0))
    # A slice that is not the end means that the end is missing.
    assert np.allclose(outputs["mbs"], -features[:, 0], rtol=1e-5)
    assert np.allclose(outputs["mas"], -2 * rows(one["u"])[:, 1], rtol=1e-5)


def experiment(**changes):
    return scgan.experiment(dataclasses.replace(PAPER, phantoms=(20, 4, 6), **changes))


def test_stages_and_data():
    made = experiment()
    first, second = made.stages
    assert [phase.trains for phase in first.phases] == [("D_mbs",), ("G_mbs",), ("D_mas",), ("G_mas",)]
    assert [phase.trains for phase in second.phases] == [("C_mbs", "C_mas")]
    streams = first.data.train
    labelled, unlabelled = (set(streams[name].source.subjects) for name in ("labelled", "unlabelled"))
    assert (len(labelled), len(unlabelled)) == (4, 16)
    assert not labelled & unlabelled
    assert {bound.metric for bound in made.learning} == {"mbs_accuracy", "mas_accuracy"}
    assert [phase.name for phase in experiment(adversarial=0.0).stages[0].phases] == ["D_mbs", "D_mas"]
