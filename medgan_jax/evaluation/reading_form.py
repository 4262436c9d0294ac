"""A blinded reading on one HTML page that needs no network: made from images, filled in by a reader, scored
here.

`write_form` shuffles the cases and shows them one at a time under a running number; neither the page nor its
file names say which method made an image. The key stays with the person who runs the study, in a file of its
own. The reader's answers are saved as a JSON file by the page's last button; `read_answers` joins them with
the key, and `ratings_table` arranges them for `reader_study`.
"""

import base64
import csv
import hashlib
import html
import io
import json
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from medgan_jax.errors import UserError

SCHEMA = 1


@dataclass(frozen=True)
class Question:
    """One question about every image: its short name, the words shown, and the answers as (value, words)."""

    name: str
    text: str
    answers: tuple[tuple[int, str], ...]


REAL_OR_GENERATED = Question(
    "called_real", "Is this image real or generated?", ((1, "real"), (0, "generated"))
)
FIVE_POINTS = ((1, "1 unacceptable"), (2, "2 poor"), (3, "3 fair"), (4, "4 good"), (5, "5 excellent"))
OVERALL_QUALITY = Question("overall_quality", "Overall image quality", FIVE_POINTS)
NOISE_SUPPRESSION = Question("noise_suppression", "Suppression of noise", FIVE_POINTS)
ARTEFACT_REDUCTION = Question("artefact_reduction", "Reduction of artefacts", FIVE_POINTS)


@dataclass(frozen=True)
class Reading:
    """One image to read: the image `(H, W)` or `(H, W, 1 or 3)`, the case it shows, and the method that made
    it."""

    image: np.ndarray
    case: str
    method: str


def _display(image: np.ndarray, display_range: tuple[float, float]) -> str:
    """The image as a PNG data address, through one fixed display window for all images."""
    image = np.asarray(image, float)
    image = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[-1] != 3) or not np.isfinite(image).all():
        raise UserError(
            f"an image to read must be finite and (H, W), (H, W, 1) or (H, W, 3), not {image.shape}"
        )
    low, high = display_range
    grey = np.round(255 * np.clip((image - low) / (high - low), 0, 1)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def write_form(
    folder: str | pathlib.Path,
    readings: Sequence[Reading],
    questions: Sequence[Question],
    *,
    title: str,
    display_range: tuple[float, float],
    seconds: int | None,
    seed: int,
) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes `form.html` (for the reader) and `key.csv` (not for the reader) into `folder`; returns both
    paths.

    Every image passes through the same display window, `display_range` in the images' units. `seconds` limits
    how long an image is shown (None: as long as wanted). `seed` fixes the order: give every reader another
    one. Images that differ in size betray their method, and are refused.
    """
    if not readings or not questions:
        raise UserError("a reading needs at least one image and one question")
    if not display_range[1] > display_range[0]:
        raise UserError(f"display_range must ascend, not {display_range}")
    if len({np.shape(np.squeeze(reading.image)) for reading in readings}) > 1:
        raise UserError(
            "the images differ in size, which tells the reader who made them: crop or pad them alike"
        )
    order = np.random.default_rng(seed).permutation(len(readings))
    pictures = [_display(readings[i].image, display_range) for i in order]
    fingerprint = hashlib.sha256("".join([title, *pictures]).encode()).hexdigest()[:16]
    content = {
        "schema": SCHEMA,
        "form": fingerprint,
        "title": title,
        "seconds": seconds,
        "questions": [{"name": q.name, "text": q.text, "answers": list(q.answers)} for q in questions],
        "pictures": pictures,
    }
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    form, key = folder / "form.html", folder / "key.csv"
    # "<" cannot end the script early once it is written as an escape.
    data = json.dumps(content).replace("<", "\\u003c")
    form.write_text(PAGE.replace("@TITLE@", html.escape(title)).replace("@CONTENT@", data), encoding="utf-8")
    with key.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["form", "number", "case", "method"])
        writer.writerows(
            [fingerprint, n, readings[i].case, readings[i].method] for n, i in enumerate(order, start=1)
        )
    return form, key


@dataclass(frozen=True)
class Answer:
    """One answer: who gave it, about which case and method, to which question, and how long it took in
    seconds."""

    reader: str
    case: str
    method: str
    question: str
    value: int
    seconds: float


def read_answers(path: str | pathlib.Path, key: str | pathlib.Path) -> list[Answer]:
    """The answers of one reader's file joined with the key of the same form.

    UserError for a damaged file, a key of another form, numbers that the key does not know, and repeated
    answers.
    """
    path, key = pathlib.Path(path), pathlib.Path(key)
    try:
        with key.open(newline="", encoding="utf-8") as file:
            rows = {(row["form"], int(row["number"])): row for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{key} is not the key of a reading ({error}): give the key.csv written with the form"
        ) from None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        form, reader, given = content["form"], str(content["reader"]), content["answers"]
        entries = [
            (int(a["number"]), str(a["question"]), int(a["value"]), float(a["seconds"])) for a in given
        ]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path} is not a file of answers ({error}): save it again from the form") from None
    if len({entry[:2] for entry in entries}) < len(entries):
        raise UserError(f"{path} answers a question twice")
    unknown = [number for number, *_ in entries if (form, number) not in rows]
    if unknown:
        raise UserError(f"{path} belongs to another form than {key}: image {unknown[0]} is not in its key")
    joined = ((rows[form, number], question, value, seconds) for number, question, value, seconds in entries)
    return [
        Answer(reader, row["case"], row["method"], q, value, seconds) for row, q, value, seconds in joined
    ]


def ratings_table(
    answers: Sequence[Answer], *, question: str, method: str | None = None
) -> tuple[np.ndarray, list[str], list[tuple[str, str]]]:
    """Values of one question as `(readers, images)` with NaN for gaps, the readers, and the (case, method) of
    images.

    `method` keeps the images of one method only, for its mean opinion score. For a visual Turing test an
    image is real when its method is the one that stands for real images.
    """
    chosen = [a for a in answers if a.question == question and method in (None, a.method)]
    if not chosen:
        raise UserError(f"no answer to {question!r}" + (f" about {method!r}" if method else ""))
    readers = sorted({a.reader for a in chosen})
    images = sorted({(a.case, a.method) for a in chosen})
    table = np.full((len(readers), len(images)), np.nan)
    for a in chosen:
        table[readers.index(a.reader), images.index((a.case, a.method))] = a.value
    return table, readers, images


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>@TITLE@</title>
<style>
body { background: #111; color: #ddd; font: 16px sans-serif; text-align: center; margin: 1em; }
img { image-rendering: pixelated; height: 60vh; background: #000; }
fieldset { border: 0; margin: .6em; }
label { margin: 0 .8em; }
button, input[type=text] { font-size: 1em; padding: .4em; }
</style></head><body>
<h1>@TITLE@</h1>
<div id="start"><p>Images are shown one at a time and cannot be seen again.</p>
<p><input type="text" id="reader" placeholder="Your name or number">
<button id="begin">Begin</button></p></div>
<div id="read" hidden><p id="progress"></p><img id="picture" alt=""><form id="questions"></form>
<button id="next">Next</button><p id="hint"></p></div>
<div id="end" hidden><p>Thank you. Save your answers and send the file back.</p>
<button id="save">Save answers</button></div>
<script>
"use strict";
const content = @CONTENT@;
const find = id => document.getElementById(id);
const answers = [];
let number = 0, shown = 0, reader = "", timer = null;
for (const question of content.questions) {
  const field = document.createElement("fieldset");
  const legend = document.createElement("legend");
  legend.textContent = question.text;
  field.append(legend);
  for (const [value, words] of question.answers) {
    const label = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, {type: "radio", name: question.name, value: String(value)});
    label.append(input, " " + words);
    field.append(label);
  }
  find("questions").append(field);
}
function show() {
  number += 1;
  find("questions").reset();
  find("hint").textContent = "";
  find("progress").textContent = number + " of " + content.pictures.length;
  find("picture").src = content.pictures[number - 1];
  find("picture").style.visibility = "visible";
  shown = performance.now();
  clearTimeout(timer);
  if (content.seconds !== null)
    timer = setTimeout(() => { find("picture").style.visibility = "hidden"; }, 1000 * content.seconds);
}
find("begin").onclick = () => {
  reader = find("reader").value.trim();
  if (!reader) { find("reader").focus(); return; }
  find("start").hidden = true;
  find("read").hidden = false;
  show();
};
find("next").onclick = () => {
  const given = new FormData(find("questions"));
  if (content.questions.some(question => !given.has(question.name))) {
    find("hint").textContent = "Please answer every question.";
    return;
  }
  const seconds = (performance.now() - shown) / 1000;
  for (const question of content.questions)
    answers.push({number, question: question.name, value: Number(given.get(question.name)), seconds});
  if (number < content.pictures.length) { show(); return; }
  find("read").hidden = true;
  find("end").hidden = false;
};
find("save").onclick = () => {
  const text = JSON.stringify({schema: content.schema, form: content.form, reader, answers}, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], {type: "application/json"}));
  link.download = "answers_" + reader.replace(/\\W+/g, "_") + ".json";
  link.click();
};
</script></body></html>
"""
