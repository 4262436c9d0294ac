"""What a run writes beside its checkpoints: JSON lines, TensorBoard curves, image grids, a progress display."""

import json
import math
import pathlib
import time
from collections.abc import Mapping, Sequence

import numpy as np
import rich.console
import rich.progress
from PIL import Image, ImageDraw, ImageFont
from tensorboardX import SummaryWriter

METRICS = "metrics.jsonl"


def to_json_number(value) -> float | None:
    """A float that JSON can hold: NaN and infinities become null."""
    number = float(value)
    return number if math.isfinite(number) else None


class CurveWriter:
    """Appends scalars to `metrics.jsonl` and TensorBoard; forgets what lies beyond the step that a run resumes at."""

    def __init__(self, directory: pathlib.Path, *, resume_step: int):
        self.path = directory / METRICS
        self._keep_until(resume_step)
        self._file = self.path.open("a")
        self._board = SummaryWriter(str(directory / "tensorboard"), purge_step=resume_step + 1)

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
        self.path.write_text("".join(line + "\n" for line in kept))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """One line with `step` and all scalars."""
        line = {"step": step, **{name: to_json_number(value) for name, value in scalars.items()}}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name, value in scalars.items():
            self._board.add_scalar(name, float(value), step)

    def close(self) -> None:
        self._file.close()
        self._board.close()


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

    images: name -> `(B, H, W, C)` or `(B, D, H, W, C)`. ranges: value ranges of single columns.
    """
    title, gap = 18, 4
    names = list(images)
    count = min(rows, min(len(column) for column in images.values()))
    sheet = Image.new("RGB", (len(names) * (cell + gap) - gap, title + count * (cell + gap) - gap), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for column, name in enumerate(names):
        left = column * (cell + gap)
        draw.text((left + 2, 2), name.replace("_", " "), fill="black", font=font)
        for row in range(count):
            picture = to_bytes(as_slice(np.asarray(images[name][row])), (ranges or {}).get(name, value_range))
            scale = cell / max(picture.shape[:2])
            size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
            resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
            sheet.paste(Image.fromarray(picture).resize(size, resampling), (left, title + row * (cell + gap)))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


class ProgressDisplay:
    """Steps, images per second, time spent waiting for data and time left; one line a log interval without a terminal."""

    def __init__(self, total: int, start: int, images_per_step: int, *, enabled: bool, console=None):
        self.console = console or rich.console.Console(stderr=True)
        self.images_per_step, self.total, self.enabled = images_per_step, total, enabled
        self._first, self._began = start, time.perf_counter()
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

    def begin(self) -> None:
        """Starts the clock: called after the first step, which compiles."""
        self._first += 1
        self._began = time.perf_counter()

    def show(self, step: int, waited: float, terms: Mapping[str, float]) -> dict[str, float]:
        """Updates the display; returns the speeds to log."""
        seconds = max(time.perf_counter() - self._began, 1e-9)
        rate = max(step - self._first, 0) / seconds
        speeds = {
            "speed/images_per_second": rate * self.images_per_step,
            "speed/waiting_for_data": min(waited / seconds, 1.0),
        }
        if not self.enabled:
            return speeds
        text = f"{speeds['speed/images_per_second']:.1f} images/s, {100 * speeds['speed/waiting_for_data']:.0f} % waiting"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, rate=text)
        else:
            left = (self.total - step) / rate if rate > 0 else math.nan
            losses = "  ".join(f"{name} {value:.4g}" for name, value in terms.items() if name.endswith("/loss"))
            remaining = f"{left:.0f} s left" if math.isfinite(left) else ""
            self.console.print(f"step {step}/{self.total}  {losses}  {text}  {remaining}", highlight=False)
        return speeds

    def say(self, line: str) -> None:
        """A line above the bar."""
        (self._bar.console if self._bar is not None else self.console).print(line, highlight=False, soft_wrap=True)

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
