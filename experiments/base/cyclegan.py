"""CycleGAN: unpaired image-to-image translation using cycle-consistent adversarial networks [19].

Zhu, Park, Isola, Efros. ICCV 2017. Section 3.4 of the review. Details from the authors' code. G: X -> Y and
F: Y -> X, discriminators D_Y and D_X over 70x70 patches, least-squares scores:

    L_G = E(D_Y(G(x)) - 1)^2 + E(D_X(F(y)) - 1)^2 + lambda [E|F(G(x)) - x| + E|G(F(y)) - y|]
          + mu lambda [E|G(y) - y| + E|F(x) - x|]                              lambda = 10, mu = 1/2
    L_D = 1/2 [E(D(real) - 1)^2 + E D(fake)^2] for D_X and D_Y

Both generators move first, in one optimiser; then both discriminators, on the fakes of the generators as they
were, out of a pool of 50 past ones. The rate is constant for half of the steps, then falls to 0.
Data: two unpaired domains, folders `A/ B/` or `trainA/ trainB/ ...`, or T1 and T2 slices of phantom heads.
Deviations: no biases before instance normalisation.
Expected: no value in the review. `small`: minutes on two CPU cores. `paper`: not run by this project.

    python -m experiments.base.cyclegan --data.source FOLDER
"""

import dataclasses
import functools

import jax
import optax

from medgan_jax import cli
from medgan_jax.baselines import identity
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import parts
from medgan_jax.data.augmentations import enlarged_crop
from medgan_jax.data.needs import Needs
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.game import Bound, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.losses import adversarial, consistency
from medgan_jax.measures import image_fidelity, sample_distance
from medgan_jax.models.patchgan import PatchGAN
from medgan_jax.models.resnet import ResNetGenerator
from medgan_jax.phantoms.head import head_slice
from medgan_jax.schedules import constant_then_linear
from medgan_jax.training import pool

NEEDS = Needs(domains=2)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 256
    base: int = 64
    blocks: int = 9  # 6 at 128 pixels
    patch_layers: int = 3
    channels: int = 1
    cycle: float = 10.0
    identity: float = 0.5
    pool: int = 50
    enlarge: float = 286 / 256  # random crops are cut from images enlarged by this
    batch_size: int = 1
    learning_rate: float = 2e-4
    beta1: float = 0.5
    steps: int = 240000  # 200 epochs of 1200 images
    decay_from: float = 0.5  # share of the steps before the rate falls to 0 linearly
    evaluate_every: int = 12000
    phantoms: tuple[int, int, int] = (600, 50, 100)

    @classmethod
    def tiny(cls):
        return cls(size=16, base=4, blocks=1, patch_layers=1, pool=8, batch_size=8, steps=4, evaluate_every=2,
                   evaluation_cases=8, phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=64, base=16, blocks=4, patch_layers=2, steps=2500, evaluate_every=500,
                   evaluation_cases=32, phantoms=(300, 32, 64))


def models(config):
    generator = ResNetGenerator(config.channels, config.base, config.blocks)
    discriminator = PatchGAN(config.patch_layers, config.base, norm="instance")
    return {"G": generator, "F": generator, "D_X": discriminator, "D_Y": discriminator}


def generator_loss(config):
    def loss(nets, batch, context):
        """L_G of x and y, (B, H, W, C) in [-1, 1]."""
        x, y = batch["A"], batch["B"]
        fake_y, fake_x = nets.G(x), nets.F(y)
        terms = {"adversarial_y": adversarial.generator_least_squares(nets.D_Y(fake_y)),
                 "adversarial_x": adversarial.generator_least_squares(nets.D_X(fake_x)),
                 "cycle_x": config.cycle * consistency.cycle_consistency(nets.F(fake_y), x),
                 "cycle_y": config.cycle * consistency.cycle_consistency(nets.G(fake_x), y)}
        if config.identity:
            weight = config.cycle * config.identity
            terms["identity_y"] = weight * consistency.identity(nets.G(y), y)
            terms["identity_x"] = weight * consistency.identity(nets.F(x), x)
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def discriminator_loss(nets, batch, context):
    """L_D of both, each on real images and on fakes out of its pool."""
    x, y = batch["A"], batch["B"]
    key_x, key_y = jax.random.split(context.key)
    pool_y, fake_y = pool.query(context.memory["Y"], nets.G(x), key_y)
    pool_x, fake_x = pool.query(context.memory["X"], nets.F(y), key_x)
    loss_y = 0.5 * adversarial.discriminator_least_squares(nets.D_Y(y), nets.D_Y(fake_y))
    loss_x = 0.5 * adversarial.discriminator_least_squares(nets.D_X(x), nets.D_X(fake_x))
    return loss_y + loss_x, Terms(nets, {"Y": pool_y, "X": pool_x}, D_Y=loss_y, D_X=loss_x)


def empty_pools(config):
    return lambda nets, batch, key: {"X": pool.empty_pool(config.pool, batch["A"].shape[1:]),
                                     "Y": pool.empty_pool(config.pool, batch["B"].shape[1:])}


def phantom(key, domain, *, size):
    return {"image": head_slice(key, size, contrast={"A": "t1", "B": "t2"}[domain])["image"]}


def data(config):
    domains = parts.open_domain_parts(config.data.source, functools.partial(phantom, size=config.size),
                                      ("A", "B"), name=f"head_{config.size}", counts=config.phantoms)
    parts.require_domains(domains, channels=config.channels, size=config.size)
    crop = enlarged_crop(config.size, config.enlarge)
    train = {name: Stream(part, config.batch_size, crop, ("image",)) for name, part in domains.train.items()}
    return Data(train, domains.validation, domains.test, fields=("A", "B")), domains.paired


def experiment(config):
    (cases, paired), pair = data(config), ("translation", "B")
    ranges = {name: parts.symmetric_range(stream.source) for name, stream in cases.train.items()}
    rate = constant_then_linear(config.learning_rate, config.steps, config.decay_from)
    turns = (Phase("G", ("G", "F"), generator_loss(config), optax.adam(rate, b1=config.beta1)),
             Phase("D", ("D_X", "D_Y"), discriminator_loss, optax.adam(rate, b1=config.beta1), reads="start"))
    game = Stage("game", models(config), turns, cases, config.steps, memory=empty_pools(config),
                 prepare=lambda batch, key: {name: ranges[name].forward(batch[name]) for name in ranges})
    return Experiment(
        id="cyclegan", config=config, stages=(game,),
        infer=lambda nets, batch, _: {"translation": nets.G(batch["A"]), "cycle": nets.F(nets.G(batch["A"]))},
        baseline=identity("translation", "cycle", source="A", target="B"),
        # Without pairs a translation has no truth: its distribution is then compared with the domain's.
        metrics=image_fidelity(*pair, low=-1, high=1) if paired else sample_distance(*pair),
        images=("A", "translation", "B", "cycle"),
        prediction=Prediction("A", "translation", lambda image: ranges["A"], output_intensity=ranges["B"]),
        terms={"adversarial": "1, both directions", "cycle": f"lambda = {config.cycle:g}, both directions",
               "identity": f"mu lambda = {config.identity * config.cycle:g}, both directions"},
        learning=(Bound("psnr", ">=", "baseline", plus=2.0),) if paired else ())


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
