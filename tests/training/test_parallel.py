"""The same game on one device, on eight, by `pmap`, over a mesh with `space`, and for several seeds."""

import contextlib
import re

import games
import jax
import numpy as np
import pytest

from medgan_jax.configuration import MeshOptions, RunOptions
from medgan_jax.data.pipeline import train_batches
from medgan_jax.errors import UserError
from medgan_jax.training.parallel import lanes_for, make_executor, make_layout

STEPS = 5


def options(**changes):
    return RunOptions(workdir="unused", **changes)


def executor_for(stage, devices, lanes=1, **changes):
    layout = make_layout(options(**changes), devices=jax.devices()[:devices])
    return make_executor(stage, layout, options(**changes), lanes=lanes)


def play(executor, stage, seeds=(0,), steps=STEPS):
    """The canonical states of all lanes after `steps` steps, on the host."""
    streams = [train_batches(stage.data, seed=seed, repeats=stage.repeats, threads=0) for seed in seeds]
    batches = [[next(stream) for stream in streams] for _ in range(steps)]
    states = [executor.initialise(batch, seed) for batch, seed in zip(batches[0], seeds, strict=True)]
    state = executor.enter(states)
    for number, batch in enumerate(batches):
        with compiles_nothing() if number else contextlib.nullcontext():
            state, terms = executor.step(state, executor.put(batch), seeds)
    assert all(np.isfinite(value).all() for value in jax.device_get(terms).values())
    return jax.device_get(executor.leave(state))


@contextlib.contextmanager
def compiles_nothing():
    """Fails if JAX compiles, or fetches from its cache, any program meanwhile."""
    compiled = []

    def note(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    assert not compiled


def assert_close(one, other, relative):
    """Every value within `relative`, or 1e-7 where values such as young biases are near zero."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=relative, atol=1e-7)


@pytest.fixture(scope="module")
def plain():
    stage = games.plain(games.Config(game="plain"))
    return stage, play(executor_for(stage, 1), stage)[0]


@pytest.mark.parametrize(
    "changes",
    [{}, {"parallel": "pmap"}, {"mesh": MeshOptions(data=2, space=4)}],
    ids=["eight", "pmap", "two by four"],
)
def test_devices_give_the_same_parameters_and_compile_once(plain, changes):
    stage, expected = plain
    executor = executor_for(stage, 8, **changes)
    (state,) = play(executor, stage)
    assert_close(state, expected, 1e-6)


def test_every_feature_runs_by_pmap_with_one_compilation():
    stage = games.everything(games.Config())
    (state,) = play(executor_for(stage, 4, parallel="pmap"), stage, steps=3)
    assert int(state.memory["pool"].count) == 6
    assert float(state.memory["scale"]) != 1


@pytest.mark.parametrize("lanes", [2, 8])
def test_seeds_side_by_side_equal_single_runs(plain, lanes):
    stage, expected = plain
    together = play(executor_for(stage, 8, lanes=lanes), stage, range(lanes))
    assert_close(together[0], expected, 1e-6)
    alone = play(executor_for(stage, 1), stage, (lanes - 1,))[0]
    assert_close(together[-1], alone, 1e-6)
    kernels = [state.params["G"]["first"]["kernel"] for state in together[:2]]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01


def test_no_collective_crosses_seeds_and_no_convolution_is_grouped():
    stage = games.everything(games.Config())
    executor = executor_for(stage, 8, lanes=4)
    batch = next(train_batches(stage.data, seed=0, repeats=stage.repeats, threads=0))
    states = executor.enter([executor.initialise(batch, seed) for seed in range(4)])
    text = executor.lower(states, executor.put([batch] * 4), range(4)).compile().as_text()
    collectives = re.findall(
        r"(?:all-reduce|all-gather|reduce-scatter|all-to-all)[^\n]*replica_groups=(\S+)", text
    )
    assert collectives and "collective-permute" not in text
    lane = {device: number // 2 for number, device in enumerate(range(8))}
    for found in collectives:
        for group in replica_groups(found):
            assert len({lane[device] for device in group}) == 1, found
    for groups in re.findall(r"(?:feature|batch)_group_count=(\d+)", text):
        assert groups == "1"
    assert " convolution(" in text or " dot(" in text


def replica_groups(text):
    """Groups of devices from HLO's two spellings, `{{0,1},{2,3}}` and `[4,2]<=[8]` (with a transpose)."""
    listed = re.match(r"\{(\{.*?\})\}", text)
    if listed:
        return [
            [int(device) for device in group.split(",")] for group in re.findall(r"\{([\d,]+)\}", listed[0])
        ]
    shape, source, order = re.match(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text).groups()
    numbers = lambda words: [int(word) for word in words.split(",")]  # noqa: E731
    devices = np.arange(8).reshape(numbers(source))
    return (devices.transpose(numbers(order)) if order else devices).reshape(numbers(shape)).tolist()


def test_lanes_are_taken_where_devices_divide():
    eight, one = (make_layout(options(), devices=jax.devices()[:count]) for count in (8, 1))
    assert [lanes_for(options(seeds=count), eight) for count in (1, 2, 3, 4, 8)] == [1, 2, 1, 4, 8]
    assert lanes_for(options(seeds=4), one) == 1
    with pytest.raises(UserError, match="one seed at a time"):
        lanes_for(options(seeds=4, parallel="pmap"), eight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mesh": MeshOptions(data=16)}, "needs 16 devices; there are 8"),
        ({"mesh": MeshOptions(data=4, space=4)}, "needs 16 devices"),
        ({"parallel": "pmap", "mesh": MeshOptions(space=2)}, "--parallel jit with --mesh.space"),
    ],
)
def test_meshes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        make_layout(options(**changes))


def test_what_the_mesh_does_not_divide_is_one_line():
    stage = games.plain(games.Config(batch_size=6))
    batch = next(train_batches(stage.data, seed=0, threads=0))
    with pytest.raises(UserError, match=r"4 devices do not divide a batch of 6: .*--mesh.data"):
        executor_for(stage, 4).put([batch])
    with pytest.raises(UserError, match="4 devices do not divide a batch of 6"):
        executor_for(stage, 4, parallel="pmap").put([batch])
    with pytest.raises(UserError, match=r"--mesh.space 5 does not divide images of 8 rows"):
        executor_for(stage, 5, mesh=MeshOptions(space=5)).put([batch])


def test_batches_are_split_by_rows_and_by_space():
    layout = make_layout(options(mesh=MeshOptions(data=2, space=4)))
    images = np.arange(2 * 4 * 8 * 3, dtype=np.float32).reshape(2, 4, 8, 3, 1)
    placed = layout.put({"image": images, "label": np.arange(8).reshape(2, 4)}, stacked=True)
    assert {shard.data.shape for shard in placed["image"].addressable_shards} == {(2, 2, 2, 3, 1)}
    assert {shard.data.shape for shard in placed["label"].addressable_shards} == {(2, 2)}
    np.testing.assert_array_equal(placed["image"], images)
