"""Context-aware GAN: CT from MR, patch by patch, in rounds that see the round before [29], Table 3.

Nie, Trullo, Lian, Petitjean, Ruan, Wang, Shen. MICCAI 2017, arXiv 1612.05362. Layers and optimiser follow the
authors' code (ginobilinie/medSynthesis).
G maps an MR patch X of 32^3 voxels to the 16^3 voxels of CT in its middle; D sees CT alone. Sums over voxels:

    L_D = BCE(D(Y), 1) + BCE(D(G(X)), 0)
    L_G = lambda_1 BCE(D(G(X)), 1) + lambda_2 ||Y - G(X)||^2 + lambda_3 sum_axes || |dY| - |dG(X)| ||^2
                                                                       lambda_1 = 1/2, lambda_2 = lambda_3 = 1
    X_1 = MR,  X_r = [MR, G_{r-1}(X_{r-1})]                                  auto-context, rounds r = 1, 2

Each round trains a new GAN from scratch. Test volumes are the mean of overlapping patches. Data: 16 ADNI
brains and 22 pelves; folders `A/ B/` of registered volumes, B in HU, or heads of phantoms. Deviations:
contexts are made in the step, of wider patches, not stored; with `folds` of 2 or more by networks that have
not seen the subject, averaged over folds at test time; the state with the best validation MAE is kept; no
biases before norms. Published (recalled): MAE 92.5 HU, PSNR 27.6 dB on brains, 39.0 HU, 34.1 dB on pelves.
`small`: 72 HU, round 1 77, twin 79, look-up table 105; six minutes, two cores. `paper`: not run.

    python -m experiments.synthesis_conditional.context_aware_gan --data.source FOLDER
"""

import dataclasses
from functools import partial

import optax

from medgan_jax import cli
from medgan_jax.auto_context import AutoContext
from medgan_jax.baselines import look_up_table
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.intensity import Affine
from medgan_jax.data.needs import Needs
from medgan_jax.data.parts import symmetric_range
from medgan_jax.data.pipeline import Data
from medgan_jax.data.volumes import open_head_pairs
from medgan_jax.forward_models import in_ranges
from medgan_jax.game import Bound, Experiment, Prediction, Stage, Terms
from medgan_jax.losses import adversarial, pixel
from medgan_jax.measures import absolute_error, image_fidelity
from medgan_jax.models.context_aware import ContextAwareDiscriminator, ContextAwareGenerator
from medgan_jax.schedules import constant_then_linear, with_weight_decay

NEEDS = Needs(fields=("A", "B"), rank=3, channels=1)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 64  # side of the phantoms
    patch: int = 32
    base: int = 32
    kernel: int = 9  # of the convolutions without padding: G takes 2 (kernel - 1) voxels away
    widths: tuple[int, ...] = (32, 64, 128, 256)  # of D
    dense: tuple[int, ...] = (512, 128)
    rounds: int = 2  # the paper says that two or three are enough
    folds: int = 1  # 1 as the paper: contexts of networks that have seen the subject
    adversarial: float = 0.5  # 0.05 in the code
    l2: float = 1.0  # halved in the code
    gdl: float = 1.0
    window: int = 32  # side of patches at test time
    stride: int = 8  # voxels between them; the paper's is not known
    batch_size: int = 10
    learning_rate: float = 1e-6  # 2e-7 in the code's script for volumes
    flat: float = 1.0  # share of each round before the rate falls to 0
    beta1: float = 0.5
    weight_decay: float = 5e-4
    steps: int = 500000  # of each round
    evaluate_every: int = 10000
    phantoms: tuple[int, int, int] = (32, 4, 8)

    @classmethod
    def tiny(cls):
        return cls(size=16, patch=8, base=2, kernel=3, widths=(2, 2), dense=(4,), folds=2, window=12,
                   stride=8, batch_size=8, steps=2, evaluate_every=1, evaluation_cases=8, phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=32, patch=16, base=8, kernel=5, widths=(8, 16, 32), dense=(32,), folds=2, window=40,
                   stride=32, batch_size=6, learning_rate=2e-3, flat=0.4, steps=420,
                   evaluate_every=210, evaluation_cases=8, phantoms=(48, 8, 16))

    def twin(self):
        return dataclasses.replace(self, adversarial=0.0)


def models(config):
    generator = ContextAwareGenerator(1, config.base, config.kernel)
    discriminator = ContextAwareDiscriminator(config.widths, dense=config.dense)
    return {"G": generator, "D": discriminator} if config.adversarial else {"G": generator}


def discriminator_loss(names, examples):
    def loss(nets, batch, context):
        """L_D of Y and G(X), (B, 16, 16, 16, 1) in the paper."""
        x, y = examples(nets, batch)
        real, nets = nets[names["D"]].update(y)
        fake, nets = nets[names["D"]].update(nets[names["G"]].peek(x))
        return adversarial.discriminator_cross_entropy(real, fake), Terms(nets, real=real.mean())

    return loss


def generator_loss(config, names, examples):
    def loss(nets, batch, context):
        """L_G: squared error and gradient difference, summed over a patch, and the adversarial term."""
        x, y = examples(nets, batch)
        y_hat, nets = nets[names["G"]].update(x)
        terms = {"l2": config.l2 * y[0].size * pixel.l2(y_hat, y),
                 "gdl": config.gdl * pixel.gradient_difference(y_hat, y, summed=True)}
        if config.adversarial:
            score = nets[names["D"]].peek(y_hat)
            terms["adversarial"] = config.adversarial * adversarial.generator_non_saturating(score)
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def stage(config, rounds, number, heads, ranges):
    rate = constant_then_linear(config.learning_rate, config.steps, config.flat)
    adam = with_weight_decay(optax.adam(rate, b1=config.beta1), config.weight_decay)
    made = ({"D": discriminator_loss} if config.adversarial else {}) | {"G": partial(generator_loss, config)}
    networks, turns = rounds.turns(number, models(config), made, adam)
    streams = rounds.streams(heads.train, number, config.patch, config.batch_size)
    cases = Data(streams, heads.validation, heads.test, evaluation_batch_size=4, fields=("A", "B"))
    return Stage(f"round_{number}", networks, turns, cases, config.steps, in_ranges(ranges))


def experiment(config):
    rounds = AutoContext(config.rounds, config.folds, border=config.kernel - 1)
    heads = open_head_pairs(config.data.source, size=config.size, counts=config.phantoms,
                            least=rounds.width(config.rounds, config.patch))
    ranges = {"A": symmetric_range(heads.train, "A"), "B": Affine(1e-3, 0.0, "HU")}
    in_hu = partial(absolute_error, reference="B", unit="HU", scale=1000)
    return Experiment(
        id="context_aware_gan", config=config, select="mae",
        infer=rounds.infer("A", first="round_1", last="estimate", window=config.window, stride=config.stride),
        stages=tuple(stage(config, rounds, each + 1, heads, ranges) for each in range(config.rounds)),
        baseline=look_up_table("estimate", "round_1", source="A", target="B", span=(-1, 1)),
        metrics=(in_hu("estimate"), in_hu("round_1", name="mae_round_1"),
                 *image_fidelity("estimate", "B", low=-1, high=2)[:1]),
        images=("A", "round_1", "estimate", "B"), compare=("estimate", "B"), value_range=(-1, 1.5),
        image_ranges={"A": (-1, 1), "error": (0, 1)},
        prediction=Prediction("A", "estimate", lambda image: ranges["A"], ranges["B"], rank=3),
        terms={"l2": f"{config.l2:g}", "gdl": f"{config.gdl:g}", "adversarial": f"{config.adversarial:g}"},
        learning=(Bound("mae", "<=", "baseline", times=0.8),
                  Bound("mae", "<=", "method", of="mae_round_1", times=1.02)),
        unknowns=("range of CT: HU / 1000", "distance of test patches", "pools of D", "lambda_1 and rounds"))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
