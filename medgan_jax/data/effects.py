"""Unpaired images without (c0) and with (c1) the effect of a disease; of phantoms the true maps, too."""

import functools

import jax

from medgan_jax.data import parts
from medgan_jax.data.intensity import Affine
from medgan_jax.data.parts import Counts, DomainParts
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.phantoms.head_study import head_effect

SUBTYPES = (1, 2)


def open_effects(source: str, *, size: int, rank: int, strength: float, counts: Counts) -> DomainParts:
    """Checked sets `c0` and `c1` of images (*S, 1) of sides `size`: folders of `source`, or phantoms.

    Validation and test phantoms are the same heads in both sets, with `effect_map` (H, W, 1), what the effect
    adds to the noiseless image, and `subtype`, 1 or 2. strength: of the fading of white matter.
    """
    draw = functools.partial(_head, size=size, strength=strength)
    name = f"head_effect_{size}_{strength:g}"
    opened = parts.open_domain_parts(source, draw, ("c0", "c1"), name=name, counts=counts)
    parts.require_domains(opened, channels=1, size=size, rank=rank)
    return opened


def unpaired_effects(
    source: str, batch_size: int, *, size: int, rank: int, strength: float, counts: Counts
) -> tuple[Data, Affine]:
    """`open_effects` in batches of `batch_size` of each set, and the common map of both onto [-1, 1].

    Evaluation batches have the fields `c0` and `c1`, those of phantoms `effect_map` and `subtype` as well.
    """
    sets = open_effects(source, size=size, rank=rank, strength=strength, counts=counts)
    train = {name: Stream(part, batch_size, fields=("image",)) for name, part in sets.train.items()}
    fields = ("c0", "c1", *(("effect_map", "subtype") if sets.paired else ()))
    cases = Data(train, sets.validation, sets.test, evaluation_batch_size=16, fields=fields)
    return cases, parts.joint_range(list(sets.train.values()))


def _head(key: jax.Array, domain: str, size: int, strength: float) -> dict[str, jax.Array]:
    choice, key = jax.random.split(key)
    if domain == "c0":
        return {"image": head_effect(key, size, subtype=0, strength=strength)["image"]}
    subtype = jax.random.randint(choice, (), SUBTYPES[0], SUBTYPES[-1] + 1)
    ill = head_effect(key, size, subtype=subtype, strength=strength)
    return {"image": ill["image"], "effect_map": ill["effect_map"], "subtype": subtype}
