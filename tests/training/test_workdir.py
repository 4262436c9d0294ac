"""Work directories: one process, one run, whole files; with real processes, signals and full disks."""

import dataclasses
import json
import math
import os
import pathlib
import signal
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

from medgan_jax.errors import UserError
from medgan_jax.training import workdir

ROOT = pathlib.Path(__file__).resolve().parents[2]

HOLD = """
import sys
from medgan_jax.training.workdir import open_workdir
with open_workdir(sys.argv[1], experiment="base/toy", configuration={"steps": 1}):
    print("held", flush=True)
    sys.stdin.read()
"""


@dataclasses.dataclass(frozen=True)
class Options:
    rate: float = 1e-3
    sizes: tuple[int, ...] = (1, 2)


def open_toy(path, **changes):
    return workdir.open_workdir(path, **{"experiment": "base/toy", "configuration": {"steps": 100}} | changes)


def test_manifest_says_what_was_run_on_what(tmp_path):
    with open_toy(tmp_path / "deep" / "run", configuration={"options": Options(), "path": tmp_path},
                  fingerprint="f00d") as opened:
        assert not opened.resumed
        manifest = json.loads((opened.path / "manifest.json").read_text())
    assert manifest == opened.manifest
    assert manifest["experiment"] == "base/toy"
    assert manifest["configuration"] == {"options": {"rate": 1e-3, "sizes": [1, 2]}, "path": str(tmp_path)}
    assert manifest["fingerprint"] == "f00d"
    assert manifest["versions"]["jax"] == jax.__version__
    assert manifest["versions"]["optax"] == optax.__version__
    assert set(manifest["versions"]) >= {"python", "flax", "orbax-checkpoint", "numpy", "medgan_jax"}
    assert manifest["device"]["platform"] == "cpu"
    assert manifest["device"]["count"] == jax.device_count()
    assert manifest["device"]["cores"] == len(os.sched_getaffinity(0)) and manifest["device"]["processor"]
    assert manifest["command"] == sys.orig_argv
    assert manifest["git"] is None or len(manifest["git"]["commit"]) == 40


def test_same_run_is_continued_and_each_start_is_noted(tmp_path):
    open_toy(tmp_path).close()
    with open_toy(tmp_path, fingerprint="f00d") as again:
        assert again.resumed
        assert len(again.manifest["resumed"]) == 1
    with open_toy(tmp_path, fingerprint="f00d", create=False) as third:
        assert third.manifest["fingerprint"] == "f00d"
        assert len(third.manifest["resumed"]) == 2


@pytest.mark.parametrize(("changes", "difference"), [
    ({"configuration": {"steps": 200}}, "config.steps: 100 there, 200 here"),
    ({"configuration": {"steps": 100, "rate": 0.1}}, "config.rate: absent there, 0.1 here"),
    ({"configuration": {}}, "config.steps: 100 there, absent here"),
    ({"configuration": {"steps": {"critic": 1}}}, "config.steps: 100 there, {'critic': 1} here"),
    ({"experiment": "base/other"}, "experiment: base/toy there, base/other here"),
    ({"fingerprint": "beef"}, "data fingerprint: 'f00d' there, 'beef' here"),
])
def test_another_run_is_refused_and_the_difference_named(tmp_path, changes, difference):
    open_toy(tmp_path, fingerprint="f00d").close()
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(UserError, match="holds another run") as refusal:
        open_toy(tmp_path, **changes)
    assert difference in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert (tmp_path / "manifest.json").read_bytes() == before
    open_toy(tmp_path).close()


def test_long_differences_are_cut(tmp_path):
    open_toy(tmp_path, configuration={f"option{i}": i for i in range(30)}).close()
    with pytest.raises(UserError, match="and 20 more"):
        open_toy(tmp_path, configuration={f"option{i}": -i - 1 for i in range(30)})


def test_second_process_is_refused_until_the_first_ends_even_by_kill(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, cwd=ROOT, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"in use by process {holder.pid} on "):
            open_toy(tmp_path, configuration={"steps": 1})
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with open_toy(tmp_path, configuration={"steps": 1}) as opened:
            assert opened.resumed
    finally:
        holder.kill()
        holder.communicate()


def test_lock_holds_within_a_process_and_ends_with_close(tmp_path):
    first = open_toy(tmp_path)
    with pytest.raises(UserError, match=f"process {os.getpid()}"):
        open_toy(tmp_path)
    first.close()
    first.close()
    open_toy(tmp_path).close()


def test_refusal_leaves_the_folder_unlocked(tmp_path):
    open_toy(tmp_path).close()
    with pytest.raises(UserError):
        open_toy(tmp_path, configuration={})
    open_toy(tmp_path).close()


def test_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("text")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="a file; name a folder"):
            open_toy(place)
    assert (tmp_path / "file").read_text() == "text"


def test_folder_without_a_run_is_not_continued(tmp_path):
    for place in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(UserError, match="holds no run"):
            open_toy(place, create=False)
        with pytest.raises(UserError, match="holds no run"):
            workdir.read_manifest(place)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"experiment": 1}', "\x00"])
def test_damaged_manifest_is_named(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        open_toy(tmp_path)


def test_small_disk_is_one_line_and_spares_the_old_file(small_disk, fill):
    workdir.write_json(small_disk / "value.json", {"old": 1})
    fill(small_disk)
    with pytest.raises(UserError, match=r"cannot write .*value\.json: No space left on device"):
        workdir.write_json(small_disk / "value.json", list(range(10_000)))
    assert json.loads((small_disk / "value.json").read_text()) == {"old": 1}
    with pytest.raises(UserError, match="No space left on device"):
        open_toy(small_disk / "run")
    (small_disk / "large").unlink()
    with open_toy(small_disk / "run") as opened:
        assert not opened.resumed
    assert sorted(os.listdir(small_disk)) == ["run", "value.json"]


def test_json_is_strict(tmp_path):
    value = {"nan": math.nan, "infinite": [np.float32(np.inf), 1.5], "number": np.int64(3),
             "flag": np.bool_(True), "array": np.array([[1.0, np.nan]]), "device": jax.numpy.arange(2),
             1: None, "text": "é"}
    workdir.write_json(tmp_path / "value.json", value)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    read = json.loads((tmp_path / "value.json").read_text(), parse_constant=refuse)
    assert read == {"nan": None, "infinite": [None, 1.5], "number": 3, "flag": True, "array": [[1.0, None]],
                    "device": [0, 1], "1": None, "text": "é"}
    with pytest.raises(TypeError, match="no form in JSON"):
        workdir.write_json(tmp_path / "value.json", {"function": print})
    assert os.listdir(tmp_path) == ["value.json"]


def test_replaced_file_is_always_whole(tmp_path):
    """A process that writes one file again and again is killed; the file is one of its values, whole."""
    script = ("import sys; from medgan_jax.training.workdir import write_json\n"
              "i = 0\n"
              "while True:\n    write_json(sys.argv[1], [i] * 20000); i += 1\n    print(i, flush=True)")
    path = tmp_path / "value.json"
    writer = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, cwd=ROOT)
    writer.stdout.readline()
    for _ in range(20):
        value = json.loads(path.read_text())
        assert value == [value[0]] * 20000
    writer.kill()
    writer.communicate()
    value = json.loads(path.read_text())
    assert value == [value[0]] * 20000
