"""Records of measured runs, and the README's table made from them.

    python -m medgan_jax.review.records WORKDIR [WORKDIR ...]

copies what `evaluate` wrote in each work directory, with the configuration, command and device of its manifest, to
`experiments/records/`, and writes the table between the README's two `measured` marks anew. No number in that table
is typed by hand.
"""

import argparse
import contextlib
import json
import pathlib
import sys

from medgan_jax.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECORDS = ROOT / "experiments" / "records"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
SHOWN = 4
HARDWARE = ("platform", "kind", "count", "processor", "cores")


def read_json(path: pathlib.Path) -> dict:
    """A JSON file of a work directory; UserError where it is missing or broken."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); evaluate the run first") from error


def require_finished(workdir: pathlib.Path) -> None:
    """UserError unless the run was trained to its end: one that SIGTERM stopped can be evaluated, too."""
    from medgan_jax.training.checkpoints import Checkpoints
    from medgan_jax.training.loop import SCHEMA

    with contextlib.closing(Checkpoints(workdir / "checkpoints", schema=SCHEMA, warn=lambda line: None)) as kept:
        metadata = kept.metadata("last")
    if metadata is None or not metadata["finished"]:
        raise UserError(f"the training in {workdir} was stopped before its end; the same command goes on with it")


def record(workdir: pathlib.Path) -> dict:
    """What one evaluated run says of itself."""
    evaluation, manifest = read_json(workdir / "evaluation.json"), read_json(workdir / "manifest.json")
    device = manifest["device"]
    return {
        **evaluation,
        "configuration": manifest["configuration"],
        "hardware": {name: device[name] for name in HARDWARE if name in device},
        "commit": (manifest.get("git") or {}).get("commit"),
    }


def save(workdir: pathlib.Path, folder: pathlib.Path = RECORDS) -> pathlib.Path:
    """Stores the record of a run, named by experiment, data and seed."""
    entry = record(workdir)
    source = entry["data"]["source"].replace(":", "_").replace("/", "_")
    path = folder / f"{entry['experiment']}-{source}-seed{entry['seed']}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entry, indent=1) + "\n")
    return path


def value(row: dict | None) -> str:
    """`mean ± SD`, or a dash."""
    if row is None or row["mean"] is None:
        return "-"
    spread = "" if row["sd"] is None else f" ± {row['sd']:.3g}"
    return f"{row['mean']:.4g}{spread}"


def line(entry: dict) -> list[str]:
    """One line of the table for each of the first metrics of a record."""
    rows = []
    for name in list(entry["metrics"])[:SHOWN]:
        unit = entry["metrics"][name]["unit"]
        twin = (entry["twin"] or {"metrics": {}})["metrics"].get(name)
        cells = [
            f"`{entry['experiment']}`",
            entry["data"]["source"],
            f"{name}{f' ({unit})' if unit else ''}",
            value(entry["metrics"][name]),
            value((entry["baseline"] or {}).get(name)),
            value(twin),
            str(entry["data"]["n"]),
            f"{entry['step']} / {entry['train_seconds']:.0f} s",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def table(folder: pathlib.Path = RECORDS) -> str:
    """All records as one Markdown table."""
    head = ["experiment", "data", "metric", "method", "baseline", "twin", "test cases", "steps / training time"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for path in sorted(folder.glob("*.json")):
        lines += line(json.loads(path.read_text()))
    return "\n".join(lines)


def with_table(text: str, content: str) -> str:
    """A document with the part between the marks replaced."""
    if BEGIN not in text or END not in text:
        raise UserError(f"the README lacks the marks {BEGIN} and {END}")
    before, rest = text.split(BEGIN, 1)
    return f"{before}{BEGIN}\n{content}\n{END}{rest.split(END, 1)[1]}"


def main(arguments: list[str] | None = None) -> int:
    """Stores records and rewrites the README's table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", nargs="*", type=pathlib.Path)
    try:
        for workdir in parser.parse_args(arguments).workdir:
            print(save(workdir))
        readme = ROOT / "README.md"
        readme.write_text(with_table(readme.read_text(), table()))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
