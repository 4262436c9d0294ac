"""Measured values stand beside the published ones they can be compared with."""

import dataclasses

from medgan_jax.review import catalogue, tables


def row(mean, sd, **changes):
    return {"mean": mean, "sd": sd, "n": 20, "unit": "", "higher_is_better": False} | changes


def shown(capsys, *arguments, **options):
    tables.show(tables.comparison(*arguments, **options))
    lines = capsys.readouterr().out.splitlines()
    return lines[0], {line.split("  ")[0]: line for line in lines[1:]}


def published(id):
    values = {}
    for value in catalogue.find(id).reported:
        values.setdefault(value.metric, []).append(dataclasses.asdict(value))
    return values


def test_published_values_stand_beside_the_metric_as_the_paper_computes_it(capsys):
    measured = {
        "psnr": row(31.2345, 2.1, unit="dB", higher_is_better=True),
        "nmse": row(0.0123, 0.002),
        "nmse_dagan": row(0.11, 0.02),
    }
    heading, lines = shown(
        capsys, "dagan", measured, measured, {}, published("dagan"), baseline_name="zero filling"
    )
    assert heading.split("  ")[0] == "metric"
    assert "zero filling (baseline)" in heading
    assert "paper (other data)" in heading
    assert "twin" not in heading
    assert lines["psnr [dB] ↑"].endswith("40.2 ± 4.07 dB (mask 30%)")
    assert lines["nmse_dagan ↓"].endswith("0.08 ± 0.02 (mask 30%)")
    assert lines["nmse ↓"].endswith("–")
    assert lines["time"].endswith("0.2 ± 0.1 s (CPU); 5.4 ± 0.1 ms (GPU)")


def test_spelling_of_a_metric_does_not_matter(capsys):
    _, lines = shown(capsys, "anogan", {"ROC-AUC": row(0.8, None)}, {}, {}, published("anogan"))
    assert lines["ROC-AUC ↓"].endswith("0.89")


def test_undefined_values_are_dashes(capsys):
    heading, lines = shown(capsys, "m", {"psnr": row(None, None), "ssim": row(0.5, float("nan"))}, {}, {}, {})
    assert "paper" not in heading
    assert lines["psnr ↓"].split()[-1] == "–"
    assert lines["ssim ↓"].endswith("0.5000 (n 20)")


def test_numbers_have_four_digits():
    numbers = [0, 0.000123, 0.01234, 0.5, 31.2345, 1234.56, 2e7, -3.14159]
    words = ["0.000", "1.23e-04", "0.0123", "0.5000", "31.23", "1235", "2.00e+07", "-3.142"]
    assert [tables.number(number) for number in numbers] == words
