"""Checkpoints under donation, damage, full disks, kills, other devices and several processes."""

import functools
import json
import os
import pathlib
import pickle
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from medgan_jax.errors import UserError
from medgan_jax.training import checkpoints
from medgan_jax.training.checkpoints import Checkpoints, checksum, export_weights, import_weights

ROOT = pathlib.Path(__file__).resolve().parents[2]


def over(*names_and_sizes):
    """A mesh over the first devices, for example over('data', 8)."""
    names, sizes = names_and_sizes[::2], names_and_sizes[1::2]
    devices = np.array(jax.devices()[: int(np.prod(sizes))]).reshape(sizes)
    return jax.sharding.Mesh(devices, names)


def full_state(mesh):
    """Every kind of leaf and container that a run's state may hold, on a mesh with the axis 'data'."""
    optimizer = optax.chain(optax.clip(1.0), optax.adam(1e-3))
    layer = {"kernel": jnp.arange(12.0).reshape(3, 4), "bias": jnp.full(4, 1.5, jnp.bfloat16)}
    params = {"G": layer, "none": {}}
    state = {
        "params": params,
        "optimizer": optimizer.init(params),
        "key": jax.random.key(3, impl="rbg"),
        "keys": jax.device_put(jax.random.split(jax.random.key(4), 8), NamedSharding(mesh, P("data"))),
        "rows": jax.device_put(jnp.arange(32.0).reshape(16, 2) / 7, NamedSharding(mesh, P("data"))),
        "flag": jnp.array(True),
        "count": jnp.uint32(2**32 - 1),
        "nothing": jnp.zeros((0, 3)),
        "pool": np.arange(6, dtype=np.int64) - 2**40,
        "host": (np.float64(1) / 3, np.zeros((0,), np.int8), np.ones(3, jnp.bfloat16), 5, 2.5, True),
        "empty": ((), [], {}, None, optax.EmptyState()),
    }
    scattered = {"keys", "rows"}
    replicated = NamedSharding(mesh, P())
    return {name: each if name in scattered else jax.tree.map(
        lambda x: jax.device_put(x, replicated) if isinstance(x, jax.Array) else x, each)
        for name, each in state.items()}


def placed(state, sharding):
    """A template of the state with every device array on `sharding`."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
                        if isinstance(x, jax.Array) else x, state)


def plain_bits(x):
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    return np.asarray(x)


def assert_same_bits(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True):
        assert isinstance(b, jax.Array) if isinstance(a, jax.Array) else type(a) is type(b), path
        assert getattr(a, "dtype", None) == getattr(b, "dtype", None), path
        assert plain_bits(a).shape == plain_bits(b).shape, path
        assert plain_bits(a).tobytes() == plain_bits(b).tobytes(), path


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def store(tmp_path, warnings):
    opened = Checkpoints(tmp_path / "checkpoints", schema=1, warn=warnings.append)
    yield opened
    opened.close()


def small(value=0.0):
    return {"w": jnp.full((5, 3), value, jnp.float32), "step": jnp.int32(value)}


def folders(tmp_path, kind="last"):
    folder = tmp_path / "checkpoints" / ("best" if kind == "best" else "")
    return sorted(path.name for path in folder.iterdir() if path.name != "best")


def test_every_leaf_returns_bit_for_bit_on_other_devices(store):
    eight = over("data", 8)
    state = full_state(eight)
    store.save(7, state, {"loss": float("nan"), "note": "seven"})
    one = SingleDeviceSharding(jax.devices()[3])
    restored, metadata = store.restore(placed(state, one))
    assert metadata == {"loss": None, "note": "seven"}
    assert_same_bits(state, restored)
    assert all(x.sharding == one for x in jax.tree.leaves(restored) if isinstance(x, jax.Array))

    two = NamedSharding(over("data", 2, "space", 4), P())
    restored, _ = store.restore(placed(state, two))
    assert_same_bits(state, restored)
    assert restored["rows"].sharding.is_equivalent_to(two, 2)

    store.save(8, restored, {})
    restored, _ = store.restore(state)
    assert_same_bits(state, restored)
    assert restored["rows"].sharding == state["rows"].sharding
    assert jax.random.bits(restored["key"]) == jax.random.bits(state["key"])


def test_template_without_shardings(store):
    state = small(2.0)
    store.save(2, state, {})
    restored, _ = store.restore(jax.eval_shape(lambda: state))
    assert_same_bits(state, restored)


@pytest.mark.parametrize("devices", [1, 8])
def test_training_on_with_donated_state_does_not_change_the_save(store, devices):
    sharding = NamedSharding(over("data", devices), P())
    scattered = NamedSharding(over("data", devices), P("data"))
    state = {"params": jax.device_put(jnp.linspace(0, 1, 2**21), sharding),
             "moments": jax.device_put(jnp.linspace(1, 2, 2**21), scattered),
             "key": jax.device_put(jax.random.key(0), sharding), "pool": np.zeros(2**20)}

    @functools.partial(jax.jit, donate_argnums=0)
    def step(s):
        return {"params": s["params"] * 1.0001 + 1, "moments": s["moments"] * 1.0001 + 1,
                "key": jax.random.split(s["key"])[0]}

    on_device = {name: state[name] for name in ("params", "moments", "key")}
    for number in range(3):
        before = jax.tree.map(lambda x: plain_bits(x).copy(), {**on_device, "pool": state["pool"]})
        store.save(number, {**on_device, "pool": state["pool"]}, {})
        state["pool"] += 1
        for _ in range(4):
            on_device = step(on_device)
        jax.block_until_ready(on_device)
        restored, _ = store.restore({**on_device, "pool": state["pool"]})
        for name, bits in before.items():
            assert plain_bits(restored[name]).tobytes() == bits.tobytes(), (number, name)


def test_arrays_may_be_deleted_at_once(store):
    state = {"w": jnp.arange(2.0**20)}
    store.save(1, state, {})
    state["w"].delete()
    restored, _ = store.restore(placed({"w": jnp.zeros(2**20)}, SingleDeviceSharding(jax.devices()[0])))
    np.testing.assert_array_equal(restored["w"], np.arange(2.0**20, dtype=np.float32))


def test_keeps_the_newest_and_the_best(store, tmp_path):
    for step in range(1, 6):
        store.save(step, small(step), {"at": step})
        if step in (2, 3):
            store.save(step, small(step), {"best at": step}, kind="best")
    store.wait()
    assert store.steps() == [4, 5]
    assert folders(tmp_path) == ["00000004", "00000005"]
    assert folders(tmp_path, "best") == ["00000003"]
    assert store.metadata() == {"at": 5}
    assert store.metadata(step=4) == {"at": 4}
    assert store.metadata("best") == {"best at": 3}
    best, _ = store.restore(small(), kind="best")
    assert_same_bits(best, small(3))
    four, metadata = store.restore(small(), step=4)
    assert_same_bits(four, small(4))
    assert metadata == {"at": 4}


def test_saving_a_step_again_replaces_it(store, tmp_path):
    store.save(3, small(1), {"try": 1})
    store.save(3, small(2), {"try": 2})
    store.wait()
    assert folders(tmp_path) == ["00000003"]
    restored, metadata = store.restore(small())
    assert metadata == {"try": 2}
    assert_same_bits(restored, small(2))


def test_kill_between_the_two_renames_of_a_replacement(store, tmp_path):
    store.save(3, small(1), {"try": 1})
    store.wait()
    here = tmp_path / "checkpoints" / "00000003"
    here.rename(here.with_name("00000003.replaced"))
    assert store.restore(small())[1] == {"try": 1}
    assert store.steps() == [3]
    store.save(3, small(2), {"try": 2})
    assert store.restore(small())[1] == {"try": 2}
    shutil.copytree(here, here.with_name("00000003.replaced"))
    store.save(3, small(3), {"try": 3})
    assert store.restore(small())[1] == {"try": 3}
    assert folders(tmp_path) == ["00000003"]


def test_nothing_saved_yet(store, warnings):
    assert store.restore(small()) is None
    assert store.metadata() is None
    assert store.steps() == []
    assert warnings == []
    store.save(1, small(), {})
    assert store.restore(small(), kind="best") is None
    assert store.restore(small(), step=9) is None


def flip(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def test_one_flipped_bit_in_any_file_is_caught(store, tmp_path, warnings):
    """For every file of a checkpoint, also those of hashes and metadata; the one before it is taken
    instead."""
    rng = random.Random(0)
    store.save(1, small(1), {"at": 1})
    store.save(2, small(2), {"at": 2})
    store.wait()
    newest = tmp_path / "checkpoints" / "00000002"
    files = [path for path in newest.rglob("*") if path.is_file() and path.stat().st_size]
    assert len(files) > 8
    for path in files:
        original = path.read_bytes()
        for _ in range(4):
            flip(path, rng)
            reader = Checkpoints(tmp_path / "checkpoints", schema=1, warn=warnings.append)
            restored, metadata = reader.restore(small())
            assert metadata == {"at": 1}, path
            assert_same_bits(restored, small(1))
            assert len(warnings) == 1
            assert "00000002" in warnings[0] and "\n" not in warnings[0]
            warnings.clear()
            path.write_bytes(original)
    assert store.restore(small())[1] == {"at": 2}


@pytest.mark.parametrize(("damage", "said"), [
    (lambda files: files[0].unlink(), "is missing"),
    (lambda files: files[0].write_bytes(files[0].read_bytes()[:-1]), "corrupted"),
    (lambda files: (files[0].parent / "extra").write_text("x"), "does not list"),
])
def test_missing_truncated_and_added_files_are_caught(store, tmp_path, warnings, damage, said):
    store.save(1, small(1), {"at": 1})
    store.save(2, small(2), {"at": 2})
    store.wait()
    damage(sorted((tmp_path / "checkpoints" / "00000002" / "state").rglob("manifest.ocdbt")))
    assert store.restore(small())[1] == {"at": 1}
    assert said in warnings[0]


def test_damaged_checkpoints_do_not_crowd_out_good_ones(store, tmp_path, warnings):
    rng = random.Random(1)
    for step in (1, 2):
        store.save(step, small(step), {"at": step})
    store.wait()
    flip(tmp_path / "checkpoints" / "00000002" / "metadata.json", rng)
    assert store.restore(small())[1] == {"at": 1}
    store.save(3, small(3), {"at": 3})
    store.wait()
    assert store.steps() == [1, 3]
    store.save(2, small(2), {"at": 2})
    store.wait()
    assert store.restore(small(), step=2)[1] == {"at": 2}


def test_only_damaged_checkpoints_is_an_error_not_a_fresh_start(store, tmp_path, warnings):
    store.save(1, small(1), {})
    store.wait()
    flip(next((tmp_path / "checkpoints" / "00000001" / "state" / "d").iterdir()), random.Random(2))
    with pytest.raises(UserError, match="none of the 1 checkpoints"):
        store.restore(small())
    assert len(warnings) == 1
    assert store.metadata() == {}


def test_what_is_no_checkpoint_is_named_and_left_alone(store, tmp_path, warnings):
    store.save(5, small(5), {})
    store.wait()
    directory = tmp_path / "checkpoints"
    for name in ("123", "00000999", "99999999999"):
        (directory / name).mkdir()
        (directory / name / "notes.txt").write_text("mine")
    (directory / "00000777").write_text("a file")
    unfinished = directory / "00000006.unfinished.orbax-checkpoint-tmp"
    shutil.copytree(directory / "00000005", unfinished)
    shutil.copytree(directory / "00000005", directory / "00000007.unfinished")
    assert_same_bits(store.restore(small())[0], small(5))
    assert store.steps() == [5]
    said = "\n".join(warnings)
    assert len(warnings) == 6
    for name in ("/123:", "/00000999:", "/99999999999:", "/00000777:", "6.unfinished", "7.unfinished"):
        assert name in said
    store.save(6, small(6), {})
    store.wait()
    assert folders(tmp_path) == ["00000005", "00000006", "00000777", "00000999", "123", "99999999999"]
    with pytest.raises(UserError, match="00000999 is in the way"):
        store.save(999, small(), {})
    assert (directory / "00000999" / "notes.txt").read_text() == "mine"


def test_state_of_another_shape_is_refused_with_the_leaves_named(store):
    store.save(1, {"w": jnp.zeros((3, 3)), "old": jnp.zeros(2), "n": jnp.int32(1), "same": jnp.zeros(1)}, {})
    template = {"w": jnp.zeros((3, 4)), "new": jnp.zeros(2), "n": jnp.float32(1), "same": jnp.zeros(1)}
    with pytest.raises(UserError) as refusal:
        store.restore(template)
    message = str(refusal.value)
    assert "does not fit" in message and "4 leaves differ" in message
    for line in ("w: saved float32[3, 3], wanted float32[3, 4]", "n: saved int32[], wanted float32[]",
                 "old: saved float32[2], wanted nothing", "new: saved nothing, wanted float32[2]"):
        assert line in message
    assert "same" not in message
    with pytest.raises(UserError, match="and 20 more"):
        store.restore({f"layer{i}": jnp.zeros(1) for i in range(26)})


def test_half_precision_is_not_cast(store):
    store.save(1, {"w": jnp.zeros(3, jnp.bfloat16)}, {})
    with pytest.raises(UserError, match=r"w: saved bfloat16\[3\], wanted float32\[3\]"):
        store.restore({"w": jnp.zeros(3)})


def test_other_schema_is_refused(store, tmp_path):
    store.save(1, small(), {})
    store.wait()
    later = Checkpoints(tmp_path / "checkpoints", schema=2, warn=print)
    for read in (lambda: later.restore(small()), later.metadata):
        with pytest.raises(UserError, match=r"schema 1, .* reads schema 2"):
            read()


def test_what_cannot_be_saved_is_a_programming_error(store):
    with pytest.raises(ValueError, match="'name' is a str"):
        store.save(1, {"name": "text", "w": jnp.zeros(1)}, {})
    with pytest.raises(ValueError, match="without a single number"):
        store.save(1, {"w": jnp.zeros((0,))}, {})
    with pytest.raises(ValueError, match="two leaves have the name 'a/b'"):
        store.save(1, {"a/b": jnp.zeros(1), "a": {"b": jnp.zeros(1)}}, {})
    with pytest.raises(TypeError, match="no form in JSON"):
        store.save(1, small(), {"f": print})
    with pytest.raises(ValueError, match="step"):
        store.save(-1, small(), {})


def test_full_disk_is_one_line_and_spares_what_is_there(small_disk, warnings):
    store = Checkpoints(small_disk / "checkpoints", schema=1, warn=warnings.append)
    noise = np.random.default_rng(0).standard_normal
    large = {"w": jnp.asarray(noise(10**6, np.float32))}
    store.save(1, {"w": large["w"][:100]}, {})
    store.save(2, large, {})
    with pytest.raises(UserError, match=r"00000002 could not be written: No space left on device") as failure:
        store.wait()
    assert "\n" not in str(failure.value)
    assert os.listdir(small_disk / "checkpoints") == ["00000001"]
    store.save(3, large, {})
    with pytest.raises(UserError, match="No space left on device"):
        store.save(4, {"w": large["w"][:100]}, {})
    store.save(4, {"w": large["w"][:100]}, {})
    store.wait()
    assert store.steps() == [1, 4]
    assert_same_bits(store.restore({"w": jnp.zeros(100)})[0], {"w": large["w"][:100]})
    store.save(5, large, {})
    with pytest.raises(UserError, match="No space left on device"):
        store.close()


def test_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("x")
    store = Checkpoints(tmp_path / "file", schema=1, warn=print)
    with pytest.raises(UserError, match="could not be written: "):
        store.save(1, small(), {})
    with pytest.raises(UserError, match="cannot read the checkpoints"):
        store.restore(small())


def test_hashes_are_those_of_the_standard_tool(store, tmp_path):
    if shutil.which("sha256sum") is None:
        pytest.skip("there is no sha256sum on this machine")
    store.save(1, small(), {})
    store.wait()
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], check=True,
                   cwd=tmp_path / "checkpoints" / "00000001")


TRAIN = """
import sys, time
import jax, jax.numpy as jnp, numpy as np
from medgan_jax.training import checkpoints
directory, last, slow = sys.argv[1], int(sys.argv[2]), sys.argv[3]
seal = checkpoints._seal
def slow_seal(folder, description):
    seal(folder, description)
    if description["step"] == int(slow):
        print("sealed", flush=True)
        time.sleep(60)
checkpoints._seal = slow_seal
store = checkpoints.Checkpoints(directory, schema=1, warn=lambda line: print("warning", line, flush=True))
state = {"w": jax.random.normal(jax.random.key(0), (2000, 500)), "step": jnp.int32(0)}
advance = jax.jit(lambda s: {"w": jnp.sin(s["w"] * 1.7 + s["step"]), "step": s["step"] + 1}, donate_argnums=0)
found = store.restore(state)
state = found[0] if found else state
print("start", int(state["step"]), flush=True)
while int(state["step"]) < last:
    state = advance(state)
    print("save", int(state["step"]), flush=True)
    store.save(int(state["step"]), state, {})
store.close()
np.save(sys.argv[4], np.asarray(state["w"]), allow_pickle=False)
"""


def train(tmp_path, last, *, slow=-1, name="run"):
    arguments = [str(tmp_path / name), str(last), str(slow), str(tmp_path / f"{name}.npy")]
    command = [sys.executable, "-c", TRAIN, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True)


def wait_for(process, line):
    for each in process.stdout:
        if each.strip() == line:
            return
    raise AssertionError(f"the process ended without {line!r}")


def test_killed_at_any_time_the_run_continues_to_the_same_bits(tmp_path):
    rng = random.Random(3)
    whole = train(tmp_path, 20, name="whole")
    reached = 0
    for kill in range(3):
        process = train(tmp_path, 20, slow=6 if kill == 1 else -1)
        try:
            if kill == 1:
                wait_for(process, "sealed")
            else:
                wait_for(process, f"save {reached + 3}")
                time.sleep(rng.uniform(0, 0.06))
            process.send_signal(signal.SIGKILL)
        finally:
            process.kill()
            process.communicate()
        store = Checkpoints(tmp_path / "run", schema=1, warn=print)
        template = {"w": jnp.zeros((2000, 500)), "step": jnp.int32(0)}
        state, _ = store.restore(template)
        assert int(state["step"]) >= reached
        if kill == 1:
            assert int(state["step"]) == 5
        reached = int(state["step"])
    final = train(tmp_path, 20)
    output = final.communicate()[0]
    assert f"start {reached}" in output
    assert final.returncode == 0
    whole.communicate()
    assert (tmp_path / "run.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert sorted(os.listdir(tmp_path / "run")) == ["00000019", "00000020"]


PROCESS = """
import errno, os, sys
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax, numpy as np
index, port, directory = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(f"localhost:{port}", 2, index)
from jax.sharding import NamedSharding, PartitionSpec as P
from medgan_jax.errors import UserError
from medgan_jax.training import checkpoints
from medgan_jax.training.checkpoints import Checkpoints
from medgan_jax.training.workdir import open_workdir
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
def place(array, spec):
    return jax.make_array_from_callback(array.shape, NamedSharding(mesh, spec), lambda i: array[i])
rows = np.arange(64, dtype=np.float32).reshape(8, 8)
state = {"rows": place(rows, P("data")), "all": place(rows * 2, P()), "host": np.arange(3)}
with open_workdir(directory, experiment="toy", configuration={}) as opened:
    said = []
    store = Checkpoints(opened.path / "checkpoints", schema=1, warn=said.append)
    assert store.restore(state) is None
    store.save(1, state, {"at": 1})
    store.save(2, state, {"at": 2})
    store.wait()
    assert store.steps() == [1, 2], store.steps()
    if index == 0:
        with open(opened.path / "checkpoints" / "00000002" / "metadata.json", "ab") as file:
            file.write(b" ")
    template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), {"rows": rows, "all": rows})
    template = {**state, "all": template["all"]}
    restored, metadata = store.restore(template)
    assert metadata == {"at": 1}
    assert len(said) == (1 if index == 0 else 0), said
    for shard in restored["rows"].addressable_shards:
        np.testing.assert_array_equal(shard.data, rows[shard.index])
    assert restored["rows"].sharding == state["rows"].sharding
    np.testing.assert_array_equal(restored["all"].addressable_shards[0].data, rows * 2)
    try:
        store.restore({"rows": state["rows"]})
    except UserError as error:
        print("refused", "all: saved float32[8, 8], wanted nothing" in str(error))
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    checkpoints._seal = full
    store.save(3, state, {})
    try:
        store.wait()
    except UserError as error:
        print("refused", "No space left" in str(error) and ("process 0: " in str(error)) == (index == 1))
    store.close()
try:
    open_workdir(directory, experiment="other", configuration={})
except UserError as error:
    print("refused", "experiment: toy there, other here" in str(error))
"""


def test_two_processes_write_one_checkpoint_that_one_process_reads(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(index), port, str(tmp_path)], cwd=ROOT,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for index in range(2)]
    for process in processes:
        output, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
        # The library under it prints, too, and its lines may break.
        assert [line for line in output.splitlines() if line.startswith("refused")] == ["refused True"] * 3
    store = Checkpoints(tmp_path / "checkpoints", schema=1, warn=[].append)
    rows = np.arange(64, dtype=np.float32).reshape(8, 8)
    template = {"rows": jnp.asarray(rows), "all": jnp.asarray(rows), "host": np.arange(3)}
    restored, _ = store.restore(template)
    assert_same_bits({**template, "all": jnp.asarray(rows * 2)}, restored)


def weights():
    return {"encoder": {"kernel": jnp.arange(6.0).reshape(2, 3), "scale": jnp.ones(3, jnp.bfloat16)},
            "steps": jnp.int32(7), "mask": np.array([True, False]), "nothing": np.zeros((0, 2))}


def test_weights_file_returns_bit_for_bit(tmp_path):
    path = tmp_path / "weights.safetensors"
    reported = export_weights(path, weights())
    assert reported == checksum(path)
    read = import_weights(path)
    assert jax.tree.structure(read) == jax.tree.structure(weights())
    for a, b in zip(jax.tree.leaves(weights()), jax.tree.leaves(read), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert np.asarray(a).tobytes() == b.tobytes()


def test_weights_file_of_another_program(tmp_path):
    import safetensors.numpy

    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file({"layer/kernel": np.ones((2, 2), np.float16)}, path)
    read = import_weights(path)
    np.testing.assert_array_equal(read["layer"]["kernel"], np.ones((2, 2), np.float16))
    safetensors.numpy.save_file({"layer/kernel": np.ones(1), "layer": np.ones(1)}, path)
    with pytest.raises(UserError, match="both an array and a folder"):
        import_weights(path)


def test_damaged_weights_files_are_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    for read in (import_weights, checksum):
        with pytest.raises(UserError, match=r"cannot read .*weights\.safetensors: No such file"):
            read(path)
    with pytest.raises(UserError, match="cannot write"):
        export_weights(tmp_path / "missing" / "weights.safetensors", weights())
    export_weights(path, weights())
    content = path.read_bytes()
    refused = 0
    for length in (0, 5, 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"weights\.safetensors is truncated"):
            import_weights(path)
    for position in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[position] ^= 4
        path.write_bytes(flipped)
        # A flip in the note of the hash itself leaves the arrays as they were.
        try:
            assert_same_bits(jax.tree.map(np.asarray, weights()), import_weights(path))
        except UserError as error:
            assert "weights.safetensors" in str(error)
            refused += 1
    assert refused > len(content) / 7 * 0.9


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_nothing_in_a_file_is_executed(store, tmp_path):
    store.save(1, small(), {})
    store.wait()
    marker = tmp_path / "executed"
    poison = pickle.dumps(Touch(marker))
    (tmp_path / "weights").write_bytes(poison)
    with pytest.raises(UserError):
        import_weights(tmp_path / "weights")
    folder = tmp_path / "checkpoints" / "00000001"
    description = json.loads((folder / "metadata.json").read_text())
    for path in [path for path in folder.rglob("*") if path.is_file() and path.name not in checkpoints.SUMS]:
        if path.name != checkpoints.METADATA:
            path.write_bytes(poison)
    checkpoints._seal(folder, description)
    with pytest.raises(UserError, match="cannot be loaded"):
        store.restore(small())
    assert not marker.exists()
