"""Proof that entrants of a track are asked the same: their prepared test cases, one by one, are compared.

Every case of the host is hashed. An entrant that prepares its cases in its own way may round otherwise; it
must agree in every value to within `TOLERANCE` of the values' range.
"""

import hashlib
from collections.abc import Iterator

import jax
import numpy as np

from medgan_jax.data.pipeline import evaluation_batches
from medgan_jax.errors import UserError
from medgan_jax.game import Experiment
from medgan_jax.review.benchmark.track import Entrant, Track, configuration, factory, task
from medgan_jax.training.step import INFER, run_key

TOLERANCE = 1e-4
Seen = dict[str, np.ndarray]


def cases(experiment: Experiment, case) -> Iterator[tuple[str, Seen]]:
    """(id, what is shown of it) of every test case, prepared as evaluation prepares it."""
    stage, source = experiment.stages[-1], experiment.stages[-1].data.test
    prepare, ids = jax.jit(lambda batch, key: case(stage.prepare(batch, key))), iter(source.ids)
    size = min(stage.data.evaluation_batch_size, len(source))
    for number, (batch, real) in enumerate(evaluation_batches(source, size, fields=stage.data.fields)):
        shown = jax.device_get(prepare(batch, jax.random.fold_in(run_key(0, INFER), number)))
        for row in range(real):
            yield next(ids), {name: np.asarray(values[row]) for name, values in shown.items()}


def digest(seen: Seen, names: tuple[str, ...]) -> str:
    """Hash of the named parts of a case."""
    parts = hashlib.sha256()
    for name in names:
        parts.update(f"{name}{seen[name].shape}".encode())
        parts.update(np.ascontiguousarray(seen[name], np.float32))
    return parts.hexdigest()[:16]


def prove(track: Track, entrant: Entrant, preset: str, source: str) -> dict:
    """Hashes of the host's cases by id, and the largest difference of the entrant's from them.

    The difference is a share of the values' range. UserError, with the case's name, where they are not the
    same.
    """
    host = task(track, preset, source)
    own_config = configuration(track, entrant, preset, source)
    own = factory(track, entrant, preset, source)(own_config)
    case = (lambda batch: batch) if entrant.build is not None else entrant.view(own_config).case
    theirs, ours = host.stages[-1].data.test, own.stages[-1].data.test
    if len(theirs) != len(ours):
        raise UserError(refusal(track, entrant, f"it has {len(ours)} test cases and the track {len(theirs)}"))
    hashes, largest = {}, 0.0
    for (id, wanted), (own_id, found) in zip(cases(host, lambda batch: batch), cases(own, case), strict=True):
        if id != own_id:
            raise UserError(
                refusal(track, entrant, f"its test case {own_id} stands where the track has {id}")
            )
        largest = max(largest, _difference(track, entrant, id, wanted, found))
        hashes[id] = digest(wanted, track.proved)
    return {"cases": hashes, "largest_difference": largest, "tolerance": TOLERANCE}


def _difference(track: Track, entrant: Entrant, id: str, wanted: Seen, found: Seen) -> float:
    largest = 0.0
    for name in track.proved:
        one, other = (np.asarray(each[name], np.float64) for each in (wanted, found))
        if one.shape != other.shape:
            raise UserError(
                refusal(track, entrant, f"{name} of test case {id} is {other.shape}, not {one.shape}")
            )
        difference = np.abs(one - other).max() / max(np.ptp(one), 1e-6) if one.size else 0.0
        if not difference <= TOLERANCE:
            words = f"{name} of test case {id} differs by {100 * difference:.3g} % of its range"
            raise UserError(refusal(track, entrant, words))
        largest = max(largest, float(difference))
    return largest


def refusal(track: Track, entrant: Entrant, why: str) -> str:
    """One line about an entrant whose task is another."""
    return f"{entrant.name} is refused in the track {track.name}: {why}"
