"""The command line: `python -m medgan_jax COMMAND`, and the main of every experiment file.

Every mistake a user can make is one line on standard error and exit status 2. JAX is imported only by the
commands that compute.
"""

import contextlib
import dataclasses
import importlib
import importlib.util
import json
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Literal

import medgan_jax
from medgan_jax.arguments import NO_PREFIX, nearest, parse, require_counts, value_of
from medgan_jax.configuration import PRESETS, ExperimentConfig, RunOptions
from medgan_jax.errors import UserError
from medgan_jax.review import catalogue

NAME = "medgan_jax"
PROGRAM = f"python -m {NAME}"
SHORTHANDS = {"--data.": "--config.data."}
# What a finished run has decided already, or only training does.
TRAINING_ONLY = (
    *(
        "steps",
        "seed",
        "seeds",
        "precision",
        "checkpoint_every",
        "log_every",
        "init_from",
        "export",
        "profile",
    ),
)


@dataclasses.dataclass(frozen=True)
class ListArguments:
    """Options of `list`.

    application: rows of this application alone (`base` for the base models). json: print JSON.
    """

    application: str = ""
    json: bool = False


@dataclasses.dataclass(frozen=True)
class DescribeArguments:
    """Options of `describe`.

    preset: values to start from: tiny (tests), small (a two-core CPU) or paper (full size). json: print JSON.
    """

    preset: Literal["tiny", "small", "paper"] = "paper"
    json: bool = False
    config: ExperimentConfig = dataclasses.field(default_factory=ExperimentConfig)


@dataclasses.dataclass(frozen=True)
class TrainArguments:
    """Options of `train`.

    preset: values to start from: tiny (tests, seconds), small (a two-core CPU, minutes) or paper (full size).
    twin: train the method without its adversarial part, for comparison, in WORKDIR/twin.
    """

    preset: Literal["tiny", "small", "paper"] = "small"
    twin: bool = False
    options: RunOptions = dataclasses.field(default=RunOptions(), metadata=NO_PREFIX)
    config: ExperimentConfig = dataclasses.field(default_factory=ExperimentConfig)


@dataclasses.dataclass(frozen=True)
class EvaluateArguments:
    """Options of `evaluate`.

    json: print JSON and nothing else on standard output. alone: leave out the baseline and the classical methods,
    as for a twin, whose values stand in a table that has them.
    """

    json: bool = False
    alone: bool = False
    options: RunOptions = dataclasses.field(default=RunOptions(), metadata=NO_PREFIX)


@dataclasses.dataclass(frozen=True)
class PredictArguments:
    """Options of `predict`.

    input: an image, or a folder of images (NIfTI, DICOM, PNG, TIFF). output: folder to write to.
    """

    input: str = ""
    output: str = ""
    options: RunOptions = dataclasses.field(default=RunOptions(), metadata=NO_PREFIX)


@dataclasses.dataclass(frozen=True)
class DataListArguments:
    """Options of `data list`.

    review: the data sets of the review's tables, whether they can be had, and what stands in. json: print
    JSON.
    """

    review: bool = False
    json: bool = False


@dataclasses.dataclass(frozen=True)
class DataPrepareArguments:
    """Options of `data prepare`.

    directory: where TFDS keeps its data; empty for its own default. processes: how many read files or draw
    phantoms. manual: folder of the files that were fetched by hand; empty for downloads/manual/NAME in the
    directory. skip_refused: leave out cases whose files are refused, and name them.
    """

    directory: str = ""
    processes: int = 1
    manual: str = ""
    skip_refused: bool = False


@dataclasses.dataclass(frozen=True)
class ReproduceArguments:
    """Options of `reproduce`.

    preset: tiny (tests), small (a two-core CPU) or paper (full size). seeds: number of seeds; seed: the first.
    workdir: folder of the runs, which are read where they are there. output: folder of the tables; empty for
    `tables` in the work directory. source: ID=FOLDER, data for an experiment; phantoms for the others. jobs:
    runs at a time; 0 for one on each GPU. json: print JSON and nothing else on standard output.
    """

    preset: Literal["tiny", "small", "paper"] = "small"
    seeds: int = 3
    seed: int = 0
    workdir: str = "runs/reproduce"
    output: str = ""
    source: tuple[str, ...] = ()
    jobs: int = 0
    json: bool = False

    def __post_init__(self):
        require_counts(self)


@dataclasses.dataclass(frozen=True)
class ReportArguments:
    """Options of `report`.

    output: folder of the site; a new one, an empty one, or one that holds a site. results: folders of `reproduce`
    or of evaluated runs, beside the committed records. preset: whose games are drawn.
    """

    output: str = ""
    results: tuple[str, ...] = ()
    preset: Literal["tiny", "small", "paper"] = "paper"


@dataclasses.dataclass(frozen=True)
class AuditArguments:
    """Options of `audit`.

    workdir: of the run, or of several seeds' runs; its folder `twin` is asked, too. output: folder of
    audit.json and audit.html; empty for the work directory. cases: number of test cases. json: print JSON.
    """

    workdir: str = ""
    output: str = ""
    cases: int = 32
    json: bool = False


@dataclasses.dataclass(frozen=True)
class Method:
    """An experiment module that was found and imported. entry: its row of the review, None if it has none."""

    id: str
    module: ModuleType
    entry: catalogue.Entry | None

    @property
    def factory(self) -> Callable[[Any], Any]:
        """Configuration -> Experiment."""
        return self.module.experiment

    def preset(self, name: str) -> ExperimentConfig:
        """The configuration of a preset; UserError if there is no such preset."""
        if name not in PRESETS:
            raise UserError(f"--preset is {name!r}; it is one of {', '.join(PRESETS)}")
        return getattr(self.module.Config, name)()

    @property
    def headline(self) -> str:
        """First line of the experiment's docstring."""
        return (self.module.__doc__ or self.id).strip().splitlines()[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0 if all of it worked, 2 after a mistake, 130 after Ctrl-C."""
    return _status(lambda: _run_command(list(sys.argv[1:] if argv is None else argv)))


def main_experiment(module_name: str, argv: Sequence[str] | None = None) -> int:
    """The main of an experiment file: trains and evaluates; without options the `small` preset on phantoms.

    The work directory is `runs/<id>-<preset>` unless `--workdir` names another. Returns the exit status, like
    `main`.
    """
    return _status(lambda: _train_and_evaluate(module_name, list(sys.argv[1:] if argv is None else argv)))


def _train_and_evaluate(module_name: str, argv: list[str]) -> None:
    method = load(module_name)
    place = f"runs/{method.id}-PRESET"
    description = f"{method.headline} Trains, then evaluates. Without --workdir the run is in {place}."
    arguments = _train_arguments(method, argv, f"python -m {module_name}", description)
    if not arguments.options.workdir:
        options = dataclasses.replace(arguments.options, workdir=f"runs/{method.id}-{arguments.preset}")
        arguments = dataclasses.replace(arguments, options=options)
    source, workdir = arguments.config.data.source, arguments.options.workdir
    _say(f"{method.id}: preset {arguments.preset}, data {source}, work directory {workdir}")
    trained = _train(method, arguments)
    _show_evaluation(method, trained.options)


def load(id: str) -> Method:
    """The experiment called `id`: a row of the review, or the dotted name of any experiment module.

    Raises UserError if there is no such experiment, or the review has it and the project has not yet.
    """
    if "." in id:
        return Method(id.rsplit(".", 1)[1], _import(id), _row(id))
    entry = catalogue.find(id)
    if not entry.implemented:
        raise UserError(
            f"{entry.id} ({entry.place}: {entry.citation.title}) is not implemented yet; "
            f"`{PROGRAM} list` says which experiments are"
        )
    return Method(entry.id, _import(entry.module), entry)


def _row(module_name: str) -> catalogue.Entry | None:
    return next((entry for entry in catalogue.entries() if entry.module == module_name), None)


def _import(module_name: str) -> ModuleType:
    try:
        found = importlib.util.find_spec(module_name) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise UserError(f"there is no experiment module {module_name!r}{catalogue.nearest(module_name)}")
    module = importlib.import_module(module_name)
    for name in ("Config", "experiment"):
        if not hasattr(module, name):
            raise UserError(
                f"{module_name} has no `{name}`: it is not an experiment; see experiments/_template.py"
            )
    return module


def _status(run: Callable[[], None]) -> int:
    """Exit status of `run`, with a user's mistake as one line; any other exception is a bug and goes on."""
    try:
        run()
        sys.stdout.flush()
        return 0
    except UserError as error:
        print(f"{NAME}: error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{NAME}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has left (`| head`); nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except SystemExit as stop:  # after --help
        return stop.code or 0


def _say(line: str) -> None:
    """A remark for people, out of the way of results."""
    print(line, file=sys.stderr, flush=True)


def _run_command(argv: list[str]) -> None:
    if argv and argv[0] in ("-h", "--help"):
        print(_overview())
    elif argv and argv[0] == "--version":
        print(f"{NAME} {medgan_jax.__version__}")
    elif not argv:
        raise UserError(f"no command was given; the commands are {', '.join(COMMANDS)} (see --help)")
    elif argv[0] not in COMMANDS:
        known = f"the commands are {', '.join(COMMANDS)}"
        raise UserError(f"unknown command {argv[0]!r}{nearest(argv[0], COMMANDS)}; {known}")
    else:
        COMMANDS[argv[0]](argv[1:])


def _overview() -> str:
    lines = [f"usage: {PROGRAM} COMMAND [options]", "", (medgan_jax.__doc__ or "").strip(), ""]
    for name, command in COMMANDS.items():
        lines.append(f"  {name:<10}{command.__doc__.splitlines()[0]}")
    return "\n".join([*lines, "", f"`{PROGRAM} COMMAND --help` shows a command's options."])


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def list_command(argv: list[str]) -> None:
    """Every row of the review: id, reference, table, implemented or not, module."""
    description = f"{list_command.__doc__} Applications: {', '.join(catalogue.applications())}."
    arguments = parse(ListArguments(), argv, program=f"{PROGRAM} list", description=description)
    wanted, known = arguments.application, catalogue.applications()
    if wanted and wanted not in known:
        hint = nearest(wanted, known)
        raise UserError(f"unknown application {wanted!r}{hint}; they are {', '.join(known)}")
    rows = [entry for entry in catalogue.entries() if wanted in ("", entry.application)]
    from medgan_jax.review import tables

    if arguments.json:
        _print_json([tables.listing_facts(entry) for entry in rows])
        return
    tables.show(tables.listing(rows))
    print(f"{len(rows)} rows, {sum(entry.implemented for entry in rows)} implemented")


def describe_command(argv: list[str]) -> None:
    """The game in sentences: networks, phases, losses, data, published values, unknowns."""
    method, argv = _take_method(argv, "describe", DescribeArguments())
    program = f"{PROGRAM} describe {method.id}"
    preset = value_of(argv, "--preset") or DescribeArguments.preset
    defaults = DescribeArguments(preset=preset, config=method.preset(preset))
    description = f"{method.headline} Values shown are those of the preset {preset}."
    arguments = parse(defaults, argv, program=program, description=description, shorthands=SHORTHANDS)
    from medgan_jax.review import describe
    from medgan_jax.training.run import use_compilation_cache

    use_compilation_cache()
    facts = describe.facts(method.factory(arguments.config), method.module, method.entry, preset=preset)
    _print_json(facts) if arguments.json else print(describe.sentences(facts))


def train_command(argv: list[str]) -> None:
    """Trains; resumes by itself if the work directory holds a run of the same configuration."""
    method, argv = _take_method(argv, "train", TrainArguments())
    program = f"{PROGRAM} train {method.id}"
    arguments = _train_arguments(method, argv, program, f"{method.headline} {train_command.__doc__}")
    _need(arguments.options.workdir, "train", "--workdir DIR")
    _train(method, arguments)


def evaluate_command(argv: list[str]) -> None:
    """Measures a run on the test cases beside the trivial baseline; writes evaluation.json and cases.csv."""
    method, argv = _take_method(argv, "evaluate", EvaluateArguments())
    program = f"{PROGRAM} evaluate {method.id}"
    words = f"{method.headline} {evaluate_command.__doc__} The configuration is read from the run."
    arguments = parse(EvaluateArguments(), argv, program=program, description=words, hidden=TRAINING_ONLY)
    _need(arguments.options.workdir, "evaluate", "--workdir DIR")
    _show_evaluation(method, arguments.options, as_json=arguments.json, alone=arguments.alone)


def predict_command(argv: list[str]) -> None:
    """Images in, images out: the same format, geometry and units."""
    method, argv = _take_method(argv, "predict", PredictArguments())
    program = f"{PROGRAM} predict {method.id}"
    words = f"{method.headline} {predict_command.__doc__} The configuration is read from the run."
    arguments = parse(PredictArguments(), argv, program=program, description=words, hidden=TRAINING_ONLY)
    _need(arguments.options.workdir, "predict", "--workdir DIR")
    _need(arguments.input, "predict", "--input PATH")
    _need(arguments.output, "predict", "--output DIR")
    source, target = pathlib.Path(arguments.input), pathlib.Path(arguments.output)
    if not source.exists():
        raise UserError(f"--input {source} does not exist")
    if target.exists() and not target.is_dir():
        raise UserError(f"--output {target} is a file; name a folder")
    config, options = _stored_run(method, arguments.options)
    if options.seeds > 1:
        one = f"{options.workdir}/seed_{options.seed}"
        _say(f"{options.workdir} holds {options.seeds} seeds: predicting with {one}")
        options = dataclasses.replace(options, workdir=one, seeds=1)
    from medgan_jax.training.run import predict

    for path in predict(method.factory, config, options, source, target):
        print(path)


def data_command(argv: list[str]) -> None:
    """`data list [NAME|FOLDER]`: data sets and what they need by hand; `data prepare NAME`: prepares one."""
    actions = {"list": _list_data, "prepare": _prepare_data}
    if argv and argv[0] in ("-h", "--help"):
        print(f"usage: {PROGRAM} data list|prepare NAME [options]\n\n{data_command.__doc__}")
    elif not argv or argv[0] not in actions:
        given = f"not {argv[0]!r}" if argv else "but neither was given"
        raise UserError(f"data takes `list` or `prepare NAME`, {given}")
    else:
        actions[argv[0]](argv[1:])


def _list_data(argv: list[str]) -> None:
    """All sets, those of the review, one set by name with what to do by hand, or the contents of a folder."""
    asked = argv[0] if argv and not argv[0].startswith("-") else None
    description = (
        "Data sets that `data prepare` makes; `data list NAME` shows one of them and what it needs by hand, "
        "`data list FOLDER` what a folder holds and which experiments can use it. Its anatomy and modality are "
        'those of `about.json` in it, {"anatomy": "...", "modality": "..."}; or of DICOM headers; or what the '
        "first heading of its README.md names, or the row on the folder in a table, with such columns, of the "
        "README.md beside it; or CT where values are Hounsfield units; and otherwise not stated. TFDS' own sets "
        "can be prepared by their names, too."
    )
    arguments = parse(
        DataListArguments(),
        argv[asked is not None :],
        program=f"{PROGRAM} data list [NAME|FOLDER]",
        description=description,
    )
    if asked is not None:
        _show_data(asked, as_json=arguments.json)
        return
    from medgan_jax.review import data_sets

    rows = data_sets.review_sets() if arguments.review else data_sets.available()
    if arguments.json:
        _print_json([dataclasses.asdict(row) for row in rows])
        return
    from medgan_jax.review import tables

    tables.show(tables.review_data(rows) if arguments.review else tables.data_sets(rows))


def _show_data(name: str, *, as_json: bool) -> None:
    from medgan_jax.review import data_sets

    if not pathlib.Path(name).is_dir():
        lines = data_sets.describe(name)
        rows = [dataclasses.asdict(row) for row in data_sets.available() if row.name == name]
        _print_json({"sets": rows, "description": lines}) if as_json else print("\n".join(lines))
        return
    facts = data_sets.folder(name)
    if as_json:
        _print_json(dataclasses.asdict(facts))
        return
    print("\n".join(_folder_lines(facts)))


def _folder_lines(facts: Any) -> list[str]:
    """`data_sets.FolderFacts` in words."""
    parts = facts.parts.items()
    planned = "; ".join(f"{id} {how}".strip() for id, how in facts.planned.items())
    lines = [
        f"{facts.name}: {', '.join(f'{field} ({size})' for field, size in facts.fields.items())}",
        f"  anatomy: {facts.anatomy}",
        f"  modality: {facts.modality}",
        *(f"  {part}: {counts['records']} records of {counts['subjects']} subjects" for part, counts in parts),
    ]
    for title, words in (("domains", facts.domains), ("classes", facts.class_names)):
        if words:
            lines.append(f"  {title}: {', '.join(words)}")
    lines.append(f"  experiments, sizes aside: {', '.join(facts.experiments) or 'none declares that it takes this'}")
    if not facts.alike:
        lines.append("  most experiments take images of one size, in two dimensions square: crop or pad these first")
    if facts.otherwise:
        hows = "; ".join(f"{id} {how}" for id, how in facts.otherwise.items())
        lines.append(f"  with a map of another name (NAME: {', '.join(facts.maps)}): {hows}")
    return [*lines, f"  `reproduce real` runs on it: {planned}"] if planned else lines


def _prepare_data(argv: list[str]) -> None:
    if not {"-h", "--help"} & set(argv) and (not argv or argv[0].startswith("-")):
        raise UserError(f"data prepare needs a name first; `{PROGRAM} data list` has them")
    name = argv[:1] if argv and not argv[0].startswith("-") else []
    program = f"{PROGRAM} data prepare NAME"
    description = "Prepares NAME or NAME/CONFIG for `--data.source tfds:NAME`; does nothing if that was done."
    arguments = parse(DataPrepareArguments(), argv[len(name) :], program=program, description=description)
    from medgan_jax.data.catalogue import prepare

    folder = prepare(
        name[0],
        arguments.directory or None,
        processes=arguments.processes,
        manual=arguments.manual or None,
        skip_refused=arguments.skip_refused,
    )
    print(folder)


# What `reproduce` makes besides tables: modules with a function `command`, which takes the other arguments.
STUDIES = {
    "benchmark": "medgan_jax.review.benchmark",
    "prevalence": "medgan_jax.review.prevalence",
    "real": "medgan_jax.review.real",
}


def reproduce_command(argv: list[str]) -> None:
    """`reproduce TABLE`: runs the experiments of a table of the review; published values beside measured ones."""
    if argv and argv[0] in STUDIES:
        return importlib.import_module(STUDIES[argv[0]]).command(argv[1:])
    from medgan_jax.review import reproduce

    names = [*reproduce.table_names(), *STUDIES]
    asked = argv[:1] if argv and not argv[0].startswith("-") else []
    program = f"{PROGRAM} reproduce TABLE"
    description = f"{reproduce_command.__doc__} TABLE is one of {', '.join(names)}."
    arguments = parse(ReproduceArguments(), argv[len(asked) :], program=program, description=description)
    if not asked:
        raise UserError(f"reproduce needs a table first: {', '.join(names)}")
    workdir = pathlib.Path(arguments.workdir)
    request = reproduce.Request(
        name=asked[0],
        entries=reproduce.entries_of(asked[0]),
        title=reproduce.table_names()[asked[0]],
        preset=arguments.preset,
        seeds=tuple(range(arguments.seed, arguments.seed + arguments.seeds)),
        workdir=workdir,
        output=pathlib.Path(arguments.output) if arguments.output else workdir / "tables",
        sources=reproduce.read_sources(arguments.source),
        jobs=arguments.jobs,
    )
    with contextlib.redirect_stdout(sys.stderr) if arguments.json else contextlib.nullcontext():
        rows = reproduce.reproduce(request)
    if arguments.json:
        print(reproduce.as_json(request))
        return
    from medgan_jax.review import tables

    tables.show(tables.reproduced(rows))
    print(f"{reproduce.summary(rows)}; written to {request.output}")


def report_command(argv: list[str]) -> None:
    """The living review: a static site with every method, its game, its values and its pictures."""
    program = f"{PROGRAM} report"
    words = f"{report_command.__doc__} Nothing is trained; `reproduce` makes the results."
    arguments = parse(ReportArguments(), argv, program=program, description=words)
    _need(arguments.output, "report", "--output DIR")
    from medgan_jax.review.site import build

    results = [pathlib.Path(folder) for folder in arguments.results]
    print(build.report(pathlib.Path(arguments.output), results, preset=arguments.preset))


def audit_command(argv: list[str]) -> None:
    """What a trained run may be trusted with: intensities, consistency, lesions, spread, attribution."""
    method, argv = _take_method(argv, "audit", AuditArguments())
    program = f"{PROGRAM} audit {method.id}"
    words = f"{method.headline} {audit_command.__doc__} The configuration is read from the run."
    arguments = parse(AuditArguments(), argv, program=program, description=words)
    _need(arguments.workdir, "audit", "--workdir DIR")
    config, options = _stored_run(method, RunOptions(workdir=arguments.workdir))
    from medgan_jax.review import audit, audit_page
    from medgan_jax.training.workdir import write_json
    from medgan_jax.training.writers import writing

    workdir = pathlib.Path(arguments.workdir)
    seeds = range(options.seed, options.seed + options.seeds)
    found = audit.audit_run(method.factory, config, config.twin(), workdir, seeds, arguments.cases)
    output = pathlib.Path(arguments.output or workdir)
    with writing(output / "audit.html"):
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / "audit.json", found)
        (output / "audit.html").write_text(audit_page.page(found, workdir / "comparison.png"))
    _print_json(found) if arguments.json else print(output / "audit.html")


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "list": list_command,
    "describe": describe_command,
    "train": train_command,
    "evaluate": evaluate_command,
    "predict": predict_command,
    "data": data_command,
    "reproduce": reproduce_command,
    "audit": audit_command,
    "report": report_command,
}


def _take_method(argv: list[str], command: str, defaults: Any) -> tuple[Method, list[str]]:
    """The experiment that the first argument names, and the others; `--help` in its place is common help."""
    if argv and argv[0] in ("-h", "--help"):
        hidden = TRAINING_ONLY if command in ("evaluate", "predict") else ()
        description = (
            f"{COMMANDS[command].__doc__} Options that every experiment has; "
            f"`{PROGRAM} {command} ID --help` shows those of one."
        )
        parse(defaults, ["--help"], program=f"{PROGRAM} {command} ID", description=description, hidden=hidden)
    if not argv or argv[0].startswith("-"):
        usage = f"`{PROGRAM} {command} ID`; `{PROGRAM} list` has all"
        raise UserError(f"{command} needs an experiment's id first: {usage}")
    return load(argv[0]), argv[1:]


def _need(value: str, command: str, option: str) -> None:
    if not value:
        raise UserError(f"{command} needs {option}")


def _train_arguments(method: Method, argv: list[str], program: str, description: str) -> TrainArguments:
    """Options of a training run, over the configuration of the preset that they name."""
    preset = value_of(argv, "--preset") or TrainArguments.preset
    defaults = TrainArguments(preset=preset, config=method.preset(preset))
    shown = (
        f"Defaults shown are those of the preset {preset}. --data.source is short for --config.data.source."
    )
    return parse(defaults, argv, program=program, description=f"{description} {shown}", shorthands=SHORTHANDS)


def _train(method: Method, arguments: TrainArguments) -> TrainArguments:
    """Trains; returns the arguments as used, which for a twin have its configuration and work directory."""
    if arguments.twin:
        config = arguments.config.twin()
        if config is None:
            raise UserError(f"{method.id} has no non-adversarial twin; leave --twin out")
        options = dataclasses.replace(arguments.options, workdir=f"{arguments.options.workdir}/twin")
        arguments = dataclasses.replace(arguments, config=config, options=options)
    from medgan_jax.training.run import train

    train(method.factory, arguments.config, arguments.options)
    return arguments


def _stored_run(method: Method, options: RunOptions) -> tuple[ExperimentConfig, RunOptions]:
    """Configuration and options of the run, or of the seeds' runs, in the work directory.

    Raises UserError if there is none, or it is one of another experiment.
    """
    from medgan_jax.configuration_reader import read_configuration
    from medgan_jax.training.workdir import read_manifest

    root = pathlib.Path(options.workdir)
    of_seeds = [] if (root / "manifest.json").exists() else _seed_directories(root)
    manifest = read_manifest(of_seeds[0] if of_seeds else root)
    made_by, identity = str(manifest["experiment"]), manifest["configuration"]
    if made_by != method.id:
        raise UserError(f"{root} holds a run of {made_by}, not of {method.id}; give the --workdir of one")
    config = read_configuration(method.module.Config, identity.get("config"))
    changes = {"seed": identity.get("seed", 0), "precision": identity.get("precision", "float32")}
    return config, dataclasses.replace(options, seeds=max(1, len(of_seeds)), **changes)


def _seed_directories(root: pathlib.Path) -> list[pathlib.Path]:
    """The runs `seed_N` of consecutive seeds in a work directory, in order."""
    found = {
        int(path.parent.name.removeprefix("seed_")): path.parent for path in root.glob("seed_*/manifest.json")
    }
    if not found:
        return []
    first = min(found)
    missing = [f"seed_{seed}" for seed in range(first, max(found)) if seed not in found]
    if missing:
        raise UserError(
            f"{root} lacks {', '.join(missing)} between its seeds; train it, or name one seed's folder"
        )
    return [found[seed] for seed in sorted(found)]


def _show_evaluation(
    method: Method, options: RunOptions, *, as_json: bool = False, alone: bool = False
) -> None:
    """Evaluates the run in the work directory and prints the table, or its JSON alone."""
    config, options = _stored_run(method, options)
    from medgan_jax.training.run import evaluate

    # What the evaluation says on the way must not get between the braces.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        result = evaluate(method.factory, config, options, alone=alone)
    if options.multihost and not _is_first_process():
        return
    if as_json:
        _print_json(result)
    else:
        _print_comparison(method, result, pathlib.Path(options.workdir))


def _is_first_process() -> bool:
    import jax

    return jax.process_index() == 0


def _print_comparison(method: Method, result: dict, workdir: pathlib.Path) -> None:
    from medgan_jax.review import tables

    data, seed, paper = result["data"], result["seed"], result.get("paper") or {}
    seeds = (
        f"mean and SD over seeds {', '.join(map(str, seed))}" if isinstance(seed, list) else f"seed {seed}"
    )
    title = f"{method.id}, step {result['step']}, {seeds}: {data['n']} test cases of {data['source']}"
    table = tables.comparison(
        method.id,
        result["metrics"],
        result.get("baseline") or {},
        (result.get("twin") or {}).get("metrics", {}),
        paper,
        baseline_name=result.get("baseline_name") or "trivial",
        others=result.get("others"),
    )
    print(title)
    tables.show(table)
    for name, note in (result.get("notes") or {}).items():
        print(f"{name}: {note}")
    if paper and method.entry is not None:
        sets = ", ".join(str(each) for each in method.entry.datasets) or "data that the review does not name"
        print(f"The paper's data differ ({sets}): its values show the scale and are no contest.")
    written = [
        name for name in ("evaluation.json", "cases.csv", "comparison.png") if (workdir / name).exists()
    ]
    print(f"In {workdir}/: {', '.join(written)}")
