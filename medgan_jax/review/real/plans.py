"""What is run on real images: each method's set, its configuration, and what must not be concluded."""

import dataclasses
from collections.abc import Mapping

from medgan_jax.errors import UserError
from medgan_jax.review import catalogue

METHODS = "medgan_jax.review.real.methods"


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """One record on real images.

    id: of the record; experiment: of the review. set: folder of the real set, of which `derived` is made, if
    named (see `sets`). group: column of its table, by which values are told apart, too. headline: the metric
    that the line of results is about; beside: metrics of the same run that it is compared with, by what they
    are. values: configuration at every preset, `by_preset` at one, as on the command line. not_claimed: what
    the record does not show. extended: the experiment is that of `real.methods`. pretrained: the run starts
    from one on phantoms. facts: names in `real.facts`.
    """

    id: str
    experiment: str
    set: str
    headline: str
    not_claimed: str
    values: Mapping[str, str] = dataclasses.field(default_factory=dict)
    by_preset: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    derived: str | None = None
    extended: bool = False
    pretrained: bool = False
    beside: Mapping[str, str] = dataclasses.field(default_factory=dict)
    facts: tuple[str, ...] = ()
    group: str = ""
    twin_name: str = "twin"

    @property
    def base(self) -> str:
        """Module of the experiment in the review."""
        return catalogue.find(self.experiment).module

    @property
    def module(self) -> str:
        """Module of the experiment that is run."""
        return f"{METHODS}.{self.experiment}" if self.extended else self.base

    @property
    def application(self) -> str:
        """Of the review's row."""
        return catalogue.find(self.experiment).application

    def options(self, preset: str) -> tuple[str, ...]:
        """`--config.NAME VALUE ...` as `train` takes them."""
        values = {**self.values, **self.by_preset.get(preset, {})}
        return tuple(word for name, value in values.items() for word in (f"--config.{name}", *value.split()))


RETINA = {"vessels": "vessels_1st", "field_of_view": "fov"}
RETINA_TINY = {"channels": "3"}
RETINA_SMALL = {"size": "256", "batch_size": "2", "steps": "400", "evaluate_every": "80"}
BRAIN = (
    "Nothing about raw k-space: the files are 8-bit magnitudes of interpolated slices, so spectra are "
    "Hermitian and partly empty, and values are optimistic (Shimron et al., PNAS 119(13), 2022)."
)
CT = (
    "Nothing about dose: the low dose is simulated, the target is itself noisy and no truth, kernels and "
    "makers are mixed, and some bodies touch the sides. Without VGG weights the features are those of the notes."
)
RETINA_NOT = (
    "Nothing beyond the few test children of one study; spread is per child. A second observer's Dice "
    "stands beside it, to whom the method is not compared as to a truth."
)
HISTOLOGY = (
    "Nothing about scanners or diagnosis: two unpaired stains of one collection, tiles in mosaic groups."
)
INSERTED = (
    "Nothing about disease: the effects are simulated, inserted in other subjects than the untouched ones."
)
DAGAN = {
    "tiny": {"base": "1", "batch_size": "2", "gamma": "0"},
    "small": {"base": "8", "steps": "360", "evaluate_every": "90", "halve_every": "150", "features.steps": "100"},
}
REFINEGAN = {
    "tiny": {"base": "2", "batch_size": "2"},
    "small": {"base": "8", "batch_size": "2", "steps": "600", "evaluate_every": "300"},
}

PLANS = (
    Plan(
        "dagan", "dagan", "brain_mr_ixi", "psnr", BRAIN, {"size": "256"}, DAGAN, facts=("kspace",),
    ),
    Plan(
        "dagan_noisy", "dagan", "brain_mr_ixi", "psnr",
        f"{BRAIN} The noise is simulated; the method takes magnitudes, so there is no phase here.",
        {"size": "256", "noise": "0.02"}, DAGAN, facts=("kspace",),
    ),
    Plan(
        "refinegan", "refinegan", "brain_mr_ixi", "psnr", BRAIN,
        {"size": "256", "channels": "1", "rate": "0.3"}, REFINEGAN,
        beside={"the first link": "psnr_first"}, facts=("kspace",),
    ),
    Plan(
        "refinegan_complex", "refinegan", "brain_mr_ixi", "psnr",
        f"{BRAIN} Phase and noise are simulated.",
        {"size": "256", "channels": "2", "rate": "0.3", "noise": "0.02"}, REFINEGAN,
        derived="brain_complex", beside={"the first link": "psnr_first"}, facts=("kspace",),
    ),
    Plan(
        "mdcsrn_gan", "mdcsrn_gan", "hippocampus_mr3d", "psnr",
        "Nothing about whole brains: crops about the hippocampus, reflected outside and scored within.",
        {"size": "44 56 48"},
        {"tiny": {"window": "30", "batch_size": "2"},
         "small": {"steps": "360", "pretraining": "300", "evaluate_every": "180", "evaluation_cases": "4"}},
        derived="hippocampus_reflected", extended=True,
    ),
    Plan(
        "adv_similarity_registration", "adv_similarity_registration", "hippocampus_mr3d", "dice",
        "Nothing about whole brains or within-subject registration; left and right may be of one subject, "
        "whose ids are not known. Labels measure and train nothing.",
        {"shape": "48 64 48", "labels": "3"},
        {"tiny": {"batch_size": "2"},
         "small": {"down": "8 16 16", "up": "16 16 16", "critic": "8 8 16", "batch_size": "1", "steps": "160",
                   "evaluate_every": "80", "evaluation_cases": "16"}},
        derived="hippocampus_matched",
    ),
    Plan(
        "vgan_retina", "vgan_retina", "retina_chase", "dsc", RETINA_NOT, {**RETINA, "discriminator": "image"},
        {"tiny": {**RETINA_TINY, "size": "64"}, "small": RETINA_SMALL},
        extended=True, facts=("second_observer",),
    ),
    Plan(
        "vgan_retina_patch", "vgan_retina", "retina_chase", "dsc",
        f"{RETINA_NOT} Crops at full resolution, which values of whole images do not compare with.",
        {**RETINA, "discriminator": "patch1"},
        {"tiny": RETINA_TINY, "small": RETINA_SMALL},
        derived="retina_crops", extended=True,
    ),
    Plan(
        "vgan_retina_pixel", "vgan_retina", "retina_chase", "dsc",
        f"{RETINA_NOT} Crops at full resolution, which values of whole images do not compare with.",
        {**RETINA, "discriminator": "pixel"},
        {"tiny": RETINA_TINY, "small": RETINA_SMALL},
        derived="retina_crops", extended=True,
    ),
    Plan(
        "retinal_aae_pix2pix", "retinal_aae_pix2pix", "retina_chase", "dice",
        "No new anatomy: the few real trees follow on phantom trees. The nearest training tree is reported; "
        "a value near 1 is a copy.",
        {}, {"small": {"size": "64", "sight": "disc"}},
        derived="retina_pairs", pretrained=True,
        beside={"the segmenter of real pairs": "dice_real"},
    ),
    Plan(
        "scan", "scan", "cxr_lungs_nc", "dsc",
        "Nothing about hearts, healthy chests or other hospitals: few patients, all ill, masks drawn over "
        "opacities too.",
        {"organs": "2"},
    ),
    Plan(
        "dan_unannotated", "dan_unannotated", "nuclei_fluo_dsb2018", "f_score",
        "No gain from more unlabelled hospitals: tiles of one collection. Validation tiles may touch "
        "training tiles, since the set does not say whose neighbour each is; test tiles do not.",
        {"channels": "1", "annotated": "20"},
        {"small": {"size": "128", "batch_size": "4", "steps": "450", "smallest": "24",
                   "evaluation_cases": "24"}},
    ),
    Plan(
        "staingan", "staingan", "histology_stain_dsb2018", "structure_ssim",
        f"{HISTOLOGY} There are no pairs, so nothing is compared with a truth.",
        {"channels": "3"},
        {"small": {"size": "64", "steps": "400", "batch_size": "2", "evaluate_every": "200"}},
        derived="histology_tiles", extended=True,
    ),
    Plan(
        "adv_da_histopathology", "adv_da_histopathology", "histology_stain_dsb2018", "accuracy",
        f"{HISTOLOGY} Exploratory: no tumour labels exist, the label is a nucleus at the centre of a patch.",
        {}, {"small": {"source_steps": "300", "steps": "200", "batch_size": "8"}},
        derived="histology_centres",
        beside={"the source's network": "source_accuracy", "the same after Reinhard": "normalised_accuracy"},
    ),
    Plan(
        "wgan_vgg_ldct", "wgan_vgg_ldct", "ct_chest_tcga", "psnr", CT,
        {"photons": "1e6 1e5", "pixel_mm": "0.7"},
        {"tiny": {"pixel_mm": "11"}, "small": {"size": "256", "steps": "500", "evaluate_every": "250"}},
        derived="ct_doses", group="kernel",
    ),
    Plan(
        "sharpness_aware_gan", "sharpness_aware_gan", "ct_chest_tcga", "psnr", CT,
        {"photons": "1e5 1e6"},
        {"small": {"size": "256", "steps": "300", "evaluate_every": "150"}},
        derived="ct_doses", group="kernel",
    ),
    Plan(
        "va_gan", "va_gan", "brain_mr_ixi", "ncc", INSERTED, {},
        {"small": {"size": "64", "lam": "32.0", "batch_size": "8"}},
        derived="brain_effects", extended=True, twin_name="the classifier's gradient",
    ),
    Plan(
        "anogan", "anogan", "brain_mr_ixi", "auc", INSERTED, {},
        {"small": {"steps": "1500"}},
        derived="brain_lesions",
    ),
)  # fmt: skip


def chosen(names: tuple[str, ...]) -> tuple[Plan, ...]:
    """The plans of these ids, all without any; UserError for an unknown one."""
    known = {plan.id: plan for plan in PLANS}
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"there is no plan {unknown[0]!r} for real images; there are {', '.join(known)}")
    return tuple(plan for plan in PLANS if not names or plan.id in names)
