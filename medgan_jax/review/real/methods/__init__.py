"""Experiments as they are measured on real sets: the same games, with what only these sets let us measure."""
