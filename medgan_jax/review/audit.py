"""`python -m medgan_jax audit ID --workdir DIR`: what a trained method may be trusted with, asked on test cases.

Five questions, each answered with values or with the reason why it is not defined for the method: intensities by
tissue, consistency with the measurement, small lesions kept or lost, spread and error, and what an output hangs
on. The identity and the non-adversarial twin answer beside the method as controls.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from medgan_jax.data.pipeline import evaluation_batches
from medgan_jax.errors import UserError
from medgan_jax.evaluation import trust
from medgan_jax.game import Experiment, inference_networks
from medgan_jax.training.loop import Executors
from medgan_jax.training.parallel import make_layout
from medgan_jax.training.run import RunOptions, trained_state
from medgan_jax.training.writers import to_json_number

CONTRASTS = (1.0, 2.0, 4.0, 8.0)
NOT_IMAGES = ("mask", "label", "labels", "weight", "landmarks")
KEYS = 8
RADIUS = 0.04  # of inserted lesions, as a share of the image's side


class Undefined(Exception):
    """A question that has no answer for this method; the message says why."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained run: `(raw batch, key of the data, key of inference, parameters) -> (outputs, prepared batch)`."""

    experiment: Experiment
    run: Callable[..., tuple[Mapping[str, jax.Array], Mapping[str, jax.Array]]]
    state: Any

    def __call__(self, batch, *, key: int = 0, state=None):
        """Outputs and prepared batch as NumPy arrays; the degradation of the data is the same in every call."""
        state = self.state if state is None else state
        return jax.device_get(self.run(state, batch, jax.random.key(0), jax.random.key(key)))


def load(factory: Callable, config: Any, directory: pathlib.Path, seed: int) -> Trained:
    """The run in a work directory, ready to be asked."""
    experiment = factory(config)
    options = RunOptions(workdir=str(directory), seed=seed)
    executors = Executors(experiment, make_layout(options), options, 1)
    state, _ = trained_state(experiment, executors, directory, seed)
    stage = experiment.stages[-1]
    frozen = stage.frozen_variables

    @jax.jit
    def run(state, batch, data_key, key):
        prepared = stage.prepare(batch, data_key)
        return experiment.infer(inference_networks(stage, state, frozen, key), prepared, key), prepared

    return Trained(experiment, run, state.replace(optimizers={}, memory=()))


def audit(method: Trained, twin: Trained | None, others: Sequence[Trained], cases: int) -> dict:
    """Answers to the five questions for a run, its twin, and runs of other seeds as an ensemble."""
    data = method.experiment.stages[-1].data
    batch, real = next(iter(evaluation_batches(data.test, min(cases, len(data.test)), fields=data.fields)))
    asked = {
        "intensity": lambda: intensity(method, batch),
        "consistency": lambda: consistency(method, twin, batch),
        "lesions": lambda: lesions(method, twin, batch),
        "uncertainty": lambda: uncertainty(method, others, batch),
        "attribution": lambda: attribution(method, batch),
    }
    answers = {}
    for name, answer in asked.items():
        try:
            answers[name] = answer()
        except Undefined as reason:
            answers[name] = {"undefined": str(reason)}
    facts = {"experiment": method.experiment.id, "data": data.test.name, "cases": int(real), "twin": twin is not None}
    return finite({**facts, "ensemble": 1 + len(others), "answers": answers})


def finite(tree):
    """Plain values for JSON: numbers that are not finite become null."""
    if isinstance(tree, Mapping):
        return {name: finite(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in tree]
    return to_json_number(tree) if isinstance(tree, float) else tree


def _compared(method: Trained) -> tuple[str, str]:
    if method.experiment.compare is None:
        raise Undefined("its output has no reference image to be compared with")
    return method.experiment.compare


def _input(method: Trained) -> str:
    if method.experiment.prediction is None:
        raise Undefined("it makes images from noise, not from an image")
    return method.experiment.prediction.input


def _grey(images: np.ndarray) -> np.ndarray:
    """Images (N, *S, C) as the mean of their channels, (N, *S)."""
    return np.asarray(images, np.float64).mean(-1)


# --- intensities ---


def intensity(method: Trained, batch) -> dict:
    """Bias by tissue, in HU where the method's output is in HU and else in the units of the network's range."""
    output, reference = _compared(method)
    outputs, prepared = method(batch)
    made, truth = _grey(outputs[output]), _grey(prepared[reference])
    unit, to_unit = _unit(method, prepared)
    made, truth = to_unit(made), to_unit(truth)
    labels = batch.get("labels") if isinstance(batch, Mapping) else None
    if labels is not None and np.squeeze(labels).shape == truth.shape:
        labels = np.squeeze(labels)
        names = {int(label): f"tissue {int(label)}" for label in np.unique(labels)}
    else:
        labels, names = trust.intensity_bands(truth)
    return {"unit": unit, **dataclasses.asdict(trust.intensity_calibration(made, truth, labels, names))}


def _unit(method: Trained, prepared) -> tuple[str, Callable]:
    prediction = method.experiment.prediction
    if prediction is not None and prediction.restore_units:
        known = prediction.output_intensity
        if known is None:
            known = prediction.intensity(np.asarray(prepared[prediction.input][0]))
        if known.unit == "HU":
            return "HU", known.inverse
    low, high = method.experiment.value_range
    return f"of the range [{low:g}, {high:g}]", lambda images: images


# --- consistency ---


def consistency(method: Trained, twin: Trained | None, batch) -> dict:
    """`||A x_hat - A x|| / ||A x||`: how far the output, measured again, is from the reference's measurement."""
    forward = method.experiment.forward
    if forward is None:
        raise Undefined("it has no model of the measurement that its output could be put through")
    output, reference = _compared(method)
    rows = {}
    for name, run in {"method": method, "twin": twin}.items():
        if run is not None:
            outputs, prepared = run(batch)
            again, truth = (np.asarray(forward(image, prepared)) for image in (outputs[output], prepared[reference]))
            axes = tuple(range(1, truth.ndim))
            residual = np.sqrt((np.abs(again - truth) ** 2).sum(axes) / (np.abs(truth) ** 2).sum(axes))
            rows[name] = {"mean": float(residual.mean()), "sd": float(residual.std(ddof=1))}
    return {"residual": rows}


# --- lesions ---


def lesions(method: Trained, twin: Trained | None, batch) -> dict:
    """Lesions of contrast-to-noise 1 to 8 put into the raw images before they are degraded.

    Noise is the SD of the method's input against the reference, within the object. One lesion a case, at places
    that depend on the case's number alone.
    """
    output, reference = _compared(method)
    source = _input(method)
    _, prepared = method(batch)
    truth, seen = _grey(prepared[reference]), _grey(prepared[source])
    if seen.shape != truth.shape:
        raise Undefined(f"its input {seen.shape[1:]} and its reference {truth.shape[1:]} differ in size")
    templates = _places(truth)
    unit_batch, raw_heights = _inserted(batch, templates, 0.1)
    _, unit_prepared = method(unit_batch)
    response = trust.matched_filter(_grey(unit_prepared[reference]) - truth, templates)
    if not (response > 0).all():
        raise Undefined("what is put into its raw images does not show in its reference")
    noise = max(float((seen - truth)[truth > truth.mean()].std()), 1e-6)
    runs = {"identity": None, "method": method} | ({"twin": twin} if twin is not None else {})
    absent = {name: seen if run is None else _grey(run(batch)[0][output]) for name, run in runs.items()}
    table: dict[str, list] = {name: [] for name in runs}
    for contrast in CONTRASTS:
        present_batch, _ = _inserted(batch, templates, 0.1 * contrast * noise / response)
        _, again = method(present_batch)
        height = trust.matched_filter(_grey(again[reference]) - truth, templates)
        for name, run in runs.items():
            present = _grey(again[source]) if run is None else _grey(run(present_batch)[0][output])
            found = trust.lesion_preservation(present, absent[name], templates, height=height, cnr=contrast)
            table[name].append(dataclasses.asdict(found))
    valid = table["identity"][-1]["auc"] >= 0.8
    return {"noise": noise, "controls_hold": bool(valid), "rows": table, "raw_height": float(np.mean(raw_heights))}


def _places(reference: np.ndarray) -> np.ndarray:
    """A template (N, *S) of one lesion for each case, within the object and off the borders."""
    templates = []
    for number, image in enumerate(reference):
        random = np.random.default_rng(number)
        radius = max(1.0, RADIUS * min(image.shape))
        margin = int(np.ceil(2 * radius)) + 1
        inner = np.zeros(image.shape, bool)
        inner[tuple(slice(margin, -margin) for _ in image.shape)] = True
        places = np.argwhere(inner & (image > image[inner].mean()))
        templates.append(trust.lesion(image.shape, places[random.integers(len(places))], radius))
    return np.stack(templates)


def _inserted(batch, templates: np.ndarray, share) -> tuple[dict, list[float]]:
    """The raw batch with lesions of `share` (a number, or one for each case) of each image's range."""
    changed, heights = dict(batch), []
    for name, images in batch.items():
        images = np.asarray(images)
        if name in NOT_IMAGES or images.shape[:-1] != templates.shape:
            continue
        span = np.ptp(images.reshape(len(images), -1), axis=1) * share
        heights.append(float(np.mean(span)))
        added = templates * span.reshape(-1, *(1,) * (templates.ndim - 1))
        changed[name] = (images + added[..., None]).astype(images.dtype)
    if not heights:
        raise Undefined("none of its raw fields is an image of its output's size")
    return changed, heights


# --- spread ---


def uncertainty(method: Trained, others: Sequence[Trained], batch) -> dict:
    """Calibration of an ensemble over seeds where there are several runs, or over draws where inference draws."""
    output, reference = _compared(method)
    _, prepared = method(batch)
    if others:
        kind, samples = "seeds", [run(batch)[0][output] for run in (method, *others)]
    else:
        kind, samples = "draws", [method(batch, key=key)[0][output] for key in range(KEYS)]
        if np.ptp(samples, axis=0).max() == 0:
            raise Undefined("its inference draws nothing, and there is one seed: train several for an ensemble")
    found = trust.uncertainty_calibration(np.stack([_grey(image) for image in samples]), _grey(prepared[reference]))
    return {"over": kind, "samples": len(samples), **dataclasses.asdict(found)}


# --- attribution ---


def attribution(method: Trained, batch) -> dict:
    """Gradient of the output's middle with respect to the input, and the same of networks with random weights.

    near: share of the gradient's absolute sum within a tenth of the image's side around the middle. sanity:
    rank correlation of the map with that of the untrained networks; near 1, the map shows the architecture and not
    what was learned (Adebayo et al., NeurIPS 2018).
    """
    from scipy import stats

    source = _input(method)
    output = method.experiment.prediction.output
    _, prepared = method(batch)
    stage, frozen = method.experiment.stages[-1], method.experiment.stages[-1].frozen_variables

    @jax.jit
    def gradient(state, prepared):
        def middle(image):
            nets = inference_networks(stage, state, frozen, jax.random.key(0))
            made = method.experiment.infer(nets, {**prepared, source: image}, jax.random.key(0))[output]
            place = tuple(side // 2 for side in made.shape[1:-1])
            return made[(slice(None), *place)].sum()

        return jax.grad(middle)(prepared[source])

    trained = np.abs(np.asarray(gradient(method.state, prepared))).sum(-1)
    if not trained.any():
        raise Undefined("its output has no gradient with respect to its input")
    untrained = np.abs(np.asarray(gradient(_shuffled(method.state), prepared))).sum(-1)
    near = np.zeros(trained.shape[1:], bool)
    reach = [max(1, side // 10) for side in near.shape]
    near[tuple(slice(side // 2 - r, side // 2 + r + 1) for side, r in zip(near.shape, reach, strict=True))] = True
    total = trained.reshape(len(trained), -1).sum(1)
    correlation = stats.spearmanr(trained.ravel(), untrained.ravel()).statistic
    return {"near": float((trained[:, near].sum(1) / np.maximum(total, 1e-12)).mean()), "sanity": float(correlation)}


def _shuffled(state):
    """The state with the values of every parameter in another order: the same scales, nothing learned."""

    def mix(number, leaf):
        return jax.random.permutation(jax.random.key(number), leaf.ravel()).reshape(leaf.shape)

    def shuffled(tree):
        leaves, form = jax.tree.flatten(tree)
        return jax.tree.unflatten(form, [mix(n, jnp.asarray(leaf)) for n, leaf in enumerate(leaves)])

    ema = {name: {**copy, "params": shuffled(copy["params"])} for name, copy in state.ema.items()}
    return state.replace(params=shuffled(state.params), ema=ema)


# --- a whole run ---


def audit_run(factory: Callable, config: Any, twin_config: Any, workdir: pathlib.Path, seeds, cases: int) -> dict:
    """The audit of a work directory with one run, or with several in `seed_N`; see `audit`.

    seeds: of its runs. twin_config: of the twin, which answers if it was trained in the folder `twin`.
    """
    if cases < 2:
        raise UserError(f"--cases is {cases}; an audit needs 2 or more")
    directories = [workdir] if len(seeds) == 1 else [workdir / f"seed_{seed}" for seed in seeds]
    runs = [load(factory, config, place, seed) for place, seed in zip(directories, seeds, strict=True)]
    place = directories[0] / "twin"
    trained = twin_config is not None and (place / "manifest.json").is_file()
    twin = load(factory, twin_config, place, seeds[0]) if trained else None
    return audit(runs[0], twin, runs[1:], cases)
