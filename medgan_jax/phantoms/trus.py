"""The prostate in transrectal ultrasound, and pairs of it with MR under a known biomechanical deformation.

The subjects are those of `pelvis`. A round probe in the rectum pushes the tissue of the MR scan at rest; the
equilibrium of linear elasticity, with bone stiff and the gland stiffer than the fat round it, says where
everything goes. The pushed tissue is then seen by the probe: speckle, interfaces where beams meet them
squarely, attenuation, shadows behind calcifications, in a sector that opens to the front (up). Speckle is as
large as a pixel or two at every size of the image, so it alone is not the same at all sizes.

The population (uniform): push 2 to 7 mm to the front, 1.5 mm (SD) aside, tilted along the body by up to 40 %
at 20 mm; widening of the rectum -1 to 3 mm; Young's modulus of the gland 11 to 45 kPa, of a lesion twice
that, of fat 4 and of muscle 12 kPa (Krouskop et al., Ultrason. Imaging 20, 1998, rounded).

Lengths are in mm and coordinates those of `pelvis`; displacements in voxels, as `physics.deformation` has
them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms import pelvis
from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.shapes import blur, norm
from medgan_jax.phantoms.tasks import Task
from medgan_jax.physics import biomechanics, deformation, ultrasound

FIELD_OF_VIEW_MM = 80.0
# Middle of the field of view behind that of the prostate.
MIDDLE_MM = 8.0
# Voxels of the grid on which equilibrium is found, in a slice and in a volume.
COARSE_MM = {2: 2.5, 3: 80.0 / 24}
# Amplitude of scattering, attenuation in dB/cm, relative impedance, Young's modulus in kPa.
ACOUSTICS = {
    "air": (0.0, 0.0, 1.00, 1.0),
    "skin": (0.6, 4.0, 1.05, 20.0),
    "fat": (0.90, 3.5, 0.93, 4.0),
    "muscle": (0.25, 5.0, 1.05, 12.0),
    "cortical_bone": (1.60, 60.0, 2.20, 400.0),
    "marrow": (0.60, 60.0, 1.00, 400.0),
    "cartilage": (0.40, 8.0, 1.10, 60.0),
    "vessel": (0.05, 1.0, 1.02, 4.0),
    "vein": (0.08, 1.0, 1.02, 4.0),
    "bladder_wall": (0.75, 4.0, 1.06, 12.0),
    "urine": (0.01, 0.1, 0.98, 2.0),
    "rectal_wall": (0.45, 4.0, 1.03, 10.0),
    "gas": (0.0, 0.0, 1.00, 2.0),
    "stool": (0.0, 0.0, 1.00, 4.0),
    "capsule": (1.40, 4.0, 1.06, 30.0),
    "peripheral_zone": (0.38, 4.0, 1.02, 22.0),
    "transition_zone": (0.20, 4.5, 1.03, 30.0),
    "stroma": (0.15, 5.0, 1.04, 30.0),
    "urethra": (0.10, 3.0, 1.00, 15.0),
    "lesion": (0.17, 4.5, 1.02, 65.0),
    "aggressive_lesion": (0.16, 4.5, 1.02, 75.0),
}
GLAND = ("capsule", "peripheral_zone", "transition_zone", "stroma", "lesion", "aggressive_lesion")
POISSON = 0.49
BOUNDARY_LANDMARKS = 12
CALCIFICATIONS = 3
# Angle between the outermost beams in radians, and how far they see.
OPENING, DEPTH_MM = 2.5, 52.0
DYNAMIC_RANGE = 52.0
NUMBERS = {"push": 6, "stiffness": 1, "stones": 4 * CALCIFICATIONS, "gain": 3}


class _Scene(NamedTuple):
    """The tissue at rest on the voxels of `geometry`, and how it moves."""

    geometry: pelvis.Geometry
    anatomy: pelvis.Anatomy
    labels: jax.Array  # (D, H, W)
    tissue: jax.Array  # (D, H, W, 3): the first three columns of ACOUSTICS
    pulled: jax.Array  # (D, H, W, 3) or (H, W, 2), voxels: from the pushed tissue to that at rest
    sector: ultrasound.Sector  # its numbers (D,) each, in pixels
    chance: Chance


def trus_image(
    key: jax.Array,
    size: int = 128,
    *,
    lesion: bool | jax.Array = False,
    calcifications: int | jax.Array = 0,
) -> dict[str, jax.Array]:
    """One axial transrectal frame through the middle of the gland; `key` decides all about it.

    calcifications: 0 to 3 stones in the back half of the gland, which cast shadows away from the probe.

    Returns, for `size` = H = W: `image` `(H, W, 1)` in [0, 1], 0 outside the sector; `labels` `(H, W)` int32
    as `pelvis.LABELS`, also outside it; bool `prostate_mask`, `lesion_mask`, `sector_mask` `(H, W)`;
    `landmarks` `(12, 2)`, rows and columns in pixels of points of the gland's border at equal angles, the
    first in front, clockwise as seen; `visible` `(12,)`, false where a landmark lies in a shadow or outside
    the sector. Raises `ValueError` for a size below 32.
    """
    drawn = _pushed(_scene(key, (1, size, size), lesion), calcifications)
    landmarks = _border(drawn.pop("distance")[0])
    clear = _at(drawn.pop("clear")[0], landmarks)
    frame = {name: value[0] for name, value in drawn.items()}
    return frame | {"landmarks": landmarks, "visible": clear > 0.4}


def mr_trus_pair(
    key: jax.Array,
    size: int = 96,
    slices: int = 1,
    *,
    lesion: bool | jax.Array = False,
    calcifications: int | jax.Array = 0,
) -> dict[str, jax.Array]:
    """T2-weighted MR at rest and ultrasound under the probe's push, on one grid of 80 mm round the gland.

    With `slices` above 1 volumes of 60 mm along the body. Returns, for rank 2 or 3 and `(*S)` = `(H, W)` or
    `(D, H, W)`: `mr` and `trus` `(*S, 1)` in [0, 1]; `mr_labels`, `trus_labels` `(*S)` int32 as
    `pelvis.LABELS`; bool `mr_prostate_mask`, `trus_prostate_mask`, `sector_mask` `(*S)`; `displacement`
    `(*S, rank)` in voxels on the grid of the ultrasound, which pulls: `deformation.warp(mr, displacement)`
    lies upon `trus`; `mr_landmarks`, `trus_landmarks` `(12, rank)`, the same points of the gland in voxels,
    `mr = trus + displacement(trus)`; `spacing` `(rank,)` in mm. Raises `ValueError` for a size below 32.
    """
    scene = _scene(key, (slices, size, size), lesion)
    drawn = _pushed(scene, calcifications)
    _, _, density, t1, t2, _ = pelvis.tissue_table(scene.anatomy.chance)
    repetition, echo, white = pelvis.PROTOCOLS["t2"]
    signal = density * (1 - jnp.exp(-repetition / t1)) * jnp.exp(-echo / t2) / white
    painted, _ = pelvis.paint_layers(scene.anatomy, signal[:, None], scene.geometry)
    mr = pelvis.magnetic_resonance(scene.anatomy, painted[..., 0], scene.geometry, 1, 1.0)
    rank = scene.pulled.shape[-1]
    at_rest = _gland_points(scene)[:, -rank:]
    flat = (lambda x: x[0]) if rank == 2 else (lambda x: x)
    return {
        "mr": flat(mr)[..., None],
        "trus": flat(drawn["image"]),
        "mr_labels": flat(scene.labels),
        "trus_labels": flat(drawn["labels"]),
        "mr_prostate_mask": flat(pelvis.is_prostate(scene.labels)),
        "trus_prostate_mask": flat(drawn["prostate_mask"]),
        "sector_mask": flat(drawn["sector_mask"]),
        "displacement": scene.pulled,
        "mr_landmarks": at_rest,
        "trus_landmarks": _undone(at_rest, scene.pulled),
        "spacing": jnp.asarray(scene.geometry.voxel[-rank:]),
    }


def _scene(key: jax.Array, shape: tuple[int, int, int], lesion: bool | jax.Array) -> _Scene:
    slices, size, _ = shape
    if size < 32 or slices < 1:
        raise ValueError(f"transrectal ultrasound needs slices of 32 x 32, not {slices} of {size} x {size}")
    rank = 2 if slices == 1 else 3
    voxel = (60.0 / slices if rank == 3 else 3.0, FIELD_OF_VIEW_MM / size, FIELD_OF_VIEW_MM / size)
    geometry = pelvis.Geometry(shape, voxel, (0.0, MIDDLE_MM, 0.0))
    chance = Chance(jax.random.fold_in(key, 2), NUMBERS, {}, ())
    anatomy = pelvis.draw_anatomy(key, geometry, lesion)
    # Soft borders must not average stiffness itself: a part of bone would stiffen all round it.
    gland = 0.5 + chance.uniform("stiffness")[0]
    young = [jnp.log(values[3] * (gland if name in GLAND else 1.0)) for name, values in ACOUSTICS.items()]
    sound = jnp.asarray([values[:3] for values in ACOUSTICS.values()])
    table = jnp.concatenate([sound, jnp.stack(young)[:, None]], axis=1)
    painted, labels = pelvis.paint_layers(anatomy, table, geometry)
    centre, radius, widening, push = _probe(anatomy.chance, chance)
    pulled = _pulled(painted[..., 3], geometry, centre, radius, widening, push)
    z = geometry.places()[0]
    moved = jnp.stack([_along(p, z) for p in push])
    row, column = (
        (c + m - middle) / voxel[1] + (size - 1) / 2
        for c, m, middle in zip(centre, moved, geometry.middle[1:], strict=True)
    )
    near = jnp.broadcast_to((radius + widening) / voxel[1], z.shape)
    opening, up = jnp.full_like(near, OPENING), jnp.full_like(near, np.pi)
    sector = ultrasound.Sector(row, column, near, near + DEPTH_MM / voxel[1], opening, up)
    return _Scene(geometry, anatomy, labels, painted[..., :3], pulled, sector, chance)


def _probe(body: Chance, chance: Chance) -> tuple:
    """Centre (row, column), radius and widening of the rectum's lumen; push (amount, tilt) each way."""
    row, column, radius = pelvis.rectum_of(body)
    up, wide, tilt = chance.uniform("push")[:3]
    aside, lean = chance.normal("push")[3:5]
    place = pelvis.in_image(body, jnp.stack([jnp.zeros(()), row, column])[None])[0]
    push = ((-(2 + 5 * up), 0.8 * (tilt - 0.5)), (1.5 * jnp.clip(aside, -2, 2), 0.2 * lean))
    return place[1:], radius - 4.0, -1.0 + 4.0 * wide, push


def _along(push: tuple, z: jax.Array) -> jax.Array:
    """The push in mm at places along the body: tilted, since the probe is."""
    amount, tilt = push
    return amount * (1 + tilt * jnp.clip(z / 20, -1.5, 1.5))


def _pulled(stiffness: jax.Array, geometry: pelvis.Geometry, centre, radius, widening, push) -> jax.Array:
    """The displacement that pulls tissue at rest under the probe; stiffness: log of Young's modulus."""
    rank = 2 if geometry.shape[0] == 1 else 3
    step = COARSE_MM[rank]
    extent = [side * voxel for side, voxel in zip(geometry.shape, geometry.voxel, strict=True)][3 - rank :]
    nodes = [round(length / step) + 1 for length in extent]
    young = stiffness if rank == 3 else stiffness[0]
    young = blur(young, [0.4 * step / voxel for voxel in geometry.voxel[3 - rank :]])
    for axis, (count, voxel) in enumerate(zip(nodes, geometry.voxel[3 - rank :], strict=True)):
        side = young.shape[axis]
        element = (step * (np.arange(count - 1) - (count - 2) / 2)) / voxel + (side - 1) / 2
        young = jnp.moveaxis(jnp.tensordot(_linear(element, side), young, (1, axis)), 0, axis)
    young = jnp.exp(young)
    middles = geometry.middle[3 - rank :]
    places = [m + step * (np.arange(n) - (n - 1) / 2) for m, n in zip(middles, nodes, strict=True)]
    z = jnp.asarray(places[0])[:, None, None] if rank == 3 else jnp.zeros(())
    wanted, held = biomechanics.probe_indentation(
        nodes,
        [(c - p[0]) / step for c, p in zip(centre, places[-2:], strict=True)],
        radius / step,
        push=[_along(p, z) / step for p in push],
        widening=widening / step,
    )
    lame, shear = biomechanics.lame_parameters(young, POISSON)
    border = biomechanics.border(nodes)
    wanted = jnp.where(border[..., None], 0.0, wanted)
    moved = biomechanics.solve(lame, shear, wanted, held | border, tolerance=1e-3, iterations=300)
    field = deformation.inverse(moved)
    for axis, (place, lines) in enumerate(zip(places, geometry.places()[3 - rank :], strict=True)):
        weights = _linear((lines - place[0]) / step, len(place))
        field = jnp.moveaxis(jnp.tensordot(weights, field, (1, axis)), 0, axis)
    # Linear interpolation leaves kinks between the coarse voxels.
    smooth = [0.4 * step / voxel for voxel in geometry.voxel[3 - rank :]]
    field = jnp.moveaxis(blur(jnp.moveaxis(field, -1, 0), [0.0, *smooth]), 0, -1)
    return field * step / jnp.asarray(geometry.voxel[3 - rank :])


def _linear(places: jax.Array, size: int) -> jax.Array:
    """Weights `(N, size)` of linear interpolation at `places` `(N,)` in voxels, clipped to the grid."""
    return jax.nn.relu(1 - jnp.abs(jnp.clip(places, 0, size - 1)[:, None] - np.arange(size)))


def _pushed(scene: _Scene, calcifications: int | jax.Array) -> dict[str, jax.Array]:
    """The pushed tissue and its frames, `(D, H, W, ...)`."""
    texture = 0.12 * scene.anatomy.fields["fine"][1] + 0.10 * scene.anatomy.fields["medium"][1]
    z, y, x = jnp.meshgrid(*scene.geometry.places(), indexing="ij", sparse=True)
    distance = pelvis.gland_at(scene.anatomy, scene.geometry)
    stones = _stones(scene, z, y, x, calcifications)
    scattering = scene.tissue[..., :1] * jnp.exp(texture)[..., None]
    at_rest = jnp.concatenate([scattering, scene.tissue[..., 1:], distance[..., None], stones[..., None]], -1)
    pulled, rank = scene.pulled, scene.pulled.shape[-1]
    if rank == 2:
        pulled = jnp.concatenate([jnp.zeros((*pulled.shape[:-1], 1)), pulled], -1)[None]
    moved = deformation.warp(at_rest, pulled)
    labels = deformation.warp(scene.labels[..., None], pulled, interpolation="nearest")[..., 0]
    frames = jax.vmap(lambda m, s, n: _frame(m, s, n, scene), (0, 0, 0))
    size = scene.geometry.shape[-1]
    white = scene.chance.noise(scene.geometry.shape[0], 2, 2 * size, size)
    image, clear = frames(moved, scene.sector, white)
    mask = jax.vmap(lambda s: ultrasound.sector_mask(s, (size, size)))(scene.sector)
    return {
        "image": image[..., None],
        "labels": labels,
        "prostate_mask": pelvis.is_prostate(labels),
        "lesion_mask": labels == pelvis.LABELS["lesion"],
        "sector_mask": mask,
        "distance": moved[..., 3],
        "clear": clear,
    }


def _stones(scene: _Scene, z, y, x, calcifications: int | jax.Array) -> jax.Array:
    """Share of calcification in each voxel: stones of 1.2 to 2.4 mm radius in the gland's back half."""
    stones = []
    for i, (angle, far, size, high) in enumerate(scene.chance.uniform("stones").reshape(CALCIFICATIONS, 4)):
        turn = 2.4 * (angle - 0.5) + 0.5 * (i - 1)
        place = 10 * (high - 0.5), (5 + 5 * far) * jnp.cos(turn), (8 + 6 * far) * jnp.sin(turn)
        middle = pelvis.in_image(scene.anatomy.chance, jnp.stack(place)[None])[0]
        middle = middle.at[0].multiply(scene.geometry.shape[0] > 1)
        inside = 1.2 + 1.2 * size - norm(z - middle[0], y - middle[1], x - middle[2])
        stones.append((i < calcifications) * jnp.clip(0.5 + inside / scene.geometry.voxel[1], 0, 1))
    return jnp.max(jnp.stack(stones), axis=0)


def _frame(moved: jax.Array, sector: ultrasound.Sector, white: jax.Array, scene: _Scene) -> tuple:
    """The frame `(H, W)` in [0, 1], and what part of the sound reaches each pixel past stones."""
    size, pixel = scene.geometry.shape[-1], scene.geometry.voxel[1]
    samples, beams = white.shape[-2:]
    seen = ultrasound.to_beams(jnp.moveaxis(moved, -1, 0), sector, samples, beams)
    scattering, loss, impedance, _, stones = seen
    step = (sector.far - sector.near) * pixel / (samples - 1)
    # dB/cm to nepers a sample.
    loss = loss * step / 10 / ultrasound.NEPER
    shadow = ultrasound.two_way_transmission(stones * 1.3 * step)
    left = ultrasound.two_way_transmission(loss) * shadow
    gain, tilt, noise = scene.chance.normal("gain")
    spread = ultrasound.PointSpread(wavelength=4.0, axial=2.0, lateral=1.2)
    mirrors = 3.0 * ultrasound.interface_echoes(impedance)
    reflectivity = (scattering + 2.5 * stones) * white[0] + mirrors
    echoes = ultrasound.radio_frequency(reflectivity * left, spread)
    depth = jnp.arange(samples)[:, None] * step
    compensation = jnp.exp(2 * depth * (4.2 / 10 / ultrasound.NEPER) * (1 + 0.05 * tilt))
    echoes = echoes + 0.004 * jnp.exp(0.3 * noise) * white[1]
    amplitude = ultrasound.envelope(echoes) * compensation
    white_at = 9.0 * jnp.exp(0.1 * gain)
    grey = ultrasound.log_compress(amplitude, dynamic_range=DYNAMIC_RANGE, reference=white_at)
    image = ultrasound.scan_convert(grey, sector, (size, size))
    return image, ultrasound.scan_convert(shadow, sector, (size, size))


def _gland_points(scene: _Scene) -> jax.Array:
    """Twelve points in voxels `(12, 3)` inside the gland at rest, in the slice where there is but one."""
    scales = pelvis.gland_scales(scene.anatomy.chance)
    points = [(0, 0, 0), (0, -0.75, 0), (0, 0.7, 0), (0, 0.1, 0.8), (0, 0.1, -0.8), (0, 0.45, 0.5)]
    points += [(0, 0.45, -0.5), (0, -0.3, 0.35), (0, -0.3, -0.35)]
    if scene.geometry.shape[0] > 1:
        points += [(-0.7, 0, 0), (0.7, 0, 0), (0.4, 0.4, 0.3)]
    else:
        points += [(0, -0.5, 0.6), (0, -0.5, -0.6), (0, 0.35, 0.1)]
    place = np.array(points, np.float32) * np.array([20.0, 15.5, 22.0]) * scales
    return pelvis.to_voxels(pelvis.in_image(scene.anatomy.chance, place), scene.geometry)


def _undone(points: jax.Array, displacement: jax.Array) -> jax.Array:
    """Points q `(N, rank)` with `q + displacement(q) = points`."""

    def nearer(_, q):
        return q + 0.7 * (points - deformation.warp_points(q, displacement))

    return jax.lax.fori_loop(0, 40, nearer, points)


def _border(distance: jax.Array) -> jax.Array:
    """Where rays from the gland's middle leave it: rows, columns `(12, 2)`; distance `(H, W)` in mm."""
    inside = (distance > 0).astype(jnp.float32)
    rows, columns = (jnp.arange(side, dtype=jnp.float32) for side in distance.shape)
    total = jnp.maximum(inside.sum(), 1)
    middle = jnp.stack([(inside.sum(1) * rows).sum(), (inside.sum(0) * columns).sum()]) / total
    angle = 2 * jnp.pi * jnp.arange(BOUNDARY_LANDMARKS) / BOUNDARY_LANDMARKS
    direction = jnp.stack([-jnp.cos(angle), jnp.sin(angle)], axis=-1)
    radii = jnp.linspace(0, 0.5 * distance.shape[0], 129)
    places = middle + direction[:, None] * radii[:, None]
    values = _at(distance, places)
    # The first place outside, and how far beyond the border it lies.
    first = jnp.argmax(values < 0, axis=1)
    before, after = (jnp.take_along_axis(values, index[:, None], 1)[:, 0] for index in (first - 1, first))
    radius = radii[first] + (radii[1] - radii[0]) * after / jnp.maximum(before - after, 1e-6)
    return middle + direction * radius[:, None]


def _at(image: jax.Array, places: jax.Array) -> jax.Array:
    """Values of `(H, W)` at rows and columns `(..., 2)`."""
    return jax.scipy.ndimage.map_coordinates(image, jnp.moveaxis(places, -1, 0), order=1, mode="nearest")


def _gland_task(key: jax.Array) -> dict[str, jax.Array]:
    """The gland, in a frame that lies anywhere on a screen half as wide again: the mean of glands finds none."""
    drawn = trus_image(key, 64, calcifications=2)
    corner = *jax.random.randint(jax.random.fold_in(key, 1), (2,), 0, 33), 0
    image, target = (
        jax.lax.dynamic_update_slice(jnp.zeros((96, 96, 1)), frame, corner)
        for frame in (drawn["image"], drawn["prostate_mask"][..., None].astype(jnp.float32))
    )
    return {"input": image, "target": target}


TASKS = (Task("trus_prostate", "segmentation", _gland_task),)


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Pairs of MR and ultrasound, the MR as the known deformation pulls it, and frames with shadows."""

    def draw(key):
        pair = mr_trus_pair(key, 160, lesion=True)
        pulled = deformation.warp(pair["mr"], pair["displacement"])[..., 0]
        frame = trus_image(key, 192, calcifications=3)
        rows, columns = jnp.meshgrid(jnp.arange(192), jnp.arange(192), indexing="ij")
        place = frame["landmarks"]
        near = norm(rows[..., None] - place[:, 0], columns[..., None] - place[:, 1]) < 2
        red = jnp.any(near & frame["visible"], -1)[..., None] * jnp.array([1.0, 0.2, 0.2])
        blue = jnp.any(near & ~frame["visible"], -1)[..., None] * jnp.array([0.2, 0.4, 1.0])
        return {
            "mr": pair["mr"][..., 0],
            "mr pulled": pulled,
            "trus": pair["trus"][..., 0],
            "trus labels": pair["trus_labels"] / (len(pelvis.LABELS) - 1),
            "calcifications, landmarks (blue: hidden)": jnp.maximum(frame["image"], red + blue),
        }

    return jax.jit(lambda keys: jax.lax.map(draw, keys))(keys)
