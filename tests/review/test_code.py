"""Fingerprints of code change with what is computed, and with nothing else."""

import sys
import textwrap

import pytest

from medgan_jax.review import code

LIBRARY = {
    "__init__.py": "",
    "losses.py": '''
        """Losses."""
        SCALE = 2.0

        def used(x):
            return SCALE * helper(x)

        def helper(x):
            return x + 1

        def unused(x):
            return x - 1
    ''',
    "experiment.py": '''
        from sample_library import losses
        from sample_library.shapes import Ball as Round

        def experiment():
            return losses.used(1.0), Round().size
    ''',
    "shapes.py": '''
        class Ball:
            """A ball."""
            size = 3

        class Cube:
            size = 4
    ''',
}


@pytest.fixture
def found(tmp_path, monkeypatch):
    """`found(**changes)`: what the experiment uses when files have `old` replaced by `new`."""
    root = tmp_path / "sample_library"
    root.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(code, "LIBRARY", "sample_library")

    def write(old="", new=""):
        for function in (code.tree, code.is_module, code.code, code._scope):
            function.cache_clear()
        for name, text in LIBRARY.items():
            (root / name).write_text(textwrap.dedent(text).replace(old, new) if old else textwrap.dedent(text))
        return code.definitions("sample_library.experiment", lambda module: True)

    yield write
    for function in (code.tree, code.is_module, code.code, code._scope):
        function.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "sample_library"]:
        del sys.modules[name]


def test_what_is_named_is_found_and_nothing_else(found):
    assert set(found()) == {
        ("sample_library.experiment", "experiment"),
        ("sample_library.losses", "used"),
        ("sample_library.losses", "helper"),
        ("sample_library.losses", "SCALE"),
        ("sample_library.shapes", "Ball"),
    }


@pytest.mark.parametrize("change", [("SCALE = 2.0", "SCALE = 3.0"), ("x + 1", "x + 2"), ("size = 3", "size = 5")])
def test_a_change_of_what_is_used_shows(found, change):
    assert found(*change) != found()


@pytest.mark.parametrize(
    "change",
    [
        ("x - 1", "x - 2"),
        ("size = 4", "size = 5"),
        ('"""A ball."""', '"""A sphere."""'),
        ("SCALE = 2.0", "SCALE = 2.0  # of the paper"),
        ("def unused", "def added(x):\n    return x\n\n\ndef unused"),
    ],
)
def test_words_and_what_is_not_used_do_not(found, change):
    assert found(*change) == found()


def test_a_module_that_may_not_be_entered_is_left_out(found):
    found()
    entered = code.definitions("sample_library.experiment", lambda module: not module.endswith("losses"))
    assert {module for module, _ in entered} == {"sample_library.experiment", "sample_library.shapes"}
