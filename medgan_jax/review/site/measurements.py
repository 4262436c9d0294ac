"""Measured values, from the JSON that `reproduce`, `evaluate` and the records of learning write; nothing is
computed.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medgan_jax.errors import UserError
from medgan_jax.review import records
from medgan_jax.review.result_rows import MEASURED, device
from medgan_jax.review.site import studies

TABLE, LEARNING, STORED, RUN = "reproduced table", "learning record", "stored record", "evaluated run"
PICTURE = "comparison.png"
PNG = b"\x89PNG\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One set of measured values of an experiment, and where they come from.

    kind: what wrote the file `origin`. metrics, baseline, twin and each of others: `{metric: {"mean", "sd",
    "n", "unit", "higher_is_better"}}`, SD over seeds or cases. pictures: PNG files of test cases. bounds:
    what a learning run had to show. failures: reasons of the seeds that failed.
    """

    id: str
    kind: str
    origin: str
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, Mapping] = dataclasses.field(default_factory=dict)
    baseline: Mapping[str, Mapping] = dataclasses.field(default_factory=dict)
    baseline_name: str | None = None
    others: Mapping[str, Mapping[str, Mapping]] = dataclasses.field(default_factory=dict)
    twin: Mapping[str, Mapping] = dataclasses.field(default_factory=dict)
    preset: str | None = None
    seeds: tuple[int, ...] = ()
    steps: int | None = None
    seconds: float | None = None
    device: str | None = None
    failures: Mapping[str, str] = dataclasses.field(default_factory=dict)
    health: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    bounds: tuple[Mapping, ...] = ()
    command: str | None = None
    commit: str | None = None
    code: str | None = None
    pictures: tuple[pathlib.Path, ...] = ()

    @property
    def over(self) -> str:
        """What the SD is over."""
        return next((row["over"] for row in self.metrics.values() if "over" in row), "cases")


def all_measurements(
    folders: Sequence[pathlib.Path], stored: pathlib.Path = records.RECORDS
) -> list[Measurement]:
    """The values of result folders, then those of the committed records, without repetitions.

    A result folder holds tables of `reproduce` (or is its work directory), or is the work directory of an
    evaluated run, or holds some, or has a benchmark or an audit. UserError for one that holds none of these, and
    for a file that is broken.
    """
    found: list[Measurement] = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"--results {folder} is no folder")
        of_folder = [*_tables(folder), *_runs(folder)]
        if not of_folder and not studies.benchmarks([folder]) and not studies.audits([folder]):
            raise UserError(f"--results {folder} holds neither tables of `reproduce` nor evaluated runs")
        found += of_folder
    for path in sorted((stored / "learning").glob("*.json")):
        found.append(_recorded(_json(path), LEARNING, f"learning/{path.name}"))
    for path in sorted(stored.glob("*.json")):
        found.append(_recorded(_json(path), STORED, path.name))
    return _without_repetitions(found)


def _without_repetitions(found: Iterable[Measurement]) -> list[Measurement]:
    """The same run can stand in several tables."""
    kept: dict[str, Measurement] = {}
    for each in found:
        plain = {**dataclasses.asdict(each), "origin": "", "pictures": []}
        kept.setdefault(json.dumps(plain, sort_keys=True, default=str), each)
    return list(kept.values())


def _json(path: pathlib.Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); delete it or make it again") from error


def _tables(folder: pathlib.Path) -> list[Measurement]:
    """Rows that were tried, of every table in a folder or in its `tables`."""
    found = []
    for place in (folder, folder / "tables"):
        for path in sorted(place.glob("*.json")):
            content = _json(path)
            if isinstance(content, dict) and isinstance(content.get("rows"), list):
                tried = [row for row in content["rows"] if row["state"] == MEASURED or row["failures"]]
                found += [_row(row, path.name, (place, place.parent)) for row in tried]
    return found


def _row(row: Mapping, origin: str, roots: Sequence[pathlib.Path]) -> Measurement:
    same = {field.name for field in dataclasses.fields(Measurement)} & set(row)
    seeds, run = tuple(row["seeds"]), f"{row['preset']}/{row['id']}/{row['code']}"
    places = [root / run / f"seed_{seed}" for root in roots for seed in seeds]
    facts = {name: row[name] for name in same} | {"seeds": seeds, "metrics": row["measured"]}
    return Measurement(**facts, kind=TABLE, origin=origin, pictures=_pictures(places)[:1])


def _runs(folder: pathlib.Path) -> list[Measurement]:
    """The folder itself, or what is in it, as work directories of evaluated runs."""
    found = []
    for place in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if (place / "evaluation.json").is_file() and (place / "manifest.json").is_file():
            recorded = _recorded(records.record(place), RUN, place.name)
            found.append(dataclasses.replace(recorded, pictures=_pictures([place])))
    return found


def _pictures(places: Sequence[pathlib.Path]) -> tuple[pathlib.Path, ...]:
    """The pictures of test cases that are there and are PNG files."""
    paths = [place / PICTURE for place in places]
    return tuple(path for path in paths if path.is_file() and path.read_bytes()[: len(PNG)] == PNG)


def _recorded(record: Mapping, kind: str, origin: str) -> Measurement:
    """What one evaluated run says of itself; `records.record` made it."""
    seed = record["seed"]
    return Measurement(
        id=record["experiment"],
        kind=kind,
        origin=origin,
        data=record["data"],
        metrics=record["metrics"],
        baseline=record.get("baseline") or {},
        baseline_name=record.get("baseline_name"),
        others=record.get("others") or {},
        twin=(record.get("twin") or {}).get("metrics", {}),
        preset="small" if kind == LEARNING else None,
        seeds=tuple(seed) if isinstance(seed, list) else (seed,),
        steps=record["step"],
        seconds=record.get("train_seconds"),
        device=device(record["hardware"]),
        bounds=tuple(record.get("bounds", ())),
        command=record.get("command"),
        commit=record.get("commit"),
        code=record.get("code"),
    )


def by_experiment(found: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    """Measurements by experiment, in their order."""
    grouped: dict[str, list[Measurement]] = {}
    for each in found:
        grouped.setdefault(each.id, []).append(each)
    return grouped
