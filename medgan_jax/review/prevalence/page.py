"""The study of prevalence as a page of Markdown and as a plot."""

import pathlib
from collections.abc import Mapping

import numpy as np

from medgan_jax.review import result_rows, tables

MEASURES = ("prevalence", "hallucination", "loss")
HEADINGS = {
    "prevalence": "prevalence in outputs, inputs 50 %",
    "hallucination": "invented, inputs without lesion",
    "loss": "lost, inputs with lesion",
}
COLOURS = ("#b2182b", "#2166ac", "#4d9221")
MARKERS = ("o", "s", "^")


def percent(found: Mapping) -> str:
    """`37 % [25, 50]`."""
    return f"{100 * found['value']:.0f} % [{100 * found['lower']:.0f}, {100 * found['upper']:.0f}]"


def detector_words(facts: Mapping) -> str:
    """What the detector is worth, in one line."""
    parts = [
        f"{name}: sensitivity {percent(found['sensitivity'])}, false calls {percent(found['false calls'])}"
        for name, found in facts.items()
        if isinstance(found, Mapping) and "sensitivity" in found
    ]
    verdict = "" if facts["believed"] else " It is too weak here to be believed: the rates below say little."
    return (
        f"The detector on real target images of {facts['people']} other people: {'; '.join(parts)}.{verdict}"
    )


def markdown(found: Mapping) -> str:
    """The page."""
    columns = ["translator", "lesions in the target set", *HEADINGS.values(), "seeds"]
    lines = [
        "# Lesions that translation invents and loses",
        "",
        f"Data: {found['data']}. Preset {found['preset']}, {len(found['seeds'])} seeds, "
        f"{result_rows.device(found['hardware'])}.",
        "",
        detector_words(found["detector"]),
        "",
        "In brackets 95 % intervals over test people, of the mean over seeds.",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + " --- |" * len(columns),
    ]
    for row in found["rows"]:
        cells = [row["translator"], f"{100 * row['prevalence of the target set']:.0f} %"]
        cells += [percent(row[measure]) for measure in MEASURES] + [str(len(row["seeds"]))]
        lines.append("| " + " | ".join(cells) + " |")
    words = [f"{name} {tables.number(slope)}" for name, slope in found["slopes"].items() if slope is not None]
    if words:
        lines += [
            "",
            "Rise of the prevalence in outputs for each point of that in the target set: "
            + "; ".join(words)
            + ".",
        ]
    lines += [
        f"Not in the table, for it failed: {name}: {reason}." for name, reason in found["failures"].items()
    ]
    return "\n".join([*lines, ""])


def plot(found: Mapping, path: pathlib.Path) -> None:
    """A PNG: prevalence of the target set against that in outputs, what is invented and what is lost."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    names = list(dict.fromkeys(row["translator"] for row in found["rows"]))
    for axes, measure in zip(figure.subplots(1, len(MEASURES), sharey=True), MEASURES, strict=True):
        for number, name in enumerate(names):
            own = sorted((row for row in found["rows"] if row["translator"] == name),
                         key=lambda row: row["prevalence of the target set"])  # fmt: skip
            draw(axes, own, measure, name, number, len(names))
        if measure == "prevalence":
            axes.plot([0, 100], [0, 100], ":", color="#777777", label="as in the target set")
            axes.axhline(50, ls="--", color="#777777", label="as in the inputs")
            axes.legend(fontsize=8, loc="upper left")
            axes.set_ylabel("% of images")
        axes.set(title=HEADINGS[measure], xlabel="lesions in the target set, %", ylim=(-4, 104))
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=110)


def draw(axes, rows, measure: str, name: str, number: int, count: int) -> None:
    """One translator's line with its intervals; each seed is a small point."""
    shift = 1.6 * (number - (count - 1) / 2)
    levels = [100 * row["prevalence of the target set"] + shift for row in rows]
    values = [100 * row[measure]["value"] for row in rows]
    lower, upper = ([100 * row[measure][side] for row in rows] for side in ("lower", "upper"))
    spans = [np.maximum(0, np.subtract(values, lower)), np.maximum(0, np.subtract(upper, values))]
    colour = COLOURS[number % len(COLOURS)]
    axes.errorbar(
        levels, values, spans, color=colour, marker=MARKERS[number % len(MARKERS)], capsize=3, label=name
    )
    for level, row in zip(levels, rows, strict=True):
        shares = [100 * share for share in row[measure]["by seed"]]
        axes.plot([level] * len(shares), shares, ".", color=colour, alpha=0.4, ms=5)
