"""Sets of metrics that experiments of one kind share, with their conventions fixed here."""

from collections.abc import Callable

import jax

from medgan_jax.game import Metric
from medgan_jax.metrics import classification, generative, image


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


def sample_distance(sample: str, reference: str) -> tuple[Metric, ...]:
    """Sliced Wasserstein distance of generated images to the batch's (Karras et al. 2018), times 10^3.

    The mean over the levels of the Laplacian pyramid; patches and directions are drawn with a fixed key.
    """

    def per_case(outputs, batch):
        return {"generated": outputs[sample], "real": batch[reference]}

    def distance(values):
        return float(generative.swd_pgan(values["real"], values["generated"], key=jax.random.key(0)).mean())

    return (Metric("swd", per_case, "10^-3", False, distance),)
