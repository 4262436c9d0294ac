"""Skin lesions: through a dermatoscope, one lesion of a known kind, or on a photograph, several or none.

Every subject is a pure function of a random key: `dermoscopy_image(key, size)` and
`skin_photograph(key, size)` compile, and batch with `vmap`. A key gives the same subject at every size. The
same key with another `kind` gives the same skin, colours and size of the lesion, and hair: what tells kinds
apart is structure only, as in the ABCD rule (Stolz et al., Eur. J. Dermatol. 4, 1994): asymmetry, border,
patches of colour and differential structures (network, globules, streaks, veil; cysts).

The population (mean, standard deviation), lengths in halves of the picture's side: lesion's radius 0.48
(0.1), cut at 0.26 and 0.75; skin of a colour between fair and olive, log-normal, 10 %; pigment's optical
density 0.9 (25 %), its hue from light to dark brown; hair on 60 per cent, up to 14; the dermatoscope's dark
rim on half.
"""

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.phantoms import shapes, trees
from medgan_jax.phantoms.chance import Chance
from medgan_jax.phantoms.tasks import Task

NEVUS, MELANOMA, KERATOSIS = range(3)
KINDS = {"nevus": NEVUS, "melanoma": MELANOMA, "keratosis": KERATOSIS}
# How often each is in the training set of ISIC 2017: 1372 nevi, 374 melanomas, 254 seborrhoeic keratoses.
FREQUENCIES = (0.686, 0.187, 0.127)
SKIN, LESION, HAIR, BEYOND = range(4)
LABELS = {"skin": SKIN, "lesion": LESION, "hair": HAIR, "beyond": BEYOND}

# Red, green and blue of fair and of olive skin, and optical density of brown melanin and of blood.
FAIR, OLIVE = np.array([0.87, 0.68, 0.60]), np.array([0.70, 0.50, 0.40])
MELANIN, BLOOD = np.array([0.55, 0.95, 1.25]), np.array([0.12, 0.80, 0.70])

HAIRS, DOTS, HARMONICS, MOLES = 14, 40, 6, 5
NUMBERS = {
    "skin": 12,
    "shape": 2 * HARMONICS + 6,
    "hair": 7 * HAIRS,
    "dots": 4 * DOTS,
    "moles": 10 * MOLES,
}
FIELDS = {"broad": (2, 2), "smooth": (6, 4), "mottle": (18, 3), "mesh": (44, 2), "fine": (80, 2)}


def dermoscopy_image(
    key: jax.Array, size: int = 256, *, kind: int | jax.Array = NEVUS, hair: bool | jax.Array = True
) -> dict[str, jax.Array]:
    """One lesion through a dermatoscope; `key` decides everything but its kind.

    kind: see `KINDS`, may be traced. hair: whether hair, where the subject has any, lies over it, may be
    traced.

    Returns, for `size` = H = W: `image` `(H, W, 3)` float32 in [0, 1]; `labels` `(H, W)` int32, see `LABELS`;
    `lesion_mask`, also below hair, and `hair_mask` `(H, W)` bool; `kind` `()` int32. Raises `ValueError` for
    a size below 32 or, where it is not traced, a kind that is none.
    """
    _check(size)
    if not isinstance(kind, jax.core.Tracer) and not np.all(np.isin(np.asarray(kind), list(KINDS.values()))):
        raise ValueError(f"kind {kind} of lesion is none of {KINDS}")
    chance = Chance(key, NUMBERS, FIELDS, (size, size))
    view = trees.View((0.0, 0.0), 1.0, size)
    kinds = jnp.asarray(kind) == np.arange(3)[:, None, None]
    inside = _outline(chance, view, kinds)
    skin = _skin(chance)
    pigment, red, pale, veil = _structures(chance, view, inside, kinds)
    light = skin * jnp.exp(-pigment[..., None] * _melanin(chance) - red[..., None] * BLOOD)
    grey = jnp.mean(light, axis=-1, keepdims=True) * np.array([0.98, 1.0, 1.06])
    light = light + 0.7 * veil[..., None] * (grey - light)
    light = shapes.paint(light, pale - 0.5, jnp.array([0.90, 0.84, 0.72]), 1.0)
    hairs = jnp.asarray(hair) * _hair(chance, view)
    rim = _rim(chance, view)
    image = _photograph(chance, view, light, hairs) * jnp.clip(0.5 + rim * view.scale / 3, 0.02, 1)[..., None]
    labels = jnp.where(inside > 0, LESION, SKIN)
    labels = jnp.where(rim > 0, jnp.where(hairs > 0.5, HAIR, labels), BEYOND)
    return {
        "image": image,
        "labels": labels.astype(jnp.int32),
        "lesion_mask": (inside > 0) & (rim > 0),
        "hair_mask": (hairs > 0.5) & (rim > 0),
        "kind": jnp.asarray(kind, jnp.int32),
    }


def skin_photograph(key: jax.Array, size: int = 256) -> dict[str, jax.Array]:
    """A wide photograph of skin with up to five lesions, pigmented (moles) or not (red, scaly), and hair.

    Returns, for `size` = H = W: `image` `(H, W, 3)` float32 in [0, 1]; `lesion_mask`, `pigmented_mask`
    `(H, W)` bool; `centres` `(5, 2)` row and column in pixels, `radii` `(5,)` in pixels, `pigmented` and
    `valid` `(5,)` bool: which of them there are. Raises `ValueError` for a size below 32.
    """
    _check(size)
    chance = Chance(key, NUMBERS, FIELDS, (size, size))
    view = trees.View((0.0, 0.0), 1.0, size)
    y, x = view.coordinates()
    centres, radii, pigmented, valid, tilt, slim, strength = _moles(chance)
    smooth, mottle, mesh, fine = (chance.field(name) for name in ("smooth", "mottle", "mesh", "fine"))
    ragged = 0.010 * mottle[0] + 0.006 * mesh[0]
    dy, dx = y - centres[:, 0, None, None], x - centres[:, 1, None, None]
    inside = shapes.ellipsoid(
        (dy, dx), (0, 0), ((radii * slim)[:, None, None], (radii / slim)[:, None, None]), tilt[:, None, None]
    )
    inside = jnp.where(valid[:, None, None], inside + ragged, -1.0)
    soft = jnp.where(pigmented, 0.02, 0.035)[:, None, None]
    cover = jnp.clip(0.5 + inside / soft, 0, 1)
    texture = jnp.exp(0.25 * mottle[1] + 0.15 * fine[0])
    brown = jnp.max(cover * (pigmented * strength)[:, None, None], 0) * texture
    # Red lesions are no darker, on the whole, than flushed or shaded skin.
    flush = 0.22 * jax.nn.relu(smooth[0] - 0.1) + 0.10 * jax.nn.relu(mottle[2])
    red = jnp.max(cover * (~pigmented * strength)[:, None, None], 0) * texture + flush
    freckles = 0.25 * jax.nn.relu(mesh[1] - 1.3) * jnp.exp(0.5 * chance.normal("skin")[8])
    light = _skin(chance) * jnp.exp(
        -(0.75 * brown + freckles)[..., None] * _melanin(chance) - 0.8 * red[..., None] * BLOOD
    )
    # A rounded limb: light falls off to one side, and beyond it is cloth.
    turn, far, dim = chance.normal("skin")[9:]
    angle = np.pi * turn
    across = jnp.cos(angle) * x + jnp.sin(angle) * y
    light = (
        light
        * jnp.exp(-0.35 * jax.nn.relu(across + 0.4 + 0.3 * smooth[1]) ** 2 * jnp.exp(0.4 * dim))[..., None]
    )
    edge = 1.0 + 0.25 * far - across - 0.05 * smooth[2]
    cloth = (
        0.5 * jnp.exp(0.4 * chance.normal("skin")[5:8]) * jnp.exp(0.25 * smooth[3] + 0.1 * fine[1])[..., None]
    )
    light = shapes.paint(light, -edge, jnp.clip(cloth, 0, 1), 0.03)
    masks = (inside > 0) & (edge > 0)
    return {
        "image": _photograph(chance, view, light, 0.7 * _hair(chance, view) * (edge > 0)),
        "lesion_mask": jnp.any(masks, 0),
        "pigmented_mask": jnp.any(masks & pigmented[:, None, None], 0),
        "centres": view.pixels(centres),
        "radii": radii * view.scale,
        "pigmented": pigmented & valid,
        "valid": valid & jnp.any(masks, (1, 2)),
    }


def _check(size: int) -> None:
    if size < 32:
        raise ValueError(f"a skin lesion needs at least 32 x 32 pixels, not {size} x {size}")


def _skin(chance: Chance) -> jax.Array:
    """Colour `(H, W, 3)` of the skin, flushed and furrowed."""
    olive, *numbers = chance.normal("skin")[:4]
    share = jax.scipy.stats.norm.cdf(olive)
    tone = (FAIR + share * (OLIVE - FAIR)) * jnp.exp(0.05 * jnp.stack(numbers))
    smooth, mottle, fine = chance.field("smooth"), chance.field("mottle"), chance.field("fine")
    log = 0.04 * smooth[1] + 0.03 * mottle[2] + 0.025 * fine[1]
    redness = 0.07 * jax.nn.relu(smooth[2]) + 0.05 * jax.nn.relu(mottle[1])
    return tone * jnp.exp(log[..., None] - redness[..., None] * BLOOD)


def _melanin(chance: Chance) -> jax.Array:
    """Optical density `(3,)` of the subject's pigment: deeper is greyer."""
    return MELANIN + 0.12 * jnp.clip(chance.normal("shape")[-1], -2, 2) * np.array([1.0, 0.2, -0.6])


def _outline(chance: Chance, view: trees.View, kinds: jax.Array) -> jax.Array:
    """Signed distance `(H, W)` to the lesion's border."""
    y, x = view.coordinates()
    numbers = chance.normal("shape")
    cosines, sines = numbers[: 2 * HARMONICS].reshape(2, HARMONICS)
    down, across, size, slim, tilt, _ = numbers[2 * HARMONICS :]
    # Nevi are oval; melanomas have lobes and notches; keratoses a crisp edge of many small waves.
    order = np.arange(2, 2 + HARMONICS)
    amplitudes = jnp.select(
        [each[0, 0] for each in kinds], [0.035 / order * 2, 0.13 * order**-0.8, 0.05 * order**-0.3]
    )
    radius = jnp.clip(0.48 + 0.1 * size, 0.26, 0.75)
    y, x = y - 0.10 * down, x - 0.10 * across
    angle = np.pi * tilt
    y, x = jnp.cos(angle) * y - jnp.sin(angle) * x, jnp.cos(angle) * x + jnp.sin(angle) * y
    stretch = jnp.exp(0.12 * jnp.clip(slim, -2, 2))
    length, angle = shapes.norm(y / stretch, x * stretch), jnp.arctan2(y / stretch, x * stretch)
    waves = jnp.stack([jnp.cos(n * angle) for n in order]), jnp.stack([jnp.sin(n * angle) for n in order])
    wave = jnp.tensordot(cosines * amplitudes, waves[0], 1) + jnp.tensordot(sines * amplitudes, waves[1], 1)
    # Every kind covers the same area: that of a wave is `pi r^2 (1 + a^2 / 2 summed)`.
    fair = jax.lax.rsqrt(1 + jnp.sum((cosines**2 + sines**2) * amplitudes**2) / 2)
    return radius * fair * (1 + wave) - length + 0.012 * chance.field("mottle")[0]


def _structures(
    chance: Chance, view: trees.View, inside: jax.Array, kinds: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Optical density `(H, W)` of pigment and blood, shares of each pixel in a pale cyst and below a veil."""
    y, x = view.coordinates()
    smooth, mottle, mesh = chance.field("smooth"), chance.field("mottle"), chance.field("mesh")
    nevus, melanoma, keratosis = kinds
    density = 0.9 * jnp.exp(0.25 * jnp.clip(chance.normal("shape")[-2], -2, 2))
    soft = jnp.where(keratosis, 0.03, jnp.where(melanoma, 0.06 + 0.04 * jnp.tanh(smooth[3]), 0.07))
    cover = jnp.clip(0.5 + inside / soft, 0, 1)
    # Network: dark lines along the zeros of a fine field, even in nevi, broken and coarse in melanomas.
    lines = jnp.exp(-jnp.square(mesh[0] / 0.35)) - 0.33
    coarse = jnp.exp(-jnp.square(mottle[1] / 0.4)) - 0.37
    patch = jnp.tanh(1.5 * smooth[0])
    network = jnp.where(
        nevus, 0.38 * lines, jnp.where(melanoma, (0.7 * coarse + 0.3 * lines) * (patch > 0), 0.0)
    )
    # Colour: a nevus darkens a little towards its middle, a melanoma has patches that ignore its middle.
    middle = jnp.clip(inside / 0.3, 0, 1)
    patches = jnp.where(nevus, 0.05 * (middle - 0.5), jnp.where(melanoma, 0.55 * patch, 0.10 * patch))
    crust = jnp.where(keratosis, 0.22 * jnp.tanh(2 * mottle[2]) + 0.12 * mesh[1], 0.08 * mottle[2])
    down, across, size, which = chance.normal("dots").reshape(4, DOTS, 1, 1)
    length = shapes.norm(y - 0.32 * down, x - 0.32 * across)
    dots = jnp.clip((0.012 + 0.006 * jnp.abs(size) - length) * view.scale + 0.5, 0, 1)
    # Globules in melanomas and a few nevi, dark openings and pale cysts in keratoses.
    dark = jnp.max(dots * (which > jnp.where(nevus, 1.3, 0.0)), 0)
    pale = jnp.max(dots * (which < -0.3), 0) * keratosis * (inside > 0.02)
    total = cover * density * jax.nn.relu(0.85 + network + patches + crust) + 0.6 * cover * dark
    # What is added or taken away must not make one kind darker: each lesion keeps its subject's density.
    weight = jnp.sum(cover)
    total = total * (0.85 * density * weight / jnp.maximum(jnp.sum(total * cover), 1e-3))
    red = jnp.where(melanoma, 0.25 * jax.nn.relu(smooth[1]), 0.10) * cover
    # A veil over parts, thicker in melanomas: pigment that lies deep looks blue-grey.
    veil = jnp.where(melanoma, 0.9, 0.6) * cover * jax.nn.sigmoid(6 * (smooth[3] - 0.5))
    return total, red, pale, veil


def _hair(chance: Chance, view: trees.View) -> jax.Array:
    """Share of each pixel `(H, W)` in hair."""
    down, across, angle, bend, long, wide, wiggle = chance.normal("hair").reshape(7, HAIRS)
    numbers = chance.normal("skin")
    common = np.pi * numbers[4]
    count = HAIRS * jax.scipy.stats.norm.cdf(numbers[5]) * (numbers[6] < 0.25)
    radii = jnp.where(np.arange(HAIRS) < count, 0.007 * jnp.exp(0.25 * wide), 0.0)
    angles = common + 0.6 * angle
    starts = 0.6 * jnp.stack([down, across], -1) - 0.6 * jnp.stack([jnp.sin(angles), jnp.cos(angles)], -1)
    paths = trees.grow(
        starts,
        angles,
        0.5 * bend,
        1.3 * jnp.exp(0.2 * long),
        radii,
        0.1 * wiggle[:, None],
        12,
        taper=0.4,
        haste=1.0,
    )
    return trees.cover(*trees.inside([paths], view, widest=0.016, longest=0.18))[0]


def _rim(chance: Chance, view: trees.View) -> jax.Array:
    """Distance `(H, W)` to the dark rim of the dermatoscope, positive inside; far away in half of all."""
    y, x = view.coordinates()
    there, wide = chance.normal("skin")[7:9]
    return jnp.where(there > 0, 1.15 + 0.08 * jnp.tanh(wide), 3.0) - shapes.norm(y, x)


def _photograph(chance: Chance, view: trees.View, light: jax.Array, hairs: jax.Array) -> jax.Array:
    """The picture `(H, W, 3)` in [0, 1]: hair on top, uneven light, point spread, noise."""
    y, x = view.coordinates()
    light = light * jnp.exp(-hairs[..., None] * np.array([1.2, 1.3, 1.35]))
    fall = 0.16 * (y * y + x * x) * jnp.exp(0.3 * chance.normal("skin")[9])
    light = light * jnp.exp(0.08 * chance.field("broad")[0] - fall)[..., None]
    sharp = 0.0022 * view.size
    light = jnp.moveaxis(shapes.blur(jnp.moveaxis(light, -1, 0), (0, sharp, sharp)), 0, -1)
    return jnp.clip(light + 0.012 * chance.noise(view.size, view.size, 3), 0, 1)


def _moles(chance: Chance) -> tuple[jax.Array, ...]:
    """Centres `(5, 2)`, radii, whether pigmented, whether there, tilt, slimness and strength `(5,)`."""
    numbers = chance.normal("moles").reshape(10, MOLES)
    uniform = jax.scipy.stats.norm.cdf(numbers)
    # Each keeps to a part of the picture, so that no two are one.
    angle = 2 * np.pi * (np.arange(MOLES) / MOLES + uniform[0, 0]) + 0.25 * (uniform[1] - 0.5)
    far = jnp.where(np.arange(MOLES) == 0, 0.35 * uniform[2], 0.5 + 0.35 * uniform[2])
    centres = far[:, None] * jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1)
    radii = 0.06 + 0.15 * uniform[3] ** 2
    return (
        centres,
        radii,
        numbers[4] > -0.2,
        uniform[5] > jnp.where(np.arange(MOLES) == 0, 0.05, 0.55),
        np.pi * uniform[6],
        jnp.exp(0.15 * jnp.clip(numbers[7], -2, 2)),
        0.55 + 0.5 * uniform[8],
    )


def sheet(keys: jax.Array) -> dict[str, jax.Array]:
    """Rows of a contact sheet: the kinds, the mask of one, photographs and their masks."""

    def draw(function, *more) -> dict[str, jax.Array]:
        return jax.jit(lambda keys: jax.lax.map(lambda key: function(key, 192, *more), keys))(keys)

    kinds = jax.jit(lambda keys, kind: jax.lax.map(lambda key: dermoscopy_image(key, 192, kind=kind), keys))
    drawn = {name: kinds(keys, kind) for name, kind in KINDS.items()}
    wide = draw(skin_photograph)
    return {name: each["image"] for name, each in drawn.items()} | {
        "the melanoma's mask": drawn["melanoma"]["lesion_mask"],
        "photograph": wide["image"],
        "its lesions, pigmented ones white": 0.5 * wide["lesion_mask"] + 0.5 * wide["pigmented_mask"],
    }


def _detection_task(key: jax.Array) -> dict[str, jax.Array]:
    photograph = skin_photograph(key, 64)
    return {"input": photograph["image"], "target": photograph["lesion_mask"][..., None].astype(jnp.float32)}


def _melanoma_task(key: jax.Array) -> dict[str, jax.Array]:
    key, coin = jax.random.split(key)
    ill = jax.random.bernoulli(coin)
    lesion = dermoscopy_image(key, 64, kind=jnp.where(ill, MELANOMA, NEVUS))
    return {"input": lesion["image"], "target": ill.astype(jnp.float32)}


TASKS = (
    Task("skin_lesions", "segmentation", _detection_task),
    Task("skin_melanoma", "classification", _melanoma_task),
)
