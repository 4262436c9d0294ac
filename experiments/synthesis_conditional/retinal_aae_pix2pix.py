"""End-to-end adversarial retinal image synthesis: an autoencoder of vessel trees, then pix2pix [35], Table 3.

Costa, Galdran, Meyer, Niemeijer, Abramoff, Mendonca, Campilho. IEEE TMI 37(3):781-791, 2018, and their
code. E encodes a vessel tree A, V decodes it, A' = V(E(A)), G paints B' = G(A'); D judges pairs, C codes:

    L   = BCE(D(A', B'), 1) + lambda [BCE(A', A) + E|B - B'|] + BCE(C(E(A)), 1)               lambda = 100
    L_D = BCE(D(A, B), 1) + BCE(D(A', B'), 0)
    L_C = BCE(C(z), 1) + BCE(C(E(A)), 0)                                                     z ~ N(0, I)

Each takes 20 updates in turn. A segmenter of new pairs, V(z) and G(V(z)), is tested on real images, beside
one of real pairs. Data: Messidor and a network's trees; `A/ B/`, or phantoms. Deviations: E is a chain; maps
of one pixel are not normalised. No published value. `small`: close-ups; codes weigh 20 (with 1, at 64 pixels,
E and V alone let codes run 8 to 24 deviations away from z, and V(z) stayed empty). `paper`: not run.

    python -m experiments.synthesis_conditional.retinal_aae_pix2pix --data.source FOLDER
"""

import dataclasses
import functools
from typing import Literal

import jax
import optax

from medgan_jax import cli
from medgan_jax.baselines import best_threshold, pca_gaussian, side_by_side
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.eyes import eye_data
from medgan_jax.data.needs import Needs
from medgan_jax.data.parts import symmetric_range, unit_range
from medgan_jax.forward_models import in_ranges
from medgan_jax.game import Bound, Experiment, Phase, Stage, Terms
from medgan_jax.judges import segmenter_judge
from medgan_jax.losses import adversarial, pixel, segmentation
from medgan_jax.measures import novelty
from medgan_jax.models.autoencoder import conv_autoencoder
from medgan_jax.models.mlp import MLP
from medgan_jax.models.strided_discriminator import StridedDiscriminator
from medgan_jax.models.unet import costa_unet
from medgan_jax.nn.blocks import beside, leaky_relu

NEEDS = Needs(fields=("A", "B"))


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 256  # 512 in the review
    base: int = 32
    latent: int = 16  # 32 in the paper, perhaps
    critic: tuple[int, ...] = (32, 64, 128)
    dropout: float = 0.5
    lam: float = 100.0
    code: float = 1.0  # weight of BCE(C(E(A)), 1)
    turn: int = 20  # updates of each phase in a step
    batch_size: int = 1
    learning_rate: float = 2e-4
    code_rate: float = 1e-3
    steps: int = 3070  # 100 epochs of 614 pairs, which is what the code reads of Messidor
    segmenter_width: int = 16  # of the first layer; the segmenters are not the paper's
    segmenter_steps: int = 2000
    sight: Literal["disc", "head"] = "disc"  # of phantoms: 30 degrees, or the wide vessels at the disc
    phantoms: tuple[int, int, int] = (614, 155, 177)

    @classmethod
    def tiny(cls):
        return cls(size=32, base=2, latent=4, critic=(4, 4), turn=1, batch_size=8, steps=2, segmenter_width=4,
                   segmenter_steps=2, evaluate_every=1, evaluation_cases=8, phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=32, latent=8, base=16, critic=(16, 32), dropout=0.0, turn=1, batch_size=16, code=20.0,
                   learning_rate=3e-3, code_rate=1e-2, steps=1800, segmenter_steps=400, sight="head",
                   evaluate_every=2200, evaluation_cases=32, phantoms=(128, 32, 64))


def models(config):
    settings = dict(base=config.base, dropout=config.dropout)
    encoder, decoder = conv_autoencoder(config.size, latent=config.latent, **settings)
    return {"E": encoder, "V": decoder, "G": costa_unet(config.size, **settings),
            "C": MLP(1, (32,), leaky_relu),
            "D": StridedDiscriminator(config.critic, (2,) * len(config.critic), head_stride=2)}


def discriminator_loss(nets, batch, context):
    """L_D of A (B, H, W, 1) and B (B, H, W, 3)."""
    a = jax.nn.sigmoid(nets.V.peek(nets.E.peek(batch["A"])))
    real, fake = nets.D(beside(batch["A"], batch["B"])), nets.D(beside(a, nets.G.peek(a)))
    return adversarial.discriminator_cross_entropy(real, fake), Terms(nets, real=real.mean())


def code_loss(nets, batch, context):
    """L_C of codes (B, Z)."""
    code = nets.E.peek(batch["A"])
    real, fake = nets.C(jax.random.normal(context.key, code.shape)), nets.C(code)
    return adversarial.discriminator_cross_entropy(real, fake), Terms(nets, real=real.mean())


def generator_loss(config):
    def loss(nets, batch, context):
        """L of encoder, decoder and painter together."""
        code, nets = nets.E.update(batch["A"])
        logits, nets = nets.V.update(code)
        a = jax.nn.sigmoid(logits)
        b, nets = nets.G.update(a)
        terms = {"tree": config.lam * segmentation.binary_cross_entropy(logits, batch["A"]),
                 "retina": config.lam * pixel.l1(b, batch["B"]),
                 "adversarial": adversarial.generator_non_saturating(nets.D(beside(a, b))),
                 "code": config.code * adversarial.generator_non_saturating(nets.C(code))}
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def new_pairs(config, nets, key, count):
    a = jax.nn.sigmoid(nets.V.eval(jax.random.normal(key, (count, config.latent))))
    return a, nets.G.eval(a)


def experiment(config):
    nets = models(config)
    cases = eye_data(config.data.source, config.size, config.phantoms, config.batch_size, sight=config.sight)
    known = cases.train.source
    prepare = in_ranges({"A": unit_range(known, "A"), "B": symmetric_range(known, "B")})
    adam, code_adam = (optax.adam(rate, b1=0.5) for rate in (config.learning_rate, config.code_rate))
    turns = (Phase("D", ("D",), discriminator_loss, adam, repeats=config.turn),
             Phase("C", ("C",), code_loss, code_adam, repeats=config.turn),
             Phase("G", ("E", "V", "G"), generator_loss(config), adam, repeats=config.turn))

    def infer(nets, batch, key):
        tree, retina = new_pairs(config, nets, key, len(batch["B"]))
        return {"tree": tree, "retina": retina, **test.judge(nets, {}, batch)}

    test = segmenter_judge(config.segmenter_width, functools.partial(new_pairs, config), image="B", mask="A")
    return Experiment(
        id="retinal_aae_pix2pix", config=config, infer=infer,
        stages=(Stage("game", nets, turns, cases, config.steps, prepare),
                test.stage("test", {"V": nets["V"], "G": nets["G"]}, cases, config.segmenter_steps, prepare)),
        metrics=(*test.metrics, *novelty("tree", "A", known)),
        baseline=side_by_side(pca_gaussian("tree", "A"), pca_gaussian("retina", "B"), best_threshold(
            "B", "A", lambda mask: dict.fromkeys(test.networks, mask))),
        images=("tree", "retina", "A", "B", "S_synthetic", "S_real"),
        image_ranges=dict.fromkeys(("tree", "A", "S_synthetic", "S_real"), (0, 1)),
        terms={**dict.fromkeys(("tree", "retina"), f"lambda = {config.lam:g}"), "code": f"{config.code:g}"},
        learning=(Bound("dice", ">=", "method", of="dice_real", times=0.8), Bound("nearest", "<=", 0.9),
                  Bound("nearest", ">=", "method", of="nearest_real", times=0.5)),  # not empty
        unknowns=("codes of 16, perhaps 32 in the paper", "the decoder's widths", "the segmenters"))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
