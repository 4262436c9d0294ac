"""Sketcher-Refiner GAN against the paper: two GANs in sequence, what each sees, balanced lesions, regions measured."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.synthesis_conditional import sketcher_refiner_gan as method
from medgan_jax.data.myelin import WHITE_MATTER, open_myelin
from medgan_jax.phantoms.head_study import LABELS

PAPER = method.Config.paper()


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    images = {"A": rng.normal(size=(2, 4, 4, 2)), "B": rng.normal(size=(2, 4, 4, 1))}
    mask = np.zeros((2, 4, 4, 1), int)
    mask[0, :2, :2], mask[1, 0] = 1, 3
    return {name: jnp.asarray(image, jnp.float32) for name, image in images.items()} | {"mask": jnp.asarray(mask)}


def functions(table):
    score = lambda image: image.sum(-1, keepdims=True)  # noqa: E731
    return table(S=lambda x: 0.5 * x[..., :1], R=lambda x: x[..., -1:] + 1, D_S=score, D_R=score)


def test_networks_are_volumes_unets_that_end_in_one_voxel(parameters):
    networks = method.models(PAPER)
    counts = [parameters(networks["G"], (1, 64, 64, 64, channels)) for channels in (4, 5)]
    # The refiner sees the sketch as one more channel of kernels of 4^3.
    assert counts[1] - counts[0] == 4**3 * 32
    assert len(networks["G"].down) == 6
    assert networks["D"].receptive_field == 34
    # Condition and map: four MR images, for the refiner the sketch too, and myelin.
    inner = sum(4**3 * a * b + 2 * b for a, b in ((32, 64), (64, 128)))
    for channels in (5, 6):
        expected = 4**3 * channels * 32 + 32 + inner + 4**3 * 128 + 1
        assert parameters(networks["D"], (1, 64, 64, 64, channels)) == expected


def test_sketcher_losses_by_hand(table, context, batch, cross_entropy):
    x, y = (np.asarray(batch[name], np.float64) for name in "AB")
    sketch = 0.5 * x[..., :1]
    game = functions(table)
    loss, _ = method.discriminator_loss("S")(game.nets, batch, context())
    real, fake = (np.concatenate([x, image], -1).sum(-1) for image in (y, sketch))
    assert float(loss) == pytest.approx(0.5 * (cross_entropy(real, 1) + cross_entropy(fake, 0)), rel=1e-5)
    loss, terms = method.generator_loss(PAPER, "S")(game.nets, batch, context())
    by_hand = {"l1": 100 * np.abs(sketch - y).mean(), "adversarial": cross_entropy(fake, 1)}
    assert {name: float(value) for name, value in terms.values.items()} == pytest.approx(by_hand, rel=1e-5)
    assert float(loss) == pytest.approx(sum(by_hand.values()), rel=1e-5)


def test_refiner_counts_lesions_as_much_as_all_the_rest(table, context, batch, cross_entropy):
    x, y = (np.asarray(batch[name], np.float64) for name in "AB")
    sketch = 0.5 * x[..., :1]
    refined, lesion = sketch + 1, np.asarray(batch["mask"]) == 1
    game = functions(table)
    loss, terms = method.generator_loss(PAPER, "R")(game.nets, batch, context())
    error = np.abs(refined - y)
    fake = np.concatenate([x, sketch, refined], -1).sum(-1)
    by_hand = {"l1": 100 * (error[lesion].mean() + error[~lesion].mean()), "adversarial": cross_entropy(fake, 1)}
    assert {name: float(value) for name, value in terms.values.items()} == pytest.approx(by_hand, rel=1e-5)
    assert float(loss) == pytest.approx(sum(by_hand.values()), rel=1e-5)
    # It sees the images and the sketch of a sketcher that is not in training.
    assert np.allclose(game.seen["R"][0], np.concatenate([x, sketch], -1))
    assert game.modes["S"] == [False]
    game = functions(table)
    loss, _ = method.discriminator_loss("R")(game.nets, batch, context())
    real = np.concatenate([x, sketch, y], -1).sum(-1)
    assert float(loss) == pytest.approx(0.5 * (cross_entropy(real, 1) + cross_entropy(fake, 0)), rel=1e-5)


def test_no_lesion_in_the_batch_leaves_the_rest(table, context, batch):
    healthy = batch | {"mask": jnp.zeros_like(batch["mask"])}
    _, terms = method.generator_loss(PAPER, "R")(functions(table).nets, healthy, context())
    error = np.abs(0.5 * batch["A"][..., :1] + 1 - batch["B"])
    assert float(terms.values["l1"]) == pytest.approx(100 * float(error.mean()), rel=1e-5)


@pytest.fixture(scope="module")
def experiment():
    return method.experiment(PAPER)


def test_two_gans_one_after_the_other(experiment, rates):
    sketcher, refiner = experiment.stages
    assert [phase.trains for phase in sketcher.phases] == [("D_S",), ("S",)]
    assert [phase.trains for phase in refiner.phases] == [("D_R",), ("R",)]
    # The sketcher goes on as it is, and no phase moves it.
    assert set(refiner.networks) == {"S", "R", "D_R"}
    assert refiner.networks["S"] == sketcher.networks["S"]
    assert rates(refiner.phases[1], 3) == pytest.approx(2e-4, rel=1e-3)
    assert (PAPER.batch_size, PAPER.beta1, PAPER.lam, PAPER.channels) == (1, 0.5, 100, 4)


def test_errors_are_measured_by_region(experiment):
    mask = jnp.asarray([1, 6, 2, 0]).reshape(1, 1, 4, 1)
    errors = jnp.asarray([0.1, 0.2, 0.4, 9.0]).reshape(1, 1, 4, 1)
    outputs = {"refined": errors, "sketch": 2 * errors}
    batch = {"B": jnp.zeros((1, 1, 4, 1)), "mask": mask}
    found = {each.name: float(each.per_case(outputs, batch)[0]) for each in experiment.metrics}
    assert found == pytest.approx(
        {"mae_lesion": 0.1, "mae_white_matter": 0.2, "mae": 0.7 / 3, "mae_lesion_sketch": 0.2}, rel=1e-5)
    # White matter is its label and one.
    assert LABELS["white_matter"] + 1 == WHITE_MATTER == 6


def test_tissue_means_are_fitted_to_training_maps(experiment):
    fitted = experiment.baseline.fit(iter([{"B": np.array([[1.0], [3.0], [5.0]]),
                                            "mask": np.array([[1], [1], [6]])}]))
    assert fitted[[1, 6]].tolist() == [2, 5]
    made = experiment.baseline.apply(jnp.asarray(fitted), {"mask": jnp.array([[[6], [1]]])}, None)
    assert made["refined"].tolist() == [[[5], [2]]]


def test_phantoms_number_tissues_and_twin_has_no_discriminators(experiment):
    config = dataclasses.replace(PAPER, size=16, rank=2, channels=1)
    record = open_myelin("phantom", size=16, rank=2, channels=1, counts=(1, 1, 1)).train.blank()[0]
    assert {record[name].shape for name in ("A", "B", "mask")} == {(16, 16, 1)}
    twin = method.experiment(config.twin())
    assert [[phase.name for phase in stage.phases] for stage in twin.stages] == [["S"], ["R"]]
