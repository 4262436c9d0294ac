"""Adversarial similarity network: registration that learns what aligned images look like [108], Table 17.

Fan, Cao, Xue, Yap, Shen. MICCAI 2018:739-746. Details of their code, flyvan/Adversarial-Similarity-Network.
G gives a displacement phi in voxels that pulls the moving image S to the fixed one T. No similarity is made
by hand: D scores, place by place, how well a pair is aligned. It learns from T beside a blend that nearly is
T, and from T beside what G has made:

    R    = alpha S + (1 - alpha) T                                             alpha = 0.2, later 0.1
    L_D+ = BCE(D(R, T), 1)        L_D- = BCE(D(S o phi, T), 0)
    L_G  = BCE(D(S o phi, T), 1) + lambda L_smooth(phi)                        lambda = 1000

L_smooth is the mean squared forward difference of phi; those of -1 and below, which fold, count tenfold
before the square. D is held back while it is ahead: its rate is multiplied by 1, 0.1 or 0.01 while the loss
of the pair at hand is above 0.6, 0.4 or 0.2, and by 0 below.
Data: LPBA40, 30 volumes in every ordered pair, 10 for test; also IBSR18, CUMC12, MGH10. A folder of `images/
masks/` is padded and paired; phantoms are pairs with known deformations. Published: Dice 71.8 % on LPBA40.
Deviations: D's two phases have moments of their own in Adam; whole images, where the paper may have patches;
validation Dice chooses the state. Its twin has the local cross-correlation in the place of D.
`small`: slices; Dice 0.48 from 0.41 unregistered, twin 0.57; four minutes, two cores. `paper`: not run.

    python -m experiments.registration.adv_similarity_registration --data.source FOLDER
"""

import dataclasses

import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.baselines import no_deformation
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.needs import Needs
from medgan_jax.data.registration import deformed_brains
from medgan_jax.forward_models import each_largest_is_one
from medgan_jax.game import Bound, Experiment, Phase, Stage, Terms
from medgan_jax.judges import Judge, alignment_judge
from medgan_jax.losses import adversarial
from medgan_jax.losses.registration import local_cross_correlation, smoothness_against_folding
from medgan_jax.measures import registration
from medgan_jax.models.registration import RegistrationUNet
from medgan_jax.models.strided_discriminator import StridedDiscriminator
from medgan_jax.physics.deformation import warp
from medgan_jax.schedules import scale_by_loss

NEEDS = Needs(fields=("image", "mask"), rank=3, channels=1)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    shape: tuple[int, ...] = (160, 224, 192)
    down: tuple[int, ...] = (16, 32, 32, 32)
    up: tuple[int, ...] = (32, 32, 32, 32)
    critic: tuple[int, ...] = (8, 8, 16, 16, 32, 32)
    strides: tuple[int, ...] = (2, 2, 2, 2, 2, 1)
    adversarial: bool = True  # False is the twin
    smooth: float = 1000.0
    alpha: float = 0.2
    alpha_later: float = 0.1  # in the second half of the steps; when the paper lowers it is not known
    labels: int = 57  # of the structures in LPBA40, with the background
    batch_size: int = 1
    learning_rate: float = 1e-4
    steps: int = 150000
    evaluate_every: int = 5000
    phantoms: tuple[int, int, int] = (870, 20, 90)

    @classmethod
    def tiny(cls):
        return cls(shape=(16, 16), down=(4, 4), up=(4, 4), critic=(4, 4), strides=(2, 1), labels=14,
                   batch_size=8, steps=4, evaluate_every=2, evaluation_cases=8, phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(shape=(64, 64), down=(16, 32, 32), up=(32, 32, 32), critic=(16, 16, 32), strides=(2, 1, 1),
                   smooth=5.0, labels=14, batch_size=8, learning_rate=1e-3, steps=800, evaluate_every=200,
                   evaluation_cases=32, phantoms=(400, 32, 64))

    def twin(self):
        return dataclasses.replace(self, adversarial=False, smooth=1.0)


def models(config):
    generator = RegistrationUNet(config.down, config.up)
    discriminator = StridedDiscriminator(config.critic, config.strides)
    return {"G": generator, "D": discriminator} if config.adversarial else {"G": generator}


def pair(image, fixed):
    return jnp.concatenate([image, fixed], axis=-1)


def register(nets, batch, key=None):
    phi = nets.G(pair(batch["moving"], batch["fixed"]))
    return {"warped": warp(batch["moving"], phi), "displacement": phi}


def positive_loss(config):
    def loss(nets, batch, context):
        """L_D+ of fixed images T and blends R, (B, *S, 1)."""
        alpha = jnp.where(context.step >= config.steps / 2, config.alpha_later, config.alpha)
        blend = alpha * batch["moving"] + (1 - alpha) * batch["fixed"]
        score = nets.D(pair(blend, batch["fixed"]))
        return adversarial.cross_entropy(score, 1.0), Terms(nets, score=score.mean(), alpha=alpha)

    return loss


def negative_loss(nets, batch, context):
    """L_D- of T and S o phi."""
    score = nets.D(pair(register(nets, batch)["warped"], batch["fixed"]))
    return adversarial.cross_entropy(score, 0.0), Terms(nets, score=score.mean())


def generator_loss(config):
    def loss(nets, batch, context):
        """L_G, or the twin's: minus the local cross-correlation and the smoothness."""
        found = register(nets, batch)
        terms = {"smooth": config.smooth * smoothness_against_folding(found["displacement"])}
        if config.adversarial:
            score = nets.D(pair(found["warped"], batch["fixed"]))
            terms["similarity"] = adversarial.generator_non_saturating(score)
        else:
            terms["similarity"] = local_cross_correlation(found["warped"], batch["fixed"])
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def experiment(config):
    cases = deformed_brains(config.data.source, config.shape, config.phantoms, config.batch_size)
    adam, judge = optax.adam(config.learning_rate), Judge()
    held_back = optax.chain(adam, scale_by_loss({0.6: 1.0, 0.4: 0.1, 0.2: 0.01}))
    turns = (Phase("G", ("G",), generator_loss(config), adam),)
    learning = Bound("dice", ">=", "baseline", plus=0.05), Bound("folding", "<=", 1.0)
    if config.adversarial:
        halves = {"D+": positive_loss(config), "D-": negative_loss}
        turns += tuple(Phase(name, ("D",), loss, held_back) for name, loss in halves.items())
        judge, learning = alignment_judge(), (*learning, Bound("smallest_fall", ">=", 0.0))
    game = Stage("game", models(config), turns, cases, config.steps, each_largest_is_one("moving", "fixed"))
    return Experiment(
        id="adv_similarity_registration", config=config, stages=(game,), infer=register, judge=judge.judge,
        metrics=registration("displacement", classes=config.labels) + judge.metrics, select="dice",
        baseline=no_deformation("moving", warped="warped", displacement="displacement"),
        images=("moving", "warped", "fixed", "displacement"), value_range=(0, 1), compare=("warped", "fixed"),
        image_ranges={"displacement": (0, 6), "error": (0, 0.5)}, learning=learning,
        terms={"smooth": f"lambda = {config.smooth:g}", "similarity": "1"},
        unknowns=("when alpha is lowered: after half of the steps", "intensities: the largest is 1"))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
