"""SegAN: adversarial network with multi-scale L1 loss for medical image segmentation [59], Table 5.

Xue, Xu, Zhang, Long, Huang. Neuroinformatics 16:383-392, 2018, arXiv 1706.01805; clipping as in the authors'
code for skin lesions (YuanXue1993/SegAN). A critic C sees an image times a mask, the predicted or the true
one, and gives features of several levels, the masked image among them. It maximises their distance, S
minimises it, and that is all of S's loss:

    L(S, C) = mean_i 1/L sum_l |C_l(x_i S(x_i)) - C_l(x_i y_i)|_1

After every step each weight of C is clipped to [-0.05, 0.05]. All structures go into one critic, their masked
images side by side (S3-1C; with one structure, S1-1C).
Data: BRATS, T1c, T2 and FLAIR, random crops of 160 x 160 and mirror images, 25 or 274 subjects; here gliomas
in phantom heads, or a folder with masks 0 none, 1 oedema, 2 core, 3 enhancing. Published: BRATS 2013, Dice of
the whole tumour 0.84, core 0.70, enhancing 0.65; 2015: 0.85, 0.70, 0.66. The state with the best validation
Dice is kept; the twin has soft Dice. `small`: minutes on two CPU cores. `paper`: not run by this project.

    python -m experiments.segmentation.segan --data.source FOLDER
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from medgan_jax import cli
from medgan_jax.baselines import best_threshold
from medgan_jax.configuration import ExperimentConfig
from medgan_jax.data import parts, transforms
from medgan_jax.data.intensity import Affine
from medgan_jax.data.needs import Needs
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.data.segmentations import likely, open_gliomas
from medgan_jax.data.sources import mapped
from medgan_jax.game import Bound, Experiment, Phase, Prediction, Stage, Terms
from medgan_jax.losses.penalties import clip_parameters
from medgan_jax.losses.segmentation import multi_scale_l1, soft_dice
from medgan_jax.measures import structure_overlap
from medgan_jax.models.segan import SegANCritic, SegANSegmentor

NEEDS = Needs(fields=("image", "mask"))
STRUCTURES = ("whole", "core", "enhancing")


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    size: int = 160
    margin: int = 20  # images are larger by this, for random crops
    modalities: tuple[str, ...] = ("t1c", "t2", "flair")  # channels; names matter to phantoms only
    structures: int = 3  # of whole tumour, core, enhancing part
    base: int = 64
    levels: int = 4
    critic_levels: int = 3
    adversarial: bool = True  # False is the twin
    clip: float = 0.05  # of the code
    batch_size: int = 64
    learning_rate: float = 2e-5
    steps: int = 50000  # not known
    evaluate_every: int = 1000
    evaluation_cases: int = 256
    phantoms: tuple[int, int, int] = (2000, 200, 400)

    @classmethod
    def tiny(cls):
        return cls(size=16, margin=2, modalities=("flair",), structures=1, base=4, levels=2, critic_levels=2,
                   batch_size=8, learning_rate=1e-3, steps=4, evaluate_every=2, evaluation_cases=8,
                   phantoms=(8, 8, 8))

    @classmethod
    def small(cls):
        return cls(size=64, margin=8, base=8, batch_size=8, learning_rate=1e-3, steps=400,
                   evaluate_every=100, evaluation_cases=24, phantoms=(128, 24, 48))

    def twin(self):
        return dataclasses.replace(self, adversarial=False)


def models(config):
    widths = tuple(config.base * 2**level for level in range(max(config.levels, config.critic_levels)))
    segmentor = {"S": SegANSegmentor(widths[:config.levels], structures=config.structures)}
    return segmentor | ({"C": SegANCritic(widths[:config.critic_levels])} if config.adversarial else {})


def masked(x, y):
    """What C sees: the image (B, H, W, M) times each mask of (B, H, W, K), side by side, (B, H, W, M K)."""
    return jnp.concatenate([x * y[..., k, None] for k in range(y.shape[-1])], axis=-1)


def critic_loss(nets, batch, context):
    """-L(S, C) of x (B, H, W, M) in [0, 1] and y (B, H, W, K)."""
    x, y = batch["x"], batch["y"]
    predicted, nets = nets.C.update(masked(x, jax.nn.sigmoid(nets.S.peek(x))))
    true, nets = nets.C.update(masked(x, y))
    distance = multi_scale_l1(predicted, true)
    return -distance, Terms(nets, distance=distance)


def segmentor_loss(config):
    def loss(nets, batch, context):
        """L(S, C); the twin's soft Dice loss in its place where there is no C."""
        x, y = batch["x"], batch["y"]
        logits, nets = nets.S.update(x)
        probability = jax.nn.sigmoid(logits)
        if not config.adversarial:
            value = soft_dice(probability, y)
            return value, Terms(nets, dice=value)
        value = multi_scale_l1(nets.C.peek(masked(x, probability)), nets.C.peek(masked(x, y)))
        return value, Terms(nets, multi_scale=value)

    return loss


def data(config):
    heads = open_gliomas(config.data.source, size=config.size + config.margin, counts=config.phantoms,
                         modalities=config.modalities)
    crop = (config.size, config.size)

    def augment(record, random):
        return transforms.flip(transforms.random_crop(record, random, crop), random)

    train = Stream(heads.train, config.batch_size, augment)
    held = (mapped(part, lambda record: transforms.centre_crop(record, crop))
            for part in (heads.validation, heads.test))
    return Data(train, *held, evaluation_batch_size=16, fields=("image", "mask"))


def experiment(config):
    def prepare(batch, key):
        largest = jnp.maximum(batch["image"].max((1, 2, 3), keepdims=True), 1e-6)
        levels = jnp.arange(1, config.structures + 1)
        return {"x": batch["image"] / largest, "y": (batch["mask"] >= levels).astype(jnp.float32)}

    names, rmsprop = STRUCTURES[:config.structures], optax.rmsprop(config.learning_rate)
    turn_c = Phase("C", ("C",), critic_loss, rmsprop, project=lambda C: clip_parameters(C, config.clip))
    turn_s = Phase("S", ("S",), segmentor_loss(config), rmsprop)
    turns = (turn_c, turn_s) if config.adversarial else (turn_s,)
    game = Stage("game", models(config), turns, data(config), config.steps, prepare)
    return Experiment(
        id="segan", config=config, stages=(game,),
        infer=lambda nets, batch, key: likely(jax.nn.sigmoid(nets.S.eval(batch["x"]))),
        baseline=best_threshold("x", "y", likely), metrics=structure_overlap("mask", "y", names),
        select="dsc", images=("x", "probability", "mask", "y"), value_range=(0, 1),
        prediction=Prediction("x", "probability", parts.largest_of_image, output_intensity=Affine(0.01, 0.0, "%")),
        terms={"distance": "-1, mean of levels", "multi_scale": "1, mean of levels", "dice": "1, the twin's"},
        unknowns=("steps", "intensities: divided by the image's maximum", "weights of the levels: equal"),
        learning=(Bound("dsc_whole", ">=", "baseline", plus=0.15),))


if __name__ == "__main__":
    raise SystemExit(cli.main_experiment(__spec__.name))
