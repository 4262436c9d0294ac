"""Reading a prepared set, waiting for data in training, and drawing each phantom, in numbers.

JAX_PLATFORMS=cpu python -m tests.benchmarks.data_speed [--output FILE.json] [--only reading waiting drawing]
JAX_PLATFORMS=cpu python -m tests.benchmarks.data_speed --only reading waiting --publish

The second stores the record that the README's table is made of, and writes that table.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Mapping

import jax
import numpy as np
import tensorflow_datasets as tfds

from medgan_jax.data.builders import mr_head_kspace
from medgan_jax.data.phantom_sets import phantom_sets
from medgan_jax.data.prepared import find_builder, open_prepared, prepare_builder
from medgan_jax.data.records import Source
from tests.benchmarks.published import RECORDS, publish

SLICES_PER_SECOND, SHARE_WAITED = 2000.0, 0.02
NAME = "data-speed"
# The default configuration of the phantoms' builder: an image, its complex form, and maps.
DEFAULT = "phantoms/head_slice_t1_256"
# Of the first two the speed is promised; the third is what an augmentation of whole records takes.
ALONE, IMAGES, ALL = "images, stored alone", f"images of {DEFAULT}", f"all fields of {DEFAULT}"
# What is read, as (set, fields); None takes all of them.
READ = {ALONE: ("speed_of_heads", None), IMAGES: (DEFAULT, ("image",)), ALL: (DEFAULT, None)}


class SpeedOfHeads(mr_head_kspace.MrHeadKspace):
    """256 x 256 slices of which the image alone is stored, as most sets are."""

    BUILDER_CONFIGS = [  # noqa: RUF012
        mr_head_kspace.HeadKspaceConfig(name="speed", size=256, train=64, validation=2, test=2)
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "speed"

    def _info(self):
        image = tfds.features.Tensor(shape=(256, 256, 1), dtype=np.float32, encoding="bytes")
        features = {"image": image, "id": tfds.features.Text(), "subject": tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _generate_examples(self, split):
        for id, record in super()._generate_examples(split):
            yield id, {name: record[name] for name in ("image", "id", "subject")}

    def _example_writer(self):
        # Compressed records, as TFDS writes them.
        return tfds.core.GeneratorBasedBuilder._example_writer(self)


def reading(directory: pathlib.Path, seconds: float, repeats: int) -> dict[str, dict[str, float]]:
    """Records with a 256 x 256 slice that are read per second of processor time, in random order."""
    found = {}
    for what, (name, fields) in READ.items():
        prepare_builder(find_builder(name, directory))
        source = open_prepared(name, split="train", directory=directory)
        source = source if fields is None else source.with_fields(fields)
        rates = [_rate(source, seconds) for _ in range(repeats)]
        found[what] = {
            "median": statistics.median(rates),
            "low": min(rates),
            "high": max(rates),
            "repeats": repeats,
        }
    return found


def _rate(source: Source, seconds: float) -> float:
    order = np.random.default_rng(0).integers(0, len(source), 10**6)
    for index in order[:64]:
        source[int(index)]
    count, started = 0, time.process_time()
    while time.process_time() - started < seconds:
        assert source[int(order[count])]["image"].shape == (256, 256, 1)
        count += 1
    return count / (time.process_time() - started)


def waiting(steps: int) -> dict[str, float]:
    """What the training loop logs of pix2pix at full size, 256 x 256: share of its time waited, images/s."""
    from experiments.base import pix2pix
    from medgan_jax.configuration import RunOptions
    from medgan_jax.training.run import train

    config = dataclasses.replace(pix2pix.Config(), phantoms=(8, 2, 2))
    with tempfile.TemporaryDirectory() as folder:
        options = RunOptions(workdir=folder, steps=steps, log_every=steps, progress=False)
        train(pix2pix.experiment, config, options)
        logged = [json.loads(line) for file in pathlib.Path(folder).glob("*.jsonl") for line in file.open()]
    speeds = {name: value for row in logged for name, value in row.items() if name.startswith("speed/")}
    return {name.removeprefix("speed/"): value for name, value in speeds.items()}


def drawing(names: list[str], chunk: int, seconds: float) -> dict[str, float]:
    """Images or volumes per second of phantoms, `chunk` at a time, compiled, on the CPU."""
    rates = {}
    for name in names:
        draw = jax.jit(jax.vmap(phantom_sets()[name].generate))
        keys = jax.random.split(jax.random.key(0), chunk)
        jax.block_until_ready(draw(keys))
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            jax.block_until_ready(draw(keys))
            count += chunk
        rates[name] = count / (time.perf_counter() - started)
        print(f"drawing {name}: {rates[name]:.1f} a second", flush=True)
    return rates


def largest() -> list[str]:
    """One configuration of each drawing function: its first variant at 256 pixels, or its largest."""
    chosen: dict[str, str] = {}
    for name, phantom in phantom_sets().items():
        chosen.setdefault(phantom.function, name)
    return list(chosen.values())


def table_rows(measured: Mapping) -> list[dict[str, str]]:
    """The README's rows of what was measured of reading and of waiting."""
    rows = []
    for what, rate in measured.get("slices_per_second_per_core", {}).items():
        wanted = f"{SLICES_PER_SECOND:.0f}" if what != ALL else ""
        value = f"{rate['median']:.0f} ({rate['low']:.0f}–{rate['high']:.0f})"
        rows.append({"what": f"256² slices read a second: {what}", "value": value, "wanted": wanted})
    if "training" in measured:
        share = f"{100 * measured['training']['waiting_for_data']:.2f} %"
        limit = f"below {100 * SHARE_WAITED:.0f} %"
        rows.append({"what": "pix2pix 256², share of time waiting for data", "value": share, "wanted": limit})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, help="JSON file to write; what is not measured stays")
    parser.add_argument("--publish", action="store_true", help="write the stored record and the README's table")
    parser.add_argument("--only", nargs="*", default=["reading", "waiting", "drawing"])
    parser.add_argument("--phantoms", nargs="*", default=None, help="configurations to draw")
    parser.add_argument("--steps", type=int, default=20, help="training steps that are timed")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each reading and for each phantom")
    parser.add_argument("--repeats", type=int, default=3, help="of each reading")
    options = parser.parse_args()
    output = RECORDS / f"{NAME}.json" if options.publish else options.output
    found = json.loads(output.read_text()) if output is not None and output.is_file() else {}
    # How many others wanted the processor at the start: rates are per second of the time it gave.
    found["load_average"] = os.getloadavg()[0]
    if "reading" in options.only:
        with tempfile.TemporaryDirectory() as folder:
            rates = reading(pathlib.Path(folder), options.seconds, options.repeats)
        found["slices_per_second_per_core"] = rates
    if "waiting" in options.only:
        found["training"] = waiting(options.steps)
    if "drawing" in options.only:
        found["images_per_second"] = drawing(options.phantoms or largest(), 8, options.seconds)
    for row in table_rows(found):
        print(*row.values(), sep=" | ", flush=True)
    if options.publish:
        measured = {name: value for name, value in found.items() if name not in ("rows", "machine")}
        publish(NAME, table_rows(found), ("jax", "array_record", "tensorflow-datasets"), **measured)
    elif output is not None:
        found |= {"cores": os.cpu_count(), "jax": jax.__version__, "device": jax.devices()[0].device_kind}
        output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
