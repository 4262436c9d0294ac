"""StainGAN: stain style transfer between scanners, without pairs and without a reference slide [47], Table 4.

Shaban, Baur, Navab, Albarqouni. ISBI 2019, arXiv 1804.01601. Details from the authors' code (xtarx/StainGAN).
G takes patches x of scanner A to scanner B and F takes y back; D_B and D_A score 70x70 patches:

    L_G = E(D_B(G(x)) - 1)^2 + E(D_A(F(y)) - 1)^2 + lambda [E|F(G(x)) - x| + E|G(F(y)) - y|]
          + mu lambda [E|G(y) - y| + E|F(x) - x|]                              lambda = 10, mu = 1/2
    L_D = 1/2 [E(D(real) - 1)^2 + E D(fake)^2] for D_A and D_B, fakes out of a pool of 50

Measured: likeness to the same region scanned by B; and how well a classifier C, which learns the tumours of B
beside the game, does on A as it is and after each way of normalising.

Data: MITOS-ATYPIA14, 11 slides by both scanners, 500 registered test pairs; Camelyon16, two laboratories;
folders `trainA/ trainB/ ...` (without pairs no truth, and no judge), or phantom tissue.
Deviations: no biases before instance normalisation; the judge is a small network, not VGG16.
Published: SSIM 0.71, PSNR 22.7 dB, AUC 0.89 (recalled). `small`: three minutes, mean error 0.64 of A's own,
below Macenko's and Reinhard's, AUC 0.64 from 0.55; SSIM stays below A's. `paper`: not run.

    python -m experiments.synthesis_conditional.staingan --data.source FOLDER
"""

import dataclasses

import jax
import optax

from medgan_jax import cli
from medgan_jax.baselines import identity, stain_normalisers
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.needs import Needs
from medgan_jax.data.parts import symmetric_range
from medgan_jax.data.scanners import scanner_data
from medgan_jax.forward_models import in_ranges
from medgan_jax.game import Bound, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.judges import Judge, classifier_judge
from medgan_jax.losses import adversarial, consistency
from medgan_jax.measures import absolute_error, image_fidelity, sample_distance
from medgan_jax.models.classifiers import FullyConvolutionalClassifier
from medgan_jax.models.patchgan import PatchGAN
from medgan_jax.models.resnet import ResNetGenerator
from medgan_jax.schedules import constant_then_linear
from medgan_jax.training import pool

NEEDS = Needs(domains=2, channels=3)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 256
    channels: int = 3  # classical methods need all three
    base: int = 64
    blocks: int = 9
    patch_layers: int = 3
    cycle: float = 10.0
    identity: float = 0.5
    pool: int = 50
    judge: tuple[int, ...] = (32, 64, 128, 128, 256)  # widths of C; not the paper's
    batch_size: int = 4
    learning_rate: float = 2e-4
    beta1: float = 0.5
    steps: int = 1500000  # 200 epochs of 30000 patches; the paper may have had 26
    evaluate_every: int = 7500
    phantoms: tuple[int, int, int] = (2000, 100, 500)

    @classmethod
    def tiny(cls):
        return cls(size=16, channels=1, base=4, blocks=1, patch_layers=1, pool=8, judge=(4, 4), batch_size=8,
                   steps=4, evaluate_every=2, evaluation_cases=8, phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=32, base=16, blocks=3, patch_layers=1, judge=(16, 32, 64), learning_rate=1e-3,
                   steps=600, evaluate_every=300, evaluation_cases=32, phantoms=(400, 32, 128))


def models(config):
    generator = ResNetGenerator(config.channels, config.base, config.blocks)
    discriminator = PatchGAN(config.patch_layers, config.base, norm="instance")
    return {"G": generator, "F": generator, "D_A": discriminator, "D_B": discriminator}


def generator_loss(config):
    def loss(nets, batch, context):
        """L_G of x and y, (B, H, W, 3) in [-1, 1], not of one region."""
        x, y = batch["A"], batch["B"]
        fake_b, fake_a = nets.G(x), nets.F(y)
        mu_lambda = config.identity * config.cycle
        terms = {"adversarial_b": adversarial.generator_least_squares(nets.D_B(fake_b)),
                 "adversarial_a": adversarial.generator_least_squares(nets.D_A(fake_a)),
                 "cycle_a": config.cycle * consistency.cycle_consistency(nets.F(fake_b), x),
                 "cycle_b": config.cycle * consistency.cycle_consistency(nets.G(fake_a), y),
                 "identity_b": mu_lambda * consistency.identity(nets.G(y), y),
                 "identity_a": mu_lambda * consistency.identity(nets.F(x), x)}
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def discriminator_loss(nets, batch, context):
    """L_D of both, each on real patches and on fakes out of its pool."""
    x, y = batch["A"], batch["B"]
    key_a, key_b = jax.random.split(context.key)
    pool_b, fake_b = pool.query(context.memory["B"], nets.G(x), key_b)
    pool_a, fake_a = pool.query(context.memory["A"], nets.F(y), key_a)
    loss_b = 0.5 * adversarial.discriminator_least_squares(nets.D_B(y), nets.D_B(fake_b))
    loss_a = 0.5 * adversarial.discriminator_least_squares(nets.D_A(x), nets.D_A(fake_a))
    return loss_a + loss_b, Terms(nets, {"A": pool_a, "B": pool_b}, D_A=loss_a, D_B=loss_b)


def empty_pools(config):
    return lambda nets, batch, key: {n: pool.empty_pool(config.pool, batch[n].shape[1:]) for n in ("A", "B")}


def experiment(config):
    pair, outputs = ("translation", "B"), ("translation", "cycle")
    cases, paired = scanner_data(config.data.source, size=config.size, channels=config.channels,
                                 counts=config.phantoms, batch_size=config.batch_size)
    ranges = {name: symmetric_range(cases.train[name].source) for name in ("A", "B")}
    judge, metrics = Judge(), sample_distance(*pair)
    if paired:
        judge = classifier_judge(FullyConvolutionalClassifier(1, config.judge), examples="judged",
                                 output="translation", raw="A", target="B", learning_rate=1e-3)
        metrics = (absolute_error(*pair, scale=0.5), *image_fidelity(*pair, low=-1, high=1), *judge.metrics)
    rate = constant_then_linear(config.learning_rate, config.steps, 0.5)
    adam = optax.adam(rate, b1=config.beta1)
    turns = (Phase("G", ("G", "F"), generator_loss(config), adam),
             Phase("D", ("D_A", "D_B"), discriminator_loss, adam, reads="start"))
    game = Stage("game", {**models(config), **judge.networks}, (*turns, *judge.phases), cases, config.steps,
                 in_ranges(ranges, judged="B"), memory=empty_pools(config))
    classical = stain_normalisers(*outputs, source="A", reference=cases.train["B"].source,
                                  light=lambda image: (ranges["B"].forward(image) + 1) / 2)
    return Experiment(
        id="staingan", config=config, stages=(game,), judge=judge.judge, metrics=metrics,
        infer=lambda nets, batch, _: {"translation": nets.G(batch["A"]), "cycle": nets.F(nets.G(batch["A"]))},
        baseline=identity(*outputs, source="A", target="B"),
        others=classical if config.channels == 3 else (),
        images=("A", "translation", "B", "cycle"),
        prediction=Prediction("A", "translation", lambda image: ranges["A"], output_intensity=ranges["B"]),
        terms={"cycle": f"lambda = {config.cycle:g}", "identity": f"mu = {config.identity:g}"},
        learning=(Bound("mae", "<=", "baseline", times=0.7),) if paired else (),
        unknowns=("the classifier C", "references of classical methods: 16 patches", "26 epochs, perhaps"))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
