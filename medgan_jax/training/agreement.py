"""Short texts shared by all processes of a run, so that each decides and fails alike.

Every function here is collective where a run has several processes: all of them call it, in the same order.
"""

import json
from collections.abc import Callable

import jax
import numpy as np

from medgan_jax.errors import DamagedCheckpointError, UserError

_BYTES = 1 << 14
_CHARACTERS = 2048


def gather_texts(text: str) -> list[str]:
    """The texts of all processes, in process order; each is cut to 2048 characters."""
    text = text[:_CHARACTERS]
    if jax.process_count() == 1:
        return [text]
    from jax.experimental import multihost_utils

    row = np.zeros(_BYTES, np.uint8)
    encoded = np.frombuffer(text.encode(), np.uint8)
    row[: encoded.size] = encoded
    rows = multihost_utils.process_allgather(row).reshape(-1, _BYTES)
    return [bytes(each).rstrip(b"\0").decode(errors="ignore") for each in rows]


def raise_anywhere(error: UserError | None) -> None:
    """Raises a `UserError` in every process if any process has one; its own in the process that failed."""
    texts = gather_texts("" if error is None else str(error))
    if error is not None:
        raise error
    for process, text in enumerate(texts):
        if text:
            raise UserError(f"process {process}: {text}")


def decide_on_first(decide: Callable[[], str]) -> str:
    """What `decide()` returns in process 0, in every process.

    An exception of `decide()` ends every process: that exception in process 0, a `UserError` with its text
    elsewhere (a `DamagedCheckpointError` where it is one, because a run may go on with an older checkpoint).
    """
    if jax.process_count() == 1:
        return decide()
    error, outcome = None, ""
    if jax.process_index() == 0:
        try:
            outcome = json.dumps({"decision": decide()}, ensure_ascii=False)
        # Whatever it is, the others wait for an answer and would wait for ever.
        except Exception as raised:
            error = raised
            damaged = isinstance(raised, DamagedCheckpointError)
            outcome = json.dumps({"error": str(raised)[: _CHARACTERS // 2], "damaged": damaged}, ensure_ascii=False)
    first = json.loads(gather_texts(outcome)[0])
    if error is not None:
        raise error
    if "error" in first:
        raise (DamagedCheckpointError if first["damaged"] else UserError)(first["error"])
    return first["decision"]
