"""Patches of stained tissue as two scanners show them: without pairs to train on, in pairs to be measured."""

import functools

import jax
import jax.numpy as jnp

from medgan_jax.data.parts import Counts, open_domain_parts, require_domains
from medgan_jax.data.pipeline import Data, Stream
from medgan_jax.data.transforms import flip
from medgan_jax.phantoms.tissue import tissue_patch

SCANNERS = ("A", "B")


def scanned_tissue(key: jax.Array, domain: str, *, size: int, channels: int = 3) -> dict[str, jax.Array]:
    """`image` (size, size, channels) by the scanner `domain`, and whether the tissue is malignant as `label`.

    A key is a region of tissue, whatever the scanner. Half of them are malignant.
    """
    malignant = jax.random.bernoulli(jax.random.fold_in(key, 3))
    patch = tissue_patch(key, size, scanner=domain, malignant=malignant, field=1.5 * size)
    return {"image": patch["image"][..., :channels], "label": malignant.astype(jnp.int32)}


def scanner_data(
    source: str, *, size: int, channels: int, counts: Counts, batch_size: int
) -> tuple[Data, bool]:
    """Streams `A` and `B` of patches, mirrored at random, and whether cases to be measured are pairs.

    Phantoms have pairs, and a third stream, `judged`: patches of B with the `label` that no generator sees.
    A folder has two domains without pairs.
    """
    phantom = functools.partial(scanned_tissue, size=size, channels=channels)
    domains = open_domain_parts(source, phantom, SCANNERS, name=f"tissue_{size}", counts=counts)
    require_domains(domains, channels=channels, size=size)
    train = {name: Stream(part, batch_size, flip, ("image",)) for name, part in domains.train.items()}
    if domains.paired:
        train["judged"] = Stream(domains.train["B"], batch_size, flip, ("image", "label"))
    return Data(train, domains.validation, domains.test, evaluation_batch_size=16), domains.paired
