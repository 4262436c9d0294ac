"""PGGAN: progressive growing of GANs for improved quality, stability, and variation [28], section 4.1.1.

Karras, Aila, Laine, Lehtinen. ICLR 2018, arXiv 1710.10196; numbers of the authors' code (one GPU's preset).

Training starts with images of 4x4 pixels. Every doubling adds layers to both networks, which fade in:

    G(z) = (1 - alpha) u(I_(s/2)) + alpha I_s        alpha from 0 to 1; D and real images x_alpha likewise
    L_D  = E D(G(z)) - E D(x_alpha) + lambda E(||grad D(x^)||_2 - 1)^2 + epsilon E D(x_alpha)^2
    L_G  = -E D(G(z)),   x^ = e x_alpha + (1 - e) G(z),   e ~ U(0, 1),   lambda = 10,   epsilon = 0.001

Weights are N(0, 1), scaled at run time (equalised learning rate); pixel normalisation in G, none in D; D sees
the deviation within groups of four images; samples are drawn by a moving average of G, with alpha = 1. The
objectives and the stages, which other methods share, are in `medgan_jax.growing`.

Data: any images of a size that is a power of two (CelebA-HQ in the paper); here cells under four kinds of
microscope, whose kinds are counted among the samples (`modes`) where records have a label.
Deviations: Adam and the moving average start anew at each resolution; doubling and convolution are apart.
Expected: no value in the review for this base model.
`small`, 8 x 8: G moves at a quarter of D's rate. At D's own the critic falls behind, its distance turns
negative, and kinds come and go; at 16 x 16 fluorescence, dark with few bright nuclei, stayed out (0.2 % of
the samples, though the distance was 49 and a Gaussian in PCA space has 75). `paper`: not run.

    python -m experiments.base.pgan --data.source FOLDER
"""

import dataclasses

from medgan_jax import cli
from medgan_jax.baselines import pca_gaussian
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import parts
from medgan_jax.data.microscopy import KINDS, cell_data
from medgan_jax.data.needs import Needs
from medgan_jax.game import Bound, Experiment
from medgan_jax.growing import growing_stage, growth, images_and_latents
from medgan_jax.measures import mode_coverage, sample_distance
from medgan_jax.models.progressive import ProgressiveDiscriminator, ProgressiveGenerator

NEEDS = Needs(channels=1)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 1024
    first: int = 4  # side of the images that training starts with
    base: int = 8192  # maps of side s have min(2 base / s, widest) channels
    widest: int = 512
    channels: int = 1  # 3 in the paper
    latent: int = 512
    penalty: float = 10.0
    drift: float = 0.001
    average: float = 0.999  # decay of the moving average of G
    learning_rate: float = 1e-3
    last_rate: float = 1.5e-3  # at the last resolution: the code's at 1024
    generator_share: float = 1.0  # G's rate over D's
    phase_images: int = 600_000  # shown while a resolution fades in, and once more
    batches: tuple[int, ...] = (128, 128, 128, 64, 32, 16, 8, 4)  # at 4, 8, ...; then batch_size
    batch_size: int = 4  # at the last resolution
    steps: int = 750_000  # at the last resolution: the rest of 12 million images
    evaluate_every: int = 75_000
    evaluation_cases: int = 256
    phantoms: tuple[int, int, int] = (4000, 256, 512)

    @classmethod
    def tiny(cls):
        return cls(size=8, base=16, widest=4, latent=4, phase_images=8, batches=(8,), batch_size=8, steps=2,
                   evaluate_every=2, evaluation_cases=16, phantoms=(16, 16, 16))

    @classmethod
    def small(cls):
        return cls(size=8, base=128, widest=64, latent=32, phase_images=16000, batches=(32,), batch_size=32,
                   average=0.998, learning_rate=2e-3, last_rate=2e-3, generator_share=0.25, steps=4500,
                   evaluate_every=5000, phantoms=(2000, 256, 256))


def levels(config):
    return growth(config.size, first=config.first, phase_images=config.phase_images, batches=config.batches,
                  batch_size=config.batch_size, steps=config.steps)


def models(config, side):
    widths = dict(base=config.base, widest=config.widest)
    return {"G": ProgressiveGenerator(side, config.channels, **widths),
            "D": ProgressiveDiscriminator(side, **widths)}


def data(config):
    return cell_data(config.data.source, size=config.size, channels=config.channels, counts=config.phantoms,
                     batch_size=config.batch_size)


def experiment(config):
    cases = data(config)
    intensity = parts.symmetric_range(cases.train.source)

    prepare = images_and_latents(intensity, config.latent)

    def stage(level):
        rate = config.last_rate if level.side == config.size else config.learning_rate
        return growing_stage(level, models(config, level.side), cases, prepare, penalty=config.penalty,
                             drift=config.drift, learning_rate=rate, average=config.average,
                             generator_rate=config.generator_share * rate)

    labelled = "label" in cases.fields
    return Experiment(
        id="pgan", config=config, stages=tuple(stage(level) for level in levels(config)),
        infer=lambda nets, batch, key: {"sample": nets.G.eval(batch["z"])},
        baseline=pca_gaussian("sample", "x"),
        metrics=sample_distance("sample", "x") + (mode_coverage("sample", "x", "label") if labelled else ()),
        learning=(Bound("modes", ">=", len(KINDS)), Bound("swd", "<=", "baseline")) if labelled else (),
        select="swd", images=("sample", "x"),
        terms={"wasserstein": "1", "penalty": f"lambda = {config.penalty:g}",
               "drift": f"epsilon = {config.drift:g}", "adversarial": "1"})


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
