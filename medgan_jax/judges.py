"""Networks that learn beside or after a game and judge its images: classifiers, and segmenters trained on them.

They measure whether images keep what matters. No network of the game learns from a judge. A discriminator that
has learned what aligned images look like is one, too.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from medgan_jax.data.pipeline import Data
from medgan_jax.game import Metric, Networks, Phase, Stage, Terms
from medgan_jax.losses.segmentation import binary_cross_entropy
from medgan_jax.measures import binary_classification, dice_at_best, fall_with, score_gap
from medgan_jax.models.pooling_unet import PoolingUNet
from medgan_jax.physics.deformation import warp


@dataclasses.dataclass(frozen=True)
class Judge:
    """Networks and phases to add to a stage, what they say of (nets, outputs, batch), metrics; or nothing."""

    networks: Mapping[str, nn.Module] = dataclasses.field(default_factory=dict)
    phases: tuple[Phase, ...] = ()
    judge: Callable[[Networks, Mapping[str, jax.Array], Mapping], dict[str, jax.Array]] | None = None
    metrics: tuple[Metric, ...] = ()

    def stage(
        self, name: str, beside: Mapping[str, nn.Module], data: Data, steps: int, prepare: Callable
    ) -> Stage:
        """A stage of its own for the networks, `beside` others that stay as they are."""
        return Stage(name, {**beside, **self.networks}, self.phases, data, steps, prepare)


def classifier_judge(
    classifier: nn.Module, *, examples: str, output: str, raw: str, target: str, learning_rate: float
) -> Judge:
    """The network `C` learns the `label`, 0 or 1, of the batch's `examples`, a dictionary with an `image`.

    classifier: images -> (B, 1) logits. Its ROC-AUC is measured on the images `output` of every method, and on
    the batch's fields `raw` (as `raw_auc`) and `target` (`target_auc`); all have the batch's `label`.
    """

    def loss(nets, batch, context):
        """BCE(C(image), label), in which no other network takes part."""
        score, nets = nets.C.update(batch[examples]["image"])
        label = batch[examples]["label"].astype(score.dtype)
        return binary_cross_entropy(score[:, 0], label), Terms(nets)

    def judge(nets, outputs, batch):
        seen = {"": outputs[output], "raw_": batch[raw], "target_": batch[target]}
        return {f"{name}judged": nets.C.eval(image)[:, 0] for name, image in seen.items()}

    metrics = [binary_classification(f"{name}judged", "label", prefix=name)
               for name in ("", "raw_", "target_")]  # fmt: skip
    aucs = tuple(metric for each in metrics for metric in each if metric.name.endswith("auc"))
    return Judge({"C": classifier}, (Phase("C", ("C",), loss, optax.adam(learning_rate)),), judge, aucs)


def segmenter_judge(
    width: int,
    synthetic: Callable[[Networks, jax.Array, int], tuple[jax.Array, jax.Array]],
    *,
    image: str,
    mask: str,
    learning_rate: float = 1e-3,
) -> Judge:
    """Two small U-Nets learn masks: `S_real` from the batch, `S_synthetic` from generated pairs alone.

    synthetic: (nets, key, count) -> masks `(count, *S, 1)`, values above a half inside, and images. Judged is
    their Dice on the real `image` and `mask` of the batch: `dice_real`, and `dice` of the synthetic one.
    """
    widths = tuple((width * 2**level,) for level in range(3))
    networks = {name: PoolingUNet(1, widths, widths[1::-1]) for name in ("S_real", "S_synthetic")}

    def loss_on(name):
        def loss(nets, batch, context):
            """BCE(S(image), mask) of real or of generated pairs."""
            pair = batch[mask], batch[image]
            if name == "S_synthetic":
                pair = synthetic(nets, context.key, len(batch[image]))
            scores, nets = nets[name].update(pair[1])
            return binary_cross_entropy(scores, (pair[0] > 0.5).astype(jnp.float32)), Terms(nets)

        return loss

    def judge(nets, outputs, batch):
        return {name: jax.nn.sigmoid(nets[name].eval(batch[image])) for name in networks}

    phases = tuple(Phase(name, (name,), loss_on(name), optax.adam(learning_rate)) for name in networks)
    metrics = dice_at_best("dice", "S_synthetic", mask), dice_at_best("dice_real", "S_real", mask)
    return Judge(networks, phases, judge, metrics)


def annotation_judge(
    segment: Callable[[Networks, jax.Array], jax.Array],
    annotated: Sequence[Mapping[str, np.ndarray]],
    forward: Callable[[jax.Array], jax.Array],
    most: int = 8,
) -> Judge:
    """The `quality` `(B,)`, 0 to 1, that the network `EN` sees in `probability` beside the batch's image `x`.

    It has learned to give 1 to the segmentations of annotated training images. `quality_annotated` is its
    mean over the first `most` of them, records with an `image`, which `forward` takes to the networks' values
    and segment: (nets, images) -> probabilities segments; `score_gap` is how far that is above the `quality`.
    """

    def judge(nets, outputs, batch):
        def quality(image, probability):
            return jax.nn.sigmoid(nets.EN.eval(jnp.concatenate([image, probability], axis=-1)))[:, 0]

        records = [annotated[index]["image"] for index in range(min(most, len(annotated)))]
        known, here = forward(jnp.stack(records)), quality(batch["x"], outputs["probability"])
        there = quality(known, segment(nets, known)).mean()
        return {"quality": here, "quality_annotated": jnp.broadcast_to(there, here.shape)}

    return Judge(judge=judge, metrics=(score_gap("quality_annotated", "quality"),))


def alignment_judge(left: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)) -> Judge:
    """Mean probability that the network `D` gives a pair, `score_X`, if the share X of its alignment is undone.

    The batch has images `moving` and `fixed`, (B, *S, 1), and the true `displacement` where it is known, else
    that of the outputs is taken. Of the scores `smallest_fall` is measured: above 0 if they fall with X.
    """

    def judge(nets, outputs, batch):
        phi = batch.get("displacement", outputs["displacement"])
        images = [warp(batch["moving"], (1 - share) * phi) for share in left]
        logits = [nets.D(jnp.concatenate([image, batch["fixed"]], axis=-1)) for image in images]
        means = [jax.nn.sigmoid(each).mean(tuple(range(1, each.ndim))) for each in logits]
        return {f"score_{share:g}": mean for share, mean in zip(left, means, strict=True)}

    return Judge(judge=judge, metrics=(fall_with([f"score_{share:g}" for share in left]),))
