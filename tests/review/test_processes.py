"""What a process that failed is said to have failed of."""

import sys

import pytest

from medgan_jax.review import processes

IN_A_TRACE = "import jax; jax.jit(lambda x: 1 / 0)(1.0)"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise SystemExit('no such patch')", "no such patch"),
        ("raise SystemExit(3)", "it said nothing"),
        (IN_A_TRACE, "ZeroDivisionError: division by zero"),
        ("import os; print('half way', flush=True); os.kill(os.getpid(), 9)", "stopped by signal 9: half way"),
    ],
)
def test_reason_of_a_failure_is_the_last_that_was_said(tmp_path, code, reason):
    assert not processes.run([sys.executable, "-c", code], tmp_path)
    assert processes.failure(tmp_path) == reason


def test_success_forgets_the_failure_before_it(tmp_path):
    for code, worked in (("raise SystemExit(1)", False), ("", True)):
        assert processes.run([sys.executable, "-c", code], tmp_path) == worked
    assert processes.failure(tmp_path) is None
