"""Tracks whose answer is an image of a case's input: reconstruction, denoising, conditional synthesis."""

import jax.numpy as jnp

from medgan_jax import cli
from medgan_jax.data.intensity import MinMax, Window
from medgan_jax.measures import absolute_error, image_fidelity, structure_overlap
from medgan_jax.review.benchmark import classical, plain
from medgan_jax.review.benchmark.track import Entrant, Track, View, named

SOFT_TISSUE = (-160.0, 240.0)
UNIT = image_fidelity("output", "target", low=0, high=1)


def as_in(id: str, *names: str):
    """Changes that give an entrant another experiment's values of these fields, at the same preset."""

    def changes(preset, config):
        other = cli.load(id).preset(preset)
        return {name: getattr(other, name) for name in names if hasattr(config, name)}

    return changes


# --- reconstruction ---

SIDES = {"tiny": 32, "small": 64, "paper": 256}
MR_BATCH = {"tiny": 8, "small": 4, "paper": 8}
MASK = {"mask": "gaussian1d", "rate": 0.3}


def _refinegan(preset, config):
    return MASK | {"size": SIDES[preset], "channels": 1, "batch_size": MR_BATCH[preset]}


def _dagan(preset, config):
    same = as_in("refinegan", "steps", "evaluate_every")(preset, config)
    return MASK | same | {"size": SIDES[preset], "batch_size": MR_BATCH[preset]}


def _dagan_view(config):
    """DAGAN has magnitudes in [-1, 1]; the track has them in [0, 1]."""
    return View(
        lambda batch: {"input": (batch["zero_filled"] + 1) / 2, "target": (batch["target"] + 1) / 2},
        lambda outputs, batch: {"output": (outputs["reconstruction"] + 1) / 2},
    )


_refinegan_view = named(input="aliased", target="magnitude", answer={"output": "reconstruction"})

UNDERSAMPLED = Track(
    module=__name__,
    name="head_undersampled",
    application="reconstruction",
    title="Head MR from 30 % of k-space",
    task="From the frequencies of a magnitude slice under one Gaussian mask of lines at 30 %, the slice.",
    entrants=(
        Entrant("RefineGAN", "method", "refinegan", _refinegan_view, _refinegan),
        Entrant("RefineGAN, no adversary", "twin", "refinegan", _refinegan_view, _refinegan),
        Entrant("DAGAN", "method", "dagan", _dagan_view, _dagan),
        Entrant("DAGAN, no adversary", "twin", "dagan", _dagan_view, _dagan),
        Entrant("plain U-Net", "plain", build=plain.images),
    ),
    metrics=lambda config: UNIT,
    classical=lambda config: (classical.wavelets(0.05),),
    shared=("image",),
    origin=2,
    note=(
        "All entrants have the same measured frequencies. RefineGAN and total variation read them as complex "
        "zero-filled images and put them back; DAGAN, the U-Net and wavelets read magnitudes. Augmentation "
        "is each method's own; the U-Net has RefineGAN's."
    ),
)


_mdcsrn_view = named(input="low", target="image", answer={"output": "fine"})

COARSE = Track(
    module=__name__,
    name="head_super_resolution",
    application="reconstruction",
    title="Head MR volumes at twice the resolution",
    task="From a volume of which the central half of the frequencies along two axes is there, the volume.",
    entrants=(
        Entrant("mDCSRN-GAN", "method", "mdcsrn_gan", _mdcsrn_view, rates=("learning_rate", "game_rate")),
        Entrant("mDCSRN", "twin", "mdcsrn_gan", _mdcsrn_view, rates=("learning_rate",)),
        Entrant("plain U-Net", "plain", build=plain.images),
    ),
    metrics=lambda config: UNIT,
    note="mDCSRN is the network before the game begins, so it makes fewer updates than the others.",
)


# --- denoising ---


def _wgan_view(config):
    return _in_window(Window(*config.window, "HU", (0, 1)).inverse)


def _sagan_view(config):
    return _in_window(cli.load("sharpness_aware_gan").module.RANGE.inverse)


def _in_window(to_hu):
    """HU of the soft-tissue window as [0, 1]; what is beyond its ends is cut off, of answers too."""
    unit = MinMax(*SOFT_TISSUE, "HU", (0, 1))

    def seen(image):
        return jnp.clip(unit.forward(to_hu(image)), 0, 1)

    return View(
        lambda batch: {"input": seen(batch["low"]), "target": seen(batch["target"])},
        lambda outputs, batch: {"output": seen(outputs["denoised"])},
    )


_as_wgan = as_in(
    "wgan_vgg_ldct", "size", "steps", "evaluate_every", "batch_size", "evaluation_cases"
)
_denoised = absolute_error("output", "target", name="mae", unit="HU", scale=SOFT_TISSUE[1] - SOFT_TISSUE[0])

LOW_DOSE = Track(
    module=__name__,
    name="abdomen_low_dose",
    application="denoising",
    title="Abdominal CT at a quarter of the dose",
    task="From a slice at a quarter of the dose, the slice of routine dose, in the soft-tissue window.",
    entrants=(
        Entrant("WGAN-VGG", "method", "wgan_vgg_ldct", _wgan_view),
        Entrant("WGAN-VGG's network, MSE", "twin", "wgan_vgg_ldct", _wgan_view),
        Entrant("SAGAN", "method", "sharpness_aware_gan", _sagan_view, _as_wgan),
        Entrant("plain U-Net", "plain", build=plain.images),
    ),
    metrics=lambda config: (*UNIT, _denoised),
    classical=lambda config: (classical.wavelets(0.1),),
    shared=("image", "target"),
    note=(
        "The target is a scan of routine dose and itself noisy. Patches are each method's own size; SAGAN "
        "sees all HU from -1024 to 1955, WGAN-VGG its configured window."
    ),
)


# --- conditional synthesis ---


def _context_view(config):
    """Training batches have a part for each fold of subjects."""

    def case(batch):
        whole = batch if "A" in batch else {name: jnp.concatenate([part[name] for part in batch.values()])
                                            for name in ("A", "B")}  # fmt: skip
        return {"input": whole["A"], "target": whole["B"]}

    return View(case, lambda outputs, batch: {"output": outputs["estimate"]})


MR_TO_CT = Track(
    module=__name__,
    name="mr_to_ct",
    application="synthesis_conditional",
    title="CT volumes from MR volumes of the head",
    task="From a T1 volume, the CT volume of the same head in HU.",
    entrants=(
        Entrant("context-aware GAN", "method", "context_aware_gan", _context_view),
        Entrant("context-aware network, no adversary", "twin", "context_aware_gan", _context_view),
        Entrant("plain U-Net", "plain", build=plain.images),
    ),
    metrics=lambda config: (
        absolute_error("output", "target", unit="HU", scale=1000),
        image_fidelity("output", "target", low=-1, high=2)[0],
    ),
)

_staingan_view = named(input="A", target="B", other="B", answer={"output": "translation"})

STAINS = Track(
    module=__name__,
    name="stains",
    application="synthesis_conditional",
    title="Slides in the stain of another laboratory",
    task="From a patch in one stain, the same patch in the other; training has no pairs.",
    entrants=(
        Entrant("StainGAN", "method", "staingan", _staingan_view, lambda preset, config: {"channels": 3}),
        Entrant("plain U-Net from grey", "plain", build=plain.recoloured),
    ),
    metrics=lambda config: (
        absolute_error("output", "target", scale=0.5),
        *image_fidelity("output", "target", low=-1, high=1)[:2],
    ),
    note=(
        "A U-Net cannot learn from unpaired images as they are: it learns to colour grey images of the "
        "wanted stain and is asked with grey images of the other. StainGAN trains a judge of its images "
        "beside it, which costs it time."
    ),
)

_myelin_view = named(input="A", target="B", mask="mask", answer={"output": "refined"})

MYELIN = Track(
    module=__name__,
    name="myelin",
    application="synthesis_conditional",
    title="Myelin content from MR",
    task="From MR contrasts, the map of myelin content (PET), of lesions above all.",
    entrants=(
        Entrant("Sketcher-Refiner GAN", "method", "sketcher_refiner_gan", _myelin_view),
        Entrant("sketcher and refiner, no adversary", "twin", "sketcher_refiner_gan", _myelin_view),
        Entrant("plain U-Net", "plain", build=plain.images),
    ),
    metrics=lambda config: (
        absolute_error(
            "output", "target", name="mae_lesion", unit="DVR", region=lambda case: case["mask"] == 1
        ),
        absolute_error("output", "target", unit="DVR", region=lambda case: case["mask"] > 0),
    ),
)


def _retina_view(config):
    return View(
        lambda batch: {"input": batch["B"], "target": batch["A"]},
        lambda outputs, batch: {"output": (outputs["S_synthetic"] > 0.5).astype(jnp.float32)},
    )


RETINAS = Track(
    module=__name__,
    name="retinas",
    application="synthesis_conditional",
    title="Retinas with vessels, to train a segmenter on",
    task="Vessels in a real retina, by a segmenter that has seen generated pairs alone.",
    entrants=(
        Entrant("AAE and pix2pix", "method", "retinal_aae_pix2pix", _retina_view),
        Entrant("plain U-Net, trained on real pairs", "plain", build=plain.masks),
    ),
    metrics=lambda config: structure_overlap("output", "target", ("vessels",))[:1],
    note="The U-Net learns from real pairs, which the method's segmenter never sees: a ceiling and no rival.",
)


TRACKS = (UNDERSAMPLED, COARSE, LOW_DOSE, MR_TO_CT, STAINS, MYELIN, RETINAS)
