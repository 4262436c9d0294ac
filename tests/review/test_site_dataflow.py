"""What a loss reads is found in its traced program, through loops, branches and gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from medgan_jax.game import Terms
from medgan_jax.review.site import dataflow

NAMES = ("a", "b", "c")


def sources(function, *shapes):
    """What the results of a function of `a`, `b`, `c` are made of."""

    def marked(*arguments):
        return function(
            *(dataflow._mark(value, f"batch:{name}") for name, value in zip(NAMES, arguments, strict=False))
        )

    traced = jax.make_jaxpr(marked)(*(jnp.ones(shape) for shape in shapes))
    found = dataflow._follow(traced.jaxpr, [frozenset()] * len(shapes), {})
    return [{name.removeprefix("batch:") for name in each} for each in found]


def test_only_what_is_used_is_read():
    assert sources(lambda a, b: (a + 1, jnp.sin(b).sum() + a.sum()), (3,), (3,)) == [{"a"}, {"a", "b"}]


def test_through_a_compiled_function():
    assert sources(jax.jit(lambda a, b: (b, a * a)), (), ()) == [{"b"}, {"a"}]


def test_through_a_branch_its_condition_is_read_too():
    function = lambda a, b, c: jax.lax.cond(a > 0, lambda: b, lambda: c)  # noqa: E731
    assert sources(function, (), (), ()) == [{"a", "b", "c"}]


def test_a_scan_carries_what_it_meets():
    def function(a, b, c):
        # b reaches the second carry only through the first, in the next turn of the loop.
        (_, second), ys = jax.lax.scan(lambda carry, x: ((b, carry[0]), x), (a, a), c)
        return second, ys

    assert sources(function, (), (), (4,)) == [{"a", "b"}, {"c"}]


def test_a_while_loop_counts_as_a_whole():
    function = lambda a, b: jax.lax.while_loop(lambda s: s[0] < b, lambda s: (s[0] + 1, s[1] + a), (a, a))  # noqa: E731
    assert sources(function, (), ()) == [{"a", "b"}] * 2


def test_noise_is_named():
    assert sources(lambda a: a + jax.random.normal(jax.random.key(0)), ()) == [{"a", "noise"}]


@pytest.fixture(scope="module")
def turns(toy_stage):
    return dataflow.turns(toy_stage)


def read_by(turn):
    """Each call as (network, mode, what it reads), with the names of networks in the place of keys."""
    name = lambda source: source.split(":")[1]  # noqa: E731
    return [(call.network, call.mode, tuple(map(name, call.reads))) for call in turn.calls]


def test_calls_of_the_toy(turns):
    critic, generator = turns
    assert (critic.phase, generator.phase) == ("critic", "generator")
    assert read_by(critic) == [("G", "peek", ("noisy",)), ("D", "call", ("G",)), ("D", "call", ("clean",))]
    assert read_by(generator) == [("G", "update", ("noisy",)), ("D", "call", ("G",)), ("F", "eval", ("G",))]


def test_terms_of_the_toy(turns):
    critic, generator = turns
    assert critic.terms == () and len(critic.reads) == 2
    (error,) = generator.terms
    assert (error.name, error.in_loss) == ("error", True)
    assert {source.split(":")[1] for source in error.reads} == {"clean", "G"}
    assert {source.split(":")[1] for source in generator.reads} == {"D", "F"}


def test_penalties_weights_memory_earlier_terms_and_what_is_only_logged(toy_stage):
    def first(nets, batch, context):
        slope = jax.grad(lambda x: nets.D(x).sum())(batch["clean"])
        squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(nets.D.params))
        fake = nets.G.peek(batch["noisy"])
        return (slope**2).mean() + 0.1 * squares + context.memory * fake.mean(), Terms(nets, seen=fake.mean())

    def second(nets, batch, context):
        x_hat, nets = nets.G.update(batch["noisy"])
        return x_hat.mean() * context.terms["critic/seen"] + context.terms["critic/gradient_norm"], Terms(
            nets
        )

    critic, generator = toy_stage.phases
    phases = (dataclasses.replace(critic, loss=first), dataclasses.replace(generator, loss=second))
    stage = dataclasses.replace(
        toy_stage, phases=phases, frozen={}, memory=lambda nets, batch, key: jnp.ones(())
    )
    one, two = dataflow.turns(stage)
    kinds = {source.rsplit(":", 1)[0] if source.startswith("call") else source for source in one.reads}
    # This D is linear, so its slope reads nothing but its weights.
    assert kinds == {"weights:D", "call:G", "memory"}
    assert [(term.name, term.in_loss) for term in one.terms] == [("seen", False)]
    assert "term:critic/seen" in two.reads
