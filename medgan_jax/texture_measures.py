"""Sets of metrics that experiments share about noise, edges and their gradients; compare `measures`."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.errors import UserError
from medgan_jax.evaluation.observers import mtf_from_edge
from medgan_jax.game import Metric
from medgan_jax.measures import image_fidelity
from medgan_jax.metrics import image, texture

ToHounsfield = Callable[[jax.Array], jax.Array]


def noise_texture(
    prediction: str,
    reference: str,
    *,
    to_hu: ToHounsfield,
    pixel_mm: float,
    side_mm: float = 45.0,
    count: int = 4,
    between: tuple[float, float] = (-150.0, 200.0),
    bins: int = 4,
) -> tuple[Metric, ...]:
    """Distance of noise power spectra, and the noise's standard deviation over that of the reference.

    Both from the `count` flattest squares of `side_mm` of the reference whose mean is `between` two values in
    HU; a plane is taken off each. Images are (B, H, W, 1); `to_hu` maps them to HU.
    """
    side = max(2 * bins, round(side_mm / pixel_mm))

    def squares(outputs, batch):
        result, truth = (to_hu(x)[..., 0] for x in (outputs[prediction], batch[reference]))
        places = texture.flattest_places(truth, size=side, count=count, between=between)
        return [texture.squares_at(x, places, side) for x in (result, truth)]

    conventions = {"spacing": (pixel_mm, pixel_mm), "detrend": 1}

    def distance(outputs, batch):
        return texture.nps_distance(*squares(outputs, batch), bins=bins, **conventions)

    def ratio(outputs, batch):
        power = (texture.noise_power_spectrum(x, **conventions).mean((1, 2)) for x in squares(outputs, batch))
        result, truth = power
        return jnp.sqrt(result / truth)

    return (Metric("nps_distance", distance, "", False), Metric("noise_ratio", ratio, "", True))


def windowed_fidelity(
    prediction: str, reference: str, *, to_hu: ToHounsfield, window: tuple[float, float]
) -> tuple[Metric, ...]:
    """`measures.image_fidelity` of CT images cut off at the ends of a `window` in HU, the data range."""
    low, high = window
    return image_fidelity(
        prediction, reference, low=low, high=high, of=lambda picture: to_hu(picture).clip(low, high)
    )


def ct_quality(
    prediction: str, reference: str, window: tuple[float, float], to_hu: ToHounsfield, *, pixel_mm: float
) -> tuple[Metric, ...]:
    """`windowed_fidelity` and `noise_texture` of CT images (B, H, W, 1)."""
    pair = (prediction, reference)
    return (*windowed_fidelity(*pair, to_hu=to_hu, window=window),
            *noise_texture(*pair, to_hu=to_hu, pixel_mm=pixel_mm))  # fmt: skip


def edge_sharpness(
    prediction: str, edge: str, *, pixel_mm: float, reach_mm: float, along_mm: float
) -> tuple[Metric, ...]:
    """`mtf50` in cycles/mm, the mean over cases, from an edge that `edge` (B, 3) gives the place of.

    edge: row and column of its middle in pixels, and the angle of its outward normal from the rows'
    direction, within 45 degrees of it. reach: how far the region goes to both sides of the edge; along: its
    width. Images are (B, H, W, 1).
    """
    height, width = (max(8, 2 * math.floor(length / pixel_mm)) for length in (reach_mm, along_mm / 2))

    def region(outputs, batch):
        def cut(picture, place):
            corner = jnp.round(place[:2]).astype(jnp.int32) - jnp.array([height // 2, width // 2])
            return jax.lax.dynamic_slice(picture, corner, (height, width))

        return {"region": jax.vmap(cut)(outputs[prediction][..., 0], batch[edge])}

    def mtf50(values):
        found = []
        for each in values["region"]:
            try:
                found.append(mtf_from_edge(each, spacing=pixel_mm).mtf50)
            except UserError:
                # A region of one value, as an untrained network makes, has no edge.
                found.append(np.nan)
        return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")

    return (Metric("mtf50", region, "cycles/mm", True, mtf50),)


def gradient_statistics(prediction: str, reference: str) -> tuple[Metric, ...]:
    """Distance of the distributions of gradient magnitudes: how far edges are from those of the reference."""

    def distance(outputs, batch):
        return image.gradient_distance(outputs[prediction], batch[reference])

    return (Metric("gradient_distance", distance, "", False),)


def catphan_quality(
    prediction: str, reference: str, pixel_mm: float, photons: Sequence[float] = ()
) -> tuple[Metric, ...]:
    """`image_fidelity` of images in [-1, 1], and of phantoms, which `photons` are for, PSNR by dose and `mtf50`."""
    metrics = image_fidelity(prediction, reference, low=-1, high=1)
    if not photons:
        return metrics
    by_dose = (only(metrics[0], "photons", dose, f"psnr_{dose:.0e}") for dose in photons)
    edge = edge_sharpness(prediction, "edge", pixel_mm=pixel_mm, reach_mm=12, along_mm=20)
    return (*metrics, *by_dose, *edge)


def only(metric: Metric, field: str, value: float, name: str) -> Metric:
    """The mean of a metric of single cases over those whose batch `field` (B,) is `value`, as `name`."""

    def per_case(outputs, batch):
        return {"value": metric.per_case(outputs, batch), "counts": batch[field] == value}

    def mean(values):
        chosen = values["value"][values["counts"]]
        return float(chosen.mean()) if len(chosen) else float("nan")

    return Metric(name, per_case, metric.unit, metric.higher_is_better, mean)
