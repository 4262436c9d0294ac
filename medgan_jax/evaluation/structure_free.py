"""Predictors that know nothing of structure: thresholds, look-up tables, mean images, summary numbers.

Fitted on training cases and scored on others, they say what a task gives away without looking at shapes.
Cases are mappings of arrays: "input" `(N, *S, C)`, and "target" as `medgan_jax.phantoms.tasks` defines it for
each kind. Everything is NumPy on the host.
"""

from collections.abc import Mapping

import numpy as np
from scipy import optimize, special, stats

Cases = Mapping[str, np.ndarray]

# Pixels of a structure in a case that it counts for: the Dice of a sliver at the edge of an organ is chance.
SMALLEST = 12
LEVELS = 256
CODES = 4096
MOST_PIXELS = 2**21
AREA_QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98, 0.995)


def segmentation_scores(train: Cases, test: Cases) -> dict[str, list[float]]:
    """Mean Dice on the test cases, for each predictor and each of the K structures of `(N, *S, K)` targets.

    Every predictor is a score of each pixel that is cut at the threshold, and on the side, of the best
    training Dice: the best single channel; the frequency of the structure among training pixels of the same
    joint intensity; its frequency at the same place. Cases with fewer than `SMALLEST` pixels of a structure do
    not count for it.
    """
    codes = {"train": _joint_codes(train["input"], train["input"])}
    codes["test"] = _joint_codes(test["input"], train["input"])
    scores: dict[str, list[float]] = {"threshold": [], "look-up table": [], "mean shape": []}
    for structure in range(train["target"].shape[-1]):
        truth = [_flat(part["target"][..., structure]) > 0.5 for part in (train, test)]

        def dice(predicted, cut_on):
            """Dice on training and on test cases at the best cut of training."""
            levels = [np.digitize(part, cut_on).astype(np.int32) for part in predicted]
            curves = [_dice_at_cuts(*pair, cuts=len(cut_on) + 1) for pair in zip(levels, truth, strict=True)]
            best = np.unravel_index(np.nanargmax(curves[0]), curves[0].shape)
            return curves[0][best], curves[1][best]

        channels = [
            dice([_flat(part["input"][..., channel]) for part in (train, test)], edges)
            for channel, edges in enumerate(_quantiles(train["input"], LEVELS))
        ]
        scores["threshold"].append(max(channels)[1])
        table = _frequencies(codes["train"], truth[0])
        predicted = [table[codes["train"]], table[codes["test"]]]
        scores["look-up table"].append(dice(predicted, _quantile_edges(predicted[0], LEVELS))[1])
        shape = truth[0].mean(0)
        predicted = [np.broadcast_to(shape, part.shape) for part in truth]
        scores["mean shape"].append(dice(predicted, _quantile_edges(shape, LEVELS))[1])
    return {name: [float(value) for value in values] for name, values in scores.items()}


def translation_scores(train: Cases, test: Cases) -> dict[str, float]:
    """Mean absolute error on the test cases of a constant, the mean image, a table and the input itself.

    The table gives the median of the training targets at each joint intensity of the input, the constant and
    the mean image their medians over all pixels and at each pixel: what is best by this error. "weight"
    `(N, *S, 1)` says which pixels count. The input stands for itself where it has the target's channels.
    """
    weights = [part.get("weight", np.ones((*part["target"].shape[:-1], 1))) for part in (train, test)]
    target = test["target"]
    counted = np.flatnonzero(weights[0])
    if len(counted) > MOST_PIXELS:
        counted = np.random.default_rng(0).choice(counted, MOST_PIXELS, replace=False)
    rows = _pixels(train["target"])[counted]
    code = _joint_codes(train["input"], train["input"]).reshape(-1)[counted]
    middle = np.median(rows, axis=0)
    table = np.stack([_medians(code, values, fill) for values, fill in zip(rows.T, middle, strict=True)], -1)
    looked_up = table[_joint_codes(test["input"], train["input"])].reshape(target.shape)
    predictions = {
        "constant": middle,
        "mean image": np.median(train["target"], axis=0),
        "look-up table": looked_up,
    }
    if test["input"].shape == target.shape:
        predictions["input"] = test["input"]
    return {name: _absolute_error(each, target, weights[1]) for name, each in predictions.items()}


def classification_scores(train: Cases, test: Cases) -> dict[str, float]:
    """ROC-AUC on the test cases of single numbers of an image, and of a logistic regression on all of them.

    The numbers, of each channel: mean, SD, maximum, areas above intensities at fixed quantiles; of the image:
    the correlation with the mean training image of each class. Which side is positive is learnt in training.
    """
    numbers, names = _summary_numbers(train, test)
    labels = [np.asarray(part["target"]).reshape(-1) > 0.5 for part in (train, test)]
    scores: dict[str, float] = {}
    for column, name in enumerate(names):
        sign = 1 if roc_auc(numbers[0][:, column], labels[0]) >= 0.5 else -1
        value = roc_auc(sign * numbers[1][:, column], labels[1])
        scores[name] = max(value, scores.get(name, 0.0))
    scores["logistic regression"] = roc_auc(_logistic(numbers[0], labels[0], numbers[1]), labels[1])
    return scores


def roc_auc(score: np.ndarray, label: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties counting half (Mann and Whitney)."""
    ranks = stats.rankdata(score)
    positive = int(label.sum())
    negative = len(label) - positive
    if not positive or not negative:
        raise ValueError("the cases are all of one class: there is nothing to tell apart")
    return float((ranks[label].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _flat(array: np.ndarray) -> np.ndarray:
    return np.asarray(array).reshape(len(array), -1)


def _pixels(array: np.ndarray) -> np.ndarray:
    return np.asarray(array).reshape(-1, array.shape[-1])


def _quantile_edges(values: np.ndarray, levels: int) -> np.ndarray:
    """At most `levels - 1` increasing edges that part the values into equal numbers, where they differ."""
    values = values.reshape(-1)
    sample = values[:: max(1, len(values) // 500_000)]
    return np.unique(np.quantile(sample, np.linspace(0, 1, levels + 1)[1:-1]))


def _quantiles(images: np.ndarray, levels: int) -> list[np.ndarray]:
    """Edges of each channel."""
    return [_quantile_edges(images[..., channel], levels) for channel in range(images.shape[-1])]


def _joint_codes(images: np.ndarray, fitted_on: np.ndarray) -> np.ndarray:
    """`(N, P)` codes below `CODES` of the joint intensities of all channels, up to 64 levels each.

    Of more channels than can have three levels each, those with the largest variance are taken.
    """
    most = int(np.log(CODES) / np.log(3))
    order = np.argsort(-_pixels(fitted_on).var(axis=0), kind="stable")[:most]
    levels = min(64, int(CODES ** (1 / len(order)) + 1e-9))
    code = np.zeros(_flat(images[..., 0]).shape, np.int32)
    for channel in order:
        edges = _quantile_edges(fitted_on[..., channel], levels)
        code = code * levels + np.digitize(_flat(images[..., channel]), edges).astype(np.int32)
    return code


def moved_dice(targets: np.ndarray) -> float:
    """Mean Dice of masks `(N, *S, K)` with themselves moved by one pixel along each axis: how thin they are.

    Cases with fewer than `SMALLEST` pixels of a structure do not count for it.
    """
    masks = targets > 0.5
    axes = tuple(range(1, masks.ndim - 1))
    size = masks.sum(axes)
    scores = []
    for axis in axes:
        before = np.take(masks, range(masks.shape[axis] - 1), axis)
        after = np.take(masks, range(1, masks.shape[axis]), axis)
        scores.append(np.where(size >= SMALLEST, (before & after).sum(axes) / np.maximum(size, 1), np.nan))
    return float(np.nanmean(np.nanmean(scores, (0, 1))))


def _dice_at_cuts(level: np.ndarray, truth: np.ndarray, cuts: int) -> np.ndarray:
    """`(2, cuts)` mean Dice over cases of `level >= cut` and `level < cut`; both arguments `(N, P)`."""
    index = (level + cuts * np.arange(len(level), dtype=np.int32)[:, None]).reshape(-1)
    shape = (len(level), cuts)
    counts = np.bincount(index, minlength=np.prod(shape)).reshape(shape)
    hits = np.bincount(index[truth.reshape(-1)], minlength=np.prod(shape)).reshape(shape)
    present = hits.sum(1) >= SMALLEST
    if not present.any():
        raise ValueError(f"a structure has {SMALLEST} pixels in no case: there is nothing to segment")
    counts, hits = counts[present], hits[present]
    curves = []
    for direction in (-1, 1):
        # Above a cut the level of the cut is included, below it is not.
        caught, taken = (np.cumsum(each[:, ::direction], 1)[:, ::direction] for each in (hits, counts))
        if direction == 1:
            caught, taken = caught - hits, taken - counts
        curves.append((2 * caught / (taken + hits.sum(1, keepdims=True))).mean(0))
    return np.stack(curves)


def _frequencies(code: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How frequent the structure is among training pixels of each code; codes never seen get its mean."""
    counts = np.bincount(code.reshape(-1), minlength=CODES)
    hits = np.bincount(code[truth], minlength=CODES)
    return ((hits + truth.mean()) / (counts + 1)).astype(np.float32)


def _medians(code: np.ndarray, values: np.ndarray, fill: float) -> np.ndarray:
    """Median of the values of each code, `fill` for codes without any."""
    order = np.lexsort((values, code))
    counts = np.bincount(code, minlength=CODES)
    starts = np.cumsum(counts) - counts
    middle = np.minimum(starts + counts // 2, len(values) - 1)
    return np.where(counts > 0, values[order][middle], fill).astype(np.float32)


def _absolute_error(prediction: np.ndarray, target: np.ndarray, weight: np.ndarray) -> float:
    """Mean over cases of the weighted mean absolute error of each."""
    error = _flat(np.abs(prediction - target).mean(-1))
    weight = _flat(weight)
    return float(np.mean((error * weight).sum(1) / np.maximum(weight.sum(1), 1e-6)))


def _summary_numbers(train: Cases, test: Cases) -> tuple[list[np.ndarray], list[str]]:
    """Numbers `(N, F)` of training and of test images, and the name of each."""
    numbers, names = ([], []), []

    def add(name, of):
        names.append(name)
        for column, part in zip(numbers, (train, test), strict=True):
            column.append(of(part["input"]))

    for channel in range(train["input"].shape[-1]):
        values = train["input"][..., channel]
        add("mean", lambda images: _flat(images[..., channel]).mean(1))
        add("SD", lambda images: _flat(images[..., channel]).std(1))
        add("maximum", lambda images: _flat(images[..., channel]).max(1))
        for cut in np.quantile(values[:: max(1, len(values) // 64)], AREA_QUANTILES):
            add("area", lambda images: (_flat(images[..., channel]) > cut).mean(1))
    joined = [np.stack(part, axis=1) for part in numbers]
    correlations = _mean_image_correlations(train, test)
    names += ["mean-image correlation"] * correlations[0].shape[1]
    return [np.concatenate(pair, axis=1) for pair in zip(joined, correlations, strict=True)], names


def _mean_image_correlations(train: Cases, test: Cases) -> tuple[np.ndarray, np.ndarray]:
    """Correlations `(N, 3)` with the mean image of each class and with their difference.

    A training image is compared with means of the other half of the training images, or its own share in
    them would give it away.
    """
    label = np.asarray(train["target"]).reshape(-1) > 0.5
    images = [_standardised(_flat(part["input"])) for part in (train, test)]

    def compare(of, chosen):
        means = [images[0][chosen & (label == side)].mean(0) for side in (False, True)]
        return of @ _standardised(np.stack([*means, means[1] - means[0]])).T / of.shape[1]

    half = np.zeros(len(label), bool)
    for side in (False, True):
        half[np.flatnonzero(label == side)[::2]] = True
    crossed = np.where(half[:, None], compare(images[0], ~half), compare(images[0], half))
    return crossed, compare(images[1], np.ones_like(half))


def _standardised(rows: np.ndarray) -> np.ndarray:
    return (rows - rows.mean(1, keepdims=True)) / np.maximum(rows.std(1, keepdims=True), 1e-6)


def _logistic(numbers: np.ndarray, label: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Linear scores `(M,)` of a logistic regression with a squared penalty of one on standardised numbers."""
    mean, deviation = numbers.mean(0), np.maximum(numbers.std(0), 1e-9)
    rows = np.column_stack([(numbers - mean) / deviation, np.ones(len(numbers))])
    sign = np.where(label, 1.0, -1.0)

    def objective(weights):
        margin = sign * (rows @ weights)
        value = np.logaddexp(0, -margin).sum() + 0.5 * np.sum(weights[:-1] ** 2)
        slope = -rows.T @ (sign * special.expit(-margin)) + np.append(weights[:-1], 0)
        return value, slope

    found = optimize.minimize(objective, np.zeros(rows.shape[1]), jac=True, method="L-BFGS-B")
    return ((wanted - mean) / deviation) @ found.x[:-1] + found.x[-1]
