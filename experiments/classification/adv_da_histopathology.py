"""Adversarial domain adaptation for prostate histopathology whole-slide images [8], Table 18.

Ren, Hacihaliloglu, Singer, Foran, Qi. MICCAI 2018, arXiv 1806.01357, figure 1. M_s learns to grade labelled
patches x_s of the source and is fixed. M_t, a copy, learns on unlabelled x_t of the target scores that D
takes for those of M_s. S tells from features m_t, before the last layer, if two patches are of one slide:

    L_c = CE(M_s(x_s), y_s)                                                                    first stage
    L_D = BCE(D(M_s(x_s)), 1) + BCE(D(M_t(x_t)), 0)                                            second stage
    L_t = BCE(D(M_t(x_t)), 1) + lambda_s L_s,    L_s = BCE(S(m_t(x_t), m_t(x_t')), same slide)

Data: TCGA (source) and CINJ (target), low or high Gleason grade of a slide; here phantom tissue of two
laboratories, or a folder of two domains with `patient` and `label`. No label of the target trains or chooses.
The twin is M_s on the target, as it is (`source_...`) and in the source's colours (`normalised_...`).
Published: 0.77 on TCGA, 0.75 on CINJ. Deviation: patches are turned. `paper`: not run. `small`: 0.74 right,
M_s 0.46. On other draws M_t 0.71, M_s 0.55, and 0.76 by the target's batch statistics alone: the game costs.

    python -m experiments.classification.adv_da_histopathology --data.source FOLDER
"""

import dataclasses
from typing import Literal

import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.baselines import one_answer
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.adaptation import slides_of_two_laboratories
from medgan_jax.data.needs import Needs
from medgan_jax.game import Bound, Experiment, Phase, Stage, Terms, with_a_copy
from medgan_jax.losses import adversarial
from medgan_jax.measures import bag_classification
from medgan_jax.models import classifiers, features, mlp
from medgan_jax.nn.crops import patches_of_bags
from medgan_jax.schedules import constant_then_linear

NEEDS = Needs(fields=("image", "label"), channels=3, domains=2)
SEEN = {"scores": 0, "features": 1}  # by D, of what a mapping gives


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 256  # of patches; this, widths, rates, batch and steps are not known
    bag: int = 8  # patches of a slide in a batch
    widths: tuple[int, ...] = (32, 64, 128, 128, 256)
    judges: Literal["scores", "features"] = "scores"  # what D sees: the last layer, or the one before
    hidden: tuple[int, ...] = (512, 512)  # of D
    siamese: float = 0.1  # lambda_s; not known
    batch_size: int = 16  # slides
    source_rate: float = 1e-3
    source_constant: float = 1.0  # share of M_s's steps before its rate falls to 0
    learning_rate: float = 2e-4  # of D and M_t, those of ADDA
    beta1: float = 0.5
    source_steps: int = 5000
    steps: int = 5000
    phantoms: tuple[int, int, int] = (200, 20, 100)  # slides

    @classmethod
    def tiny(cls):
        return cls(size=16, bag=2, widths=(4, 4), hidden=(4,), batch_size=8, source_steps=2, steps=2,
                   evaluate_every=2, evaluation_cases=8, phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=64, bag=4, widths=(16, 32, 48, 64), learning_rate=5e-5, source_constant=0.5,
                   source_steps=900, steps=400, phantoms=(320, 8, 200))


def models(config):
    mapping = classifiers.FullyConvolutionalClassifier(2, config.widths)
    networks = {"M_s": mapping, "M_t": mapping, "D": mlp.MLP(1, config.hidden)}
    return networks | ({"S": mlp.MLP(1, ())} if config.siamese else {})


def classification_loss(nets, batch, context):
    """L_c of patches x_s, (N, H, W, 3) in [-1, 1], and their grades (N,)."""
    scores, nets = nets.M_s.update(batch["source"])
    loss = features.class_cross_entropy(scores, batch["label"])
    return loss, Terms(nets, classification=loss)


def discriminator_loss(config):
    def loss(nets, batch, context):
        """L_D: M_s on the source, which is fixed, against M_t on the target."""
        source = nets.D(nets.M_s.eval(batch["source"], features=True)[SEEN[config.judges]])
        target = nets.D(nets.M_t.peek(batch["target"], features=True)[SEEN[config.judges]])
        right = 0.5 * ((source > 0).mean() + (target < 0).mean())
        return adversarial.discriminator_cross_entropy(source, target), Terms(nets, domain_accuracy=right)

    return loss


def slide_loss(nets, m_t, bag):
    """L_s of features m_t (B * bag, F): neighbours in a bag are of one slide, those of the next are not."""
    first, second = jnp.split(m_t.reshape(-1, bag // 2, 2, m_t.shape[-1]), 2, axis=2)
    same, other = (nets.S(jnp.concatenate([first, each], -1).reshape(-1, 2 * m_t.shape[-1]))
                   for each in (second, jnp.roll(second, 1, axis=0)))
    return 0.5 * adversarial.discriminator_cross_entropy(same, other)


def mapping_loss(config):
    def loss(nets, batch, context):
        """L_t: scores that D takes for those of the source, and features that tell slides apart."""
        called, nets = nets.M_t.update(batch["target"], features=True)
        terms = {"adversarial": adversarial.generator_non_saturating(nets.D(called[SEEN[config.judges]]))}
        if config.siamese:
            terms["siamese"] = config.siamese * slide_loss(nets, called[1], config.bag)
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def odds(network, x):
    """Log-odds of a high grade for each patch of bags (B, bag, H, W, 3)."""
    scores = network.eval(x.reshape(-1, *x.shape[2:])).reshape(*x.shape[:2], 2)
    return scores[..., 1] - scores[..., 0]


def grade(nets, batch, key):
    """What M_t says of each patch, and what M_s says, of its own and of the source's colours."""
    return {"score": odds(nets.M_t, batch["x"]), "source_score": odds(nets.M_s, batch["x"]),
            "normalised_score": odds(nets.M_s, batch["normalised"])}


def experiment(config):
    source, both, intensity = slides_of_two_laboratories(
        config.data.source, config.batch_size, size=config.size, bag=config.bag, counts=config.phantoms)
    prepare, carry = patches_of_bags(intensity, config.bag), with_a_copy("M_s", "M_t")
    networks, adam = models(config), optax.adam(config.learning_rate, b1=config.beta1)
    descent = optax.adam(constant_then_linear(config.source_rate, config.source_steps, config.source_constant))
    turn = Phase("M_s", ("M_s",), classification_loss, descent)
    turns = (Phase("D", ("D",), discriminator_loss(config), adam),
             Phase("M_t", ("M_t", "S")[: 1 + bool(config.siamese)], mapping_loss(config), adam))
    first = Stage("source", {"M_s": networks["M_s"]}, (turn,), source, config.source_steps, prepare)
    game = Stage("adaptation", networks, turns, both, config.steps, prepare, carry_over=carry)
    scores = ("", "source_", "normalised_")
    return Experiment(
        id="adv_da_histopathology", config=config, stages=(first, game), infer=grade,
        metrics=tuple(each for name in scores for each in bag_classification(f"{name}score", "label", name)),
        baseline=one_answer("one grade for all", *(f"{name}score" for name in scores), source="x", axes=2),
        images=("patch", "patch_normalised"),
        learning=(Bound("accuracy", ">=", "method", of="source_accuracy", plus=0.05),
                  Bound("share", ">=", 0.35), Bound("share", "<=", 0.65)),
        terms={"classification": "1", "adversarial": "1", "siamese": f"lambda_s = {config.siamese:g}"},
        unknowns=("widths, rates, batch, steps, size of patches", "lambda_s; L_s: a slide beside the next"))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
