"""Where a benchmark's figures go: a JSON file beside it, and a table between two marks of the README.

    PYTHONPATH=. python tests/benchmarks/metrics_against_scikit_image.py --publish

No number in such a table is typed by hand.
"""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECORDS = pathlib.Path(__file__).resolve().parent / "records"


def machine(packages: tuple[str, ...]) -> dict:
    """Processor, cores, day, and versions of the packages that were timed ('-' for an absent one)."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "-"
    return {
        "processor": model or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "day": datetime.date.today().isoformat(),
        "versions": versions,
    }


def table(record: dict) -> str:
    """A record as Markdown: its rows, and a line on the machine."""
    names = list(record["rows"][0])
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(str(row[name]) for name in names) + " |" for row in record["rows"]]
    about = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return "\n".join(
        [*lines, "", f"{about['processor']}, {about['cores']} cores, {about['day']}; {versions}."]
    )


def with_table(text: str, name: str, content: str) -> str:
    """A document with the part between the marks `<!-- NAME: begin -->` and `end` replaced."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if begin not in text or end not in text:
        raise SystemExit(f"the document lacks the marks {begin} and {end}")
    before, rest = text.split(begin, 1)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end, 1)[1]}"


def publish(name: str, rows: list[dict], packages: tuple[str, ...], **measured) -> None:
    """Stores the rows, with what they were made of, and writes the README's table of that name anew."""
    record = {"rows": rows, "machine": machine(packages), **measured}
    RECORDS.mkdir(exist_ok=True)
    (RECORDS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(), name, table(record)))
