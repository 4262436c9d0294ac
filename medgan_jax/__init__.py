"""JAX, Flax and Optax implementations of the GAN methods of the review "GANs for medical image analysis"."""

__version__ = "0.1.0"
