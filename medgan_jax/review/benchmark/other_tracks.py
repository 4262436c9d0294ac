"""Tracks whose answer is no image of the input: images drawn from noise, scores, classes."""

import functools

import jax.numpy as jnp

from medgan_jax import cli
from medgan_jax.game import Metric
from medgan_jax.measures import attribution, bag_classification, class_recognition, detection, sample_distance
from medgan_jax.review.benchmark import classical, plain
from medgan_jax.review.benchmark.track import Entrant, Track, View, named
from medgan_jax.rivals import dcgan_rival, lapgan_rival

# --- unconditional synthesis ---

_sample_view = named(input="x", target="x", answer={"output": "sample"})


def _lapgan(task, config):
    side = plain.trained_cases(task)["input"].shape[1]
    return plain.rival(functools.partial(lapgan_rival, coarsest=side // 2), task, config)


def _alone(preset, config):
    """PGGAN without its own rivals; at `tiny` of twice the side, since LAPGAN's half of that is a DCGAN's least."""
    return {"rivals": ()} | ({"size": 16, "batches": (8, 8)} if preset == "tiny" else {})


SKIN = Track(
    module=__name__,
    name="skin_lesions",
    application="synthesis_unconditional",
    title="Images of skin lesions from noise",
    task="From noise, images whose patches are distributed like those of dermoscopic images.",
    entrants=(
        Entrant("PGGAN", "method", "pggan_skin_lesion", _sample_view, _alone),
        Entrant("DCGAN", "rival", build=functools.partial(plain.rival, dcgan_rival)),
        Entrant("LAPGAN", "rival", build=_lapgan),
        Entrant("variational auto-encoder", "plain", build=plain.variational),
    ),
    metrics=lambda config: sample_distance("output", "target"),
    proved=("target",),
    note="LAPGAN starts at half of the side. The distance is of whole sets: intervals are over seeds alone.",
)


def _share_view(config):
    classifier = f"C_{round(100 * config.shares[0])}"
    return View(
        lambda batch: {"input": batch["x"], "label": batch["label"]} if "label" in batch else {},
        lambda outputs, batch: {"output": outputs[classifier]},
    )


_GAN_RATES = ("learning_rate", "classifier_rate")

LIVER = Track(
    module=__name__,
    name="liver_lesions",
    application="synthesis_unconditional",
    title="Liver lesions from noise, to train a classifier on",
    task="The class of a real lesion, by a classifier that learns from real and generated ones.",
    entrants=(
        Entrant("DCGAN, half of a batch generated", "method", "dcgan_liver_lesion", _share_view,
                lambda preset, config: {"shares": (0.5,)}, rates=_GAN_RATES),
        Entrant("DCGAN, all of it generated", "method", "dcgan_liver_lesion", _share_view,
                lambda preset, config: {"shares": (1.0,)}, rates=_GAN_RATES),
        Entrant("classifier, augmentation alone", "reference", "dcgan_liver_lesion", _share_view,
                lambda preset, config: {"shares": (0.0,), "steps": 1}, rates=_GAN_RATES),
    ),
    metrics=lambda config: class_recognition("output", "label", 3),
    proved=("input", "label"),
    note="Updates of the generators and of the classifier are counted together.",
)  # fmt: skip


# --- detection ---

_score_view = named(input="x", label="label", answer={"score": "score"})

FLUID = Track(
    module=__name__,
    name="retinal_fluid",
    application="detection",
    title="Fluid in OCT of the retina, learned from healthy eyes",
    task="From a patch, a score that is higher where there is fluid; training has healthy patches alone.",
    entrants=(
        Entrant("AnoGAN", "method", "anogan", _score_view),
        Entrant("auto-encoder residual", "plain", build=plain.anomaly),
    ),
    metrics=lambda config: detection("score", "label"),
    classical=lambda config: (classical.principal_residual(),),
    proved=("input", "label"),
)


def _effect_view(config):
    return View(
        lambda batch: (
            {"input": batch["c1"], "healthy": batch["c0"]}
            | {name: batch[name] for name in ("effect_map", "subtype") if name in batch}
        ),
        lambda outputs, batch: {"output": outputs["map"]},
    )


EFFECTS = Track(
    module=__name__,
    name="disease_effects",
    application="detection",
    title="What a disease has changed in an image",
    task="From an image of a patient, the map of what would heal it; training has two sets without pairs.",
    entrants=(
        Entrant("VA-GAN", "method", "va_gan", _effect_view),
        Entrant("gradient of a classifier", "twin", "va_gan", _effect_view),
        Entrant("auto-encoder of healthy images", "plain", build=plain.healed),
    ),
    metrics=lambda config: attribution("output", "effect_map", "subtype", (1, 2)),
    proved=("input", "effect_map"),
    note="No U-Net can be trained on pairs here; an auto-encoder of healthy images stands for it.",
)


# --- classification ---


def _ends(config):
    ends = cli.load("scgan").module.ENDS
    return View(
        lambda batch: {f"{end}_{what}": batch[f"{end}_{what}"] for end in ends for what in ("slice", "truth")
                       if f"{end}_{what}" in batch},
        lambda outputs, batch: {end: outputs[end] for end in ends},
    )  # fmt: skip


def _both_ends(outputs, case):
    right = [(outputs[end] >= 0) == (case[f"{end}_truth"] > 0) for end in outputs]
    return jnp.stack(right).mean(0, dtype=jnp.float32)


HEARTS = Track(
    module=__name__,
    name="heart_stacks",
    application="classification",
    title="Stacks of the heart that are not complete",
    task="From the first and the last slice of a stack, whether the base or the apex is missing.",
    entrants=(
        Entrant("SCGAN", "method", "scgan", _ends, rates=("learning_rate", "classifier_rate")),
        Entrant("supervised trunk", "twin", "scgan", _ends, rates=("learning_rate", "classifier_rate")),
    ),
    metrics=lambda config: (Metric("accuracy", _both_ends, "", True),),
    proved=("mbs_slice", "mas_slice", "mbs_truth", "mas_truth"),
    note="The plain network is the trunk of SCGAN's discriminator, trained on the labelled slices alone.",
)


def _bag_view(score):
    return named(input="x", label="label", answer={"output": score})


_ADAPTATION = ("learning_rate", "source_rate")

SLIDES = Track(
    module=__name__,
    name="slides_of_two_laboratories",
    application="classification",
    title="Grades of tissue in another laboratory's slides",
    task="From patches of a slide, its grade; grades are known in the source's colours alone.",
    entrants=(
        Entrant("adversarial adaptation", "method", "adv_da_histopathology", _bag_view("score"),
                rates=_ADAPTATION),
        Entrant("source only", "reference", "adv_da_histopathology", _bag_view("source_score"),
                lambda preset, config: {"steps": 1}, rates=_ADAPTATION),
        Entrant("source only, Reinhard's colours", "reference", "adv_da_histopathology",
                _bag_view("normalised_score"), lambda preset, config: {"steps": 1}, rates=_ADAPTATION),
    ),
    metrics=lambda config: bag_classification("output", "label")[:2],
    proved=("input", "label"),
    note="The references stop after the source's classifier has learned, so that they make fewer updates.",
)  # fmt: skip

TRACKS = (SKIN, LIVER, FLUID, EFFECTS, HEARTS, SLIDES)
