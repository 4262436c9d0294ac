"""Curves, grids and the progress display."""

import io
import json
import math
import re

import numpy as np
import pytest
import rich.console
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from medgan_jax.errors import UserError
from medgan_jax.training import writers


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def events(folder):
    """The events of all TensorBoard files, by the format: length, checksum, content, checksum."""
    found = []
    for path in sorted((folder / "tensorboard").iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content = path.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def test_curves_are_written_at_once_and_forget_what_lies_beyond(tmp_path):
    first = writers.CurveWriter(tmp_path, resume_step=0)
    for step in range(1, 6):
        first.write(step, {"loss": step / 2, "bad": math.nan})
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5]
    assert lines(tmp_path)[3] == {"step": 4, "loss": 2.0, "bad": None}
    scalars = [event for event in events(tmp_path) if event.summary.value]
    assert [event.step for event in scalars] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert scalars[6].summary.value[0].tag == "loss" and scalars[6].summary.value[0].simple_value == 2
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    second = writers.CurveWriter(tmp_path, resume_step=3)
    second.write(4, {"loss": 9.0})
    second.close()
    first.close()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(1, 0.5), (2, 1), (3, 1.5), (4, 9)]
    starts = [event.step for event in events(tmp_path) if event.HasField("session_log")]
    assert starts == [1, 4]


def test_places_that_cannot_be_written_are_one_line(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match=r"cannot (write|read) .*metrics.jsonl"):
        writers.CurveWriter(tmp_path, resume_step=0)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tensorboard").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*tensorboard: "):
        writers.CurveWriter(tmp_path / "other", resume_step=0)
    (tmp_path / "samples").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*grid.png"):
        writers.write_grid(
            tmp_path / "samples" / "grid.png", {"a": np.zeros((1, 4, 4, 1))}, value_range=(0, 1)
        )


def test_a_full_disk_is_one_line_and_closing_is_quiet(small_disk, fill):
    curves = writers.CurveWriter(small_disk, resume_step=0)
    curves.write(1, {"loss": 1.0})
    fill(small_disk)
    with pytest.raises(UserError, match=r"cannot write .*: No space left on device"):
        for step in range(2, 2000):
            curves.write(step, {"loss": 1.0})
    curves.close()


def test_grids_show_values_between_black_and_white(tmp_path):
    ramp = np.linspace(-1, 1, 8, dtype=np.float32)[None, None, :, None] * np.ones((2, 8, 1, 1), np.float32)
    complex_image = np.concatenate([ramp * 0 + 3, ramp * 0 + 4], -1)
    volume = np.stack([ramp * 0 - 1, ramp * 0, ramp * 0 + 1], axis=1)
    images = {"ramp": ramp, "two_channels": complex_image, "volume": volume, "colour": np.repeat(ramp, 3, -1)}
    path = tmp_path / "new" / "grid.png"
    writers.write_grid(path, images, value_range=(-1, 1), ranges={"two_channels": (0, 10)}, cell=64)
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (18 + 2 * 68 - 4, 4 * 68 - 4, 3)
    at = lambda column, x: sheet[18 + 32, column * 68 + x].tolist()  # noqa: E731
    assert at(0, 1) == [0, 0, 0] and at(0, 62) == [255] * 3
    assert at(1, 30) == [128] * 3  # |3 + 4i| of 0 to 10
    assert at(2, 30) == [128] * 3  # the middle slice
    assert at(3, 62) == [255] * 3
    bad = np.full((1, 4, 4, 1), np.nan, np.float32)
    writers.write_grid(path, {"bad": bad}, value_range=(0, 0))


def test_points_of_the_plane_are_drawn_in_one_picture(tmp_path):
    points = np.array([[-0.5, 0.5], [0.5, 0.5], [np.nan, 0], [9, 9]], np.float32)
    path = tmp_path / "points.png"
    writers.write_grid(path, {"points": points, "image": np.ones((4, 8, 8, 1))}, value_range=(-1, 1), cell=64)
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (18 + 64, 2 * 68 - 4, 3)
    dark = np.argwhere(sheet[18:, :64, 0] < 200)
    # Two marks a quarter of the side from the top, left and right of the middle.
    assert np.allclose(np.unique(dark[:, 0]).mean(), 15.75, atol=1)
    assert dark[:, 1].min() < 17 and dark[:, 1].max() > 46


def display(total=10, start=0):
    text = io.StringIO()
    console = rich.console.Console(file=text, width=300)
    return writers.ProgressDisplay(total, start, 4, enabled=True, console=console), text


def test_rates_begin_after_the_first_step_and_leave_out_pauses(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(writers.time, "perf_counter", lambda: now[0])
    shown, text = display(total=30, start=10)
    now[0] += 60  # compiling
    shown.begin(11)
    assert shown.show(11, 0.0, {"G/loss": 1.5, "G/part": 2.0}) == {}
    now[0] += 2
    with shown.pause():
        now[0] += 50  # evaluating
    speeds = shown.show(15, 0.5, {"G/loss": 1.0})
    assert speeds == {"speed/images_per_second": 8.0, "speed/waiting_for_data": 0.25}
    said = text.getvalue()
    assert "step 11/30  G/loss 1.5  \n" in said and "G/part" not in said
    assert re.search(r"step 15/30  G/loss 1  8.0 images/s, 25 % waiting, 8 s left", said)
    shown.say("[bold]as it is[/bold]")
    assert "[bold]as it is[/bold]" in text.getvalue()
    shown.close()


def test_means_count_only_steps_that_were_played():
    steps = [
        {"D/loss": np.array([1.0, 2.0]), "G/loss": np.array([0.0, 6.0]), "G/played": np.array([0.0, 1.0])},
        {"D/loss": np.array([3.0, 4.0]), "G/loss": np.array([5.0, 8.0]), "G/played": np.array([1.0, 1.0])},
    ]
    assert writers.mean_terms(steps, 0) == {"D/loss": 2.0, "G/loss": 5.0, "G/played": 0.5}
    assert writers.mean_terms(steps, 1) == {"D/loss": 3.0, "G/loss": 7.0, "G/played": 1.0}
    assert writers.mean_terms(steps[:1], 0) == {"D/loss": 1.0, "G/played": 0.0}
    assert writers.mean_terms([{"D/loss": np.float32(4)}], 0) == {"D/loss": 4.0}


def test_numbers_for_json():
    assert [writers.to_json_number(value) for value in (np.float32(0.5), math.nan, math.inf)] == [
        0.5,
        None,
        None,
    ]
