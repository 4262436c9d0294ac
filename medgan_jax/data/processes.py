"""A function over many items in several processes, with the results in order and memory bounded."""

import collections
import concurrent.futures
import functools
import itertools
import multiprocessing
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], processes: int
) -> Iterator[Result]:
    """`map(function, items)` in other processes, or in this one where `processes` is 1.

    Function, items and results are pickled between processes. At most two results a process wait to be taken.
    """
    if processes < 2:
        yield from map(function, items)
        return
    pool, items = _pool(processes), iter(items)
    waiting: collections.deque[concurrent.futures.Future] = collections.deque(
        pool.submit(function, item) for item in itertools.islice(items, 2 * processes)
    )
    try:
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in itertools.islice(items, 1))
            yield result
    finally:
        for future in waiting:
            future.cancel()


@functools.cache
def _pool(processes: int) -> concurrent.futures.ProcessPoolExecutor:
    """Processes that are kept for the next call; threads of a numerical library do not survive a fork."""
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(processes, context, initializer=_start)


def _start() -> None:
    """Programs that were compiled before are found again, in every process."""
    if os.environ.get("JAX_COMPILATION_CACHE_DIR") is None:
        home = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(home / "medgan_jax" / "compiled")
