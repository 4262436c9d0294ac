"""Which phantoms are built as data sets: every drawing function of `medgan_jax.phantoms`, as it lands there.

A drawing function is a public one that takes a key, needs nothing else, and returns arrays by name. What is
known of a module beside that stands in `KNOWN`; a module that is not there is built, too, with the sizes that
are usual.
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

    A variant is left out for functions that lack one of its keywords.
    """

    anatomy: str
    modality: str
    variants: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=lambda: {"": {}})


KNOWN = {
    "head": Known(
        "head, axial", "MR: T1, T2, proton density",
        {contrast: {"contrast": contrast} for contrast in ("t1", "t2", "pd")}
        | {"pd_lesions": {"contrast": "pd", "lesions": True}},
    ),
    "head_study": Known(
        "head, axial", "MR of all weightings, CT, PET, MR angiography",
        {"": {}, "t1_ct": {"modalities": ("t1", "ct")}, "mr_pet": {"modalities": ("t1", "pet")}}
        | {"t1_mra": {"modalities": ("t1", "mra")}}
        | {"tumour": {"modalities": ("flair", "t1", "t1c", "t2"), "disease": "tumour"}}
        | {"sclerosis": {"modalities": ("t1", "flair"), "disease": "multiple_sclerosis"}},
    ),
    "head_volume": Known("head, volume", "MR, CT, PET"),
    "hippocampus": Known("hippocampus, volume", "MR"),
    "oct": Known("macula", "optical coherence tomography", {"": {}, "fluid": {"fluid": True}}),
    "chest_xray": Known("chest, frontal", "radiograph"),
    "chest_ct": Known("chest, lung nodules", "CT"),
    "abdomen": Known("abdomen, liver and spleen", "CT"),
    "liver_lesions": Known("liver lesions", "CT"),
    "pelvis": Known("pelvis, prostate", "MR, CT"),
    "trus": Known("prostate", "transrectal ultrasound"),
    "obstetric": Known("fetus", "ultrasound"),
    "cardiac": Known("heart, short axis", "MR: cine"),
    "cardiac_echo": Known("heart", "echocardiography"),
    "fundus": Known("retina", "colour fundus photograph"),
    "vessels": Known("coronary arteries", "angiography", {"": {}, "stenosis": {"stenosis": True}}),
    "neurons": Known("neurons", "microscopy"),
    "skin": Known("skin lesions", "dermoscopy, photograph"),
    "ivus": Known("coronary arteries", "intravascular ultrasound"),
    "endomicroscopy": Known("mucosa", "endomicroscopy"),
    "cells": Known("cells", "fluorescence, bright field, phase contrast, DIC"),
    "tissue": Known("tissue", "stained histology"),
    "spine": Known("spine", "CT"),
    "deformed": Known("brain, deformed pairs", "MR"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PhantomSet:
    """One configuration: `module`'s `function` with `keywords`, and how many subjects each part has."""

    name: str
    module: str
    function: str
    keywords: tuple[tuple[str, Any], ...]
    counts: tuple[int, int, int]

    @property
    def generate(self) -> Callable[..., Mapping[str, Any]]:
        """key -> record."""
        draw = getattr(importlib.import_module(f"medgan_jax.phantoms.{self.module}"), self.function)
        return functools.partial(draw, **dict(self.keywords))

    @property
    def known(self) -> Known:
        """Anatomy and modality."""
        return KNOWN.get(self.module) or Known(self.module.replace("_", " "), "")


@functools.cache
def phantom_sets() -> dict[str, PhantomSet]:
    """Every configuration by name, such as 'head_slice_t1_256'; imports the phantoms."""
    from medgan_jax import phantoms

    found = {}
    for module in sorted(module.name for module in pkgutil.iter_modules(phantoms.__path__)):
        if not module.startswith("_"):
            imported = importlib.import_module(f"{phantoms.__name__}.{module}")
            for name, draw in sorted(vars(imported).items()):
                if _is_drawing(draw, imported.__name__):
                    found |= {one.name: one for one in _configurations(module, name, draw)}
    return found


def _is_drawing(draw: Any, module: str) -> bool:
    if not inspect.isfunction(draw) or draw.__module__ != module or draw.__name__.startswith("_"):
        return False
    first, *others = inspect.signature(draw).parameters.values() or [None]
    given = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return (
        first is not None
        and first.name == "key"
        and all(one.default is not one.empty or one.kind in given for one in others)
        and typing.get_origin(draw.__annotations__.get("return")) is dict
    )


def _configurations(module: str, function: str, draw: Callable) -> list[PhantomSet]:
    parameters = inspect.signature(draw).parameters
    known = KNOWN.get(module) or Known(module, "")
    word = function.rsplit("_", 1)[-1]
    sizes, counts = _SIZES.get(word, _USUAL_SIZES), _COUNTS.get(word, _USUAL_COUNTS)
    made = []
    for variant, keywords in known.variants.items():
        if not keywords.keys() <= parameters.keys():
            continue
        for size in sizes if parameters.keys() & {"size", "shape"} else (None,):
            name = "_".join(part for part in (function, variant, str(size or "")) if part)
            options = {**keywords, **_size_option(parameters, size)}
            made.append(PhantomSet(name, module, function, tuple(sorted(options.items())), counts))
    return made


def _size_option(parameters: Mapping[str, Any], size: int | None) -> dict[str, Any]:
    """Functions that take a shape draw squares or cubes, as their default is one."""
    if size is None:
        return {}
    return {"size": size} if "size" in parameters else {"shape": (size,) * len(parameters["shape"].default)}
