"""Search for the latent vector whose generated image is nearest to a query, by gradient descent in latent space."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

Latent = jax.Array
Objective = Callable[[Latent], jax.Array]


def search_latent(
    objective: Objective, starts: Latent, *, steps: int, learning_rate: float
) -> tuple[Latent, jax.Array]:
    """The best of several searches for each case, by Adam with cosine decay of its learning rate.

    objective: latents `(B, Z)` -> a loss for each case `(B,)`; the loss of a case depends on its latent alone, and
    the networks inside are in evaluation mode. starts: first latents `(restarts, B, Z)`.
    Returns latents `(B, Z)` and their losses `(B,)`. With 0 steps the best start is returned.
    Schlegl et al. 2017, section 2.2; Yeh et al. 2017.
    """
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, max(steps, 1)))

    def one_step(carry, _):
        latent, state = carry
        gradient = jax.grad(lambda z: objective(z).sum())(latent)
        update, state = optimizer.update(gradient, state, latent)
        return (optax.apply_updates(latent, update), state), None

    def one_search(start):
        (latent, _), _ = jax.lax.scan(one_step, (start, optimizer.init(start)), None, length=steps)
        return latent, objective(latent)

    latents, losses = jax.lax.map(one_search, starts)
    best = jnp.argmin(losses, axis=0)
    cases = jnp.arange(starts.shape[1])
    return latents[best, cases], losses[best, cases]
