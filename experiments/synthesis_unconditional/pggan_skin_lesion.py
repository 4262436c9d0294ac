"""Generating highly realistic images of skin lesions with GANs [27], Table 2.

Baur, Albarqouni, Navab. MICCAI 2018 workshops, arXiv 1809.01410; numbers of Karras et al. 2018 and its code.

PGGAN against DCGAN and LAPGAN on the same images, by the sliced Wasserstein distance of patches (SWD):

    G(z) = (1 - alpha) u(I_(s/2)) + alpha I_s        alpha from 0 to 1; D and real images x_alpha likewise
    L_D  = E D(G(z)) - E D(x_alpha) + lambda E(||grad D(x^)||_2 - 1)^2 + epsilon E D(x_alpha)^2
    L_G  = -E D(G(z)),   x^ = e x_alpha + (1 - e) G(z),   e ~ U(0, 1),   lambda = 10,   epsilon = 0.001

The rivals are trained beside it at the last resolution; LAPGAN starts from a DCGAN at 64x64. The objectives
and the stages are those of PGGAN, in `medgan_jax.growing`.

Data: ISIC 2018, 10015 dermoscopic images; here phantoms of three kinds, as frequent as in ISIC 2017.
Published: no value in the review; dermatologists could hardly tell real from generated.
Deviations: Adam and the moving average start anew at each resolution; rivals see its last batches.
`small`: without rivals, 0.93 of the distance of a Gaussian in PCA space. The bound is the Gaussian's, not half of it:
two sets of 256 real images are two thirds of it apart. Single runs without a record: 0.84 by wider networks, which take
over six minutes; above the Gaussian by a decay of 0.998, by half the batch beside rivals, by G at a quarter of D's
rate. `paper`: not run.

    python -m experiments.synthesis_unconditional.pggan_skin_lesion --data.source FOLDER
"""

import dataclasses
import functools

from medgan_jax import cli
from medgan_jax.baselines import pca_gaussian
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import parts
from medgan_jax.data.dermoscopy import skin_data
from medgan_jax.data.needs import Needs
from medgan_jax.game import Bound, Experiment
from medgan_jax.growing import growing_stage, growth, images_and_latents
from medgan_jax.measures import sample_distance
from medgan_jax.models.progressive import ProgressiveDiscriminator, ProgressiveGenerator
from medgan_jax.rivals import dcgan_rival, lapgan_rival

NEEDS = Needs(channels=3)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 256
    first: int = 4  # side of the images that training starts with
    base: int = 8192  # maps of side s have min(2 base / s, widest) channels
    widest: int = 512
    latent: int = 512
    penalty: float = 10.0
    drift: float = 0.001
    average: float = 0.999  # decay of the moving average of G
    learning_rate: float = 1e-3
    phase_images: int = 600_000  # shown while a resolution fades in, and once more
    batches: tuple[int, ...] = (128, 128, 128, 64, 32, 16)  # at 4, 8, ...
    batch_size: int = 8  # at the last resolution
    steps: int = 150_000  # at the last resolution: 600000 images fading in and as many more
    rivals: tuple[str, ...] = ("dcgan", "lapgan")
    rival_base: int = 64
    rival_rate: float = 2e-4
    coarsest: int = 64  # side at which LAPGAN starts
    evaluate_every: int = 15_000
    evaluation_cases: int = 256
    phantoms: tuple[int, int, int] = (9000, 500, 515)

    @classmethod
    def tiny(cls):
        return cls(size=8, base=16, widest=4, latent=4, phase_images=8, batches=(8,), batch_size=8, steps=2,
                   rivals=("dcgan",), rival_base=4, evaluate_every=2, evaluation_cases=8, phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=16, base=192, widest=48, latent=48, phase_images=6400, batches=(32, 32),
                   batch_size=32, average=0.99, steps=2800, rivals=(), evaluate_every=400,
                   phantoms=(2000, 256, 256))


def levels(config):
    return growth(config.size, first=config.first, phase_images=config.phase_images, batches=config.batches,
                  batch_size=config.batch_size, steps=config.steps)


def models(config, side):
    widths = dict(base=config.base, widest=config.widest)
    return {"G": ProgressiveGenerator(side, **widths), "D": ProgressiveDiscriminator(side, **widths)}


def rivals(config):
    settings = dict(image="x", channels=3, base=config.rival_base, learning_rate=config.rival_rate)
    made = {"dcgan": functools.partial(dcgan_rival, config.size),
            "lapgan": functools.partial(lapgan_rival, config.size, coarsest=config.coarsest)}
    return {name: made[name](**settings) for name in config.rivals}


def data(config):
    return skin_data(config.data.source, size=config.size, counts=config.phantoms,
                     batch_size=config.batch_size)


def experiment(config):
    cases, beside = data(config), rivals(config)
    prepare = images_and_latents(parts.symmetric_range(cases.train.source), config.latent)

    def stage(level):
        last = beside.values() if level.side == config.size else ()
        return growing_stage(level, models(config, level.side), cases, prepare, penalty=config.penalty,
                             drift=config.drift, learning_rate=config.learning_rate, average=config.average,
                             rivals=last)

    def samples(nets, batch, key):
        drawn = {name: rival.sample(nets, key, len(batch["x"])) for name, rival in beside.items()}
        return {"sample": nets.G.eval(batch["z"]), **drawn}

    names = {"swd": "sample", **{f"swd_{name}": name for name in beside}}
    return Experiment(
        id="pggan_skin_lesion", config=config, stages=tuple(stage(level) for level in levels(config)),
        infer=samples, baseline=pca_gaussian(tuple(names.values()), "x"),
        metrics=tuple(metric for name, each in names.items() for metric in sample_distance(each, "x", name)),
        learning=(Bound("swd", "<=", "baseline"),), select="swd", images=(*names.values(), "x"),
        terms={"wasserstein": "1", "penalty": f"lambda = {config.penalty:g}",
               "drift": f"epsilon = {config.drift:g}", "adversarial": "1"},
        unknowns=("images shown at each resolution", "batch size", "mirrored images: none", "rivals' widths"))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
