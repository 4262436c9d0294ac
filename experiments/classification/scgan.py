"""SCGAN: semi-coupled GAN that finds missing basal and apical slices of cardiac MR [110], Table 18.

Zhang, Gooya, Frangi. SASHIMI at MICCAI 2017, LNCS 10557:61-68. The objective is reconstructed from abstract,
introduction and the review's figure 13. At each end of the heart two generators that share their first layers
make slices that show it (G_1) and slices that do not (G_0). D says whether a slice is real (d) and whether it
shows the end (c), both from F features f. Slices x have a class y, slices u have none:

    L_D = BCE(d(x, u), 1) + 1/2 sum_i BCE(d(G_i(z)), 0) + w_c [CE(c(x), y) + w_g 1/2 sum_i CE(c(G_i(z)), i)]
    L_G = sum_i BCE(d(G_i(z)), 1) + w_c CE(c(G_i(z)), i) + w_f / F ||E f(x | y = i) - E f(G_i(z))||^2
    L_C = BCE(C(f(x)), y)                                                        second stage, f is fixed

A stack whose first slice is not basal misses its base (MBS), one whose last is not apical its apex (MAS).
Data: UK Biobank short-axis cine MR (the review says ultrasound), whose complete stacks lose outer slices;
here phantoms, or a folder of stacks from base to apex, cut round the ventricle. A share has labels.
Published: accuracy 92.5 (MAS), 89.3 % (MBS). Its twin is the trunk without generators. `paper`: not run.
`small`: accuracy 0.885 (MAS), 0.83 (MBS), twin 0.90, 0.80; G draws blurred hearts, all alike. Five minutes.

    python -m experiments.classification.scgan --data.source FOLDER
"""

import dataclasses

import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.baselines import one_answer
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.needs import Needs
from medgan_jax.data.stacks import ENDS, ends_as_found, heart_ends
from medgan_jax.game import Bound, Experiment, Phase, Stage, Terms
from medgan_jax.losses import adversarial, perceptual
from medgan_jax.measures import binary_classification
from medgan_jax.models import coupled, features, mlp

NEEDS = Needs(rank=3, channels=1)


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
    generator_rate: float = 2e-4
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
        return cls(base=12, batch_size=16, learning_rate=1e-4, generator_rate=5e-4, classifier_steps=300,
                   steps=500, evaluate_every=150, phantoms=(240, 24, 400))

    def twin(self):
        return dataclasses.replace(self, adversarial=0.0)


def models(config):
    kinds = {"D": coupled.two_headed_discriminator(config.size, base=config.base), "C": mlp.MLP(1, ())}
    if config.adversarial:
        kinds["G"] = coupled.SemiCoupledGenerators(config.size, base=config.base, shared=config.shared)
    return {f"{kind}_{end}": network for kind, network in kinds.items() for end in ENDS}


def discriminator_loss(config, end):
    def loss(nets, batch, context):
        """L_D of slices x with classes y and slices u without, (B, H, W, 1) in [-1, 1]."""
        D, (x, u, y) = f"D_{end}", (batch[end][name] for name in "xuy")
        (d_real, c_real), nets = nets[D].update(jnp.concatenate([x, u]) if config.adversarial else x)
        terms = {"classes": config.w_c * features.class_cross_entropy(c_real[: len(x)], y)}
        if config.adversarial:
            images, i = coupled.joined(nets[f"G_{end}"].peek(batch[end]["z"]))
            (d_fake, c_fake), nets = nets[D].update(images)
            terms["adversarial"] = adversarial.discriminator_cross_entropy(d_real, d_fake)
            terms["generated"] = config.w_c * config.w_g * features.class_cross_entropy(c_fake, i)
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def generator_loss(config, end):
    def loss(nets, batch, context):
        """L_G of latent vectors z, (B, 2, Z), one for each generator."""
        images, nets = nets[f"G_{end}"].update(batch[end]["z"])
        images, i = coupled.joined(images)
        (d, c), made = nets[f"D_{end}"].peek(images, features=True)
        _, real = nets[f"D_{end}"].peek(batch[end]["x"], features=True)
        terms = {"adversarial": 2 * adversarial.generator_non_saturating(d),  # sums, not means of both
                 "classes": 2 * config.w_c * features.class_cross_entropy(c, i),
                 "features": config.w_f * perceptual.class_means_l2(made, real, batch[end]["y"])}
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def classifier_loss(nets, batch, context):
    """L_C at both ends, of labelled slices and their features in D as the first stage left it."""
    f = {end: nets[f"D_{end}"].eval(batch[end]["x"], features=True)[1] for end in ENDS}
    terms = {end: adversarial.cross_entropy(nets[f"C_{end}"](f[end])[:, 0], batch[end]["y"]) for end in ENDS}
    return sum(terms.values()), Terms(nets, **terms)


def assess(nets, batch, key):
    """Log-odds that the base (`mbs`) and the apex (`mas`) of a stack are missing; the generators' images."""
    f = {end: nets[f"D_{end}"].eval(batch[f"{end}_slice"], features=True)[1] for end in ENDS}
    outputs = {end: -nets[f"C_{end}"].eval(f[end])[:, 0] for end in ENDS}
    return outputs | coupled.pictures(nets, dict.fromkeys(ENDS, batch["z"]))


def experiment(config):
    cases = heart_ends(config.data.source, config.size, config.phantoms, config.labelled, config.batch_size)
    networks, prepare, keep = models(config), ends_as_found(ENDS, config.latent), coupled.kept(ENDS)
    kinds = {"D": (discriminator_loss, config.learning_rate), "G": (generator_loss, config.generator_rate)}
    phases = tuple(Phase(f"{k}_{end}", (f"{k}_{end}",), loss(config, end), optax.adam(rate, b1=config.beta1))
                   for end in ENDS for k, (loss, rate) in kinds.items() if f"{k}_{end}" in networks)
    turn = Phase("C", tuple(f"C_{end}" for end in ENDS), classifier_loss, optax.adam(config.classifier_rate))
    playing = {name: network for name, network in networks.items() if name not in turn.trains}

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
        unknowns=("layers, weights, rates, batch, steps", "what generators share", "two heads", "C: linear"))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
