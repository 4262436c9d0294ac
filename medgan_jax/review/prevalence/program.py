"""The command `reproduce prevalence`: trains, measures, and writes JSON, Markdown and a plot."""

import contextlib
import dataclasses
import json
import pathlib
import sys
from typing import Literal

from medgan_jax.arguments import parse, require_counts
from medgan_jax.errors import UserError
from medgan_jax.review.prevalence import page
from medgan_jax.review.prevalence.study import SCALES, study
from medgan_jax.training.workdir import write_json
from medgan_jax.training.writers import writing

PROGRAM = "python -m medgan_jax reproduce prevalence"


@dataclasses.dataclass(frozen=True)
class PrevalenceArguments:
    """Options of `reproduce prevalence`.

    preset: tiny (tests) or small (a two-core CPU). levels: prevalences of lesions in the target set, in per
    cent. seeds: number of seeds; seed: the first. workdir: folder of the runs, which are read where they are
    there. output: folder of the results; empty for `prevalence` in the work directory. jobs: runs at a time;
    0 for one on each GPU. json: print JSON and nothing else on standard output.
    """

    preset: Literal["tiny", "small"] = "small"
    levels: tuple[int, ...] = (0, 25, 50, 75, 100)
    seeds: int = 3
    seed: int = 0
    workdir: str = "runs/prevalence"
    output: str = ""
    jobs: int = 0
    json: bool = False

    def __post_init__(self):
        require_counts(self)
        if not self.levels or not all(0 <= level <= 100 for level in self.levels):
            raise UserError(
                f"--levels are {' '.join(map(str, self.levels))}; they must lie between 0 and 100"
            )
        if len(set(self.levels)) < len(self.levels):
            raise UserError(f"--levels names a level twice: {' '.join(map(str, self.levels))}")


def command(argv: list[str]) -> None:
    """Parses the options of `reproduce prevalence` and does it."""
    description = (
        "Translators trained at several prevalences of lesions: what they invent and what they lose."
    )
    arguments = parse(PrevalenceArguments(), argv, program=PROGRAM, description=description)
    root = pathlib.Path(arguments.workdir)
    output = pathlib.Path(arguments.output) if arguments.output else root / "prevalence"
    levels = [level / 100 for level in arguments.levels]
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    with contextlib.redirect_stdout(sys.stderr) if arguments.json else contextlib.nullcontext():
        found = study(SCALES[arguments.preset], arguments.preset, levels, seeds, root, arguments.jobs)
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / "prevalence.json", found)
        # What is written elsewhere is made of the same file.
        found = json.loads((output / "prevalence.json").read_text())
        (output / "prevalence.md").write_text(page.markdown(found))
        page.plot(found, output / "prevalence.png")
    print(json.dumps(found, indent=2) if arguments.json else page.markdown(found) + f"\nwritten to {output}")
