"""SCGAN: semi-coupled GAN that finds missing basal and apical slices of cardiac MR [110], Table 18.

Zhang, Gooya, Frangi. SASHIMI at MICCAI 2017, LNCS 10557:61-68. The objective is a reconstruction from its
abstract and introduction, and the review's figure 13; no more was at hand.
At each end of the heart, base and apex, two generators that share their first layers make slices that show it
(G_1) and slices that do not (G_0). D says whether a slice is real (d) and whether it shows the end (c), both
from F features f. Slices x have a class y, slices u have none:

    L_D = BCE(d(x, u), 1) + 1/2 sum_i BCE(d(G_i(z)), 0) + w_c [CE(c(x), y) + w_g 1/2 sum_i CE(c(G_i(z)), i)]
    L_G = sum_i BCE(d(G_i(z)), 1) + w_c CE(c(G_i(z)), i) + w_f / F ||E f(x | y = i) - E f(G_i(z))||^2
    L_C = BCE(C(f(x)), y)                                                        second stage, f is fixed

A stack whose first slice is not basal misses its base (MBS); one whose last is not apical, its apex (MAS).
Data: UK Biobank short-axis cine MR (the review's text says ultrasound), whose complete stacks lose outer
slices; here phantoms, or a folder of stacks from base to apex, cut round the ventricle. A share has labels.
Published: accuracy 92.5 (MAS), 89.3 % (MBS), precision 87.6, 89.1, recall 90.5, 91.7; other data. The twin is
the trunk without generators. `small`: no run recorded yet. `paper`: not run by this project.

    python -m experiments.classification.scgan --data.source FOLDER
"""

import dataclasses

import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.baselines import one_answer
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.needs import Needs
from medgan_jax.data.stacks import ends_as_found, heart_ends
from medgan_jax.game import Bound, Experiment, Phase, Stage, Terms
from medgan_jax.losses import adversarial, perceptual
from medgan_jax.measures import binary_classification
from medgan_jax.models import coupled, dcgan, features, mlp

NEEDS = Needs(rank=3, channels=1)
ENDS = ("mbs", "mas")


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 64  # this, widths, weights, rates and steps are not known
    base: int = 64
    latent: int = 100
    shared: int = 2  # first layers, of 5, that the generators of an end share
    w_c: float = 1.0
    w_g: float = 0.1
    w_f: float = 1.0
    adversarial: float = 1.0  # 0 is the twin: labelled slices alone train D
    labelled: float = 0.2  # share of the subjects
    batch_size: int = 64  # of labelled slices, and as many without labels
    learning_rate: float = 2e-4
    beta1: float = 0.5
    classifier_rate: float = 1e-3
    classifier_steps: int = 2000
    steps: int = 10000
    evaluate_every: int = 1000
    phantoms: tuple[int, int, int] = (3000, 200, 400)

    @classmethod
    def tiny(cls):
        return cls(size=16, base=4, latent=8, shared=1, batch_size=8, classifier_steps=2, steps=2,
                   evaluate_every=2, evaluation_cases=8, labelled=0.5, phantoms=(16, 8, 8))

    @classmethod
    def small(cls):
        return cls(base=12, batch_size=16, classifier_steps=300, steps=500, evaluate_every=250,
                   phantoms=(240, 24, 120))

    def twin(self):
        return dataclasses.replace(self, adversarial=0.0)


def models(config):
    """For each end D, the classifier C of the second stage, and both generators as one module."""
    kinds = {"D": dcgan.dcgan_discriminator(config.size, base=config.base, outputs=3), "C": mlp.MLP(1, ())}
    if config.adversarial:
        kinds["G"] = coupled.SemiCoupledGenerators(config.size, base=config.base, shared=config.shared)
    return {f"{kind}_{end}": network for kind, network in kinds.items() for end in ENDS}


def discriminator_loss(config, end):
    def loss(nets, batch, context):
        """L_D of slices x with classes y and slices u without, (B, H, W, 1) in [-1, 1]."""
        D, (x, u, y) = f"D_{end}", (batch[end][name] for name in "xuy")
        if not config.adversarial:
            outputs, nets = nets[D].update(x)
            classes = config.w_c * features.class_cross_entropy(coupled.real_and_class(outputs)[1], y)
            return classes, Terms(nets, classes=classes)
        images, i = coupled.joined(nets[f"G_{end}"].peek(batch[end]["z"]))
        real, nets = nets[D].update(jnp.concatenate([x, u]))
        fake, nets = nets[D].update(images)
        (d_real, c_real), (d_fake, c_fake) = map(coupled.real_and_class, (real, fake))
        terms = {"adversarial": adversarial.discriminator_cross_entropy(d_real, d_fake),
                 "classes": config.w_c * features.class_cross_entropy(c_real[: len(x)], y),
                 "generated": config.w_c * config.w_g * features.class_cross_entropy(c_fake, i)}
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def generator_loss(config, end):
    def loss(nets, batch, context):
        """L_G of latent vectors z, (B, 2, Z), one for each generator."""
        images, nets = nets[f"G_{end}"].update(batch[end]["z"])
        images, i = coupled.joined(images)
        fake, maps = nets[f"D_{end}"].peek(images, features=True)
        d, c = coupled.real_and_class(fake)
        terms = {"adversarial": 2 * adversarial.generator_non_saturating(d),
                 "classes": 2 * config.w_c * features.class_cross_entropy(c, i)}  # sums, not means of both
        if config.w_f:
            real = nets[f"D_{end}"].peek(batch[end]["x"], features=True)[1][-1]
            terms["features"] = config.w_f / real[0].size * sum(perceptual.feature_mean_l2(
                made, real, chosen=batch[end]["y"] == k) for k, made in enumerate(jnp.split(maps[-1], 2)))
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def f(nets, end, x):
    """Features of slices, from the trunk as the first stage left it."""
    return nets[f"D_{end}"].eval(x, features=True)[1][-1]


def classifier_loss(nets, batch, context):
    """L_C at both ends, of labelled slices."""
    scores = {end: nets[f"C_{end}"](f(nets, end, batch[end]["x"]))[:, 0] for end in ENDS}
    terms = {end: adversarial.cross_entropy(scores[end], batch[end]["y"]) for end in ENDS}
    return sum(terms.values()), Terms(nets, **terms)


def assess(nets, batch, key):
    """Log-odds that the base (`mbs`) and the apex (`mas`) of a stack are missing; the generators' images."""
    outputs = {end: -nets[f"C_{end}"].eval(f(nets, end, batch[f"{end}_slice"]))[:, 0] for end in ENDS}
    return outputs | coupled.pictures(nets, dict.fromkeys(ENDS, batch["z"]))


def experiment(config):
    cases = heart_ends(config.data.source, config.size, config.phantoms, config.labelled, config.batch_size)
    networks, prepare = models(config), ends_as_found(ENDS, config.latent)
    adam = optax.adam(config.learning_rate, b1=config.beta1)
    losses = {"D": discriminator_loss} | ({"G": generator_loss} if config.adversarial else {})
    phases = tuple(Phase(f"{kind}_{end}", (f"{kind}_{end}",), loss(config, end), adam)
                   for end in ENDS for kind, loss in losses.items())
    turn = Phase("C", tuple(f"C_{end}" for end in ENDS), classifier_loss, optax.adam(config.classifier_rate))
    playing = {name: network for name, network in networks.items() if name not in turn.trains}

    def keep(nets, batch, key):
        """No phase of the second stage calls the generators; they stay for the pictures."""
        coupled.pictures(nets, {end: batch[end]["z"] for end in ENDS})
        return ()

    return Experiment(
        id="scgan", config=config, infer=assess,
        stages=(Stage("SCGAN", playing, phases, cases, config.steps, prepare),
                Stage("assessment", networks, (turn,), cases, config.classifier_steps, prepare, memory=keep)),
        baseline=one_answer("every stack incomplete", *ENDS, source="mbs_truth"),
        metrics=tuple(each for end in ENDS for each in binary_classification(end, f"{end}_truth", f"{end}_")),
        images=tuple(f"{end}_{what}" for end in ENDS for what in ("slice", "G_0", "G_1")),
        learning=tuple(bound for end in ENDS for bound in (
            Bound(f"{end}_accuracy", ">=", "twin", plus=-0.02), Bound(f"{end}_accuracy", ">=", 0.75))),
        terms={"adversarial": "1", "classes": f"w_c = {config.w_c:g}", "features": f"w_f = {config.w_f:g}",
               "generated": f"w_c w_g = {config.w_c * config.w_g:g}"},
        unknowns=("sizes of layers, weights, rates, batch and steps", "which layers the generators share",
                  "heads of D: two, of several forms that fit", "classifier of the second stage: linear"))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
