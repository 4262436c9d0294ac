"""The compiled step against the contracts: state, turns, repeats, conditions, averages, memory, precision."""

import re

import flax.linen as nn
import games
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from games import Critic, Generator, Layers

from medgan_jax.errors import UserError
from medgan_jax.game import (
    Experiment,
    Frozen,
    Phase,
    Stage,
    StateError,
    Terms,
    carry_matching,
    inference_networks,
    with_a_copy,
)
from medgan_jax.nn.blocks import ConvBlock, rematerialised
from medgan_jax.nn.norm import BatchNorm
from medgan_jax.training.step import make_carry_over, make_initialise, make_step


class Counting(nn.Module):
    """A dense layer that counts its calls in training and keeps a running mean of its input."""

    @nn.compact
    def __call__(self, x, *, train):
        count = self.variable("counts", "calls", jnp.zeros, (), jnp.int32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, x.shape[-1:])
        if train and not self.is_initializing():
            count.value = count.value + 1
            mean.value = 0.5 * mean.value + 0.5 * x.mean(0)
        return nn.Dense(1, name="dense")(x - mean.value)


class TwoWays(nn.Module):
    """An encoder and a decoder with parameters of their own."""

    def setup(self):
        self.down, self.up = nn.Dense(2), nn.Dense(3)

    def __call__(self, x, *, train):
        return self.up(self.down(x))

    def encode(self, x, *, train):
        return self.down(x)

    def decode(self, z, *, train):
        return self.up(z)


ROWS = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)


def stage(networks, *phases, **options):
    return Stage("toy", networks, phases, None, 10, **options)


def phase(name, trains, loss, optimizer=None, **options):
    return Phase(name, trains, loss, optimizer or optax.sgd(0.1), **options)


def shapes(game, batch):
    """The step traced for its shapes alone, which raises whatever tracing raises."""
    frozen = game.frozen_variables
    state = jax.eval_shape(make_initialise(game), batch, frozen, 0)
    return state, jax.eval_shape(make_step(game), state, batch, frozen, 0)


# Most of the time of a test goes to the compiler.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def initial(game, batch, seed=0):
    """The first state of a stage."""
    return make_initialise(game)(batch, game.frozen_variables, seed)


def play(game, batch, steps=1, *, state=None, seed=0, compute_dtype=jnp.float32):
    """The first state, the state after `steps` steps on the same batch, and the terms of each."""
    state = initial(game, batch, seed) if state is None else state
    step = jax.jit(make_step(game, compute_dtype=compute_dtype), compiler_options=QUICK)
    first, terms = state, []
    for _ in range(steps):
        state, each = step(state, batch, game.frozen_variables, seed)
        terms.append(each)
    return first, state, terms


def square(nets, batch, context):
    return jnp.mean(nets.G(batch) ** 2), Terms(nets)


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def assert_equal(one, other):
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def assert_close(one, other, tolerance=1e-6):
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# -- state that must be carried ----------------------------------------------------------------------------


def forgets(nets, batch, context):
    y, _ = nets.G.update(batch)
    return y.mean(), Terms(nets)


def branches(nets, batch, context):
    _, _one = nets.G.update(batch)
    y, other = nets.G.update(batch)
    return y.mean(), Terms(other)


def returns_older(nets, batch, context):
    _, one = nets.G.update(batch)
    y, _two = one.G.update(batch)
    return y.mean(), Terms(one)


def updates_in_a_gradient(nets, batch, context):
    y, nets = nets.H.update(batch)
    slope = jax.grad(lambda x: nets.G.update(x)[0].sum())(batch)
    return (slope**2).mean() + y.mean(), Terms(nets)


def calls_plainly(nets, batch, context):
    return nets.G(batch).mean(), Terms(nets)


@pytest.mark.parametrize("loss", [forgets, branches, returns_older, updates_in_a_gradient, calls_plainly])
def test_state_that_is_not_carried_is_an_error_with_the_networks_name(loss):
    game = stage(
        {"G": Counting(), "H": Counting()}, phase("turn", ("G",), loss), phase("other", ("H",), carries_both)
    )
    with pytest.raises(StateError, match=r"network 'G'") as caught:
        shapes(game, ROWS)
    if loss is not calls_plainly and loss is not branches:
        assert "'turn'" in str(caught.value)


def carries_both(nets, batch, context):
    y, nets = nets.G.update(batch)
    z, nets = nets.H.update(batch)
    return jnp.mean(z**2) + 0 * y.mean(), Terms(nets)


def test_state_is_carried_through_phases_and_repeats_and_left_by_peek_and_eval():
    def looks(nets, batch, context):
        return nets.G.peek(batch).mean() + nets.G.eval(batch).mean() + nets.H.peek(batch).mean(), Terms(nets)

    game = stage(
        {"G": Counting(), "H": Counting()},
        phase("both", ("H",), carries_both, repeats=3),
        phase("looking", ("G",), looks),
        phase("again", ("G",), carries_both),
    )
    batch = np.stack([ROWS, ROWS + 1, ROWS + 2])
    first, last, _ = play(game, batch, 2)
    assert [int(first.variables[name]["counts"]["calls"]) for name in "GH"] == [0, 0]
    assert [int(last.variables[name]["counts"]["calls"]) for name in "GH"] == [8, 8]
    mean = np.zeros(3)
    for shift in (0, 1, 2, 2) * 2:
        mean = 0.5 * mean + 0.5 * (ROWS + shift).mean(0)
    np.testing.assert_allclose(last.variables["G"]["batch_stats"]["mean"], mean, rtol=1e-5)


def test_unknown_networks_are_named():
    def loss(nets, batch, context):
        return nets.X(batch).mean(), Terms(nets)

    with pytest.raises(AttributeError, match=r"'X'.*has G"):
        shapes(stage({"G": Layers()}, phase("turn", ("G",), loss)), ROWS)
    with pytest.raises(ValueError, match="no phase calls network H"):
        shapes(stage({"G": Layers(), "H": Layers()}, phase("turn", ("G",), square)), ROWS)
    with pytest.raises(ValueError, match="'H'"):
        stage({"G": Layers()}, phase("turn", ("H",), square))
    with pytest.raises(ValueError, match="same name"):
        stage({"G": Layers()}, phase("turn", ("G",), square), phase("turn", ("G",), square))
    with pytest.raises(TypeError, match="tuple"):
        phase("turn", "G", square)


# -- initial values ----------------------------------------------------------------------------------------


def test_networks_begin_wherever_a_loss_first_calls_them():
    def in_a_loop(nets, batch, context):
        def body(carry, _):
            return nets.G(carry), None

        y, _ = jax.lax.scan(body, batch, None, length=2)
        return jnp.mean(y**2) + sum((w**2).sum() for w in jax.tree.leaves(nets.G.params)), Terms(nets)

    first = initial(stage({"G": Layers((3,))}, phase("turn", ("G",), in_a_loop)), ROWS)
    plain = initial(stage({"G": Layers((3,))}, phase("turn", ("G",), square)), ROWS)
    assert_equal(first.params, plain.params)


def test_parameters_are_read_after_the_first_call():
    def weight(nets):
        return sum((w**2).sum() for w in jax.tree.leaves(nets.G.params))

    def reads_late(nets, batch, context):
        loss = jnp.mean(nets.G(batch) ** 2)
        return loss + weight(nets), Terms(nets, weight=weight(nets))

    def reads_early(nets, batch, context):
        early = weight(nets)
        return jnp.mean(nets.G(batch) ** 2) + early, Terms(nets)

    _, _, terms = play(stage({"G": Layers()}, phase("turn", ("G",), reads_late)), ROWS)
    assert float(terms[0]["turn/weight"]) > 0
    with pytest.raises(ValueError, match=r"'G'.*call it first"):
        shapes(stage({"G": Layers()}, phase("turn", ("G",), reads_early)), ROWS)


def test_other_methods_of_a_module_complete_its_parameters():
    def loss(nets, batch, context):
        z = nets.G(batch, method="encode")
        return jnp.mean((nets.G(z, method="decode") - batch) ** 2), Terms(nets)

    first, _last, terms = play(stage({"G": TwoWays()}, phase("turn", ("G",), loss)), ROWS, 3)
    assert set(first.params["G"]) == {"down", "up"}
    assert float(terms[2]["turn/loss"]) < float(terms[0]["turn/loss"])


def test_seeds_and_names_give_other_values_and_types_are_strong():
    game = stage(
        {"G": Layers(), "H": Layers()},
        phase("turn", ("G", "H"), lambda nets, b, c: (jnp.mean((nets.G(b) + nets.H(b)) ** 2), Terms(nets))),
        memory=lambda nets, batch, key: {"scale": jnp.asarray(1.0), "count": jnp.asarray(0)},
        ema={"G": 0.9},
    )
    first, last, _ = play(game, ROWS)
    other = initial(game, ROWS, 1)
    kernel = lambda state, name: np.asarray(state.params[name]["layer_0"]["kernel"])  # noqa: E731
    assert not np.allclose(kernel(first, "G"), kernel(first, "H"))
    assert not np.allclose(kernel(first, "G"), kernel(other, "G"))
    for state in (first, last):
        assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
    assert jax.tree.map(jax.typeof, first) == jax.tree.map(jax.typeof, last)


# -- turns -------------------------------------------------------------------------------------------------


def down(nets, batch, context):
    return jnp.mean((nets.G(batch) - nets.D(batch)) ** 2), Terms(nets)


def up(nets, batch, context):
    return -jnp.mean((nets.G(batch) - nets.D(batch)) ** 2), Terms(nets)


@pytest.mark.parametrize("reads", ["latest", "start"])
def test_phases_take_turns_by_hand(reads):
    module = Layers((4, 1))
    game = stage({"G": module, "D": module}, phase("D", ("D",), up), phase("G", ("G",), down, reads=reads))
    first, last, terms = play(game, ROWS, 3)

    def loss(g, d):
        apply = lambda p: module.apply({"params": p}, ROWS, train=True)  # noqa: E731
        return jnp.mean((apply(g) - apply(d)) ** 2)

    g, d = first.params["G"], first.params["D"]
    move = lambda p, slope, sign: jax.tree.map(lambda a, b: a - sign * 0.1 * b, p, slope)  # noqa: E731
    losses = []
    for _ in range(3):
        before = d
        d = move(d, jax.grad(loss, 1)(g, d), -1)
        opponent = before if reads == "start" else d
        losses.append(loss(g, opponent))
        g = move(g, jax.grad(loss, 0)(g, opponent), 1)
    assert_close(last.params, {"G": g, "D": d})
    np.testing.assert_allclose([each["G/loss"] for each in terms], losses, rtol=1e-5)
    assert int(last.step) == int(last.global_step) == 3


def test_repeats_take_fresh_rows_and_other_phases_the_last():
    seen = lambda nets, batch, context: (  # noqa: E731
        jnp.mean(nets.G(batch["x"]) ** 2),
        Terms(nets, row=batch["x"][0, 0], noise=batch["noise"], own=jax.random.uniform(context.key)),
    )
    game = stage(
        {"G": Layers()},
        phase("thrice", ("G",), seen, repeats=3),
        phase("twice", ("G",), seen, repeats=2),
        phase("once", ("G",), seen),
        prepare=lambda batch, key: {"x": batch, "noise": jax.random.uniform(key)},
    )
    batch = np.stack([ROWS * 0 + value for value in (1, 2, 4)]).astype(np.float32)
    _, _, terms = play(game, batch, 2)
    rows = [terms[0][f"{name}/row"] for name in ("thrice", "twice", "once")]
    np.testing.assert_allclose(rows, [7 / 3, 3, 4])
    # With means over one, two and three numbers the noise of each repeat follows: the last is shared by all.
    noise = [float(terms[0][f"{name}/noise"]) for name in ("thrice", "twice", "once")]
    third, second = noise[2], 2 * noise[1] - noise[2]
    first = 3 * noise[0] - third - second
    assert all(0 <= value <= 1 for value in (first, second, third))
    assert min(abs(first - second), abs(second - third), abs(first - third)) > 1e-3
    assert abs(float(terms[1]["once/noise"]) - third) > 1e-3
    assert abs(float(terms[0]["once/own"]) - float(terms[1]["once/own"])) > 1e-3


def test_a_single_network_may_learn_in_two_phases_with_optimizers_of_their_own():
    game = stage({"G": Layers()}, phase("a", ("G",), square, optax.adam(1e-2)), phase("b", ("G",), square))
    _, last, terms = play(game, ROWS, 2)
    assert int(last.optimizers["a"][0].count) == 2
    assert float(terms[1]["b/loss"]) < float(terms[1]["a/loss"]) < float(terms[0]["a/loss"])


def test_projection_follows_every_update():
    def bounded(nets, batch, context):
        loss = -jnp.mean(nets.G(batch) ** 2)
        largest = jnp.max(jnp.array([jnp.abs(w).max() for w in jax.tree.leaves(nets.G.params)]))
        return loss, Terms(nets, largest=largest)

    clip = lambda params: jax.tree.map(lambda w: jnp.clip(w, -0.05, 0.05), params)  # noqa: E731
    game = stage({"G": Layers()}, phase("turn", ("G",), bounded, optax.sgd(5.0), repeats=2, project=clip))
    _, last, terms = play(game, np.stack([ROWS, ROWS]), 2)
    np.testing.assert_allclose(float(terms[1]["turn/largest"]), 0.05, rtol=1e-6)
    assert max(np.abs(leaf).max() for leaf in leaves(last.params)) <= 0.05 + 1e-9


def test_when_false_leaves_everything_and_reports_zero():
    def counts(nets, batch, context):
        y, nets = nets.G.update(batch)
        return jnp.mean(y**2), Terms(nets, context.memory + 1, part=jnp.mean(y) + 3)

    game = stage(
        {"G": Counting()},
        phase("turn", ("G",), counts, optax.adam(0.1), when=lambda context: context.step % 2 == 1),
        phase("never", ("G",), counts, when=lambda context: False),
        phase("after", ("G",), counts, when=lambda context: context.terms["turn/part"] > 1),
        memory=lambda nets, batch, key: jnp.asarray(0),
    )
    first, once, terms = play(game, ROWS, 1)
    assert_equal(
        (first.params, first.variables, first.optimizers, first.memory),
        (once.params, once.variables, once.optimizers, once.memory),
    )
    assert {name: float(value) for name, value in terms[0].items() if float(value)} == {}
    _, twice, terms = play(game, ROWS, 1, state=once)
    assert [float(terms[0][f"{name}/played"]) for name in ("turn", "never", "after")] == [1, 0, 1]
    assert int(twice.optimizers["turn"][0].count) == 1
    assert int(twice.memory) == int(twice.variables["G"]["counts"]["calls"]) == 2
    assert float(terms[0]["turn/loss"]) > 0


def test_accumulation_equals_the_whole_batch():
    results = []
    for slices in (1, 2, 4):
        game = stage(
            {"G": Layers((4, 1))}, phase("turn", ("G",), square, optax.adam(1e-2), accumulate=slices)
        )
        results.append(play(game, ROWS, 3)[1:])
    for last, terms in results[1:]:
        assert_close(last.params, results[0][0].params)
        np.testing.assert_allclose(
            float(terms[2]["turn/loss"]), float(results[0][1][2]["turn/loss"]), rtol=1e-5
        )
    three = stage({"G": Layers((4, 1))}, phase("turn", ("G",), square, accumulate=3))
    with pytest.raises(UserError, match=r"3 slices.*8 rows"):
        shapes(three, ROWS)


def test_accumulation_carries_state_and_memory_from_slice_to_slice():
    def loss(nets, batch, context):
        y, nets = nets.G.update(batch)
        return jnp.mean(y**2), Terms(nets, context.memory + 1)

    game = stage(
        {"G": Counting()}, phase("turn", ("G",), loss, accumulate=4), memory=lambda *_: jnp.asarray(0.0)
    )
    _, last, _ = play(game, ROWS)
    assert int(last.variables["G"]["counts"]["calls"]) == int(last.memory) == 4


# -- averages, memory, frozen networks, stages -------------------------------------------------------------


def carries(nets, batch, context):
    y, nets = nets.G.update(batch)
    return jnp.mean((y - 1) ** 2), Terms(nets)


def test_moving_averages_cover_parameters_and_statistics():
    game = stage({"G": Counting()}, phase("turn", ("G",), carries), ema={"G": 0.75})
    states = [initial(game, ROWS)]
    step = jax.jit(make_step(game), compiler_options=QUICK)
    for _ in range(3):
        states.append(step(states[-1], ROWS, {}, 0)[0])
    mean = kernel = None
    for state in states:
        present = (state.variables["G"]["batch_stats"]["mean"], state.params["G"]["dense"]["kernel"])
        if mean is None:
            mean, kernel = present
        else:
            mean, kernel = 0.75 * mean + 0.25 * present[0], 0.75 * kernel + 0.25 * present[1]
    average = states[-1].ema["G"]
    assert_close(average["params"]["dense"]["kernel"], kernel)
    assert_close(average["variables"]["batch_stats"]["mean"], mean)
    assert int(average["variables"]["counts"]["calls"]) == 3
    last = states[-1]
    nets = inference_networks(game, last, {}, jax.random.key(0))
    own = inference_networks(game, last, {}, jax.random.key(0), average=False)
    by_hand = Counting().apply({"params": average["params"], **average["variables"]}, ROWS, train=False)
    assert_close(nets.G.eval(ROWS), by_hand)
    assert np.abs(nets.G.eval(ROWS) - own.G.eval(ROWS)).max() > 1e-3


def test_memory_keeps_its_types_and_a_change_of_shape_is_named():
    game = stage(
        {"G": Layers()},
        phase("turn", ("G",), lambda nets, b, c: (nets.G(b).mean(), Terms(nets, {"n": c.memory["n"] + 0.5}))),
        memory=lambda nets, batch, key: {"n": jnp.zeros((), jnp.bfloat16)},
    )
    _, last, _ = play(game, ROWS, 2)
    assert last.memory["n"].dtype == jnp.bfloat16
    assert float(last.memory["n"]) == 1.0
    wrong = stage(
        {"G": Layers()},
        phase("turn", ("G",), lambda nets, b, c: (nets.G(b).mean(), Terms(nets, {"n": jnp.zeros(3)}))),
        memory=lambda nets, batch, key: {"n": jnp.zeros(())},
    )
    with pytest.raises(ValueError, match=r"phase 'turn'.*memory"):
        shapes(wrong, ROWS)


def test_memory_may_be_filled_by_the_networks():
    game = stage(
        {"G": Layers()}, phase("turn", ("G",), square), memory=lambda nets, batch, key: nets.G(batch)
    )
    first, last, _ = play(game, ROWS)
    expected = Layers().apply({"params": first.params["G"]}, ROWS, train=True)
    assert_close(last.memory, expected)


def test_frozen_networks_are_arguments_and_constant():
    fixed = Frozen(Counting(), None, "fixed")
    variables = Counting().init(jax.random.key(3), ROWS, train=False)
    variables = jax.tree.map(lambda leaf: leaf + 1, variables)
    fixed = Frozen(Counting(), variables, "fixed")

    def loss(nets, batch, context):
        y, nets = nets.F.update(nets.G(batch))
        return jnp.mean((y + nets.F(batch)) ** 2), Terms(nets, fixed=nets.F.eval(batch).mean())

    game = stage({"G": Layers((3,))}, phase("turn", ("G",), loss), frozen={"F": fixed})
    first, _last, terms = play(game, ROWS, 2)
    expected = Counting().apply(variables, ROWS, train=False).mean()
    np.testing.assert_allclose([each["turn/fixed"] for each in terms], expected, rtol=1e-5)
    assert "F" not in first.params and "F" not in first.variables and set(first.params) == {"G"}
    assert float(terms[1]["turn/loss"]) < float(terms[0]["turn/loss"])
    text = jax.jit(make_step(game)).lower(first, ROWS, game.frozen_variables, 0).as_text()
    arguments = text[text.index("@main(") : text.index(" -> ")]
    assert "tensor<3x1xf32>" in arguments
    assert "dense<[[" not in text and 'dense<"0x' not in text
    with pytest.raises(ValueError, match="either trained or frozen"):
        stage({"G": Layers()}, phase("turn", ("G",), square), frozen={"G": fixed})


def test_a_stage_goes_on_with_what_fits_and_starts_what_is_new():
    def loss(nets, batch, context):
        y, nets = nets.G.update(batch["noisy"])
        return jnp.mean((y - batch["clean"]) ** 2), Terms(nets)

    def make(grown):
        turn = phase("turn", ("G",), loss, optax.adam(1e-2))
        return stage({"G": Generator(grown=grown)}, turn, prepare=games.shifted, ema={"G": 0.9})

    batch = {"image": np.random.default_rng(1).standard_normal((4, 8, 8, 1)).astype(np.float32)}
    _, old, _ = play(make(False), batch, 2)
    fresh = initial(make(True), batch)
    state = jax.jit(make_carry_over(make(True)), compiler_options=QUICK)(old, fresh, batch, {}, 0)
    assert (int(state.step), int(state.global_step)) == (0, 2)
    for name in ("first", "norm", "head"):
        assert_equal(state.params["G"][name], old.params["G"][name])
    assert_equal(state.variables["G"]["batch_stats"]["norm"], old.variables["G"]["batch_stats"]["norm"])
    assert_equal(state.params["G"]["second"], fresh.params["G"]["second"])
    assert_equal(state.ema["G"]["params"], state.params["G"])
    assert int(state.optimizers["turn"][0].count) == 0
    _, last, _ = play(make(True), batch, 2, state=state)
    assert (int(last.step), int(last.global_step)) == (2, 4)


def test_carrying_compares_path_shape_and_type():
    previous = {"a": jnp.ones(3), "b": jnp.ones((2, 2)), "c": jnp.ones(2, jnp.bfloat16), "gone": jnp.ones(1)}
    fresh = {"a": jnp.zeros(3), "b": jnp.zeros(4), "c": jnp.zeros(2), "new": jnp.zeros(1)}
    carried = carry_matching(previous, fresh)
    assert {name: float(leaf.sum()) for name, leaf in carried.items()} == {"a": 3, "b": 0, "c": 0, "new": 0}


def test_a_copy_starts_as_what_it_copies_and_shares_no_buffer_with_it():
    previous = {"params": {"first": {"w": jnp.ones(3)}}}
    fresh = {"params": {name: {"w": jnp.zeros(3)} for name in ("first", "second", "judge")}}
    carried = with_a_copy("first", "second")(previous, fresh)["params"]
    assert {name: float(tree["w"].sum()) for name, tree in carried.items()} == {"first": 3, "second": 3, "judge": 0}
    assert carried["first"]["w"].unsafe_buffer_pointer() != carried["second"]["w"].unsafe_buffer_pointer()


# -- randomness, sharing, precision ------------------------------------------------------------------------


def test_phases_that_read_the_same_parameters_see_the_same_fake():
    def critic(nets, batch, context):
        fake = nets.G.peek(batch)
        return nets.D(fake).mean() - nets.D(batch).mean(), Terms(nets, fake=(fake**2).mean())

    def generator(nets, batch, context):
        fake, nets = nets.G.update(batch)
        second = nets.G.peek(batch)
        return -nets.D(fake).mean(), Terms(nets, fake=(fake**2).mean(), second=(second**2).mean())

    class Convolutions(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            x = nn.tanh(nn.Conv(4, (3, 3))(x))
            return nn.Conv(1, (3, 3))(nn.Dropout(0.5, deterministic=not train)(x))

    networks = {"G": Convolutions(), "D": Layers((1,))}
    batch = np.random.default_rng(0).standard_normal((4, 8, 8, 1)).astype(np.float32)
    turns = phase("D", ("D",), critic), phase("G", ("G",), generator)
    _, _, terms = play(stage(networks, *turns), batch)
    assert float(terms[0]["D/fake"]) == float(terms[0]["G/fake"]) != float(terms[0]["G/second"])

    def convolutions(*phases):
        game = stage(networks, *phases)
        state = jax.eval_shape(make_initialise(game), batch, {}, 0)
        return jax.jit(make_step(game)).lower(state, batch, {}, 0).compile().as_text().count(" convolution(")

    def generator_once(nets, batch, context):
        fake, nets = nets.G.update(batch)
        return -nets.D(fake).mean(), Terms(nets)

    alone = convolutions(phase("D", ("D",), critic)), convolutions(phase("G", ("G",), generator_once))
    together = convolutions(phase("D", ("D",), critic), phase("G", ("G",), generator_once))
    assert alone[0] == 2
    assert together == alone[1]


def test_bfloat16_is_for_the_inside_of_networks_only():
    class Scores(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            x = nn.tanh(BatchNorm()(nn.Dense(4)(x), train=train))
            return nn.Dense(1)(x)[:, 0]

    def loss(nets, batch, context):
        score, nets = nets.D.update(batch)
        slope = jax.grad(lambda x: nets.D.float32.peek(x).sum())(batch)
        rough = jax.grad(lambda x: nets.D.peek(x).sum())(batch)
        values = {"penalty": (slope**2).sum(), "rough": (rough**2).sum(), "dtype": score.dtype == jnp.float32}
        return jnp.mean(score**2), Terms(nets, **values)

    game = stage({"D": Scores()}, phase("turn", ("D",), loss, optax.adam(1e-3)), ema={"D": 0.9})
    first, full, full_terms = play(game, ROWS)
    _, half, half_terms = play(game, ROWS, state=first, compute_dtype=jnp.bfloat16)
    assert jax.tree.map(jax.typeof, half) == jax.tree.map(jax.typeof, full)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves((half, half_terms))} == {"float32", "int32"}
    assert float(half_terms[0]["turn/dtype"]) == 1
    np.testing.assert_allclose(half_terms[0]["turn/penalty"], full_terms[0]["turn/penalty"], rtol=1e-5)
    relative = float(half_terms[0]["turn/rough"] / full_terms[0]["turn/rough"]) - 1
    assert 1e-5 < abs(relative) < 0.1
    program = str(jax.make_jaxpr(make_step(game, compute_dtype=jnp.bfloat16))(first, ROWS, {}, 0))
    assert "bf16[8,4]" in program


def test_arguments_that_are_no_arrays_pass_unchanged_in_bfloat16():
    class Chooses(nn.Module):
        @nn.compact
        def __call__(self, x, kind, amount, extra=None, *, train):
            assert kind == "square" and isinstance(amount, float) and extra["mask"].dtype == bool
            return nn.Dense(1)(x * amount) ** 2

    def loss(nets, batch, context):
        return nets.G(batch, "square", 0.5, extra={"mask": np.ones(3, bool)}).mean(), Terms(nets)

    game = stage({"G": Chooses()}, phase("turn", ("G",), loss))
    play(game, ROWS, compute_dtype=jnp.bfloat16)


def test_rematerialised_blocks_change_no_value():
    class Blocks(nn.Module):
        remat: bool

        @nn.compact
        def __call__(self, x, *, train):
            block = rematerialised(ConvBlock, self.remat)
            x = block(4, name="one")(x, train=train)
            return block(1, norm="none", name="two")(x, train=train)

    batch = np.random.default_rng(0).standard_normal((4, 8, 8, 1)).astype(np.float32)
    results = [
        play(stage({"G": Blocks(remat)}, phase("turn", ("G",), carries)), batch, 2)[1]
        for remat in (False, True)
    ]
    assert_close(results[0].params, results[1].params)
    assert_close(results[0].variables, results[1].variables)


def test_repeats_are_one_loop_of_the_size_of_one_update():
    def critic(nets, batch, context):
        fake = nets.G.peek(batch["noisy"])
        slope = jax.grad(lambda x: nets.D(x).sum())(batch["clean"])
        penalty = jnp.mean((jnp.sqrt((slope**2).sum((1, 2, 3)) + 1e-12) - 1) ** 2)
        return nets.D(fake).mean() - nets.D(batch["clean"]).mean() + penalty, Terms(nets)

    def generator(nets, batch, context):
        fake, nets = nets.G.update(batch["noisy"])
        return -nets.D(fake).mean(), Terms(nets)

    def compiled(*turns):
        game = stage({"G": Generator(8), "D": Critic(8)}, *turns, prepare=games.shifted)
        leading = (game.repeats,) if game.repeats > 1 else ()
        batch = {"image": jax.ShapeDtypeStruct((*leading, 4, 16, 16, 1), jnp.float32)}
        state = jax.eval_shape(make_initialise(game), batch, {}, 0)
        program = jax.jit(make_step(game)).lower(state, batch, {}, 0).compile()
        text = program.as_text()
        # Any other layout takes the compiler's slow loops where it stands inside `while`.
        assert set(re.findall(r" convolution\(.*dim_labels=([\w>-]+)", text)) <= {"b01f_01io->b01f"}
        return text, text.count(" = "), program.cost_analysis()["flops"]

    move = phase("G", ("G",), generator)
    once, five = (phase("D", ("D",), critic, repeats=repeats) for repeats in (1, 5))
    (_, one_size, _), (text, size, work) = compiled(once, move), compiled(five, move)
    assert size < 2 * one_size
    # The compiler's estimate counts the body of a loop once: work of one critic and one generator update.
    assert '"known_trip_count":{"n":"5"}' in text
    assert work <= 1.15 * (compiled(once)[2] + compiled(move)[2])


# -- experiments -------------------------------------------------------------------------------------------


def test_an_experiment_names_metrics_that_it_has():
    from medgan_jax.game import EarlyStopping

    with pytest.raises(ValueError, match=r"select.*'PSNR'"):
        Experiment("toy", None, (), infer=None, select="PSNR")
    config = games.Config()
    metrics = games.experiment(config).metrics
    with pytest.raises(ValueError, match=r"early stopping.*'MSE'"):
        Experiment("toy", None, (), infer=None, metrics=metrics, early_stopping=EarlyStopping("MSE", 3))
