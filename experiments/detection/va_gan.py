"""VA-GAN: visual feature attribution using Wasserstein GANs [9], Table 15.

Baumgartner, Koch, Tezcan, Ang, Konukoglu. CVPR 2018, arXiv 1711.08998. Networks, schedule and the tanh follow
the authors' code (baumgach/vagan-code). Of two unpaired sets of images, with (c1) and without (c0) the effect
of a disease, M learns what to add to an image of c1 so that it looks drawn from c0. Its map shows all of an
effect; a classifier needs but a part:

    y   = tanh(x + M(x)),  x from c1;   the map is y - x
    L_D = E D(y) - E D(x_0) + 10 E(||grad D(x^)||_2 - 1)^2,   x_0 from c0, x^ between x_0 and y
    L_G = -E D(y) + lambda mean |y - x|                                                  lambda = 100

Five critic steps for one of M, a hundred for each of its first 25 and at every hundredth.
Data: ADNI, T1 at 128 x 160 x 112 voxels, dementia against mild impairment; and a synthetic 2D set, of two
subtypes with one sign in common, to which the defaults belong. Here slices of phantom heads: larger
ventricles in both subtypes, white matter that fades in front (1) or behind (2). A folder holds two folders of
images, without the effect first; it has no true maps, and the healed images are then compared with c0.
Published: NCC 0.27 with the change between two visits of a subject, ADNI. Synthetic data give more.
Deviations: the state with the best validation NCC is kept, where the authors looked at validation maps; the
penalty takes the norm over all axes, the code's over one. Its twin is a classifier of the critic's layers,
whose gradient is the map. `small`: no run is recorded yet. `paper`: not run by this project.

    python -m experiments.detection.va_gan --data.source FOLDER
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.baselines import difference_of_means
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import parts
from medgan_jax.data.effects import SUBTYPES, open_effects
from medgan_jax.data.intensity import Affine
from medgan_jax.data.needs import Needs
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.forward_models import in_range
from medgan_jax.game import Bound, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.losses import adversarial
from medgan_jax.losses.penalties import gradient_penalty
from medgan_jax.measures import attribution, sample_distance
from medgan_jax.models.pooling_discriminator import va_gan_critic
from medgan_jax.models.pooling_unet import va_gan_unet
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
    lam: float = 100.0  # lambda
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
        # The mean over fewer pixels weighs each of them more: 100 (32 / 112)^2 is the same lambda.
        return cls(size=32, base=8, pools=2, critic_pools=3, tanh=False, lam=8.0, tuning=4, batch_size=16,
                   learning_rate=1e-3, steps=steps_for(300, warm=25, every=100, long=4), evaluate_every=75,
                   evaluation_cases=32, strength=3.0, phantoms=(240, 32, 64))
    def twin(self):
        return dataclasses.replace(self, adversarial=False)

def models(config):
    critic = {"D": va_gan_critic(base=config.base, pools=config.critic_pools)}
    return critic | ({"M": va_gan_unet(base=config.base, pools=config.pools)} if config.adversarial else {})

def healed(config, x, m):
    """y of x and M(x)."""
    return jnp.tanh(x + m) if config.tanh else x + m

def critic_loss(config):
    def loss(nets, batch, context):
        """L_D of c0 and c1, (B, *S, 1) in [-1, 1]."""
        x = batch["c1"]
        y = healed(config, x, nets.M.peek(x))
        distance = adversarial.discriminator_wasserstein(nets.D(batch["c0"]), nets.D(y))
        penalty = config.penalty * gradient_penalty(nets.D.float32, batch["c0"], y, context.key)
        return distance + penalty, Terms(nets, wasserstein=-distance, penalty=penalty)
    return loss

def generator_loss(config):
    def loss(nets, batch, context):
        """L_G."""
        x = batch["c1"]
        m, nets = nets.M.update(x)
        y = healed(config, x, m)
        terms = {"adversarial": adversarial.generator_wasserstein(nets.D(y)),
                 "l1": config.lam * jnp.mean(jnp.abs(y - x))}
        return sum(terms.values()), Terms(nets, **terms)
    return loss

def classifier_loss(nets, batch, context):
    """The twin: D tells c0 from c1."""
    loss = adversarial.discriminator_cross_entropy(nets.D(batch["c0"]), nets.D(batch["c1"]))
    return loss, Terms(nets, cross_entropy=loss)

def outputs(x, change):
    """Of x and y - x: the healed image, the map, and its size."""
    return {"healed": x + change, "map": change, "attribution": jnp.abs(change)}

def attribute(config):
    """x of c1 -> its map y - x; the twin's map is the gradient of the score for c0."""
    def infer(nets, batch, key):
        x = batch["c1"]
        if config.adversarial:
            return outputs(x, healed(config, x, nets.M.eval(x)) - x)
        return outputs(x, jax.grad(lambda image: nets.D.eval(image).sum())(x))
    return infer

def data(config):
    sets = open_effects(config.data.source, size=config.size, rank=config.rank, strength=config.strength,
                        counts=config.phantoms)
    train = {name: Stream(part, config.batch_size, fields=("image",)) for name, part in sets.train.items()}
    fields = ("c0", "c1", "effect_map", "subtype") if sets.paired else ("c0", "c1")
    return Data(train, sets.validation, sets.test, evaluation_batch_size=16, fields=fields), sets.paired

def experiment(config):
    cases, known = data(config)
    groups = [cases.train[name].source for name in ("c0", "c1")]
    intensity = parts.joint_range(groups)
    prepare = in_range(intensity.forward, c0="c0", c1="c1")
    schedule = dict(warm=config.warm, every=config.every, long=config.tuning)
    adam = optax.adam(config.learning_rate, b1=config.beta1, b2=config.beta2)
    turn_d = Phase("D", ("D",), critic_loss(config), adam, repeats=config.critic_steps,
                   accumulate=config.accumulate)
    turn_m = Phase("M", ("M",), generator_loss(config), adam, when=after_tuning(**schedule),
                   accumulate=config.accumulate)
    turns = (turn_d, turn_m) if config.adversarial else (Phase("D", ("D",), classifier_loss, adam),)
    return Experiment(
        id="va_gan", config=config, infer=attribute(config), select="ncc" if known else None,
        stages=(Stage("game", models(config), turns, cases, config.steps, prepare),),
        baseline=difference_of_means("c1", *groups, outputs, scale=intensity.scale),
        metrics=(attribution("map", "effect_map", "subtype", SUBTYPES) if known
                 else sample_distance("healed", "c0")),
        images=("c1", "healed", "map", *(("effect_map",) if known else ())),
        prediction=Prediction("c1", "attribution", lambda image: intensity,
                              output_intensity=Affine(intensity.scale, 0.0, "input")),
        terms={"wasserstein": "-1", "penalty": f"{config.penalty:g}", "adversarial": "1",
               "l1": f"lambda = {config.lam:g}"}, unknowns=("phantoms stand in for the synthetic squares",),
        learning=tuple(Bound(f"ncc_subtype_{each}", ">=", 0.5) for each in SUBTYPES) if known else ())


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
