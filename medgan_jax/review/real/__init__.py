"""`python -m medgan_jax reproduce real`: recorded runs on real images, and their page."""

from medgan_jax.review.real.program import command

__all__ = ["command"]
