"""Tables for the terminal: the rows of the review, and measured values beside published ones."""

import dataclasses
import io
import math
import re
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from medgan_jax.review.catalogue import Entry, ReportedValue

WIDE = 240
NONE = "–"


def show(table: Table) -> None:
    """Prints a table on standard output: as wide as the terminal, or as it needs where there is none."""
    if sys.stdout.isatty():
        Console(highlight=False).print(table)
        return
    console = Console(width=WIDE, highlight=False, file=io.StringIO())
    console.print(table)
    print("\n".join(line.rstrip() for line in console.file.getvalue().splitlines()))


def new_table(*headings: str) -> Table:
    """An empty table whose first column stays whole."""
    table = Table(box=None, header_style="bold")
    table.pad_edge, table.padding = False, (0, 2, 0, 0)
    for index, heading in enumerate(headings):
        table.add_column(Text(heading), overflow="fold", no_wrap=index == 0)
    return table


def add_row(table: Table, *cells: object) -> None:
    """A row of plain text: brackets are not markup."""
    table.add_row(*(Text(str(cell)) for cell in cells))


def listing(entries: Sequence[Entry]) -> Table:
    """Rows of the review: id, reference, table, whether implemented, module."""
    table = new_table("id", "ref", "table", "implemented", "module")
    for entry in entries:
        reference = NONE if entry.ref is None else f"[{entry.ref}]"
        number = NONE if entry.table is None else entry.table
        add_row(table, entry.id, reference, number, "yes" if entry.implemented else "no", entry.module)
    return table


def listing_facts(entry: Entry) -> dict:
    """A row of the review as plain values."""
    return {
        "id": entry.id,
        "name": entry.name,
        "ref": entry.ref,
        "table": entry.table,
        "application": entry.application,
        "implemented": entry.implemented,
        "module": entry.module,
    }


def data_sets(rows: Sequence) -> Table:
    """Rows of `data_sets.available`, the configurations of a set in one line."""
    table = new_table(
        "name", "configurations", "anatomy", "modality", "targets", "tables", "experiments", "by hand"
    )
    lines: dict[tuple, list] = {}
    for row in rows:
        lines.setdefault((row.name, row.anatomy, row.modality, row.manual), []).append(row)
    for (name, anatomy, modality, manual), forms in lines.items():
        columns = [
            dict.fromkeys(word for row in forms for word in words(row))
            for words in (lambda r: r.targets, lambda r: r.tables, lambda r: r.experiments)
        ]
        found = [", ".join(map(str, column)) or NONE for column in columns]
        configurations = ", ".join(row.configuration for row in forms) or NONE
        add_row(table, name, configurations, anatomy, modality, *found, manual or "nothing")
    return table


def review_data(rows: Sequence) -> Table:
    """Rows of `data_sets.review_sets`."""
    table = new_table("data set of the review", "tables", "status", "set", "stands in", "note")
    for row in rows:
        numbers, others = ", ".join(map(str, row.tables)) or NONE, ", ".join(row.stand_in) or NONE
        add_row(table, row.name, numbers, row.status, row.set or NONE, others, row.note)
    return table


def comparison(
    name: str,
    measured: Mapping[str, Mapping],
    baseline: Mapping[str, Mapping],
    twin: Mapping[str, Mapping],
    paper: Mapping[str, Sequence[Mapping]],
    *,
    baseline_name: str = "baseline",
    others: Mapping[str, Mapping[str, Mapping]] | None = None,
) -> Table:
    """The method beside its baseline, classical methods, its non-adversarial twin if evaluated, published values.

    measured, baseline, twin, and others by name: `{metric: {"mean", "sd", "n", "unit", "higher_is_better"}}`. paper:
    `{metric: [{"value", "std", "unit", "unit_inferred", "condition", ...}]}`. Metrics are matched by name, however
    spelled; the paper's NMSE stands beside `nmse_NAME`, NMSE as NAME's paper computes it, where there is one.
    """
    classical = (others or {}).items()
    beside = [(f"{baseline_name} (baseline)", baseline), *classical, ("non-adversarial twin", twin)]
    beside = [(heading, rows) for heading, rows in beside if rows]
    published = {published_key(metric, name, measured): values for metric, values in paper.items()}
    headings = ["metric", name, *(heading for heading, _ in beside)]
    table = new_table(*headings, *(["paper (other data)"] if published else []))
    for metric, values in measured.items():
        cells = [statistic(values), *(statistic(rows.get(metric, {})) for _, rows in beside)]
        cells += [published_words(published.pop(metric_key(metric), []))] if paper else []
        add_row(table, metric_heading(metric, values), *cells)
    for metric, values in published.items():
        add_row(table, metric, *[NONE] * (len(headings) - 1), published_words(values))
    return table


def reproduced(rows: Sequence) -> Table:
    """Rows of a reproduced table (`result_rows.Row`), their cells as lines of text."""
    from medgan_jax.review import result_rows

    table = new_table(*result_rows.COLUMNS)
    for row in rows:
        content = result_rows.cells(row)
        add_row(table, *("\n".join(content.get(name, [NONE])) for name in result_rows.COLUMNS))
    return table


def metric_key(name: str) -> str:
    """A metric's name without its spelling: `ROC-AUC` and `roc_auc` are one."""
    key = re.sub(r"[^a-z0-9]", "", name.lower())
    return {"rocauc": "auc", "dice": "dsc", "dicecoefficient": "dsc", "jaccard": "iou"}.get(key, key)


def published_key(metric: str, name: str, measured: Mapping[str, Mapping]) -> str:
    """The measured metric that a published one stands beside; the paper's own definition goes first."""
    as_in_paper = metric_key(f"{metric}_{name}")
    return as_in_paper if as_in_paper in map(metric_key, measured) else metric_key(metric)


def metric_heading(name: str, values: Mapping) -> str:
    """`PSNR [dB] ↑`."""
    unit = f" [{values['unit']}]" if values.get("unit") else ""
    direction = {True: " ↑", False: " ↓"}.get(values.get("higher_is_better"), "")
    return f"{name}{unit}{direction}"


def statistic(values: Mapping) -> str:
    """`31.42 ± 2.10 (n 20)`, or a dash where nothing was measured."""
    mean, spread = values.get("mean"), values.get("sd")
    if mean is None or not math.isfinite(mean):
        return NONE
    text = number(mean)
    if spread is not None and math.isfinite(spread):
        text += f" ± {number(spread)}"
    return text + (f" (n {values['n']})" if values.get("n") is not None else "")


def number(value: float) -> str:
    """Four significant digits, without an exponent where the size allows."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = 3 if value == 0 else max(0, 3 - math.floor(math.log10(abs(value))))
        return f"{value:.{min(digits, 4)}f}"
    return f"{value:.2e}"


def published_words(values: Sequence[Mapping]) -> str:
    """Published values with their conditions: `40.2 ± 4.07 dB (mask 30%)`."""
    known = {field.name for field in dataclasses.fields(ReportedValue)}
    facts = [{name: fact for name, fact in value.items() if name in known} for value in values]
    return "; ".join(ReportedValue(**each).in_words(with_dataset=False) for each in facts) or NONE
