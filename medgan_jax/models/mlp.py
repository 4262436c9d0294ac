"""Dense networks for points in the plane and other small vectors: toy games, codes, latent vectors."""

from collections.abc import Callable

import flax.linen as nn
import jax


class MLP(nn.Module):
    """Vectors (B, ...) flattened -> (B, outputs) through hidden layers of `widths`.

    activation: after each hidden layer. output_activation: None for logits and points.
    features: a call with `features=True` returns (outputs, hidden activations).
    """

    outputs: int = 1
    widths: tuple[int, ...] = (128, 128)
    activation: Callable = nn.relu
    output_activation: Callable | None = None
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, features: bool = False):
        x = x.reshape(x.shape[0], -1)
        hidden = []
        for number, width in enumerate(self.widths):
            x = self.activation(nn.Dense(width, kernel_init=self.kernel_init, name=f"layer_{number}")(x))
            hidden.append(x)
        y = nn.Dense(self.outputs, kernel_init=self.kernel_init, name="head")(x)
        y = y if self.output_activation is None else self.output_activation(y)
        return (y, tuple(hidden)) if features else y
