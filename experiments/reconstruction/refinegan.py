"""RefineGAN: compressed sensing MRI with a chain of generators and a cyclic loss [85], Table 12.

Quan, Nguyen-Duc, Jeong. IEEE TMI 37(6):1488-1497, 2018; layers, schedule and clipping of the authors' code
(tmquan/RefineGAN). Links G_1, G_2 add to a complex image; then the measured frequencies y return:

    S'_k = S_{k-1} + G_k(S_{k-1})      S_k = F^-1[(1 - M) F S'_k + y]      S_0 = F^-1 y,   y = M F x
    L_D = sum_k E D(S_k) - E D(x)                                          weights of D in [-0.01, 0.01]
    L_G = sum_k -E D(S_k) + gamma E|x - S_k| + alpha E|M F x - M F S'_k| + delta TV(S_k)

Data: IXI brain and Data Science Bowl chest, 100 slices each; here complex phantom heads or a folder (two channels, or
magnitudes); no prediction, since files lack the phase. Published: SSIM 0.97 +- 0.01, PSNR 38.71 +- 2.57 dB, brain, 30 %
of k-space. Deviations: the code scores all four pairs of two slices, the same up to a factor, scales terms by 0.5, adds
1000 E|x - S'_k| and sums TV and F; here weights are the paper's, of means. The code's L1 norm of kernels is added, too.
`small`: D, whose norms' scales are clipped as in the code, falls silent within 100 steps. `paper`: not run.

    python -m experiments.reconstruction.refinegan --data.source FOLDER
"""

import dataclasses
import functools

import optax

from medgan_jax import cli
from medgan_jax.classical import total_variation_reconstruction
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.heads import complex_head_data
from medgan_jax.data.needs import Needs
from medgan_jax.forward_models import undersampled_complex
from medgan_jax.game import Baseline, Bound, Experiment, Phase, Stage, Terms
from medgan_jax.inference.consistent_chain import ConsistentChain, link_names
from medgan_jax.losses import pixel
from medgan_jax.losses.adversarial import discriminator_wasserstein, generator_wasserstein
from medgan_jax.losses.penalties import clip_parameters, kernel_l1
from medgan_jax.measures import image_fidelity
from medgan_jax.models.refinegan import ResidualAutoEncoder, ResidualCritic, refinegan_widths
from medgan_jax.physics import masks
from medgan_jax.schedules import piecewise_linear

NEEDS = Needs()
RATES = ((0, 1), (0.2, 3), (0.4, 0.2), (0.6, 0.1), (0.8, 0.02), (1, 0.01))  # share of the steps, times 1e-4


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 256
    channels: int = 2  # of the data: 2 for complex slices, 1 for magnitudes
    base: int = 64
    levels: int = 4
    links: int = 2  # 1 is the paper's ReconGAN
    mask: masks.MaskKind = "radial"
    rate: float = 0.3
    noise: float = 0.0
    adversarial: float = 1.0
    gamma: float = 10.0  # of the image; not certain, as alpha
    alpha: float = 1.0
    delta: float = 1e-4
    decay: float = 1e-5
    clip: float = 0.01
    crop: int = 12  # most pixels that augmentation cuts off, of 256
    batch_size: int = 2  # one slice each of the code's A and B
    learning_rate: float = 1e-4
    beta1: float = 0.5
    epsilon: float = 1e-3
    steps: int = 50000  # 500 epochs
    phantoms: tuple[int, int, int] = (100, 20, 100)

    @classmethod
    def tiny(cls):
        return cls(size=32, base=4, levels=1, batch_size=8, steps=4, evaluate_every=2, phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=64, base=16, levels=3, rate=0.25, batch_size=4, learning_rate=1e-3, epsilon=1e-6,
                   steps=500, evaluate_every=250, evaluation_cases=24, phantoms=(200, 24, 40))

    def twin(self):
        return dataclasses.replace(self, adversarial=0.0)


def models(config):
    widths = refinegan_widths(config.base, config.levels)
    links = {name: ResidualAutoEncoder(2, widths) for name in link_names(config.links)}
    return {**links, "D": ResidualCritic(widths)} if config.adversarial else links


def discriminator_loss(config, chain):
    def loss(nets, batch, context):
        """L_D of x, (B, H, W, 2), and every S_k."""
        links, _ = chain(nets, batch["zero_filled"], "peek")
        real, nets = nets.D.update(batch["target"])
        distance = 0.0
        for _, image in links:
            fake, nets = nets.D.update(image)
            distance += discriminator_wasserstein(real, fake)
        decay = config.decay * kernel_l1(nets.D.params)
        return distance + decay, Terms(nets, wasserstein=-distance, decay=decay)
    return loss


def generator_loss(config, chain):
    def loss(nets, batch, context):
        """L_G, each term the sum over both links."""
        links, nets = chain(nets, batch["zero_filled"], "update")
        before, after = zip(*links, strict=True)
        terms = {"image": config.gamma * sum(pixel.l1(each, batch["target"]) for each in after),
                 "frequency": config.alpha * sum(chain.frequency_error(each, batch["target"]) for each in before),
                 "smooth": config.delta * sum(map(pixel.total_variation, after)),
                 "decay": config.decay * sum(kernel_l1(nets[name].params) for name in chain.names)}
        if config.adversarial:
            terms["adversarial"] = config.adversarial * sum(generator_wasserstein(nets.D.peek(each)) for each in after)
        return sum(terms.values()), Terms(nets, **terms)
    return loss


def data(config):
    return complex_head_data(config.data.source, size=config.size, channels=config.channels, counts=config.phantoms,
                             batch_size=config.batch_size, crop=config.crop / 256)


def experiment(config):
    mask = masks.make_mask(config.mask, (config.size, config.size), config.rate)
    chain, outputs = ConsistentChain(config.links, mask), ("first", "reconstruction")
    points = [(share * config.steps, times * config.learning_rate) for share, times in RATES]
    adam = optax.adam(piecewise_linear(points), b1=config.beta1, eps=config.epsilon)
    turn_g = Phase("G", chain.names, generator_loss(config, chain), adam)
    clipped = functools.partial(clip_parameters, limit=config.clip)
    turn_d = Phase("D", ("D",), discriminator_loss(config, chain), adam, project=clipped)
    game = Stage("game", models(config), (turn_g, turn_d) if config.adversarial else (turn_g,), data(config),
                 config.steps, undersampled_complex(mask, config.noise))

    first, last = (image_fidelity(output, "magnitude", low=0, high=1) for output in outputs)
    return Experiment(
        id="refinegan", config=config, stages=(game,), select="psnr", value_range=(0, 1),
        infer=lambda nets, batch, key: chain.reconstructions(nets, batch["zero_filled"]),
        metrics=(*last, dataclasses.replace(first[0], name="psnr_first")),
        baseline=Baseline("zero filling", lambda _, batch, key: dict.fromkeys(outputs, batch["aliased"])),
        others=(total_variation_reconstruction(mask, *outputs, source="zero_filled", target="magnitude"),),
        images=("aliased", *outputs, "magnitude"), compare=("reconstruction", "magnitude"),
        image_ranges={"error": (0, 0.2)}, notes={"mask": masks.describe_mask(config.mask, config.rate, mask)},
        terms={"adversarial": f"{config.adversarial:g}", "decay": f"{config.decay:g}", "wasserstein": "1",
               "image": f"gamma = {config.gamma:g}", "frequency": f"alpha = {config.alpha:g}",
               "smooth": f"delta = {config.delta:g}"},
        unknowns=("alpha and gamma as printed", "spiral or radial mask at 30 %"),
        learning=(Bound("psnr", ">=", "baseline", plus=3.0), Bound("psnr", ">=", "total variation"),
                  Bound("psnr", ">=", "method", of="psnr_first"), Bound("psnr", ">=", "twin", plus=-0.5)))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
