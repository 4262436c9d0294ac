"""WGAN-GP: improved training of Wasserstein GANs, the gradient-penalty form of [20], section 3.6 of the review.

Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville. NIPS 2017, arXiv 1704.00028; networks of the authors' CIFAR code.

The critic f estimates the Wasserstein distance and is held to unit slope between real and generated images:

    L_f = E f(G(z)) - E f(x) + lambda E(||grad f(x^)||_2 - 1)^2,   x^ = e x + (1 - e) G(z),  e ~ U(0, 1),  lambda = 10
    L_G = -E f(G(z))

Five critic updates, each on fresh data, for one of the generator. The critic has no batch normalisation. The negative
of the first two terms is logged as `wasserstein`, the estimate of the distance.

Data: any images of one size; here slices of phantom heads at 32 x 32. No value in the review for this base model.
`small`: minutes on two CPU cores. `paper`: not run by this project.

    python -m experiments.base.wgan_gp --data.source FOLDER
"""

import dataclasses

import jax
import optax

from medgan_jax import cli
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import transforms
from medgan_jax.data.intensity import MinMax
from medgan_jax.data.parts import open_parts, require_image, value_range
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.game import Baseline, Experiment, Phase, Stage, Terms
from medgan_jax.inference.pca_gaussian import fit_pca_gaussian, sample_pca_gaussian
from medgan_jax.losses import adversarial
from medgan_jax.losses.penalties import gradient_penalty
from medgan_jax.measures import sample_distance
from medgan_jax.models.dcgan import wgan_gp_critic, wgan_gp_generator
from medgan_jax.phantoms.head import head_slice


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 32
    base: int = 128
    channels: int = 1
    latent: int = 128
    penalty: float = 10.0
    critic_steps: int = 5
    batch_size: int = 64
    learning_rate: float = 1e-4
    beta1: float = 0.5  # of the code; 0 in the paper
    beta2: float = 0.9
    average: float = 0.999  # moving average of G for evaluation; not the paper's
    steps: int = 200000
    evaluate_every: int = 10000
    evaluation_cases: int = 256
    phantoms: tuple[int, int, int] = (4000, 256, 512)

    @classmethod
    def tiny(cls):
        return cls(size=16, base=8, latent=8, critic_steps=2, batch_size=8, steps=4, evaluate_every=2,
                   evaluation_cases=16, phantoms=(32, 16, 16))

    @classmethod
    def small(cls):
        return cls(base=32, batch_size=32, average=0.995, steps=1500, evaluate_every=500, phantoms=(2000, 256, 256))


def models(config):
    return {"G": wgan_gp_generator(config.size, channels=config.channels, base=config.base),
            "f": wgan_gp_critic(config.size, base=config.base)}


def critic_loss(config):
    def loss(nets, batch, context):
        x, fake = batch["x"], nets.G.peek(batch["z"])
        distance = adversarial.discriminator_wasserstein(nets.f(x), nets.f(fake))
        slope = gradient_penalty(nets.f.float32, x, fake, context.key)
        return distance + config.penalty * slope, Terms(nets, wasserstein=-distance, penalty=config.penalty * slope)

    return loss


def generator_loss(nets, batch, context):
    fake, nets = nets.G.update(batch["z"])
    loss = adversarial.generator_wasserstein(nets.f(fake))
    return loss, Terms(nets, adversarial=loss)


def data(config):
    def draw(key):
        return {"image": head_slice(key, config.size)["image"]}

    parts = open_parts(config.data.source, draw, name=f"head_t1_{config.size}", counts=config.phantoms)
    require_image(parts, channels=config.channels)
    train = Stream(parts.train, config.batch_size, lambda record, random: transforms.flip(record, random))
    return Data(train, parts.validation, parts.test, evaluation_batch_size=64, fields=("image",))


def experiment(config):
    cases = data(config)
    intensity = MinMax(*value_range(cases.train.source), "input", (-1, 1))

    def prepare(batch, key):
        x = intensity.forward(batch["image"])
        return {"x": x, "z": jax.random.normal(key, (len(x), config.latent))}

    def pca_samples(fitted, batch, key):
        return {"sample": sample_pca_gaussian(fitted, key, len(batch["x"]))}

    adam = optax.adam(config.learning_rate, b1=config.beta1, b2=config.beta2)
    turns = (Phase("f", ("f",), critic_loss(config), adam, repeats=config.critic_steps),
             Phase("G", ("G",), generator_loss, adam))
    game = Stage("game", models(config), turns, cases, config.steps, prepare, ema={"G": config.average})
    return Experiment(
        id="wgan_gp", config=config, stages=(game,),
        infer=lambda nets, batch, key: {"sample": nets.G.eval(batch["z"])},
        baseline=Baseline("Gaussian in PCA space", pca_samples,
                          fit=lambda batches: fit_pca_gaussian(batch["x"] for batch in batches)),
        metrics=sample_distance("sample", "x"), select="swd", images=("sample", "x"),
        terms={"wasserstein": "1", "penalty": f"lambda = {config.penalty}", "adversarial": "1"},
        unknowns=("average: the moving average of G that is evaluated is this project's",))


if __name__ == "__main__":
    cli.main_experiment(__spec__.name)
