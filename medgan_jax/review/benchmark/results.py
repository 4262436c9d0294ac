"""Results of tracks as plain values: an entrant's values at equal updates and equal time, ranks, cost and
health.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from medgan_jax.errors import UserError
from medgan_jax.evaluation.statistics import (
    SeedRanking,
    area_under_curve,
    rank_methods_over_seeds,
    rank_seed_values,
)
from medgan_jax.review.benchmark.schedule import FACTORS, Played, Request, Trained
from medgan_jax.review.result_rows import coverage, device, mean, over_seeds

SCHEMA = 1
FULL_SEEDS = 5
CONFIDENCE = 0.95
MEASURED, FAILED = "measured", "failed"


def content(name: str, played: Sequence[Played], request: Request, resamples: int) -> dict:
    """A benchmark as plain values; its tracks in the order given."""
    return {
        "schema": SCHEMA,
        "benchmark": name,
        "preset": request.preset,
        "seeds": list(request.seeds),
        "preliminary": len(request.seeds) < FULL_SEEDS,
        "trials": request.trials,
        "factors": list(FACTORS[: request.trials]),
        "resamples": resamples,
        "confidence": CONFIDENCE,
        "tracks": [track(each, resamples) for each in played],
    }


def track(played: Played, resamples: int) -> dict:
    """A track as plain values, its entrants by their rank at equal updates, those without a value last."""
    rows = [_row(each, played.identity) for each in played.trained]
    rows += [_classical(name, values) for name, values in played.classical.items()]
    headline = _headline(rows)
    facts = {
        "name": played.track.name,
        "application": played.track.application,
        "title": played.track.title,
        "task": played.track.task,
        "note": played.track.note,
        "headline": headline,
        "data": next((row["data"] for row in rows if row["data"]), None),
        "identity": _identity(played, rows),
        "limit_seconds": played.limit,
        "classical_failure": played.classical_failure,
        "rankings": {},
    }
    for column in ("updates", "time") if headline else ():
        facts["rankings"][column] = _ranked(rows, column, headline, resamples)
    order = {row["name"]: _place(row) for row in rows}
    rows.sort(key=lambda row: order[row["name"]])
    for row in rows:
        for column in ("updates", "time"):
            row[column].pop("runs", None)
    return facts | {"rows": rows}


def _place(row: Mapping) -> float:
    rank = row["updates"].get("rank")
    return math.inf if rank is None else rank["rank"]


# --- rows ---


def _row(each: Trained, identity: Mapping) -> dict:
    """A trained entrant. An entrant whose cases are other ones than the rest saw has no value but a reason.
    """
    tests = {seed: values["test"] for seed, values in each.updates.items()}
    failures = {str(seed): reason for seed, reason in each.failures.items()}
    for seed, values in each.updates.items():
        if identity and values["identity"]["cases"] != identity["cases"]:
            del tests[seed]
            failures[str(seed)] = (
                "refused: its test cases are not those of the others; delete its folder to run it again"
            )
    first = next(iter(each.updates.values()), None)
    in_time = {seed: values["test"] for seed, values in each.time.items() if seed in tests}
    columns = {"updates": _column(tests, each.updates), "time": _column(in_time, each.time)}
    columns["time"]["failures"] = {str(seed): reason for seed, reason in each.time_failures.items()}
    return columns | {
        "name": each.entrant.name,
        "kind": each.entrant.kind,
        "id": each.entrant.id if each.entrant.build is None else None,
        "state": MEASURED if tests else FAILED,
        "failures": failures,
        "data": next((test["data"] for test in tests.values()), None),
        "parameters": first and first["parameters"],
        "seconds": each.seconds,
        "wall_seconds": mean([values["wall_seconds"] for values in each.updates.values()]),
        "device": device(first["device"]) if first else None,
        "trials": {f"{factor:g}": value for factor, value in each.trials.items()},
        "factor": each.factor,
        "largest_difference": first and first["identity"]["largest_difference"],
        "health": _health(each, columns["updates"]["metrics"]),
    }


def _column(tests: Mapping[int, Mapping], values: Mapping[int, Mapping]) -> dict:
    """Metrics over seeds, and how far training went; `runs` are taken out again when ranks are known."""
    first = next(iter(values.values()), None)
    return {
        "metrics": over_seeds([test["metrics"] for test in tests.values()]) if tests else {},
        "seeds": list(tests),
        "steps": first and (first["stop"] or sum(first["steps"])),
        "updates": first and first["updates"],
        "runs": list(tests.values()),
    }


def _health(each: Trained, metrics: Mapping) -> dict:
    names = next(iter(each.health.values()), {})
    found = {name: mean([signs[name] for signs in each.health.values()]) for name in names}
    return found | coverage(metrics) | {"failed_seeds": len(each.failures)}


def _classical(name: str, values: Mapping) -> dict:
    """A method without training: one value, whatever the updates and the time."""
    known = "metrics" in values
    metrics = over_seeds([values["metrics"]]) if known else {}
    column = {
        "metrics": metrics,
        "seeds": [],
        "steps": None,
        "updates": None,
        "runs": [values] if known else [],
    }
    return {
        "name": name,
        "kind": "classical",
        "id": None,
        "state": MEASURED if known else FAILED,
        "failures": {} if known else {"": values["reason"]},
        "data": values["data"] if known else None,
        "updates": dict(column),
        "time": dict(column) | {"failures": {}},
        "parameters": None,
        "seconds": None,
        "wall_seconds": None,
        "device": None,
        "trials": {},
        "factor": None,
        "largest_difference": None,
        "health": {},
    }


def _headline(rows: Sequence[Mapping]) -> dict | None:
    for row in rows:
        for name, values in row["updates"]["metrics"].items():
            return {"metric": name, "unit": values["unit"], "higher_is_better": values["higher_is_better"]}
    return None


def _identity(played: Played, rows: Sequence[Mapping]) -> dict:
    """What was proved: how many cases were compared, their hashes, and how far the farthest entrant is off.
    """
    proofs = [values["identity"] for each in played.trained for values in each.updates.values()]
    proof = played.identity or next(iter(proofs), None)
    if proof is None:
        return {}
    largest = [row["largest_difference"] for row in rows if row["largest_difference"] is not None]
    return {
        "parts": list(played.track.proved),
        "cases": proof["cases"],
        "tolerance": proof["tolerance"],
        "largest_difference": max(largest, default=0.0),
    }


# --- ranks ---


def _ranked(rows: Sequence[dict], column: str, headline: Mapping, resamples: int) -> dict:
    """Puts a rank into each row that has values; what the ranking was made of, or why there is none."""
    runs = {row["name"]: row[column]["runs"] for row in rows if row[column]["runs"]}
    for row in rows:
        row[column]["rank"] = None
    try:
        ranking = _ranking(runs, headline, resamples)
    except UserError as error:
        return {"reason": str(error)}
    for number, name in enumerate(ranking.names):
        row = next(row for row in rows if row["name"] == name)
        row[column]["rank"] = {
            "rank": float(ranking.ranks[number]),
            "lower": float(ranking.lower_ranks[number]),
            "upper": float(ranking.upper_ranks[number]),
            "probability_best": float(ranking.probability_best[number]),
            "value": float(ranking.means[number]),
            "value_lower": float(ranking.lower[number]),
            "value_upper": float(ranking.upper[number]),
        }
    return {"over": ranking.over, "patients": ranking.n_patients, "methods": len(ranking.names)}


def _ranking(runs: Mapping[str, Sequence[Mapping]], headline: Mapping, resamples: int) -> SeedRanking:
    settings = {"higher_is_better": headline["higher_is_better"], "resamples": resamples}
    settings |= {"confidence": CONFIDENCE, "seed": 0}
    every = [run for each in runs.values() for run in each]
    by_case = bool(every) and all(run["cases"] is not None for run in every)
    if by_case and set(every[0]["cases"]) == {"value"}:
        values = {name: [_finite(run["cases"]["value"]) for run in each] for name, each in runs.items()}
        return rank_methods_over_seeds(values, patients=every[0]["patients"], **settings)
    statistic = _of_sets(headline["metric"]) if by_case else None
    if statistic is not None:
        sets = {name: [run["cases"] for run in each] for name, each in runs.items()}
        return rank_methods_over_seeds(sets, patients=every[0]["patients"], statistic=statistic, **settings)
    means = {
        name: [run["metrics"][headline["metric"]]["mean"] for run in each] for name, each in runs.items()
    }
    known = {name: [value for value in each if value is not None] for name, each in means.items()}
    return rank_seed_values({name: each for name, each in known.items() if each}, **settings)


def _finite(values: Sequence[float | None]) -> np.ndarray:
    """What is not finite, such as the PSNR of equal images, is left out for all."""
    found = np.array([math.nan if value is None else value for value in values], float)
    return np.where(np.isfinite(found), found, math.nan)


def _of_sets(metric: str) -> Callable[[Mapping[str, Any]], float] | None:
    """The measure of a set of cases that is computed again in each resample, where it is cheap."""
    if metric != "auc":
        return None
    return lambda values: area_under_curve(values["score"], values["label"])
