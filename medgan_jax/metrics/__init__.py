"""Metrics as pure functions on arrays: one value per case, conventions as required arguments.

Every one takes `(prediction, reference)` or `(scores, labels)` in this order. See `information` for units and
directions, and `measure` for a call that raises on bad input instead of returning NaN.
"""

from medgan_jax.metrics.units import METRICS, MetricInfo, Score, information, measure

__all__ = ["METRICS", "MetricInfo", "Score", "information", "measure"]
