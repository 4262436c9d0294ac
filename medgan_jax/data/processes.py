"""A function over many items in several processes, with the results in order and memory bounded."""

import collections
import concurrent.futures
import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], processes: int
) -> Iterator[Result]:
    """`map(function, items)` in fresh processes, or in this one where `processes` is 1.

    Function, items and results are pickled between processes. At most two results a process wait to be taken.
    """
    if processes < 2:
        yield from map(function, items)
        return
    # Threads of a numerical library do not survive a fork.
    context = multiprocessing.get_context("spawn")
    items = iter(items)
    with concurrent.futures.ProcessPoolExecutor(processes, context) as pool:
        waiting: collections.deque[Any] = collections.deque(
            pool.submit(function, item) for item in itertools.islice(items, 2 * processes)
        )
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in itertools.islice(items, 1))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)
