"""Over the whole registry: what a value may be, what bad input does to it, and what its docstring says."""

import importlib
import inspect
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medgan_jax.errors import UserError
from medgan_jax.metrics import METRICS, clinical, generative, image, measure, overlap, perceptual, texture
from medgan_jax.metrics import classification as c
from medgan_jax.metrics import registration as r

GENERATOR = np.random.default_rng(0)


def values(*shape):
    return GENERATOR.random((2, *shape)).astype(np.float32)


def mask(*shape):
    return (GENERATOR.random((2, *shape)) < 0.5).astype(np.float32)


PAIR = values(24, 22, 1), values(24, 22, 1)
VOLUMES = values(2, 4, 5, 1), values(2, 4, 5, 1)
REGIONS = {"signal": mask(24, 22, 1), "background": mask(24, 22, 1)}
REGIONS["signal"][:, -1, -1] = 1  # what lies in no region does not count
NOISE = values(2, 8, 8), values(2, 8, 8)
MASKS = mask(8, 6, 1), mask(8, 6, 1)
SCORES = values(30), mask(30)
POINTS = values(6, 2), values(6, 2)
SETS = values(10, 4)[0], values(10, 4)[1]
PICTURES = GENERATOR.random((6, 24, 22, 1)).astype(np.float32)
KEY = jax.random.key(0)
THETA = np.eye(4, dtype=np.float32)
NPS = {"spacing": (0.7, 0.5), "detrend": 1, "bins": 3}
PIXEL = {"spacing": (1.5, 0.5)}
SSIM = {"data_range": 1.0, "window": image.Window("uniform", 3, None, "sample")}

# name: (function, arrays, conventions). The last case of arrays with cases is the one that tests spoil.
TRACED = {
    **{
        name: (getattr(image, name), PAIR, {})
        for name in ("mse", "rmse", "mae", "nmse", "nmse_dagan", "gradient_distance", "snr_db", "ncc")
    },
    "nrmse": (image.nrmse, PAIR, {"denominator": "mean"}),
    "psnr": (image.psnr, PAIR, {"data_range": 1.0}),
    "ssim": (image.ssim, PAIR, SSIM),
    "ssim_slicewise": (image.ssim_slicewise, VOLUMES, SSIM),
    "ms_ssim": (image.ms_ssim, PAIR, {**SSIM, "scales": 2}),
    "fsim": (perceptual.fsim, PAIR, {"data_range": 1.0}),
    "local_ncc": (r.local_ncc, PAIR, {"window": 5, "eps": 1e-5}),
    "roi_snr": (image.roi_snr, PAIR[:1], {**REGIONS, "rayleigh_correction": True}),
    "cnr": (
        image.cnr,
        PAIR[:1],
        {"first": REGIONS["signal"], "second": 1 - REGIONS["signal"], "background": REGIONS["background"]},
    ),
    "global_contrast_factor": (perceptual.global_contrast_factor, PAIR[:1], {"display_range": (0.0, 1.0)}),
    "semantic_interpretability_score": (
        perceptual.semantic_interpretability_score,
        (values(3)[0], 0.5 + values(3)[1] / 2),
        {},
    ),
    "nps_distance": (texture.nps_distance, NOISE, NPS),
    "nps_peak_frequency": (texture.nps_peak_frequency, NOISE[:1], NPS),
    "dice": (overlap.dice, MASKS, {"empty_policy": "nan"}),
    "iou": (overlap.iou, MASKS, {"empty_policy": "nan"}),
    "class_dice": (overlap.class_dice, MASKS, {"classes": 2, "empty_policy": "nan"}),
    "class_iou": (overlap.class_iou, MASKS, {"classes": 2, "empty_policy": "nan"}),
    "centreline_dice": (overlap.centreline_dice, (*MASKS, *MASKS), {"empty_policy": "nan"}),
    "area": (clinical.area, MASKS[:1], PIXEL),
    "volume": (clinical.volume, (mask(3, 4, 4, 1),), {"spacing": (4.0, 1.5, 0.5), "slice_gap": 1.0}),
    "area_error": (clinical.area_error, MASKS, PIXEL),
    "area_mae": (clinical.area_mae, MASKS, {**PIXEL, "patients": np.array([0, 1]), "n_patients": 2}),
    "ejection_fraction": (clinical.ejection_fraction, (100 * values(), 50 * values()), {}),
    "infarct_share": (clinical.infarct_share, MASKS, {}),
    "cup_to_disc_ratio": (clinical.cup_to_disc_ratio, MASKS, {}),
    "identification_rate": (clinical.identification_rate, POINTS, {**PIXEL, "tolerance": 0.6}),
    "centreline_error": (clinical.centreline_error, POINTS, PIXEL),
    "centreline_overlap": (clinical.centreline_overlap, POINTS, {**PIXEL, "radius": 0.3}),
    **{name: (getattr(r, name), POINTS, {**PIXEL, "reduction": "rms"}) for name in ("tre", "p2p_error")},
    "landmark_distances": (r.landmark_distances, POINTS, PIXEL),
    "fold_fraction": (r.fold_fraction, (values(6, 7, 2),), {}),
    "sd_log_jacobian": (r.sd_log_jacobian, (values(6, 7, 2),), {"floor": 0.1}),
    **{
        name: (getattr(c, name), SCORES, {"threshold": 0.5})
        for name in ("accuracy", "balanced_accuracy", "precision", "recall", "specificity", "mcc")
    },
    "fbeta": (c.fbeta, SCORES, {"threshold": 0.5, "beta": 1.0}),
    **{
        name: (getattr(c, name), SCORES, {})
        for name in ("roc_auc", "average_precision", "brier", "youden_threshold")
    },
    "ece": (c.ece, SCORES, {"bins": 5}),
    "prevalence": (c.prevalence, SCORES[1:], {}),
    "class_accuracy": (c.class_accuracy, MASKS, {"classes": 2}),
    "cohen_kappa": (c.cohen_kappa, MASKS, {"classes": 2, "weights": "none"}),
    "inception_score": (generative.inception_score, SETS[:1], {"splits": 1, "key": None}),
    "vendi": (generative.vendi, SETS[:1], {}),
    "kid": (generative.kid, SETS, {"subsets": 1, "subset_size": 10, "key": KEY}),
    "mmd": (generative.mmd, SETS, {"scale": 0.3}),
    "prdc": (generative.prdc, SETS, {"k": 3}),
    "sliced_wasserstein": (generative.sliced_wasserstein, SETS, {"directions": THETA, "p": 2}),
    "nearest_distances": (generative.nearest_distances, SETS, {}),
    "covered_modes": (generative.covered_modes, SETS, {"radius": 0.5, "least": 0.1}),
    "mode_divergence": (generative.mode_divergence, SETS, {}),
    "swd_pgan": (
        generative.swd_pgan,
        (PICTURES[:3], PICTURES[3:]),
        {"key": KEY, "neighbourhoods": 4, "directions": 8},
    ),
    "ms_ssim_diversity": (
        partial(generative.ms_ssim_diversity, pairs=np.array([[0, 1], [4, 5]])),
        (PICTURES,),
        {**SSIM, "scales": 1},
    ),
}
LANDMARKS = ("tre", "p2p_error", "landmark_distances", "identification_rate")
# Without cases: one value, or one for each sample, split or level, and any bad sample spoils it.
SETS_OF_SAMPLES = ("inception_score", "vendi", "kid", "mmd", "prdc", "sliced_wasserstein", "swd_pgan",
                   "covered_modes", "mode_divergence")  # fmt: skip
HOSTED = "evaluation"


@pytest.fixture(scope="module")
def traced():
    """All metrics in one compiled program, on the arrays given for each."""

    @jax.jit
    def call(arrays):
        return {
            name: jnp.asarray(function(*arrays[name], **options))
            for name, (function, _, options) in TRACED.items()
        }

    return lambda arrays: {name: np.asarray(value) for name, value in call(arrays).items()}


def arrays_with(index=None, bad=None):
    """The arrays of every metric, with `bad` in the last case of the `index`-th of them."""
    result = {}
    for name, (_, arrays, _) in TRACED.items():
        arrays = [np.array(x, np.float32) for x in arrays]
        if index is not None and index < len(arrays):
            arrays[index].reshape(-1)[-1] = bad
        result[name] = arrays
    return result


def test_every_traced_metric_is_here():
    traced = {i.name for i in METRICS.values() if HOSTED not in i.module and not i.name.startswith("prdc_")}
    assert traced == set(TRACED)


def test_values_lie_in_the_registered_range(traced):
    for name, value in traced(arrays_with()).items():
        low, high = METRICS[name].bounds
        assert not np.isnan(value).any() and value.dtype == np.float32, name
        assert (value >= low - 1e-5).all() and (value <= high + 1e-5).all(), (name, value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("index", [0, 1])
def test_a_bad_value_is_undefined_in_its_case_and_spares_the_others(traced, index, bad):
    good, spoilt = traced(arrays_with()), traced(arrays_with(index, bad))
    for name, value in spoilt.items():
        if index >= len(TRACED[name][1]):
            continue
        absent = name in LANDMARKS and np.isnan(bad)
        if name in SETS_OF_SAMPLES or (name, index) == ("nearest_distances", 1):
            assert np.isnan(value).all(), (name, value)
        elif name == "semantic_interpretability_score":
            assert np.isnan(value) or np.isnan(bad), (name, value)  # a NaN Dice score is of empty masks
        elif not absent:
            assert np.isnan(value[-1]).all(), (name, value)
            np.testing.assert_allclose(value[:-1], good[name][:-1], rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("bad", [2.0, -1.0, 0.5])
def test_labels_that_are_none_are_undefined(traced, bad):
    labelled = {
        **dict.fromkeys(("dice", "iou", "class_dice", "class_iou", "centreline_dice"), (0, 1)),
        **dict.fromkeys(("area", "volume"), (0,)),
        **dict.fromkeys(("area_error", "area_mae", "infarct_share", "cup_to_disc_ratio"), (0, 1)),
        **{name: (1,) for name, (f, _, _) in TRACED.items() if f in vars(c).values()},
        "prevalence": (0,),
    }
    labelled |= dict.fromkeys(("class_accuracy", "cohen_kappa"), (0, 1))
    for index in (0, 1):
        spoilt = traced(arrays_with(index, bad))
        for name, places in labelled.items():
            if index in places:
                assert np.isnan(spoilt[name][-1]).all(), name
                function, _, options = TRACED[name]
                with pytest.raises(UserError, match="labels are"):
                    measure(function, *arrays_with(index, bad)[name], **options)


def host_call(name, arrays):
    function, _, options = TRACED[name]
    if isinstance(function, partial):
        options = options | {"data_range": 1.0}
        return measure(function.func, *arrays, function.keywords["pairs"], **options)
    return measure(function, *arrays, **options)


@pytest.mark.parametrize("name", TRACED)
def test_the_host_says_what_is_wrong(name):
    for index in range(len(TRACED[name][1])):
        for bad in (np.inf, np.nan):
            absent = np.isnan(bad) and name in (*LANDMARKS, "semantic_interpretability_score")
            if not absent:
                with pytest.raises(UserError, match=f"^{name}: .* holds NaN or Inf"):
                    host_call(name, arrays_with(index, bad)[name])
    good = arrays_with()[name]
    if name != "ejection_fraction" and TRACED[name][0] not in vars(c).values():
        with pytest.raises(UserError, match=f"^{name}: "):
            host_call(name, [x.reshape(-1) if x.ndim > 1 else x[0] for x in good])  # too low a rank
    if len(good) > 1:
        with pytest.raises(UserError, match=f"^{name}: "):
            host_call(name, [good[0], good[1][..., :-1], *good[2:]])
        with pytest.raises(UserError, match=f"^{name} takes"):
            measure(TRACED[name][0], good[0], **TRACED[name][2])


def test_too_few_samples_and_senseless_conventions_are_refused_on_the_host():
    real, generated = SETS
    for call in (
        partial(measure, generative.kid, real[:5], generated, subsets=1, subset_size=10, key=KEY),
        partial(measure, generative.prdc, real[:3], generated, k=3),
        partial(measure, generative.inception_score, real, splits=11, key=None),
        partial(measure, generative.swd_pgan, PICTURES[:3], PICTURES[:4], key=KEY),
        partial(measure, generative.sliced_wasserstein, real, generated, directions=THETA, p=0),
        partial(measure, image.ms_ssim, *PAIR, **SSIM, scales=5),
        partial(measure, image.psnr, *PAIR, data_range=np.nan),
        partial(measure, image.mse, *PAIR, mask=np.full((2, 24, 22, 1), np.nan)),
        partial(measure, r.tre, *POINTS, spacing=(1.0, -1.0), reduction="mean"),
        partial(measure, clinical.centreline_overlap, *POINTS, **PIXEL, radius=-1.0),
        partial(measure, r.sd_log_jacobian, values(6, 7, 2), floor=0.0),
        partial(measure, texture.nps_distance, *NOISE, spacing=(0.7, 0.0), detrend=1, bins=3),
    ):
        with pytest.raises(UserError):
            call()


@jax.jit
def senseless():
    pair, points = jnp.asarray(PAIR), jnp.asarray(POINTS)
    nothing = jnp.full((2, 24, 22, 1), jnp.nan)
    return {
        "mask": image.mse(*pair, mask=nothing),
        "ssim mask": image.ssim(*pair, **SSIM, mask=nothing),
        "region": image.roi_snr(
            pair[0], signal=nothing, background=REGIONS["background"], rayleigh_correction=False
        ),
        "counted": c.accuracy(*SCORES, threshold=0.5, mask=jnp.full((2, 30), jnp.nan)),
        "threshold": c.recall(*SCORES, threshold=jnp.nan),
        "spacing": clinical.centreline_error(*points, spacing=(1.0, 0.0)),
        "identification": clinical.identification_rate(*points, spacing=(1.0, -1.0), tolerance=1.0),
        "tolerance": clinical.identification_rate(*points, spacing=(1.0, 1.0), tolerance=jnp.nan),
        "radius": clinical.centreline_overlap(*points, spacing=(1.0, 1.0), radius=-1.0),
        "floor": r.sd_log_jacobian(values(6, 7, 2), floor=0.0),
        "gap": clinical.volume(jnp.ones((2, 2, 2, 2, 1)), spacing=(1.0, 1.0, 1.0), slice_gap=-1.0),
        "patients": clinical.area_mae(*MASKS, **PIXEL, patients=jnp.array([0, 5]), n_patients=2),
        "volumes": clinical.ejection_fraction(jnp.array([-1.0, 1.0]), jnp.array([0.5, -1.0])),
        "pairs": generative.ms_ssim_diversity(PICTURES, jnp.array([[0, 6], [-1, 2]]), **SSIM, scales=1),
        "directions": generative.sliced_wasserstein(*SETS, directions=THETA * jnp.nan, p=1),
    }


def test_senseless_conventions_are_undefined_under_jit():
    for name, value in senseless().items():
        assert np.isnan(value).all(), name


# Names that the registry gives to a part of another function's result, or to one use of it.
ELSEWHERE = {
    "fid": "frechet_distance",
    "fd": "frechet_distance",
    "mtf50": "mtf_from_edge",
    **dict.fromkeys(("overall_quality", "noise_suppression", "artefact_reduction"), "mean_opinion_score"),
    **dict.fromkeys(("prdc_precision", "prdc_recall", "prdc_density", "prdc_coverage"), "prdc"),
}
RANGE = r"[\[(]-?(\d|inf)[^\])]*, [^\])]*[\])]|\[scale\]|at most"
DIRECTIONS = {True: "higher (is|are) better", False: "lower is better", None: "no direction"}


@pytest.mark.parametrize("info", METRICS.values(), ids=METRICS)
def test_docstring_has_formula_unit_range_direction_and_source(info):
    function = getattr(importlib.import_module(info.module), ELSEWHERE.get(info.name, info.name))
    text = " ".join(inspect.getdoc(function).split())
    assert re.search(r"`[^`]+`", text), "formula"
    assert re.search(DIRECTIONS[info.higher_is_better], text, re.IGNORECASE), "direction"
    assert re.search(RANGE, text), "range"
    assert re.search(r"[A-Z][\w'é-]+.{0,30} \d{4}", text), "source"
    assert info.unit == "1" or info.unit in text, "unit"
    assert len(text.split()) >= 25, "and what to beware of"
