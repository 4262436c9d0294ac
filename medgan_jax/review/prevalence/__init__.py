"""`python -m medgan_jax reproduce prevalence`: lesions that translations invent or lose."""

from medgan_jax.review.prevalence.program import command

__all__ = ["command"]
