"""DANN against the paper: digit networks, a reversed gradient, both schedules, no labels of the target."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.base import dann

PAPER = dann.Config.paper()


def test_networks_are_the_digit_form_of_the_paper(parameters):
    networks = dann.models(dataclasses.replace(PAPER, classes=10))
    assert parameters(networks["F"], (1, 28, 28, 3)) == 25 * 3 * 32 + 32 + 25 * 32 * 48 + 48
    assert parameters(networks["Y"], (1, 768)) == 768 * 100 + 100 + 100 * 100 + 100 + 100 * 10 + 10
    assert parameters(networks["D"], (1, 768)) == 768 * 100 + 100 + 100 + 1
    assert set(dann.models(PAPER.twin())) == {"F", "Y"}


def batch():
    rng = np.random.default_rng(0)
    source, target = (rng.normal(size=(3, 2, 1, 1)).astype(np.float32) for _ in range(2))
    return {"source": jnp.asarray(source), "target": jnp.asarray(target), "label": jnp.array([0, 1, 1])}


def game(table, factor=1.0):
    flat = lambda x: factor * x.reshape(len(x), -1)  # noqa: E731
    return table(F=flat, Y=lambda f: f, D=lambda f: f[:, :1] - 2 * f[:, 1:])


def test_loss_by_hand(table, context, cross_entropy):
    made = game(table)
    loss, terms = dann.domain_adversarial_loss(PAPER)(made.nets, batch(), context())
    f_s, f_t = (np.asarray(batch()[name]).reshape(3, 2) for name in ("source", "target"))
    label = np.mean([np.logaddexp(*row) - row[k] for row, k in zip(f_s, (0, 1, 1), strict=True)])
    scores = [f[:, 0] - 2 * f[:, 1] for f in (f_s, f_t)]
    # The mean over the whole batch, of which one half is source.
    domain = 0.5 * (cross_entropy(scores[0], 1) + cross_entropy(scores[1], 0))
    assert float(terms.values["label"]) == pytest.approx(label, rel=1e-5)
    assert float(loss) == pytest.approx(label + domain, rel=1e-5)
    # The target's features meet D and never Y.
    assert [len(seen) for seen in made.seen["Y"]] == [3]
    assert [len(seen) for seen in made.seen["D"]] == [6]


@pytest.mark.parametrize("step, weight", [(0, 0.0), (500, 2 / (1 + np.exp(-5)) - 1), (1000, 0.99990920)])
def test_gradient_is_reversed_for_the_features_and_ramped(table, context, cross_entropy, step, weight):
    config = dataclasses.replace(PAPER, steps=1000)
    at = dataclasses.replace(context(), step=jnp.int32(step))

    def total(factor):
        return dann.domain_adversarial_loss(config)(game(table, factor).nets, batch(), at)[0]

    gradient = float(jax.jit(jax.grad(total))(1.0))
    f_s, f_t = (np.asarray(batch()[name], np.float64).reshape(3, 2) for name in ("source", "target"))

    def parts(factor):
        label = np.mean([np.logaddexp(*row) - row[k] for row, k in zip(factor * f_s, (0, 1, 1), strict=True)])
        scores = [factor * (f[:, 0] - 2 * f[:, 1]) for f in (f_s, f_t)]
        return np.array([label, 0.5 * (cross_entropy(scores[0], 1) + cross_entropy(scores[1], 0))])

    slopes = (parts(1 + 1e-3) - parts(1 - 1e-3)) / 2e-3
    assert gradient == pytest.approx(slopes[0] - weight * slopes[1], rel=1e-3)


def test_schedule_data_and_choice():
    made = dann.experiment(dataclasses.replace(PAPER, phantoms=(4, 4, 4), steps=1000))
    stage = made.stages[0]
    (turn,) = stage.phases
    # One descent moves all networks.
    assert turn.trains == ("F", "Y", "D")
    optimizer, weights = turn.optimizer, {"w": jnp.zeros(())}
    state = optimizer.init(weights)
    first, state = optimizer.update({"w": jnp.ones(())}, state, weights)
    second, _ = optimizer.update({"w": jnp.zeros(())}, state, weights)
    assert float(first["w"]) == pytest.approx(-0.01)
    assert float(second["w"]) == pytest.approx(-0.009 / 1.01**0.75, rel=1e-5)
    # Half of each batch is source; of the target only images come.
    streams = stage.data.train
    assert [stream.batch_size for stream in streams.values()] == [64, 64]
    assert streams["target"].fields == ("image",)
    # No label of the target chooses anything.
    assert made.select is None
    assert made.early_stopping is None
    assert "_A" in stage.data.validation.name
    assert "_B" in stage.data.test.name
    assert "_B" in streams["target"].source.name


def test_the_twin_never_sees_the_target(table, context):
    made = game(table)
    loss, terms = dann.domain_adversarial_loss(PAPER.twin())(made.nets, batch(), context())
    assert set(terms.values) == {"label"}
    assert float(loss) == float(terms.values["label"])
    assert [len(seen) for seen in made.seen["F"]] == [3]
    assert made.seen["D"] == []
