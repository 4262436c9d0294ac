"""VA-GAN: visual feature attribution using Wasserstein GANs [9], Table 15.

Baumgartner, Koch, Tezcan, Ang, Konukoglu. CVPR 2018, arXiv 1711.08998. Networks, schedule and the tanh follow
the authors' code (baumgach/vagan-code). Of two unpaired sets of images, with (c1) and without (c0) the effect
of a disease, M learns what to add to an image of c1 so that it looks drawn from c0:

    y   = tanh(x + M(x)),  x from c1;   the map is y - x
    L_D = E D(y) - E D(x_0) + 10 E(||grad D(x^)||_2 - 1)^2,   x_0 from c0, x^ between x_0 and y
    L_G = -E D(y) + lambda mean |y - x|                                                  lambda = 100

Five critic steps for one of M, a hundred for each of its first 25 and at every hundredth.
Data: ADNI, T1 at 128 x 160 x 112 voxels; and synthetic squares of two subtypes, to which the defaults belong.
Here slices of phantom heads: larger ventricles in both subtypes, white matter that fades in front (1) or
behind (2). A folder holds two of images, without the effect first; its healed images are compared with c0.
Published: NCC 0.27 with the change between two visits, ADNI. Deviations: validation NCC chooses the state;
the penalty's norm is over all axes. Twin: a classifier of the critic's layers, whose gradient is the map.
`small`: NCC 0.63 and 0.54, difference of means 0.57, twin 0.35; three minutes, two cores. `paper`: not run.

    python -m experiments.detection.va_gan --data.source FOLDER
"""

import dataclasses

import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.baselines import difference_of_means
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data.effects import SUBTYPES, unpaired_effects
from medgan_jax.data.intensity import Affine
from medgan_jax.data.needs import Needs
from medgan_jax.forward_models import in_range
from medgan_jax.game import Bound, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.inference.attribution import attributed
from medgan_jax.losses import adversarial, penalties
from medgan_jax.measures import attribution, sample_distance
from medgan_jax.models import pooling_discriminator, pooling_unet
from medgan_jax.turns import after_tuning, steps_for

NEEDS = Needs(domains=2, channels=1)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 112
    rank: int = 2  # 3 for volumes, from a folder
    base: int = 16
    pools: int = 3  # of the map generator
    critic_pools: int = 4
    tanh: bool = True
    lam: float = 100.0  # lambda; 100 (S / 112)^2 weighs each of S x S pixels alike
    penalty: float = 10.0
    adversarial: bool = True  # False is the twin
    critic_steps: int = 5
    warm: int = 25  # first moves of M that come after `tuning` rounds of critic steps
    every: int = 100  # so do these
    tuning: int = 20
    accumulate: int = 1  # slices of a batch: 6 of 2 volumes for ADNI
    batch_size: int = 32
    learning_rate: float = 1e-4  # 1e-3 for ADNI
    beta1: float = 0.0
    beta2: float = 0.9
    steps: int = steps_for(1000, warm=25, every=100, long=20)
    evaluate_every: int = 100
    strength: float = 1.0  # of the fading in phantoms
    phantoms: tuple[int, int, int] = (4000, 200, 400)  # for training, of each set

    @classmethod
    def tiny(cls):
        return cls(size=16, base=2, pools=2, critic_pools=2, critic_steps=2, warm=1, every=3, tuning=2,
                   batch_size=8, steps=4, evaluate_every=2, evaluation_cases=8, phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=32, base=8, pools=2, critic_pools=3, tanh=False, lam=8.0, tuning=4, batch_size=16,
                   learning_rate=1e-3, steps=steps_for(300, warm=25, every=100, long=4), evaluate_every=75,
                   evaluation_cases=32, strength=3.0, phantoms=(240, 32, 64))

    def twin(self):
        return dataclasses.replace(self, adversarial=False)


def models(config):
    critic = pooling_discriminator.va_gan_critic(base=config.base, pools=config.critic_pools)
    generator = {"M": pooling_unet.va_gan_unet(base=config.base, pools=config.pools)}
    return {"D": critic} | (generator if config.adversarial else {})


def healed(config, x, m):
    """y of x and M(x)."""
    return jnp.tanh(x + m) if config.tanh else x + m


def critic_loss(config):
    def loss(nets, batch, context):
        """L_D of c0 and c1, (B, *S, 1) in [-1, 1]; the twin's D tells c0 from c1."""
        if not config.adversarial:
            apart = adversarial.discriminator_cross_entropy(nets.D(batch["c0"]), nets.D(batch["c1"]))
            return apart, Terms(nets, cross_entropy=apart)
        y = healed(config, batch["c1"], nets.M.peek(batch["c1"]))
        distance = adversarial.discriminator_wasserstein(nets.D(batch["c0"]), nets.D(y))
        penalty = config.penalty * penalties.gradient_penalty(nets.D.float32, batch["c0"], y, context.key)
        return distance + penalty, Terms(nets, distance=distance, penalty=penalty)

    return loss


def generator_loss(config):
    def loss(nets, batch, context):
        """L_G."""
        m, nets = nets.M.update(batch["c1"])
        y = healed(config, batch["c1"], m)
        l1 = config.lam * jnp.mean(jnp.abs(y - batch["c1"]))
        terms = {"adversarial": adversarial.generator_wasserstein(nets.D(y)), "l1": l1}
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def change(config, nets, x):
    """y - x of x from c1; the twin's is the gradient of the score for c0."""
    gradient = penalties.input_gradient
    return healed(config, x, nets.M.eval(x)) - x if config.adversarial else gradient(nets.D.eval, x)


def experiment(config):
    cases, intensity = unpaired_effects(config.data.source, config.batch_size, size=config.size,
                                        rank=config.rank, strength=config.strength, counts=config.phantoms)
    maps, groups = "effect_map" in cases.fields, [stream.source for stream in cases.train.values()]
    schedule = after_tuning(warm=config.warm, every=config.every, long=config.tuning)
    adam, split = optax.adam(config.learning_rate, b1=config.beta1, b2=config.beta2), config.accumulate
    turns = (Phase("D", ("D",), critic_loss(config), adam, repeats=config.critic_steps, accumulate=split),
             Phase("M", ("M",), generator_loss(config), adam, when=schedule, accumulate=split))
    turns, prepare = turns if config.adversarial else turns[:1], in_range(intensity.forward, c0="c0", c1="c1")
    return Experiment(
        id="va_gan", config=config, images=("c1", "healed", "map", *(("effect_map",) if maps else ())),
        infer=lambda nets, batch, key: attributed(batch["c1"], change(config, nets, batch["c1"])),
        stages=(Stage("game", models(config), turns, cases, config.steps, prepare),),
        baseline=difference_of_means("c1", *groups, attributed, scale=intensity.scale),
        metrics=(attribution("map", "effect_map", "subtype", SUBTYPES) if maps
                 else sample_distance("healed", "c0")),
        prediction=Prediction("c1", "attribution", lambda x: intensity, Affine(intensity.scale, 0, "input")),
        terms={"distance": "1", "penalty": f"{config.penalty:g}", "adversarial": "1",
               "l1": f"lambda = {config.lam:g}"}, select="ncc" if maps else None,
        learning=tuple(Bound(f"ncc_subtype_{each}", ">=", 0.5) for each in SUBTYPES) if maps else ())


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
