"""A real browser opens the site from the disk: no errors, no requests, search, keyboard, phone, contrast."""

import base64
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import time

import pytest

from medgan_jax.review import catalogue

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PAGES = (
    "index.html",
    "review.html",
    "methods/dagan.html",
    "methods/wgan_gp.html",
    "methods/refinegan.html",
    "tables/table12.html",
    "benchmarks/reconstruction-tiny.html",
    "audits/dagan-0.html",
)
# Where a contrast is too low: text beside the colour behind it (WCAG 2.2, 1.4.3).
CONTRAST = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const parse = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = value => value <= 10.31 ? value / 3294.6 : ((value / 255 + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map(linear)
    .reduce((sum, v, n) => sum + v * [.2126, .7152, .0722][n], 0);
  const behind = (element, isDrawing) => {
    for (let e = element; e; e = e.parentElement) {
      const box = isDrawing && e.matches("g, svg") ? e.querySelector(":scope > rect") : null;
      const colour = parse(box ? getComputedStyle(box).fill : getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const poor = [];
  let seen = 0;
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.matches("title, desc, script, option")) continue;
    const style = getComputedStyle(element), isDrawing = element instanceof SVGElement;
    const front = light(parse(isDrawing ? style.fill : style.color));
    const back = light(behind(element, isDrawing));
    const ratio = (Math.max(front, back) + .05) / (Math.min(front, back) + .05);
    seen += 1;
    if (ratio < 4.5) poor.push(element.outerHTML.slice(0, 90) + " " + ratio.toFixed(2));
  }
  return {seen, poor: [...new Set(poor)]};
})()
"""


class Browser:
    """Chromium over its debugging pipe: commands out, replies and events in."""

    def __init__(self, binary: str, profile: pathlib.Path):
        read, self._out = os.pipe()
        self._in, write = os.pipe()
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--remote-debugging-pipe",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-extensions",
            "--hide-scrollbars",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        shell = ["bash", "-c", f'exec "$@" 3<&{read} 4>&{write}', "bash", binary, *options]
        self.process = subprocess.Popen(
            shell, pass_fds=(read, write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(read)
        os.close(write)
        os.set_blocking(self._in, False)
        self.events, self._buffer, self._number, self._session = [], b"", 0, None
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self(f"{domain}.enable")

    def _receive(self, deadline):
        while b"\0" not in self._buffer:
            if time.monotonic() > deadline:
                raise TimeoutError("the browser does not answer")
            try:
                self._buffer += os.read(self._in, 1 << 20)
            except BlockingIOError:
                time.sleep(0.005)
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def __call__(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        return self._until(lambda reply: reply.get("id") == self._number)["result"]

    def _until(self, wanted, seconds=60):
        deadline = time.monotonic() + seconds
        while True:
            message = self._receive(deadline)
            if wanted(message):
                assert "error" not in message, message
                return message
            self.events.append(message)

    def open(self, address):
        """Goes there and waits for the page and what it loads."""
        # Another fragment of the same page loads nothing; every page is opened from an empty one.
        for each in ("about:blank", address):
            self.events.clear()
            self("Page.navigate", url=each)
            self.wait_for(f"document.readyState === 'complete' && location.href === {json.dumps(each)}")

    def wait_for(self, expression, seconds=30):
        """Until it is true; between two pages nothing can be asked."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(AssertionError):
                if self.evaluate(expression):
                    return
            time.sleep(0.02)
        raise TimeoutError(expression)

    def evaluate(self, expression):
        """The value of a piece of JavaScript."""
        reply = self("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def press(self, key, text=""):
        """A real key."""
        codes = {"Tab": 9, "Enter": 13}
        common = {"key": key, "code": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper()))}
        self("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self("Input.dispatchKeyEvent", type="keyUp", **common)

    def screen(self, width, height, *, phone=False, dark=False):
        """Size of the window, and which colours are wanted."""
        self(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path):
        """What is seen, as a PNG file."""
        path.write_bytes(base64.b64decode(self("Page.captureScreenshot")["data"]))

    def close(self):
        self.process.terminate()
        self.process.wait(20)
        os.close(self._in)
        os.close(self._out)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    if binary is None:
        pytest.skip("the site is opened in Chromium, which is not installed")
    browser = Browser(binary, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(autouse=True)
def desktop(browser):
    browser.screen(1280, 900)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_loads_from_the_disk_without_errors_and_without_a_network(browser, site, page):
    browser.open((site / page).as_uri())
    assert browser.evaluate("document.styleSheets.length") == 1
    requested = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert requested and all(url.startswith(("file:", "data:", "about:")) for url in requested)
    said = [
        event
        for event in browser.events
        if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    ]
    failed = [event for event in browser.events if event["method"] == "Network.loadingFailed"]
    assert said == [] and failed == []


def shown(browser):
    return browser.evaluate(
        "[...document.querySelectorAll('#rows tbody tr')].filter(row => row.checkVisibility())"
        ".map(row => row.querySelector('a').getAttribute('href'))"
    )


def choose(browser, name, value):
    browser.evaluate(f"""(() => {{ const field = document.getElementById("{name}");
      field[field.type === "checkbox" ? "checked" : "value"] = {json.dumps(value)};
      field.dispatchEvent(new Event("input", {{bubbles: true}})); }})()""")


def test_search_and_filters(browser, site, all_subjects):
    browser.open((site / "index.html").as_uri())
    assert len(shown(browser)) == len(all_subjects) == 97
    choose(browser, "search", "Dealiasing")
    assert "methods/deep_dealiasing.html" in shown(browser) and len(shown(browser)) < 5
    choose(browser, "search", "")
    choose(browser, "filter-application", "reconstruction")
    expected = [each for each in all_subjects if each.entry.application == "reconstruction"]
    assert len(shown(browser)) == len(expected)
    choose(browser, "filter-table", "12")
    assert len(shown(browser)) == 4
    assert browser.evaluate("document.getElementById('count').textContent") == "4 of 97 rows"
    choose(browser, "filter-measured", True)
    assert shown(browser) == [
        f"methods/{each.entry.id}.html" for each in expected if each.entry.table == 12 and each.measured
    ]
    used = {base for each in expected if each.entry.table == 12 for base in each.entry.base_models}
    choose(browser, "filter-base", next(base.id for base in catalogue.base_models() if base.id not in used))
    assert shown(browser) == [] and browser.evaluate("document.getElementById('nothing').checkVisibility()")
    browser.evaluate("document.querySelector('#filters button').click()")
    time.sleep(0.1)
    assert len(shown(browser)) == 97
    choose(browser, "filter-implemented", True)
    assert len(shown(browser)) == sum(each.entry.implemented for each in all_subjects)


def test_the_keyboard_reaches_the_search_and_a_method(browser, site):
    browser.open((site / "index.html").as_uri())
    browser.press("/", "/")
    assert browser.evaluate("document.activeElement.id") == "search"
    browser.open((site / "index.html").as_uri())
    passed = []
    for _ in range(60):
        browser.press("Tab")
        passed.append(
            browser.evaluate("document.activeElement.id || document.activeElement.getAttribute('href')")
        )
        seen = browser.evaluate(
            "(style => style.outlineStyle + style.outlineWidth)(getComputedStyle(document.activeElement))"
        )
        assert seen not in ("none0px", "none") and not seen.startswith("none")
        if passed[-1] == "search":
            for sign in "refinegan":
                browser.press(sign, sign)
        if str(passed[-1]).startswith("methods/"):
            break
    assert passed[0] == "#content" and "search" in passed
    assert passed[-1].startswith("methods/") and len(shown(browser)) < 5
    browser.press("Enter", "\r")
    browser.wait_for("location.pathname.includes('methods/')")
    assert browser.evaluate("location.pathname").endswith(passed[-1])


def test_a_link_to_a_branch_of_the_tree_opens_it(browser, site):
    browser.open((site / "index.html").as_uri() + "#tree-reconstruction")
    assert browser.evaluate("document.getElementById('tree-reconstruction').open") is True


@pytest.mark.parametrize("page", PAGES)
def test_a_phone_scrolls_down_alone(browser, site, page):
    browser.screen(360, 740, phone=True)
    browser.open((site / page).as_uri())
    assert browser.evaluate("window.innerWidth") == 360
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    # What is wider scrolls by itself, and can be reached by keyboard.
    reachable = "[...document.querySelectorAll('.scroll')].every(e => e.tabIndex === 0 && e.ariaLabel)"
    assert browser.evaluate(reachable)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out(browser, site, dark):
    browser.screen(1280, 900, dark=dark)
    for page in PAGES:
        browser.open((site / page).as_uri())
        browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        found = browser.evaluate(CONTRAST)
        assert found["seen"] > 20 and found["poor"] == [], page


def test_without_the_script_everything_can_be_read(browser, site):
    browser("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open((site / "index.html").as_uri())
        assert len(shown(browser)) == 97
        assert browser.evaluate("document.getElementById('filters').checkVisibility()") is False
    finally:
        browser("Emulation.setScriptExecutionDisabled", value=False)
