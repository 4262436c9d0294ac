"""What `describe` says is what the game is."""

import importlib
import json
import pathlib
import sys

import optax
import pytest

from medgan_jax.review import catalogue, describe

TESTS = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def facts():
    sys.path.insert(0, str(TESTS))
    try:
        toy = importlib.import_module("toy_experiments.denoiser")
    finally:
        sys.path.remove(str(TESTS))
    experiment = toy.experiment(toy.Config.tiny())
    return describe.facts(experiment, toy, catalogue.find("dagan"), preset="tiny")


def test_facts_are_plain(facts):
    assert json.loads(json.dumps(facts))["id"] == "denoiser"


def test_networks_have_their_parameter_counts(facts):
    networks = {network["name"]: network for network in facts["stages"][0]["networks"]}
    # Two channels: 3x3 kernel and bias, scale and offset, 1x1 kernel and bias.
    assert networks["G"]["parameters"] == (9 * 2 + 2) + (2 + 2) + (2 + 1)
    assert networks["D"]["parameters"] == (9 * 2 + 2) + (2 + 1)
    assert networks["G"]["state"] == ["batch_stats"]
    assert networks["G"]["average_decay"] == 0.9
    assert facts["stages"][0]["frozen"] == [
        {"name": "F", "type": "Zeros", "parameters": 5, "description": "zeros for a test"}
    ]


def test_phases_are_in_order_with_all_that_they_do(facts):
    critic, generator = facts["stages"][0]["phases"]
    assert (critic["name"], critic["trains"], critic["loss"]) == ("critic", ["D"], "critic_loss")
    assert (critic["repeats"], critic["project"], critic["optimizer"]) == (3, "clip", "RMSProp")
    assert critic["loss_in_words"] == "E D(x_hat) - E D(x). Second sentence."
    assert (generator["loss"], generator["when"]) == ("generator_loss", "every_second")
    assert generator["reads"] == "start"
    assert generator["optimizer"] == "Adam, a learning-rate schedule"


def test_data_and_equations(facts):
    sources = facts["stages"][0]["data"]["sources"]
    cases = {name: each["cases"] for name, each in sources.items()}
    assert cases == {"train": 16, "validation": 8, "test": 10}
    assert facts["equations"] == ["x_hat = G(y),  y = x + n", "L_G   = -E D(x_hat) + weight E(x_hat - x)^2"]


def test_sentences_say_all_of_it(facts):
    text = describe.sentences(facts)
    for said in (
        "[83], reconstruction, table 12",
        "G: Convolution, 27 parameters; keeps batch_stats; a moving average (decay 0.9)",
        "F: zeros for a test, 5 values",
        "1. critic: D by RMSProp on critic_loss",
        "3 updates, each on fresh data",
        "only when every_second holds; against the opponents as they were at the start of the step",
        "then the parameters go through clip",
        "prepared on the device by add_noise",
        "error: weight = 10.0",
        "psnr 40.2 ± 4.07 dB (mask 30%; MICCAI Grand Challenge 2013)",
        "MSE, lower is better; chooses the best state",
        "beside the trivial baseline: noisy input",
        "Not said by the paper, chosen here",
        "features: none",
        "widths = (2, 2)",
    ):
        assert said in text.replace("\n      ", " "), said
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (optax.sgd(0.1), "gradient descent"),
        (optax.sgd(0.1, momentum=0.9), "momentum"),
        (optax.adam(0.1), "Adam"),
        (optax.sgd(optax.constant_schedule(0.1)), "gradient descent, a learning-rate schedule"),
    ],
)
def test_optimizers_in_words(optimizer, words):
    assert describe.optimizer_words(optimizer.init({"w": 1.0})) == words
