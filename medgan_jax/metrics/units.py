"""Unit, direction and range of every metric, so that a number never stands alone; and the host's checked
call.

`METRICS` knows the functions of `medgan_jax.metrics` and of `medgan_jax.evaluation`. `measure` calls one on
real arrays: where a traced metric must return NaN for bad input, it raises one clear line.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medgan_jax.errors import UserError


@dataclass(frozen=True)
class MetricInfo:
    """What a metric's value means: unit, direction (None has neither), range, and where it is defined."""

    name: str
    unit: str
    higher_is_better: bool | None
    bounds: tuple[float, float]
    section: str
    module: str


_INF = float("inf")


def _table() -> dict[str, MetricInfo]:
    rows: list[MetricInfo] = []

    def add(module, section, unit, higher, low, high, *names):
        rows.extend(
            MetricInfo(name, unit, higher, (low, high), section, f"medgan_jax.{module}") for name in names
        )

    counting = "classification and counting"
    add(
        "metrics.classification",
        counting,
        "1",
        True,
        0,
        1,
        "accuracy",
        "balanced_accuracy",
        "precision",
        "recall",
        "specificity",
        "fbeta",
        "roc_auc",
        "average_precision",
        "class_accuracy",
    )
    add("metrics.classification", counting, "1", True, -1, 1, "mcc", "cohen_kappa")
    add("metrics.classification", counting, "1", False, 0, 1, "brier", "ece")
    add("metrics.classification", counting, "score", None, -_INF, _INF, "youden_threshold")
    add("metrics.classification", counting, "1", None, 0, 1, "prevalence")
    add(
        "metrics.overlap",
        "overlap",
        "1",
        True,
        0,
        1,
        "dice",
        "iou",
        "class_dice",
        "class_iou",
        "centreline_dice",
    )
    add(
        "evaluation.surfaces",
        "surface distance",
        "mm",
        False,
        0,
        _INF,
        "hausdorff",
        "asd",
        "assd",
        "masd",
        "msd",
    )
    add("evaluation.surfaces", "surface distance", "1", True, 0, 1, "nsd", "boundary_iou")
    add("evaluation.objects", "objects", "1", True, 0, 1, "object_dice", "object_f1")
    add("evaluation.objects", "objects", "mm", False, 0, _INF, "object_hausdorff")
    add("evaluation.detection", "detection", "1", True, 0, 1, "froc_score", "sensitivity_at")
    clinical = "clinical quantities"
    add("metrics.clinical", clinical, "mm^2", None, 0, _INF, "area")
    add("metrics.clinical", clinical, "ml", None, 0, _INF, "volume")
    add("metrics.clinical", clinical, "mm^2", False, 0, _INF, "area_error", "area_mae")
    add("metrics.clinical", clinical, "%", None, -_INF, 100, "ejection_fraction")
    add("metrics.clinical", clinical, "%", None, 0, 100, "infarct_share")
    add("metrics.clinical", clinical, "1", None, 0, _INF, "cup_to_disc_ratio")
    add("metrics.clinical", clinical, "1", True, 0, 1, "identification_rate", "centreline_overlap")
    add("metrics.clinical", clinical, "mm", False, 0, _INF, "centreline_error")
    add("evaluation.clinical", clinical, "Agatston units", None, 0, _INF, "agatston")
    registration = "registration"
    add("metrics.registration", registration, "mm", False, 0, _INF, "tre", "p2p_error", "landmark_distances")
    add("metrics.registration", registration, "1", False, 0, 1, "fold_fraction")
    add("metrics.registration", registration, "1", False, 0, _INF, "sd_log_jacobian")
    add("metrics.registration", registration, "1", True, 0, 1, "local_ncc")
    fidelity = "image fidelity"
    add("metrics.image", fidelity, "squared image units", False, 0, _INF, "mse")
    add("metrics.image", fidelity, "image units", False, 0, _INF, "rmse", "mae")
    add("metrics.image", fidelity, "1", False, 0, _INF, "nmse", "nmse_dagan", "nrmse", "gradient_distance")
    add("metrics.image", fidelity, "dB", True, -_INF, _INF, "psnr", "snr_db")
    add("metrics.image", fidelity, "1", True, -1, 1, "ssim", "ssim_slicewise", "ncc")
    add("metrics.image", fidelity, "1", True, 0, 1, "ms_ssim")
    add("metrics.image", fidelity, "1", True, -_INF, _INF, "roi_snr")
    add("metrics.image", fidelity, "1", True, 0, _INF, "cnr")
    add("metrics.perceptual", fidelity, "1", True, 0, 1, "fsim")
    add("metrics.perceptual", fidelity, "1", None, 0, _INF, "global_contrast_factor")
    add("metrics.perceptual", fidelity, "1", True, 0, _INF, "semantic_interpretability_score")
    add("metrics.texture", fidelity, "1", False, 0, _INF, "nps_distance")
    add("metrics.texture", fidelity, "cycles/mm", None, 0, _INF, "nps_peak_frequency")
    add("evaluation.observers", fidelity, "cycles/mm", True, 0, _INF, "mtf50")
    add("evaluation.observers", fidelity, "1", True, 0, 1, "channelised_hotelling_observer")
    sets = "distributions"
    add("metrics.generative", sets, "1", True, 1, _INF, "inception_score", "vendi")
    add("metrics.generative", sets, "1", True, 0, _INF, "covered_modes")
    add("metrics.generative", sets, "nat", False, 0, _INF, "mode_divergence")
    add("metrics.generative", sets, "1", False, -_INF, _INF, "kid")
    add("metrics.generative", sets, "1", False, -2, 2, "mmd")
    add("metrics.generative", sets, "10^-3", False, 0, _INF, "swd_pgan")
    add("metrics.generative", sets, "feature units", False, 0, _INF, "sliced_wasserstein")
    add("metrics.generative", sets, "feature units", None, 0, _INF, "nearest_distances")
    add("metrics.generative", sets, "1", False, 0, 1, "ms_ssim_diversity")
    add("metrics.generative", sets, "1", True, 0, 1, "prdc_precision", "prdc_recall", "prdc_coverage")
    add("metrics.generative", sets, "1", True, 0, _INF, "prdc", "prdc_density")
    add(
        "evaluation.distributions",
        sets,
        "squared feature units",
        False,
        0,
        _INF,
        "frechet_distance",
        "fid",
        "fd",
    )
    add("evaluation.distributions", sets, "bins", False, 0, _INF, "ndb")
    add("evaluation.distributions", sets, "1", False, -2, 2, "proxy_a_distance")
    add("evaluation.distributions", sets, "1", None, -_INF, _INF, "log_determinant_ratio")
    add("evaluation.downstream", sets, "score", True, -_INF, _INF, "tstr")
    readers = "reader studies"
    add(
        "evaluation.reader_study",
        readers,
        "rating",
        True,
        1,
        5,
        "mean_opinion_score",
        "overall_quality",
        "noise_suppression",
        "artefact_reduction",
    )
    add("evaluation.reader_study", readers, "1", True, 0, 1, "correct_detection")
    add("evaluation.reader_study", readers, "1", False, 0, 1, "visual_turing")
    add(
        "evaluation.reader_study",
        readers,
        "1",
        True,
        -1,
        1,
        "fleiss_kappa",
        "krippendorff_alpha",
        "quadratic_kappa",
    )
    return {row.name: row for row in rows}


METRICS: dict[str, MetricInfo] = _table()


def information(name: str) -> MetricInfo:
    """What is known about a metric, by its name; 'fd[proxy]' and the like are found as 'fd'."""
    info = METRICS.get(name) or METRICS.get(name.partition("[")[0])
    if info is None:
        raise UserError(f"no metric is called {name!r}; there are {', '.join(sorted(METRICS))}")
    return info


@dataclass(frozen=True)
class Score:
    """Values of a metric per case, with what they mean and the conventions they were computed under."""

    name: str
    values: np.ndarray
    unit: str
    higher_is_better: bool | None
    n_undefined: int
    conventions: dict[str, object]


MASK_METRICS = (
    "dice",
    "iou",
    "centreline_dice",
    "area",
    "volume",
    "area_error",
    "area_mae",
    "infarct_share",
    "cup_to_disc_ratio",
)
ABSENT_IS_NAN = (
    "tre",
    "p2p_error",
    "landmark_distances",
    "identification_rate",
    "semantic_interpretability_score",
)
POSITIVE = ("data_range", "spacing", "floor")
NOT_NEGATIVE = ("tolerance", "radius", "eps")


def measure(metric: Callable, *arrays, **conventions) -> Score:
    """A metric such as `(prediction, reference, **conventions) -> (B, ...)` on arrays with values, checked on
    the host.

    Raises a `UserError` where the traced metric would return NaN for bad input or raise for its shapes: NaN
    or Inf, unequal shapes, a wrong rank, too few samples, a missing or senseless convention, labels that are
    none, and with `empty_policy='strict'` an empty mask. Values that are undefined by definition (no
    positives, a constant image) stay NaN and are counted. NaN is allowed where it stands for something
    absent, a landmark or the Dice score of two empty masks.
    """
    info = information(metric.__name__)
    named = _name_arrays(metric, info, arrays)
    _check_conventions(metric, info, conventions)
    fields = {name: x for name, x in conventions.items() if _is_numeric(x)}
    for name, array in {**named, **fields}.items():
        _check_finite(info, name, array)
    _check_labels(info, named, conventions)
    strict = conventions.get("empty_policy") == "strict" and info.module.endswith("overlap")
    given = {**conventions, "empty_policy": "nan"} if strict else conventions
    try:
        values = np.asarray(metric(*named.values(), **given))
    except (ValueError, TypeError) as error:
        raise UserError(f"{info.name}: {error}") from None
    undefined = int(np.isnan(values).sum())
    if strict and undefined:
        raise UserError(
            f"{info.name}: case {int(np.argwhere(np.isnan(values))[0][0])} is empty on both sides"
        )
    return Score(info.name, values, info.unit, info.higher_is_better, undefined, conventions)


def _name_arrays(metric: Callable, info: MetricInfo, arrays) -> dict[str, np.ndarray | None]:
    parameters = inspect.signature(metric).parameters.values()
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    if len(names) != len(arrays):
        raise UserError(f"{info.name} takes {', '.join(names)}, not {len(arrays)} arrays")
    return {
        name: None if array is None else np.asarray(array) for name, array in zip(names, arrays, strict=True)
    }


def _is_numeric(value) -> bool:
    """Numbers and arrays of them, but not random keys, windows and names."""
    if value is None or isinstance(value, str):
        return False
    try:
        np.asarray(value, float)
    except (TypeError, ValueError):
        return False
    return True


def _check_finite(info: MetricInfo, name: str, array) -> None:
    if array is None:
        return
    values = np.asarray(array, float)
    bad = np.isinf(values) if info.name in ABSENT_IS_NAN else ~np.isfinite(values)
    if bad.any():
        where = f", first in case {int(np.argwhere(bad)[0][0])}" if values.ndim else ""
        raise UserError(f"{info.name}: the {name} holds NaN or Inf{where}")


def _check_conventions(metric: Callable, info: MetricInfo, conventions: dict[str, object]) -> None:
    parameters = inspect.signature(metric).parameters.values()
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    missing = [p.name for p in keywords if p.default is p.empty and p.name not in conventions]
    unknown = sorted(set(conventions) - {p.name for p in keywords})
    if missing or unknown:
        what = f"needs {', '.join(missing)}" if missing else f"knows no {', '.join(unknown)}"
        raise UserError(
            f"{info.name} {what}; its conventions are {', '.join(p.name for p in keywords) or 'none'}"
        )
    for name in POSITIVE:
        if name in conventions and not (np.asarray(conventions[name], float) > 0).all():
            raise UserError(f"{info.name}: {name} must be positive, not {conventions[name]}")
    for name in NOT_NEGATIVE:
        if name in conventions and not (np.asarray(conventions[name], float) >= 0).all():
            raise UserError(f"{info.name}: {name} must not be negative, not {conventions[name]}")


def _check_labels(info: MetricInfo, named: dict[str, np.ndarray | None], conventions) -> None:
    checked = dict(named)
    if "classes" in conventions:
        allowed = np.arange(conventions["classes"])
    elif info.name in MASK_METRICS:
        allowed = np.arange(2)
    elif info.module.endswith("classification"):
        allowed, checked = np.arange(2), {"labels": named["labels"]}
    else:
        return
    for name, array in checked.items():
        wrong = np.setdiff1d(np.asarray(array, float), allowed)
        if wrong.size:
            raise UserError(f"{info.name}: the {name} holds {wrong[0]:g}, and labels are 0 to {allowed[-1]}")
