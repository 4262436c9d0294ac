"""Which phantoms are built as data sets: every drawing function of `medgan_jax.phantoms`, as it lands there.

A drawing function is a public one that takes a key, needs nothing that its variants do not give, and returns
arrays by name. What is known of a module beside that stands in `KNOWN`; a module that is not there is built,
too, with the sizes that are usual. What the functions give stands in `DRAWN`, so that it can be listed
without tracing them.
"""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Mapping
from typing import Any

# Sizes and numbers of subjects for training, validation and test, by the last word of a function's name.
_USUAL_SIZES, _USUAL_COUNTS = (256, 128, 64), (200, 50, 100)
_SIZES = {
    "patch": (64,),
    "pair": (128, 64),
    "volume": (64, 32),
    "stack": (64,),
    "cine": (64,),
    "echo": (64, 32),
}
_COUNTS = dict.fromkeys(("volume", "stack", "cine", "echo"), (40, 10, 20))


@dataclasses.dataclass(frozen=True)
class Known:
    """Words about a module. variants: keywords of its functions by the name of a configuration.

    A variant is left out for functions that lack one of its keywords or need more, and a function without a
    variant that gives all that it needs. keys: keywords that are random keys, drawn with each record's own.
    """

    anatomy: str
    modality: str
    variants: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=lambda: {"": {}})
    keys: tuple[str, ...] = ()


KNOWN = {
    "head": Known(
        "head, axial", "MR: T1, T2, proton density",
        {contrast: {"contrast": contrast} for contrast in ("t1", "t2", "pd")}
        | {"pd_lesions": {"contrast": "pd", "lesions": True}},
    ),
    "head_study": Known(
        "head, axial", "MR of all weightings, CT, PET, MR angiography",
        {"": {}, "t1_ct": {"modalities": ("t1", "ct")}, "mr_pet": {"modalities": ("t1", "pet")}}
        | {"t1_mra": {"modalities": ("t1", "mra")}, "flair": {"modalities": ("flair",)}}
        | {"second_scanner": {"second_scanner": True}}
        | {"tumour": {"modalities": ("flair", "t1", "t1c", "t2"), "disease": "tumour"}}
        | {"sclerosis": {"modalities": ("t1", "flair"), "disease": "multiple_sclerosis"}}
        | {"healthy": {"subtype": 0}, "front": {"subtype": 1}, "behind": {"subtype": 2}},
    ),
    "head_volume": Known(
        "head, volume", "MR, CT, PET",
        {"": {}, "flair": {"modalities": ("flair",)}, "second_scanner": {"second_scanner": True}},
    ),
    "hippocampus": Known("hippocampus, volume", "MR"),
    "oct": Known("macula", "optical coherence tomography", {"": {}, "fluid": {"fluid": True}}),
    "chest_xray": Known("chest, frontal", "radiograph"),
    "chest_ct": Known(
        "chest, lung nodules", "CT",
        {"": {}, "nodules": {"nodules": True}, "calcifications": {"calcifications": 6}},
    ),
    "catphan": Known("quality-control disc", "CT"),
    "abdomen": Known(
        "abdomen, liver and spleen", "CT, MR, PET",
        {"": {}, "mr": {"modality": "mr"}, "pet": {"modality": "pet"}},
    ),
    "liver_lesions": Known(
        "liver lesions", "CT",
        {"cyst": {"lesion": 0}, "metastasis": {"lesion": 1}, "haemangioma": {"lesion": 2}},
    ),
    "lung_nodules": Known(
        "lung nodules", "CT", {"benign": {"malignant": False}, "malignant": {"malignant": True}}
    ),
    "pelvis": Known("pelvis, prostate", "MR, CT"),
    "trus": Known("prostate", "transrectal ultrasound"),
    # Late enhancement is one image at rest, and no cine.
    "cardiac": Known(
        "heart, short axis", "MR: cine, late enhancement; CT",
        {"": {}, "ct": {"modality": "ct"}}
        | {"late_enhancement": {"modality": "late_enhancement", "infarct": True, "contraction": 0.0}},
    ),
    "cardiac_echo": Known("heart", "echocardiography"),
    "fundus": Known("retina", "colour fundus photograph"),
    "vessels": Known("coronary arteries", "angiography", {"": {}, "stenosis": {"stenosis": True}}),
    "neurons": Known("neurons", "microscopy"),
    "skin": Known("skin lesions", "dermoscopy, photograph"),
    "ivus": Known("coronary arteries", "intravascular ultrasound"),
    "endomicroscopy": Known("mucosa", "endomicroscopy"),
    "cells": Known("cells", "fluorescence, bright field, phase contrast, DIC"),
    "obstetric": Known("fetal head", "ultrasound", keys=("subject",)),
    "tissue": Known("tissue", "stained histology", {"": {}, "scanner_b": {"scanner": "B"}}),
    "spine": Known("spine", "CT"),
    "deformed": Known("brain, deformed pairs", "MR"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What a function of `module` draws, as it is stored: `image` of so many axes and channels, and targets.

    rank: spatial axes. Without an image, axes and channels are None. label_is_class: `label` is a number, the
    class of the case, and no map.
    """

    module: str
    rank: int | None
    channels: int | None
    targets: tuple[str, ...]
    label_is_class: bool = False

    @property
    def maps(self) -> frozenset[str]:
        """`label` where it is a map; other targets do not go by one name."""
        return frozenset({"label"} & set(self.targets)) if not self.label_is_class else frozenset()


def _drawn(
    module: str, rank: int | None, channels: int | None, targets: str, label_is_class: bool = False
) -> Drawn:
    return Drawn(module, rank, channels, tuple(targets.split()), label_is_class)


_ABDOMEN = "label lesion_centroids lesion_mask lesion_valid level malignant_mask"
_CELLS = "cell_mask centroids instances label present"
_CHEST = "agatston calcification_mask label level low_contrast_mask lung_mask nodule_mask"
_NODULE = "centre label lung_mask nodule_mask"
_PELVIS = "body_mask label landmarks lesion_mask level prostate_mask"
_TISSUE = (
    "centroids concentrations gland_instances gland_mask label mitosis_mask nuclei_instances nuclei_mask"
    " present"
)
DRAWN = {
    "abdomen_slice": _drawn("abdomen", 2, 1, _ABDOMEN),
    "abdomen_volume": _drawn("abdomen", 3, 1, _ABDOMEN),
    "angiogram": _drawn("vessels", 2, 1, "centreline label radii stenosis_grade stenosis_place vessel_mask"),
    "cardiac_cine": _drawn("cardiac", 3, 1, "contraction indices infarct_mask label"),
    "cardiac_echo": _drawn("cardiac_echo", 3, 1, "cavity_ml label"),
    "cardiac_slice": _drawn("cardiac", 2, 1, "apical basal centre complex infarct_mask label position"),
    "cardiac_stack": _drawn("cardiac", 3, 1, "apical basal covered label positions spacing_mm"),
    "catphan_slice": _drawn("catphan", 2, 1, "edge line_pair_mask low_contrast_mask rods"),
    "chest_ct_slice": _drawn("chest_ct", 2, 1, _CHEST),
    "chest_ct_volume": _drawn("chest_ct", 3, 1, _CHEST),
    "chest_xray": _drawn(
        "chest_xray", 2, 1, "centroids clavicle_mask label nodule_mask opacity_mask rib_mask"
    ),
    "coronary_centreline": _drawn(
        "vessels", None, None, "artery centreline code length radii stenosis_grade stenosis_place"
    ),
    "deformed_pair": _drawn(
        "deformed", None, None,
        "displacement fixed fixed_labels fixed_landmarks moving moving_labels moving_landmarks",
    ),
    "dermoscopy_image": _drawn("skin", 2, 3, "hair_mask kind label lesion_mask"),
    "endomicroscopy_image": _drawn("endomicroscopy", 2, 1, "label tissue"),
    "fetal_frame": _drawn(
        "obstetric", 2, 1, "coordinates label landmark_places landmark_valid landmarks pose"
    ),
    "fundus_image": _drawn(
        "fundus", 2, 3,
        "cup_mask cup_to_disc disc_centre disc_mask field_of_view fovea label lesion_mask vessel_mask",
    ),
    "head_effect": _drawn("head_study", 2, 1, "brain_mask effect_map effect_mask"),
    "head_slice": _drawn("head", 2, 1, "brain_mask complex label lesion_mask"),
    "head_study": _drawn(
        "head_study", 2, 3, "artery_mask bone_mask brain_mask label lesion_mask tumour_mask"
    ),
    "head_volume": _drawn("head_volume", 3, 1, "bone_mask brain_mask label lesion_mask tumour_mask"),
    "hippocampus_volume": _drawn("hippocampus", 3, 1, "label"),
    "ivus_frame": _drawn("ivus", 2, 1, "label lumen_mask lumen_radii vessel_mask vessel_radii"),
    "liver_lesion_patch": _drawn("liver_lesions", 2, 1, "label lesion_mask", label_is_class=True),
    "lung_nodule_patch": _drawn("lung_nodules", 2, 1, _NODULE, label_is_class=True),
    "lung_nodule_volume": _drawn("lung_nodules", 3, 1, _NODULE, label_is_class=True),
    "mr_trus_pair": _drawn(
        "trus", None, None,
        "displacement mr mr_labels mr_landmarks mr_prostate_mask sector_mask spacing trus trus_labels"
        " trus_landmarks trus_prostate_mask",
    ),
    "neuron_image": _drawn("neurons", 2, 1, "label neuron_mask soma"),
    "nuclei_image": _drawn("cells", 2, 1, _CELLS),
    "oct_patch": _drawn("oct", 2, 1, "fluid_mask"),
    "oct_slice": _drawn("oct", 2, 1, "anomaly_mask fluid_mask label"),
    "pelvis_modalities": _drawn("pelvis", None, None, f"{_PELVIS} ct t1 t2"),
    "pelvis_slice": _drawn("pelvis", 2, 1, _PELVIS),
    "pelvis_volume": _drawn("pelvis", 3, 1, _PELVIS),
    "prostate_mpmr": _drawn("pelvis", 2, 3, "aggressive label lesion_mask prostate_mask"),
    "skin_photograph": _drawn("skin", 2, 3, "centres lesion_mask pigmented pigmented_mask radii valid"),
    "spheroid_image": _drawn("cells", 2, 1, _CELLS),
    "spine_volume": _drawn("spine", 3, 1, "bone_mask centroids label visible"),
    "tissue_patch": _drawn("tissue", 2, 3, _TISSUE),
    "transparent_cells": _drawn("cells", 2, 1, f"{_CELLS} phase"),
    "trus_image": _drawn("trus", 2, 1, "label landmarks lesion_mask prostate_mask sector_mask visible"),
    "unstained_pair": _drawn("tissue", 2, 3, f"{_TISSUE} spectra"),
    "vessel_tree": _drawn("fundus", 2, 1, "label vessel_mask"),
    "vessel_volume": _drawn("vessels", 3, 1, "centreline label radii stenosis_grade vessel_mask"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PhantomSet:
    """One configuration: `module`'s `function` with `keywords`, and how many subjects each part has.

    keys: its keywords that are random keys.
    """

    name: str
    module: str
    function: str
    keywords: tuple[tuple[str, Any], ...]
    counts: tuple[int, int, int]
    keys: tuple[str, ...] = ()

    @property
    def generate(self) -> Callable[..., Mapping[str, Any]]:
        """key -> record."""
        draw = getattr(importlib.import_module(f"medgan_jax.phantoms.{self.module}"), self.function)
        if self.keys:
            return functools.partial(_with_keys, draw, self.keys, **dict(self.keywords))
        return functools.partial(draw, **dict(self.keywords))

    @property
    def known(self) -> Known:
        """Anatomy and modality."""
        return _known(self.module)


def _with_keys(draw: Callable, names: tuple[str, ...], key: Any, **options) -> Mapping[str, Any]:
    """`draw` with a key of its own for each of the keywords `names`."""
    import jax

    own, *others = jax.random.split(key, 1 + len(names))
    return draw(own, **dict(zip(names, others, strict=True)), **options)


@functools.cache
def phantom_sets() -> dict[str, PhantomSet]:
    """Every configuration by name, such as 'head_slice_t1_256'; imports the phantoms."""
    from medgan_jax import phantoms

    found = {}
    for module in sorted(module.name for module in pkgutil.iter_modules(phantoms.__path__)):
        if not module.startswith("_"):
            imported = importlib.import_module(f"{phantoms.__name__}.{module}")
            for name, draw in sorted(vars(imported).items()):
                if _is_drawing(draw, imported.__name__, module):
                    found |= {one.name: one for one in _configurations(module, name, draw)}
    return found


def _is_drawing(draw: Any, imported: str, module: str) -> bool:
    if not inspect.isfunction(draw) or draw.__module__ != imported or draw.__name__.startswith("_"):
        return False
    first = next(iter(inspect.signature(draw).parameters.values()), None)
    return (
        first is not None
        and first.name == "key"
        and bool(_variants(module, draw))
        and typing.get_origin(draw.__annotations__.get("return")) is dict
    )


def _variants(module: str, draw: Callable) -> dict[str, Mapping[str, Any]]:
    """The variants of a module that give a function all that it needs and nothing that it lacks."""
    _, *parameters = inspect.signature(draw).parameters.values()
    known, loose = _known(module), (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    needed = {one.name for one in parameters if one.default is one.empty and one.kind not in loose}
    taken = {one.name for one in parameters}
    return {
        variant: keywords
        for variant, keywords in known.variants.items()
        if needed <= {*keywords, *known.keys} and keywords.keys() <= taken
    }


def _known(module: str) -> Known:
    return KNOWN.get(module) or Known(module.replace("_", " "), "")


def _configurations(module: str, function: str, draw: Callable) -> list[PhantomSet]:
    parameters = inspect.signature(draw).parameters
    keys = tuple(name for name in _known(module).keys if name in parameters)
    word = function.rsplit("_", 1)[-1]
    sizes, counts = _SIZES.get(word, _USUAL_SIZES), _COUNTS.get(word, _USUAL_COUNTS)
    made = []
    for variant, keywords in _variants(module, draw).items():
        for size in sizes if parameters.keys() & {"size", "shape"} else (None,):
            name = "_".join(part for part in (function, variant, str(size or "")) if part)
            options = {**keywords, **_size_option(parameters, size)}
            made.append(PhantomSet(name, module, function, tuple(sorted(options.items())), counts, keys))
    return made


def _size_option(parameters: Mapping[str, Any], size: int | None) -> dict[str, Any]:
    """Functions that take a shape draw squares or cubes, as their default is one."""
    if size is None:
        return {}
    return {"size": size} if "size" in parameters else {"shape": (size,) * len(parameters["shape"].default)}
