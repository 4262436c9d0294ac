"""Reading a prepared set, waiting for data in training, and drawing each phantom, in numbers.

JAX_PLATFORMS=cpu python -m tests.benchmarks.data_speed [--output FILE.json] [--only reading waiting drawing]
"""

import argparse
import dataclasses
import json
import os
import pathlib
import tempfile
import time

import jax
import numpy as np
import tensorflow_datasets as tfds

from medgan_jax.data.builders import mr_head_kspace
from medgan_jax.data.phantom_sets import phantom_sets
from medgan_jax.data.prepared import find_builder, open_prepared, prepare_builder

SLICES_PER_SECOND, SHARE_WAITED = 2000.0, 0.02


class SpeedOfHeads(mr_head_kspace.MrHeadKspace):
    """256 x 256 slices of which the image alone is stored, as most sets are."""

    BUILDER_CONFIGS = [  # noqa: RUF012
        mr_head_kspace.HeadKspaceConfig(name="speed", size=256, train=64, validation=2, test=2)
    ]
    DEFAULT_CONFIG_NAME = "speed"

    def _info(self):
        image = tfds.features.Tensor(shape=(256, 256, 1), dtype=np.float32, encoding="bytes")
        features = {"image": image, "id": tfds.features.Text(), "subject": tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _generate_examples(self, split):
        for id, record in super()._generate_examples(split):
            yield id, {name: record[name] for name in ("image", "id", "subject")}


def reading(directory: pathlib.Path, seconds: float) -> float:
    """256 x 256 float32 slices per second of processor time, in random order through `PreparedSource`."""
    prepare_builder(find_builder("speed_of_heads", directory))
    source = open_prepared("speed_of_heads", split="train", directory=directory)
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
        print(f"| drawing {name} | {rates[name]:.1f} a second | |", flush=True)
    return rates


def largest() -> list[str]:
    """One configuration of each drawing function: its first variant at 256 pixels, or its largest."""
    chosen: dict[str, str] = {}
    for name, phantom in phantom_sets().items():
        chosen.setdefault(phantom.function, name)
    return list(chosen.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, help="JSON file to write; what is not measured stays")
    parser.add_argument("--only", nargs="*", default=["reading", "waiting", "drawing"])
    parser.add_argument("--phantoms", nargs="*", default=None, help="configurations to draw")
    parser.add_argument("--steps", type=int, default=20, help="training steps that are timed")
    parser.add_argument("--seconds", type=float, default=3.0, help="for reading and for each phantom")
    options = parser.parse_args()
    kept = options.output is not None and options.output.is_file()
    found = json.loads(options.output.read_text()) if kept else {}
    print("| what | value | wanted |\n|---|---|---|", flush=True)
    if "reading" in options.only:
        with tempfile.TemporaryDirectory() as folder:
            found["slices_per_second_per_core"] = reading(pathlib.Path(folder), options.seconds)
        rate = found["slices_per_second_per_core"]
        print(
            f"| 256 x 256 float32 slices read | {rate:.0f} a second and core | {SLICES_PER_SECOND:.0f} |",
            flush=True,
        )
    if "waiting" in options.only:
        found["training"] = waiting(options.steps)
        share = found["training"]["waiting_for_data"]
        print(
            f"| pix2pix waits for data | {100 * share:.2f} % | below {100 * SHARE_WAITED:.0f} % |", flush=True
        )
    if "drawing" in options.only:
        found["images_per_second"] = drawing(options.phantoms or largest(), 8, options.seconds)
    if options.output is not None:
        found |= {"cores": os.cpu_count(), "jax": jax.__version__, "device": jax.devices()[0].device_kind}
        options.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
