"""V-GAN: retinal vessel segmentation in fundoscopic images with GANs [11], Table 7.

Son, Park, Jung. arXiv 1706.09318, 2017. Layers, rounds and augmentation follow the code (jaeminSon/V-GAN).
A U-Net S segments vessels; D sees the photograph x beside the vessels, drawn y or predicted S(x), and in one
decision the surroundings of a pixel, of 8 x 8 or 64 x 64 pixels, or the whole image.

    L_D = 1/2 [BCE(D(x, y), 1) + BCE(D(x, S(x)), 0)], both halves in one batch
    L_S = BCE(S(x), y) + 1/r BCE(D(x, S(x)), 1)                                                  r = 10

They take turns of a whole epoch each. Each photograph's channels have mean 0 and deviation 1 over the pixels
whose red is above 40 of 255; what is measured is measured within the field of view.
Data: DRIVE, 20 and 20 images, padded to 640 x 640; here phantom eyes, or a folder with masks `vessels` and
`field_of_view`, or others: --config.vessels vessels_1st --config.field_of_view fov for CHASE_DB1.
Published: DRIVE Dice 0.829, ROC 0.9803, PR 0.9149; STARE 0.834, 0.9838, 0.9167; by the image discriminator.
Deviations: D sees both halves in the turns of S, too; whole images validate, in the code 5 % of the rotated
copies; they choose the state, by its ROC curve, and the threshold of Dice. Its twin has BCE(S(x), y) alone.
`small`: Dice 0.70, 0.75 by patch2, 0.80 by patch1 or pixel; the twin 0.81. `paper`: not run.

    python -m experiments.segmentation.vgan_retina --data.source FOLDER --config.discriminator patch1
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.baselines import difference_of_gaussians
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import parts
from medgan_jax.data.augmentations import turned_photograph
from medgan_jax.data.intensity import Affine
from medgan_jax.data.needs import Needs
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.data.segmentations import open_retinas
from medgan_jax.forward_models import photographs, standardised
from medgan_jax.game import Bound, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.losses import adversarial
from medgan_jax.losses.segmentation import binary_cross_entropy
from medgan_jax.measures import pixel_detection
from medgan_jax.models.pooling_discriminator import Field, vgan_discriminator
from medgan_jax.models.pooling_unet import vgan_unet
from medgan_jax.turns import in_blocks

NEEDS = Needs(fields=("image", "vessels", "field_of_view"), channels=3)


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 640
    channels: int = 3  # 1 is the green channel alone
    vessels: str = "vessels"  # name of the masks in the data
    field_of_view: str = "field_of_view"
    discriminator: Field = "image"  # pixel, patch1, patch2 or image
    base: int = 32
    pools: int = 4
    adversarial: float = 0.1  # 1 / r; 0 is the twin
    dark: float = 40 / 255  # what is outside, in the first channel
    epoch: int = 4560  # steps of one player: 20 images, mirrored, at 120 angles, less 5 %
    jitter: float = 0.2  # of brightness, colour and contrast
    batch_size: int = 1  # perhaps
    learning_rate: float = 2e-4
    discriminator_rate: float = 2e-4
    beta1: float = 0.5
    steps: int = 10 * 2 * 4560  # ten rounds
    evaluate_every: int = 4560
    phantoms: tuple[int, int, int] = (16, 4, 20)

    @classmethod
    def tiny(cls):
        return cls(size=32, channels=1, dark=0.02, discriminator="patch1", base=2, pools=2, epoch=1,
                   batch_size=8, steps=4, evaluate_every=2, evaluation_cases=8, phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=64, base=8, pools=3, epoch=8, batch_size=8, learning_rate=2e-3,
                   discriminator_rate=1e-4, steps=1200, evaluate_every=120, evaluation_cases=16,
                   phantoms=(64, 16, 40))

    def twin(self):
        return dataclasses.replace(self, adversarial=0.0)


def models(config):
    networks = {"S": vgan_unet(base=config.base, pools=config.pools),
                "D": vgan_discriminator(config.discriminator, base=config.base)}
    return networks if config.adversarial else {"S": networks["S"]}


def pairs(batch, drawn):
    """What D sees: x beside y, and beside what S has drawn, in one batch, whose statistics it goes by."""
    return jnp.concatenate([jnp.concatenate([batch["x"], mask], axis=-1) for mask in (batch["y"], drawn)])


def discriminator_loss(nets, batch, context):
    """L_D of x (B, H, W, C) and y (B, H, W, 1)."""
    scores, nets = nets.D.update(pairs(batch, jax.nn.sigmoid(nets.S.peek(batch["x"]))))
    real, fake = jnp.split(scores, 2)
    loss = 0.5 * adversarial.discriminator_cross_entropy(real, fake)
    return loss, Terms(nets, real=real.mean(), fake=fake.mean())


def segmentor_loss(config):
    def loss(nets, batch, context):
        """L_S."""
        logits, nets = nets.S.update(batch["x"])
        terms = {"cross_entropy": binary_cross_entropy(logits, batch["y"])}
        if config.adversarial:
            _, fake = jnp.split(nets.D.peek(pairs(batch, jax.nn.sigmoid(logits))), 2)
            terms["adversarial"] = config.adversarial * adversarial.generator_non_saturating(fake)
        return sum(terms.values()), Terms(nets, **terms)

    return loss


def data(config):
    eyes = open_retinas(config.data.source, size=config.size, counts=config.phantoms, vessels=config.vessels,
                        field_of_view=config.field_of_view, channels=config.channels)
    train = Stream(eyes.train, config.batch_size, turned_photograph(config.jitter))
    return Data(train, eyes.validation, eyes.test, fields=("image", config.vessels, config.field_of_view))


def experiment(config):
    cases = data(config)
    intensity = parts.largest_is_one(cases.train.source)
    prepare = photographs(intensity.forward, config.dark, y=config.vessels, inside=config.field_of_view)
    d_plays, s_plays = in_blocks(config.epoch, config.epoch)
    d, s = (optax.adam(rate, b1=config.beta1) for rate in (config.discriminator_rate, config.learning_rate))
    turn_d = Phase("D", ("D",), discriminator_loss, d, when=d_plays)
    turn_s = Phase("S", ("S",), segmentor_loss(config), s, when=s_plays if config.adversarial else None)
    # The twin makes as many steps of S.
    turns, steps = ((turn_d, turn_s), config.steps) if config.adversarial else ((turn_s,), config.steps // 2)

    def infer(nets, batch, key):
        return {"probability": jax.nn.sigmoid(nets.S.eval(standardised(batch["image"], config.dark)))}

    return Experiment(
        id="vgan_retina", config=config, infer=infer,
        stages=(Stage("game", models(config), turns, cases, steps, prepare),),
        baseline=difference_of_gaussians("image", "y", lambda score: {"probability": score}, region="inside"),
        metrics=pixel_detection("probability", "y", "inside"), notes={"discriminator": config.discriminator},
        select="roc", images=("image", "probability", "y", "inside"), value_range=(0, 1),
        prediction=Prediction("image", "probability", lambda image: intensity, Affine(0.01, 0.0, "%")),
        terms={"cross_entropy": "1", "adversarial": f"1/r: {config.adversarial:g}"}, unknowns=("batch size",),
        learning=(Bound("roc", ">=", 0.90), Bound("dsc", ">=", "baseline", plus=0.05)))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
