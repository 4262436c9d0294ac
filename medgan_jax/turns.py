"""Whose turn it is, as predicates on the step for a phase's `when`, where players do not just alternate."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from medgan_jax.game import Context

When = Callable[[Context], jax.Array]


def in_blocks(first: int, second: int, *, alone: int = 0) -> tuple[When, When]:
    """Two players who take turns in blocks of so many steps, the first one before that `alone` for some."""

    def is_first(context: Context) -> jax.Array:
        played = context.step - alone
        return (played < 0) | (played % (first + second) < first)

    return is_first, lambda context: jnp.logical_not(is_first(context))


def after_tuning(*, warm: int, every: int, long: int) -> When:
    """A generator whose critic is now and then brought up to date by `long` steps in the place of one.

    The generator moves at the last step of each of its turns. Its turns are `long` steps long while it has
    made fewer than `warm` moves, and at every `every`-th move from there on; all others are one step long.
    """
    if not 0 < warm < every:
        raise ValueError(f"the warm moves, {warm}, are at least one and fewer than those between, {every}")
    period = long + every - 1

    def moves(context: Context) -> jax.Array:
        later = context.step - warm * long
        within = (later - (every - warm)) % period
        quick = (later < every - warm) | (within >= long - 1)
        return (later < 0) & ((context.step + 1) % long == 0) | (later >= 0) & quick

    return moves


def steps_for(moves: int, *, warm: int, every: int, long: int) -> int:
    """Steps until the generator of `after_tuning` has made so many moves."""
    tuned = min(moves, warm) + max(0, (moves - 1) // every)
    return moves + tuned * (long - 1)


def in_cycles(turns: int, *, alone: int, together: int, pause: int) -> tuple[When, When]:
    """A critic and a generator that moves in every (`turns` + 1)-th step, in which the critic does not.

    The first `alone` steps are the critic's, and so are, after each `together` steps, the next `pause`.
    """

    def is_generator(context: Context) -> jax.Array:
        played = context.step - alone
        in_turn = played % (turns + 1) == turns
        return (played >= 0) & in_turn & (played % (together + pause) < together)

    return lambda context: ~is_generator(context), is_generator
