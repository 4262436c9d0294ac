"""B-mode frames of a fetal head in the womb, from a tracked probe held freehand.

A subject is a pure function of a random key, as is the probe's pose: `fetal_frame(pose_key, subject=key)`
compiles, and batches with `vmap` over either. All frames of one subject show one solid object: what a pixel
shows depends on its place in millimetres, the attenuation above it, and speckle, which is drawn anew.

The subject is skull (oval, twice as bright where the beam meets it at a right angle), brain with midline,
lateral ventricles, thalami and cerebellum, amniotic fluid, and the wall of the womb under the probe. Six
small spheres in the brain are landmarks. The population (mean, standard deviation), in mm: half axes of the
skull 46 (3), 37 (2.5) and 38 (2.5), as in the 28th week or so (Hadlock et al., AJR 138, 1982); skull 2.2
(0.3) thick. The pose: 11 mm along each axis, 0.22 rad round each.
"""

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms import shapes, speckle
from medgan_jax.phantoms.chance import Chance

FLUID, WALL, SKULL, BRAIN, MIDLINE, VENTRICLE, THALAMUS, CEREBELLUM, LANDMARK, OUTSIDE = range(10)
LABELS = {
    "fluid": FLUID,
    "wall": WALL,
    "skull": SKULL,
    "brain": BRAIN,
    "midline": MIDLINE,
    "ventricle": VENTRICLE,
    "thalamus": THALAMUS,
    "cerebellum": CEREBELLUM,
    "landmark": LANDMARK,
    "outside": OUTSIDE,
}
# Root mean square amplitude, and attenuation there and back by a millimetre.
ECHOES = np.array([0.004, 0.12, 0.75, 0.045, 0.35, 0.010, 0.030, 0.090, 0.55, 0.0], np.float32)
LOSSES = np.array([0.000, 0.006, 0.16, 0.007, 0.008, 0.001, 0.007, 0.008, 0.007, 0.0], np.float32)

# Height of a frame in mm, and what the probe's curved face and its sector measure.
HEIGHT, FACE, HALF_ANGLE = 130.0, 45.0, 0.62
LANDMARKS, LANDMARK_RADIUS, WAVES = 6, 3.2, 28
NUMBERS = {"head": 12, "landmarks": 3 * LANDMARKS, "waves": 5 * WAVES}
POSE_NUMBERS = {"pose": 6, "gain": 2}


def fetal_frame(
    key: jax.Array, shape: tuple[int, int] = (160, 120), *, subject: jax.Array, noise: float = 0.003
) -> dict[str, jax.Array]:
    """One frame of `subject`, a random key, at a pose and with speckle that `key` decides.

    Returns, for `shape` = (H, W): `image` `(H, W, 1)` float32 in [0, 1], log-compressed; `coordinates`
    `(H, W, 3)`, place of each pixel in mm in the subject's frame: depth, left to right, back to front, from
    the middle of the head; `pose` `(6,)`, shift in mm and rotation vector; `labels` `(H, W)` int32, see
    `LABELS`; `landmarks` `(6, 2)`, row and column in pixels of the spheres' centres, `landmark_valid` `(6,)`
    bool, whether the frame cuts the sphere within the sector; `landmark_places` `(6, 3)` in mm. Raises
    `ValueError` for fewer than 32 rows or columns.
    """
    if min(shape) < 32:
        raise ValueError(f"a frame needs at least 32 x 32 pixels, not {shape[0]} x {shape[1]}")
    chance = Chance(subject, NUMBERS, {}, shape)
    frame = Chance(key, POSE_NUMBERS, {}, shape)
    shift, turn = 11 * frame.normal("pose")[:3], 0.22 * jnp.clip(frame.normal("pose")[3:], -2.2, 2.2)
    rotation = _rotation(turn)
    pixel = HEIGHT / shape[0]
    down = (np.arange(shape[0]) + 0.5) * pixel
    across = (np.arange(shape[1]) + 0.5 - shape[1] / 2) * pixel
    # The frame's middle lies near that of the head, some way below the probe.
    plane = np.stack(np.meshgrid(down - 0.5 * HEIGHT, across, [0.0], indexing="ij"), axis=-1)[:, :, 0]
    places = plane.astype(np.float32) @ rotation.T + shift
    balls = _landmarks(chance)
    sector = _sector(down, across)
    labels, slant = _tissues(chance, places, balls, jnp.asarray(down)[:, None])
    labels = jnp.where(sector > 0, labels, OUTSIDE)
    image = _scan(chance, frame, places, labels, slant, pixel, noise) * (sector > 0)
    seen = (balls - shift) @ rotation
    pixels = jnp.stack(
        [(seen[:, 0] + 0.5 * HEIGHT) / pixel - 0.5, seen[:, 1] / pixel + shape[1] / 2 - 0.5], -1
    )
    nearest = jnp.clip(jnp.round(pixels), 0, np.array(shape) - 1).astype(jnp.int32)
    within = jnp.all(jnp.abs(pixels - nearest) <= 0.5, axis=-1) & (sector[nearest[:, 0], nearest[:, 1]] > 0)
    return {
        "image": image[..., None],
        "coordinates": places,
        "pose": jnp.concatenate([shift, turn]),
        "labels": labels,
        "landmarks": pixels,
        "landmark_valid": within & (jnp.abs(seen[:, 2]) < LANDMARK_RADIUS),
        "landmark_places": balls,
    }


def _rotation(vector: jax.Array) -> jax.Array:
    """Rodrigues' rotation matrix `(3, 3)` of a rotation vector in radians."""
    angle = shapes.norm(*vector)
    x, y, z = vector / angle
    cross = jnp.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]) * z
    cross = cross + jnp.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]) * y
    cross = cross + jnp.array([[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]) * x
    return jnp.eye(3) + jnp.sin(angle) * cross + (1 - jnp.cos(angle)) * cross @ cross


def _sector(down: np.ndarray, across: np.ndarray) -> jax.Array:
    """Distance `(H, W)` in mm to the border of the curved array's field of view, positive inside."""
    y, x = down[:, None] + FACE - 2.0, across[None, :]
    radius, angle = np.hypot(y, x), np.arctan2(x, y)
    inside = np.minimum(radius - FACE, FACE + HEIGHT - 6 - radius)
    return jnp.asarray(np.minimum(inside, (HALF_ANGLE - np.abs(angle)) * radius), jnp.float32)


def _landmarks(chance: Chance) -> jax.Array:
    """Centres `(6, 3)` in mm of the spheres, one in each sixth of the brain's girth."""
    far, turn, height = jax.scipy.stats.norm.cdf(chance.normal("landmarks")).reshape(3, LANDMARKS)
    angle = 2 * np.pi * (np.arange(LANDMARKS) + 0.6 * turn) / LANDMARKS
    reach = 12 + 12 * far
    return jnp.stack([reach * jnp.sin(angle), 1.15 * reach * jnp.cos(angle), 24 * (height - 0.5)], axis=-1)


def _texture(chance: Chance, places: jax.Array) -> jax.Array:
    """A smooth random function of place `(..., 3)` of unit variance: the same in every frame."""
    *direction, pace, phase = chance.normal("waves").reshape(5, WAVES)
    direction = jnp.stack(direction)
    pace = 2 * np.pi / (5.0 + 14 * jax.scipy.stats.norm.cdf(pace))
    waves = direction / shapes.norm(*direction) * pace
    return jnp.cos(places @ waves + 3 * phase).sum(-1) * np.sqrt(2 / WAVES).astype(np.float32)


def _tissues(
    chance: Chance, places: jax.Array, balls: jax.Array, down: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Labels `(H, W)`, and how squarely the beam meets the skull there, 0 to 1."""
    numbers = chance.normal("head")
    ragged = _texture(chance, places)
    depth, wide, front = places[..., 0], places[..., 1], places[..., 2]
    # The head's long axis lies across the frame, its midline level: the plane in which it is measured.
    radii = 37 + 2.5 * numbers[0], 46 + 3 * numbers[1], 38 + 2.5 * numbers[2]
    where = depth, wide, front
    head = shapes.ellipsoid(where, (0, 0, 0), radii) + 0.25 * ragged
    thick = 2.2 + 0.3 * numbers[3]
    midline = 0.55 - jnp.abs(depth - 0.35 * ragged)
    side = jnp.abs(depth)
    big = jnp.exp(0.18 * numbers[4])
    layers = [
        (head, SKULL),
        (head - thick, BRAIN),
        (jnp.minimum(midline, head - thick), MIDLINE),
        (shapes.ellipsoid((side, wide, front), (12, 6 + numbers[5], 4), (4.2 * big, 17 * big, 6)), VENTRICLE),
        (shapes.ellipsoid((side, wide, front), (6.5, 2 + numbers[6], -8), (5.5, 10, 7)), THALAMUS),
        (
            shapes.ellipsoid((side, wide, front), (8, -26 + numbers[7], -10), (9, 7, 8)) + 0.4 * ragged,
            CEREBELLUM,
        ),
        *(
            (
                LANDMARK_RADIUS - shapes.norm(*(axis - o for axis, o in zip(where, ball, strict=True))),
                LANDMARK,
            )
            for ball in balls
        ),
    ]
    wall = 20 + 3 * numbers[8] + 2.5 * ragged - (depth + 60)
    labels = jnp.where(wall > 0, WALL, FLUID)
    for inside, label in layers:
        labels = jnp.where(inside > 0, label, labels)
    labels = jnp.where((down < 9) & (head < 0), WALL, labels)
    slopes = [axis / radius**2 for axis, radius in zip(where, radii, strict=True)]
    return labels.astype(jnp.int32), jnp.abs(slopes[0]) / shapes.norm(*slopes)


def _scan(
    chance: Chance,
    frame: Chance,
    places: jax.Array,
    labels: jax.Array,
    slant: jax.Array,
    pixel: float,
    noise: float,
) -> jax.Array:
    """Log-compressed frame `(H, W)`."""
    height, width = labels.shape
    tissue = jax.nn.one_hot(labels, len(ECHOES))
    echoes, losses = tissue @ ECHOES, tissue @ LOSSES
    echoes = jnp.where(labels == SKULL, echoes * (0.12 + slant**2), echoes)
    echoes = echoes * jnp.exp(0.35 * _texture(chance, 0.6 * places + 7.0))
    # Beams run nearly straight down the frame; gain grows with depth to make up for the mean loss.
    lost = jnp.tril(jnp.full((height, height), pixel), -1) @ losses
    gain, tilt = frame.normal("gain")
    made_up = (0.006 + 0.0015 * tilt) * pixel * np.arange(height)[:, None]
    echoes = shapes.blur(echoes, (0.5 / pixel, 0.5 / pixel)) * jnp.exp(made_up - lost)
    quadratures = frame.noise(2, height, width)
    amplitude = speckle.envelope(quadratures, echoes, (0.45 / pixel, 1.1 / pixel)) / np.sqrt(2)
    amplitude = shapes.norm(amplitude, noise * jnp.exp(made_up) * quadratures[0, ::-1, ::-1])
    return speckle.compress(1.4 * jnp.exp(0.12 * gain) * amplitude, 52.0)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of a contact sheet: poses of one subject with their tissues, then other subjects."""
    one = jax.jit(lambda keys: jax.vmap(lambda key: fetal_frame(key, (192, 144), subject=keys[0]))(keys))(
        keys
    )
    many = jax.jit(jax.vmap(lambda key: fetal_frame(key, (192, 144), subject=key)))(keys)
    return {
        "one fetus, freehand": one["image"][..., 0],
        "its tissues": one["labels"] / OUTSIDE,
        "others": many["image"][..., 0],
    }
