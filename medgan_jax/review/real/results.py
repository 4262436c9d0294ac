"""The page of results on real images, made from the records: a table an application, a line a record.

What a record shows is derived from its numbers: how far the headline is from the trivial method, the twin,
the best classical method and what else it is compared with, better or worse. What it does not show is the
plan's.
"""

import math
from collections.abc import Mapping, Sequence

from medgan_jax.review import result_rows, tables
from medgan_jax.review.real import figures
from medgan_jax.review.real.plans import Plan
from medgan_jax.review.real.recorded import METHOD
from medgan_jax.review.result_rows import value

COLUMNS = ("method", "set", "metric", "value", "trivial", "best classical", "twin", "what it shows",
           "what it does not show", "test subjects", "training")  # fmt: skip


def compared(entry: Mapping) -> list[tuple[str, Mapping]]:
    """(in words, `{metric: row}`) of what a headline is compared with, of classical methods the best."""
    found = []
    if entry["baseline"]:
        found.append((entry["baseline_name"], entry["baseline"]))
    if (best := best_classical(entry)) is not None:
        found.append((best, entry["others"][best]))
    if entry["twin"]:
        found.append((entry["twin_name"], entry["twin"]))
    known = entry["metrics"]
    found += [
        (words, {entry["headline"]: known[name]}) for words, name in entry["beside"].items() if name in known
    ]
    return found


def best_classical(entry: Mapping) -> str | None:
    """The classical method with the best headline; None without any."""
    name, better = entry["headline"], entry["metrics"][entry["headline"]]["higher_is_better"]
    known = {each: rows[name]["mean"] for each, rows in entry["others"].items()
             if rows.get(name, {}).get("mean") is not None}  # fmt: skip
    return (max if better else min)(known, key=known.get) if known else None


def shows(entry: Mapping) -> str:
    """One sentence: the headline, and by how much it is better or worse than each of `compared`."""
    name = entry["headline"]
    own = entry["metrics"][name]
    if own["mean"] is None:
        return f"{name} is not defined here."
    unit = f" {own['unit']}" if own["unit"] else ""
    spread = own.get("sd") if own.get("over") == "seeds" else None
    parts = []
    for words, rows in compared(entry):
        row = rows.get(name) or {}
        if row.get("mean") is not None:
            parts.append(
                f"{difference(own['mean'], row['mean'], own['higher_is_better'], spread, unit)} {words}"
            )
    return f"{name} {value(own)}{unit}" + (": " + "; ".join(parts) if parts else "") + "."


def difference(own: float, other: float, higher_is_better: bool, spread: float | None, unit: str) -> str:
    """`1.2 dB better than`; what lies within the seeds' SD is said to."""
    gap = (own - other) * (1 if higher_is_better else -1)
    if gap == 0:
        return "equal to"
    words = f"{tables.number(abs(gap))}{unit} {'better' if gap > 0 else 'worse'} than"
    if spread is not None and math.isfinite(spread) and abs(gap) <= spread:
        words = f"within the seeds' SD ({words.removesuffix(' than')}) of"
    return words


def cells(entry: Mapping, state: str) -> list[str]:
    """A line of the table."""
    name = entry["headline"]
    row = entry["metrics"][name]
    best = best_classical(entry)
    marks = "" if state == "fresh" else f" **{state}**"
    subjects = len(entry["by_subject"].get(METHOD, {}).get(name, {})) or len(entry["subjects"]["test"])
    seeds = entry["seeds"]
    return [
        f"`{entry['plan']}`{marks}",
        entry["set"] + (f" ({entry['derived']})" if entry["derived"] else ""),
        tables.metric_heading(name, row),
        value(row) + interval(entry) + children(entry),
        f"{entry['baseline_name']} {value(entry['baseline'].get(name))}"
        if entry["baseline"]
        else tables.NONE,
        f"{best} {value(entry['others'][best][name])}" if best else tables.NONE,
        f"{entry['twin_name']} {value(entry['twin'].get(name))}" if entry["twin"] else tables.NONE,
        shows(entry) + stated(entry),
        entry["not_claimed"],
        str(subjects),
        f"{len(seeds)} seeds, {entry['steps']} steps, {sum(entry['seconds']['in all']) / len(seeds):.0f} s "
        f"with its twin, {result_rows.device(entry['hardware'])}, preset {entry['preset']}",
    ]


def interval(entry: Mapping) -> str:
    """` [31.0, 32.5]` over subjects, where the headline has values of single cases."""
    found = entry["intervals"].get("value")
    return f" [{tables.number(found['lower'])}, {tables.number(found['upper'])}]" if found else ""


def children(entry: Mapping) -> str:
    """Values of single subjects, where the metric is of the whole set and they were measured one by one."""
    start = f"{entry['headline']}_child_"
    known = {name: row for name, row in entry["metrics"].items() if name.startswith(start)}
    words = [f"{name.removeprefix(start)}: {value(row)}" for name, row in known.items()]
    return f"; by child {', '.join(words)}" if words else ""


def stated(entry: Mapping) -> str:
    """Facts of the set, in words."""
    known = {name: fact for name, fact in entry["set_facts"].items() if isinstance(fact, int | float | str)}
    words = [
        f"{name}: {tables.number(fact) if isinstance(fact, float) else fact}" for name, fact in known.items()
    ]
    return f" ({'; '.join(words)})" if words else ""


def page(
    plans: Sequence[Plan],
    entries: Mapping[str, Mapping],
    states: Mapping[str, str],
    pictures: Mapping[str, str],
) -> str:
    """All records as Markdown; pictures: the places of small figures by id."""
    lines = [
        "# Results on real images",
        "",
        "Written by `python -m medgan_jax reproduce real` from `experiments/records/real/*.json`; not edited "
        "by hand. Values are mean ± SD over seeds of the mean over test cases, in brackets the 95 % bootstrap "
        "interval over test subjects. Published values are of other data and stand elsewhere. Records whose "
        "code or configuration has changed since are marked **stale**.",
        "",
    ]
    for application in dict.fromkeys(plan.application for plan in plans):
        known = [plan for plan in plans if plan.application == application]
        lines += [f"## {application.replace('_', ' ').capitalize()}", ""]
        rows = [cells(entries[plan.id], states[plan.id]) for plan in known if plan.id in entries]
        if rows:
            lines += ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
            lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
            lines.append("")
        missing = [f"`{plan.id}`" for plan in known if plan.id not in entries]
        if missing:
            lines += [f"No record yet: {', '.join(missing)}.", ""]
        for plan in known:
            if plan.id in entries:
                lines += [f"`{plan.id}`: `{entries[plan.id]['command']}`", ""]
            if plan.id in pictures:
                credit = figures.CREDITS[plan.set]
                lines += [f"![{plan.id}]({pictures[plan.id]})", "", f"One test case of {credit}.", ""]
    return "\n".join(lines)
