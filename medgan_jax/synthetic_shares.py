"""Classifiers that differ in the share of generated images among those that they learn from.

What synthetic images are worth is a curve over that share: from classic training, share 0, over as many real
images with more and more generated ones added, to training on generated images alone, share 1 (TSTR, Esteban
et al. 2017). All are tested on real images. `evaluation.downstream` compares finished sets of images; here the
generators belong to the game.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from medgan_jax.game import Baseline, Metric, Networks
from medgan_jax.measures import balanced_accuracy


@dataclasses.dataclass(frozen=True)
class SyntheticShares:
    """One classifier for each of `shares`, all of the same `network`, of images of `classes`.

    network: images -> logits (B, K). rows: real images of each class in a batch, and generated ones. hiding:
    standard deviation of noise upon all that is learned from; generators of a class each leave faint marks, by
    which a classifier tells generated images apart without a look at their classes.
    """

    network: nn.Module
    classes: tuple[str, ...]
    shares: tuple[float, ...]
    rows: int
    hiding: float = 0.0

    @property
    def names(self) -> dict[str, float]:
        """Names of the classifiers, with the share in per cent, and their shares."""
        return {f"C_{round(100 * share)}": share for share in self.shares}

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The classifiers by name."""
        return dict.fromkeys(self.names, self.network)

    def losses(
        self,
        nets: Networks,
        real: Mapping[str, jax.Array],
        synthetic: Mapping[str, jax.Array],
        loss: Callable[[jax.Array, jax.Array], jax.Array],
        key: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """Of each classifier, by name, the `loss` of logits and class numbers: L_real + s / (1 - s) L_synthetic.

        A real image counts as much as without generated ones, of which there are s / (1 - s) for each; with a
        share s of 1 there are no others. real, synthetic: `rows` images or more of each class. key: of the
        noise that hides marks; not needed without it.
        """
        labels = jnp.repeat(jnp.arange(len(self.classes)), self.rows)
        images = [jnp.concatenate([kind[each][: self.rows] for each in self.classes]) for kind in (real, synthetic)]
        if self.hiding:
            keys = jax.random.split(key)
            images = [
                image + self.hiding * jax.random.normal(own, image.shape)
                for image, own in zip(images, keys, strict=True)
            ]

        def of_share(name: str, share: float) -> jax.Array:
            parts = ((1.0, images[0]), (share / (1 - share), images[1])) if share < 1 else ((1.0, images[1]),)
            return sum(weight * loss(nets[name](image), labels) for weight, image in parts if weight)

        return {name: of_share(name, share) for name, share in self.names.items()}

    def generated(self, nets: Networks, z: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """What the finished generator `G_<class>` of each class makes of its latent vectors `z` (B, Z)."""
        return {each: nets[f"G_{each}"].eval(vectors) for each, vectors in z.items()}

    def predicted(self, nets: Networks, x: jax.Array) -> dict[str, jax.Array]:
        """The class numbers (B,) that every classifier gives images `x`."""
        return {name: nets[name].eval(x).argmax(-1) for name in self.names}

    def inference(self, nets: Networks, batch: Mapping, key: jax.Array) -> dict[str, jax.Array]:
        """What classifiers say of the batch's `x`, and generators make of its `z`: an experiment's `infer`."""
        return self.predicted(nets, batch["x"]) | self.generated(nets, batch["z"])

    def images_and_latents(self, intensity: Any, latent: int) -> Callable[[dict, jax.Array], dict]:
        """A stage's `prepare`: `x`, images in the values of `intensity`, and `z`, as many vectors a class.

        x are images of each class, as the batch has them, or its `image`, with its `label`; vectors have
        `latent` numbers, uniform in [-1, 1).
        """

        def prepare(batch, key):
            x = jax.tree.map(intensity.forward, batch.get("image", batch))
            shape = (len(self.classes), len(jax.tree.leaves(x)[0]), latent)
            z = dict(zip(self.classes, jax.random.uniform(key, shape, minval=-1.0), strict=True))
            return {"x": x, "z": z} | {field: batch[field] for field in ("label",) if field in batch}

        return prepare

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """`balanced_accuracy_0` and so on, against the batch's `label`."""
        return tuple(
            balanced_accuracy(f"balanced_accuracy{name[1:]}", name, "label", len(self.classes))
            for name in self.names
        )

    @property
    def baseline(self) -> Baseline:
        """The first class, whatever the image `x`."""

        def apply(fitted, batch, key):
            return dict.fromkeys(self.names, jnp.zeros(len(batch["x"]), jnp.int32))

        return Baseline(f"always {self.classes[0]}", apply)
