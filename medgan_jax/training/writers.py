"""What a run writes beside its checkpoints: JSON lines, TensorBoard curves, image grids, a progress display."""

import contextlib
import json
import math
import pathlib
import time
from collections.abc import Mapping, Sequence

import numpy as np
import rich.console
import rich.progress
from PIL import Image, ImageDraw, ImageFont
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from medgan_jax.errors import UserError
from medgan_jax.training import workdir

METRICS = "metrics.jsonl"


def to_json_number(value) -> float | None:
    """A float that JSON can hold: NaN and infinities become null."""
    number = float(value)
    return number if math.isfinite(number) else None


@contextlib.contextmanager
def writing(path: pathlib.Path):
    """Turns an error of the file system into one line that names `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {workdir.reason(error)}; the checkpoints are untouched, mend that and start again"
        ) from error


class CurveWriter:
    """Appends scalars to `metrics.jsonl` and TensorBoard; forgets what lies beyond the step that a run resumes at.

    Both are written at once and without a thread, so that a full disk is one UserError at the step where it happens.
    """

    def __init__(self, directory: pathlib.Path, *, resume_step: int):
        self.path = directory / METRICS
        self._board_path = directory / "tensorboard"
        with writing(self.path):
            self._keep_until(resume_step)
            self._file = self.path.open("a")
        with writing(self._board_path):
            self._board_path.mkdir(parents=True, exist_ok=True)
            # The name holds the time in seconds; the step keeps two quick starts apart.
            self._board = EventsWriter(str(self._board_path / "events"), f".{resume_step}.{time.time_ns()}")
            self._add(Event(step=resume_step + 1, session_log=SessionLog(status=SessionLog.START)))

    def _keep_until(self, step: int) -> None:
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text().splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError, TypeError):
                continue  # a line cut short when the process was killed
        workdir.write_bytes(self.path, "".join(line + "\n" for line in kept).encode())

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """One line with `step` and all scalars."""
        line = {"step": step, **{name: to_json_number(value) for name, value in scalars.items()}}
        with writing(self.path):
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        with writing(self._board_path):
            for name, value in scalars.items():
                self._add(Event(step=step, summary=summary.scalar(name, float(value))))
            self._board.flush()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._board.write_event(event)

    def close(self) -> None:
        """Closes both files. What could not be written has been reported by `write` already."""
        for file in (self._file, self._board):
            with contextlib.suppress(OSError):
                file.close()


def as_slice(image: np.ndarray) -> np.ndarray:
    """The image itself `(H, W, C)`, or the middle slice of a volume `(D, H, W, C)`."""
    return image[image.shape[0] // 2] if image.ndim == 4 else image


def to_bytes(image: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """An image `(H, W, C)` as `(H, W, 3)` uint8; `value_range` maps to black and white. Two channels show the norm."""
    low, high = value_range
    image = np.asarray(image, np.float32)
    if image.shape[-1] == 2:
        image = np.sqrt((image**2).sum(-1, keepdims=True))
    channels = image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)
    scaled = (np.nan_to_num(channels) - low) / max(high - low, 1e-12)
    return (np.clip(scaled, 0, 1) * 255).round().astype(np.uint8)


def plot_points(points: np.ndarray, value_range: tuple[float, float], side: int) -> np.ndarray:
    """Points `(B, 2)` of the plane as one picture `(side, side, 3)`, uint8; `value_range` is left and right, and up."""
    low, high = value_range
    places = (np.asarray(points, np.float64) - low) / max(high - low, 1e-12)
    columns, rows = places[:, 0] * (side - 1), (1 - places[:, 1]) * (side - 1)
    inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)  # NaN is not
    ink = np.zeros((side, side))
    np.add.at(ink, (rows[inside].astype(int), columns[inside].astype(int)), 1.0)
    spread = ink.copy()
    for axis in (0, 1):
        spread += sum(np.roll(ink, step, axis) for step in (-1, 1))
    shade = (255 * 0.6**spread).astype(np.uint8)
    return np.stack([shade, shade, np.maximum(shade, 120)], axis=-1)


def write_grid(
    path: pathlib.Path,
    images: Mapping[str, np.ndarray],
    *,
    value_range: tuple[float, float],
    ranges: Mapping[str, tuple[float, float]] | None = None,
    rows: int = 4,
    cell: int = 192,
) -> None:
    """A PNG with one row a case and one titled column a name.

    images: name -> `(B, H, W, C)`, `(B, D, H, W, C)`, or points `(B, 2)`, which are drawn in one picture. ranges:
    value ranges of single columns.
    """
    title, gap = 18, 4
    flat = [name for name, column in images.items() if np.ndim(column) == 2]
    drawn = {name: plot_points(images[name], (ranges or {}).get(name, value_range), cell)[None] for name in flat}
    images, ranges = {**images, **drawn}, {**(ranges or {}), **dict.fromkeys(flat, (0, 255))}
    names = list(images)
    count = min(rows, min(len(column) for column in images.values()))
    sheet = Image.new("RGB", (len(names) * (cell + gap) - gap, title + count * (cell + gap) - gap), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for column, name in enumerate(names):
        left = column * (cell + gap)
        draw.text((left + 2, 2), name.replace("_", " "), fill="black", font=font)
        for row in range(count):
            picture = to_bytes(as_slice(np.asarray(images[name][row])), ranges.get(name, value_range))
            scale = cell / max(picture.shape[:2])
            size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
            resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
            sheet.paste(Image.fromarray(picture).resize(size, resampling), (left, title + row * (cell + gap)))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)


def say(line: str) -> None:
    """A line on the standard error, as it is."""
    rich.console.Console(stderr=True).print(line, highlight=False, markup=False, soft_wrap=True)


class ProgressDisplay:
    """Steps, images per second, time spent waiting for data and time left; without a terminal, a line now and then."""

    def __init__(self, total: int, start: int, images_per_step: int, *, enabled: bool, console=None):
        self.console = console or rich.console.Console(stderr=True)
        self.images_per_step, self.total, self.enabled = images_per_step, total, enabled
        self.begin(start)
        self._bar = None
        if enabled and self.console.is_terminal:
            columns = (
                rich.progress.TextColumn("{task.description}"),
                rich.progress.BarColumn(),
                rich.progress.MofNCompleteColumn(),
                rich.progress.TextColumn("{task.fields[rate]}"),
                rich.progress.TimeRemainingColumn(),
            )
            self._bar = rich.progress.Progress(*columns, console=self.console)
            self._task = self._bar.add_task("training", total=total, completed=start, rate="")
            self._bar.start()

    def begin(self, step: int) -> None:
        """Starts the clock after `step`, the first one, which compiles."""
        self._first, self._began, self._paused = step, time.perf_counter(), 0.0

    @contextlib.contextmanager
    def pause(self):
        """Stops the clock: evaluations and saves are no part of the speed of training."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - start

    def show(self, step: int, waited: float, terms: Mapping[str, float]) -> dict[str, float]:
        """Updates the display; returns the speeds to log, none before a step has been timed.

        waited: seconds spent waiting for data since `begin`.
        """
        done = step - self._first
        seconds = max(time.perf_counter() - self._began - self._paused, 1e-9)
        speeds, words = {}, []
        if done > 0:
            images, waiting = done / seconds * self.images_per_step, min(waited / seconds, 1.0)
            speeds = {"speed/images_per_second": images, "speed/waiting_for_data": waiting}
            words = [f"{images:.1f} images/s", f"{100 * waiting:.0f} % waiting"]
        if not self.enabled:
            return speeds
        if self._bar is not None:
            self._bar.update(self._task, completed=step, rate=", ".join(words))
        else:
            losses = [f"{name} {value:.4g}" for name, value in terms.items() if name.endswith("/loss")]
            if done > 0:
                words.append(f"{(self.total - step) * seconds / done:.0f} s left")
            self.say("  ".join([f"step {step}/{self.total}", *losses, ", ".join(words)]))
        return speeds

    def say(self, line: str) -> None:
        """A line above the bar."""
        console = self._bar.console if self._bar is not None else self.console
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def mean_terms(pending: Sequence[Mapping[str, np.ndarray]], lane: int) -> dict[str, float]:
    """Mean over steps of each term of one lane; phases that were skipped count only the steps they played in."""
    means = {}
    for name in pending[0]:
        values = np.array([np.ravel(terms[name])[lane] for terms in pending], np.float64)
        played = name.rsplit("/", 1)[0] + "/played"
        if played in pending[0] and not name.endswith("/played"):
            weights = np.array([np.ravel(terms[played])[lane] for terms in pending])
            if weights.sum() == 0:
                continue
            values = values[weights > 0]
        means[name] = float(values.mean())
    return means
