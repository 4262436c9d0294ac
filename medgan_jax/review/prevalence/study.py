"""Translators trained at several prevalences of lesions, and what a fixed detector sees in their outputs.

The unpaired one is CycleGAN; pix2pix and its twin, which has the L1 distance alone, are the paired controls.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from medgan_jax import cli
from medgan_jax.errors import UserError
from medgan_jax.evaluation import lesion_search
from medgan_jax.evaluation.statistics import bootstrap_interval
from medgan_jax.review import catalogue
from medgan_jax.review.prevalence import heads
from medgan_jax.review.runs import Run, play_all

TARGET = heads.MODALITIES[1]
UNPAIRED, PAIRED, L1 = "CycleGAN, unpaired", "pix2pix, paired", "L1, paired"
FALSE_SHARE = 0.05  # of lesion-free real images that the search may call ill
RESAMPLES, CONFIDENCE, BATCH = 2000, 0.95, 16
# Least sensitivity and most false calls on real test images for a detector to be believed.
SENSITIVE, CALLS_FALSELY = 0.8, 0.2


@dataclasses.dataclass(frozen=True)
class Scale:
    """How large a study is. counts: people of each part; options: of `train`, by experiment."""

    size: int
    counts: tuple[int, int, int]
    options: Mapping[str, tuple[str, ...]]


SCALES = {
    "tiny": Scale(16, (8, 8, 8), {"cyclegan": ("--config.size", "16"), "pix2pix": ("--config.size", "16")}),
    "small": Scale(
        64,
        (240, 48, 64),
        {
            "cyclegan": ("--config.size", "64", "--config.base", "12", "--config.blocks", "3",
                         "--config.steps", "1500", "--config.evaluate_every", "750"),
            "pix2pix": ("--config.size", "64", "--config.steps", "600", "--config.evaluate_every", "150"),
        },
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained translator and its outputs for inputs of the same people with and without lesions."""

    name: str
    prevalence: float
    seed: int
    present: np.ndarray
    absent: np.ndarray


def runs_of(
    scale: Scale, preset: str, levels: Sequence[float], seeds: Sequence[int], root: pathlib.Path
) -> dict:
    """`{run: (experiment, prevalence)}` of all that is trained."""
    makers = {"cyclegan": heads.unpaired_set, "pix2pix": heads.paired_set}
    found = {}
    for level in levels:
        for name, make in makers.items():
            folder = make(root / "sets", scale.size, scale.counts, level)
            module = catalogue.find(name).module
            for seed in seeds:
                label = f"{name}_{round(100 * level)}"
                run = Run(label, module, preset, seed, root, str(folder), scale.options[name])
                found[run] = (name, level)
    return found


def translated(run: Run, place: pathlib.Path, config, images: np.ndarray) -> np.ndarray:
    """What the run in `place` makes of source images (N, H, W), in the units of files."""
    from medgan_jax.review import audit

    trained = audit.load(cli.load(run.module).factory, config, place, run.seed)
    back = trained.experiment.prediction.output_intensity.inverse
    outputs = []
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH, ..., None].astype(np.float32)
        made, _ = trained({"A": part, "B": part})
        outputs.append(np.asarray(back(made["translation"]))[..., 0])
    return np.concatenate(outputs)


def models(played: Mapping, people: heads.Cohort) -> list[Model]:
    """Outputs of every run, and of the twins of the paired ones, for the test people."""
    source, found = heads.MODALITIES[0], []
    for run, (name, level) in played.items():
        config = run.configuration
        entrants = [(UNPAIRED if name == "cyclegan" else PAIRED, run.place, config)]
        if name == "pix2pix":
            entrants.append((L1, run.place / "twin", config.twin()))
        for title, place, own in entrants:
            both = (translated(run, place, own, images[source]) for images in (people.present, people.absent))
            found.append(Model(title, level, run.seed, *both))
    return found


def detector_facts(detector: lesion_search.Detector, people: heads.Cohort) -> dict:
    """The detector on real target images of people that it was not fixed on."""
    present, absent = (images[TARGET].astype(np.float64) for images in (people.present, people.absent))
    lesions, brains = people.lesions, people.brains
    known = [
        lesion_search.at_places(images, lesions, brains) > detector.known for images in (present, absent)
    ]
    search = [
        lesion_search.largest(images, brains, detector.radius) > detector.anywhere
        for images in (present, absent)
    ]
    names = ("sensitivity", "false calls")
    facts = {"known place": dict(zip(names, map(plain_rate, known), strict=True)),
             "search": dict(zip(names, map(plain_rate, search), strict=True))}  # fmt: skip
    believed = all(
        each["sensitivity"]["value"] >= SENSITIVE and each["false calls"]["value"] <= CALLS_FALSELY
        for each in facts.values()
    )
    return facts | {"believed": believed, "thresholds": dataclasses.asdict(detector), "people": len(lesions)}


def plain_rate(happened: np.ndarray) -> dict:
    """A share with its Wilson interval, as plain values."""
    return dataclasses.asdict(lesion_search.rate(happened))


def seen(model: Model, detector: lesion_search.Detector, people: heads.Cohort) -> dict[str, np.ndarray]:
    """Truth values of test people: lost, invented, found anywhere with and without one in the input."""
    lesions, brains = people.lesions, people.brains
    kept = lesion_search.at_places(model.present, lesions, brains) > detector.known
    anywhere = [
        lesion_search.largest(images, brains, detector.radius) > detector.anywhere
        for images in (model.present, model.absent)
    ]
    return {"loss": ~kept, "hallucination": anywhere[1], "prevalence": np.stack(anywhere)}


def rows(found: Sequence[Model], detector: lesion_search.Detector, people: heads.Cohort) -> list[dict]:
    """A row for each translator and prevalence: rates over people, the mean over seeds, with intervals."""
    table, groups = [], {}
    for model in found:
        groups.setdefault((model.name, model.prevalence), []).append(model)
    for (name, level), members in groups.items():
        answers = [seen(model, detector, people) for model in members]
        row = {
            "translator": name,
            "prevalence of the target set": level,
            "seeds": [each.seed for each in members],
        }
        for measure in ("prevalence", "hallucination", "loss"):
            values = np.stack([answer[measure].astype(float) for answer in answers])
            # Half of the inputs have a lesion; the two images of a person are one patient.
            row[measure] = with_interval(values.reshape(len(members), -1, len(people.lesions)))
        table.append(row)
    return table


def with_interval(values: np.ndarray) -> dict:
    """The mean of truth values (seeds, images, people) with its interval over people, and each seed's share.

    Bootstrap over people; where all agree it has no width, and the Wilson interval of as many people is
    given.
    """
    people = values.mean((0, 1))
    if np.ptp(people) == 0 and people[0] in (0.0, 1.0):
        found = lesion_search.rate(people > 0.5)
        lower, upper, kind = found.lower, found.upper, "Wilson"
    else:
        options = {"statistic": np.mean, "resamples": RESAMPLES, "confidence": CONFIDENCE, "seed": 0}
        interval = bootstrap_interval(people, patients=np.arange(len(people)), **options)
        lower, upper, kind = interval.lower, interval.upper, "bootstrap over people"
    return {"value": float(people.mean()), "lower": lower, "upper": upper, "interval": kind,
            "by seed": [float(each.mean()) for each in values]}  # fmt: skip


def slopes(table: Sequence[Mapping]) -> dict[str, float | None]:
    """Percentage points of prevalence in outputs for each of the target set, least squares, by translator."""
    found = {}
    for name in dict.fromkeys(row["translator"] for row in table):
        points = [(row["prevalence of the target set"], row["prevalence"]["value"])
                  for row in table if row["translator"] == name]  # fmt: skip
        levels, shares = np.transpose(points)
        found[name] = float(np.polyfit(levels, shares, 1)[0]) if np.ptp(levels) > 0 else None
    return found


def study(
    scale: Scale, preset: str, levels: Sequence[float], seeds: Sequence[int], root: pathlib.Path, jobs: int
) -> dict:
    """Trains what is not trained yet and measures it; a run that fails is named and left out."""
    validation, test = (
        measurable(heads.cohort(scale.size, count, part))
        for part, count in zip(("validation", "test"), scale.counts[1:], strict=True)
    )
    ill, healthy = (images[TARGET].astype(np.float64) for images in (validation.present, validation.absent))
    places = validation.lesions, validation.brains
    detector = lesion_search.fit_detector(ill, healthy, *places, false_share=FALSE_SHARE)
    planned = runs_of(scale, preset, levels, seeds, root)
    done = play_all(list(planned), jobs=jobs)
    failures = {
        f"{run.id}, seed {run.seed}": run.failure() or "it did not finish"
        for run in done
        if done[run] is None
    }
    played = {run: planned[run] for run in done if done[run] is not None}
    if not played:
        raise UserError(
            "no run finished: " + "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        )
    table = rows(models(played, test), detector, test)
    return {
        "study": "prevalence",
        "data": f"phantom heads, {heads.MODALITIES[0]} to {TARGET}, {scale.size} x {scale.size}, people for "
        f"training, validation and test: {', '.join(map(str, scale.counts))}",
        "source": "phantom",
        "preset": preset,
        "seeds": list(seeds),
        "detector": detector_facts(detector, test),
        "rows": table,
        "slopes": slopes(table),
        "failures": failures,
        "runs": {f"{run.id}, seed {run.seed}": {"command": run.command, "code": run.key,
                                                "seconds": done[run]["seconds"]} for run in played},
        "hardware": next(done[run] for run in played)["hardware"],
    }  # fmt: skip


def measurable(people: heads.Cohort) -> heads.Cohort:
    """Those of a cohort whose lesion has pixels and surroundings: no other can be seen to be kept or lost."""
    height = lesion_search.at_places(people.present[TARGET].astype(np.float64), people.lesions, people.brains)
    chosen = np.isfinite(height)
    if chosen.sum() < 2:
        raise UserError("fewer than two phantoms have a lesion that is seen: take larger images")
    present, absent = (
        {name: each[chosen] for name, each in images.items()} for images in (people.present, people.absent)
    )
    return heads.Cohort(present, absent, people.lesions[chosen], people.brains[chosen])
