"""Measured and published values on a page: cells, tables, and a picture of the method beside others."""

import math
from collections.abc import Mapping, Sequence

from medgan_jax.review import tables
from medgan_jax.review.catalogue import ReportedValue
from medgan_jax.review.site.dot_plot import Dot, dot_plot
from medgan_jax.review.site.markup import Markup, joined, tag
from medgan_jax.review.site.markup import table as html_table
from medgan_jax.review.site.measurements import Measurement

PLOTTED = 4
NONE = tables.NONE


def finite(value: float | None) -> bool:
    """Whether there is a number."""
    return value is not None and math.isfinite(value)


def number(value: float | None) -> Markup | str:
    """A number as it is shown, with the whole of it for machines."""
    return tag("data", tables.number(value), value=repr(value)) if finite(value) else NONE


def statistic(row: Mapping | None) -> Markup | str:
    """`31.42 ± 0.21`, each with the whole of its value; a dash where nothing was measured."""
    if not row or not finite(row.get("mean")):
        return NONE
    mean, spread = number(row["mean"]), row.get("sd")
    return tag(
        "span",
        mean,
        tag("span", [" ± ", number(spread)], class_="sd") if finite(spread) else "",
        class_="value",
    )


def sides(measured: Measurement) -> list[tuple[str, Mapping[str, Mapping]]]:
    """All that is compared: the method, its baseline, classical methods, its twin; those that have values."""
    baseline = f"{measured.baseline_name or 'trivial'} (baseline)"
    found = [("method", measured.metrics), (baseline, measured.baseline), *measured.others.items()]
    found.append(("non-adversarial twin", measured.twin))
    return [(name, rows) for name, rows in found if rows]


def source_words(measured: Measurement) -> str:
    """Data, seeds and what the spread is over, in words."""
    several = len(measured.seeds) > 1
    seeds = (
        f"{len(measured.seeds)} seeds ({', '.join(map(str, measured.seeds))})"
        if several
        else f"seed {measured.seeds[0]}"
    )
    spread = "mean ± SD over seeds" if measured.over == "seeds" else "mean ± SD over test cases"
    preset = f"preset {measured.preset}, " if measured.preset else ""
    return f"{measured.data['n']} test cases of {measured.data['source']}, {preset}{seeds}; {spread}"


def comparison(measured: Measurement, published: Sequence[ReportedValue]) -> Markup:
    """All measured values of one record, published ones beside them where the metric is the same."""
    beside = sides(measured)
    printed: dict[str, list[ReportedValue]] = {}
    for value in published:
        printed.setdefault(tables.published_key(value.metric, measured.id, measured.metrics), []).append(
            value
        )
    matched = any(tables.metric_key(name) in printed for name in measured.metrics)
    rows = []
    for name, row in measured.metrics.items():
        cells = [tables.metric_heading(name, row), *(statistic(values.get(name)) for _, values in beside)]
        if matched:
            cells.append(
                joined([published_value(each) for each in printed.get(tables.metric_key(name), [])], "; ")
                or NONE
            )
        rows.append(cells)
    headings = ["metric", *(name for name, _ in beside), *(["published, on other data"] if matched else [])]
    return html_table(headings, rows, caption=source_words(measured), class_="values")


def published_value(value: ReportedValue) -> Markup:
    """`0.08 ± 0.02 (mask 30%)` with the whole values for machines."""
    spread = [" ± ", tag("data", f"{value.std:g}", value=repr(value.std))] if value.std is not None else ""
    unit = f" {value.best_unit}" if value.best_unit else ""
    where = f" ({value.condition})" if value.condition else ""
    return tag("span", tag("data", f"{value.value:g}", value=repr(value.value)), spread, unit, where)


def published_table(values: Sequence[ReportedValue]) -> Markup:
    """What the review prints, with its data, condition and what the catalogue notes of it."""
    rows = []
    for value in values:
        spread = (
            [" ± ", tag("data", f"{value.std:g}", value=repr(value.std))] if value.std is not None else ""
        )
        shown = tag("span", tag("data", f"{value.value:g}", value=repr(value.value)), spread, class_="value")
        unit = value.unit or NONE
        if value.unit_inferred and value.unit_inferred != value.unit:
            unit = f"{value.unit_inferred} (meant; printed: {value.unit or 'none'})"
        rows.append(
            [value.metric, shown, unit, value.condition or NONE, value.dataset or NONE, value.note or NONE]
        )
    headings = ["metric", "value", "unit", "condition", "data set", "note"]
    if all(row[-1] == NONE for row in rows):
        headings, rows = headings[:-1], [row[:-1] for row in rows]
    return html_table(
        headings, rows, caption="As the review prints them, on the paper's data", class_="values"
    )


def headline(measured: Measurement, published: Sequence[ReportedValue]) -> Markup:
    """The first value of a record beside its baseline, for lists of methods."""
    name = shown_metrics(measured, published)[0]
    row, beside = measured.metrics[name], measured.baseline.get(name)
    reference = [" against ", statistic(beside)] if beside and finite(beside.get("mean")) else ""
    return tag("span", f"{tables.metric_heading(name, row)} ", statistic(row), reference)


def shown_metrics(measured: Measurement, published: Sequence[ReportedValue]) -> list[str]:
    """Metrics with a published value first, then the others."""
    keys = {tables.published_key(value.metric, measured.id, measured.metrics) for value in published}
    both = [name for name in measured.metrics if tables.metric_key(name) in keys]
    return list(dict.fromkeys([*both, *measured.metrics]))


def plots(measured: Measurement, published: Sequence[ReportedValue]) -> Markup:
    """One strip for each of the first metrics: dots for means, bars for one SD."""
    return tag(
        "div",
        [_plot(measured, name) for name in shown_metrics(measured, published)[:PLOTTED]],
        class_="plots",
    )


def _plot(measured: Measurement, name: str) -> Markup | str:
    rows = [
        (side, values[name]) for side, values in sides(measured) if finite(values.get(name, {}).get("mean"))
    ]
    if not rows:
        return ""
    spreads = [row["sd"] if finite(row.get("sd")) else 0.0 for _, row in rows]
    low = min(row["mean"] - spread for (_, row), spread in zip(rows, spreads, strict=True))
    high = max(row["mean"] + spread for (_, row), spread in zip(rows, spreads, strict=True))
    dots = [
        Dot(f"{side}: {tables.number(row['mean'])}", row["mean"], row["mean"] - spread, row["mean"] + spread,
            side == "method")
        for (side, row), spread in zip(rows, spreads, strict=True)
    ]  # fmt: skip
    said = "; ".join(f"{side} {tables.statistic({**row, 'n': None})}" for side, row in rows)
    return dot_plot(tables.metric_heading(name, measured.metrics[name]), f": {said}", dots, (low, high), width=330)
