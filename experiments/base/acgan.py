"""AC-GAN: conditional image synthesis with auxiliary classifier GANs [12], section 3.5 of the review.

Odena, Olah, Shlens. ICML 2017, arXiv 1610.09585; networks of its experiments on CIFAR-10.

G is told the class c; D is not, and tells beside its source S also the class C of what it sees, by a second
head on the same trunk:

    L_S = E log P(S = real | x) + E log P(S = fake | G(z, c))
    L_C = E log P(C = c | x) + E log P(C = c | G(z, c))
    D maximises L_S + L_C, G maximises L_C - L_S

Both players want the class to be seen, in real and in generated images; they disagree on the source alone.
As everywhere, G maximises E log P(S = real | G(z, c)) in the place of -E log P(S = fake | G(z, c)).

Data: CIFAR-10, 32 x 32; here phantom liver lesions of three classes, a folder with labels, or with `form`
"ring" points of eight Gaussians on a circle, whose number is the class.
Deviations: the state with the best sliced Wasserstein distance on validation samples is kept, not the last.
Published: Inception score on CIFAR-10 8.25 +- 0.07, which is not measured here.
`small`: the ring, in about a minute on two CPU cores. `paper`: not run by this project.

    python -m experiments.base.acgan --config.form image --data.source FOLDER --config.classes 2
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.baselines import pca_gaussian
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import parts
from medgan_jax.data.distributions import DEVIATION, ring_centres
from medgan_jax.data.needs import Needs
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.game import Bound, Experiment, Phase, Stage, Terms
from medgan_jax.losses import adversarial
from medgan_jax.measures import ring_coverage, sample_distance
from medgan_jax.models.acgan import ACGANDiscriminator
from medgan_jax.models.dcgan import dcgan_generator
from medgan_jax.models.mlp import MLP

NEEDS = Needs(fields=("image", "label"), channels=1)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    form: Literal["image", "ring"] = "image"  # what is played on
    size: int = 32
    classes: int = 3  # the paper's data have 10
    latent: int = 110
    base: int = 96  # width of G's last hidden layer; the others have 2 and 4 times as many
    widths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)  # of D; on the ring of both networks
    dropout: float = 0.5
    noise: float = 0.0  # deviation of the noise on D's activations, of which the paper tried 0, 0.1 and 0.2
    batch_size: int = 100
    learning_rate: float = 2e-4  # of which the paper tried 1e-4, 2e-4 and 3e-4
    beta1: float = 0.5
    steps: int = 50000
    evaluate_every: int = 5000
    evaluation_cases: int = 1000
    phantoms: tuple[int, int, int] = (4000, 1000, 1000)

    @classmethod
    def tiny(cls):
        return cls(size=16, latent=8, base=4, widths=(4, 4, 8, 8), batch_size=8, steps=4, evaluate_every=2,
                   evaluation_cases=16, phantoms=(16, 16, 16))

    @classmethod
    def small(cls):
        return cls(form="ring", classes=8, latent=8, widths=(128, 128), batch_size=128, learning_rate=1e-3,
                   steps=2000, evaluate_every=250, phantoms=(10000, 1000, 2000))


def models(config):
    if config.form == "ring":
        return {"G": MLP(2, config.widths), "D": MLP(1 + config.classes, config.widths)}
    return {"G": dcgan_generator(config.size, channels=1, base=config.base, kernel=5),
            "D": ACGANDiscriminator(config.size, config.classes, config.widths, config.dropout, config.noise)}


def heads(logits):
    """D's answers (B, 1 + classes): the logit of a real source, (B, 1), and those of the classes."""
    return logits[:, :1], logits[:, 1:]


def class_loss(logits, label):
    """-E log P(C = label) of logits (B, classes)."""
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, label).mean()


def discriminator_loss(nets, batch, context):
    """-(L_S + L_C) of data x, (B, ...), and of fakes from z, (B, Z + classes), of the same classes, (B,)."""
    real, nets = nets.D.update(batch["x"])
    fake, nets = nets.D.update(nets.G.peek(batch["z"]))
    (real, real_class), (fake, fake_class) = heads(real), heads(fake)
    source = adversarial.discriminator_cross_entropy(real, fake)
    of_class = class_loss(real_class, batch["label"]) + class_loss(fake_class, batch["label"])
    return source + of_class, Terms(nets, L_S=-source, L_C=-of_class)


def generator_loss(nets, batch, context):
    """-(L_C - L_S) of fakes, L_S in its form that does not saturate."""
    fake, nets = nets.G.update(batch["z"])
    source, of_class = heads(nets.D.peek(fake))
    terms = {"adversarial": adversarial.generator_non_saturating(source),
             "class": class_loss(of_class, batch["label"])}
    return sum(terms.values()), Terms(nets, **terms)


def data(config):
    if config.form == "ring":
        fields, together = ("point", "label"), 500
        samples = parts.open_ring(config.data.source, counts=config.phantoms, classes=config.classes)
    else:
        fields, together = ("image", "label"), 64
        samples = parts.open_lesions(config.data.source, size=config.size, classes=config.classes,
                                     counts=config.phantoms)
    return Data(Stream(samples.train, config.batch_size), samples.validation, samples.test, together, fields)


def experiment(config):
    cases, ring = data(config), config.form == "ring"
    intensity = None if ring else parts.symmetric_range(cases.train.source)

    def prepare(batch, key):
        x = batch["point"] if ring else intensity.forward(batch["image"])
        z, c = jax.random.normal(key, (len(x), config.latent)), jax.nn.one_hot(batch["label"], config.classes)
        return {"x": x, "label": batch["label"], "z": jnp.concatenate([z, c], axis=-1)}

    adam = optax.adam(config.learning_rate, b1=config.beta1)
    turns = Phase("D", ("D",), discriminator_loss, adam), Phase("G", ("G",), generator_loss, adam)
    known = ring_coverage("sample", "x", ring_centres(), DEVIATION, label="label")
    bounds = Bound("modes", ">=", 7), Bound("kl", "<=", 0.2), Bound("obeyed", ">=", 0.5)
    game = Stage("game", models(config), turns, cases, config.steps, prepare)
    return Experiment(
        id="acgan", config=config, stages=(game,),
        infer=lambda nets, batch, key: {"sample": nets.G.eval(batch["z"])},
        baseline=pca_gaussian("sample", "x"), select="swd", images=("sample", "x"),
        metrics=known if ring else sample_distance("sample", "x"), learning=bounds if ring else (),
        terms={"L_S": "1", "L_C": "1", "adversarial": "1", "class": "1"},
        unknowns=("how the class enters G: beside z", "learning rate and noise: of those tried",
                  "on the ring: networks and learning rate"))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
