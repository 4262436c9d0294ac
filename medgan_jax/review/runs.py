"""Runs of experiments that are kept: each is one experiment, preset, seed and data source, in a process of its own.

A run's folder is named by the fingerprint of code and configuration, so what has changed since is run again and
what has not is read. Killed at any point, a run goes on from its last checkpoint. What a run said stands in
`log.txt`, its values in `result.json`, and the reason of a failure in `failed.json`.

    python -m medgan_jax.review.runs MODULE --preset small --seed 0 --source phantom --workdir DIR [-- OPTION ...]

is the process of one run: it trains and evaluates the non-adversarial twin, where there is one, and the method.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from medgan_jax import cli
from medgan_jax.arguments import parse
from medgan_jax.configuration import DataOptions, as_dict
from medgan_jax.errors import UserError
from medgan_jax.review import learning, processes
from medgan_jax.review.records import record, require_finished
from medgan_jax.training.workdir import write_json

RESULT = "result.json"
SCHEMA = 1
KEY_LENGTH = 12


@dataclasses.dataclass(frozen=True)
class Run:
    """One experiment with one seed. root: of all runs; source: as `--data.source` takes it.

    overrides: options of `train` beyond those, such as `("--config.size", "256")`.
    """

    id: str
    module: str
    preset: str
    seed: int
    root: pathlib.Path
    source: str = "phantom"
    overrides: tuple[str, ...] = ()

    @property
    def configuration(self):
        """The preset's configuration with the run's data and what overrides it."""
        config = cli.load(self.module).preset(self.preset)
        if self.overrides:
            arguments = cli.TrainArguments(preset=self.preset, config=config)
            config = parse(arguments, self.overrides, program=self.module, description="").config
        return dataclasses.replace(config, data=DataOptions(self.source))

    @property
    def key(self) -> str:
        """Changes with the experiment's code, what it uses, and its configuration."""
        plain = json.loads(json.dumps(as_dict(self.configuration)))
        return learning.fingerprint(self.module, plain)[:KEY_LENGTH]

    @property
    def place(self) -> pathlib.Path:
        """The work directory."""
        return self.root / self.preset / self.id / self.key / f"seed_{self.seed}"

    @property
    def command(self) -> str:
        """What a person would type for this run."""
        source = () if self.source == "phantom" else ("--data.source", self.source)
        options = " ".join((*source, *self.overrides, "--workdir", "DIR"))
        return f"python -m {self.module} --preset {self.preset} --seed {self.seed} {options}"

    def read(self) -> dict | None:
        """The values of a finished run; None if there is none yet. UserError for a file of an older schema."""
        path = self.place / RESULT
        result = processes.read(path)
        if result is None:
            return None
        if result.get("schema") != SCHEMA:
            raise UserError(
                f"{path} has schema {result.get('schema')} and this version writes {SCHEMA}; delete {self.place} "
                "to run it again, or name another --workdir"
            )
        return result

    def failure(self) -> str | None:
        """Why the run failed the last time; None if it did not."""
        return processes.failure(self.place)


def play(run: Run, environment: Mapping[str, str] | None = None) -> dict | None:
    """The result of a run: read, or made in a process; None if it failed, see `Run.failure`."""
    if (known := run.read()) is not None:
        return known
    began = time.perf_counter()
    command = [sys.executable, "-m", __name__, run.module, "--preset", run.preset, "--seed", str(run.seed)]
    command += ["--source", run.source, "--workdir", str(run.place), "--", *run.overrides]
    if not processes.run(command, run.place, environment):
        return None
    result = {
        **record(run.place),
        "schema": SCHEMA,
        "preset": run.preset,
        "seconds": round(time.perf_counter() - began, 1),
        "command": run.command,
        "code": run.key,
        "health": health(run.place / "metrics.jsonl"),
    }
    write_json(run.place / RESULT, result)
    return result


def play_all(
    runs: Sequence[Run], *, jobs: int = 0, say: Callable[[str], None] = print
) -> dict[Run, dict | None]:
    """The results of runs in their order, None for those that failed; for `jobs` see `processes.play_all`."""

    def one(run: Run, environment: Mapping[str, str]) -> None:
        say(f"{run.id}, seed {run.seed}: running in {run.place}")
        done = play(run, environment)
        say(f"{run.id}, seed {run.seed}: " + (run.failure() if done is None else f"{done['seconds']:.0f} s"))

    return processes.play_all(runs, one, jobs=jobs)


def health(path: pathlib.Path) -> dict[str, float | int | None]:
    """Signs of collapse and saturation in a run's log.

    diversity: mean absolute difference between generated validation images at the last evaluation, in the units
    of the images. least_gradient: over the phases, the smallest ratio of the median gradient norm in the last
    tenth of the log to that in the first; near 0, a player has stopped to learn, as a saturated discriminator
    makes the generator do. non_finite: logged values that were not finite.
    """
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    diversities = [line["health/diversity"] for line in lines if line.get("health/diversity") is not None]
    names = dict.fromkeys(name for line in lines for name in line if name.endswith("/gradient_norm"))
    ratios = []
    for name in names:
        norms = [line[name] for line in lines if line.get(name) is not None]
        tenth = max(1, len(norms) // 10)
        first, last = (_median(part) for part in (norms[:tenth], norms[-tenth:]))
        ratios.append(last / first if first else 0.0)
    return {
        "diversity": diversities[-1] if diversities else None,
        "least_gradient": min(ratios) if ratios else None,
        "non_finite": sum(value is None for line in lines for value in line.values()),
    }


def _median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def main(arguments: list[str] | None = None) -> int:
    """The process of one run; 0 if all of it worked."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}")
    parser.add_argument("module")
    for option in ("--preset", "--seed", "--source", "--workdir"):
        parser.add_argument(option, required=True)
    given = sys.argv[1:] if arguments is None else arguments
    own, overrides = given, []
    if "--" in given:
        own, overrides = given[: given.index("--")], given[given.index("--") + 1 :]
    options = parser.parse_args(own)
    try:
        return _play(options, overrides)
    except UserError as error:
        print(error)
        return 2


def _play(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    workdir = pathlib.Path(options.workdir)
    training = ["train", options.module, "--preset", options.preset, "--seed", options.seed]
    training += ["--data.source", options.source, "--workdir", options.workdir, "--no-progress", *overrides]
    commands = [training, ["evaluate", options.module, "--workdir", options.workdir]]
    if cli.load(options.module).preset(options.preset).twin() is not None:
        # The method's own table has the classical methods.
        twin = ["evaluate", options.module, "--workdir", str(workdir / "twin"), "--alone"]
        commands = [[*training, "--twin"], twin, *commands]
    for command in commands:
        if status := cli.main(command):
            return status
        if command[0] == "train":
            require_finished(workdir / "twin" if "--twin" in command else workdir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
