"""The contracts of an adversarial game: networks, phases that take turns, stages, and the experiment.

A GAN is a game between named networks that are updated in turns. Everything here is a description, plain frozen
dataclasses and pure functions; `medgan_jax.training` plays the game. A loss is a pure function

    loss(nets, batch, context) -> (scalar, Terms(nets, memory=None, **named_parts))

in which `nets.G` is a network with its present parameters. How a network is called says what becomes of its state:

    nets.G(x)                  a network without state (batch statistics, spectral vectors); raises if it has any
    y, nets = nets.G.update(x) training mode, and the state goes on
    nets.G.peek(x)             training mode, the new state is dropped on purpose (gradient penalties, opponents)
    nets.G.eval(x)             evaluation mode: stored statistics, no dropout

State that is updated and then forgotten raises `StateError` with the network's name when the step is traced.
This file is the only one that calls linen's `init` and `apply`.
"""

import dataclasses
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

Tree = Any
Batch = Any


class StateError(RuntimeError):
    """State of a network was dropped, branched or not returned; the message names the network."""


def name_key(key: jax.Array, name: str) -> jax.Array:
    """A random key that belongs to `name`: the same name and key give the same key on every machine."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def cast_floating(tree: Tree, dtype) -> Tree:
    """The tree with floating-point arrays in `dtype`; other arrays, Python numbers and texts are left alone."""

    def cast(leaf):
        is_array = isinstance(leaf, jax.Array | np.ndarray)
        return leaf.astype(dtype) if is_array and jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, tree)


def with_types_of(older: Tree, newer: Tree) -> Tree:
    """`newer` in the types of `older`, a tree of the same structure: what is carried never changes its type."""
    return jax.tree.map(lambda old, new: jnp.asarray(new, old.dtype), older, newer)


class Ledger:
    """Trace-time record of the state versions that were handed out and of how often each network was called."""

    def __init__(self):
        self.issued: dict[str, int] = {}
        self.calls: dict[str, int] = {}

    def next_call(self, name: str) -> int:
        number = self.calls.get(name, 0)
        self.calls[name] = number + 1
        return number


class Initialisation:
    """Networks that come into being by the first calls that losses make to them.

    The losses are traced for their shapes, and the calls are noted: wherever a call stands, in a loop or inside a
    gradient, `variables` makes the initial values outside of it, from the shapes of its arguments.
    """

    def __init__(self):
        self.shapes: dict[str, Tree] = {}
        self._calls: dict[tuple[str, str], tuple[nn.Module, Any]] = {}

    def note(self, name: str, module: nn.Module, args, kwargs) -> None:
        """Takes the first call to each method of each network."""
        first = (name, str(kwargs.get("method")))
        if first in self._calls:
            return
        call = jax.tree.map(_shape_of_array, (args, kwargs))
        self._calls[first] = module, call
        fresh = jax.eval_shape(lambda: _initial(name, module, call, jax.random.key(0)))
        self.shapes[name] = merge_variables(self.shapes.get(name, {}), fresh)

    def blank(self, name: str) -> Tree:
        """Zeros in the shapes of the variables of a network that has been called."""
        return jax.tree.map(_zeros, self.shapes[name])

    def variables(self, key: jax.Array) -> dict[str, Tree]:
        """The initial variables of every network: each from its own key, made from `key` and its name."""
        born: dict[str, Tree] = {}
        for (name, _), (module, call) in self._calls.items():
            born[name] = merge_variables(born.get(name, {}), _initial(name, module, call, key))
        return born


def _initial(name: str, module: nn.Module, call, key: jax.Array) -> Tree:
    args, kwargs = jax.tree.map(_zeros, call)
    keys = {"params": name_key(key, name), "dropout": key, "noise": key}
    return module.init(keys, *args, train=False, **kwargs)


def _shape_of_array(leaf):
    is_array = isinstance(leaf, jax.Array | np.ndarray)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if is_array else leaf


def _zeros(leaf):
    return jnp.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf


def merge_variables(older: Tree, fresh: Tree) -> Tree:
    """`older` completed by the entries of `fresh` that it lacks."""
    if not isinstance(fresh, Mapping):
        return older
    merged = dict(older)
    for name, value in fresh.items():
        merged[name] = merge_variables(older[name], value) if name in older else value
    return merged


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A network that no phase trains and no checkpoint holds, such as VGG features from a file.

    Its variables are an argument of the compiled step, not constants in it. `description` says in words which
    weights these are and is written to the log and to `evaluation.json`.
    """

    module: nn.Module
    variables: Tree
    description: str


@dataclasses.dataclass(frozen=True)
class Networks:
    """Immutable view of all networks of a stage, made anew for each phase; see the module's docstring."""

    modules: Mapping[str, nn.Module]
    params: Mapping[str, Tree]
    variables: Mapping[str, Tree]
    key: jax.Array
    frozen: frozenset[str] = frozenset()
    compute_dtype: Any = jnp.float32
    ledger: Ledger = dataclasses.field(default_factory=Ledger)
    versions: Mapping[str, int] = dataclasses.field(default_factory=dict)
    initialisation: Initialisation | None = None

    def __getitem__(self, name: str) -> "Network":
        if name not in self.modules:
            raise KeyError(f"no network {name!r} in this stage; it has {', '.join(sorted(self.modules))}")
        return Network(self, name)

    def __getattr__(self, name: str) -> "Network":
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def replace(self, **changes) -> "Networks":
        return dataclasses.replace(self, **changes)

    def check_carried(self, phase: str) -> None:
        """Raise `StateError` if a state that was handed out is not the one this view holds."""
        for name, version in self.ledger.issued.items():
            if self.versions.get(name, 0) != version:
                raise StateError(
                    f"phase {phase!r}: the state of network {name!r} was updated but not returned; "
                    f"write `y, nets = nets.{name}.update(...)` and `Terms(nets, ...)`"
                )


@dataclasses.dataclass(frozen=True)
class Network:
    """One network of a `Networks` view, ready to be called."""

    nets: Networks
    name: str
    compute_dtype: Any = None

    @property
    def module(self) -> nn.Module:
        """The linen module, for its attributes."""
        return self.nets.modules[self.name]

    @property
    def params(self) -> Tree:
        """The present parameters, for penalties on weights; a loss reads them after its call of the network."""
        born = self.nets.initialisation
        if born is None or self.name in self.nets.frozen:
            return self.nets.params[self.name]
        if self.name not in born.shapes:
            raise ValueError(
                f"the parameters of network {self.name!r} are read before any loss calls it; call it first"
            )
        return born.blank(self.name).get("params", {})

    @property
    def float32(self) -> "Network":
        """The same network computing in float32 whatever the precision of the run: for gradient penalties."""
        return dataclasses.replace(self, compute_dtype=jnp.float32)

    def __call__(self, *args, **kwargs):
        """Training mode for a network that keeps no state; raises `StateError` if it keeps some."""
        output, _, collections = self._apply(args, kwargs, train=True)
        if collections:
            raise StateError(
                f"network {self.name!r} keeps state ({', '.join(collections)}): write "
                f"`y, nets = nets.{self.name}.update(...)` to carry it on, or `.peek` or `.eval` to leave it"
            )
        return output

    def update(self, *args, **kwargs):
        """Training mode; returns the output and the networks with the new state."""
        nets, name = self.nets, self.name
        version = nets.versions.get(name, 0)
        if nets.ledger.issued.get(name, 0) != version:
            raise StateError(
                f"network {name!r} is updated from an older state: an earlier `nets` was dropped or used twice; "
                f"rebind it, `y, nets = nets.{name}.update(...)`"
            )
        output, state, collections = self._apply(args, kwargs, train=True)
        nets.ledger.issued[name] = version + 1
        variables = {**nets.variables, name: state} if collections else nets.variables
        versions = {**nets.versions, name: version + 1}
        return output, nets.replace(variables=variables, versions=versions)

    def peek(self, *args, **kwargs):
        """Training mode, but the new state is dropped on purpose."""
        return self._apply(args, kwargs, train=True)[0]

    def eval(self, *args, **kwargs):
        """Evaluation mode: stored statistics and no dropout."""
        return self._apply(args, kwargs, train=False)[0]

    def _apply(self, args, kwargs, train: bool):
        nets, module = self.nets, self.module
        is_frozen = self.name in nets.frozen
        key = jax.random.fold_in(name_key(nets.key, self.name), nets.ledger.next_call(self.name))
        if nets.initialisation is not None and not is_frozen:
            nets.initialisation.note(self.name, module, args, kwargs)
            known = nets.initialisation.blank(self.name)
            params = known.get("params", {})
            state = {name: value for name, value in known.items() if name != "params"}
        else:
            params, state = nets.params[self.name], nets.variables.get(self.name, {})
        collections = sorted(state) if not is_frozen else []
        dtype = self.compute_dtype or nets.compute_dtype
        if dtype != jnp.float32:
            params, args, kwargs = cast_floating((params, args, kwargs), dtype)
        output, mutated = module.apply(
            {"params": params, **state},
            *args,
            train=train and not is_frozen,
            rngs={"dropout": key, "noise": jax.random.fold_in(key, 1)},
            mutable=collections if train else [],
            **kwargs,
        )
        if dtype != jnp.float32:
            output = cast_floating(output, jnp.float32)
        return output, with_types_of(state, {**state, **mutated}), collections


class Terms:
    """What a loss returns beside its value: named parts to log, and the networks and memory to carry on."""

    def __init__(self, nets: Networks, memory: Tree = None, **values: jax.Array):
        self.nets = nets
        self.memory = memory
        self.values = values


@dataclasses.dataclass(frozen=True)
class Context:
    """What a loss or a `when` may know of the run.

    step: step within the stage; global_step: step within the run (both int32 scalars, traced).
    key: random key of this phase, step and repeat. memory: the stage's memory, such as an image pool.
    terms: `{"phase/term": value}` of the phases that were played earlier in this step.
    """

    step: jax.Array
    global_step: jax.Array
    key: jax.Array
    memory: Tree = ()
    terms: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)


Loss = Callable[[Networks, Batch, Context], tuple[jax.Array, Terms]]


@dataclasses.dataclass(frozen=True)
class Phase:
    """One turn of the game: which networks move, along the gradient of which loss.

    name: name in logs. trains: networks that this phase updates; all others are constants to it.
    loss: see the module's docstring. optimizer: an optax transformation over `{network: parameters}`; one that takes
        extra arguments is given the loss of this update as `value`.
    repeats: updates per step, each on fresh data (n_critic); batches then have leaves `(repeats, B, ...)` and
        phases with fewer repeats read the last ones.
    when: predicate on a `Context`; the phase is skipped in steps where it is false.
    reads: parameters of the opponents, 'latest' (after the earlier phases) or 'start' (of this step).
    project: parameters -> parameters after each update, over `{network: parameters}` (weight clipping).
    accumulate: number of slices of the batch whose gradients are averaged before the update.
    """

    name: str
    trains: tuple[str, ...]
    loss: Loss
    optimizer: Any
    repeats: int = 1
    when: Callable[[Context], jax.Array] | None = None
    reads: Literal["latest", "start"] = "latest"
    project: Callable[[Tree], Tree] | None = None
    accumulate: int = 1

    def __post_init__(self):
        if isinstance(self.trains, str):
            raise TypeError(f"phase {self.name!r}: trains is a tuple of names, e.g. ({self.trains!r},)")
        if self.repeats < 1 or self.accumulate < 1:
            raise ValueError(f"phase {self.name!r}: repeats and accumulate must be at least 1")


def unchanged(batch: Batch, key: jax.Array) -> Batch:
    """The default `prepare`: the batch as the pipeline gave it."""
    return batch


def no_memory(nets: Networks, batch: Batch, key: jax.Array) -> Tree:
    """The default `memory`: none."""
    return ()


def carry_matching(previous: Tree, fresh: Tree) -> Tree:
    """`fresh` with every leaf replaced by the leaf of `previous` that has the same path, shape and type.

    This is how a network that grows keeps what it has learned: layers that exist in both stages go on,
    layers that are new start from their initial values.
    """
    known = dict(jax.tree_util.tree_leaves_with_path(previous))

    def choose(path, leaf):
        earlier = known.get(path)
        fits = earlier is not None and (earlier.shape, earlier.dtype) == (leaf.shape, leaf.dtype)
        return earlier if fits else leaf

    return jax.tree_util.tree_map_with_path(choose, fresh)


def with_a_copy(network: str, copy: str) -> Callable[[Tree, Tree], Tree]:
    """A stage's `carry_over`: `carry_matching`, and the network `copy` starts as `network` has become."""

    def carry(previous, fresh):
        carried = carry_matching(previous, fresh)
        return {kind: {**trees, copy: jax.tree.map(jnp.copy, trees[network])} for kind, trees in carried.items()}

    return carry


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of the training with its own networks, phases and data.

    networks: name -> linen module, called as `module(*args, train=bool)`.
    phases: in the order they are played within a step. data: a `medgan_jax.data.pipeline.Data`.
    steps: number of steps. prepare: (batch, key) -> batch, on the device, for each repeat (forward models, noise).
    frozen: name -> `Frozen`. ema: network -> decay of a moving average of its parameters and statistics.
    memory: (nets, prepared batch, key) -> pytree that phases may change (image pools, running scales). Under `pmap`
        its scalars are averaged over devices; arrays are the loss's own care (`axes.gather`, `axes.mean`).
    carry_over: (previous, fresh) -> variables by network, from the stage before: see `carry_matching`.
    """

    name: str
    networks: Mapping[str, nn.Module]
    phases: tuple[Phase, ...]
    data: Any
    steps: int
    prepare: Callable[[Batch, jax.Array], Batch] = unchanged
    frozen: Mapping[str, Frozen] = dataclasses.field(default_factory=dict)
    ema: Mapping[str, float] = dataclasses.field(default_factory=dict)
    memory: Callable[[Networks, Batch, jax.Array], Tree] = no_memory
    carry_over: Callable[[Tree, Tree], Tree] = carry_matching

    def __post_init__(self):
        names = [phase.name for phase in self.phases]
        if len(set(names)) != len(names):
            raise ValueError(f"stage {self.name!r}: two phases have the same name")
        unknown = {n for phase in self.phases for n in phase.trains} | set(self.ema)
        unknown -= set(self.networks)
        if unknown:
            raise ValueError(f"stage {self.name!r}: no network {sorted(unknown)} in {sorted(self.networks)}")
        if set(self.frozen) & set(self.networks):
            raise ValueError(f"stage {self.name!r}: a network is either trained or frozen")

    @property
    def repeats(self) -> int:
        """Number of batches that one step draws."""
        return max((phase.repeats for phase in self.phases), default=1)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """All modules by name, frozen ones included."""
        return {**self.networks, **{name: frozen.module for name, frozen in self.frozen.items()}}

    @property
    def frozen_variables(self) -> dict[str, Tree]:
        """Variables of the frozen networks, an argument of every compiled function."""
        return {name: frozen.variables for name, frozen in self.frozen.items()}


@flax.struct.dataclass
class TrainState:
    """All that a run has to remember; randomness and data position follow from (seed, step).

    step: within the stage. global_step: within the run. params: network -> parameters.
    variables: network -> collection -> state. optimizers: phase -> optimizer state.
    ema: network -> {"params", "variables"}. memory: see `Stage.memory`.
    """

    step: jax.Array
    global_step: jax.Array
    params: Tree
    variables: Tree
    optimizers: Tree
    ema: Tree
    memory: Tree


def inference_networks(
    stage: Stage, state: TrainState, frozen: Tree, key: jax.Array, *, average: bool = True, compute_dtype=jnp.float32
) -> Networks:
    """The networks of a trained state, with moving averages in the place of the networks that have one."""
    params, variables = dict(state.params), dict(state.variables)
    if average:
        for name, copy in state.ema.items():
            params[name], variables[name] = copy["params"], copy["variables"]
    return view(stage, params, variables, frozen, key, compute_dtype=compute_dtype)


def view(stage: Stage, params: Tree, variables: Tree, frozen: Tree, key: jax.Array, **options) -> Networks:
    """Networks of `stage` over the given parameters, state and frozen variables."""
    frozen_params = {name: value.get("params", {}) for name, value in frozen.items()}
    frozen_state = {name: {c: v for c, v in value.items() if c != "params"} for name, value in frozen.items()}
    return Networks(
        modules=stage.modules,
        params={**params, **frozen_params},
        variables={**variables, **frozen_state},
        key=key,
        frozen=frozenset(frozen),
        **options,
    )


@dataclasses.dataclass(frozen=True)
class Metric:
    """A measure of one case or of the whole test set.

    per_case: (outputs, batch) -> `(B,)` array, or a dict of such arrays when `summary` needs several.
    summary: arrays over all cases -> one number, for measures such as ROC-AUC that no single case has.
    calibrate: arrays over the validation cases -> a threshold; `summary` then takes it as a second argument.
    """

    name: str
    per_case: Callable[[Mapping[str, jax.Array], Batch], Any]
    unit: str
    higher_is_better: bool
    summary: Callable[..., float] | None = None
    calibrate: Callable[[Mapping[str, Any]], float] | None = None


@dataclasses.dataclass(frozen=True)
class Baseline:
    """The trivial method that is scored beside the experiment: zero filling, interpolation, a mean image.

    apply: (fitted, prepared batch, key) -> the named images that `infer` gives. fit: prepared training batches ->
    fitted arrays, for baselines that need the training data (such as its mean image).
    """

    name: str
    apply: Callable[[Tree, Batch, jax.Array], Mapping[str, jax.Array]]
    fit: Callable[[Any], Tree] | None = None


@dataclasses.dataclass(frozen=True)
class Bound:
    """What the `small` preset must show on phantoms: `metric` `relation` `times * other + plus`.

    metric: of the experiment, its mean over the test cases. relation: ">=" or "<=". other: a number, or whose
    value of the same metric: "baseline", "twin", or the name of one of the experiment's `others`; of: the metric
    that is read there, where it is not the same one ("method" as `other` compares two metrics of the method).

        Bound("psnr", ">=", "baseline", plus=3.0)       3 dB above the baseline
        Bound("swd", "<=", "baseline", times=0.5)       half of the baseline's distance
        Bound("modes", ">=", 7)
        Bound("psnr_2", ">=", "method", of="psnr_1")    the second output is no worse than the first
    """

    metric: str
    relation: Literal[">=", "<="]
    other: float | str
    of: str | None = None
    times: float = 1.0
    plus: float = 0.0

    def __post_init__(self):
        if self.relation not in (">=", "<="):
            raise ValueError(f"bound on {self.metric!r}: the relation is '>=' or '<=', not {self.relation!r}")

    def limit(self, record: Mapping[str, Any]) -> float | None:
        """The right side, read from an evaluation's record; None where that was not measured."""
        if not isinstance(self.other, str):
            return self.times * self.other + self.plus
        tables = {
            **record.get("others", {}),
            "method": record["metrics"],
            "baseline": record["baseline"] or {},
            "twin": (record["twin"] or {}).get("metrics", {}),
        }
        value = tables.get(self.other, {}).get(self.of or self.metric, {}).get("mean")
        return None if value is None else self.times * value + self.plus

    def holds(self, record: Mapping[str, Any]) -> bool:
        """Whether a record keeps the bound; what was not measured keeps none."""
        value, limit = record["metrics"][self.metric]["mean"], self.limit(record)
        if value is None or limit is None:
            return False
        return value >= limit if self.relation == ">=" else value <= limit

    def in_words(self) -> str:
        """`psnr >= baseline + 3`."""
        if not isinstance(self.other, str):
            right = f"{self.times * self.other + self.plus:g}"
        else:
            right = (f"{self.times:g} x " if self.times != 1 else "") + self.other
            right += f" {self.of}" if self.of else ""
            right += f" {'+' if self.plus > 0 else '-'} {abs(self.plus):g}" if self.plus else ""
        return f"{self.metric} {self.relation} {right}"


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Stop when the validation `metric` (the experiment's `select`) has not improved for `patience` evaluations."""

    metric: str
    patience: int


@dataclasses.dataclass(frozen=True)
class Prediction:
    """How `predict` uses the game on a user's image.

    input: name of the batch's field that takes the image. output: name of the image of `infer` that is written.
    intensity: array in the file's units -> invertible map to the network's range; output_intensity: the map whose
    inverse gives the output's units, where they are not the input's. rank: of the images that the
    networks take; a volume given to networks of rank 2 is done slice by slice. restore_units: whether the output is
    an image in the input's units (False for masks and maps).
    """

    input: str
    output: str
    intensity: Callable[[Any], Any]
    output_intensity: Any = None
    rank: int = 2
    restore_units: bool = True


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A method of the review, ready to run: a game, what it shows, and how it is measured.

    id: catalogue id. config: the configuration it was made from. stages: played in order.
    infer: (nets, prepared batch, key) -> named images `(B, ...)`, pure.
    judge: (nets, outputs, prepared batch) -> more outputs, of the method and of all that it is compared with alike:
        what a downstream network says of them.
    baseline: the trivial method, scored beside this one; others: classical methods, scored beside it, too.
    metrics: measured on test cases. select: name of the metric on validation data that chooses the best state.
    images: names of the images to show, in order, from the outputs of `infer` or the batch; value_range: what is
        black and what is white in them, image_ranges the same for single ones. compare: (output, field of the
        batch) whose absolute difference is shown as "error".
    terms: what each loss term is and its weight, in words, for `describe`.
    unknowns: what the paper does not say and the project chose.
    forward: (output image, prepared batch) -> what would be measured of it, such as k-space at the mask; for audits.
    learning: what a run of the `small` preset on phantoms must show; see `medgan_jax.review.learning`.
    """

    id: str
    config: Any
    stages: tuple[Stage, ...]
    infer: Callable[[Networks, Batch, jax.Array], Mapping[str, jax.Array]]
    judge: Callable[[Networks, Mapping[str, jax.Array], Batch], Mapping[str, jax.Array]] | None = None
    metrics: tuple[Metric, ...] = ()
    select: str | None = None
    baseline: Baseline | None = None
    others: tuple[Baseline, ...] = ()
    images: tuple[str, ...] = ()
    value_range: tuple[float, float] = (-1.0, 1.0)
    image_ranges: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    compare: tuple[str, str] | None = None
    early_stopping: EarlyStopping | None = None
    prediction: Prediction | None = None
    terms: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unknowns: tuple[str, ...] = ()
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    forward: Callable[[jax.Array, Batch], jax.Array] | None = None
    learning: tuple[Bound, ...] = ()

    def __post_init__(self):
        names = [metric.name for metric in self.metrics]
        self._check_learning(names)
        if self.select is not None and self.select not in names:
            raise ValueError(f"experiment {self.id!r}: select names no metric {self.select!r}; it has {names}")
        if self.early_stopping is not None and self.early_stopping.metric != self.select:
            raise ValueError(
                f"experiment {self.id!r}: early stopping watches {self.early_stopping.metric!r} and the best state is "
                f"chosen by {self.select!r}; they must be the same metric"
            )

    def _check_learning(self, names: list[str]) -> None:
        compared = {"method", "baseline", "twin", *(other.name for other in self.others)}
        for bound in self.learning:
            unknown = {bound.metric, bound.of or bound.metric} - set(names)
            if isinstance(bound.other, str) and bound.other not in compared:
                unknown.add(bound.other)
            if unknown:
                raise ValueError(f"experiment {self.id!r}: bound {bound.in_words()!r} names {sorted(unknown)}")

    def metric(self, name: str) -> Metric:
        """The metric called `name`."""
        return next(metric for metric in self.metrics if metric.name == name)
