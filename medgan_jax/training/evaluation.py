"""Measures a game on validation or test cases: the method, and the trivial and classical ones beside it."""

import csv
import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.data.pipeline import evaluation_batches
from medgan_jax.game import Baseline, Experiment, Networks, Stage, TrainState, Tree, inference_networks
from medgan_jax.training.parallel import Layout
from medgan_jax.training.step import INFER, run_key
from medgan_jax.training.writers import to_json_number, writing


@dataclasses.dataclass
class Measured:
    """Values of every metric over cases: `values[metric]` is `(n,)`, or a dict of such arrays; with some images.

    images: those that the experiment shows. generated: of these, the first that comes from `infer`, or None.
    """

    values: dict[str, Any]
    images: dict[str, np.ndarray]
    generated: np.ndarray | None
    cases: int


class Evaluator:
    """Compiled inference and metrics of an experiment's last stage."""

    def __init__(self, experiment: Experiment, layout: Layout):
        self.experiment, self.layout = experiment, layout
        self.stage: Stage = experiment.stages[-1]
        self.frozen = layout.replicate(self.stage.frozen_variables)
        self._method = jax.jit(self._measure_method, out_shardings=layout.replicated)
        self._compared = {
            method.name: jax.jit(functools.partial(self._measure_compared, method), out_shardings=layout.replicated)
            for method in self.compared
        }

    @property
    def compared(self) -> tuple[Baseline, ...]:
        """The baseline, if there is one, and the classical methods."""
        first = () if self.experiment.baseline is None else (self.experiment.baseline,)
        return (*first, *self.experiment.others)

    def _measure(self, outputs: Mapping[str, jax.Array], batch: Tree):
        values = {metric.name: metric.per_case(outputs, batch) for metric in self.experiment.metrics}
        known = {**batch, **outputs} if isinstance(batch, Mapping) else dict(outputs)
        images = {name: known[name] for name in self.experiment.images if name in known}
        if self.experiment.compare is not None:
            output, reference = self.experiment.compare
            images["error"] = jnp.abs(outputs[output] - batch[reference])
        generated = next((outputs[name] for name in self.experiment.images if name in outputs), None)
        return values, images, generated

    def _measure_method(self, state: TrainState, frozen: Tree, batch: Tree, key: jax.Array):
        batch = self.stage.prepare(batch, key)
        nets = inference_networks(self.stage, state, frozen, key)
        return self._measure(self._judged(self.experiment.infer(nets, batch, key), nets, batch), batch)

    def _measure_compared(self, method: Baseline, fitted: Tree, state, frozen: Tree, batch: Tree, key: jax.Array):
        batch = self.stage.prepare(batch, key)
        outputs = method.apply(fitted, batch, key)
        if self.experiment.judge is not None:
            outputs = self._judged(outputs, inference_networks(self.stage, state, frozen, key), batch)
        return self._measure(outputs, batch)

    def _judged(self, outputs: Mapping[str, jax.Array], nets: Networks, batch: Tree) -> Mapping[str, jax.Array]:
        judge = self.experiment.judge
        return outputs if judge is None else {**outputs, **judge(nets, outputs, batch)}

    def method(self, state: TrainState, source, *, limit: int | None = None) -> Measured:
        """The metrics of the trained networks on all cases of `source`, or on the first `limit`."""
        weights = state.replace(optimizers={}, memory=())
        return self._run(lambda batch, key: self._method(weights, self.frozen, batch, key), source, limit)

    def other(
        self, method: Baseline, source, fitted: Tree = (), *, state: TrainState | None = None, limit: int | None = None
    ) -> Measured:
        """The metrics of the baseline or of a classical method, with what `fit` has fitted for it.

        state: trained networks, for an experiment whose `judge` looks at every method's outputs.
        """
        compiled, judges = self._compared[method.name], self.experiment.judge is not None
        weights, frozen = (state.replace(optimizers={}, memory=()), self.frozen) if judges else ((), ())
        return self._run(lambda batch, key: compiled(fitted, weights, frozen, batch, key), source, limit)

    def fit(self, method: Baseline, limit: int = 512) -> Tree:
        """What a trivial or classical method learns from the first `limit` training cases."""
        if method.fit is None:
            return ()
        data, prepare = self.stage.data, jax.jit(self.stage.prepare)
        train = data.train if not isinstance(data.train, Mapping) else next(iter(data.train.values()))
        batches = self._batches(train.source, limit, train.fields)
        return method.fit(jax.device_get(prepare(batch, key)) for batch, _, key in batches)

    def _batches(self, source, limit: int | None, fields: tuple[str, ...] | None = None):
        data = self.stage.data
        fields = fields or data.fields
        devices = self.layout.mesh.shape["data"]
        size = -(-min(data.evaluation_batch_size, len(source)) // devices) * devices
        index, count = self.layout.hosts
        done = 0
        batches = evaluation_batches(source, size, host_index=index, host_count=count, fields=fields)
        for number, (batch, real) in enumerate(batches):
            if limit is not None and done >= limit:
                return
            key = jax.random.fold_in(run_key(0, INFER), number)
            yield self.layout.put(batch), real if limit is None else min(real, limit - done), key
            done += real

    def _run(self, measure, source, limit: int | None) -> Measured:
        parts, pictures, cases = [], [], 0
        for batch, real, key in self._batches(source, limit):
            values, *shown = jax.device_get(measure(batch, key))
            own = lambda tree, real=real: jax.tree.map(lambda leaf: np.asarray(leaf)[:real], tree)  # noqa: E731
            parts.append(own(values))
            if cases < 8:
                pictures.append(own(shown))
            cases += real
        join = lambda *leaves: np.concatenate(leaves)  # noqa: E731
        images, generated = jax.tree.map(join, *pictures)
        # Compiled functions sort names; pictures are shown in the experiment's order.
        order = [name for name in (*self.experiment.images, "error") if name in images]
        return Measured(jax.tree.map(join, *parts), {name: images[name] for name in order}, generated, cases)


def summarise(experiment: Experiment, measured: Measured, calibration: Measured | None = None) -> dict[str, dict]:
    """`{metric: {"mean", "sd", "n", "undefined", "unit", "higher_is_better"}}`.

    Cases in which a metric has no finite value (NaN, or the PSNR of equal images) are left out and counted. A
    measure of the whole set, such as ROC-AUC, has no standard deviation over cases. Thresholds come from
    `calibration`, measured on validation cases.
    """
    calibration = calibration or measured
    table = {}
    for metric in experiment.metrics:
        values = measured.values[metric.name]
        row = {"unit": metric.unit, "higher_is_better": metric.higher_is_better}
        if metric.summary is not None:
            fitted = () if metric.calibrate is None else (metric.calibrate(calibration.values[metric.name]),)
            value = to_json_number(metric.summary(values, *fitted))
            row |= {"mean": value, "sd": None, "n": measured.cases, "undefined": int(value is None)}
        else:
            values = np.asarray(values, np.float64)
            defined = values[np.isfinite(values)]
            spread = defined.std(ddof=1) if defined.size > 1 else float("nan")
            row |= {
                "mean": to_json_number(defined.mean()) if defined.size else None,
                "sd": to_json_number(spread),
                "n": int(defined.size),
                "undefined": int(values.size - defined.size),
            }
        table[metric.name] = row
    return table


def better(value: float, best: float | None, *, higher_is_better: bool) -> bool:
    """Whether `value` improves on `best`; NaN never does."""
    if np.isnan(value):
        return False
    return best is None or (value > best if higher_is_better else value < best)


def write_cases(
    path: pathlib.Path, source, measured: Measured, compared: Mapping[str, Measured]
) -> None:
    """A CSV with a line a case: id, subject, and every per-case value of the method and of those beside it.

    compared: by the name that stands before the metric's in a heading, such as `baseline/psnr`.
    """
    columns: dict[str, Sequence] = {"id": source.ids[: measured.cases], "subject": source.subjects[: measured.cases]}
    columns |= flat_columns("", measured.values)
    for name, other in compared.items():
        columns |= flat_columns(f"{name}/", other.values)
    with writing(path), path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def flat_columns(prefix: str, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Per-case values by name; measures that need several arrays a case get one column each."""
    columns = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            columns |= flat_columns(f"{prefix}{name}/", value)
        elif np.ndim(value) == 1:
            columns[prefix + name] = np.asarray(value)
    return columns
