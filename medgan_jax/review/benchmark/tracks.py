"""All tracks of the benchmark by name: each application of the review with an implemented method has one."""

from medgan_jax.review.benchmark import image_tracks, other_tracks, shape_tracks
from medgan_jax.review.benchmark.track import Track

TRACKS: tuple[Track, ...] = (*image_tracks.TRACKS, *shape_tracks.TRACKS, *other_tracks.TRACKS)
