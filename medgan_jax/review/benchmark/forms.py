"""A benchmark's results read from their JSON, and as Markdown, CSV and tables: terminal and site read them
here.
"""

import csv
import io
import json
import pathlib
from collections.abc import Mapping, Sequence

from medgan_jax.errors import UserError
from medgan_jax.review import tables
from medgan_jax.review.benchmark.results import FULL_SEEDS, SCHEMA

COLUMNS = ("entrant", "equal updates", "rank", "equal time", "rank in time", "training", "parameters",
           "tuning", "health")  # fmt: skip
KINDS = {
    "method": "method of the review",
    "twin": "its non-adversarial twin",
    "reference": "the same networks, no adversary",
    "rival": "another GAN on the same images",
    "plain": "plain network",
    "classical": "classical, not trained",
}
PROTOCOL = (
    "All entrants of a track have the same test cases, which is proved case by case before they are ranked.",
    "Equal updates: the generator of every trained entrant is updated as often, as far as its schedule "
    "allows; updates are printed.",
    "Equal time: every entrant is stopped when the fastest is done; compilation and evaluation do not count.",
    "A rank stands with its interval and with the probability of being best, by a bootstrap over seeds and "
    "patients.",
    "Health: diversity of generated images, near 0 after a collapse; least gradient, near 0 where a player "
    "has stopped to learn, as beside a saturated discriminator; values that were not finite; seeds that "
    "failed.",
)


def is_benchmark(content: object) -> bool:
    """Whether plain values are those of a benchmark."""
    return isinstance(content, dict) and isinstance(content.get("tracks"), list) and "benchmark" in content


def read(path: pathlib.Path) -> dict:
    """The results in a file; UserError for one that is broken or of another schema."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); run the benchmark again") from error
    if not is_benchmark(content):
        raise UserError(f"{path} holds no results of `reproduce benchmark`")
    if content.get("schema") != SCHEMA:
        raise UserError(
            f"{path} has schema {content.get('schema')} and this version writes {SCHEMA}; "
            "run the benchmark again"
        )
    return content


def heading(content: Mapping) -> str:
    """What was run, in one line."""
    seeds = len(content["seeds"])
    words = f"Preset {content['preset']}, {seeds} seed{'s' * (seeds != 1)}"
    trials = content["trials"]
    words += f", {trials} tuning trial{'s' * (trials != 1)} for each trained entrant"
    few = f" Preliminary: fewer than {FULL_SEEDS} seeds." if content["preliminary"] else ""
    return f"{words}.{few}"


def conditions(track: Mapping) -> list[str]:
    """What stands beside a track's table: data, proof of identity, what ranks are made of, what is not
    equal.
    """
    lines = [track["task"]]
    if track["data"]:
        lines.append(f"Data: {track['data']['source']}, {track['data']['n']} test cases.")
    if track["identity"]:
        proof = track["identity"]
        same = f"of the {len(proof['cases'])} test cases agree in all entrants"
        largest = f"{100 * proof['largest_difference']:.2g} %"
        lines.append(f"Identity: {' and '.join(proof['parts'])} {same}, to within {largest} of the range.")
    if track["headline"]:
        name, arrow = track["headline"]["metric"], "↑" if track["headline"]["higher_is_better"] else "↓"
        unit = f" [{track['headline']['unit']}]" if track["headline"]["unit"] else ""
        lines.append(f"Ranked by {name}{unit} {arrow}.")
    for column, words in (("updates", "Ranks at equal updates"), ("time", "Ranks at equal time")):
        ranking = track["rankings"].get(column)
        if ranking and "reason" in ranking:
            lines.append(f"{words}: none, {ranking['reason']}.")
        elif ranking:
            number = f" ({ranking['patients']} patients)" if ranking["patients"] else ""
            lines.append(f"{words}: bootstrap over {ranking['over']}{number}, 95 % intervals.")
    if track["limit_seconds"]:
        lines.append(
            f"Equal time: {tables.number(track['limit_seconds'])} s of training steps, those of the fastest."
        )
    if track["classical_failure"]:
        lines.append(f"Classical methods failed: {track['classical_failure']}.")
    return lines + ([track["note"]] if track["note"] else [])


def value(row: Mapping | None) -> str:
    """`31.42 ± 0.21`, or a dash."""
    return tables.statistic({**row, "n": None}) if row else tables.NONE


def rank(column: Mapping) -> list[str]:
    """`1 (1 to 2)` and the probability of being best."""
    found = column.get("rank")
    if found is None:
        return [tables.NONE]
    interval = f"{found['rank']:g} ({found['lower']:g} to {found['upper']:g})"
    return [interval, f"best with probability {found['probability_best']:.2f}"]


def cells(row: Mapping) -> dict[str, list[str]]:
    """An entrant as lines of text by column."""
    failures = [f"seed {seed} failed: {why}" if seed else why for seed, why in row["failures"].items()]
    head = {"entrant": [row["name"], KINDS[row["kind"]], *([row["id"]] if row["id"] else [])]}
    if row["state"] != "measured":
        return head | {"equal updates": ["failed", *failures]}
    shown = {"equal updates": _values(row["updates"]), "rank": rank(row["updates"])}
    time = row["time"]
    shown["equal time"] = _values(time) if time["metrics"] else [tables.NONE]
    shown["equal time"] += [f"seed {seed}: {why}" for seed, why in time["failures"].items()]
    shown["rank in time"] = rank(time)
    if row["kind"] == "classical":
        return head | shown
    return head | shown | {
        "training": _training(row),
        "parameters": [f"{row['parameters'][part]:,} {words}" for part, words in PARAMETERS.items()],
        "tuning": _tuning(row),
        "health": [*_signs(row["health"]), *failures] or [tables.NONE],
    }  # fmt: skip


PARAMETERS = {"generator": "at inference", "all": "trained in all"}


def _training(row: Mapping) -> list[str]:
    """Updates, seeds, seconds, device; updates at equal time."""
    seeds = len(row["updates"]["seeds"])
    lines = [f"{row['updates']['updates']:,} updates", f"{seeds} seed{'s' * (seeds != 1)}"]
    if row["seconds"] is not None:
        lines += [f"{tables.number(row['seconds'])} s of steps, {row['wall_seconds']:.0f} s in all"]
    if row["time"]["updates"] is not None:
        lines += [f"{row['time']['updates']:,} updates at equal time"]
    return [*lines, str(row["device"])]


def _tuning(row: Mapping) -> list[str]:
    """Validation values of the headline by factor of the learning rates."""
    if not row["trials"]:
        return ["rates of the preset"]
    tried = row["trials"].items()
    shown = {factor: tables.NONE if each is None else tables.number(each) for factor, each in tried}
    lines = [f"rates x {factor}: {each}" for factor, each in shown.items()]
    return [*lines, f"chosen: x {row['factor']:g}"]


def _signs(health: Mapping) -> list[str]:
    """Signs of health; counts as whole numbers."""
    shown = {name: number for name, number in health.items() if number is not None}
    return [
        f"{name.replace('_', ' ')} {number if isinstance(number, int) else tables.number(number)}"
        for name, number in shown.items()
    ]


def _values(column: Mapping) -> list[str]:
    """The metrics of a column, the headline with its interval first."""
    found = column.get("rank")
    lines = [f"{tables.metric_heading(name, row)} {value(row)}" for name, row in column["metrics"].items()]
    if found is not None and lines:
        ends = f"{tables.number(found['value_lower'])} to {tables.number(found['value_upper'])}"
        lines[0] += f" ({ends})"
    return lines or [tables.NONE]


def markdown(content: Mapping) -> str:
    """All tracks in GitHub's Markdown, one row an entrant."""
    parts = [f"# Benchmark: {content['benchmark']}", "", heading(content), ""]
    parts += [*(f"- {line}" for line in PROTOCOL), ""]
    for track in content["tracks"]:
        parts += [f"## {track['title']}", "", *(f"- {line}" for line in conditions(track)), ""]
        parts += ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
        for row in track["rows"]:
            lines = cells(row)
            texts = [
                "<br>".join(line.replace("|", "\\|") for line in lines.get(name, [tables.NONE]))
                for name in COLUMNS
            ]
            parts.append("| " + " | ".join(texts) + " |")
        parts.append("")
    return "\n".join(parts)


CSV_COLUMNS = (
    *("track", "entrant", "kind", "column", "metric", "unit", "value", "sd", "n", "over"),
    *("rank", "rank_lower", "rank_upper", "probability_best"),
    *("updates", "steps", "parameters", "seconds", "data", "note"),
)


def comma_separated(content: Mapping) -> str:
    """One line for each entrant, column and metric; one for each failure."""
    file = io.StringIO()
    writer = csv.DictWriter(file, CSV_COLUMNS, restval="")
    writer.writeheader()
    for track in content["tracks"]:
        for row in track["rows"]:
            writer.writerows(_lines(track, row))
    return file.getvalue()


def _lines(track: Mapping, row: Mapping) -> list[dict]:
    known = {"track": track["name"], "entrant": row["name"], "kind": row["kind"]}
    found = []
    for column in ("updates", "time"):
        part = row[column]
        ranked = part.get("rank") or {}
        ranks = {"rank": ranked.get("rank"), "probability_best": ranked.get("probability_best")}
        ranks |= {"rank_lower": ranked.get("lower"), "rank_upper": ranked.get("upper")}
        for name, values in part["metrics"].items():
            line = known | (ranks if name == track["headline"]["metric"] else {})
            line |= {field: values[field] for field in ("unit", "sd", "n", "over")}
            line |= {"column": f"equal {column}", "metric": name, "value": values["mean"]}
            line |= {"updates": part["updates"], "steps": part["steps"], "seconds": row["seconds"]}
            parameters = row["parameters"] and row["parameters"]["generator"]
            found.append(line | {"parameters": parameters, "data": row["data"]["source"]})
    late = {f"{seed} at equal time": why for seed, why in row["time"]["failures"].items()}
    reasons = {**row["failures"], **late}.items()
    notes = [f"seed {seed}: {why}" if seed else why for seed, why in reasons]
    return found + [{**known, "column": "failed", "note": note} for note in notes]


def printed(track: Mapping):
    """A track as a table for the terminal."""
    table = tables.new_table(*COLUMNS)
    for row in track["rows"]:
        lines = cells(row)
        tables.add_row(table, *("\n".join(lines.get(name, [tables.NONE])) for name in COLUMNS))
    return table


def summary(content: Mapping) -> str:
    """`2 tracks, 11 entrants: 10 measured, 1 failed`."""
    rows: Sequence[Mapping] = [row for track in content["tracks"] for row in track["rows"]]
    failed = sum(row["state"] != "measured" for row in rows)
    words = f"{len(content['tracks'])} tracks, {len(rows)} entrants: {len(rows) - failed} measured"
    return words + (f", {failed} failed" if failed else "")
