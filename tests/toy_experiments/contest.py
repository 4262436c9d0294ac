"""Tracks of the toy: one whose entrants have one task, with one that has another; one that cannot be
opened.
"""

import dataclasses

from medgan_jax.measures import image_fidelity
from medgan_jax.review.benchmark import classical, plain
from medgan_jax.review.benchmark.track import Entrant, Track, named

TOY = "toy_experiments.denoiser"
seen = named(input="noisy", target="clean", answer={"output": "denoised"})

CONTEST = Track(
    module=__name__,
    name="contest",
    application="denoising",
    title="Toys without noise",
    task="From a noisy toy, the toy.",
    entrants=(
        Entrant("convolution", "method", TOY, seen, rates=("weight",)),
        Entrant("plain U-Net", "plain", build=plain.images),
        Entrant("larger toys", "method", TOY, seen, lambda preset, config: {"size": 16}),
        Entrant("no toys", "method", "toy_experiments.nothing", seen),
    ),
    metrics=lambda config: image_fidelity("output", "target", low=-1, high=1)[:3:2],
    classical=lambda config: (classical.wavelets(0.3),),
    note="A | note.",
)
OTHER = dataclasses.replace(CONTEST, name="other", application="segmentation", entrants=CONTEST.entrants[:1])

TRACKS = (CONTEST, OTHER)
