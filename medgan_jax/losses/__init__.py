"""Losses as plain functions on arrays, each named after the formula it computes.

Means over all elements unless a docstring says otherwise, computed in float32 at least, whatever the
precision of the networks. Weights between terms, and the half that some papers put in front of a
discriminator's loss, are written out in the experiment, where the paper's equation stands.
"""
