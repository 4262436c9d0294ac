"""The command `reproduce real`: runs what is not done, writes records, figures and the page."""

import contextlib
import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Literal

from medgan_jax.arguments import parse, require_counts
from medgan_jax.errors import UserError
from medgan_jax.review.real import figures, recorded, results
from medgan_jax.review.real.plans import PLANS, Plan, chosen
from medgan_jax.review.runs import play_all
from medgan_jax.training.writers import writing

PROGRAM = "python -m medgan_jax reproduce real"
PAGE = recorded.ROOT / "experiments" / "RESULTS.md"


@dataclasses.dataclass(frozen=True)
class RealArguments:
    """Options of `reproduce real`.

    sets: folder that holds the real sets, each in its own. only: ids of the plans to run, all without any.
    preset: tiny (tests), small (a two-core CPU) or paper (full size). seeds: number of seeds; seed: the
    first. workdir: folder of the runs, which are read where they are there. output: folder of the figures;
    empty for `figures` in the work directory. records: folder of the records; empty for that of the project,
    whose page of results is then written, too. jobs: runs at a time; 0 for one on each GPU. check: name stale
    and missing records, run nothing, and fail if there are any. json: print JSON and nothing else on standard
    output.
    """

    sets: str = ""
    only: tuple[str, ...] = ()
    preset: Literal["tiny", "small", "paper"] = "small"
    seeds: int = 3
    seed: int = 0
    workdir: str = "runs/real"
    output: str = ""
    records: str = ""
    jobs: int = 0
    check: bool = False
    json: bool = False

    def __post_init__(self):
        require_counts(self)


def command(argv: list[str]) -> None:
    """Parses the options of `reproduce real` and does it."""
    description = "Runs methods on real images, and writes records, figures and experiments/RESULTS.md."
    arguments = parse(RealArguments(), argv, program=PROGRAM, description=description)
    plans = chosen(arguments.only)
    folder = pathlib.Path(arguments.records) if arguments.records else recorded.RECORDS
    if arguments.check:
        check(plans, folder, as_json=arguments.json)
        return
    if not arguments.sets:
        raise UserError("reproduce real needs --sets FOLDER, which holds the real sets")
    with contextlib.redirect_stdout(sys.stderr) if arguments.json else contextlib.nullcontext():
        failures = reproduce(arguments, plans, folder)
        path = write_page(folder)
    states = recorded.states(plans, folder)
    if arguments.json:
        print(json.dumps({"records": states, "failures": failures, "page": str(path)}, indent=2))
    else:
        for plan in plans:
            entry = recorded.read(plan, folder)
            print(f"{plan.id}: {results.shows(entry) if entry else 'no record'}")
        print(f"records in {folder}; the page is {path}")
    if failures:
        lines = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        raise UserError(f"{len(failures)} of {len(plans)} methods have no whole record: {lines}")


def check(plans: Sequence[Plan], folder: pathlib.Path, *, as_json: bool) -> None:
    """Prints the state of every record; UserError unless all are fresh. The page is marked, too."""
    states = recorded.states(plans, folder)
    write_page(folder)
    print(
        json.dumps(states, indent=2)
        if as_json
        else "\n".join(f"{name:<32} {state}" for name, state in states.items())
    )
    if wrong := [name for name, state in states.items() if state != "fresh"]:
        raise UserError(f"{len(wrong)} of {len(states)} records are stale or missing: {', '.join(wrong)}")


def reproduce(arguments: RealArguments, plans: Sequence[Plan], folder: pathlib.Path) -> dict[str, str]:
    """Runs, records and figures of the plans; returns the reason by plan where a run failed."""
    root = pathlib.Path(arguments.workdir)
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    failures, places = {}, {}
    for plan in plans:
        try:
            source = recorded.opened(plan, pathlib.Path(arguments.sets), arguments.preset, root)
            if plan.pretrained:
                first = [recorded.pretraining(plan, arguments.preset, seed, root) for seed in seeds]
                require_all(play_all(first, jobs=arguments.jobs))
            own = [recorded.run_of(plan, arguments.preset, seed, root, source.absolute()) for seed in seeds]
            done = require_all(play_all(own, jobs=arguments.jobs))
            recorded.save(recorded.record(plan, done, arguments.preset, source), folder)
            places[plan.id] = own[0].place
        except UserError as error:
            # One method that fails does not keep the others from being measured.
            failures[plan.id] = str(error)
    output = pathlib.Path(arguments.output) if arguments.output else root / "figures"
    figures.write(places, output)
    figures.publish({plan.id: plan.set for plan in plans if plan.id in places}, output, folder)
    return failures


def require_all(done: dict) -> list[tuple]:
    """Runs with their results; UserError with the reason of the first that failed."""
    for run, result in done.items():
        if result is None:
            raise UserError(f"seed {run.seed}: {run.failure() or 'it did not finish'}")
    return list(done.items())


def write_page(folder: pathlib.Path) -> pathlib.Path:
    """The page of all records of a folder: that of the project, or `RESULTS.md` among others' records."""
    path = PAGE if folder == recorded.RECORDS else folder / "RESULTS.md"
    entries = {plan.id: entry for plan in PLANS if (entry := recorded.read(plan, folder)) is not None}
    states = {plan.id: recorded.state(plan, entries.get(plan.id)) for plan in PLANS}
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shown = {name for name in entries if (folder / f"{name}.png").is_file()}
        pictures = {name: f"{os.path.relpath(folder, path.parent)}/{name}.png" for name in shown}
        path.write_text(results.page(PLANS, entries, states, pictures))
    return path
