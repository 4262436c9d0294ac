"""Sketcher-Refiner GAN: myelin content, as PET shows it, from several MR images in two steps [40], Table 3.

Wei, Poirion, Bodini, Durrleman, Ayache, Stankoff, Colliot. MICCAI 2018, arXiv 1804.08039.

The sketcher S makes y' = S(x) out of MR images x. In a second conditional GAN the refiner R corrects it; its
absolute error counts lesions as much as all that is not lesion:

    L_S = BCE(D_S(x, S(x)), 1) + lambda E|y - S(x)|                                              lambda = 100
    L_R = BCE(D_R(x, y', R(x, y')), 1) + lambda [E_lesion|y - R| + E_rest|y - R|]
    L_D = 1/2 [BCE(D(condition, y), 1) + BCE(D(condition, fake), 0)] for D_S and D_R

S is fixed while R learns. What is not known of the networks and their training is that of pix2pix.
Data: 18 patients with multiple sclerosis, 10 controls; MTR, FA, RD, AD and [11C]PIB PET (distribution volume
ratio). Folders `A/ B/ masks/`, A with all contrasts as channels, masks 1 in lesions, or phantom heads.
Deviations: the state with the best error in validation lesions is kept; stored batch statistics and no
dropout at test time; no biases before batch normalisation.
Published: no value in the review. `small`: slices, four minutes, error in lesions 0.097 (sketch 0.118, twin
0.085, tissue means 0.144); maps are softer than the truth. `paper`: not run.

    python -m experiments.synthesis_conditional.sketcher_refiner_gan --data.source FOLDER
"""

import dataclasses

import optax

from medgan_jax import cli
from medgan_jax.baselines import region_means
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.intensity import Affine
from medgan_jax.data.myelin import FIELDS, LESION, REGIONS, WHITE_MATTER, open_myelin
from medgan_jax.data.needs import Needs
from medgan_jax.data.parts import symmetric_range
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.forward_models import in_ranges
from medgan_jax.game import Bound, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.losses import adversarial, pixel
from medgan_jax.measures import absolute_error
from medgan_jax.models.patchgan import PatchGAN
from medgan_jax.models.unet import pix2pix_unet
from medgan_jax.nn.blocks import beside

NEEDS = Needs(fields=("A", "B", "mask"), rank=3)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 64  # not the paper's, nor are base and patch_layers
    rank: int = 3
    channels: int = 4
    base: int = 32
    patch_layers: int = 2
    dropout: float = 0.5
    lam: float = 100.0
    adversarial: float = 1.0
    batch_size: int = 1
    learning_rate: float = 2e-4
    beta1: float = 0.5
    steps: int = 20000  # of each of the two GANs; not the paper's
    evaluate_every: int = 1000
    phantoms: tuple[int, int, int] = (20, 4, 4)

    @classmethod
    def tiny(cls):
        return cls(size=16, rank=2, channels=1, base=4, patch_layers=1, batch_size=8, steps=2,
                   evaluate_every=1, evaluation_cases=8, phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(rank=2, base=16, dropout=0.0, batch_size=8, learning_rate=1e-3, steps=300,
                   evaluate_every=100, evaluation_cases=32, phantoms=(400, 32, 64))

    def twin(self):
        return dataclasses.replace(self, adversarial=0.0)


def models(config):
    generator = pix2pix_unet((config.size,) * config.rank, base=config.base, dropout=config.dropout)
    return {"G": generator, "D": PatchGAN(config.patch_layers, config.base)}


def condition(nets, batch, step):  # x for the sketcher; x and its sketch y', as it is, for the refiner
    return batch["A"] if step == "S" else beside(batch["A"], nets.S.eval(batch["A"]))


def discriminator_loss(step):
    def loss(nets, batch, context):
        """L_D of y, (B, *S, 1), beside what its generator sees."""
        x, y, d = condition(nets, batch, step), batch["B"], f"D_{step}"
        fake = nets[step].peek(x)
        real, nets = nets[d].update(beside(x, y))
        fake, nets = nets[d].update(beside(x, fake))
        return 0.5 * adversarial.discriminator_cross_entropy(real, fake), Terms(nets, real=real.mean())

    return loss


def generator_loss(config, step):
    def loss(nets, batch, context):
        """L_S or L_R: absolute error, in R balanced between lesions and the rest; adversarial term."""
        x, y = condition(nets, batch, step), batch["B"]
        fake, nets = nets[step].update(x)
        error = pixel.l1(fake, y) if step == "S" else pixel.balanced_l1(fake, y, batch["mask"] == LESION)
        terms = {"l1": config.lam * error}
        if config.adversarial:
            score = nets[f"D_{step}"].peek(beside(x, fake))
            terms["adversarial"] = config.adversarial * adversarial.generator_non_saturating(score)
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def synthesise(nets, batch, key):
    return {"sketch": nets.S.eval(batch["A"]), "refined": nets.R.eval(condition(nets, batch, "R"))}


def experiment(config):
    heads = open_myelin(config.data.source, size=config.size, rank=config.rank, channels=config.channels,
                        counts=config.phantoms)
    cases = Data(Stream(heads.train, config.batch_size), heads.validation, heads.test, fields=FIELDS)
    own = models(config)
    ranges = {"A": symmetric_range(heads.train, "A"), "B": Affine(1.0, -1.0, "DVR")}

    def stage(title, step, fixed):
        adam = optax.adam(config.learning_rate, b1=config.beta1)
        nets, turns = {**fixed, step: own["G"]}, (Phase(step, (step,), generator_loss(config, step), adam),)
        if config.adversarial:
            nets[f"D_{step}"] = own["D"]
            turns = (Phase(f"D_{step}", (f"D_{step}",), discriminator_loss(step), adam), *turns)
        return Stage(title, nets, turns, cases, config.steps, in_ranges(ranges))

    def error(name, region, image="refined"):
        return absolute_error(image, "B", name=name, unit="DVR", region=lambda batch: region(batch["mask"]))

    return Experiment(
        id="sketcher_refiner_gan", config=config, infer=synthesise, select="mae_lesion",
        stages=(stage("sketcher", "S", {}), stage("refiner", "R", {"S": own["G"]})),
        baseline=region_means("sketch", "refined", target="B", regions="mask", count=REGIONS),
        metrics=(error("mae_lesion", lambda mask: mask == LESION), error("mae", lambda mask: mask > 0),
                 error("mae_white_matter", lambda mask: mask == WHITE_MATTER),
                 error("mae_lesion_sketch", lambda mask: mask == LESION, "sketch")),
        images=("A", "sketch", "refined", "B"), compare=("refined", "B"), image_ranges={"error": (0, 0.5)},
        prediction=Prediction("A", "refined", lambda image: ranges["A"], ranges["B"], rank=config.rank),
        terms={"l1": f"lambda = {config.lam:g}", "adversarial": f"weight {config.adversarial:g}"},
        learning=(Bound("mae_lesion", "<=", "baseline", times=0.9),),
        unknowns=("networks", "schedule", "what D_R sees: x and y'", "weights of lesions and of the rest"))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
