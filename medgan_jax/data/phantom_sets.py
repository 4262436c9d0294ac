"""Which phantoms are built as data sets: every drawing function of `medgan_jax.phantoms`, found by its name.

A module `anatomy.py` there draws with functions called `anatomy`, `anatomy_slice`, `anatomy_image`,
`anatomy_patch` or `anatomy_volume` of a key. What is known of a module beside that stands in `KNOWN`; a
module that is not there is built, too, with the sizes that are usual.
"""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

_KINDS = ("", "slice", "image", "patch", "volume")
_SIZES = {"patch": (64,), "volume": (32, 64)}
_USUAL_SIZES = (256, 128, 64)
# Subjects for training, validation and test.
_COUNTS = {"volume": (40, 10, 20)}
_USUAL_COUNTS = (200, 50, 100)


@dataclasses.dataclass(frozen=True)
class Known:
    """Words about a module. variants: keywords of its functions by the name of a configuration.

    A variant is left out for functions that lack one of its keywords. sizes: other than the usual, by the end
    of the function's name.
    """

    anatomy: str
    modality: str
    variants: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=lambda: {"": {}})
    sizes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)


KNOWN = {
    "head": Known(
        "head, axial", "MR: T1, T2, proton density",
        {contrast: {"contrast": contrast} for contrast in ("t1", "t2", "pd")}
        | {"pd_lesions": {"contrast": "pd", "lesions": True}},
    ),
    "oct": Known("macula", "optical coherence tomography", {"": {}, "fluid": {"fluid": True}}),
    "chest_xray": Known("chest, frontal", "radiograph"),
    "chest_ct": Known("chest, lung nodules", "CT"),
    "abdomen": Known("abdomen, liver and spleen", "CT"),
    "pelvis": Known("pelvis, prostate", "MR, transrectal ultrasound, CT"),
    "cardiac": Known("heart", "MR, CT, echocardiography"),
    "fundus": Known("retina", "colour fundus photograph"),
    "vessels": Known("vessels", "centrelines"),
    "neurons": Known("neurons", "microscopy"),
    "skin": Known("skin lesions", "dermoscopy"),
    "ivus": Known("coronary arteries", "intravascular ultrasound"),
    "endomicroscopy": Known("mucosa", "endomicroscopy"),
    "cells": Known("cells", "fluorescence, phase contrast, DIC"),
    "tissue": Known("tissue", "stained histology"),
    "spine": Known("spine", "CT"),
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
        if module.startswith("_"):
            continue
        imported = importlib.import_module(f"{phantoms.__name__}.{module}")
        for kind in _KINDS:
            function = f"{module}_{kind}".removesuffix("_")
            draw = getattr(imported, function, None)
            if inspect.isfunction(draw) and next(iter(inspect.signature(draw).parameters), "") == "key":
                found |= {one.name: one for one in _configurations(module, function, draw)}
    return found


def _configurations(module: str, function: str, draw: Callable) -> list[PhantomSet]:
    parameters = inspect.signature(draw).parameters
    known = KNOWN.get(module) or Known(module, "")
    kind = function.rsplit("_", 1)[-1]
    sizes = known.sizes.get(kind) or _SIZES.get(kind, _USUAL_SIZES)
    made = []
    for variant, keywords in known.variants.items():
        if not keywords.keys() <= parameters.keys():
            continue
        for size in sizes if parameters.keys() & {"size", "shape"} else (None,):
            name = "_".join(part for part in (function, variant, str(size or "")) if part)
            options = {**keywords, **_size_option(parameters, size)}
            counts = _COUNTS.get(kind, _USUAL_COUNTS)
            made.append(PhantomSet(name, module, function, tuple(sorted(options.items())), counts))
    return made


def _size_option(parameters: Mapping[str, Any], size: int | None) -> dict[str, Any]:
    """Volumes that take a shape are cubes."""
    if size is None:
        return {}
    return {"size": size} if "size" in parameters else {"shape": (size,) * 3}
