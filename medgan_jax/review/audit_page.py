"""The answers of an audit as one HTML page that needs nothing else."""

import base64
import html
import pathlib
from collections.abc import Mapping, Sequence

from medgan_jax.review.tables import NONE, number

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .3rem .8rem; text-align: left; border-bottom: 1px solid #8886; }
td:not(:first-child) { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; image-rendering: pixelated; }
.undefined { border-left: 4px solid #b35c00; padding-left: 1rem; }
"""

QUESTIONS = {
    "intensity": "Are the intensities right, tissue by tissue?",
    "consistency": "Does the image agree with what was measured?",
    "lesions": "Are small lesions kept?",
    "uncertainty": "Does the spread tell where the errors are?",
    "attribution": "What does the output hang on?",
}


def page(audit: Mapping, picture: pathlib.Path | None = None) -> str:
    """The page in HTML. audit: of `audit.audit`; picture: a PNG of test cases to show first."""
    title = f"Audit of {audit['experiment']}"
    head = f"{audit['cases']} test cases of {audit['data']}; ensemble of {audit['ensemble']}"
    parts = [f"<h1>{html.escape(title)}</h1>", f"<p>{html.escape(head)}</p>"]
    if picture is not None and picture.is_file():
        source = base64.b64encode(picture.read_bytes()).decode()
        parts.append(f'<img alt="Test cases, one a row" src="data:image/png;base64,{source}">')
    parts.append(sections(audit))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def sections(audit: Mapping) -> str:
    """The answers in HTML, each under its question."""
    return "".join(
        f'<section><h2 id="{name}">{question}</h2>{_answer(name, audit["answers"][name])}</section>'
        for name, question in QUESTIONS.items()
    )


def _answer(name: str, answer: Mapping) -> str:
    if "undefined" in answer:
        return f'<p class="undefined">n/a: {html.escape(answer["undefined"])}.</p>'
    return {"intensity": _intensity, "consistency": _consistency, "lesions": _lesions}.get(name, _values)(answer)


def _table(head: Sequence[str], rows: Sequence[Sequence]) -> str:
    def cells(row, tag):
        return "".join(f"<{tag}>{html.escape(_text(cell))}</{tag}>" for cell in row)

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<table><thead><tr>{cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def _text(cell) -> str:
    if cell is None:
        return NONE
    return cell if isinstance(cell, str) else number(cell) if isinstance(cell, float) else str(cell)


def _intensity(answer: Mapping) -> str:
    rows = [(each["name"], each["reference"], each["bias"], each["sd"], each["pixels"]) for each in answer["tissues"]]
    facts = [(f"{name}", answer[name]) for name in ("slope", "intercept", "wasserstein")]
    unit = f"<p>Values are in {html.escape(answer['unit'])}.</p>"
    return unit + _table(("tissue", "reference", "bias", "SD", "pixels"), rows) + _table(("", "value"), facts)


def _consistency(answer: Mapping) -> str:
    rows = [(name, row["mean"], row["sd"]) for name, row in answer["residual"].items()]
    return _table(("", "residual", "SD over cases"), rows)


def _lesions(answer: Mapping) -> str:
    rows = [
        (name, each["cnr"], each["recovery"], each["recovery_sd"], each["auc"], each["local"])
        for name, found in answer["rows"].items()
        for each in found
    ]
    said = "" if answer["controls_hold"] else (
        '<p class="undefined">The matched filter does not find the strongest lesion in the input itself: '
        "the numbers say little.</p>"
    )  # fmt: skip
    return said + _table(("", "contrast / noise", "height kept", "SD", "AUC", "change nearby"), rows)


def _values(answer: Mapping) -> str:
    return _table(("", "value"), [(name.replace("_", " "), value) for name, value in answer.items()])
