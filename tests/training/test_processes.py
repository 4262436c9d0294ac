"""Runs that are killed, and runs of two processes."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import games
import numpy as np

from medgan_jax.configuration import MeshOptions, RunOptions
from medgan_jax.training import run

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = pathlib.Path(__file__).with_name("play_games.py")


def start(*runs, devices=8):
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
    command = [sys.executable, str(SCRIPT), json.dumps({"runs": runs})]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process):
    """Exit status and what was said, of a process that must end by itself."""
    try:
        said = process.communicate(timeout=240)[1]
    finally:
        process.kill()
    return process.returncode, said


def train(folder, config, mesh, **options):
    settings = {"progress": False, "mesh": MeshOptions(**mesh), **options}
    run.train(games.experiment, games.Config(**config), RunOptions(workdir=str(folder), **settings))


def curves(folder):
    """What was logged, but for the speeds."""
    return [
        {name: value for name, value in line.items() if not name.startswith("speed/")}
        for line in games.lines(folder)
    ]


def test_killed_at_several_points_a_run_ends_the_same_to_the_bit(tmp_path):
    config = {"game": "everything", "steps": 8, "evaluate_every": 3}
    options = {"checkpoint_every": 2, "log_every": 1, "progress": False}
    train(tmp_path / "whole", config, {"data": 1}, **options, export=str(tmp_path / "whole.safetensors"))
    part = {"config": config, "options": {**options, "workdir": str(tmp_path / "parts"), "mesh": {"data": 1}}}
    export = {"export": str(tmp_path / "parts.safetensors")}
    died = (-signal.SIGKILL, "")

    assert finish(start({**part, "after_step": [3, "SIGKILL"]})) == died
    status, said = finish(start({**part, "sealing": 4}))
    assert status == -signal.SIGKILL
    unfinished = list((tmp_path / "parts" / "checkpoints").glob("*.unfinished"))
    assert len(unfinished) == 1 and games.metadata(tmp_path / "parts")["step"] == 2
    # A line that was cut short, as a kill may leave it.
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "critic/lo')
    status, said = finish(start({**part, "after_step": [7, "SIGKILL"]}))
    assert status == -signal.SIGKILL and "is unfinished" in said
    status, said = finish(start({**part, "options": {**part["options"], **export}}))
    assert status == 0

    assert (tmp_path / "parts.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    whole, parts = games.saved(tmp_path / "whole"), games.saved(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for name in whole:
        np.testing.assert_array_equal(parts[name], whole[name], err_msg=name)
    assert curves(tmp_path / "parts") == curves(tmp_path / "whole")
    assert games.metadata(tmp_path / "parts")["best"] == games.metadata(tmp_path / "whole")["best"]


def test_two_processes_train_resume_and_stop_like_one(tmp_path):
    config = {"game": "plain", "steps": 6, "measured": False}
    options = {"log_every": 2, "checkpoint_every": 3}
    train(tmp_path / "one", config, {"data": 1}, **options)
    train(tmp_path / "resumed", config, {"data": 8}, **options, steps=3)
    train(tmp_path / "resumed", config, {"data": 8}, **options, steps=4)
    newest = tmp_path / "resumed" / "checkpoints" / "00000004"
    victim = max((path for path in newest.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[-1] ^= 128
    victim.write_bytes(content)

    with socket.socket() as free:
        free.bind(("localhost", 0))
        place = f"localhost:{free.getsockname()[1]}"

    def runs(index):
        def each(name, **more):
            joined = {"multihost": True, "coordinator": place, "processes": 2, "process": index}
            settings = {**options, **joined, "workdir": str(tmp_path / name), **more.pop("options", {})}
            return {"config": more.pop("config", config), "options": settings, **more}

        # The signal reaches one of them only.
        yield each("stopped", after_step=[3, "SIGTERM"] if index == 1 else None)
        yield each("stopped")
        yield each("resumed")
        yield each("pmap", options={"parallel": "pmap"}, config={**config, "measured": True})

    processes = [start(*runs(index), devices=2) for index in range(2)]
    try:
        ends = [finish(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [status for status, _ in ends] == [0, 0], ends[0][1] + ends[1][1]
    assert "skipped checkpoint" in ends[0][1]
    assert "stopped at step 3 by SIGTERM" in ends[0][1]
    assert ends[0][1].count("resuming at step 3") == 2
    assert "step" not in "".join(line for line in ends[1][1].splitlines() if "Gloo" not in line)
    expected = games.saved(tmp_path / "one")
    for name in ("stopped", "resumed", "pmap"):
        arrays = games.saved(tmp_path / name)
        assert arrays.keys() == expected.keys()
        for leaf in expected:
            np.testing.assert_allclose(
                arrays[leaf], expected[leaf], rtol=1e-6, atol=1e-7, err_msg=f"{name} {leaf}"
            )
        steps = [line["step"] for line in games.lines(tmp_path / name)]
        assert steps == ([2, 3, 4, 4, 6, 6] if name == "pmap" else [2, 3, 4, 6])
