"""Records of what each experiment learns from phantoms at its `small` preset, and whether that is enough.

    python -m medgan_jax.review.learning [ID ...] [--stale] [--list] [--check] [--workdir DIR]
    python -m medgan_jax.review.learning ID --config.NAME VALUE ...

trains the experiment and its twin, evaluates both, and writes `experiments/records/learning/ID.json`: the
values, those of the baseline, of the classical methods and of the twin, the bounds that the experiment
declares (`Experiment.learning`), seconds, hardware, command, and a fingerprint of code and configuration. A
record whose experiment has changed since is stale. Without ids: every experiment that is implemented. With
values of the configuration: an ablation of one experiment, without its twin, recorded in `ablations` beside.

The fingerprint covers the experiment's file and all that it names of models, losses, physics, phantoms,
inference, and the shared measures and schedules. Layers, metrics, data pipeline and training are no part of
it: tests hold those to references, so they may become faster without a new run of every experiment.
"""

import argparse
import contextlib
import json
import pathlib
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence

from medgan_jax import cli
from medgan_jax.errors import UserError
from medgan_jax.review import catalogue, code
from medgan_jax.review.records import ROOT, record, require_finished
from medgan_jax.training.workdir import write_json

RECORDS = ROOT / "experiments" / "records" / "learning"
# What may change without changing what a method is: held to references by tests, or the program around it.
NEUTRAL = ("arguments", "axes", "cli", "configuration", "data", "errors", "evaluation", "game", "metrics", "nn",
           "review", "training")  # fmt: skip
# Looked into for the phantoms that it draws, though its own code is no part.
PASSAGES = ("data",)
TOLERATED = {"missing": 1, "stale": 1, "fails": 1, "holds": 0}


def implemented() -> dict[str, str]:
    """Module of every implemented experiment by id."""
    return {entry.id: entry.module for entry in catalogue.entries() if entry.implemented}


def fingerprint(module: str, configuration: Mapping) -> str:
    """SHA-256 of an experiment's code, with what it uses, and of its configuration as plain values."""
    found = code.definitions(module, _enters)
    counted = sorted((place, name) for place, name in found if _counts(place))
    parts = [f"{place}.{name}\n{found[place, name]}" for place, name in counted]
    return code.digest([json.dumps(configuration, sort_keys=True), *parts])


def _within(place: str, packages: Iterable[str]) -> bool:
    return any(f"{place}.".startswith(f"{code.LIBRARY}.{package}.") for package in packages)


def _counts(place: str) -> bool:
    return not _within(place, NEUTRAL)


def _enters(place: str) -> bool:
    return _counts(place) or _within(place, PASSAGES)


def present_fingerprint(module: str, changes: Mapping | None = None) -> str:
    """The fingerprint that a record of the present code would carry. changes: of an ablation's configuration."""
    return fingerprint(module, small(module) | dict(changes or {}))


def small(module: str) -> dict:
    """The configuration of the `small` preset as plain values."""
    from medgan_jax.configuration import as_dict

    return json.loads(json.dumps(as_dict(cli.load(module).preset("small"))))


def state_of(identifier: str, module: str, folder: pathlib.Path | None = None) -> str:
    """'holds' or 'fails' for a record of the present experiment; 'stale', or 'missing'."""
    path = (folder or RECORDS) / f"{identifier}.json"
    if not path.is_file():
        return "missing"
    known = json.loads(path.read_text())
    if known["code"] != present_fingerprint(module, known.get("changes")):
        return "stale"
    return "holds" if known["holds"] else "fails"


def bounds(experiment, measured: Mapping, *, with_twin: bool = True) -> list[dict]:
    """Each declared bound with the value and the limit that were measured, and whether it holds.

    with_twin: False leaves out the bounds on the twin, for an ablation, which has none.
    """
    return [
        {
            "bound": bound.in_words(),
            "value": measured["metrics"][bound.metric]["mean"],
            "limit": bound.limit(measured),
            "holds": bound.holds(measured),
        }
        for bound in experiment.learning
        if bound.other != "twin" or with_twin
    ]


def learn(identifier: str, module: str, workdir: pathlib.Path, options: Sequence[str] = ()) -> dict:
    """Trains and evaluates at `small`, the twin first where there is one; the record.

    options: `--config.NAME VALUE ...` of an ablation, which has no twin.
    """
    method = cli.load(module)
    config = method.preset("small")
    if not method.factory(config).learning:
        raise UserError(f"{identifier} declares no bounds: give its Experiment some `learning`")
    began, code_before = time.perf_counter(), present_fingerprint(module)
    place = ["--workdir", str(workdir)]
    if config.twin() is not None and not options:
        _command("train", module, "--preset", "small", "--twin", *place)
        require_finished(workdir / "twin")
        _command("evaluate", module, "--workdir", str(workdir / "twin"), "--alone")
    _command("train", module, "--preset", "small", *place, *options)
    require_finished(workdir)
    _command("evaluate", module, *place)
    measured = record(workdir)
    held = bounds(method.factory(config), measured, with_twin=not options)
    learned = {
        **measured,
        "bounds": held,
        "holds": all(each["holds"] for each in held),
        "seconds": round(time.perf_counter() - began, 1),
        "command": " ".join(["python -m medgan_jax.review.learning", identifier, *options]),
        "code": code_before,
    }
    if options:
        preset, values = small(module), measured["configuration"]["config"]
        learned["changes"] = {name: values[name] for name in values if values[name] != preset[name]}
        learned["code"] = present_fingerprint(module, learned["changes"])
    return learned


def _ablation(identifier: str, options: Sequence[str]) -> str:
    """Name of the record of an ablation: `ablations/vgan_retina-discriminator_pixel`."""
    words = "_".join(re.sub(r"[^\w.-]+", "_", word.removeprefix("--config.")) for word in options)
    return f"ablations/{identifier}-{words}"


def _command(*arguments: str) -> None:
    if status := cli.main(arguments):
        raise UserError(f"'{' '.join(arguments)}' ended with status {status}")


def in_words(known: Mapping) -> str:
    """One line a bound."""
    lines = [f"{known['experiment']}: {'holds' if known['holds'] else 'FAILS'} ({known['seconds']:.0f} s)"]
    for each in known["bounds"]:
        value, limit = ("-" if number is None else f"{number:.4g}" for number in (each["value"], each["limit"]))
        lines.append(f"  {'ok ' if each['holds'] else 'NOT'} {each['bound']}: {value} (limit {limit})")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Runs experiments and writes their records; 0 if all hold their bounds, 1 if not, 2 for a mistake."""
    parser = argparse.ArgumentParser(prog="python -m medgan_jax.review.learning", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("id", nargs="*", help="experiments to run; all without any")
    parser.add_argument("--list", action="store_true", help="the state of every record, and run nothing")
    parser.add_argument("--check", action="store_true", help="like --list, and fail unless all of them hold")
    parser.add_argument("--stale", action="store_true", help="only those whose record is missing or stale")
    parser.add_argument("--workdir", type=pathlib.Path, help="keep the runs in DIR/ID, and resume them there")
    options, changes = parser.parse_known_args(arguments)
    try:
        if wrong := [word for word in changes[::2] if not word.startswith("--config.")]:
            raise UserError(f"{wrong[0]} is unknown; an ablation's values are given as --config.NAME VALUE")
        return _run(options, changes)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace, changes: Sequence[str] = ()) -> int:
    known = implemented()
    if unknown := [each for each in options.id if each not in known]:
        raise UserError(f"{unknown[0]!r} is no implemented experiment; there are {', '.join(known)}")
    chosen = {each: known[each] for each in options.id or known}
    if changes and len(chosen) != 1:
        raise UserError(f"{' '.join(changes)} needs one experiment, whose ablation it is")
    if options.list or options.check or options.stale:
        states = {each: state_of(each, module) for each, module in chosen.items()}
        chosen = {each: chosen[each] for each in chosen if states[each] in ("missing", "stale")}
    if options.list or options.check:
        for each, state in states.items():
            print(f"{each:<32} {state}")
        return max(TOLERATED[state] for state in states.values()) if options.check else 0
    verdicts = []
    for each, module in chosen.items():
        with contextlib.ExitStack() as stack:
            root = options.workdir or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            learned = learn(each, module, root / each, changes)
        path = RECORDS / f"{_ablation(each, changes) if changes else each}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, learned)
        print(in_words(learned), flush=True)
        verdicts.append(learned["holds"])
    return 0 if all(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
