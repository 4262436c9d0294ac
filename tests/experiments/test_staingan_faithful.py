"""StainGAN against the paper and its public code: layers, losses by hand, pool, schedule, the judge apart."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.synthesis_conditional import staingan as method

PAPER = method.Config.paper()


def test_networks_are_those_of_the_public_code(parameters):
    networks = method.models(PAPER)
    # CycleGAN's, in colour; the public code has biases in front of instance normalisation.
    generator_biases = 64 + 128 + 256 + 9 * 2 * 256 + 128 + 64
    discriminator_biases = 128 + 256 + 512
    for name, total in (("G", 11_378_179 - generator_biases), ("D_B", 2_764_737 - discriminator_biases)):
        assert parameters(networks[name], (1, 256, 256, 3)) == total
    assert networks["D_A"].receptive_field == 70
    assert networks["G"] == networks["F"]


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {name: jnp.asarray(rng.uniform(-1, 1, (2, 4, 4, 3)).astype(np.float32)) for name in "AB"}


def functions(table):
    score = lambda image: image.sum(-1, keepdims=True)  # noqa: E731
    return table(G=lambda x: 0.5 * x, F=lambda y: y + 0.1, D_A=score, D_B=lambda image: 2 * score(image))


def test_generator_loss_by_hand(table, context, batch):
    x, y = (np.asarray(batch[name], np.float64) for name in "AB")
    loss, terms = method.generator_loss(PAPER)(functions(table).nets, batch, context())
    by_hand = {
        "adversarial_b": np.mean((2 * 0.5 * x.sum(-1) - 1) ** 2),
        "adversarial_a": np.mean(((y + 0.1).sum(-1) - 1) ** 2),
        "cycle_a": 10 * np.abs(0.5 * x + 0.1 - x).mean(),
        "cycle_b": 10 * np.abs(0.5 * (y + 0.1) - y).mean(),
        "identity_b": 5 * np.abs(0.5 * y - y).mean(),
        "identity_a": 5 * 0.1,
    }
    assert {name: float(value) for name, value in terms.values.items()} == pytest.approx(by_hand, rel=1e-5)
    assert float(loss) == pytest.approx(sum(by_hand.values()), rel=1e-5)


def test_discriminators_judge_fakes_out_of_the_pool(table, context, batch):
    memory = method.empty_pools(dataclasses.replace(PAPER, pool=2))(None, batch, None)
    x, y = (np.asarray(batch[name], np.float64) for name in "AB")
    loss, terms = method.discriminator_loss(functions(table).nets, batch, context(memory))
    halves = {
        "D_B": 0.5 * (np.mean((2 * y.sum(-1) - 1) ** 2) + np.mean(x.sum(-1) ** 2)),
        "D_A": 0.5 * (np.mean((x.sum(-1) - 1) ** 2) + np.mean((y + 0.1).sum(-1) ** 2)),
    }
    assert {name: float(value) for name, value in terms.values.items()} == pytest.approx(halves, rel=1e-5)
    assert float(loss) == pytest.approx(sum(halves.values()), rel=1e-5)
    assert np.allclose(terms.memory["B"].images, 0.5 * x)
    assert method.empty_pools(PAPER)(None, batch, None)["A"].images.shape == (50, 4, 4, 3)


@pytest.fixture(scope="module")
def experiment():
    return method.experiment(PAPER)


def test_schedule_of_the_public_code(experiment, rates):
    generators, discriminators, judge = experiment.stages[0].phases
    assert generators.trains == ("G", "F")
    assert (discriminators.trains, discriminators.reads) == (("D_A", "D_B"), "start")
    assert PAPER.batch_size == 4
    short = method.experiment(dataclasses.replace(PAPER, steps=100)).stages[0].phases
    for phase in short[:2]:
        rate = rates(phase, 100)
        assert rate[[0, 49]] == pytest.approx(2e-4, rel=1e-4)
        assert rate[75] == pytest.approx(1e-4, rel=1e-3)
    # No game without an adversary, and no generator that learns from labels.
    assert judge.trains == ("C",)


def test_training_is_unpaired_and_without_labels_for_the_game(experiment):
    streams = experiment.stages[0].data.train
    assert streams["A"].source.fingerprint != streams["B"].source.fingerprint
    assert streams["A"].fields == streams["B"].fields == ("image",)
    # The judge learns from patches of B, the normalised domain, alone.
    assert streams["judged"].source is streams["B"].source


def test_judge_looks_at_every_method_alike(table, experiment):
    game = table(C=lambda image: image.mean((1, 2, 3))[:, None])
    images = {name: jnp.full((2, 4, 4, 3), value) for name, value in (("A", 1.0), ("B", 2.0))}
    said = experiment.judge(game.nets, {"translation": jnp.full((2, 4, 4, 3), 3.0)}, images)
    assert {name: value.tolist() for name, value in said.items()} == {
        "judged": [3, 3], "raw_judged": [1, 1], "target_judged": [2, 2]}
    assert game.modes["C"] == [False] * 3
    assert {"mae", "ssim", "psnr", "auc", "raw_auc", "target_auc"} <= {each.name for each in experiment.metrics}


def test_classical_methods_are_compared(experiment):
    assert [other.name for other in experiment.others] == ["Macenko", "Reinhard"]


def test_images_of_other_laboratories_without_pairs(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for part in ("train", "val", "test"):
        for domain in "AB":
            (tmp_path / f"{part}{domain}").mkdir()
            for number in range(2):
                image = Image.fromarray(rng.integers(0, 255, (16, 16), np.uint8))
                image.save(tmp_path / f"{part}{domain}" / f"{part}{domain}case{number}.png")
    data = dataclasses.replace(PAPER.data, source=str(tmp_path))
    made = method.experiment(dataclasses.replace(method.Config.tiny(), data=data))
    assert made.judge is None
    assert [metric.name for metric in made.metrics] == ["swd"]
    assert [phase.name for phase in made.stages[0].phases] == ["G", "D"]


def test_judged_patches_go_by_the_range_of_their_scanner(experiment):
    patches = {name: jnp.full((1, 2, 2, 3), value) for name, value in (("A", 0.0), ("B", 0.5), ("judged", 1.0))}
    batch = patches | {"judged": {"image": patches["judged"], "label": jnp.ones(1)}}
    prepared = experiment.stages[0].prepare(batch, None)
    values = [prepared[name].max() for name in "AB"] + [prepared["judged"]["image"].max()]
    assert [float(value) for value in values] == pytest.approx([-1, 0, 1])
    assert prepared["judged"]["label"].tolist() == [1]
