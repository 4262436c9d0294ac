"""What flows where in a turn of a game: which networks a loss calls, on what, and what its terms are made
of.

Every loss is traced once, for shapes alone. Values are marked where they enter and leave a network, and the
marks are followed through the traced program; so the answer is what the code does, not what a docstring
says it does.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var

from medgan_jax.game import Context, Network, Networks, Stage, view
from medgan_jax.training.step import last_batch
from medgan_jax.training.summary import batch_shapes, state_shapes

MARK = "medgan_jax:"
Sources = frozenset[str]
NOTHING: Sources = frozenset()


@dataclasses.dataclass(frozen=True)
class Call:
    """A call of a network. mode: `call`, `update`, `peek` or `eval`; reads: what its
    arguments are made of."""

    key: str
    network: str
    mode: str
    reads: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Term:
    """A named part that a loss returns. in_loss: whether the loss is computed from it, or it is only
    logged.
    """

    name: str
    reads: tuple[str, ...]
    in_loss: bool


@dataclasses.dataclass(frozen=True)
class Turn:
    """What a phase's loss does. reads: what the loss is made of beside its terms.

    What is read is the key of a `Call`, `batch:FIELD`, `weights:NETWORK`, `memory`, `noise`, or
    `term:PHASE/NAME` of an earlier phase.
    """

    phase: str
    calls: tuple[Call, ...]
    terms: tuple[Term, ...]
    reads: tuple[str, ...]


def turns(stage: Stage) -> tuple[Turn, ...]:
    """What the losses of a stage do, in the order of play; nothing is computed but shapes."""
    batch, state = batch_shapes(stage), state_shapes(stage)
    calls: dict[str, tuple[str, str, str]] = {}

    def play(batch, params, variables, memory, frozen):
        key = jax.random.key(0)
        batch = _marked_fields(stage.prepare(last_batch(stage, batch), key))
        params = {name: _mark(tree, f"weights:{name}") for name, tree in params.items()}
        memory, zero, earlier = _mark(memory, "memory"), jnp.zeros((), jnp.int32), _Earlier()
        played = {}
        for phase in stage.phases:
            nets = _watched(view(stage, params, variables, frozen, key), phase.name, calls)
            loss, terms = phase.loss(nets, batch, Context(zero, zero, key, memory, earlier))
            values = {name: jnp.asarray(value) for name, value in terms.values.items()}
            played[phase.name] = {"loss": jnp.asarray(loss), "terms": values}
            for name, value in {"loss": loss, **values}.items():
                earlier[f"{phase.name}/{name}"] = _mark(value, f"term:{phase.name}/{name}")
        return played

    traced, shapes = jax.make_jaxpr(play, return_shape=True)(
        batch, state.params, state.variables, state.memory, stage.frozen_variables
    )
    reads: dict[str, Sources] = {}
    results = dict(zip(_paths(shapes), _follow_closed(traced, [], reads), strict=True))
    makers = dict(zip(_paths(shapes), traced.jaxpr.outvars, strict=True))
    return tuple(_turn(phase.name, calls, reads, results, makers, traced.jaxpr) for phase in stage.phases)


def _turn(phase: str, calls, reads, results, makers, jaxpr: Jaxpr) -> Turn:
    loss = (phase, "loss")
    ancestors = _ancestors(jaxpr, makers[loss])
    terms = [
        Term(path[2], _ordered(sources), isinstance(makers[path], Var) and makers[path] in ancestors)
        for path, sources in results.items()
        if path[:2] == (phase, "terms")
    ]
    explained = {source for term in terms if term.in_loss for source in term.reads}
    mine = [
        Call(key, network, mode, _ordered(reads.get(key, NOTHING)))
        for key, (player, network, mode) in calls.items()
        if player == phase
    ]
    return Turn(phase, tuple(mine), tuple(terms), _ordered(results[loss] - explained))


def _ordered(sources: Iterable[str]) -> tuple[str, ...]:
    """What is read, without the weights of networks whose calls are read as well."""
    called = {source.split(":")[1] for source in sources if source.startswith("call:")}
    return tuple(sorted(each for each in sources if each.removeprefix("weights:") not in called))


# --- marks ---


class _Earlier(dict):
    """Terms of earlier phases; what is not there, such as a norm of gradients, is zero."""

    def __missing__(self, name):
        return jnp.zeros(())


@dataclasses.dataclass(frozen=True)
class _WatchedNetworks(Networks):
    """Networks whose calls leave marks. calls: `{key: (phase, network, mode)}`, filled while a loss is
    traced.
    """

    phase: str = ""
    calls: Any = None

    def __getitem__(self, name: str) -> Network:
        super().__getitem__(name)
        return _WatchedNetwork(self, name)


@dataclasses.dataclass(frozen=True)
class _WatchedNetwork(Network):
    mode: str = "call"

    def update(self, *args, **kwargs):
        return Network.update(dataclasses.replace(self, mode="update"), *args, **kwargs)

    def peek(self, *args, **kwargs):
        return Network.peek(dataclasses.replace(self, mode="peek"), *args, **kwargs)

    def eval(self, *args, **kwargs):
        return Network.eval(dataclasses.replace(self, mode="eval"), *args, **kwargs)

    def _apply(self, args, kwargs, train: bool):
        calls = self.nets.calls
        key = f"call:{self.name}:{len(calls)}"
        calls[key] = (self.nets.phase, self.name, self.mode)
        args, kwargs = _mark((args, kwargs), f"in:{key}")
        output, *rest = super()._apply(args, kwargs, train)
        return _mark(output, f"out:{key}"), *rest


def _watched(nets: Networks, phase: str, calls: dict) -> _WatchedNetworks:
    fields = {field.name: getattr(nets, field.name) for field in dataclasses.fields(nets)}
    return _WatchedNetworks(**fields, phase=phase, calls=calls)


def _mark(tree, name: str):
    """The tree with every array marked; the mark is an identity that stays in the traced program."""
    is_array = lambda leaf: isinstance(leaf, jax.Array | np.ndarray)  # noqa: E731
    return jax.tree.map(lambda leaf: checkpoint_name(leaf, MARK + name) if is_array(leaf) else leaf, tree)


def _marked_fields(batch):
    """The prepared batch, each leaf marked by its path."""

    def mark(path, leaf):
        names = [
            str(getattr(step, "key", getattr(step, "name", getattr(step, "idx", step)))) for step in path
        ]
        return _mark(leaf, f"batch:{'.'.join(names) or 'batch'}")

    return jax.tree_util.tree_map_with_path(mark, batch)


def _paths(shapes: Mapping) -> list[tuple[str, ...]]:
    """Names on the way to every leaf, in the order of the traced program's results."""
    return [tuple(step.key for step in path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]


# --- following them ---


def _follow_closed(closed: ClosedJaxpr, inputs: list[Sources], reads: dict[str, Sources]) -> list[Sources]:
    return _follow(closed.jaxpr, inputs or [NOTHING] * len(closed.jaxpr.invars), reads)


def _follow(jaxpr: Jaxpr, inputs: list[Sources], reads: dict[str, Sources]) -> list[Sources]:
    """What each result of a traced program is made of; what networks read is added to `reads`."""
    known: dict[Var, Sources] = dict(zip(jaxpr.invars, inputs, strict=True))

    def sources_of(atom) -> Sources:
        return NOTHING if isinstance(atom, Literal) else known.get(atom, NOTHING)

    for equation in jaxpr.eqns:
        results = _through(equation, [sources_of(atom) for atom in equation.invars], reads)
        known.update(zip(equation.outvars, results, strict=True))
    return [sources_of(atom) for atom in jaxpr.outvars]


def _through(equation, inputs: list[Sources], reads: dict[str, Sources]) -> list[Sources]:
    name, count = equation.primitive.name, len(equation.outvars)
    everything = NOTHING.union(*inputs)
    if name == "name" and str(equation.params["name"]).startswith(MARK):
        return [_at_mark(str(equation.params["name"]).removeprefix(MARK), everything, reads)]
    if name == "random_bits":
        return [everything | {"noise"}] * count
    inner = list(_inner(equation.params))
    if not inner:
        return [everything] * count
    if name == "scan":
        return _through_scan(equation, inner[0], inputs, reads)
    if name == "cond":
        chosen = [_follow(branch, inputs[1:], reads) for branch in inner]
        return [inputs[0].union(*results) for results in zip(*chosen, strict=True)]
    if len(inner) == 1 and (len(inner[0].invars), len(inner[0].outvars)) == (len(inputs), count):
        return _follow(inner[0], inputs, reads)
    for _ in range(2):  # what a loop carries around reaches its start again
        for program in inner:
            everything = everything.union(*_follow(program, [everything] * len(program.invars), reads))
    return [everything] * count


def _through_scan(equation, body: Jaxpr, inputs: list[Sources], reads: dict[str, Sources]) -> list[Sources]:
    constants, carried = equation.params["num_consts"], equation.params["num_carry"]
    carry = inputs[constants : constants + carried]
    while True:
        results = _follow(body, [*inputs[:constants], *carry, *inputs[constants + carried :]], reads)
        grown = [before | after for before, after in zip(carry, results, strict=False)]
        if grown == carry:
            return [*carry, *results[carried:]]
        carry = grown


def _at_mark(mark: str, sources: Sources, reads: dict[str, Sources]) -> Sources:
    """What a value counts as behind a mark: inside of a network and behind it, as that call."""
    way, _, key = mark.partition(":")
    if way == "in":
        reads[key] = reads.get(key, NOTHING) | sources
    return frozenset({key if way in ("in", "out") else mark})


def _inner(params: Mapping[str, Any]) -> Iterable[Jaxpr]:
    """The programs that an equation runs: bodies of loops, branches, called functions."""
    for value in params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, ClosedJaxpr):
                yield each.jaxpr
            elif isinstance(each, Jaxpr):
                yield each


def _ancestors(jaxpr: Jaxpr, start) -> set[Var]:
    """Every value of the program that `start` is computed from, and itself."""
    maker = {var: equation for equation in jaxpr.eqns for var in equation.outvars}
    found, waiting = set(), [start]
    while waiting:
        atom = waiting.pop()
        if isinstance(atom, Literal) or atom in found:
            continue
        found.add(atom)
        waiting += maker[atom].invars if atom in maker else []
    return found
