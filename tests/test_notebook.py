"""The notebook runs from its first cell to its last, and its two forms hold the same cells."""

import os
import pathlib
import re

import jupytext
import nbclient
import pytest

NOTEBOOKS = pathlib.Path(__file__).resolve().parents[1] / "notebooks"
SCRIPTS = sorted(NOTEBOOKS.glob("*.py"))
INLINE_FIGURES = "module://matplotlib_inline.backend_inline"


def cells(path):
    return [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]


def run(path, folder):
    """The notebook after a run in `folder`, in a kernel that finds the package in this checkout."""
    notebook = jupytext.read(path)
    search = os.pathsep.join(filter(None, (str(NOTEBOOKS.parent), os.environ.get("PYTHONPATH"))))
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env={**os.environ, "PYTHONPATH": search, "MPLBACKEND": INLINE_FIGURES})
    return notebook


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def test_every_notebook_has_both_forms():
    assert SCRIPTS
    assert {path.stem for path in SCRIPTS} == {path.stem for path in NOTEBOOKS.glob("*.ipynb")}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_both_forms_hold_the_same_cells(script):
    assert cells(script) == cells(script.with_suffix(".ipynb"))


def test_a_loss_is_prototyped_from_the_first_cell_to_the_figure(tmp_path):
    notebook = run(NOTEBOOKS / "prototype_a_loss.ipynb", tmp_path)
    text = "".join(output.text for output in outputs(notebook) if output.output_type == "stream")
    covered = {name: int(modes) for name, modes in re.findall(r"^(.+): (\d) of 8 modes", text, re.MULTILINE)}
    assert set(covered) == {"gradient penalty", "hinge", "hinge with R1"}
    # An untrained generator covers none.
    assert covered["gradient penalty"] >= 6
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))


def printed(notebook):
    return "".join(output.text for output in outputs(notebook) if output.output_type == "stream")


def test_your_own_images_come_back_in_their_units_and_geometry(tmp_path):
    text = printed(run(NOTEBOOKS / "bring_your_own_images.ipynb", tmp_path))
    assert "shared by two parts: 0" in text
    assert "same affine: True" in text and "same shape: True" in text
    assert "input up to 1500.0 , output up to 1500" in text
    assert "p00.nii.gz" in text, "the broken file is named"
    assert "largest difference after writing and reading: 0.0 HU" in text


def test_a_paper_becomes_an_experiment_that_gains_on_its_baseline(tmp_path):
    text = printed(run(NOTEBOOKS / "from_a_paper_to_an_experiment.ipynb", tmp_path))
    assert "library 0.255000, by hand 0.255000" in text
    assert "network 'G' was updated but not returned" in text
    measured = dict(re.findall(r"^(zero filling|game|twin) +PSNR ([0-9.]+)", text, re.MULTILINE))
    assert float(measured["game"]) >= float(measured["zero filling"]) + 1


def test_curves_of_three_games_say_what_the_notebook_says(tmp_path):
    notebook = run(NOTEBOOKS / "read_gan_curves.ipynb", tmp_path)
    found = re.findall(r"^(.+): (\d) of 8 modes .* margin (-?[0-9.]+)", printed(notebook), re.MULTILINE)
    modes = {name: int(count) for name, count, _ in found}
    margins = {name: float(margin) for name, _, margin in found}
    assert modes["healthy"] >= 6 > modes["G collapses"]
    assert margins["D wins"] > 5 > margins["healthy"]
