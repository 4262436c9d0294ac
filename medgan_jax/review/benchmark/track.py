"""What a track of the benchmark is: one task, who enters it, what is shown to an entrant, and what is
measured.

Experiments name and scale their images in their own ways. A `View` reads an experiment's prepared batch and
its outputs in the words of the track, so that one metric measures all entrants on the same numbers.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax

from medgan_jax import cli
from medgan_jax.configuration import DataOptions, ExperimentConfig
from medgan_jax.errors import UserError
from medgan_jax.game import Baseline, Experiment, Metric, Stage
from medgan_jax.review.benchmark import cost

Case = Mapping[str, jax.Array]
# A method of the review; its non-adversarial twin; another configuration of it that has no adversary; another
# GAN on the same images; a network with the usual loss; what is not trained by gradients.
Kind = Literal["method", "twin", "reference", "rival", "plain", "classical"]


@dataclasses.dataclass(frozen=True)
class View:
    """An experiment in the words of a track.

    case: prepared batch -> what the track shows an entrant and asks of it: `input`, `target` and what metrics
    need, (B, ...). answer: (outputs of `infer`, prepared batch) -> what is measured, such as `output`.
    """

    case: Callable[[Any], Case]
    answer: Callable[[Case, Any], Case]


def named(*, answer: Mapping[str, str], **case: str) -> Callable[[Any], View]:
    """The view that only renames: `named(input="low", target="full", answer={"output": "denoised"})`."""
    view = View(
        lambda batch: {name: batch[field] for name, field in case.items() if field in batch},
        lambda outputs, batch: {name: outputs[field] for name, field in answer.items()},
    )
    return lambda config: view


@dataclasses.dataclass(frozen=True)
class Entrant:
    """A method that is trained in a track.

    id: of the experiment that it is, or whose twin it is; an id or a module. view: of that experiment, from
    its configuration. changes: (preset, its configuration) -> values that make its task the track's. build:
    of what learns on the track's own cases, (task, configuration) -> `Experiment`; see `plain`. rates:
    configuration fields that tuning scales together.
    """

    name: str
    kind: Kind
    id: str = ""
    view: Callable[[Any], View] | None = None
    changes: Callable[[str, Any], Mapping[str, Any]] = lambda preset, config: {}
    build: Callable[[Experiment, Any], Experiment] | None = None
    rates: tuple[str, ...] = ("learning_rate", "discriminator_rate")


@dataclasses.dataclass(frozen=True)
class Track:
    """One task, and who enters it; the first entrant's experiment is the host, on whose data all are
    compared.

    metrics: of the host's configuration, on a view's answers and cases; the first is the headline, by which
    methods are ranked, states are chosen and rates are tuned. classical: untrained methods on cases, beside
    those that the host's experiment has. shared: raw fields of the data of entrant number `origin` that are
    written to a folder which all entrants then read, for entrants whose own phantoms differ; none where the
    host's data are everybody's. proved: parts of a case that must agree between entrants. note: what is not
    equal. module: where the track is found by name in `TRACKS`.
    """

    module: str
    name: str
    application: str
    title: str
    task: str
    entrants: tuple[Entrant, ...]
    metrics: Callable[[Any], tuple[Metric, ...]]
    classical: Callable[[Any], tuple[Baseline, ...]] = lambda config: ()
    shared: tuple[str, ...] = ()
    origin: int = 0
    proved: tuple[str, ...] = ("input", "target")
    note: str = ""

    @property
    def host(self) -> Entrant:
        """The entrant whose data are the track's."""
        return self.entrants[0]

    def entrant(self, name: str) -> Entrant:
        """The entrant called `name`."""
        return next(each for each in self.entrants if each.name == name)


def find(module: str, name: str) -> Track:
    """The track called `name` among the `TRACKS` of a module."""
    tracks = importlib.import_module(module).TRACKS
    found = next((each for each in tracks if each.name == name), None)
    if found is None:
        raise UserError(f"there is no track {name!r}; there are {', '.join(each.name for each in tracks)}")
    return found


# --- configurations and experiments ---


@dataclasses.dataclass(frozen=True)
class PlainConfig(ExperimentConfig):
    """Configuration of a plain network: its width at the first level, its levels, its code, its step size."""

    base: int = 64
    levels: int = 5
    latent: int = 128
    learning_rate: float = 5e-4


PLAIN = {
    "tiny": dict(base=4, levels=2, latent=4),
    "small": dict(base=16, levels=4, latent=32, learning_rate=1e-3),
    "paper": {},
}
SAME = ("batch_size", "evaluation_cases", "evaluate_every", "data")


def configuration(track: Track, entrant: Entrant, preset: str, source: str, factor: float = 1.0) -> Any:
    """An entrant's configuration: the preset's with its changes, on the track's data, its rates times
    `factor`.

    Nothing is computed: what learns on the track's own cases has the host's steps here, see `settled`.
    """
    if entrant.build is not None:
        host = configuration(track, track.host, preset, source)
        same = {name: getattr(host, name) for name in ("steps", *SAME)}
        config = PlainConfig(**PLAIN[preset] | same)
    else:
        config = cli.load(entrant.id).preset(preset)
        config = dataclasses.replace(config, **entrant.changes(preset, config), data=DataOptions(source))
        config = config.twin() if entrant.kind == "twin" else config
    present = [name for name in entrant.rates if hasattr(config, name)]
    return dataclasses.replace(config, **{name: factor * getattr(config, name) for name in present})


def settled(track: Track, entrant: Entrant, preset: str, source: str, config: Any) -> Any:
    """The configuration, with as many steps as the host has updates of its generator where `build` makes
    the game.
    """
    if entrant.build is None:
        return config
    host = cli.load(track.host.id).factory(configuration(track, track.host, preset, source))
    return dataclasses.replace(config, steps=cost.updates(host))


def factory(track: Track, entrant: Entrant, preset: str, source: str) -> Callable[[Any], Experiment]:
    """Configuration -> the entrant's experiment, measured and chosen by the track's metrics alone."""

    def make(config):
        if entrant.build is not None:
            return entrant.build(task(track, preset, source), config)
        metrics = track.metrics(configuration(track, track.host, preset, source))
        return measured_by(metrics, cli.load(entrant.id).factory(config), entrant.view(config))

    return make


def measured_by(metrics: tuple[Metric, ...], experiment: Experiment, own: View) -> Experiment:
    """The experiment with the track's metrics in the place of its own; the first chooses the best state."""

    def through(metric):
        def per_case(outputs, batch):
            return metric.per_case(own.answer(outputs, batch), own.case(batch))

        return dataclasses.replace(metric, per_case=per_case)

    return dataclasses.replace(
        experiment,
        metrics=tuple(map(through, metrics)),
        select=metrics[0].name,
        baseline=None,
        others=(),
        learning=(),
        early_stopping=None,
    )


def task(track: Track, preset: str, source: str) -> Experiment:
    """The track itself as an experiment without networks, whose batches are cases."""
    config = configuration(track, track.host, preset, source)
    stage, case = cli.load(track.host.id).factory(config).stages[-1], track.host.view(config).case
    bare = Stage("task", {}, (), stage.data, 1, lambda batch, key: case(stage.prepare(batch, key)))
    metrics = track.metrics(config)
    return Experiment(
        id=track.name,
        config=config,
        stages=(bare,),
        infer=lambda nets, case, key: {},
        metrics=metrics,
        select=metrics[0].name,
        images=("input", "output", "target"),
    )


def classical(track: Track, preset: str, source: str) -> Experiment:
    """The host with the track's metrics, and with all untrained methods as its `others`: its own and the
    track's.
    """
    config = configuration(track, track.host, preset, source)
    host, own = cli.load(track.host.id).factory(config), track.host.view(config)
    answered = View(own.case, lambda outputs, batch: outputs)
    ours = [_of_host(method, own) for method in (host.baseline, *host.others) if method is not None]
    more = [_of_case(method, own) for method in track.classical(config)]
    metrics = track.metrics(config)
    measured = measured_by(metrics, host, answered)
    return dataclasses.replace(measured, judge=None, compare=None, images=(), others=(*ours, *more))


def _of_host(method: Baseline, own: View) -> Baseline:
    """A method of the host's experiment with the track's answers."""

    def apply(fitted, batch, key):
        return own.answer(method.apply(fitted, batch, key), batch)

    return dataclasses.replace(method, apply=apply)


def _of_case(method: Baseline, own: View) -> Baseline:
    """A method on the track's cases, for the host's batches."""

    def apply(fitted, batch, key):
        return method.apply(fitted, own.case(batch), key)

    fit = None if method.fit is None else lambda batches: method.fit(own.case(batch) for batch in batches)
    return dataclasses.replace(method, apply=apply, fit=fit)
