"""DANN: domain-adversarial training of neural networks, sections 4.2.1 and 4.7 of the review.

Ganin, Ustinova, Ajakan, Germain, Larochelle, Laviolette, Marchand, Lempitsky. JMLR 17(59), 2016.

Features F serve a label predictor Y, and a domain classifier D through a layer that reverses the gradient, so
that one descent makes D tell the domains apart and F keep it from that:

    L = CE(Y(F(x_s)), y_s) + BCE(D(R(F(x))), domain)        R(f) = f,  dR/df = -lambda_p I
    lambda_p = 2 / (1 + exp(-10 p)) - 1,   rate mu_p = 0.01 / (1 + 10 p)^0.75,   p = 0 .. 1 the progress

Half of each batch are labelled cases x_s of the source domain, half unlabelled x_t of the target domain. No
label of the target trains or chooses anything: the last state is measured, on the target's test cases.

Data: MNIST to MNIST-M in the paper's digit form, the default; here patches of low- and high-grade tissue from
two laboratories, or a folder of two domains whose tables have a column `label`.
Deviations: images in [-1, 1], without the mean image taken off.
Published: MNIST-M 0.767 against 0.523 source only and 0.960 trained on the target. None in the review.
`small`: 0.82 of the target right, source alone 0.53, and 0.79 by the target's batch statistics, in five
minutes on two CPU cores. Features are averaged over space: tissue has no fixed places. lambda_p rises to 0.2;
with 1, F outran D in swings and Y learned nothing. Eight stains a laboratory, the same in training and test;
with one for each patch, source alone lost 2 points. `paper`: not run by this project.

    python -m experiments.base.dann --data.source FOLDER
"""

import dataclasses

import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.baselines import nearest_class_mean
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import parts
from medgan_jax.data.adaptation import open_patches
from medgan_jax.data.needs import Needs
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.forward_models import two_domains
from medgan_jax.game import Bound, Experiment, Phase, Stage, Terms
from medgan_jax.losses import adversarial
from medgan_jax.measures import class_recognition
from medgan_jax.models.classifiers import PooledFeatures
from medgan_jax.models.features import class_cross_entropy
from medgan_jax.models.mlp import MLP
from medgan_jax.nn.reversal import reverse_gradient
from medgan_jax.schedules import inverse_power, sigmoid_ramp

NEEDS = Needs(fields=("image", "label"), domains=2)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 28
    channels: int = 3
    widths: tuple[int, ...] = (32, 48)
    kernel: int = 5
    norm: str = "none"
    classes: int = 2  # ten digits in the paper
    hidden: int = 100
    over_space: bool = False  # the mean of each map, for textures; digits keep their places
    turn: bool = False  # patches by quarter turns and mirrored at random; not for digits
    adversarial: float = 1.0  # scale of lambda_p; 0 is the twin, which sees the source alone
    batch_size: int = 128
    learning_rate: float = 0.01
    momentum: float = 0.9
    steps: int = 40000  # not known
    evaluate_every: int = 4000
    evaluation_cases: int = 256
    phantoms: tuple[int, int, int] = (4000, 256, 1000)
    field: float = 96.0  # width of a phantom patch in micrometres
    stains: int | None = None  # of each laboratory's phantoms; None: every patch has its own

    @classmethod
    def tiny(cls):
        return cls(size=16, widths=(4, 4), kernel=3, hidden=4, batch_size=8, steps=4, evaluate_every=2,
                   evaluation_cases=8, phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=48, widths=(16, 32, 48), kernel=3, norm="batch", over_space=True, turn=True,
                   adversarial=0.2, batch_size=64, learning_rate=0.03, steps=1000, evaluate_every=250,
                   phantoms=(1200, 128, 400), field=144.0, stains=8)

    def twin(self):
        return dataclasses.replace(self, adversarial=0.0)


def models(config):
    features = PooledFeatures(config.widths, config.kernel, config.norm, config.over_space)
    predictor = MLP(config.classes, (config.hidden, config.hidden))
    networks = {"F": features, "Y": predictor}
    return networks | ({"D": MLP(1, (config.hidden,))} if config.adversarial else {})


def domain_adversarial_loss(config):
    ramp = sigmoid_ramp(config.steps)

    def loss(nets, batch, context):
        """L of source images x_s with classes y_s, and target images x_t, (B / 2, H, W, C) in [-1, 1]."""
        x_s, x_t, y_s = batch["source"], batch["target"], batch["label"]
        if not config.adversarial:
            features, nets = nets.F.update(x_s)
            label = class_cross_entropy(nets.Y(features), y_s)
            return label, Terms(nets, label=label)
        features, nets = nets.F.update(jnp.concatenate([x_s, x_t]))
        weight = config.adversarial * ramp(context.step)
        scores_s, scores_t = jnp.split(nets.D(reverse_gradient(features, weight)), [len(x_s)])
        label = class_cross_entropy(nets.Y(features[: len(x_s)]), y_s)
        domain = 0.5 * adversarial.discriminator_cross_entropy(scores_s, scores_t)
        right = 0.5 * ((scores_s > 0).mean() + (scores_t < 0).mean())
        return label + domain, Terms(nets, label=label, domain=domain, domain_accuracy=right, weight=weight)

    return loss


def classify(nets, batch, key):
    """Y(F(x)) as the most likely class."""
    return {"predicted": nets.Y.eval(nets.F.eval(batch["x"])).argmax(-1)}


def data(config):
    domains = open_patches(config.data.source, size=config.size, channels=config.channels,
                           classes=config.classes, counts=config.phantoms, field=config.field,
                           slides=config.stains)
    half = max(1, config.batch_size // 2)
    train = {"source": Stream(domains.source.train, half, fields=("image", "label")),
             "target": Stream(domains.target.train, half, fields=("image",))}
    return Data(train, domains.source.validation, domains.target.test, 64, fields=("image", "label"))


def experiment(config):
    cases = data(config)
    intensity = parts.symmetric_range(cases.train["source"].source)
    prepare = two_domains(intensity.forward, turn=config.turn)
    descent = optax.sgd(inverse_power(config.learning_rate, config.steps), momentum=config.momentum)
    networks = models(config)
    turn = Phase("descent", tuple(networks), domain_adversarial_loss(config), descent)
    return Experiment(
        id="dann", config=config, infer=classify,
        metrics=class_recognition("predicted", "label", config.classes),
        stages=(Stage("game", networks, (turn,), cases, config.steps, prepare),),
        baseline=nearest_class_mean("x", "label", config.classes, lambda far: {"predicted": far.argmin(-1)}),
        images=("x",),
        learning=(Bound("accuracy", ">=", "twin", plus=0.05), Bound("balanced_accuracy", ">=", 0.6)),
        terms={"label": "1", "domain": f"1 for D, -{config.adversarial:g} lambda_p for F"},
        unknowns=("number of steps",))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
