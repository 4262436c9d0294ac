"""Dense networks: maxout layers, dropout, outputs of any shape, and the condition's own path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.models.mlp import MLP, ConditionalMLP, Hidden, uniform_init

KEY = jax.random.key(0)


def test_a_maxout_layer_is_the_largest_of_its_linear_functions(start, train):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
    layer = Hidden(4, pieces=2)
    variables = start(layer, x)
    kernel, bias = (np.asarray(variables["params"]["dense"][name]) for name in ("kernel", "bias"))
    expected = np.maximum(*((x @ kernel + bias)[:, piece::2] for piece in (0, 1)))
    np.testing.assert_allclose(train(layer, variables, x), expected, rtol=1e-5, atol=1e-6)


def test_outputs_have_the_shape_that_is_asked_for(shapes):
    assert shapes(MLP((4, 4, 1), (7,)), (2, 5)) == ((2, 4, 4, 1), 6 * 7 + 8 * 16)
    assert shapes(MLP(3, (6, 7), pieces=2), (2, 5)) == ((2, 3), 6 * 12 + 7 * 14 + 8 * 3)


@pytest.mark.parametrize(("rates", "share"), [((0.2, 0.0), 0.8), ((0.0, 0.5), 1.0)])
def test_dropout_of_the_input_and_of_the_hidden_values(start, train, compiled, rates, share):
    x = jnp.ones((400, 10))
    network = MLP(1, (50,), dropout=rates, kernel_init=jax.nn.initializers.ones)
    variables = start(network, x)
    outputs, (hidden,) = train(network, variables, x, features=True)
    kept = np.asarray(hidden[:, 0]) * (share / 10)  # inputs that are kept, scaled by 1 / share
    assert abs(kept.mean() - share) < 0.02
    assert (kept.std() > 0) == (share < 1)
    assert np.asarray(outputs).std() > 0
    plain = compiled(lambda x: network.apply(variables, x, train=False))(x)
    assert np.ptp(np.asarray(plain)) == 0


def test_condition_and_input_are_joined_after_a_layer_each():
    network = ConditionalMLP(2, width=3, condition_width=4, widths=(5,), pieces=(2, 3, 1))
    x, c = jnp.ones((6, 2, 2)), jnp.ones((6, 4))
    outputs, variables = jax.eval_shape(lambda: network.init_with_output(KEY, x, c, train=False))
    names = ("layer_x", "layer_c", "layer_0")
    layers = {name: variables["params"][name]["dense"]["kernel"].shape for name in names}
    assert layers == {"layer_x": (4, 3 * 2), "layer_c": (4, 4 * 3), "layer_0": (7, 5)}
    assert outputs.shape == (6, 2)


def test_uniform_initial_values():
    values = np.asarray(uniform_init(0.05)(KEY, (100, 100)))
    assert 0.049 < np.abs(values).max() <= 0.05 and abs(values.mean()) < 1e-3
