"""Runs on real sets and each plan's record: values by subject, what stands beside them, who was where."""

import csv
import dataclasses
import functools
import json
import pathlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from medgan_jax import cli
from medgan_jax.configuration import as_dict
from medgan_jax.errors import UserError
from medgan_jax.evaluation.statistics import bootstrap_interval
from medgan_jax.review import code, learning, result_rows, runs
from medgan_jax.review.real import facts, sets
from medgan_jax.review.real.plans import Plan
from medgan_jax.review.records import ROOT
from medgan_jax.training.run import sources
from medgan_jax.training.workdir import write_json

RECORDS = ROOT / "experiments" / "records" / "real"
RESAMPLES, CONFIDENCE = 2000, 0.95
METHOD = "method"


@dataclasses.dataclass(frozen=True)
class RealRun(runs.Run):
    """A run of a plan; its fingerprint knows neither the place of the set nor that of the runs."""

    plan: Plan | None = dataclasses.field(default=None, compare=False)

    @property
    def key(self) -> str:
        """As a record of the present code carries it."""
        return fingerprint(self.plan, self.preset)


@functools.cache
def fingerprint(plan: Plan, preset: str) -> str:
    """Changes with the experiment's code, what extends it and makes its set, and the configuration."""
    plain = json.loads(json.dumps(as_dict(_configuration(plan, preset))))
    own = [code.code(plan.module)] if plan.extended else []
    own += [sets.DERIVED[plan.derived].code] if plan.derived else []
    parts = (learning.fingerprint(plan.base, plain), *own, plan.set, str(plan.pretrained))
    return code.digest(parts)[: runs.KEY_LENGTH]


def _configuration(plan: Plan, preset: str):
    """Of a plan at a preset, with the set's name in the place of its folder."""
    run = runs.Run(plan.id, plan.module, preset, 0, pathlib.Path(), plan.set, plan.options(preset))
    return run.configuration


def opened(plan: Plan, folder: pathlib.Path, preset: str, root: pathlib.Path) -> pathlib.Path:
    """The folder that a plan's runs read: the real set, or what is made of it; UserError without one."""
    source = folder / plan.set
    if not source.is_dir():
        raise UserError(f"--sets {folder} holds no folder {plan.set}, which {plan.id} runs on")
    if plan.derived is None:
        return source
    return sets.prepared(plan.derived, source, _configuration(plan, preset), root / "sets")


def run_of(plan: Plan, preset: str, seed: int, root: pathlib.Path, source: pathlib.Path) -> RealRun:
    """The run of one seed."""
    options = plan.options(preset)
    if plan.pretrained:
        options = (*options, "--init_from", str(pretraining(plan, preset, seed, root).place))
    return RealRun(plan.id, plan.module, preset, seed, root, str(source), options, plan)


def pretraining(plan: Plan, preset: str, seed: int, root: pathlib.Path) -> runs.Run:
    """The run on phantoms that a plan starts from."""
    return runs.Run(f"{plan.id}_on_phantoms", plan.base, preset, seed, root, overrides=plan.options(preset))


def subjects(experiment) -> dict[str, list[str]]:
    """Who is in each part, over all stages: a pair is of both its subjects, `A/x` of subject `A`."""
    found = {"train": set(), "validation": set(), "test": set()}
    for stage in experiment.stages:
        for name, source in sources(stage.data).items():
            part = name if name in ("validation", "test") else "train"
            found[part] |= {each.split("/")[0] for subject in source.subjects for each in subject.split("|")}
    return {part: sorted(each) for part, each in found.items()}


def record(plan: Plan, done: Sequence[tuple[RealRun, Mapping]], preset: str, source: pathlib.Path) -> dict:
    """The record of a plan from its runs with their results, in the order of seeds."""
    results = [result for _, result in done]
    first = results[0]
    experiment = cli.load(plan.module).factory(done[0][0].configuration)
    manifest = subjects(experiment)
    cases = {METHOD: [read_cases(run.place / "cases.csv") for run, _ in done]}
    if first["twin"]:
        cases["twin"] = [read_cases(run.place / "twin" / "cases.csv") for run, _ in done]
    others = list(first.get("others") or {})
    over = result_rows.over_seeds
    return {
        "plan": plan.id,
        "experiment": plan.experiment,
        "application": plan.application,
        "set": plan.set,
        "derived": plan.derived,
        "set_facts": sets.facts(source) | facts.of(plan, experiment),
        "preset": preset,
        "seeds": [result["seed"] for result in results],
        "configuration": without_place(first["configuration"], plan),
        "command": f"python -m medgan_jax reproduce real --only {plan.id} --preset {preset} "
        f"--seeds {len(results)} --sets FOLDER",
        "code": fingerprint(plan, preset),
        "commit": first["commit"],
        "data": first["data"] | {"source": plan.derived or plan.set},
        "metrics": over([result["metrics"] for result in results]),
        "baseline": over([result["baseline"] or {} for result in results]),
        "baseline_name": first["baseline_name"],
        "others": {name: over([result["others"][name] for result in results]) for name in others},
        "twin": over([(result["twin"] or {}).get("metrics", {}) for result in results]),
        "intervals": intervals(plan, cases, first["baseline_name"], others),
        "by_subject": by_subject(cases, ("baseline", *others)),
        "by_group": by_group(plan, cases, experiment.stages[-1].data.test),
        "subjects": manifest,
        "thresholds_from": {each.name: "validation" for each in experiment.metrics if each.calibrate},
        "notes": dict(experiment.notes),
        "steps": first["step"],
        "seconds": {"training": [result["train_seconds"] for result in results],
                    "in all": [result["seconds"] for result in results]},
        "hardware": first["hardware"],
        "versions": first["versions"],
        "health": {
            name: result_rows.mean([result["health"][name] for result in results]) for name in first["health"]
        },
        "headline": plan.headline,
        "beside": dict(plan.beside),
        "twin_name": plan.twin_name,
        "not_claimed": plan.not_claimed,
    }  # fmt: skip


def without_place(configuration: Mapping, plan: Plan) -> dict:
    """A run's configuration with the set's name in the place of its folder."""
    config = configuration["config"]
    return {
        **configuration,
        "config": {**config, "data": {**config["data"], "source": plan.derived or plan.set}},
    }


def read_cases(path: pathlib.Path) -> dict[str, list]:
    """Columns of `cases.csv`; the values are numbers, NaN where there is none."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    texts = {name: columns.pop(name) for name in ("id", "subject")}
    return texts | {name: [_number(text) for text in column] for name, column in columns.items()}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return {"True": 1.0, "False": 0.0}.get(text, float("nan"))


def by_subject(cases: Mapping[str, Sequence[Mapping]], others: Sequence[str]) -> dict:
    """`{entrant: {metric: {subject: [mean over the subject's cases, by seed]}}}` of all that have values.

    others: classical methods, whose names stand before the metric in a heading.
    """
    table: dict = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for entrant, seeds in cases.items():
        for columns in seeds:
            for heading in columns.keys() - {"id", "subject"}:
                first, _, rest = heading.partition("/")
                who, metric = (first, rest) if rest and first in others else (entrant, heading)
                # A twin that was not evaluated alone repeats those of the classical methods.
                if who != entrant and entrant != METHOD:
                    continue
                for subject, value in means(columns["subject"], columns[heading]).items():
                    table[who][metric][subject].append(value)
    return {who: {metric: dict(rows) for metric, rows in metrics.items()} for who, metrics in table.items()}


def means(groups: Sequence[str], values: Sequence[float]) -> dict[str, float | None]:
    """Mean over each group, `A/x` counted as `A`; None where a value is not defined."""
    members = defaultdict(list)
    for group, value in zip(groups, values, strict=True):
        members[group.split("/")[0]].append(value)
    found = {group: float(np.mean(each)) for group, each in members.items()}
    return {group: round(value, 6) if np.isfinite(value) else None for group, value in found.items()}


def by_group(plan: Plan, cases: Mapping[str, Sequence[Mapping]], test) -> dict:
    """`{metric: {group: {entrant: mean, "cases": number}}}` by the plan's column of the set's table."""
    if not plan.group:
        return {}
    groups = [row.get(plan.group) or "unknown" for row in test.metadata]
    table: dict = defaultdict(lambda: defaultdict(dict))
    for entrant, seeds in cases.items():
        for heading in seeds[0].keys() - {"id", "subject"}:
            over = np.mean([columns[heading] for columns in seeds], axis=0)
            for group, value in means([each.replace("/", "|") for each in groups], over).items():
                if "/" not in heading:
                    table[heading][group] |= {entrant: value, "cases": groups.count(group.replace("|", "/"))}
    return {metric: dict(rows) for metric, rows in table.items()}


def intervals(plan: Plan, cases: Mapping, baseline: str | None, others: Sequence[str]) -> dict:
    """95 % bootstrap intervals over subjects of the headline and of its differences to what stands beside it.

    Values of a case are first averaged over seeds. Empty where the metric has no value for a single case.
    """
    own = cases[METHOD][0]
    if plan.headline not in own:
        return {}
    patients = [subject.split("|")[0].split("/")[0] for subject in own["subject"]]

    def mean(entrant: str, heading: str) -> np.ndarray:
        return np.mean([columns[heading] for columns in cases[entrant]], axis=0)

    values = mean(METHOD, plan.headline)
    compared = {name: f"{heading}/{plan.headline}" for name, heading in
                [(baseline, "baseline"), *((other, other) for other in others)] if name}  # fmt: skip
    differences = {
        name: values - mean(METHOD, heading) for name, heading in compared.items() if heading in own
    }
    differences |= {
        f"{words}": values - mean(METHOD, name) for words, name in plan.beside.items() if name in own
    }
    if "twin" in cases:
        differences["twin"] = values - mean("twin", plan.headline)
    return {"value": interval(values, patients)} | {
        f"difference to {name}": interval(each, patients) for name, each in differences.items()
    }


def interval(values: np.ndarray, patients: Sequence[str]) -> dict | None:
    """The mean of cases with its interval; None with fewer than two subjects that have a value."""
    values = np.where(np.isfinite(values), values, np.nan)
    if len({patient for patient, value in zip(patients, values, strict=True) if np.isfinite(value)}) < 2:
        return None
    found = bootstrap_interval(values, patients=patients, statistic=np.mean, resamples=RESAMPLES,
                               confidence=CONFIDENCE, seed=0)  # fmt: skip
    return {"mean": found.value, "lower": found.lower, "upper": found.upper, "subjects": found.n_patients}


def save(entry: Mapping, folder: pathlib.Path = RECORDS) -> pathlib.Path:
    """Stores a record by its plan's id."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{entry['plan']}.json"
    write_json(path, entry)
    return path


def states(plans: Sequence[Plan], folder: pathlib.Path = RECORDS) -> dict[str, str]:
    """`fresh`, `stale` or `missing` for each plan's record."""
    return {plan.id: state(plan, read(plan, folder)) for plan in plans}


def state(plan: Plan, entry: Mapping | None) -> str:
    """Of one record, as `read` gives it."""
    if entry is None:
        return "missing"
    return "fresh" if entry["code"] == fingerprint(plan, entry["preset"]) else "stale"


def read(plan: Plan, folder: pathlib.Path = RECORDS) -> dict | None:
    """The record of a plan; None without one."""
    path = folder / f"{plan.id}.json"
    return json.loads(path.read_text()) if path.is_file() else None
