"""What is run of a track, in which order: classical methods, tuning, equal updates, equal time; and what
came out.

Tuning: every trained entrant gets the same number of trials, its learning rates times the first of
`FACTORS`, with the first seed; the best validation value of the headline chooses, and the test cases are
not looked at.

Equal time: the entrant whose training steps take the least seconds sets the limit; every other one is
trained again, with the same schedule, and stopped at the step that it had reached by then. Seconds are
those of steps, by the run's own log: compilation and evaluation do not count.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from medgan_jax.errors import UserError
from medgan_jax.review.benchmark import cost
from medgan_jax.review.benchmark.parts import Part, play_all
from medgan_jax.review.benchmark.process import too_early
from medgan_jax.review.benchmark.track import Entrant, Track
from medgan_jax.review.runs import health

FACTORS = (1.0, 0.3, 3.0, 0.1, 10.0)


@dataclasses.dataclass(frozen=True)
class Trained:
    """What came of an entrant: values by seed at equal updates and at equal time, reasons of seeds that
    failed.

    trials: validation value by factor of the learning rates. factor: the chosen one. health: by seed.
    """

    entrant: Entrant
    trials: dict[float, float | None]
    factor: float
    updates: dict[int, dict]
    time: dict[int, dict]
    failures: dict[int, str]
    time_failures: dict[int, str]
    health: dict[int, dict]

    @property
    def seconds(self) -> float | None:
        """Seconds of all training steps, the median over seeds."""
        found = [
            cost.training_seconds(each["steps"], each["seconds_of_steps"]) for each in self.updates.values()
        ]
        return float(np.median(found)) if found else None


@dataclasses.dataclass(frozen=True)
class Played:
    """What came of a track: entrants, classical methods by name, and the reason where these failed as a
    whole.
    """

    track: Track
    trained: tuple[Trained, ...]
    classical: dict[str, dict]
    classical_failure: str | None
    identity: dict
    limit: float | None


@dataclasses.dataclass(frozen=True)
class Request:
    """How a track is run. seeds: of the runs; trials: for each trained entrant; jobs: see `parts.play_all`.
    """

    preset: str
    seeds: tuple[int, ...]
    root: pathlib.Path
    trials: int = 1
    source: str = "phantom"
    jobs: int = 0


def play(track: Track, request: Request, say: Callable[[str], None] = print) -> Played:
    """Runs what is not done yet."""
    common = {"track": track, "preset": request.preset, "root": request.root, "source": request.source}
    run = lambda parts: play_all(parts, jobs=request.jobs, say=say)  # noqa: E731
    alone, broken = Part(**common, seed=0), _broken(track, common)
    host_reason = broken.get(track.host.name)
    untrained = None if host_reason else run([alone])[alone]
    entrants = [entrant for entrant in track.entrants if entrant.name not in broken]
    factors = _tuned(entrants, request, common, run)
    whole = {
        (entrant.name, seed): Part(**common, entrant=entrant, seed=seed, factor=factors[entrant.name][1])
        for entrant in entrants
        for seed in request.seeds
    }
    values = run(list(whole.values()))
    found = [_trained(entrant, factors[entrant.name], whole, values, request.seeds) for entrant in entrants]
    limit = min((each.seconds for each in found if each.seconds), default=None)
    found = [each if limit is None else _in_time(each, limit, whole, run) for each in found]
    lost = [entrant for entrant in track.entrants if entrant.name in broken]
    reasons = [dict.fromkeys(request.seeds, broken[entrant.name]) for entrant in lost]
    found += [Trained(each, {}, 1.0, {}, {}, why, {}, {}) for each, why in zip(lost, reasons, strict=True)]
    return Played(
        track=track,
        trained=tuple(found),
        classical=untrained["methods"] if untrained else {},
        classical_failure=None if untrained else host_reason or alone.failure() or "they did not finish",
        identity=untrained["identity"] if untrained else {},
        limit=limit,
    )


def _broken(track: Track, common: dict) -> dict[str, str]:
    """Entrants whose experiment cannot be loaded or configured, with the reason."""
    reasons = {}
    for entrant in track.entrants:
        try:
            _ = Part(**common, entrant=entrant).place
        except UserError as error:
            reasons[entrant.name] = str(error)
        except Exception as error:
            reasons[entrant.name] = f"{type(error).__name__}: {error}"
    return reasons


def _tuned(
    entrants: Sequence[Entrant], request: Request, common: dict, run
) -> dict[str, tuple[dict, float]]:
    """Of each entrant, the validation value of every factor that was tried, and the best one."""
    factors = FACTORS[: request.trials]
    if len(factors) == 1:
        return {entrant.name: ({}, 1.0) for entrant in entrants}
    trials = {
        (entrant.name, factor): Part(
            **common, entrant=entrant, seed=request.seeds[0], factor=factor, tested=False
        )
        for entrant in entrants
        for factor in factors
    }
    values = run(list(trials.values()))
    chosen = {}
    for entrant in entrants:
        of_factor = {factor: values[trials[entrant.name, factor]] for factor in factors}
        scores = {factor: each and each["validation"]["value"] for factor, each in of_factor.items()}
        known = {factor: score for factor, score in scores.items() if score is not None}
        best = (
            max
            if any(each and each["validation"]["higher_is_better"] for each in of_factor.values())
            else min
        )
        chosen[entrant.name] = (scores, best(known, key=known.get) if known else 1.0)
    return chosen


def _trained(entrant: Entrant, tuned, whole: dict, values: dict, seeds: tuple[int, ...]) -> Trained:
    parts = {seed: whole[entrant.name, seed] for seed in seeds}
    done = {seed: values[part] for seed, part in parts.items() if values[part] is not None}
    failures = {seed: parts[seed].failure() or "it did not finish" for seed in seeds if seed not in done}
    signs = {seed: health(parts[seed].place / "metrics.jsonl") for seed in done}
    return Trained(entrant, *tuned, done, {}, failures, {}, signs)


def _in_time(each: Trained, limit: float, whole: dict, run) -> Trained:
    """With what the entrant is worth when `limit` seconds of training are up."""
    if not each.updates:
        return each
    first = next(iter(each.updates.values()))
    seconds = [[value["seconds_of_steps"][stage] for value in each.updates.values()] for stage in
               range(len(first["steps"]))]  # fmt: skip
    medians = [float(np.median(known)) if (known := [v for v in values if v]) else None for values in seconds]
    stop = cost.steps_within(limit, first["steps"], medians)
    if stop >= sum(first["steps"]) or each.seconds <= limit:
        return dataclasses.replace(each, time=each.updates)
    if why := too_early(first["steps"], stop):
        return dataclasses.replace(each, time={}, time_failures=dict.fromkeys(each.updates, why))
    parts = {seed: dataclasses.replace(whole[each.entrant.name, seed], stop=stop) for seed in each.updates}
    values = run(list(parts.values()))
    done = {seed: values[part] for seed, part in parts.items() if values[part] is not None}
    failures = {
        seed: part.failure() or "it did not finish" for seed, part in parts.items() if seed not in done
    }
    return dataclasses.replace(each, time=done, time_failures=failures)
