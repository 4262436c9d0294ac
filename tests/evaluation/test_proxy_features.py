"""A Fréchet distance in features that the project's own trainer learnt from the images at hand."""

import jax
import numpy as np
from scipy.ndimage import gaussian_filter

from medgan_jax.evaluation.distributions import frechet_distance
from medgan_jax.game import inference_networks
from medgan_jax.metrics.features import pooled
from medgan_jax.models.features import proxy_name, small_vgg
from medgan_jax.perceptual import proxy_stage
from medgan_jax.training.step import make_initialise, make_step


def ramps(n, seed, noise=0.0):
    """Images with an up and a down, so that a quarter turn can be told: `(n, 16, 16, 1)` in about [-1, 1]."""
    generator = np.random.default_rng(seed)
    slope = np.linspace(-1, 1, 16)[:, None] * generator.uniform(0.5, 1, (n, 1, 1))
    texture = gaussian_filter(generator.normal(size=(n, 16, 16)), (0, 1, 1))
    return (slope + 0.5 * texture + noise * generator.normal(size=(n, 16, 16)))[..., None].astype(np.float32)


def test_a_proxy_network_is_trained_and_its_distance_is_named_after_it():
    module = small_vgg(("pool2",), base=4)
    stage = proxy_stage(module, None, lambda batch, key: batch, "image", 40)
    batch = {"image": ramps(32, 0)}
    quick = {"compiler_options": {"xla_backend_optimization_level": 0}}
    state = jax.jit(make_initialise(stage), **quick)(batch, {}, 0)
    step, accuracy = jax.jit(make_step(stage), **quick), []
    for number in range(stage.steps):
        state, terms = step(state, {"image": ramps(32, number)}, {}, 0)
        accuracy.append(float(terms["features/accuracy"]))
    assert np.mean(accuracy[-5:]) > 0.6
    nets = inference_networks(stage, state, {}, jax.random.key(0))
    extractor = pooled("proxy", proxy_name(module), lambda images: nets.features.eval(images)["pool2"])
    values = [
        frechet_distance(ramps(60, 100), ramps(60, 101, noise), extractor=extractor, n=60)
        for noise in (0.0, 0.3, 1.0)
    ]
    assert [v.name for v in values] == ["fd[proxy]"] * 3 and "rotation" in str(values[0])
    assert values[0].value < values[1].value < values[2].value
