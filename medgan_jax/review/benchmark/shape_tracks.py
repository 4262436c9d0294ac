"""Tracks whose answer is a shape: segmentation and registration."""

import jax
import jax.numpy as jnp

from medgan_jax.game import Metric
from medgan_jax.losses.registration import local_cross_correlation, smoothness_against_folding
from medgan_jax.measures import object_scores, registration, structure_overlap
from medgan_jax.metrics import overlap
from medgan_jax.models.registration import RegistrationUNet
from medgan_jax.physics.deformation import warp
from medgan_jax.review.benchmark import classical, plain
from medgan_jax.review.benchmark.track import Entrant, Track, View, named

# --- segmentation ---

_segan_view = named(input="x", target="y", answer={"output": "mask"})

GLIOMAS = Track(
    module=__name__,
    name="gliomas",
    application="segmentation",
    title="Gliomas in MR of the head",
    task="From MR contrasts, masks of the whole tumour, its core and what enhances.",
    entrants=(
        Entrant("SegAN", "method", "segan", _segan_view),
        Entrant("SegAN's segmentor, soft Dice", "twin", "segan", _segan_view),
        Entrant("plain U-Net", "plain", build=plain.masks),
    ),
    metrics=lambda config: structure_overlap(
        "output", "target", ("whole", "core", "enhancing")[: config.structures], ()
    ),
)

_scan_view = named(input="x", target="organs", answer={"output": "mask"})

CHESTS = Track(
    module=__name__,
    name="chests",
    application="segmentation",
    title="Lungs and heart in chest X-rays",
    task="From a radiograph, masks of both lungs and the heart.",
    entrants=(
        Entrant("SCAN", "method", "scan", _scan_view),
        Entrant("SCAN's segmentation network", "twin", "scan", _scan_view),
        Entrant("plain U-Net", "plain", build=plain.masks),
    ),
    metrics=lambda config: structure_overlap(
        "output", "target", ("right_lung", "left_lung", "heart")[: config.organs], ()
    ),
)


def area_under_curve(score: str, mask: str, region: str) -> Metric:
    """Area under the ROC curve of the pixels of each case within `region`, images (B, H, W, 1), as `roc`."""

    def one(values, true, inside):
        values = jnp.where(inside, values, -jnp.inf)
        ordered = jnp.sort(values)
        ends = (jnp.searchsorted(ordered, values, side=side) for side in ("left", "right"))
        ranks = (sum(ends) + 1) / 2 - (~inside).sum()
        positive, negative = (true & inside).sum(), (~true & inside).sum()
        above = jnp.where(true & inside, ranks, 0).sum() - positive * (positive + 1) / 2
        return above / (positive * negative)

    def per_case(outputs, case):
        flat = (image.reshape(len(image), -1) for image in (outputs[score], case[mask] > 0, case[region] > 0))
        return jax.vmap(one)(*flat)

    return Metric("roc", per_case, "", True)


def _within(outputs, case):
    inside = case["inside"] > 0
    called, true = (outputs["output"] > 0.5) & inside, (case["target"] > 0) & inside
    return overlap.dice(called, true, empty_policy="nan")


_vgan_view = named(input="image", target="y", inside="inside", answer={"output": "probability"})

VESSELS = Track(
    module=__name__,
    name="retinal_vessels",
    application="segmentation",
    title="Vessels in photographs of the retina",
    task="From a photograph, the probability of a vessel in each pixel within the field of view.",
    entrants=(
        Entrant("V-GAN", "method", "vgan_retina", _vgan_view),
        Entrant("V-GAN's segmentor", "twin", "vgan_retina", _vgan_view),
        Entrant("plain U-Net", "plain", build=plain.probabilities),
    ),
    metrics=lambda config: (
        area_under_curve("output", "target", "inside"),
        Metric("dsc_at_half", _within, "", True),
    ),
)

_dan_view = named(input="x", target="glands", labels="labels", answer={"output": "mask"})

GLANDS = Track(
    module=__name__,
    name="glands",
    application="segmentation",
    title="Glands in histology, few of them annotated",
    task="From a patch, a mask of glands, learned from few annotated patches and many without.",
    entrants=(
        Entrant("DAN", "method", "dan_unannotated", _dan_view),
        Entrant("DAN's segmentation network", "twin", "dan_unannotated", _dan_view),
        Entrant("plain U-Net", "plain", build=plain.masks),
    ),
    metrics=lambda config: (
        *structure_overlap("output", "target", ("glands",), ())[:1],
        *object_scores("output", "labels", smallest=config.smallest)[:1],
    ),
    note="Only DAN uses the patches without annotation; twin and U-Net learn from the annotated ones alone.",
)


# --- registration ---


def _pair_view(config):
    """All fields of a pair are the case; `input` is both images side by side."""
    return View(
        lambda batch: {**batch, "input": jnp.concatenate([batch["moving"], batch["fixed"]], axis=-1)},
        lambda outputs, batch: {"displacement": outputs["displacement"]},
    )


def registered(task, config):
    """VoxelMorph (Balakrishnan et al. 2019): a U-Net's displacement by local cross-correlation and
    smoothness.
    """
    levels = min(config.levels, plain.halvings(plain.trained_cases(task)["input"].shape[1:-1]) - 1)
    network = RegistrationUNet((config.base, *(2 * config.base,) * (levels - 1)), (2 * config.base,) * levels)

    def loss(displacement, case):
        warped = warp(case["moving"], displacement)
        return {
            "similarity": local_cross_correlation(warped, case["fixed"]),
            "smooth": smoothness_against_folding(displacement),
        }

    return plain.supervised(network, loss, lambda made: {"displacement": made}, task, config)


PAIRS = Track(
    module=__name__,
    name="head_pairs",
    application="registration",
    title="Pairs of heads",
    task="From two images of heads, the displacement that takes the moving one to the fixed one.",
    entrants=(
        Entrant("adversarial similarity", "method", "adv_similarity_registration", _pair_view),
        Entrant("its network, cross-correlation", "twin", "adv_similarity_registration", _pair_view),
        Entrant("plain U-Net (VoxelMorph)", "plain", build=registered),
    ),
    metrics=lambda config: registration("displacement", classes=config.labels),
    classical=lambda config: (
        classical.registration("affine", classical.affine),
        classical.registration("demons", classical.demons),
    ),
    proved=("moving", "fixed", "moving_mask", "fixed_mask"),
)

TRACKS = (GLIOMAS, CHESTS, VESSELS, GLANDS, PAIRS)
