"""What repeated turns say: medians, spread, ratios with intervals, and the table of them."""

import math
from collections.abc import Sequence

import numpy as np

HEAD = (
    "game", "ours, s", "PyTorch, s", "PyTorch / ours",
    "GFLOP/s (share of matrix product): ours", "PyTorch",
    "first step, s: ours (compiling)", "PyTorch",
    "peak MiB: ours", "PyTorch",
    "compiling / plain layers", "peak / plain layers",
    "parameters, M",
)
WINOGRAD_HEAD = (
    "game", "PyTorch / ours", "without Winograd", "compiling / plain layers", "without Winograd",
    "peak / plain layers", "without Winograd", "first step, s: plain layers, with ours, without Winograd",
)


def ratio(ours: Sequence[float], theirs: Sequence[float], resamples: int = 2000) -> dict[str, float]:
    """Median of theirs over median of ours, with its 95 % bootstrap interval over turns, which are pairs."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    picked = np.random.default_rng(0).integers(len(ours), size=(resamples, len(ours)))
    drawn = np.median(theirs[picked], axis=1) / np.median(ours[picked], axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"value": float(np.median(theirs) / np.median(ours)), "low": float(low), "high": float(high)}


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(math.log(value) for value in values) / len(values))


def quotient(a: float | None, b: float | None) -> float | None:
    return None if a is None or not b else a / b


def number(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else f"{value:{form}}"


def seconds(times: Sequence[float]) -> str:
    """Median and interquartile range."""
    low, middle, high = np.percentile(times, [25, 50, 75])
    return f"{middle:.3g} ({low:.3g}–{high:.3g})"


def speed(row: dict, side: str) -> str:
    """GFLOP/s, and the share of the matrix-product rate, the better one of both sides."""
    if row.get("gflop") is None:
        return "-"
    machine = max(found["gflops"] for found in row["matrix"].values())
    rate = row["gflop"] / float(np.median(row[side]["seconds"]))
    return f"{rate:.0f} ({100 * rate / machine:.0f} %)"


def cells(row: dict) -> list[str]:
    """One line of the table; a dash for what was not measured."""
    ours, theirs, plain = row["ours"], row.get("theirs"), row.get("plain") or {}
    known = theirs or {}
    interval = row.get("ratio")
    return [
        row["title"],
        seconds(ours["seconds"]),
        f"{seconds(theirs['seconds'])} {theirs['variant']}" if theirs else "-",
        f"**{interval['value']:.2f}** ({interval['low']:.2f}–{interval['high']:.2f})" if interval else "-",
        speed(row, "ours"),
        speed(row, "theirs") if theirs else "-",
        f"{ours['first']:.1f} ({ours['compile']:.1f})",
        number(known.get("first"), ".1f"),
        number(ours["mebibytes"], ".0f"),
        number(known.get("mebibytes"), ".0f"),
        number(quotient(ours["compile"], plain.get("compile"))),
        number(quotient(ours["mebibytes"], plain.get("mebibytes"))),
        number(sum(ours["parameters"].values()) / 1e6, ".1f"),
    ]


def winograd_cells(row: dict) -> list[str]:
    """One line of what Winograd's products gain and cost; a dash for what was not measured."""
    sides, plain = (row["ours"], row["direct"]), row["plain"]
    ratios = [row.get("ratio", {}).get("value"), row["direct"].get("ratio", {}).get("value")]
    compiling = [quotient(side["compile"], plain["compile"]) for side in sides]
    peaks = [quotient(side["mebibytes"], plain["mebibytes"]) for side in sides]
    firsts = ", ".join(f"{side['first']:.1f}" for side in (plain, *sides))
    return [row["title"], *(number(value) for value in (*ratios, *compiling, *peaks)), firsts]


def of_winograd(rows: Sequence[dict]) -> str:
    """The table of what Winograd's products gain and cost, its last line the geometric means of the ratios."""
    measured = [row for row in rows if "direct" in row]
    lines = [line(WINOGRAD_HEAD), line(["---"] * len(WINOGRAD_HEAD)), *(line(winograd_cells(row)) for row in measured)]
    both = [(row["ratio"]["value"], row["direct"]["ratio"]["value"]) for row in measured if row.get("ratio")]
    if both:
        means = [f"{geometric_mean(values):.2f}" for values in zip(*both, strict=True)]
        lines.append(line(["geometric mean", *means, *[""] * (len(WINOGRAD_HEAD) - 3)]))
    return "\n".join(lines)


def line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def head() -> list[str]:
    return [line(HEAD), line(["---"] * len(HEAD))]


def markdown(rows: Sequence[dict]) -> str:
    """The table, its last line the geometric mean of the ratios."""
    lines = [*head(), *(line(cells(row)) for row in rows)]
    ratios = [row["ratio"]["value"] for row in rows if row.get("ratio")]
    if ratios:
        mean = f"**{geometric_mean(ratios):.2f}**"
        lines.append(line(["geometric mean", "", "", mean, *[""] * (len(HEAD) - 4)]))
    return "\n".join(lines)


def document(machine: dict, rows: Sequence[dict]) -> str:
    """The table and, under it, the machine that it was measured on and the versions of both sides."""
    versions = {"jax": rows[0]["ours"]["version"]}
    for row in rows:
        if row.get("theirs"):
            versions["torch"] = row["theirs"]["version"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    place = f"{machine['processor']}, {machine['processors']} processors, {machine['system']}, {machine['date']}"
    return f"{markdown(rows)}\n\n{place}; Python {machine['python']}, {named}."


def with_table(text: str, content: str, name: str = "steps") -> str:
    """A document with what stands between the marks of this name replaced."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if begin not in text or end not in text:
        raise SystemExit(f"the document lacks the marks {begin} and {end}")
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end, 1)[1]}"
