"""An experiment in sentences: networks, order of play, losses, data, published values and unknowns.

`facts` collects them as plain values; nothing is computed but shapes. `sentences` puts them into words.
"""

import dataclasses
import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import jax

from medgan_jax.game import Experiment, Phase, Stage, unchanged
from medgan_jax.review.catalogue import Entry
from medgan_jax.training.run import sources
from medgan_jax.training.summary import count, state_shapes

WIDTH = 110
# Names of optax's states, in words; states without a name here say nothing about the method.
_OPTIMIZERS = {
    "ScaleByAdamState": "Adam",
    "ScaleByRmsState": "RMSProp",
    "ScaleByRStdDevState": "centred RMSProp",
    "TraceState": "momentum",
    "ScaleByRssState": "AdaGrad",
    "ScaleByScheduleState": "a learning-rate schedule",
    "WrappedScheduleState": "a learning-rate schedule",
}


def facts(
    experiment: Experiment, module: ModuleType, entry: Entry | None, *, preset: str | None = None
) -> dict:
    """Everything that can be said of an experiment before it runs, as plain values for JSON.

    module: where the experiment is defined; its docstring holds the equations. entry: its row of the review.
    """
    return {
        "id": experiment.id,
        "module": module.__name__,
        "headline": (module.__doc__ or experiment.id).strip().splitlines()[0],
        "row": None if entry is None else _row(entry),
        "preset": preset,
        "configuration": dataclasses.asdict(experiment.config),
        "equations": equations(module.__doc__ or ""),
        "stages": [_stage(stage) for stage in experiment.stages],
        "terms": dict(experiment.terms),
        "metrics": [
            {"name": metric.name, "unit": metric.unit, "higher_is_better": metric.higher_is_better}
            for metric in experiment.metrics
        ],
        "select": experiment.select,
        "baseline": None if experiment.baseline is None else experiment.baseline.name,
        "twin": experiment.config.twin() is not None,
        "images": list(experiment.images),
        "predicts": experiment.prediction is not None,
        "unknowns": list(experiment.unknowns),
        "notes": dict(experiment.notes),
    }


def equations(docstring: str) -> list[str]:
    """The indented lines of a docstring that hold an equation."""
    lines = inspect.cleandoc(docstring).splitlines()
    return [line.strip() for line in lines if line.startswith("    ") and "=" in line]


def _row(entry: Entry) -> dict:
    return {
        "place": entry.place,
        "citation": str(entry.citation),
        "datasets": [str(dataset) for dataset in entry.datasets],
        "published": [str(value) for value in entry.reported],
    }


def _stage(stage: Stage) -> dict:
    state = state_shapes(stage)
    trained = {name for phase in stage.phases for name in phase.trains}
    networks = [
        {
            "name": name,
            "type": type(module).__name__,
            "trained": name in trained,
            "parameters": count(state.params[name]),
            "state": sorted(state.variables[name]),
            "average_decay": stage.ema.get(name),
        }
        for name, module in stage.networks.items()
    ]
    frozen = [
        {
            "name": name,
            "type": type(each.module).__name__,
            "parameters": count(each.variables),
            "description": each.description,
        }
        for name, each in stage.frozen.items()
    ]
    return {
        "name": stage.name,
        "steps": stage.steps,
        "networks": networks,
        "frozen": frozen,
        "phases": [_phase(phase, state.optimizers[phase.name]) for phase in stage.phases],
        "data": _data(stage),
        "prepare": None if stage.prepare is unchanged else function_name(stage.prepare),
        "memory_values": count(state.memory),
    }


def _phase(phase: Phase, state: Any) -> dict:
    return {
        "name": phase.name,
        "trains": list(phase.trains),
        "loss": function_name(phase.loss),
        "loss_in_words": _first_sentence(phase.loss),
        "optimizer": optimizer_words(state),
        "repeats": phase.repeats,
        "when": None if phase.when is None else function_name(phase.when),
        "reads": phase.reads,
        "project": None if phase.project is None else function_name(phase.project),
        "accumulate": phase.accumulate,
    }


def _data(stage: Stage) -> dict:
    streams = stage.data.train if isinstance(stage.data.train, Mapping) else {"train": stage.data.train}
    return {
        "sources": {
            name: {"name": each.name, "cases": len(each)} for name, each in sources(stage.data).items()
        },
        "batch_sizes": {name: stream.batch_size for name, stream in streams.items()},
    }


def function_name(function: Callable) -> str:
    """The name a reader finds in the file: of the function itself, or of the one that made it."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", type(function).__name__)
    outer = name.split(".<locals>")[0]
    return f"a lambda in {outer}" if name.endswith("<lambda>") else outer


def _first_sentence(function: Callable) -> str | None:
    while isinstance(function, functools.partial):
        function = function.func
    docstring = inspect.getdoc(function) if inspect.isroutine(function) else None
    return " ".join(docstring.split("\n\n")[0].split()) if docstring else None


def optimizer_words(state: Any) -> str:
    """What an optax state tells of its optimizer: `Adam, a learning-rate schedule`."""
    is_known = lambda leaf: type(leaf).__name__ in _OPTIMIZERS  # noqa: E731
    found = [type(leaf).__name__ for leaf in jax.tree.leaves(state, is_leaf=is_known) if is_known(leaf)]
    names = list(dict.fromkeys(_OPTIMIZERS[name] for name in found))
    if not [name for name in names if name != "a learning-rate schedule"]:
        names.insert(0, "gradient descent")
    return ", ".join(names)


def sentences(facts: Mapping) -> str:
    """The facts of an experiment as text for the terminal."""
    several = len(facts["stages"]) > 1
    preset = f"; values of the preset {facts['preset']}" if facts["preset"] else ""
    parts = [_paragraph(facts["headline"]), _paragraph(f"{facts['id']} ({facts['module']}){preset}")]
    if facts["row"]:
        parts.append(_paragraph(f"Review: {facts['row']['place']}. {facts['row']['citation']}"))
    parts.append(_section("Equations", facts["equations"]))
    for stage in facts["stages"]:
        heading = (
            f"Stage {stage['name']}, {stage['steps']:,} steps" if several else f"{stage['steps']:,} steps"
        )
        parts.append(heading)
        parts.append(_section("Networks", [_network_words(each) for each in stage["networks"]]))
        frozen = [
            f"{each['name']}: {each['description']}, {each['parameters']:,} values"
            for each in stage["frozen"]
        ]
        parts.append(_section("Frozen networks", frozen))
        parts.append(_section("Each step", step_words(stage)))
        parts.append(_section("Data", data_words(stage["data"])))
    parts.append(_section("Loss terms", [f"{name}: {words}" for name, words in facts["terms"].items()]))
    parts.append(_section("Measured on test cases", _metric_words(facts)))
    published = facts["row"]["published"] if facts["row"] else []
    parts.append(_section("Published, on the paper's data", published))
    parts.append(_section("The paper's data", facts["row"]["datasets"] if facts["row"] else []))
    parts.append(_section("Not said by the paper, chosen here", facts["unknowns"]))
    parts.append(_section("Notes", [f"{name}: {note}" for name, note in facts["notes"].items()]))
    settings = [f"{name} = {value!r}" for name, value in flat(facts["configuration"]).items()]
    parts.append(_section("Configuration", settings))
    return "\n\n".join(part for part in parts if part)


def flat(values: Mapping, prefix: str = "") -> dict[str, Any]:
    """Nested plain values by dotted name."""
    found = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def _paragraph(text: str) -> str:
    return textwrap.fill(text, WIDTH)


def _section(heading: str, items: Sequence[str]) -> str:
    """A heading and its items; empty without items."""
    if not items:
        return ""
    wrap = functools.partial(textwrap.fill, width=WIDTH, initial_indent="  ", subsequent_indent="      ")
    return "\n".join([heading, *map(wrap, items)])


def _network_words(network: Mapping) -> str:
    words = f"{network['name']}: {network['type']}, {network['parameters']:,} parameters"
    if not network["trained"]:
        words += "; not trained in this stage"
    if network["state"]:
        words += f"; keeps {', '.join(network['state'])}"
    if network["average_decay"] is not None:
        words += f"; a moving average (decay {network['average_decay']:g}) is what is used after training"
    return words


def step_words(stage: Mapping) -> list[str]:
    """What happens in one step of a stage, in the order of play."""
    words = []
    if stage["prepare"]:
        words.append(f"The batch is prepared on the device by {stage['prepare']}.")
    for number, phase in enumerate(stage["phases"], 1):
        words.append(f"{number}. {_phase_words(phase)}")
    if stage["memory_values"]:
        values = f"{stage['memory_values']:,} value" + "s" * (stage["memory_values"] > 1)
        words.append(f"A memory of {values} goes from step to step.")
    return words


def _phase_words(phase: Mapping) -> str:
    words = f"{phase['name']}: {' and '.join(phase['trains'])} by {phase['optimizer']} on {phase['loss']}"
    words += f" ({phase['loss_in_words'].rstrip('.')})" if phase["loss_in_words"] else ""
    if phase["repeats"] > 1:
        words += f"; {phase['repeats']} updates, each on fresh data"
    if phase["accumulate"] > 1:
        words += f"; the gradient is the mean over {phase['accumulate']} slices of the batch"
    if phase["when"]:
        words += f"; only when {phase['when']} holds"
    if phase["reads"] == "start":
        words += "; against the opponents as they were at the start of the step"
    if phase["project"]:
        words += f"; then the parameters go through {phase['project']}"
    return words + "."


def data_words(data: Mapping) -> list[str]:
    """Where the data of a stage come from, and how many go into a batch."""
    words = [f"{part}: {each['cases']:,} cases of {each['name']}" for part, each in data["sources"].items()]
    sizes = ", ".join(f"{size} of {name}" for name, size in data["batch_sizes"].items())
    return [*words, f"batch: {sizes}"]


def _metric_words(facts: Mapping) -> list[str]:
    words = []
    for metric in facts["metrics"]:
        unit = f" [{metric['unit']}]" if metric["unit"] else ""
        better = "higher" if metric["higher_is_better"] else "lower"
        chosen = "; chooses the best state on validation cases" if metric["name"] == facts["select"] else ""
        words.append(f"{metric['name']}{unit}, {better} is better{chosen}")
    if facts["baseline"]:
        words.append(f"beside the trivial baseline: {facts['baseline']}")
    if facts["twin"]:
        words.append("beside the same networks without the adversarial part (train --twin)")
    return words
