"""A real browser, without a network, reads the form through and saves answers that can be scored."""

import base64
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from medgan_jax.evaluation import reading_form as form

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Plays a reader: answers every question by its last choice, and shows in the page what is saved.
READER = """
<script>
URL.createObjectURL = blob => {
  blob.text().then(text => {
    const shown = document.createElement("pre");
    shown.id = "saved";
    shown.textContent = btoa(text);
    document.body.append(shown);
  });
  return "#";
};
const click = id => document.getElementById(id).click();
const visible = id => document.getElementById(id).offsetParent !== null;
document.getElementById("reader").value = "Ann";
click("begin");
while (!visible("end")) {
  const picture = document.getElementById("picture");
  if (!visible("read") || !picture.src.startsWith("data:")) throw new Error("no picture is shown");
  for (const field of document.querySelectorAll("fieldset"))
    [...field.querySelectorAll("input")].at(-1).click();
  click("next");
}
click("save");
</script></body>"""


def test_a_browser_reads_the_form_through_offline(tmp_path):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("the page is opened in Chromium, which is not installed")
    readings = [
        form.Reading(np.full((6, 8), value), f"case{i}", method)
        for i, (value, method) in enumerate([(0.0, "real"), (0.5, "dagan"), (1.0, "real")])
    ]
    questions = (form.REAL_OR_GENERATED, form.OVERALL_QUALITY)
    page, key = form.write_form(
        tmp_path, readings, questions, title="A reading", display_range=(0.0, 1.0), seconds=3, seed=0
    )
    played = tmp_path / "played.html"
    played.write_text(page.read_text(encoding="utf-8").replace("</body>", READER), encoding="utf-8")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=2000",
        "--dump-dom",
        played.as_uri(),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    saved = re.search(r'<pre id="saved">([^<]+)</pre>', result.stdout)
    assert saved, result.stderr[-2000:]
    path = tmp_path / "answers.json"
    path.write_bytes(base64.b64decode(saved.group(1)))
    answers = form.read_answers(path, key)
    assert {a.reader for a in answers} == {"Ann"} and len(answers) == 6
    assert {(a.question, a.value) for a in answers} == {("called_real", 0), ("overall_quality", 5)}
    assert {(a.case, a.method) for a in answers} == {("case0", "real"), ("case1", "dagan"), ("case2", "real")}
    assert json.loads(path.read_text())["schema"] == form.SCHEMA
