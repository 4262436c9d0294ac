"""Auto-context (Tu & Bai 2010): networks in rounds, each of which sees what the round before made of the image.

A network that has learned from a subject errs less on it than on others. A context that is to be learned from
therefore comes, with two folds or more, from networks of the round before that have not seen the subject: every
round but the last has a network for each fold that it leaves out (cross-fitting). With one fold there is one
network a round, which has seen all.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from medgan_jax.data.pipeline import Stream
from medgan_jax.data.sources import Source, folds
from medgan_jax.data.transforms import extended, random_crop
from medgan_jax.game import Loss, Networks, Phase
from medgan_jax.inference.sliding_window import sliding_window
from medgan_jax.nn.resample import centre_crop


@dataclasses.dataclass(frozen=True)
class AutoContext:
    """Which network learns from which subjects in which round, and what it sees.

    Rounds are counted from 1 to `rounds`, folds from 0. border: voxels that a network takes away on each side
    of its patch. Batches are `{"fold_0": {"A": ..., "B": ...}, ...}`, A the image `(B, *S, C)` and B the target.
    """

    rounds: int
    folds: int
    border: int

    def members(self, round: int) -> range:
        """Folds that a round has networks for: each is left out of the training of its network."""
        return range(1 if round == self.rounds else self.folds)

    def name(self, letter: str, round: int, fold: int) -> str:
        """`G1_0`: the network of round 1 that leaves out fold 0; `G2`: the only one of round 2."""
        return f"{letter}{round}" if len(self.members(round)) == 1 else f"{letter}{round}_{fold}"

    def seen(self, round: int, fold: int) -> list[int]:
        """Folds that a network learns from."""
        alone = len(self.members(round)) == 1
        return [other for other in range(self.folds) if alone or other != fold]

    def earlier(self, round: int, generator: nn.Module) -> dict[str, nn.Module]:
        """The networks of all rounds before, which give contexts."""
        return {self.name("G", r, fold): generator for r in range(1, round) for fold in self.members(r)}

    def turns(
        self,
        round: int,
        modules: Mapping[str, nn.Module],
        losses: Mapping[str, Callable[..., Loss]],
        optimizer: Any,
    ) -> tuple[dict[str, nn.Module], tuple[Phase, ...]]:
        """Networks and phases of a round: new ones of all `modules`, and those before, which only give contexts.

        losses: (names of the own networks by letter, examples) -> loss, in the order of play; examples: (nets,
        batch) -> what the network learns from, and its targets.
        """
        networks, phases = self.earlier(round, modules["G"]), []
        for fold in self.members(round):
            names = {letter: self.name(letter, round, fold) for letter in modules}
            examples = functools.partial(self.examples, round=round, fold=fold)
            networks |= {names[letter]: module for letter, module in modules.items()}
            phases += [Phase(names[letter], (names[letter],), loss(names, examples), optimizer)
                       for letter, loss in losses.items()]  # fmt: skip
        return networks, tuple(phases)

    def width(self, round: int, patch: int) -> int:
        """Side of the image from which a network of this round gets a `patch` with its context."""
        return patch + 2 * self.border * (round - 1)

    def streams(self, source: Source, round: int, patch: int, batch_size: int) -> dict[str, Stream]:
        """Random patches of the subjects of each fold, so many that every network sees `batch_size` or more.

        Images are extended by what networks take away, so that every voxel can be a target. Without that the
        last rounds never learn the outside of a head, which is all there is of bone and air.
        """
        rows = -(-batch_size // len(self.seen(round, 0)))

        def crop(record, random):
            size = (self.width(round, patch),) * (record["A"].ndim - 1)
            record = extended(record, self.border * round, fields=("A", "B"))
            return random_crop(record, random, size, fields=("A", "B"))

        return {f"fold_{k}": Stream(part, rows, crop) for k, part in enumerate(folds(source, self.folds))}

    def conditions(self, nets: Networks, image: jax.Array, round: int, fold: int) -> jax.Array:
        """What a network of this round sees of an `image` of a subject in `fold`, in `width` voxels."""
        if round == 1:
            return image
        context = nets[self.name("G", round - 1, fold)].eval(self.conditions(nets, image, round - 1, fold))
        return jnp.concatenate([centre_crop(image, context.shape[1:-1]), context], axis=-1)

    def examples(self, nets: Networks, batch: Mapping, round: int, fold: int) -> tuple[jax.Array, jax.Array]:
        """What the network of this round that leaves out `fold` learns from, and its targets."""
        found = [batch[f"fold_{k}"] for k in self.seen(round, fold)]
        x = [self.conditions(nets, each["A"], round, k)
             for k, each in zip(self.seen(round, fold), found, strict=True)]  # fmt: skip
        size = tuple(side - 2 * self.border for side in x[0].shape[1:-1])
        return jnp.concatenate(x), jnp.concatenate([centre_crop(each["B"], size) for each in found])

    def infer(self, source: str, *, first: str, last: str, window: int, stride: int) -> Callable[..., dict]:
        """An experiment's `infer`: estimates of the first and the last round from the batch's `source`."""

        def infer(nets, batch, key):
            found = self.estimates(nets, batch[source], window=window, stride=stride)
            return {first: found[0], last: found[-1]}

        return infer

    def estimates(self, nets: Networks, image: jax.Array, *, window: int, stride: int) -> list[jax.Array]:
        """Every round's estimate of a whole image from overlapping windows, the mean over folds of contexts."""
        totals = [0.0] * self.rounds
        for fold in range(self.folds):
            x = image
            for round in range(1, self.rounds + 1):
                network = nets[self.name("G", round, fold)].eval
                found = sliding_window(network, x, window=window, stride=stride, border=self.border)
                totals[round - 1] = totals[round - 1] + found / self.folds
                x = jnp.concatenate([image, found], axis=-1)
        return totals
