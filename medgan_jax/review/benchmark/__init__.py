"""`python -m medgan_jax reproduce benchmark --application A`: methods with one task, side by side under one
protocol.
"""

import contextlib
import dataclasses
import pathlib
import sys
from typing import Literal

from medgan_jax.arguments import nearest, parse, require_counts
from medgan_jax.errors import UserError

PROGRAM = "python -m medgan_jax reproduce benchmark"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Options of `reproduce benchmark`.

    application: whose tracks are run; `all` for every one. track: one track alone. preset: tiny (tests),
    small (a two-core CPU) or paper (full size). seeds: number of seeds, five or more for results that are
    not preliminary. seed: the first. trials: learning rates that each trained entrant is tried with on
    validation cases; 1 for those of its preset. workdir: folder of the runs, which are read where they are
    there. output: folder of the tables; empty for `tables` in the work directory. source: TRACK=FOLDER,
    data for a track; phantoms for the others. jobs: runs at a time, 0 for one on each GPU; more than one on
    a device disturbs the times that are measured. resamples: of the bootstrap. json: print JSON and nothing
    else on standard output.
    """

    application: str = ""
    track: str = ""
    preset: Literal["tiny", "small", "paper"] = "small"
    seeds: int = 5
    seed: int = 0
    trials: int = 1
    workdir: str = "runs/benchmark"
    output: str = ""
    source: tuple[str, ...] = ()
    jobs: int = 0
    resamples: int = 2000
    json: bool = False

    def __post_init__(self):
        require_counts(self, positive=("seeds", "trials", "resamples"))


def command(argv: list[str]) -> None:
    """Tracks of an application, each one task for all its entrants; writes JSON, Markdown and CSV."""
    words = f"{command.__doc__} Every entrant is proved to have the same test cases before it is ranked."
    arguments = parse(Arguments(), argv, program=PROGRAM, description=words)
    from medgan_jax.review.benchmark import tracks

    run(arguments, tracks.TRACKS)


def run(arguments: Arguments, tracks: tuple) -> None:
    """The command with its options read, for these tracks."""
    from medgan_jax.review import tables
    from medgan_jax.review.benchmark import forms, results, schedule
    from medgan_jax.training.workdir import write_json
    from medgan_jax.training.writers import writing

    if arguments.trials > len(schedule.FACTORS):
        raise UserError(
            f"--trials is {arguments.trials}; there are {len(schedule.FACTORS)} learning rates to try"
        )
    chosen, sources = choose(arguments, tracks), read_sources(arguments.source, tracks)
    workdir = pathlib.Path(arguments.workdir)
    output = pathlib.Path(arguments.output) if arguments.output else workdir / "tables"
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output} cannot be made: {error.strerror}") from error
    name = arguments.track or arguments.application
    request = schedule.Request(
        preset=arguments.preset,
        seeds=tuple(range(arguments.seed, arguments.seed + arguments.seeds)),
        root=workdir,
        trials=arguments.trials,
        jobs=arguments.jobs,
    )
    with contextlib.redirect_stdout(sys.stderr) if arguments.json else contextlib.nullcontext():
        played = []
        for each in chosen:
            own = dataclasses.replace(request, source=sources.get(each.name, "phantom"))
            played.append(schedule.play(each, own))
    path = output / f"benchmark_{name}.json"
    write_json(path, results.content(name, played, request, arguments.resamples))
    found = forms.read(path)
    for ending, text in (("md", forms.markdown(found)), ("csv", forms.comma_separated(found))):
        with writing(path.with_suffix(f".{ending}")):
            path.with_suffix(f".{ending}").write_text(text, encoding="utf-8")
    if arguments.json:
        print(path.read_text())
        return
    for track in found["tracks"]:
        print(f"\n{track['title']}")
        tables.show(forms.printed(track))
        print("\n".join(forms.conditions(track)))
    print(f"\n{forms.heading(found)} {forms.summary(found)}; written to {output}")


def choose(arguments: Arguments, tracks: tuple) -> tuple:
    """The tracks that are asked for; UserError where there is none."""
    applications = dict.fromkeys(track.application for track in tracks)
    if not arguments.application and not arguments.track:
        raise UserError(f"reproduce benchmark needs --application: {', '.join(applications)} or all")
    if arguments.application not in ("", "all", *applications):
        hint = nearest(arguments.application, applications)
        raise UserError(
            f"there is no benchmark for {arguments.application!r}{hint}; there are {', '.join(applications)}"
        )
    found = tuple(each for each in tracks if arguments.application in ("", "all", each.application))
    names = [each.name for each in found]
    if arguments.track and arguments.track not in names:
        raise UserError(
            f"there is no track {arguments.track!r}{nearest(arguments.track, names)}; "
            f"there are {', '.join(names)}"
        )
    return tuple(each for each in found if arguments.track in ("", each.name))


def read_sources(texts: tuple[str, ...], tracks: tuple) -> dict[str, str]:
    """`TRACK=FOLDER` by track; UserError for anything else."""
    names, sources = [each.name for each in tracks], {}
    for text in texts:
        name, sign, source = text.partition("=")
        if not sign or not source:
            raise UserError(f"--source {text} is not of the form TRACK=FOLDER")
        if name not in names:
            raise UserError(f"there is no track {name!r}{nearest(name, names)}; there are {', '.join(names)}")
        sources[name] = str(pathlib.Path(source).resolve()) if pathlib.Path(source).exists() else source
    return sources
