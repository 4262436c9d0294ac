"""What each tissue of the head is worth in each modality: MR signal, Hounsfield units, uptake, myelin.

MR signals follow from proton density, T1, T2 and R2' (near 1.5 T) and the protocol: inversion recovery
`PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2)` (spin echo: TI = 0) or the spoiled gradient echo
`PD sin(a) (1 - E1) / (1 - cos(a) E1) exp(-TE/T2*)`, `E1 = exp(-TR/T1)`. Contrast agent adds to 1/T1 where
the blood-brain barrier is broken and in blood. Hounsfield units and standardised uptake values
(fluorodeoxyglucose) are textbook values of adults at 120 kV and at one hour after injection.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms.head import TISSUES
from medgan_jax.phantoms.shapes import blur

Modality = Literal["t1", "t2", "pd", "flair", "t1c", "gre", "swi", "ct", "pet", "mra", "myelin"]
MR = ("t1", "t2", "pd", "flair", "t1c", "gre", "swi", "mra")

# PD, T1 and T2 in ms of what healthy heads and multiple sclerosis do not have, and of moving blood.
DISEASED = {
    "oedema": (0.86, 1050.0, 125.0),
    "core": (0.88, 1400.0, 150.0),
    "enhancing": (0.84, 1150.0, 105.0),
    "necrosis": (0.95, 2600.0, 420.0),
    "contusion": (0.86, 1150.0, 130.0),
    "haemorrhage": (0.80, 750.0, 60.0),
}
RELAXING = {**TISSUES, **DISEASED}
# Repetition, inversion and echo time in ms of the first and of the second scanner. The second takes T1 by
# spin echo; both null fluid in FLAIR.
SPIN_PROTOCOLS = {
    "t1": ((2300.0, 900.0, 4.0), (550.0, 0.0, 14.0)),
    "t2": ((5000.0, 0.0, 95.0), (3500.0, 0.0, 115.0)),
    "pd": ((8000.0, 0.0, 30.0), (2800.0, 0.0, 18.0)),
    "flair": ((9000.0, 2370.0, 110.0), (8000.0, 2265.0, 125.0)),
    "t1c": ((600.0, 0.0, 10.0), (500.0, 0.0, 14.0)),
}
# Repetition and echo time in ms, flip angle in degrees.
GRADIENT_PROTOCOLS = {
    "gre": ((650.0, 20.0, 20.0), (550.0, 26.0, 20.0)),
    "swi": ((49.0, 40.0, 15.0), (35.0, 28.0, 15.0)),
    "mra": ((25.0, 4.0, 25.0), (22.0, 6.0, 20.0)),
}
# R2' in 1/s where it is not that of other tissues: iron of deep grey matter and old blood.
FIELD_RELAXATION = {"pallidum": 18.0, "deep_grey": 9.0, "white_matter": 7.0, "csf": 0.5, "haemorrhage": 70.0}
OTHER_FIELD_RELAXATION = 5.0
# Relaxation rate that contrast agent adds, 1/s. Signal of blood with it, and in the angiogram.
AGENT = {"enhancing": 2.2, "skin": 0.5, "muscle": 0.4, "core": 0.06}
BLOOD_AFTER_AGENT, FRESH_BLOOD = 0.62, 0.30

# Tissue: Hounsfield units, uptake, myelin (normal white matter: 1).
VALUES = {
    "csf": (6.0, 0.4, 0.02),
    "cortex": (38.0, 7.6, 0.35),
    "deep_grey": (37.0, 8.0, 0.45),
    "white_matter": (29.0, 2.6, 1.0),
    "pallidum": (39.0, 5.0, 0.65),
    "choroid_plexus": (48.0, 1.2, 0.05),
    "fat": (-95.0, 0.3, 0.10),
    "skin": (45.0, 0.9, 0.08),
    "muscle": (55.0, 1.0, 0.06),
    "marrow": (450.0, 1.0, 0.08),
    "bone": (1250.0, 0.4, 0.02),
    "air": (-1000.0, 0.0, 0.0),
    "artery": (44.0, 1.8, 0.05),
    "venous_sinus": (56.0, 1.8, 0.05),
    "lesion": (23.0, 1.8, 0.10),
    "oedema": (21.0, 1.7, 0.70),
    "core": (32.0, 2.6, 0.15),
    "enhancing": (37.0, 2.6, 0.15),
    "necrosis": (14.0, 0.5, 0.03),
    "contusion": (24.0, 3.0, 0.5),
    "haemorrhage": (62.0, 1.0, 0.1),
}


def tissue_values(
    modality: Modality, protocol: jax.Array, relaxation: jax.Array, second_scanner: bool | jax.Array
) -> dict[str, jax.Array]:
    """The value of each tissue of `VALUES` in one subject: MR signal, HU, uptake or share of myelin.

    protocol: three standard normal numbers, deviations of the protocol by 4 %; relaxation: two for each of
    `RELAXING`, deviations of T1 and T2 by 4 %, of the ill by 12 %, or of the other values by 3 % of theirs.
    """
    if modality in MR:
        return _signals(modality, protocol, relaxation, second_scanner)
    column = ("ct", "pet", "myelin").index(modality)
    values = {tissue: values[column] for tissue, values in VALUES.items()}
    scatter = 1 + 0.03 * relaxation[: len(values)]
    return {tissue: value * each for (tissue, value), each in zip(values.items(), scatter, strict=True)}


def _signals(
    modality: str, protocol: jax.Array, relaxation: jax.Array, second_scanner: bool | jax.Array
) -> dict[str, jax.Array]:
    density, t1, t2 = np.array(list(RELAXING.values())).T
    spread = np.array([0.12 if tissue in DISEASED else 0.04 for tissue in RELAXING])
    scatter = jnp.exp(spread * relaxation.reshape(2, len(RELAXING)))
    t1, t2 = t1 * scatter[0], t2 * scatter[1]
    agent = np.array([AGENT.get(tissue, 0.0) for tissue in RELAXING]) / 1000
    if modality in GRADIENT_PROTOCOLS:
        first, second = np.array(GRADIENT_PROTOCOLS[modality])
        times = jnp.where(second_scanner, second, first) * jnp.exp(0.04 * protocol)
        extra = np.array([FIELD_RELAXATION.get(tissue, OTHER_FIELD_RELAXATION) for tissue in RELAXING]) / 1000
        signal = _gradient_echo(density, t1, 1 / t2 + extra, times)
    else:
        first, second = np.array(SPIN_PROTOCOLS[modality])
        # Radiographers null the fluid well.
        spread = np.array([0.04, 0.012 if modality == "flair" else 0.04, 0.04])
        times = jnp.where(second_scanner, second, first) * jnp.exp(spread * protocol)
        signal = _spin_echo(density, 1 / (1 / t1 + agent * (modality == "t1c")), t2, times)
    signals = dict(zip(RELAXING, signal, strict=True))
    blood = {"t1c": BLOOD_AFTER_AGENT, "mra": FRESH_BLOOD}.get(modality, 0.02)
    plexus = 1.5 if modality == "t1c" else 1.0
    return signals | {
        "choroid_plexus": plexus * signals["deep_grey"],
        "artery": blood,
        "venous_sinus": 0.08 if modality == "mra" else blood,
        "bone": 0.02,
        "air": 0.0,
    }


def _spin_echo(density: jax.Array, t1: jax.Array, t2: jax.Array, times: jax.Array) -> jax.Array:
    repetition, inversion, echo = times
    recovered = jnp.abs(1 - 2 * jnp.exp(-inversion / t1) + jnp.exp(-repetition / t1))
    return density * recovered * jnp.exp(-echo / t2)


def _gradient_echo(density: jax.Array, t1: jax.Array, rate: jax.Array, times: jax.Array) -> jax.Array:
    repetition, echo, angle = times[0], times[1], times[2] * jnp.pi / 180
    left = jnp.exp(-repetition / t1)
    return density * jnp.sin(angle) * (1 - left) / (1 - jnp.cos(angle) * left) * jnp.exp(-echo * rate)


def shares(covers: Iterable[tuple[jax.Array, str]]) -> dict[str, jax.Array]:
    """How much of each voxel every tissue has after painting `covers` `(*shape)` in 0 to 1 in their order.

    What is left to none is air. Values of a modality times shares, summed, are its image.
    """
    covers = list(covers)
    tissues = list(dict.fromkeys(["air", *(tissue for _, tissue in covers)]))
    belongs = jnp.array([[tissue == each for _, tissue in covers] for each in tissues], jnp.float32)
    stacked = jnp.stack([cover for cover, _ in covers])

    # A loop, because unrolled the compiler computes every cover again for each that lies below it.
    def below(left: jax.Array, cover: jax.Array) -> tuple[jax.Array, jax.Array]:
        return left * (1 - cover), left * cover

    left, seen = jax.lax.scan(below, jnp.ones_like(stacked[0]), stacked, reverse=True)
    parts = dict(zip(tissues, jnp.tensordot(belongs, seen, axes=1, precision="highest"), strict=True))
    return parts | {"air": parts["air"] + left}


def mixture(values: Sequence[Mapping[str, jax.Array]], parts: Mapping[str, jax.Array]) -> jax.Array:
    """Images `(M, *shape)` of M modalities from values of tissues and `shares`."""
    table = jnp.array([[each[tissue] for tissue in parts] for each in values])
    return jnp.tensordot(table, jnp.stack(list(parts.values())), axes=1, precision="highest")


def acquire(
    modality: Modality,
    drawn: jax.Array,
    spacing: Sequence[float],
    deviates: jax.Array,
    noise: float | jax.Array,
) -> jax.Array:
    """A clean image or volume as acquired, with noise from `deviates` `(2, *shape)`; spacing of voxels in mm.

    MR: magnitude of a signal with white noise of `noise` times the brightest voxel in both parts. CT: noise
    of 400 `noise` HU (SD) with the blue spectrum of filtered back-projection. PET: counts, then a filter of
    4 mm; myelin: the same of 2.5 mm. Poisson numbers are taken as squares of normal ones about the square
    root of the mean.
    """
    if modality in MR:
        peak = jnp.max(drawn)
        level = noise * peak
        return jnp.hypot(drawn + level * deviates[0], level * deviates[1]) / peak
    if modality == "ct":
        fine, coarse = (blur(deviates[0], (each,) * drawn.ndim) for each in (0.6, 2.0))
        blue = fine - 0.9 * coarse
        return drawn + 400 * noise * blue / jnp.std(blue)
    width, counts = (4.0, 6.0) if modality == "pet" else (2.5, 40.0)
    counts = counts * (100 * noise) ** -2 * spacing[-1] * spacing[-2]
    root = jnp.sqrt(jnp.maximum(counts * drawn, 0)) + deviates[0] / 2
    measured = jnp.where(counts * drawn > 1e-3, jnp.square(root) - 0.25, 0) / counts
    return jnp.maximum(blur(measured, [width / 2.355 / each for each in spacing]), 0)
