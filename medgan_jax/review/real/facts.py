"""What a record says of its set: sampling rates that real spectra have, a second observer."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from medgan_jax.metrics import overlap
from medgan_jax.physics import fourier, masks

# Of interpolated slices the outermost lines of k-space hold the rounding of the files alone: a line with a
# signal has three times their mean magnitude.
SIGNAL, OUTERMOST = 3, 8


def kspace(experiment) -> dict:
    """Nominal and effective sampling rates, and the band of k-space that training images fill.

    effective: the share that a real image's mirrored spectrum determines; band: rows and columns of k-space
    whose mean magnitude over the training images is above `SIGNAL` times that of the `OUTERMOST` ones, all of
    them where none is so empty.
    """
    config, train = experiment.config, experiment.stages[-1].data.train.source
    mask = np.asarray(masks.make_mask(config.mask, (config.size, config.size), config.rate))
    total = np.zeros(mask.shape)
    for index in range(len(train)):
        image = jnp.asarray(train[index]["image"])
        field = image[..., 0] if image.shape[-1] == 1 else fourier.to_complex(image)
        total += np.abs(np.asarray(fourier.fft2c(field.astype(jnp.complex64))))
    filled = [_with_signal(profile) for profile in (total.mean(1), total.mean(0))]
    rows, columns = (int(each.sum()) for each in filled)
    inside = np.ix_(*filled)
    mirrored = np.maximum(
        mask, np.roll(np.flip(mask), (mask.shape[0] % 2 == 0, mask.shape[1] % 2 == 0), (0, 1))
    )
    hermitian = train[0]["image"].shape[-1] == 1
    return {
        "sampling rate, nominal": config.rate,
        "sampling rate, of samples": float(mask.mean()),
        "sampling rate, determined": float(fourier.effective_rate(mask)) if hermitian else float(mask.mean()),
        "band of k-space with signal": f"{rows} x {columns} of {mask.shape[0]} x {mask.shape[1]}",
        "sampling rate within the band, determined": float((mirrored if hermitian else mask)[inside].mean()),
    }


def _with_signal(profile: np.ndarray) -> np.ndarray:
    """Which lines `(N,)` of a centred k-space are between the first and the last with a signal."""
    edge = max(1, min(OUTERMOST, len(profile) // 16))
    strong = np.flatnonzero(profile > SIGNAL * np.concatenate([profile[:edge], profile[-edge:]]).mean())
    number = np.arange(len(profile))
    inside = (number >= strong.min()) & (number <= strong.max()) if strong.size else np.zeros(len(profile), bool)
    # Where the spectrum falls all the way, as it does without interpolation, the outermost lines hold signal.
    return inside if inside.mean() > 0.5 else np.ones(len(profile), bool)


def second_observer(experiment) -> dict:
    """Dice of the second observer's vessels with the first's, of test images as the method sees them."""
    config, test = experiment.config, experiment.stages[-1].data.test
    scores = []
    for index in range(len(test)):
        record = test[index]
        if "vessels_2nd" not in record:
            return {"second observer": "not in the set"}
        inside = record[config.field_of_view] > 0
        pair = ((record[name] > 0) & inside for name in ("vessels_2nd", config.vessels))
        scores.append(float(overlap.dice(*(jnp.asarray(each)[None] for each in pair), empty_policy="nan")[0]))
    return {"second observer, Dice": float(np.mean(scores)), "at a size of": config.size}


FACTS: dict[str, Callable] = {"kspace": kspace, "second_observer": second_observer}


def of(plan, experiment) -> dict:
    """The facts that a plan names."""
    return {name: value for each in plan.facts for name, value in FACTS[each](experiment).items()}
