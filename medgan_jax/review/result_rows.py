"""Rows of reproduced tables: published beside measured values, one row a method, and their written forms.

Every value comes from the catalogue or from a run's record; the same rows are written as Markdown, CSV, JSON and
LaTeX, so the four cannot disagree.
"""

import csv
import dataclasses
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from medgan_jax.review import catalogue, tables

SHOWN = 6
# Metrics that say how much of a distribution a generator has kept.
COVERAGE = ("modes", "in_a_mode", "on_a_mode", "obeyed", "coverage")
MEASURED, FAILED, WAITING = "measured", "failed", "not implemented"


@dataclasses.dataclass(frozen=True)
class Row:
    """A method of a table.

    state: `measured`, `failed` (every seed) or `not implemented`. published: values as the review prints them, with
    condition, data set and note. measured, baseline, twin: `{metric: {"mean", "sd", "n", "unit",
    "higher_is_better"}}` over seeds; others: the same for each classical method by name. data: source, fingerprint
    and number of test cases. failures: reason by seed. health: means over seeds, see `runs.health`.
    """

    id: str
    name: str
    reference: int | None
    table: int | None
    state: str
    published: tuple[dict, ...] = ()
    notes: tuple[str, ...] = ()
    measured: Mapping[str, Mapping] = dataclasses.field(default_factory=dict)
    baseline: Mapping[str, Mapping] = dataclasses.field(default_factory=dict)
    baseline_name: str | None = None
    others: Mapping[str, Mapping[str, Mapping]] = dataclasses.field(default_factory=dict)
    twin: Mapping[str, Mapping] = dataclasses.field(default_factory=dict)
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    preset: str | None = None
    seeds: tuple[int, ...] = ()
    failures: Mapping[int, str] = dataclasses.field(default_factory=dict)
    steps: int | None = None
    seconds: float | None = None
    device: str | None = None
    health: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    command: str | None = None
    code: str | None = None


def row(entry: catalogue.Entry, results: Mapping[int, dict | None], failures: Mapping[int, str]) -> Row:
    """The row of an entry from its results by seed; None is a failed seed, and no seed at all `not implemented`."""
    known = {
        "id": entry.id,
        "name": entry.name,
        "reference": entry.ref,
        "table": entry.table,
        "published": tuple(dataclasses.asdict(value) for value in entry.reported),
        "notes": tuple(value.note for value in entry.reported if value.note),
    }
    done = [result for result in results.values() if result is not None]
    if not results:
        return Row(**known, state=WAITING)
    if not done:
        return Row(**known, state=FAILED, failures=dict(failures))
    first = done[0]
    names = list(first.get("others") or {})
    return Row(
        **known,
        state=MEASURED,
        measured=over_seeds([result["metrics"] for result in done]),
        baseline=over_seeds([result["baseline"] or {} for result in done]),
        baseline_name=first.get("baseline_name"),
        others={name: over_seeds([result["others"][name] for result in done]) for name in names},
        twin=over_seeds([(result["twin"] or {}).get("metrics", {}) for result in done]),
        data=first["data"],
        preset=first["preset"],
        seeds=tuple(result["seed"] for result in done),
        failures=dict(failures),
        steps=first["step"],
        seconds=float(np.mean([result["train_seconds"] for result in done])),
        device=device(first["hardware"]),
        health={name: mean([result["health"][name] for result in done]) for name in first["health"]}
        | coverage(over_seeds([result["metrics"] for result in done])),
        command=first["command"],
        code=first["code"],
    )


def device(hardware: Mapping[str, Any]) -> str:
    """`1 x NVIDIA H100`; for a CPU `2 cores of AMD EPYC`, or `1 x cpu` where a record does not say more."""
    if hardware["platform"] != "cpu":
        return f"{hardware['count']} x {hardware['kind']}"
    if not hardware.get("cores"):
        return f"{hardware['count']} x cpu"
    cores = f"{hardware['cores']} core{'s' * (hardware['cores'] > 1)}"
    return f"{cores} of {hardware['processor']}" if hardware.get("processor") else cores


def coverage(measured: Mapping[str, Mapping]) -> dict[str, float | None]:
    """The metrics, if any, that count modes or the share of the real images that generated ones cover."""
    return {name: row["mean"] for name, row in measured.items() if name in COVERAGE}


def mean(values: Sequence[float | None]) -> float | None:
    """Of the values that are there; None without any."""
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None


def over_seeds(records: Sequence[Mapping[str, Mapping]]) -> dict[str, dict]:
    """Mean and SD over seeds of each metric's mean; one seed has the SD over its cases instead, and says so."""
    if len(records) == 1:
        return {name: {**row, "over": "cases"} for name, row in records[0].items()}
    table = {}
    for name, first in records[0].items():
        values = np.array([record[name]["mean"] for record in records if record[name]["mean"] is not None], float)
        table[name] = {
            "unit": first["unit"],
            "higher_is_better": first["higher_is_better"],
            "mean": float(values.mean()) if values.size else None,
            "sd": float(values.std(ddof=1)) if values.size > 1 else None,
            "n": int(values.size),
            "over": "seeds",
            "values": [record[name]["mean"] for record in records],
        }
    return table


# --- cells ---


def shown_metrics(each: Row) -> list[str]:
    """The metrics of a row that are written: those that the review prints a value of, then the method's first."""
    published = {tables.published_key(value["metric"], each.id, each.measured) for value in each.published}
    both = [name for name in each.measured if tables.metric_key(name) in published]
    return list(dict.fromkeys([*both, *each.measured]))[:SHOWN]


def value(row: Mapping | None) -> str:
    """`31.42 ± 0.21`, or a dash."""
    if not row or row["mean"] is None:
        return tables.NONE
    spread = row.get("sd")
    return tables.number(row["mean"]) + (
        f" ± {tables.number(spread)}" if spread is not None and math.isfinite(spread) else ""
    )


def lines(each: Row, part: Mapping[str, Mapping]) -> list[str]:
    """One value a line, each with the metric's name."""
    return [f"{name} {value(part[name])}" for name in shown_metrics(each) if name in part]


def cells(each: Row) -> dict[str, list[str]]:
    """A row as lines of text by column."""
    published = [catalogue.ReportedValue(**fact) for fact in each.published]
    said = [str(fact) + (f" [{fact.note}]" if fact.note else "") for fact in published]
    head = {
        "method": [each.id + (f" [{each.reference}]" if each.reference else "")],
        "published (its data)": said or [tables.NONE],
    }
    if each.state != MEASURED:
        reasons = [f"seed {seed}: {reason}" for seed, reason in each.failures.items()]
        return head | {"measured": [each.state, *reasons]}
    units = {name: each.measured[name] for name in shown_metrics(each)}
    measured = [f"{tables.metric_heading(name, row)} {value(row)}" for name, row in units.items()]
    spread = "mean ± SD over seeds" if len(each.seeds) > 1 else "one seed, SD over cases"
    source = [f"{each.data['source']}, {each.data['n']} test cases", f"preset {each.preset}, {spread}"]
    classical = [f"{name}: {line}" for name, part in each.others.items() for line in lines(each, part)]
    states = [f"{name} {tables.number(number)}" for name, number in each.health.items() if number is not None]
    states += [f"seed {seed} failed: {reason}" for seed, reason in each.failures.items()]
    return head | {
        "measured": measured,
        "data": source,
        "baseline": [f"({each.baseline_name})", *lines(each, each.baseline)] if each.baseline else [tables.NONE],
        "classical": classical or [tables.NONE],
        "twin": lines(each, each.twin) or [tables.NONE],
        "health": states or [tables.NONE],
        "training": [f"{len(each.seeds)} seeds", f"{each.steps} steps", f"{each.seconds:.0f} s", str(each.device)],
    }


COLUMNS = ("method", "published (its data)", "measured", "data", "baseline", "classical", "twin", "health",
           "training")  # fmt: skip


def markdown(rows: Sequence[Row], title: str) -> str:
    """A table in GitHub's Markdown, one row a method."""

    def cell(text: Sequence[str]) -> str:
        return "<br>".join(line.replace("|", "\\|") for line in text)

    head = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    body = []
    for each in rows:
        content = cells(each)
        body.append("| " + " | ".join(cell(content.get(name, [tables.NONE])) for name in COLUMNS) + " |")
    return "\n".join([f"# {title}", "", *head, *body, ""])


def latex(rows: Sequence[Row], title: str) -> str:
    """A `longtable` for the package of that name, one row a method."""
    width = 0.9 / len(COLUMNS)
    columns = "".join(f"p{{{width:.3f}\\textwidth}}" for _ in COLUMNS)
    body = []
    for each in rows:
        content = cells(each)
        texts = [r" \newline ".join(map(escaped, content.get(name, [tables.NONE]))) for name in COLUMNS]
        body.append(" & ".join(texts) + r" \\")
    head = " & ".join(escaped(name) for name in COLUMNS) + r" \\ \hline"
    start = [rf"\begin{{longtable}}{{{columns}}}", rf"\caption{{{escaped(title)}}} \\ \hline", head]
    return "\n".join([*start, *body, r"\hline", r"\end{longtable}", ""])


LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "–": "--", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
         "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$",
         "×": r"$\times$"} | {sign: "\\" + sign for sign in "&%$#_{}"}  # fmt: skip


def escaped(text: str) -> str:
    """Text with LaTeX's own characters written out."""
    return "".join(LATEX.get(sign, sign) for sign in text)


def comma_separated(rows: Sequence[Row]) -> str:
    """One line for each method and metric, published values on lines of their own."""
    columns = ["method", "reference", "table", "state", "kind", "metric", "unit", "value", "sd", "n", "data", "note"]
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, restval="")
    writer.writeheader()
    for each in rows:
        known = {"method": each.id, "reference": each.reference, "table": each.table, "state": each.state}
        for fact in each.published:
            data = "; ".join(part for part in (fact["dataset"], fact["condition"]) if part)
            writer.writerow({**known, "kind": "published", "metric": fact["metric"], "value": fact["value"],
                             "sd": fact["std"], "unit": fact["unit_inferred"] or fact["unit"], "data": data,
                             "note": fact["note"]})  # fmt: skip
        parts = {"measured": each.measured, f"baseline: {each.baseline_name}": each.baseline, "twin": each.twin}
        for kind, part in {**parts, **{f"classical: {name}": part for name, part in each.others.items()}}.items():
            for name, row in part.items():
                writer.writerow({**known, "kind": kind, "metric": name, "unit": row["unit"], "value": row["mean"],
                                 "sd": row["sd"], "n": row["n"], "data": each.data["source"],
                                 "note": f"over {row['over']}"})  # fmt: skip
        reasons = each.failures.items() if each.failures else [(None, "")] if each.state == WAITING else []
        for seed, reason in reasons:
            note = reason if seed is None else f"seed {seed}: {reason}"
            writer.writerow({**known, "kind": each.state if each.state != MEASURED else FAILED, "note": note})
    return file.getvalue()


def plain(rows: Sequence[Row], title: str, **facts: Any) -> dict:
    """The table as plain values for JSON."""
    return {"title": title, **facts, "rows": [dataclasses.asdict(each) for each in rows]}


FORMS: dict[str, Callable[[Sequence[Row], str], str]] = {
    "md": markdown,
    "tex": latex,
    "csv": lambda rows, title: comma_separated(rows),
}
