"""Host-side evaluation: metrics with data-dependent shapes or in float64, statistics, and reader studies.

Functions take NumPy arrays, return one value per case, and raise `medgan_jax.errors.UserError` for bad input.
"""
