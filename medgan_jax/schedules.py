"""Learning-rate schedules that several methods share."""

import optax


def constant_then_linear(rate: float, steps: int, constant: float) -> optax.Schedule:
    """`rate` for the fraction `constant` of the `steps`, then linearly to 0 at their end; 1 is constant."""
    turn = round(steps * constant)
    if turn >= steps:
        return optax.constant_schedule(rate)
    return optax.linear_schedule(rate, 0.0, transition_steps=steps - turn, transition_begin=turn)
