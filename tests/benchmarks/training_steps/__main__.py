"""Training steps of whole games in this library and in PyTorch, side by side; run from the repository's root:

    python -m tests.benchmarks.training_steps [--games NAME ...] [--repeats N] [--output DIR] [--stored] [--readme]

Each side is a process of its own, kept alive and told over a pipe to play its next steps, so that neither
compiles or starts anew for a repeat. They take turns, ours first and theirs first by turns; whoever does not
play is stopped by the system, so that no thread of its pool can wake up and spin. Both have the same
processors. A turn is one step that is not counted and then about `--seconds` of steps. PyTorch takes its turns
in both memory formats, and the faster one counts. Loading of data is not part of a step: both read one batch again
and again. Weights are copied over and outputs compared before a row is printed.

`--jax-only` measures this library alone, against what an earlier whole run has stored of PyTorch in
`--output`; `--profile` prints the operations of our steps by their time instead. On a GPU, PyTorch's networks
go through `torch.compile`, and both precisions are measured.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from tests.benchmarks.training_steps import games, table

ROOT = pathlib.Path(__file__).resolve().parents[3]
PACKAGE = "tests.benchmarks.training_steps"
LAYOUTS = ("contiguous", "channels_last")
DEVICES_FLAG = "--xla_force_host_platform_device_count"
TOLERANCE = 1e-4


class Process:
    """One side, stopped by the system whenever it is not its turn."""

    def __init__(self, side: str, *options: str):
        flags = os.environ.get("XLA_FLAGS", "").split()
        environment = {
            **os.environ,
            "JAX_ENABLE_COMPILATION_CACHE": "false",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "XLA_FLAGS": " ".join(flag for flag in flags if not flag.startswith(DEVICES_FLAG)),
        }
        command = [sys.executable, "-m", f"{PACKAGE}.{side}", *options]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, what: str, **arguments) -> dict:
        """The answer to one command; the process runs only while it works on it."""
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{' '.join(self.process.args)} ended in the middle of {what!r}")
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(answer)

    def end(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def running(side: str, *options: str):
    process = Process(side, *options)
    try:
        yield process
    finally:
        process.end()


def note(text: str) -> None:
    """What has been found on the way, on standard error: the table is on standard output."""
    print(f"  [{text}]", file=sys.stderr, flush=True)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    names = [game.name for game in games.GAMES]
    parser.add_argument("--games", nargs="+", choices=names, default=names, metavar="NAME",
                        help=", ".join(names))
    parser.add_argument("--repeats", type=int, default=7, help="turns of each side")
    parser.add_argument("--seconds", type=float, default=1.0, help="least time of a turn")
    parser.add_argument("--threads", type=int, default=2, help="processors that both sides have")
    parser.add_argument("--precision", nargs="+", choices=("float32", "bfloat16"),
                        help="float32 on a CPU, both on a GPU")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=LAYOUTS,
                        help="PyTorch's memory formats to choose the faster one from")
    parser.add_argument("--output", type=pathlib.Path, help="folder for steps.json and steps.md")
    parser.add_argument("--jax-only", action="store_true", help="this library alone")
    parser.add_argument("--plain", action=argparse.BooleanOptionalAction,
                        help="plain layers too: compile time and memory; and ours without Winograd's products, "
                             "as `direct`; by default not with --jax-only")
    parser.add_argument("--profile", action="store_true", help="operations of our steps by their time")
    parser.add_argument("--readme", action="store_true",
                        help="write the table into README.md and its figures into tests/benchmarks/records")
    parser.add_argument("--stored", action="store_true",
                        help="measure nothing: the table of what an earlier run has stored in --output")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to test the command")
    options = parser.parse_args(arguments)
    if not options.jax_only and importlib.util.find_spec("torch") is None:
        parser.error("PyTorch is not installed: pip install '.[benchmark]', or give --jax-only")
    options.plain = not options.jax_only if options.plain is None else options.plain
    return options


def machine(options: argparse.Namespace) -> dict:
    """Where this runs."""
    model = platform.processor()
    with contextlib.suppress(OSError, StopIteration):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line for line in lines if line.startswith("model name")).split(":")[1].strip()
    return {"processor": model, "processors": options.threads, "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(), "date": time.strftime("%Y-%m-%d")}


def side_options(options: argparse.Namespace, game: games.Game, precision: str) -> list[str]:
    common = ["--game", game.name, "--threads", str(options.threads), "--precision", precision]
    return [*common, "--tiny"] if options.tiny else common


def start_of(process: Process) -> dict:
    """The first step's answer under the names of the table."""
    said = process.ask("first")
    note(f"{' '.join(process.process.args[2:5])}: first step after {said['seconds']:.1f} s, "
         f"{said['processor_seconds']:.1f} s of processors")
    return {**said, "first": said.pop("seconds")}


def count_for(process: Process, least: float) -> int:
    """Steps that take at least this many seconds."""
    return max(1, round(least / process.ask("steps", count=1)["seconds"]))


def take_turns(sides: dict[str, Process], repeats: int, least: float) -> dict[str, list[float]]:
    """Seconds per step of every side, for every turn."""
    counts = {name: count_for(process, least) for name, process in sides.items()}
    note(f"steps in a turn: {counts}")
    seconds = {name: [] for name in sides}
    for turn in range(repeats):
        order = list(sides) if turn % 2 == 0 else list(sides)[::-1]
        for name in order:
            seconds[name].append(sides[name].ask("steps", count=counts[name])["seconds"])
    return seconds


def compare_outputs(ours: Process, theirs: Process) -> dict[str, float]:
    """Copies our weights over and compares what the networks make; ends where they differ."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "check.npz")
        ours.ask("write_check", path=path)
        differences = theirs.ask("check", path=path)["differences"]
    if max(differences.values()) > TOLERANCE:
        raise SystemExit(f"with equal weights the outputs differ: {differences}")
    return differences


def plain_layers(common: list[str]) -> dict:
    """Compile time and memory of the same step with plain layers."""
    with running("jax_side", *common, "--layers", "plain") as process:
        said = start_of(process)
        return {**said, **process.ask("memory", count=1)}


def measure(game: games.Game, options: argparse.Namespace, precision: str, stored: dict) -> dict:
    """One row of the table."""
    common = side_options(options, game, precision)
    title = game.title if precision == "float32" else f"{game.title}, {precision}"
    row = {"name": game.name, "title": title, "precision": precision}
    with contextlib.ExitStack() as stack:
        start = lambda side, *more: stack.enter_context(running(side, *common, *more))  # noqa: E731
        sides = {"ours": start("jax_side")}
        if options.plain:
            sides["direct"] = start("jax_side", "--layers", "direct")
        layouts = () if options.jax_only else options.layouts
        sides |= {layout: start("torch_side", "--layout", layout) for layout in layouts}
        found = {name: start_of(process) for name, process in sides.items()}
        for name, seconds in take_turns(sides, options.repeats, options.seconds).items():
            found[name]["seconds"] = seconds
        if layouts:
            medians = {layout: statistics.median(found[layout]["seconds"]) for layout in layouts}
            faster = min(medians, key=medians.get)
            found["theirs"] = {**found[faster], "variant": faster, "medians": medians}
            sides["theirs"] = sides[faster]
        row |= {name: found[name] for name in ("ours", "direct", "theirs") if name in found}
        for name in row.keys() & sides.keys():
            row[name].update(sides[name].ask("memory", count=2))
        row["matrix"] = {name: sides[name].ask("rate", size=128 if options.tiny else 3072, repeats=8)
                         for name in ("ours", "theirs") if name in sides}
        if options.jax_only:
            row |= {name: stored[name] for name in ("theirs", "gflop") if name in stored}
        else:
            row["gflop"] = sides["theirs"].ask("operations")["gflop"]
            require_equal_sizes(row)
        if not options.jax_only and precision == "float32":
            row["differences"] = compare_outputs(sides["ours"], sides["theirs"])
    if options.plain:
        row["plain"] = plain_layers(common)
    else:
        row |= {name: stored[name] for name in ("plain", "direct") if name in stored}
    if "theirs" in row:
        row["ratio"] = ratio_of(row, "ours")
        if "direct" in row:
            row["direct"]["ratio"] = ratio_of(row, "direct")
    return row


def require_equal_sizes(row: dict) -> None:
    """Ends where a network of one side has other parameters than that of the other side."""
    for name, count in row["theirs"]["parameters"].items():
        if row["ours"]["parameters"][name] != count:
            raise SystemExit(f"{row['name']}: {name} has {count} parameters in PyTorch, "
                             f"{row['ours']['parameters'][name]} here")


def ratio_of(row: dict, side: str) -> dict:
    """Pairs of turns, where both were measured together; else as many as there are of both."""
    pairs = list(zip(row[side]["seconds"], row["theirs"]["seconds"], strict=False))
    return table.ratio(*zip(*pairs, strict=True))


def profile(game: games.Game, options: argparse.Namespace) -> None:
    """Prints the operations of our step, and keeps the trace in the output folder."""
    folder = (options.output or pathlib.Path(tempfile.mkdtemp())) / f"trace_{game.name}"
    shutil.rmtree(folder, ignore_errors=True)
    with running("jax_side", *side_options(options, game, "float32")) as process:
        process.ask("first")
        found = process.ask("trace", folder=str(folder.resolve()))["milliseconds"]
    print(f"{game.title}: milliseconds per step, summed over threads; trace in {folder}")
    for name, milliseconds in found.items():
        print(f"{milliseconds:10.2f}  {name}", flush=True)


def store(options: argparse.Namespace, found: dict, rows: list[dict], known: list[dict]) -> None:
    """All rows so far as JSON and as a table; earlier rows of other games stay in the JSON."""
    if not options.output:
        return
    options.output.mkdir(parents=True, exist_ok=True)
    name = "steps_jax_only" if options.jax_only else "steps"
    new = {(row["name"], row["precision"]) for row in rows}
    kept = [] if options.jax_only else [row for row in known if (row["name"], row["precision"]) not in new]
    text = json.dumps({"machine": found, "rows": rows, "earlier": kept}, indent=1)
    (options.output / f"{name}.json").write_text(text + "\n")
    (options.output / f"{name}.md").write_text(table.markdown(rows) + "\n")


def stored_rows(options: argparse.Namespace) -> list[dict]:
    """Rows of earlier whole runs in the output folder."""
    path = options.output / "steps.json" if options.output else None
    if not path or not path.exists():
        return []
    stored = json.loads(path.read_text())
    order = [game.name for game in games.GAMES]
    return sorted(stored["rows"] + stored["earlier"], key=lambda row: order.index(row["name"]))


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and stores; returns the exit status."""
    options = parse(arguments)
    chosen = [game for game in games.GAMES if game.name in options.games]
    if options.profile:
        for game in chosen:
            profile(game, options)
        return 0
    known = stored_rows(options)
    if options.stored:
        if not known:
            raise SystemExit(f"--stored: nothing is stored in --output {options.output}")
        return show(options, json.loads((options.output / "steps.json").read_text())["machine"], known)
    found, rows = machine(options), []
    print(json.dumps(found), *table.head(), sep="\n", flush=True)
    for precision in options.precision or ("float32", "bfloat16"):
        if not options.precision and precision == "bfloat16" and rows[0]["ours"]["platform"] == "cpu":
            break
        for game in chosen:
            same = (row for row in known if (row["name"], row["precision"]) == (game.name, precision))
            rows.append(measure(game, options, precision, next(same, {})))
            print(table.line(table.cells(rows[-1])), flush=True)
            store(options, found, rows, known)
    return show(options, found, rows)


def show(options: argparse.Namespace, found: dict, rows: list[dict]) -> int:
    """Prints the table with its machine; with --readme, it and its figures go to where readers look."""
    text = table.document(found, rows)
    print(text)
    if options.readme:
        readme = ROOT / "README.md"
        written = table.with_table(readme.read_text(), text)
        if any("direct" in row for row in rows):
            written = table.with_table(written, table.of_winograd(rows), "winograd")
        readme.write_text(written)
        record = json.dumps({"machine": found, "rows": rows}, indent=1)
        (ROOT / "tests" / "benchmarks" / "records" / "training-steps.json").write_text(record + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
