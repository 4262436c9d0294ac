"""Work that is done in processes, one after the other or one on each GPU, with a log and the reason of a failure."""

import concurrent.futures
import json
import os
import pathlib
import queue
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from medgan_jax.errors import UserError
from medgan_jax.training.workdir import write_json

FAILED, LOG = "failed.json", "log.txt"
# The last line of an exception is then the exception's, and not a remark about JAX's own frames.
SAID_LAST = {"JAX_TRACEBACK_FILTERING": "off"}


def run(command: Sequence[str], place: pathlib.Path, environment: Mapping[str, str] | None = None) -> bool:
    """Whether a process succeeded; what it says is added to `place/log.txt`, why it failed is in `failed.json`."""
    place.mkdir(parents=True, exist_ok=True)
    (place / FAILED).unlink(missing_ok=True)
    with (place / LOG).open("a") as log:
        started = {**os.environ, **SAID_LAST, **(environment or {})}
        status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=started).returncode
    if status:
        fail(place, status)
    return status == 0


def fail(place: pathlib.Path, status: int = 0) -> None:
    """Writes down that what ran in `place` failed, with the last line that it said."""
    lines = [line.strip() for line in (place / LOG).read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "it said nothing"
    write_json(place / FAILED, {"reason": f"stopped by signal {-status}: {last}" if status < 0 else last})


def failure(place: pathlib.Path) -> str | None:
    """Why what ran in `place` failed the last time; None if it did not."""
    path = place / FAILED
    return json.loads(path.read_text())["reason"] if path.is_file() else None


def read(path: pathlib.Path) -> dict | None:
    """A JSON file that a process left; None if there is none yet, UserError if it is broken."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is broken ({error}); delete it, and it is made again") from error


class Work(Protocol):
    """Something that is done once, is then read, and is told apart by what it is."""

    def read(self) -> dict | None:
        """What came of it; None if it is not done."""

    def __hash__(self) -> int: ...


Item = TypeVar("Item", bound=Work)


def play_all(
    items: Sequence[Item], play: Callable[[Item, Mapping[str, str]], None], *, jobs: int = 0
) -> dict[Item, dict | None]:
    """`{item: what came of it}`, None for those that failed: reads what is done, and does the rest with `play`.

    jobs: how many at a time, 0 for one on each GPU and one alone where there is none. Each has its own GPU.
    """
    waiting = [item for item in dict.fromkeys(items) if item.read() is None]
    devices = gpus() if waiting else []
    count = jobs or max(1, len(devices))
    places: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    for number in range(count):
        places.put(devices[number % len(devices)] if devices else None)

    def one(item: Item) -> None:
        device = places.get()
        try:
            play(item, {} if device is None else {"CUDA_VISIBLE_DEVICES": device})
        finally:
            places.put(device)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(one, item) for item in waiting]:
            future.result()
    return {item: item.read() for item in items}


def gpus() -> list[str]:
    """Numbers of the GPUs that this process may use, without starting JAX on them."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    return allowed.split(",") if allowed else [str(n) for n in range(len(listed.splitlines()))]
