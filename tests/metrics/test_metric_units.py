"""Every metric has a unit and a direction, and the host's call raises where the traced one says NaN."""

import importlib

import jax
import numpy as np
import pytest

from medgan_jax.errors import UserError
from medgan_jax.metrics import METRICS, image, information, measure, overlap
from medgan_jax.metrics.classification import roc_auc


def test_every_name_in_the_table_is_a_function_of_its_module():
    elsewhere = {"fid", "fd", "mtf50", "overall_quality", "noise_suppression", "artefact_reduction"}
    for info in METRICS.values():
        module = importlib.import_module(info.module)
        name = info.name
        if name.startswith("prdc_"):
            assert name.removeprefix("prdc_") in module.Prdc._fields
        elif name not in elsewhere:
            assert callable(getattr(module, name)), name
        assert info.unit and info.bounds[0] < info.bounds[1] and getattr(module, "__doc__", "")


def test_every_metric_of_the_reviews_first_table_is_there():
    first_table = (
        "roc_auc accuracy precision recall specificity fbeta iou dice assd masd asd hausdorff "
        "object_hausdorff object_dice object_f1 ejection_fraction area_mae "
        "semantic_interpretability_score ncc mse nmse rmse nrmse tre p2p_error snr_db roi_snr psnr ssim "
        "ms_ssim global_contrast_factor agatston mean_opinion_score noise_suppression artefact_reduction "
        "overall_quality correct_detection inception_score frechet_distance kid swd_pgan "
        "sliced_wasserstein tstr visual_turing ms_ssim_diversity ndb vendi nmse_dagan fsim "
        "proxy_a_distance "
    )
    assert not set(first_table.split()) - set(METRICS)


def test_bracketed_names_are_known_and_unknown_ones_are_not():
    assert information("fd[proxy]").higher_is_better is False
    assert information("psnr").unit == "dB"
    with pytest.raises(UserError, match="no metric is called 'pnsr'"):
        information("pnsr")


def test_measure_returns_values_with_their_meaning():
    y = np.random.default_rng(0).random((3, 16, 16, 1)).astype(np.float32)
    score = measure(image.psnr, y + 0.1, y, data_range=1.0)
    assert (score.name, score.unit, score.higher_is_better, score.n_undefined) == ("psnr", "dB", True, 0)
    np.testing.assert_allclose(score.values, 20, rtol=1e-4)
    assert score.conventions == {"data_range": 1.0}
    empty = np.zeros((2, 4, 4, 1))
    assert measure(overlap.dice, empty, empty, empty_policy="nan").n_undefined == 2


def test_measure_raises_where_a_traced_metric_is_undefined():
    y = np.random.default_rng(1).random((2, 16, 16, 1)).astype(np.float32)
    spoilt = y.copy()
    spoilt[1, 2, 3, 0] = np.inf
    assert np.isnan(jax.jit(lambda a, b: image.psnr(a, b, data_range=1.0))(spoilt, y)[1])
    with pytest.raises(UserError, match="holds NaN or Inf, first in case 1"):
        measure(image.psnr, spoilt, y, data_range=1.0)
    with pytest.raises(UserError, match="needs data_range"):
        measure(image.psnr, y, y)
    with pytest.raises(UserError, match="knows no range"):
        measure(image.psnr, y, y, data_range=1.0, range=2)
    with pytest.raises(UserError, match="data_range must be positive"):
        measure(image.psnr, y, y, data_range=0)
    with pytest.raises(UserError, match="but reference is"):
        measure(image.mse, y, y[:1])
    with pytest.raises(UserError, match="images must be"):
        measure(image.mse, y[0], y[0])
    mask = y > 0.5
    with pytest.raises(UserError, match="empty on both sides"):
        measure(overlap.dice, 0 * mask, 0 * mask, empty_policy="strict")
    with pytest.raises(UserError, match="labels are 0 to 1"):
        measure(overlap.dice, y, mask, empty_policy="nan")
    with pytest.raises(UserError, match="labels are 0 to 2"):
        measure(overlap.class_dice, mask + 5, mask + 0, classes=3, empty_policy="nan")
    with pytest.raises(UserError, match="labels are 0 to 1"):
        measure(roc_auc, y, mask + 1)
