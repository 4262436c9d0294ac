"""Batches: what a step sees depends on seed and step alone, over resuming, repeats and hosts."""

import itertools
import threading
import time

import numpy as np
import pytest

from medgan_jax.data.pipeline import Data, Prefetch, Stream, evaluation_batches, train_batches
from medgan_jax.data.sources import ArraySource, mapped
from medgan_jax.errors import UserError


def source(count=10, name="toy"):
    images = np.arange(count, dtype=np.float32)[:, None, None, None] * np.ones((1, 4, 4, 1), np.float32)
    return ArraySource({"image": images, "number": np.arange(count)}, name=name)


def augment(record, random):
    return {**record, "image": record["image"] + random.normal(), "dice": random.random(3)}


def take(batches, count):
    return list(itertools.islice(batches, count))


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_every_epoch_holds_every_record_once_in_a_new_order():
    batches = take(train_batches(Data(Stream(source(), 5)), seed=0), 40)
    epochs = np.concatenate([batch["number"] for batch in batches]).reshape(20, 10)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(10), (20, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 20


@pytest.mark.parametrize("repeats", [1, 3])
def test_records_in_memory_come_as_those_that_threads_read(repeats):
    in_memory, read = source(), mapped(source(), lambda record: record)
    assert in_memory.in_memory and not read.in_memory
    options = {"seed": 2, "start_step": 2, "repeats": repeats, "host_index": 1, "host_count": 2}
    gathered, waited = (take(train_batches(Data(Stream(each, 4)), **options), 5) for each in (in_memory, read))
    for one, other in zip(gathered, waited, strict=True):
        assert_equal(one, other)


def test_order_is_not_biased():
    numbers = [batch["number"][0] for batch in take(train_batches(Data(Stream(source(4), 4)), seed=1), 400)]
    assert np.bincount(numbers, minlength=4).min() > 70


def test_neighbouring_seeds_share_no_order():
    orders = []
    for seed in range(3):
        batches = take(train_batches(Data(Stream(source(30), 30)), seed=seed), 3)
        orders += [tuple(batch["number"]) for batch in batches]
    assert len(set(orders)) == 9


def test_batches_are_float32_and_int32():
    stream = Stream(mapped(source(), lambda r: {**r, "wide": np.float64(1), "id": "x"}), 2, augment)
    batch = next(train_batches(Data(stream), seed=0))
    assert {name: x.dtype.name for name, x in batch.items()} == {
        "image": "float32", "number": "int32", "wide": "float32", "dice": "float32"
    }  # fmt: skip
    assert batch["image"].shape == (2, 4, 4, 1) and batch["wide"].shape == (2,)


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_resuming_continues_the_same_run(threads):
    data = Data(Stream(source(), 3, augment))
    whole = take(train_batches(data, seed=5, threads=threads), 12)
    for start in (1, 4, 11):
        for one, other in zip(
            whole[start:], train_batches(data, seed=5, start_step=start, threads=2), strict=False
        ):
            assert_equal(one, other)


def test_repeats_are_the_batches_of_a_longer_run():
    data = Data(Stream(source(), 3, augment))
    single = take(train_batches(data, seed=2), 12)
    for start in (0, 2):
        triple = next(train_batches(data, seed=2, repeats=3, start_step=start))
        assert triple["image"].shape == (3, 3, 4, 4, 1)
        for repeat in range(3):
            assert_equal({n: x[repeat] for n, x in triple.items()}, single[3 * start + repeat])


@pytest.mark.parametrize("hosts", [2, 3, 6])
def test_hosts_join_to_the_global_batch(hosts):
    data = Data(Stream(source(), 6, augment))
    options = {"seed": 3, "start_step": 7, "repeats": 2}
    whole = next(train_batches(data, **options))
    parts = [next(train_batches(data, **options, host_index=p, host_count=hosts)) for p in range(hosts)]
    assert_equal(whole, {name: np.concatenate([part[name] for part in parts], axis=1) for name in whole})


def test_augmentation_differs_between_epochs_and_rows():
    batches = take(train_batches(Data(Stream(source(4), 4, augment)), seed=0), 3)
    assert len({dice[0] for batch in batches for dice in batch["dice"].tolist()}) == 12


def test_streams_are_named_and_shuffled_apart():
    data = Data({"ct": Stream(source(10), 2, fields=("number",)), "mr": Stream(source(10), 4)})
    batches = take(train_batches(data, seed=0), 5)
    assert batches[0]["ct"].shape == (2,) and set(batches[0]["mr"]) == {"image", "number"}
    first = np.concatenate([batch["ct"] for batch in batches])
    second = np.concatenate([batch["mr"]["number"] for batch in batches])[:10]
    assert sorted(first) == sorted(second) and list(first) != list(second)
    alone = next(train_batches(Data({"ct": data.train["ct"]}), seed=0))
    np.testing.assert_array_equal(alone["ct"], batches[0]["ct"])


def test_fields_of_the_data_are_the_default():
    data = Data(Stream(source(), 2), fields=("image",))
    assert set(next(train_batches(data, seed=0))) == {"image"}


def test_evaluation_is_in_order_and_padded():
    batches = list(evaluation_batches(source(10), 4))
    assert [count for _, count in batches] == [4, 4, 2]
    numbers = [batch["number"].tolist() for batch, _ in batches]
    assert numbers == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 9, 9]]


def test_evaluation_over_hosts():
    hosts = [
        list(evaluation_batches(source(5), 4, host_index=p, host_count=2, fields=("number",))) for p in (0, 1)
    ]
    joined = [
        np.concatenate([a["number"], b["number"]]).tolist() for (a, _), (b, _) in zip(*hosts, strict=True)
    ]
    assert joined == [[0, 1, 2, 3], [4, 4, 4, 4]]
    assert [count for _, count in hosts[1]] == [4, 1]


@pytest.mark.parametrize(
    ("stream", "options", "message"),
    [
        (Stream(source(), 5), {"host_count": 2}, "batch size 5 cannot be divided over 2 hosts"),
        (Stream(source(), 0), {}, "batch size 0 is not positive"),
        (Stream(source(0), 2), {}, "'toy' holds no records"),
        (Stream(source(), 2, fields=("mask",)), {}, "has no array 'mask'; it has image, number"),
    ],
)
def test_mistakes_are_told_before_the_first_batch(stream, options, message):
    with pytest.raises(UserError, match=message):
        train_batches(Data(stream), seed=0, **options)


def test_records_of_mixed_sizes_are_named():
    ragged = mapped(source(), lambda r: {**r, "image": r["image"][: 2 + int(r["number"]) % 2]})
    with pytest.raises(UserError, match=r"'image' differs in size: .* choose an image size") as error:
        next(train_batches(Data(Stream(ragged, 10)), seed=0))
    assert "\n" not in str(error.value)


def test_an_error_in_an_augmentation_reaches_the_caller_as_it_is():
    def fail(record, random):
        raise UserError(f"cannot crop '{record['id']}'")

    with pytest.raises(UserError, match=r"^cannot crop '[0-9]'$"):
        next(train_batches(Data(Stream(source(), 2, fail)), seed=0))


def test_prefetch_keeps_order_applies_put_and_counts_waiting():
    def slow():
        for number in range(5):
            time.sleep(0.02)
            yield number

    with Prefetch(slow(), lambda number: number * 10) as prefetch:
        assert list(prefetch) == [0, 10, 20, 30, 40]
    assert prefetch.seconds_waited > 0.05
    with pytest.raises(StopIteration):
        next(prefetch)


def test_prefetch_raises_the_error_at_its_place():
    def failing():
        yield 1
        raise UserError("the second batch is bad")

    prefetch = Prefetch(failing())
    assert next(prefetch) == 1
    with pytest.raises(UserError, match="second batch"):
        next(prefetch)
    prefetch.close()


def test_prefetch_closes_an_endless_iterator():
    closed = threading.Event()

    def endless():
        try:
            yield from itertools.count()
        finally:
            closed.set()

    before = threading.active_count()
    prefetch = Prefetch(endless())
    next(prefetch)
    prefetch.close()
    prefetch.close()
    assert closed.is_set() and threading.active_count() == before


def test_prefetched_training_batches():
    data = Data(Stream(source(), 2, augment))
    with Prefetch(train_batches(data, seed=0)) as prefetch:
        ahead = take(prefetch, 6)
    for one, other in zip(ahead, train_batches(data, seed=0), strict=False):
        assert_equal(one, other)
