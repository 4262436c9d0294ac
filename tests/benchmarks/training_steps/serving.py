"""A process that plays one side: it obeys commands from a pipe, one JSON line each, and answers in kind."""

import argparse
import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable

from tests.benchmarks.training_steps import games, memory


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--game", required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--layers", choices=("own", "direct", "plain"), default="own")
    parser.add_argument("--layout", default="contiguous")
    return parser.parse_args()


def use_threads(count: int) -> None:
    """Leaves this process `count` of its processors, which is how XLA knows how many threads to start."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def end_with_parent() -> None:
    """Has Linux kill this process when the command that started it ends in whatever way."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Side:
    """What both sides share: time, memory and the matrix-product rate; a subclass knows the framework.

    `start()` makes networks and plays the first step, `play(count)` plays steps and waits for the last,
    `product(size)` returns a function that multiplies two float32 matrices and waits.
    """

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.game = games.by_name(options.game)
        self.sizes = self.game.sizes_of(options.tiny)
        self.batch = games.batch(self.game.kind, self.sizes)

    def rate(self, size: int, repeats: int) -> dict:
        """GFLOP/s of the fastest of several products of square float32 matrices."""
        multiply = self.product(size)
        multiply()
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            multiply()
            times.append(time.perf_counter() - start)
        return {"gflops": 2 * size**3 / min(times) / 1e9}

    def first(self) -> dict:
        """Seconds, and those of all processors, until the first step has been played; what is known then."""
        self.product(8)()
        self.baseline = memory.resident()
        start, busy = time.perf_counter(), time.process_time()
        said = self.start()
        taken = {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - busy}
        return {**taken, **said, **self.about()}

    def steps(self, count: int) -> dict:
        """Seconds per step, over `count` steps after one that is not counted."""
        self.play(1)
        start = time.perf_counter()
        self.play(count)
        return {"seconds": (time.perf_counter() - start) / count}

    def memory(self, count: int) -> dict:
        """Peak MiB above the baseline: since the start, and of steps alone."""
        with_start = self.peak()
        memory.forget_peak()
        self.play(count)
        return {"mebibytes": self.peak(), "with_start": with_start}

    def peak(self) -> float | None:
        now = memory.peak()
        return None if now is None or self.baseline is None else now - self.baseline


def serve(make: Callable[[argparse.Namespace], Side]) -> None:
    """Answers `{"do": METHOD, ...}` lines from standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    end_with_parent()
    options = arguments()
    if options.threads:
        use_threads(options.threads)
    side = make(options)
    for line in sys.stdin:
        command = json.loads(line)
        answers.write(json.dumps(getattr(side, command.pop("do"))(**command)) + "\n")
        answers.flush()
