"""Networks that judge images without teaching them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.judges import annotation_judge


class Sum:
    """A network whose score is the sum of all that it sees."""

    def eval(self, x):
        return x.sum((1, 2, 3))[:, None]


class Networks:
    EN = Sum()


def test_quality_here_beside_that_of_annotated_images():
    records = [{"image": np.full((1, 1, 1), value, np.float32)} for value in (10.0, 20.0, 500.0)]
    made = annotation_judge(lambda nets, x: 3 * x, records, lambda x: x / 10, most=2)
    outputs = {"probability": jnp.array([0.5, 1.0]).reshape(2, 1, 1, 1)}
    said = made.judge(Networks, outputs, {"x": jnp.zeros((2, 1, 1, 1))})
    assert np.allclose(said["quality"], jax.nn.sigmoid(jnp.array([0.5, 1.0])))
    # Images of 1 and 2 beside 3 and 6.
    there = float(jax.nn.sigmoid(jnp.array([4.0, 8.0])).mean())
    assert np.allclose(said["quality_annotated"], [there, there])
    (gap,) = made.metrics
    found = gap.summary(jax.device_get(gap.per_case({**outputs, **said}, {})))
    assert (gap.name, found) == ("score_gap", pytest.approx(there - float(said["quality"].mean()), rel=1e-5))
