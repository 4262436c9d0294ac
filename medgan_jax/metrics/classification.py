"""Agreement of scores with binary labels, at a threshold and over all thresholds, and of class maps with each
other.

Every function takes `(scores, labels)`, in this order. The first axis counts cases and all others are pooled,
so `(B, H, W, C)`, `(B, D, H, W, C)` and `(B, N)` give `(B,)`; one set of N image-level scores, `(N,)`, gives
a scalar. A score is positive when `score >= threshold`. `mask` (non-zero is counted) leaves out pixels, such
as those outside the field of view. All values are dimensionless, thresholds have the scores' unit. Undefined
values are NaN: no positives for recall, one class for AUC, labels other than 0 and 1, NaN or infinite scores.
Pixel-level accuracy and specificity are inflated by background: report a region.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from medgan_jax.metrics.checks import as_float, divide, square_root, undefined_unless


class Counts(NamedTuple):
    """True positives, false positives, false negatives and true negatives of each case."""

    tp: jax.Array
    fp: jax.Array
    fn: jax.Array
    tn: jax.Array


class _Rows(NamedTuple):
    scores: jax.Array
    positive: jax.Array
    negative: jax.Array
    valid: jax.Array
    shape: tuple[int, ...]


def _rows(scores, labels, mask) -> _Rows:
    """Scores as `(B, N)`, which of them count as positive and negative, and which cases have sound input."""
    scores, labels = as_float(scores), as_float(labels)
    if scores.shape != labels.shape:
        raise ValueError(f"scores are {scores.shape} but labels are {labels.shape}")
    if scores.ndim == 0:
        raise ValueError("scores need at least one axis")
    counted = jnp.ones(scores.shape, bool) if mask is None else jnp.broadcast_to(mask, scores.shape) != 0
    shape_given = scores.shape
    shape = scores.shape[:1] if scores.ndim > 1 else ()
    scores, labels, counted = (x.reshape(*(shape or (1,)), -1) for x in (scores, labels, counted))
    sound = jnp.isfinite(scores) & ((labels == 0) | (labels == 1))
    valid = jnp.all(sound | ~counted, axis=1)
    if mask is not None:
        finite = jnp.broadcast_to(jnp.isfinite(jnp.asarray(mask)), shape_given)
        valid = valid & jnp.all(finite.reshape(counted.shape), axis=1)
    scores = jnp.where(counted & jnp.isfinite(scores), scores, 0)
    return _Rows(scores, counted & (labels == 1), counted & (labels == 0), valid, shape)


def _count(condition: jax.Array) -> jax.Array:
    # Counted in int32: a float32 sum of ones stops at 2^24, less than a CT volume holds.
    return jnp.sum(condition, axis=1, dtype=jnp.int32)


@jax.jit
def confusion_counts(
    scores: jax.Array, labels: jax.Array, *, threshold: jax.Array | float, mask: jax.Array | None = None
) -> Counts:
    """TP, FP, FN and TN at `score >= threshold`; NaN for cases with NaN scores or labels other than 0 and 1.

    `threshold` is a scalar or one value per case; one tuned on the test set flatters every number below.
    """
    rows = _rows(scores, labels, mask)
    limit = jnp.broadcast_to(jnp.asarray(threshold, rows.scores.dtype), rows.scores.shape[:1])[:, None]
    called = rows.scores >= limit
    counts = (
        rows.positive & called,
        rows.negative & called,
        rows.positive & ~called,
        rows.negative & ~called,
    )
    valid = rows.valid & ~jnp.isnan(limit[:, 0])
    dtype = rows.scores.dtype
    return Counts(*(undefined_unless(valid, _count(c).astype(dtype)).reshape(rows.shape) for c in counts))


def accuracy(scores, labels, *, threshold, mask=None) -> jax.Array:
    """Accuracy, `(TP + TN) / (TP + FP + FN + TN)`: in [0, 1], higher is better (Kazeminia et al. 2020, Table
    1).

    Misleading under imbalance, where calling nothing positive scores the share of negatives: report
    `prevalence` and `balanced_accuracy` beside it.
    """
    tp, fp, fn, tn = confusion_counts(scores, labels, threshold=threshold, mask=mask)
    return divide(tp + tn, tp + fp + fn + tn)


def prevalence(labels: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Prevalence, `(TP + FN) / all`, the share of positives among the labels: in [0, 1], no direction.

    Belongs beside accuracy and precision, which move with it (Metrics Reloaded, Maier-Hein et al. 2024).
    """
    tp, fp, fn, tn = confusion_counts(labels, labels, threshold=0.5, mask=mask)
    return divide(tp + fn, tp + fp + fn + tn)


def balanced_accuracy(scores, labels, *, threshold, mask=None) -> jax.Array:
    """Balanced accuracy, `(recall + specificity) / 2`: in [0, 1], higher is better, 0.5 by chance.

    Does not flatter a classifier that always names the larger class (Brodersen et al. 2010). NaN with one
    class only.
    """
    tp, fp, fn, tn = confusion_counts(scores, labels, threshold=threshold, mask=mask)
    return (divide(tp, tp + fn) + divide(tn, tn + fp)) / 2


def precision(scores, labels, *, threshold, mask=None) -> jax.Array:
    """Precision, `TP / (TP + FP)`: in [0, 1], higher is better (Kazeminia et al. 2020, Table 1).

    NaN, and not 0, when nothing is called positive: scikit-learn's 0 hides that there was no call at all.
    Falls with the prevalence, so values of different test sets cannot be compared.
    """
    tp, fp, _, _ = confusion_counts(scores, labels, threshold=threshold, mask=mask)
    return divide(tp, tp + fp)


def recall(scores, labels, *, threshold, mask=None) -> jax.Array:
    """Recall, or sensitivity, `TP / (TP + FN)`: in [0, 1], higher is better (Kazeminia et al. 2020, Table 1).

    NaN without positives in the reference: cases without a lesion must not count as missed ones.
    """
    tp, _, fn, _ = confusion_counts(scores, labels, threshold=threshold, mask=mask)
    return divide(tp, tp + fn)


def specificity(scores, labels, *, threshold, mask=None) -> jax.Array:
    """Specificity, `TN / (TN + FP)`: in [0, 1], higher is better (Kazeminia et al. 2020, Table 1).

    NaN without negatives. Over pixels it is inflated by background: report it inside a region by `mask`.
    """
    _, fp, _, tn = confusion_counts(scores, labels, threshold=threshold, mask=mask)
    return divide(tn, tn + fp)


def fbeta(scores, labels, *, threshold, beta, mask=None) -> jax.Array:
    """F-score, `(1 + b^2) TP / ((1 + b^2) TP + b^2 FN + FP)`: in [0, 1], higher is better; F1 is Dice.

    Computed from counts and not from precision and recall (van Rijsbergen 1979), so it is 0 and not 0/0 when
    nothing is found; NaN only when there is neither a positive label nor a positive call. `beta > 1` weighs
    recall more. Per case: a macro average is the mean of these, a micro average needs the pooled counts.
    """
    tp, fp, fn, _ = confusion_counts(scores, labels, threshold=threshold, mask=mask)
    weight = beta * beta
    return divide((1 + weight) * tp, (1 + weight) * tp + weight * fn + fp)


def mcc(scores, labels, *, threshold, mask=None) -> jax.Array:
    """Matthews correlation, `(TP TN - FP FN) / sqrt((TP+FP)(TP+FN)(TN+FP)(TN+FN))`: in [-1, 1], higher is
    better, 0 by chance.

    Uses all four counts, so imbalance does not flatter it (Matthews 1975). NaN where the denominator is
    zero; scikit-learn returns 0 there, which reads as chance.
    """
    tp, fp, fn, tn = confusion_counts(scores, labels, threshold=threshold, mask=mask)
    total = tp + fp + fn + tn
    tp, fp, fn, tn = (divide(x, total) for x in (tp, fp, fn, tn))  # shares, so that no product overflows
    return divide(tp * tn - fp * fn, square_root((tp + fp) * (tp + fn)) * square_root((tn + fp) * (tn + fn)))


class _Sorted(NamedTuple):
    scores: jax.Array  # descending
    tp: jax.Array  # positives with a score at least this one's
    fp: jax.Array
    ends: jax.Array  # index of the last entry of the group of ties
    positive: jax.Array
    positives: jax.Array  # (B, 1)
    negatives: jax.Array


def _descending(rows: _Rows) -> _Sorted:
    """Cumulative counts over descending scores; each entry carries the counts at the end of its group of
    ties."""
    order = jnp.argsort(-rows.scores, axis=1)
    scores, positive, negative = (
        jnp.take_along_axis(x, order, axis=1) for x in (rows.scores, rows.positive, rows.negative)
    )
    last = jnp.concatenate([scores[:, 1:] != scores[:, :-1], jnp.ones((len(scores), 1), bool)], axis=1)
    index = jnp.where(last, jnp.arange(scores.shape[1]), scores.shape[1])
    ends = jax.lax.cummin(index, axis=1, reverse=True)
    counts = [jnp.cumsum(x, axis=1, dtype=jnp.int32) for x in (positive, negative)]
    tp, fp = (jnp.take_along_axis(x, ends, axis=1) for x in counts)
    return _Sorted(scores, tp, fp, ends, positive, counts[0][:, -1:], counts[1][:, -1:])


@jax.jit
def roc_auc(scores: jax.Array, labels: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Area under the ROC curve, `P(s+ > s-) + P(tie) / 2`: in [0, 1], higher is better, 0.5 by chance.

    Equal to the Mann-Whitney U over `n+ n-` and to the trapezoid under the ROC; ties count half (Hanley and
    McNeil 1982). NaN with one class only. Each positive adds the share of negatives below it, so there is no
    cancellation of large rank sums when classes are unequal.
    """
    rows = _rows(scores, labels, mask)
    ordered = _descending(rows)
    dtype = rows.scores.dtype
    starts = jnp.concatenate([jnp.full((len(ordered.ends), 1), -1), ordered.ends[:, :-1]], axis=1)
    new = jnp.arange(ordered.ends.shape[1]) == starts + 1
    above = jnp.concatenate([jnp.zeros_like(ordered.fp[:, :1]), ordered.fp[:, :-1]], axis=1)
    above = jax.lax.cummax(jnp.where(new, above, 0), axis=1)  # negatives above the group of ties
    below = ordered.negatives - ordered.fp
    tied = ordered.fp - above
    share = divide(below.astype(dtype) + 0.5 * tied.astype(dtype), ordered.negatives.astype(dtype))
    total = jnp.sum(jnp.where(ordered.positive, share, 0), axis=1)
    defined = rows.valid & (ordered.negatives[:, 0] > 0)
    return undefined_unless(defined, divide(total, ordered.positives[:, 0].astype(dtype))).reshape(rows.shape)


class Roc(NamedTuple):
    """False-positive rates, true-positive rates and thresholds, each `(B, N + 1)`, from (0, 0) to (1, 1)."""

    fpr: jax.Array
    tpr: jax.Array
    thresholds: jax.Array


@jax.jit
def roc_curve(scores: jax.Array, labels: jax.Array, *, mask: jax.Array | None = None) -> Roc:
    """The ROC curve as `N + 1` points of fixed shape, thresholds descending from infinity.

    Scores that tie repeat the vertex at the end of their group, so that the polygon is the curve with one
    vertex for each distinct score. NaN with one class only. Positive means `score >= threshold`.
    """
    rows = _rows(scores, labels, mask)
    ordered = _descending(rows)
    dtype = rows.scores.dtype
    defined = (rows.valid & (ordered.positives[:, 0] > 0) & (ordered.negatives[:, 0] > 0))[:, None]
    zero = jnp.zeros((len(rows.scores), 1), dtype)

    def rate(count, total):
        values = divide(count.astype(dtype), total.astype(dtype))
        points = undefined_unless(defined, jnp.concatenate([zero, values], axis=1))
        return points.reshape(*rows.shape, -1)

    thresholds = jnp.concatenate([zero + jnp.inf, ordered.scores], axis=1).reshape(*rows.shape, -1)
    return Roc(rate(ordered.fp, ordered.negatives), rate(ordered.tp, ordered.positives), thresholds)


@jax.jit
def youden_threshold(scores: jax.Array, labels: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Threshold with the largest Youden index `TPR - FPR` (Youden 1950); the highest one where several tie.

    In the score's unit, in (-inf, inf), no direction; infinite where nothing beats calling
    nothing positive, NaN with one class only. Choose it on validation data
    and then keep it: one chosen on the test set flatters every metric at a threshold.
    """
    curve = roc_curve(scores, labels, mask=mask)
    index = curve.tpr - curve.fpr
    best = jnp.argmax(index, axis=-1)
    threshold = jnp.take_along_axis(curve.thresholds, best[..., None], axis=-1)[..., 0]
    return undefined_unless(~jnp.isnan(index[..., 0]), threshold)


@jax.jit
def average_precision(scores: jax.Array, labels: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Area under the precision-recall steps, `sum (R_n - R_{n-1}) P_n`: in (0, 1], higher is better.

    The average precision of scikit-learn, for rare positives (Davis and Goadrich 2006). Not the trapezoid,
    which is optimistic. By chance it equals the prevalence. NaN without positives.
    """
    rows = _rows(scores, labels, mask)
    ordered = _descending(rows)
    tp, fp = (x.astype(rows.scores.dtype) for x in (ordered.tp, ordered.fp))
    total = jnp.sum(jnp.where(ordered.positive, tp / jnp.maximum(tp + fp, 1), 0), axis=1)
    value = divide(total, ordered.positives[:, 0].astype(rows.scores.dtype))
    return undefined_unless(rows.valid, value).reshape(rows.shape)


@jax.jit
def brier(scores: jax.Array, labels: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
    """Brier score, `mean (p - y)^2` (Brier 1950): in [0, 1], lower is better.

    NaN where a score is not a probability: logits must pass through a sigmoid first. Mixes calibration with
    discrimination, and is small at low prevalence whatever the model: compare within one test set.
    """
    rows = _rows(scores, labels, mask)
    counted = rows.positive | rows.negative
    probable = jnp.all((rows.scores >= 0) & (rows.scores <= 1) | ~counted, axis=1)
    error = jnp.where(counted, jnp.square(rows.scores - rows.positive), 0)
    value = divide(jnp.sum(error, axis=1), _count(counted).astype(error.dtype))
    return undefined_unless(rows.valid & probable, value).reshape(rows.shape)


class Reliability(NamedTuple):
    """Per bin, `(B, bins)`: how many scores fall in it, their mean, and the observed share of positives."""

    counts: jax.Array
    confidence: jax.Array
    frequency: jax.Array


@partial(jax.jit, static_argnames=("bins",))
def reliability_curve(scores, labels, *, bins: int, mask: jax.Array | None = None) -> Reliability:
    """Mean predicted probability and observed frequency in `bins` bins of equal width, `[i / bins, (i + 1) /
    bins)`.

    The last bin holds 1 as well. Empty bins are NaN, and so are cases whose scores are not probabilities.
    """
    rows = _rows(scores, labels, mask)
    counted = rows.positive | rows.negative
    probable = jnp.all((rows.scores >= 0) & (rows.scores <= 1) | ~counted, axis=1)
    index = jnp.clip(jnp.floor(rows.scores * bins), 0, bins - 1).astype(jnp.int32)
    index = jnp.where(counted, index, bins)  # a bin beyond the last takes what is not counted

    def binned(values):
        return jax.vmap(lambda i, v: jnp.zeros(bins + 1, v.dtype).at[i].add(v)[:bins])(index, values)

    counts = binned(counted.astype(rows.scores.dtype))
    sums = (binned(jnp.where(counted, rows.scores, 0)), binned(rows.positive.astype(rows.scores.dtype)))
    valid = (rows.valid & probable)[:, None]
    values = (undefined_unless(valid, x) for x in (counts, *(divide(x, counts) for x in sums)))
    return Reliability(*(x.reshape(*rows.shape, bins) for x in values))


@partial(jax.jit, static_argnames=("bins",))
def ece(scores: jax.Array, labels: jax.Array, *, bins: int, mask: jax.Array | None = None) -> jax.Array:
    """Expected calibration error, `sum_b n_b / N |frequency_b - confidence_b|`: in [0, 1], lower is better.

    For the probability of the positive class over `bins` bins of equal width (15 is customary: Guo et al.
    2017); the value falls with fewer bins, so the number is stated. For classes, pass the confidence of the
    chosen class as the score and whether it was right as the label.
    """
    counts, confidence, frequency = reliability_curve(scores, labels, bins=bins, mask=mask)
    gaps = jnp.where(counts > 0, counts * jnp.abs(frequency - confidence), 0)
    value = divide(jnp.sum(gaps, axis=-1), jnp.sum(counts, axis=-1))
    return undefined_unless(~jnp.any(jnp.isnan(counts), axis=-1), value)


@partial(jax.jit, static_argnames=("classes",))
def confusion_matrix(predicted: jax.Array, labels: jax.Array, *, classes: int) -> jax.Array:
    """Counts `(B, classes, classes)`, rows the reference class and columns the predicted one.

    Takes class indices of equal shape, not scores. NaN for cases with an index outside `0 .. classes - 1`.
    """
    predicted, labels = as_float(predicted), as_float(labels)
    if predicted.shape != labels.shape:
        raise ValueError(f"predicted classes are {predicted.shape} but labels are {labels.shape}")
    shape = labels.shape[:1] if labels.ndim > 1 else ()
    predicted, labels = (x.reshape(*(shape or (1,)), -1) for x in (predicted, labels))
    both = jnp.stack([predicted, labels])
    valid = jnp.all((both >= 0) & (both < classes) & (both == jnp.floor(both)), axis=(0, 2))
    both = jnp.clip(jnp.nan_to_num(both), 0, classes - 1).astype(jnp.int32)
    index = both[1] * classes + both[0]
    counts = jax.vmap(lambda i: jnp.zeros(classes * classes, jnp.int32).at[i].add(1))(index)
    counts = counts.astype(predicted.dtype).reshape(-1, classes, classes)
    return undefined_unless(valid[:, None, None], counts).reshape(*shape, classes, classes)


def class_accuracy(predicted: jax.Array, labels: jax.Array, *, classes: int) -> jax.Array:
    """Share of correct class indices, `trace / sum` of `confusion_matrix`: in [0, 1], higher is better.

    The accuracy of the review's Table 1 (Kazeminia et al. 2020) for more than two classes; for binary scores
    use `accuracy`. The commonest class dominates it: print the confusion matrix too.
    """
    matrix = confusion_matrix(predicted, labels, classes=classes)
    return divide(jnp.trace(matrix, axis1=-2, axis2=-1), jnp.sum(matrix, (-2, -1)))


@partial(jax.jit, static_argnames=("classes", "weights"))
def cohen_kappa(predicted: jax.Array, labels: jax.Array, *, classes: int, weights: str) -> jax.Array:
    """Cohen's kappa, `1 - sum w observed / sum w expected`: in [-1, 1], higher is better, 0 by chance.

    `weights` on the disagreement of classes i and j: 'none' (1 unless equal), 'linear' (`|i - j|`) or
    'quadratic' (`(i - j)^2`, for ordered ratings; Cohen 1968). The weights must be named, since the values
    differ. NaN where chance alone would agree always; scikit-learn returns 0 or NaN there depending on its
    version.
    """
    matrix = confusion_matrix(predicted, labels, classes=classes)
    distance = jnp.abs(jnp.arange(classes)[:, None] - jnp.arange(classes)[None, :]).astype(matrix.dtype)
    kinds = {"none": (distance > 0).astype(matrix.dtype), "linear": distance, "quadratic": distance**2}
    if weights not in kinds:
        raise ValueError(f"weights must be one of {sorted(kinds)}, not {weights!r}")
    shares = divide(matrix, jnp.sum(matrix, (-2, -1), keepdims=True))
    expected = jnp.sum(shares, -1, keepdims=True) * jnp.sum(shares, -2, keepdims=True)
    observed, chance = (jnp.sum(kinds[weights] * x, (-2, -1)) for x in (shares, expected))
    return 1 - divide(observed, chance)
