"""DAN: deep adversarial networks for segmentation utilizing unannotated images [73], Table 9.

Zhang, Yang, Chen, Fredericksen, Hughes, Chen. MICCAI 2017. Without public code: layers follow a third-party
attempt, rates SSL4MIS, which plays the same game. An evaluation network EN tells segmentations of annotated
images, 1, from those of unannotated ones, 0; it sees an image beside what the network SN made of it:

    L_EN = sum_m BCE(EN(SN(X_m), X_m), 1) + sum_n BCE(EN(SN(U_n), U_n), 0)
    L_SN = sum_m CE(SN(X_m), Y_m) + lambda sum_n BCE(EN(SN(U_n), U_n), 1)              lambda = 0.1

SN first learns alone, then EN with SN frozen, then both. CE is of the joined output and of each of three
branches, whose weight falls to a tenth every ten thousand steps.
Data: GlaS, 85 images, 60 to 80 annotated, and unannotated ones; here glands in phantom tissue, or a folder
with a number for each gland or cell as `label`, of which the first `annotated` images keep theirs. Published:
object F1 0.88, object Dice 0.865, object Hausdorff distance 74.55 px. Deviations: components are objects;
validation Dice chooses the state. Its twin plays with lambda = 0: EN only watches.
`small`: object F1 0.62, gap of scores 0.52, twin 0.63 and 0.59; five minutes, two cores. `paper`: not run.

    python -m experiments.segmentation.dan_unannotated --data.source FOLDER
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.baselines import best_threshold
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.intensity import Affine
from medgan_jax.data.needs import Needs
from medgan_jax.data.segmentations import partly_annotated_glands
from medgan_jax.forward_models import partly_annotated
from medgan_jax.game import Bound, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.judges import annotation_judge
from medgan_jax.losses import adversarial, segmentation
from medgan_jax.measures import object_scores
from medgan_jax.models import dcan, pooling_discriminator
from medgan_jax.schedules import polynomial_descent, squared_ramp

NEEDS = Needs(fields=("image", "label"))


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 480  # of crops; not known
    channels: int = 3  # 1 is grey
    base: int = 64
    blocks: int = 6  # of SN
    joined: int = 1024
    annotated: int = 85
    lam: float = 0.1  # lambda, perhaps; 0 is the twin
    ramp: int = 6000  # steps in which it grows from nearly 0
    discount_every: int = 10000  # of the branches, as in DCAN
    pretraining: int = 10000  # steps of SN alone; not known
    judging: int = 2000  # steps of EN alone; not known
    batch_size: int = 12  # of annotated and of unannotated images each
    learning_rate: float = 0.01
    judge_rate: float = 1e-4
    steps: int = 30000
    evaluate_every: int = 1000
    smallest: int = 400  # pixels of an object; not known
    field: float = 192.0  # of phantoms, micrometres
    phantoms: tuple[int, int, int] = (600, 40, 80)

    @classmethod
    def tiny(cls):
        return cls(size=32, channels=1, base=2, blocks=4, joined=4, annotated=8, ramp=2, pretraining=2,
                   judging=1, batch_size=8, judge_rate=1e-3, steps=6, evaluate_every=2, evaluation_cases=8,
                   smallest=4, phantoms=(16, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=64, base=8, blocks=5, joined=24, annotated=16, ramp=100, pretraining=200, judging=50,
                   batch_size=8, learning_rate=0.05, judge_rate=3e-4, steps=450, evaluate_every=50,
                   evaluation_cases=32, smallest=12, phantoms=(80, 32, 48))

    def twin(self):
        return dataclasses.replace(self, lam=0.0)


def models(config):
    sn = dcan.dan_segmentation_network(base=config.base, levels=config.blocks, joined=config.joined)
    return {"SN": sn, "EN": pooling_discriminator.dan_evaluation_network(base=config.base)}


def glands(logits):
    """The probability of glands (B, H, W, 1) of logits (B, H, W, 2)."""
    return jax.nn.softmax(logits)[..., 1:]


def score(nets, image):
    """What EN says of an image (B, H, W, C) beside what SN makes of it."""
    return nets.EN(jnp.concatenate([image, glands(nets.SN.peek(image)[0])], axis=-1))


def evaluation_loss(nets, batch, context):
    """L_EN of annotated X and unannotated U; SN is as it is."""
    annotated, unannotated = score(nets, batch["x"]), score(nets, batch["u"])
    means = {"annotated": jax.nn.sigmoid(annotated).mean(), "unannotated": jax.nn.sigmoid(unannotated).mean()}
    return adversarial.discriminator_cross_entropy(annotated, unannotated), Terms(nets, **means)


def segmentation_loss(config, lam):
    def loss(nets, batch, context):
        """L_SN of annotated X (B, H, W, C), Y (B, H, W, 2) and of unannotated U, with a lambda that grows."""
        (logits, branches), nets = nets.SN.update(batch["x"])
        discount = jnp.maximum(0.1 ** jnp.floor(context.global_step / config.discount_every), 1e-3)
        terms = {"cross_entropy": segmentation.deep_supervision(logits, branches, batch["y"], discount)}
        if lam:
            unannotated = adversarial.generator_non_saturating(score(nets, batch["u"]))
            terms["adversarial"] = lam * squared_ramp(context.step, config.ramp) * unannotated
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def outputs(probability):
    return {"probability": probability, "mask": (probability > 0.5).astype(jnp.float32)}


def experiment(config):
    cases, intensity = partly_annotated_glands(
        config.data.source, size=config.size, channels=config.channels, field=config.field,
        annotated=config.annotated, counts=config.phantoms, batch_size=config.batch_size)
    prepare, known = partly_annotated(intensity.forward), cases.train["annotated"].source
    watch = annotation_judge(lambda nets, x: glands(nets.SN.eval(x)[0]), known, intensity.forward)
    nets, steps = models(config), config.steps - config.judging
    alone, later = (polynomial_descent(config.learning_rate, steps, done=n) for n in (0, config.pretraining))
    learn = Phase("SN", ("SN",), segmentation_loss(config, 0.0), alone)
    judge = Phase("EN", ("EN",), evaluation_loss, optax.adam(config.judge_rate, b1=0.9, b2=0.99))
    please = Phase("SN", ("SN",), segmentation_loss(config, config.lam), later)
    stages = (Stage("segmentation", {"SN": nets["SN"]}, (learn,), cases, config.pretraining, prepare),
              Stage("judging", nets, (judge,), cases, config.judging, prepare),
              Stage("rounds", nets, (judge, please), cases, steps - config.pretraining, prepare))
    return Experiment(
        id="dan_unannotated", config=config, stages=stages, judge=watch.judge, select="dsc",
        infer=lambda nets, batch, key: outputs(glands(nets.SN.eval(batch["x"])[0])),
        baseline=best_threshold("x", "glands", outputs), images=("x", "probability", "mask", "glands"),
        metrics=(*object_scores("mask", "labels", smallest=config.smallest), *watch.metrics),
        image_ranges=dict.fromkeys(("probability", "mask", "glands"), (0, 1)),
        prediction=Prediction("x", "probability", lambda image: intensity, Affine(0.01, 0.0, "%")),
        terms={"cross_entropy": "1, branches discounted", "adversarial": f"lambda = {config.lam:g}, ramped"},
        unknowns=("lambda", "steps of the three parts", "how EN mixes image and map: concatenated",
                  "object size", "normalisation: batch in SN, none in EN"),
        learning=(Bound("f_score", ">=", "twin", plus=-0.01), Bound("score_gap", "<=", "twin")))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
