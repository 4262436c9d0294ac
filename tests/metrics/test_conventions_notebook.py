"""The notebook on conventions runs, and its rows disagree as its words say."""

import pathlib
import re
import runpy

import matplotlib.pyplot as plt
import pytest

NOTEBOOK = pathlib.Path(__file__).resolve().parents[2] / "notebooks" / "metrics_that_disagree.py"


def test_conventions_change_the_number(capsys):
    runpy.run_path(str(NOTEBOOK))
    plt.close("all")
    text = capsys.readouterr().out
    value = {name.strip(): float(number) for name, number in re.findall(r"^(.{52}) +(-?[\d.]+)$", text, re.M)}
    unit, forgotten = value["PSNR dB, [0, 1], R = 1"], value["PSNR dB, [-1, 1], R = 1 (range not adapted)"]
    assert unit == pytest.approx(value["PSNR dB, [-1, 1], R = 2"], abs=1e-3)
    assert unit - forgotten == pytest.approx(6.02, abs=0.01)
    assert value["PSNR dB, inside the body only"] < unit
    assert value["NMSE as DAGAN reports it"] ** 2 == pytest.approx(value["NMSE (fastMRI)"], abs=1e-3)
    larger, pooled = (
        value["HD95 mm, larger of two directions (MONAI)"],
        value["HD95 mm, both directions pooled (MedPy)"],
    )
    assert pooled < larger < value["HD95 'mm', spacing forgotten"] < value["Hausdorff mm, maximum"]
    assert re.findall(r"\b0\.(?:667|833|333)\b", text) == ["0.667", "0.833", "0.333"]
