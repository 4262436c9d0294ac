"""Surface distances against MedPy, MONAI and surface-distance on every kind of mask, and closed forms."""

import warnings
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist, directed_hausdorff

from medgan_jax.errors import UserError
from medgan_jax.evaluation import surfaces
from medgan_jax.evaluation.surfels import surfel_weights

SPACING = {2: (1.5, 0.5), 3: (3.0, 1.0, 0.7)}
SHAPES = {2: (14, 12), 3: (7, 9, 8)}


def kinds(rank):
    """Prediction and reference of every kind with two surfaces, as one batch `(K, ..., 1)`."""
    shape, generator = SHAPES[rank], np.random.default_rng(rank)
    blank = np.zeros(shape, bool)
    middle = tuple(slice(n // 4, n // 4 + n // 2) for n in shape)
    block, corner, far, slab, point, other = (blank.copy() for _ in range(6))
    block[middle] = True
    corner[tuple(slice(0, n // 4) for n in shape)] = True
    far[tuple(slice(n // 2, None) for n in shape)] = True
    slab[:2] = True
    point[tuple(n // 4 for n in shape)] = True
    other[tuple(n // 2 for n in shape)] = True
    pairs = [
        (generator.random(shape) < 0.3, generator.random(shape) < 0.5),
        (block, block),
        (corner, far),
        (point, other),
        (slab, np.roll(slab, 1, axis=1)),
        (np.ones(shape, bool), block),
        (block, np.roll(block, 1, axis=0)),
    ]
    return tuple(np.stack(x)[..., None] for x in zip(*pairs, strict=True))


def ours(metric, rank, boundary, **options):
    a, b = kinds(rank)
    return metric(a, b, spacing=SPACING[rank], boundary=boundary, empty_policy="nan", **options)


@pytest.mark.parametrize("rank", [2, 3])
def test_erosion_boundary_agrees_with_medpy(rank):
    binary = pytest.importorskip("medpy.metric.binary", reason="MedPy is the reference")
    a, b = (x[..., 0] for x in kinds(rank))
    pairs, spacing = list(zip(a, b, strict=True)), SPACING[rank]
    call = lambda f: [f(x, y, voxelspacing=spacing) for x, y in pairs]  # noqa: E731
    hd = ours(surfaces.hausdorff, rank, "erosion1", percentile=None, definition="pooled")
    np.testing.assert_allclose(hd, call(binary.hd), rtol=1e-12)
    hd95 = ours(surfaces.hausdorff, rank, "erosion1", percentile=95, definition="pooled")
    np.testing.assert_allclose(hd95, call(binary.hd95), rtol=1e-12)
    np.testing.assert_allclose(ours(surfaces.asd, rank, "erosion1"), call(binary.asd), rtol=1e-12)
    # Older MedPy averages the two directed means under this name, which is masd; from 0.5 on it pools,
    # as defined.
    np.testing.assert_allclose(ours(surfaces.assd, rank, "erosion1"), call(binary.assd), rtol=1e-12)
    both = [
        np.mean([binary.asd(*p, voxelspacing=spacing), binary.asd(*p[::-1], voxelspacing=spacing)])
        for p in pairs
    ]
    np.testing.assert_allclose(ours(surfaces.masd, rank, "erosion1"), both, rtol=1e-12)
    np.testing.assert_allclose(ours(surfaces.msd, rank, "erosion1"), ours(surfaces.masd, rank, "erosion1"))


@pytest.mark.parametrize("rank", [2, 3])
def test_erosion_boundary_agrees_with_monai(rank):
    torch = pytest.importorskip("torch", reason="MONAI needs it")
    metrics = pytest.importorskip("monai.metrics", reason="MONAI is the reference")
    x, y = (torch.tensor(np.moveaxis(z, -1, 1)).float() for z in kinds(rank))
    options = {"include_background": True, "spacing": SPACING[rank]}
    for percentile in (None, 95):
        value = ours(
            surfaces.hausdorff, rank, "erosion1", percentile=percentile, definition="max_of_directed"
        )
        other = metrics.compute_hausdorff_distance(x, y, percentile=percentile, **options)
        np.testing.assert_allclose(value, other.numpy()[:, 0], rtol=1e-5, atol=1e-6)
    other = metrics.compute_average_surface_distance(x, y, symmetric=True, **options)
    np.testing.assert_allclose(
        ours(surfaces.assd, rank, "erosion1"), other.numpy()[:, 0], rtol=1e-5, atol=1e-6
    )
    other = metrics.compute_average_surface_distance(x, y, symmetric=False, **options)
    np.testing.assert_allclose(
        ours(surfaces.asd, rank, "erosion1"), other.numpy()[:, 0], rtol=1e-5, atol=1e-6
    )
    other = metrics.compute_surface_dice(x, y, class_thresholds=[1.0], **options)
    value = ours(surfaces.nsd, rank, "erosion1", tolerance=1.0)
    np.testing.assert_allclose(value, other.numpy()[:, 0], rtol=1e-5)


@pytest.mark.parametrize("rank", [2, 3])
def test_surfels_agree_with_deepmind(rank):
    deepmind = pytest.importorskip("surface_distance", reason="DeepMind's surface-distance is the reference")
    a, b = (x[..., 0] for x in kinds(rank))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # (prediction, reference) as the "ground truth" and "prediction" of that library: its
        # metrics name both directions.
        distances = [
            deepmind.compute_surface_distances(y, x, SPACING[rank]) for x, y in zip(a, b, strict=True)
        ]
    call = lambda f, *options: [f(d, *options) for d in distances]  # noqa: E731
    for percentile in (100, 95):
        value = ours(surfaces.hausdorff, rank, "surfel", percentile=percentile, definition="max_of_directed")
        np.testing.assert_allclose(value, call(deepmind.compute_robust_hausdorff, percentile), rtol=1e-9)
    directed = np.array(call(deepmind.compute_average_surface_distance))
    np.testing.assert_allclose(ours(surfaces.asd, rank, "surfel"), directed[:, 1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours(surfaces.masd, rank, "surfel"), directed.mean(1), rtol=1e-9, atol=1e-12)
    value = ours(surfaces.nsd, rank, "surfel", tolerance=1.0)
    np.testing.assert_allclose(value, call(deepmind.compute_surface_dice_at_tolerance, 1.0), rtol=1e-9)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 1.0, 0.3)])
def test_surfel_tables_equal_deepminds_for_every_code(spacing):
    tables = pytest.importorskip(
        "surface_distance.lookup_tables", reason="DeepMind's surface-distance is the reference"
    )
    expected = tables.create_table_neighbour_code_to_surface_area(spacing)
    np.testing.assert_allclose(surfel_weights(3, spacing), expected, rtol=1e-9)
    expected = tables.create_table_neighbour_code_to_contour_length(spacing[:2])
    np.testing.assert_allclose(surfel_weights(2, spacing[:2]), expected, rtol=1e-9)


def test_surfel_weights_add_up_to_the_surface_of_a_box():
    mask = np.zeros((1, 30, 30, 30, 1), bool)
    mask[:, 5:25, 5:25, 5:25] = True
    d = surfaces.surface_distances(mask[0, ..., 0], mask[0, ..., 0], spacing=(1, 1, 1), boundary="surfel")
    assert d.prediction_weights.sum() == pytest.approx(6 * 20**2, rel=0.05)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10_000), st.floats(0.02, 0.6), st.floats(0.3, 4.0), st.sampled_from(surfaces.BOUNDARIES)
)
def test_generated_masks_by_brute_force_and_invariances(seed, density, scale, boundary):
    generator = np.random.default_rng(seed)
    a, b = generator.random((2, 1, 8, 9, 1)) < density
    a[:, 0, 0], b[:, 7, 8] = True, True
    spacing = np.array([1.0, 2.5])
    options = {"boundary": boundary, "empty_policy": "strict"}
    whole = {"percentile": None, "definition": "max_of_directed", **options}
    value = surfaces.hausdorff(a, b, spacing=spacing, **whole)
    points = [surfaces._points(x[0, ..., 0], spacing, boundary)[0] for x in (a, b)]
    brute = max(directed_hausdorff(points[0], points[1])[0], directed_hausdorff(points[1], points[0])[0])
    np.testing.assert_allclose(value, brute)
    np.testing.assert_allclose(value, surfaces.hausdorff(b, a, spacing=spacing, **whole))
    np.testing.assert_allclose(scale * value, surfaces.hausdorff(a, b, spacing=scale * spacing, **whole))
    np.testing.assert_allclose(value, surfaces.hausdorff(a[:, ::-1], b[:, ::-1], spacing=spacing, **whole))
    shifted = [np.pad(x, ((0, 0), (3, 1), (2, 0), (0, 0))) for x in (a, b)]
    np.testing.assert_allclose(value, surfaces.hausdorff(*shifted, spacing=spacing, **whole))
    mean = surfaces.assd(a, b, spacing=spacing, **options)
    hd95 = surfaces.hausdorff(a, b, spacing=spacing, **{**whole, "percentile": 95})
    assert mean <= value and hd95 <= value
    tolerances = [surfaces.nsd(a, b, spacing=spacing, tolerance=t, **options)[0] for t in (0, 1, 3, 30)]
    assert tolerances == sorted(tolerances) and tolerances[-1] == 1.0


@pytest.mark.parametrize("boundary", surfaces.BOUNDARIES)
def test_known_distances(boundary):
    options = {"boundary": boundary, "empty_policy": "strict"}
    whole = {"percentile": None, "definition": "max_of_directed", **options}
    cube = np.zeros((1, 12, 12, 12, 1), bool)
    cube[:, 3:8, 3:8, 3:8] = True
    assert surfaces.hausdorff(cube, np.roll(cube, 2, 1), spacing=(3, 1, 1), **whole)[0] == pytest.approx(6.0)
    assert surfaces.hausdorff(cube, np.roll(cube, 1, 3), spacing=(1, 1, 5), **whole)[0] == pytest.approx(5.0)
    half = np.zeros((1, 20, 20, 1), bool)
    half[:, :8] = True
    # Two half-planes k apart: every point of the inner borders is k from the other surface.
    gap = surfaces.surface_distances(
        half[0, ..., 0], np.roll(half, 3, 1)[0, ..., 0] | half[0, ..., 0], spacing=(2, 1), boundary=boundary
    )
    assert gap.to_reference.max() == pytest.approx(6.0)
    z, y, x = np.mgrid[:40, :40, :40] - 19.5
    ball = lambda r: (z**2 + y**2 + x**2 <= r * r)[None, ..., None]  # noqa: E731
    assert surfaces.assd(ball(14), ball(15), spacing=(1, 1, 1), **options)[0] == pytest.approx(1.0, abs=0.2)


def test_single_voxels_have_one_distance_under_every_name():
    a, b = np.zeros((2, 1, 9, 9, 1), bool)
    a[:, 1, 1], b[:, 4, 5] = True, True
    options = {"spacing": (1.0, 1.0), "boundary": "erosion1", "empty_policy": "strict"}
    for metric in (surfaces.asd, surfaces.assd, surfaces.masd):
        assert metric(a, b, **options)[0] == pytest.approx(5.0)
    for definition in surfaces.DEFINITIONS:
        assert surfaces.hausdorff(a, b, percentile=95, definition=definition, **options)[0] == pytest.approx(
            5.0
        )


def test_the_two_definitions_of_hd95_differ():
    a, b = np.zeros((2, 1, 40, 40, 1), bool)
    a[:, 5:35, 5:35], b[:, 5:35, 5:35] = True, True
    b[:, 5:9, 35:40] = True
    options = {"spacing": (1.0, 1.0), "percentile": 95, "boundary": "erosion1", "empty_policy": "nan"}
    values = [surfaces.hausdorff(a, b, definition=d, **options)[0] for d in surfaces.DEFINITIONS]
    assert values[0] > values[1]


def test_empty_masks_follow_the_policy():
    full, empty = np.ones((1, 4, 5, 1), bool), np.zeros((1, 4, 5, 1), bool)
    a, b = np.concatenate([empty, empty, full]), np.concatenate([empty, full, empty])
    options = {"spacing": (2.0, 3.0), "boundary": "erosion1"}
    whole = {"percentile": None, "definition": "pooled", **options}
    assert np.isnan(surfaces.hausdorff(a, b, empty_policy="nan", **whole)).all()
    diagonal = np.hypot(3 * 2, 4 * 3)
    np.testing.assert_allclose(
        surfaces.assd(a, b, empty_policy="best_worst", **options), [0, diagonal, diagonal]
    )
    np.testing.assert_allclose(
        surfaces.nsd(a, b, tolerance=1, empty_policy="best_worst", **options), [1, 0, 0]
    )
    with pytest.raises(UserError, match="case 0 has an empty mask"):
        surfaces.assd(a, b, empty_policy="strict", **options)


def test_bad_input_raises_one_clear_line():
    mask = np.ones((1, 4, 4, 1))
    options = {"spacing": (1.0, 1.0), "boundary": "erosion1", "empty_policy": "nan"}
    for bad, message in (
        ({"spacing": (1.0,)}, "spacing must hold 2"),
        ({"spacing": (1.0, 0.0)}, "positive"),
        ({"boundary": "contour"}, "boundary must be one of"),
        ({"empty_policy": "zero"}, "empty_policy must be one of"),
    ):
        with pytest.raises(UserError, match=message):
            surfaces.assd(mask, mask, **{**options, **bad})
    for wrong in (0.5 * mask, np.nan * mask, 2 * mask):
        with pytest.raises(UserError, match="other than 0 and 1"):
            surfaces.assd(wrong, mask, **options)
    with pytest.raises(UserError, match="equal shapes"):
        surfaces.assd(mask[:, :2], mask, **options)
    with pytest.raises(UserError, match="masks must be"):
        surfaces.assd(mask[0], mask[0], **options)
    with pytest.raises(UserError, match="percentile"):
        surfaces.hausdorff(mask, mask, percentile=0, definition="pooled", **options)
    with pytest.raises(TypeError):
        surfaces.assd(mask, mask, spacing=(1.0, 1.0))


def border_points(mask, spacing):
    """Points of `mask XOR erosion`, by SciPy."""
    return np.argwhere(mask & ~binary_erosion(mask)) * np.array(spacing)


BY_TABLE = {
    "hausdorff": lambda there, back: max(there.max(), back.max()),
    "hd95": lambda there, back: max(np.percentile(there, 95), np.percentile(back, 95)),
    "hd95, pooled": lambda there, back: np.percentile(np.concatenate([there, back]), 95),
    "asd": lambda there, back: there.mean(),
    "assd": lambda there, back: np.concatenate([there, back]).mean(),
    "masd": lambda there, back: (there.mean() + back.mean()) / 2,
    "nsd": lambda there, back: np.mean(np.concatenate([there, back]) <= 1.5),
}


@pytest.mark.parametrize("policy", ["nan", "best_worst"])
@pytest.mark.parametrize("rank", [2, 3])
def test_every_kind_with_empty_ones_by_a_table_of_all_distances(rank, policy):
    a, b = kinds(rank)
    empty = np.zeros_like(a[:1])
    a, b = np.concatenate([a, empty, empty, a[:1]]), np.concatenate([b, empty, b[:1], empty])
    options = {"spacing": SPACING[rank], "boundary": "erosion1", "empty_policy": policy}
    percent = partial(surfaces.hausdorff, percentile=95)
    calls = {
        "hausdorff": partial(surfaces.hausdorff, percentile=None, definition="pooled"),
        "hd95": partial(percent, definition="max_of_directed"),
        "hd95, pooled": partial(percent, definition="pooled"),
        "asd": surfaces.asd,
        "assd": surfaces.assd,
        "masd": surfaces.masd,
        "nsd": partial(surfaces.nsd, tolerance=1.5),
    }
    diagonal = np.linalg.norm((np.array(SHAPES[rank]) - 1) * SPACING[rank])
    tables = [
        cdist(border_points(x, SPACING[rank]), border_points(y, SPACING[rank]))
        for x, y in zip(a[:-3, ..., 0], b[:-3, ..., 0], strict=True)
    ]
    for name, call in calls.items():
        known = [BY_TABLE[name](table.min(1), table.min(0)) for table in tables]
        best, worst = (1, 0) if name == "nsd" else (0, diagonal)
        known += [best, worst, worst] if policy == "best_worst" else [np.nan] * 3
        np.testing.assert_allclose(call(a, b, **options), known, rtol=1e-12, atol=1e-12, err_msg=name)
        # A network's rounded output is a mask as well.
        rounded = [x.astype(jnp.bfloat16) for x in (a, b)]
        np.testing.assert_allclose(call(*rounded, **options), known, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("rank", [2, 3])
def test_boundary_iou_of_every_kind_by_a_table_of_all_distances(rank):
    a, b = kinds(rank)
    options = {"spacing": SPACING[rank], "distance": 1.6, "empty_policy": "nan"}

    def strip(mask):
        padded = np.pad(mask, 1)
        table = cdist(np.argwhere(padded) * SPACING[rank], np.argwhere(~padded) * SPACING[rank])
        near = np.zeros_like(padded)
        near[tuple(np.argwhere(padded)[table.min(1) <= 1.6].T)] = True
        return near

    strips = [(strip(x), strip(y)) for x, y in zip(a[..., 0], b[..., 0], strict=True)]
    known = [(x & y).sum() / (x | y).sum() for x, y in strips]
    np.testing.assert_allclose(surfaces.boundary_iou(a, b, **options), known, rtol=1e-12)
    # One step of equal spacing is the inner border that other tools take.
    borders = [[z & ~binary_erosion(z) for z in pair] for pair in zip(a[..., 0], b[..., 0], strict=True)]
    value = surfaces.boundary_iou(a, b, spacing=(1,) * rank, distance=1.0, empty_policy="nan")
    np.testing.assert_allclose(value, [(x & y).sum() / (x | y).sum() for x, y in borders], rtol=1e-12)
    whole = surfaces.boundary_iou(a, b, spacing=(1,) * rank, distance=99.0, empty_policy="nan")
    np.testing.assert_allclose(whole, [(x & y).sum() / (x | y).sum() for x, y in zip(a, b, strict=True)])


def test_boundary_iou_follows_the_policy_and_sees_what_iou_forgets():
    one, none = np.ones((1, 4, 5, 1), bool), np.zeros((1, 4, 5, 1), bool)
    a, b = np.concatenate([none, none, one]), np.concatenate([none, one, none])
    call = partial(surfaces.boundary_iou, spacing=(1.0, 1.0), distance=2.0)
    np.testing.assert_array_equal(call(a, b, empty_policy="best_worst"), [1, 0, 0])
    assert np.isnan(call(a, b, empty_policy="nan")).all()
    with pytest.raises(UserError, match="case 0"):
        call(a, b, empty_policy="strict")
    with pytest.raises(UserError, match="distance must be positive"):
        surfaces.boundary_iou(one, one, spacing=(1, 1), distance=0.0, empty_policy="nan")
    large = np.zeros((1, 60, 60, 1), bool)
    large[:, 5:55, 5:55] = True
    shifted = np.roll(large, 2, 1)
    plain = (large & shifted).sum() / (large | shifted).sum()
    assert plain > 0.9 and call(large, shifted, empty_policy="nan")[0] < 0.6
