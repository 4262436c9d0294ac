"""Who plays at which step, counted one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.game import Context
from medgan_jax.turns import after_tuning, in_blocks, steps_for


def played(when, steps):
    def at(step):
        return when(Context(step, step, jax.random.key(0)))

    return np.asarray(jax.vmap(at)(jnp.arange(steps)))


def test_blocks_alternate_after_one_has_played_alone():
    first, second = in_blocks(2, 3, alone=1)
    assert played(first, 9).astype(int).tolist() == [1, 1, 1, 0, 0, 0, 1, 1, 0]
    assert (played(first, 9) ^ played(second, 9)).all()


def test_a_generator_waits_for_its_critic_at_first_and_at_every_so_many_moves():
    schedule = dict(warm=3, every=5, long=4)
    moves = np.flatnonzero(played(after_tuning(**schedule), 60))
    # Moves 0, 1, 2, then 5, 10, ... come after four steps, the others after one.
    lengths = np.diff(moves, prepend=-1)
    assert lengths[:13].tolist() == [4, 4, 4, 1, 1, 4, 1, 1, 1, 1, 4, 1, 1]
    for count in (1, 3, 4, 5, 6, 10, 11, 12):
        assert steps_for(count, **schedule) == moves[count - 1] + 1
    with pytest.raises(ValueError, match="warm"):
        after_tuning(warm=5, every=5, long=2)
