"""What is to be learnt on a phantom, stated so that predictors without structure can be tried on it.

A phantom module lists its tasks in `TASKS`. A task on which a threshold, a look-up table or a mean shape does
well teaches nothing about a method: `python -m medgan_jax.shortcuts` measures that they do not.

Registration, reconstruction and super-resolution have no task here. What needs no structure there is to leave
the image where it is, zero filling and interpolation: the baselines of their experiments, beside which the
bounds on what those learn are set. Nor has what is easy by intent: the test object `catphan` and `squares`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import jax


@dataclasses.dataclass(frozen=True)
class Task:
    """One task on a phantom.

    draw: key -> {"input": `(H, W, C)` or `(D, H, W, C)` float in about [0, 1], "target": see kind}; pure, for
    `jit` and `vmap`. kind: "segmentation", target `(..., K)` of zeros and ones, scored by the mean Dice of
    the K structures; "translation", target `(..., C)` float, scored by the mean absolute error where
    "weight" `(..., 1)`, if drawn, is one; "classification", target `()` zero or one, scored by the AUC.
    """

    name: str
    kind: Literal["segmentation", "translation", "classification"]
    draw: Callable[[jax.Array], Mapping[str, jax.Array]]
