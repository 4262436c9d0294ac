"""Sets of metrics that experiments of one kind share, with their conventions fixed here."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.evaluation import components, modes, objects, surfaces
from medgan_jax.game import Metric
from medgan_jax.metrics import classification, generative, image, overlap
from medgan_jax.metrics import registration as transforms
from medgan_jax.physics import deformation

# Directions along which points of the plane are projected: half a turn, evenly.
ANGLES = np.pi * np.arange(64) / 64


def image_fidelity(
    prediction: str,
    reference: str,
    *,
    low: float,
    high: float,
    of: Callable[[jax.Array], jax.Array] | None = None,
) -> tuple[Metric, ...]:
    """PSNR, SSIM (Wang 2004), NMSE, its root as DAGAN reports it, and NRMSE of an output against a field.

    Values in [low, high] are first mapped to [0, 1], on which all five are computed, with data range 1.
    `of` is applied before that, for instance a magnitude.
    """

    def to_unit(x):
        return ((x if of is None else of(x)) - low) / (high - low)

    def measure(name, function, unit, higher_is_better, **conventions):
        def per_case(outputs, batch):
            return function(to_unit(outputs[prediction]), to_unit(batch[reference]), **conventions)

        return Metric(name, per_case, unit, higher_is_better)

    return (
        measure("psnr", image.psnr, "dB", True, data_range=1.0),
        measure("ssim", image.ssim, "", True, data_range=1.0, window=image.WANG_2004),
        measure("nmse", image.nmse, "", False),
        measure("nmse_dagan", image.nmse_dagan, "", False),
        measure("nrmse", image.nrmse, "", False, denominator="min-max"),
    )


def detection(score: str, label: str) -> tuple[Metric, ...]:
    """ROC-AUC of a score for each case against the batch's true labels; precision, recall and specificity.

    The last three are at Youden's threshold, which is chosen on the validation cases.
    """

    def per_case(outputs, batch):
        return {"score": outputs[score], "label": batch[label]}

    def youden(values):
        return float(classification.youden_threshold(values["score"], values["label"]))

    def at_threshold(name, function):
        def summary(values, threshold):
            return float(function(values["score"], values["label"], threshold=threshold))

        return Metric(name, per_case, "", True, summary, youden)

    def auc(values):
        return float(classification.roc_auc(values["score"], values["label"]))

    return (
        Metric("auc", per_case, "", True, auc),
        at_threshold("precision", classification.precision),
        at_threshold("recall", classification.recall),
        at_threshold("specificity", classification.specificity),
    )


def sample_distance(sample: str, reference: str, name: str = "swd") -> tuple[Metric, ...]:
    """Sliced Wasserstein distance of generated images to the batch's (Karras et al. 2018), times 10^3, as `name`.

    The mean over the levels of the Laplacian pyramid; patches and directions are drawn with a fixed key.
    """

    def per_case(outputs, batch):
        return {"generated": outputs[sample], "real": batch[reference]}

    def distance(values):
        return float(generative.swd_pgan(values["real"], values["generated"], key=jax.random.key(0)).mean())

    return (Metric(name, per_case, "10^-3", False, distance),)


def mode_coverage(sample: str, reference: str, label: str) -> tuple[Metric, ...]:
    """How many classes of the batch's images the generated ones cover; how many look like one of any class.

    `modes` counts classes with at least a quarter of their real share, `in_a_mode` is the share of generated
    images that lie in the region of a class, `class_accuracy` that of real images which lie nearest to their
    own class. Regions are fitted to the validation cases: see `evaluation.modes`.
    """

    def per_case(outputs, batch):
        numbers = modes.texture_numbers(batch[reference])
        return {"generated": modes.texture_numbers(outputs[sample]), "real": numbers, "label": batch[label]}

    def regions(values):
        return modes.fit_regions(values["real"], values["label"])

    def count(values, fitted):
        return fitted.covered(fitted.classes(values["generated"]))

    def share(values, fitted):
        return float((fitted.classes(values["generated"]) >= 0).mean())

    def accuracy(values, fitted):
        return float((fitted.classes(values["real"]) == values["label"]).mean())

    def metric(name, summary):
        return Metric(name, per_case, "", True, summary, regions)

    return metric("modes", count), metric("in_a_mode", share), metric("class_accuracy", accuracy)


def balanced_accuracy(name: str, predicted: str, label: str, classes: int) -> Metric:
    """The mean over classes of the recall of the output `predicted`, class indices `(B,)`, as `name`.

    By chance 1 / classes; undefined where a class has no case.
    """

    def per_case(outputs, batch):
        return {"predicted": outputs[predicted], "label": batch[label]}

    def recall(values):
        matrix = classification.confusion_matrix(values["predicted"], values["label"], classes=classes)
        return float((jnp.diagonal(matrix) / matrix.sum(-1)).mean())

    return Metric(name, per_case, "", True, recall)


def class_recognition(predicted: str, label: str, classes: int) -> tuple[Metric, ...]:
    """Accuracy and balanced accuracy of the output `predicted`, class indices `(B,)`."""

    def correct(outputs, batch):
        return (outputs[predicted] == batch[label]).astype(jnp.float32)

    return Metric("accuracy", correct, "", True), balanced_accuracy("balanced_accuracy", predicted, label, classes)


def binary_classification(score: str, label: str, prefix: str = "") -> tuple[Metric, ...]:
    """Accuracy, balanced accuracy, precision, recall and ROC-AUC of a log-odds score for each case.

    A case is called positive from 0 upwards: the threshold is the classifier's own. prefix: of the names.
    """

    def per_case(outputs, batch):
        return {"score": outputs[score], "label": batch[label]}

    def correct(outputs, batch):
        return ((outputs[score] >= 0) == (batch[label] > 0)).astype(jnp.float32)

    def measure(name, function, **options):
        def summary(values):
            return float(function(values["score"], values["label"], **options))

        return Metric(prefix + name, per_case, "", True, summary)

    return (
        Metric(f"{prefix}accuracy", correct, "", True),
        measure("balanced_accuracy", classification.balanced_accuracy, threshold=0.0),
        measure("precision", classification.precision, threshold=0.0),
        measure("recall", classification.recall, threshold=0.0),
        measure("auc", classification.roc_auc),
    )


def bag_classification(score: str, label: str, prefix: str = "") -> tuple[Metric, ...]:
    """Of log-odds for the members of bags `(B, P)` and the bags' labels `(B,)`, with `prefix` before the names:

    accuracy of the members, of the bags by their mean score, and the share of members that is called positive.
    """

    def accuracy(outputs, batch):
        return ((outputs[score] >= 0) == (batch[label][:, None] > 0)).mean(1, dtype=jnp.float32)

    def bag_accuracy(outputs, batch):
        return ((outputs[score].mean(1) >= 0) == (batch[label] > 0)).astype(jnp.float32)

    def share(outputs, batch):
        return (outputs[score] >= 0).mean(1, dtype=jnp.float32)

    return (
        Metric(f"{prefix}accuracy", accuracy, "", True),
        Metric(f"{prefix}bag_accuracy", bag_accuracy, "", True),
        Metric(f"{prefix}share", share, "", True),
    )


def correlation(output: str, reference: str) -> Metric:
    """Normalised cross-correlation of an output's mean channel with that of a field of the batch, as `ncc`."""

    def per_case(outputs, batch):
        return image.ncc(*(each.mean(-1, keepdims=True) for each in (outputs[output], batch[reference])))

    return Metric("ncc", per_case, "", True)


def code_distance(code: str, prior: str, *, scale: float) -> Metric:
    """Maximum mean discrepancy of codes `(B, Z)` to draws from their prior with standard deviation `scale`."""

    def per_case(outputs, batch):
        return {"code": outputs[code], "prior": outputs[prior]}

    def distance(values):
        return float(generative.mmd(values["prior"], values["code"], scale=scale))

    return Metric("mmd", per_case, "", False, distance)


def map_distance(
    name: str,
    output: str,
    reference: str | jax.Array,
    maps: Callable[[jax.Array], Any],
    distance: Callable[[Any, Any], jax.Array],
) -> Metric:
    """Distance of an output to a field of the batch, or to one image `(1, *S, C)`, in a fixed network's maps.

    maps: images `(B, *S, C)` -> maps, a pytree; distance: of the maps of one image and of its reference, such
    as `losses.perceptual.feature_l2`, or `style_l1` for Gram matrices. In units of the maps.
    """

    def per_case(outputs, batch):
        if not isinstance(reference, str):
            target = maps(jnp.asarray(reference))
            return jax.vmap(lambda image: distance(maps(image[None]), target))(outputs[output])
        pairs = outputs[output], batch[reference]
        return jax.vmap(lambda image, target: distance(maps(image[None]), maps(target[None])))(*pairs)

    return Metric(name, per_case, "", False)


def ring_coverage(
    sample: str, reference: str, centres: np.ndarray, deviation: float, *, label: str | None = None
) -> tuple[Metric, ...]:
    """How generated points (B, 2) meet a mixture of Gaussians at `centres` (K, 2), all equally likely.

    `modes` counts those with at least a quarter of their real share of samples within three deviations,
    `kl` is the divergence of the histogram of nearest modes from the even one, `on_a_mode` the share of
    samples within three deviations of any mode, and `swd` the sliced Wasserstein distance to the batch's
    points. With `label`, the field of the batch that G was given, also `obeyed`: the share of samples within
    three deviations of the very mode that was asked for.
    """
    reach, directions = 3 * deviation, np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)

    def points(outputs, batch):
        return {"generated": outputs[sample], "real": batch[reference]}

    def modes(values):
        return float(generative.covered_modes(values["generated"], centres, radius=reach, least=0.25 / len(centres)))

    def divergence(values):
        return float(generative.mode_divergence(values["generated"], centres))

    def distance(values):
        sets = values["real"], values["generated"]
        return float(generative.sliced_wasserstein(*sets, directions=directions, p=1))

    def on_a_mode(outputs, batch):
        return (generative.nearest_distances(outputs[sample], centres) <= reach).astype(jnp.float32)

    def obeyed(outputs, batch):
        asked = jnp.asarray(centres)[batch[label]]
        return (jnp.linalg.norm(outputs[sample] - asked, axis=1) <= reach).astype(jnp.float32)

    known = (
        Metric("modes", points, "", True, modes),
        Metric("kl", points, "nat", False, divergence),
        Metric("on_a_mode", on_a_mode, "", True),
        Metric("swd", points, "", False, distance),
    )
    return known if label is None else (*known, Metric("obeyed", obeyed, "", True))


def structure_overlap(
    mask: str, reference: str, structures: Sequence[str], measures: Sequence[str] = ("precision", "sensitivity")
) -> tuple[Metric, ...]:
    """Mean Dice of a case's structures (`dsc`), and of each of them Dice (`dsc_NAME`) and the `measures`.

    mask, reference: names of masks `(B, ..., K)` of zeros and ones, one channel a structure. measures: of
    'iou', 'precision' and 'sensitivity'. What is absent from a case and from its prediction is left out.
    """

    def precision(predicted, true):
        return classification.precision(predicted, true, threshold=0.5)

    def sensitivity(predicted, true):
        return classification.recall(predicted, true, threshold=0.5)

    def dice(predicted, true):
        return overlap.dice(predicted, true, empty_policy="nan")

    def mean(outputs, batch):
        pairs = zip(_channels(outputs[mask]), _channels(batch[reference]), strict=True)
        return jnp.nanmean(jnp.stack([dice(*pair) for pair in pairs]), axis=0)

    def measure(name, function, channel):
        def per_case(outputs, batch):
            return function(_channels(outputs[mask])[channel], _channels(batch[reference])[channel])

        return Metric(name, per_case, "", True)

    def iou(predicted, true):
        return overlap.iou(predicted, true, empty_policy="nan")

    known = {"dsc": dice, "iou": iou, "precision": precision, "sensitivity": sensitivity}
    each = [
        measure(f"{name}_{structure}", known[name], channel)
        for name in ("dsc", *measures)
        for channel, structure in enumerate(structures)
    ]
    return Metric("dsc", mean, "", True), *each


def _channels(x: jax.Array) -> list[jax.Array]:
    """The channels of `(B, ..., K)`, each with an axis of its own."""
    return jnp.split(x, x.shape[-1], axis=-1)


def structure_shape(mask: str, reference: str, structures: Sequence[str]) -> tuple[Metric, ...]:
    """Of every structure the 95 % Hausdorff distance, in parts of the image's diagonal, and its components.

    mask, reference: as those of `structure_overlap`. `hd95_NAME`: the larger of both directions' percentiles,
    of pixels with a neighbour outside, in per cent; the whole diagonal where one of the masks is empty.
    `components_NAME`: how many connected components the predicted mask has; an organ is one.
    """

    def shape(channel):
        def per_case(outputs, batch):
            pair = {"predicted": outputs[mask], "true": batch[reference]}
            return {name: value[..., channel, None].astype(bool) for name, value in pair.items()}

        return per_case

    def distance(values):
        steps = np.array(values["true"].shape[1:-1]) - 1
        conventions = {"definition": "max_of_directed", "boundary": "erosion1", "empty_policy": "best_worst"}
        pair, spacing = (values["predicted"], values["true"]), 100 / np.linalg.norm(steps) * np.ones(len(steps))
        return float(surfaces.hausdorff(*pair, spacing=spacing, percentile=95, **conventions).mean())

    def number(values):
        return float(components.count_components(values["predicted"]).mean())

    return tuple(
        Metric(f"{name}_{structure}", shape(channel), unit, False, summary)
        for name, unit, summary in (("hd95", "%", distance), ("components", "", number))
        for channel, structure in enumerate(structures)
    )


def object_scores(mask: str, labels: str, *, smallest: int) -> tuple[Metric, ...]:
    """Object F1 (`f_score`), object Dice (`dsc`) and object Hausdorff distance (`oh`, px), as GlaS has them.

    mask: name of a predicted mask `(B, H, W, 1)`, whose components of `smallest` pixels and more are objects;
    labels: of a batch's label map `(B, H, W, 1)`. Over the objects of all cases together
    (Sirinukunwattana et al. 2017).
    """

    def per_case(outputs, batch):
        return {"mask": outputs[mask] > 0, "labels": batch[labels]}

    def measure(name, unit, higher_is_better, function, **conventions):
        def summary(values):
            found = components.objects(values["mask"], smallest=smallest)
            options = {"empty_policy": "best_worst", "pooled": True, **conventions}
            return float(function(found, values["labels"], **options))

        return Metric(name, per_case, unit, higher_is_better, summary)

    return (
        measure("f_score", "", True, objects.object_f1),
        measure("dsc", "", True, objects.object_dice),
        measure("oh", "px", False, objects.object_hausdorff, spacing=(1.0, 1.0)),
    )


def pixel_detection(score: str, mask: str, region: str) -> tuple[Metric, ...]:
    """Areas under the ROC (`roc`) and the precision-recall curve (`pr_auc`) of pixels, and Dice (`dsc`).

    Of a score against a mask `(B, H, W, 1)`, over the pixels of all cases within `region`, a field of view of
    the same shape. Dice is the mean over cases at one threshold, the best on the validation cases.
    """

    def per_case(outputs, batch):
        return {"score": outputs[score], "label": batch[mask], "region": batch[region]}

    def within(values):
        inside = np.asarray(values["region"]) > 0
        return np.asarray(values["score"])[inside], np.asarray(values["label"])[inside] > 0

    def dice(values, threshold):
        called = (values["score"] >= threshold) & (values["region"] > 0)
        true = (values["label"] > 0) & (values["region"] > 0)
        return float(np.nanmean(overlap.dice(called, true, empty_policy="nan")))

    def best(values):
        scores, _ = within(values)
        candidates = np.unique(np.quantile(scores, np.linspace(0.5, 1, 101)))
        return float(max(candidates, key=lambda threshold: dice(values, threshold)))

    def area(function):
        return lambda values: float(function(*within(values)))

    return (
        Metric("roc", per_case, "", True, area(classification.roc_auc)),
        Metric("pr_auc", per_case, "", True, area(classification.average_precision)),
        Metric("dsc", per_case, "", True, dice, best),
    )


def absolute_error(
    prediction: str,
    reference: str,
    *,
    name: str = "mae",
    unit: str = "",
    scale: float = 1.0,
    region: Callable[[Any], jax.Array] | None = None,
) -> Metric:
    """Mean absolute error of an output against a field, times `scale`, which takes it to `unit`.

    region: batch -> mask `(B, ..., 1)` of the voxels that count; a case without any has no value.
    """

    def per_case(outputs, batch):
        mask = None if region is None else region(batch)
        return scale * image.mae(outputs[prediction], batch[reference], mask=mask)

    return Metric(name, per_case, unit, False)


def registration(displacement: str, *, classes: int) -> tuple[Metric, ...]:
    """Overlap of labels, landmark error and plausibility of an output displacement `(B, *S, rank)` in voxels.

    `dice`: mean over the structures 1 .. `classes` - 1 that a case has, of `moving_mask` pulled to the fixed
    image (nearest neighbours) and `fixed_mask`, label maps `(B, *S, 1)`; `tre`: mean distance of landmarks
    in voxels, of `fixed_landmarks` carried along and `moving_landmarks`, `(B, N, rank)`, where the batch has
    them; `folding`: share of voxels whose Jacobian is not positive; `sd_log_jacobian`: of Learn2Reg.
    """

    def dice(outputs, batch):
        warped = deformation.warp(batch["moving_mask"], outputs[displacement], interpolation="nearest")
        scores = overlap.class_dice(warped, batch["fixed_mask"], classes=classes, empty_policy="nan")
        return jnp.nanmean(scores[:, 1:], axis=1)

    def tre(outputs, batch):
        if "fixed_landmarks" not in batch:
            return jnp.full(len(outputs[displacement]), jnp.nan)
        found = deformation.warp_points(batch["fixed_landmarks"], outputs[displacement])
        spacing = (1.0,) * found.shape[-1]
        return transforms.tre(found, batch["moving_landmarks"], spacing=spacing, reduction="mean")

    def folding(outputs, batch):
        return 100 * transforms.fold_fraction(outputs[displacement])

    def roughness(outputs, batch):
        return transforms.sd_log_jacobian(outputs[displacement], floor=1e-9)

    return (
        Metric("dice", dice, "", True),
        Metric("tre", tre, "voxel", False),
        Metric("folding", folding, "%", False),
        Metric("sd_log_jacobian", roughness, "", False),
    )


def dice_at_best(name: str, score: str, mask: str) -> Metric:
    """Mean Dice over cases of a score `(B, *S, 1)` against a mask, as `name`.

    The threshold is the one of 101 that is best on the validation cases.
    """

    def per_case(outputs, batch):
        return {"score": outputs[score], "label": batch[mask] > 0.5}

    def dice(values, threshold):
        return float(np.nanmean(overlap.dice(values["score"] > threshold, values["label"], empty_policy="nan")))

    def best(values):
        candidates = np.unique(np.quantile(values["score"], np.linspace(0.5, 1, 101)))
        return float(max(candidates, key=lambda threshold: dice(values, threshold)))

    return Metric(name, per_case, "", True, dice, best)


def nearest_training_mask(
    name: str, masks: Callable[[Any, Any], jax.Array], training: Sequence[Any], field: str, most: int = 500
) -> Metric:
    """Dice of each mask with the most alike of the first `most` training masks, the mean over cases, as `name`.

    1 for copies. masks: (outputs, batch) -> masks `(B, *S, 1)`, values above a half inside. training: records
    with such a mask as `field`; they are read when the metric is summed up.
    """

    def per_case(outputs, batch):
        return {"mask": masks(outputs, batch)}

    def nearest(values):
        own = (np.asarray(values["mask"]) > 0.5).reshape(len(values["mask"]), -1).astype(np.float32)
        known = np.stack([training[index][field].ravel() > 0.5 for index in range(min(most, len(training)))])
        sizes = own.sum(1)[:, None] + known.sum(1)[None]
        alike = 2 * own @ known.T.astype(np.float32) / np.maximum(sizes, 1)
        return float(alike.max(1).mean())

    return Metric(name, per_case, "", False, nearest)


def novelty(output: str, field: str, training: Sequence[Any]) -> tuple[Metric, ...]:
    """`nearest_training_mask` of generated masks `output`, as `nearest`, and of real ones, as `nearest_real`.

    field: of the true masks in the batch and in the records of `training`.
    """
    generated = nearest_training_mask("nearest", lambda outputs, batch: outputs[output], training, field)
    real = nearest_training_mask("nearest_real", lambda outputs, batch: batch[field], training, field)
    return generated, real


def fall_with(scores: Sequence[str], name: str = "smallest_fall") -> Metric:
    """The smallest fall of the mean output from one of `scores` `(B,)` to the next; above 0 if each is lower."""

    def per_case(outputs, batch):
        return {each: outputs[each] for each in scores}

    def smallest(values):
        means = [np.mean(values[each]) for each in scores]
        return float(np.min(-np.diff(means)))

    return Metric(name, per_case, "", True, smallest)


def attribution(change: str, effect: str, subtype: str, subtypes: Sequence[int]) -> tuple[Metric, ...]:
    """NCC of a map of what would heal an image with the true one, of all cases (`ncc`) and of each subtype.

    change: name of the output `(B, ..., 1)`; effect: of the batch's map of what the disease added, which is
    compared with its negative. subtype: of each case's subtype `(B,)`.
    """

    def measure(name, only):
        def per_case(outputs, batch):
            value = image.ncc(outputs[change], -batch[effect])
            return value if only is None else jnp.where(batch[subtype] == only, value, jnp.nan)

        return Metric(name, per_case, "", True)

    return measure("ncc", None), *(measure(f"ncc_subtype_{only}", only) for only in subtypes)


def score_gap(first: str, second: str) -> Metric:
    """How far the mean of the scores `first` `(B,)` is above that of `second`, as `score_gap`.

    0 means that their judge cannot tell what both belong to.
    """

    def per_case(outputs, batch):
        return {"first": outputs[first], "second": outputs[second]}

    def gap(values):
        return float(np.mean(values["first"]) - np.mean(values["second"]))

    return Metric("score_gap", per_case, "", False, gap)
