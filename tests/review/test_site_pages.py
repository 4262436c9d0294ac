"""The site holds every row, its links lead somewhere, its texts are harmless, and its numbers are those of
the JSON.
"""

import dataclasses
import html.parser
import itertools
import json
import pathlib
import re
import tomllib
import urllib.parse

import pytest

from medgan_jax import cli
from medgan_jax.errors import UserError
from medgan_jax.review import catalogue, records
from medgan_jax.review.benchmark import forms
from medgan_jax.review.site import build, equations, markup, measurements, method_page, studies, subjects

HOSTILE = "<script>alert('x')</script> & \"quoted\" <b>"
EMPTY = markup.VOID


class Page(html.parser.HTMLParser):
    """A page taken apart: elements with attributes, texts, links, ids, and whether its tags match."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.texts, self.open, self.values = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == [], path

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "data":
            self.values.append(float(dict(attributes)["value"]))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    @property
    def text(self):
        return " ".join(self.texts)


@pytest.fixture(scope="module")
def pages(site):
    return {path.relative_to(site).as_posix(): Page(path) for path in site.rglob("*.html")}


@pytest.fixture(scope="module")
def numbers(site):
    return {row["id"]: row for row in json.loads((site / "data.json").read_text())["rows"]}


def test_every_row_and_every_table_has_a_page(pages):
    assert {f"methods/{entry.id}.html" for entry in catalogue.entries()} <= set(pages)
    assert {f"tables/table{each.table}.html" for each in catalogue.tables()} <= set(pages)
    assert {"index.html", "review.html", "tables/base.html", "tables/text.html"} <= set(pages)


def test_every_link_leads_to_a_file_of_the_folder_and_to_a_place_in_it(site, pages):
    for name, page in pages.items():
        targets = [*page.attributes("href"), *page.attributes("src")]
        for target in (each for each in targets if not each.startswith(("http://", "https://", "data:,"))):
            path, _, place = target.partition("#")
            file = (site / name).parent / urllib.parse.unquote(path) if path else site / name
            assert file.is_file() and file.resolve().is_relative_to(site.resolve()), (name, target)
            if place:
                assert place in pages[file.resolve().relative_to(site.resolve()).as_posix()].attributes(
                    "id"
                ), (name, target)


def test_nothing_is_loaded_from_anywhere_else(site, pages):
    for page in pages.values():
        loaded = [
            attributes.get("href") for tag, attributes in page.elements if tag == "link"
        ] + page.attributes("src")
        assert not [each for each in loaded if re.match(r"(https?:)?//", each)]
    assert not re.search(r"@import|https?:|url\(", (site / "assets" / "style.css").read_text())
    assert not re.search(
        r"fetch|XMLHttpRequest|https?:|innerHTML|eval", (site / "assets" / "script.js").read_text()
    )


def test_a_page_can_be_found_ones_way_in(pages):
    for name, page in pages.items():
        tags = [tag for tag, _ in page.elements]
        assert [tags.count(each) for each in ("h1", "main", "header", "footer", "title")][:4] == [
            1,
            1,
            1,
            1,
        ], name
        assert ("html", {"lang": "en"}) in page.elements and "#content" in page.attributes("href")
        assert any(a.get("name") == "viewport" for _, a in page.elements)
        ids = page.attributes("id")
        assert len(ids) == len(set(ids)), name
        assert all(attributes.get("alt") for tag, attributes in page.elements if tag == "img")
        headings = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
        assert all(after <= before + 1 for before, after in itertools.pairwise(headings)), name
        named = set(" ".join(page.attributes("aria-labelledby")).split())
        assert named <= set(ids)
        labelled = set(page.attributes("for"))
        fields = {
            a["id"] for tag, a in page.elements if tag in ("select", "input") and a.get("type") != "checkbox"
        }
        assert fields <= labelled


def test_hostile_text_stays_text(site, pages):
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "<script>" not in text and "<b>" not in text
    for name in ("methods/refinegan.html", "methods/pix2pix.html", "methods/dagan.html", "index.html"):
        assert HOSTILE in pages[name].text, name
    assert HOSTILE in "".join(pages["methods/pix2pix.html"].texts)


def test_hostile_ids_and_addresses():
    assert markup.file_name("../x y<>") == "___x_y__"
    assert markup.external("javascript:alert(1)", "words") == "words"
    assert markup.external("https://github.com/a/b", "words").startswith('<a href="https://github.com/a/b"')
    assert str(markup.tag("p", "<", markup.Markup("<b>"), title='"<')) == '<p title="&quot;&lt;">&lt;<b></p>'


def flat(part):
    """Every number in plain values."""
    if isinstance(part, dict):
        return [
            value
            for name, each in part.items()
            if name not in ("n", "undefined", "health")
            for value in flat(each)
        ]
    if isinstance(part, list):
        return [value for each in part for value in flat(each)]
    return [part] if isinstance(part, int | float) and not isinstance(part, bool) else []


def test_numbers_of_a_method_are_those_of_the_json_that_reproduce_wrote(results, pages):
    (row,) = [
        each
        for each in json.loads((results / "tables" / "table12.json").read_text())["rows"]
        if each["id"] == "dagan"
    ]
    shown = pages["methods/dagan.html"].values
    for part in ("measured", "baseline", "twin"):
        for metric in row[part].values():
            assert metric["mean"] in shown and metric["sd"] in shown
    assert row["seconds"] in shown and row["measured"]["psnr"]["mean"] == pytest.approx(30.623456)
    text = pages["methods/dagan.html"].text
    assert "30.62" in text and "2 seeds (0, 1)" in text and "7 test cases" in text and "1,234 steps" in text
    for value in row["published"]:
        assert value["value"] in shown


def test_numbers_of_committed_records_are_shown_with_their_data(pages):
    stored = [json.loads(path.read_text()) for path in sorted(records.RECORDS.glob("*.json"))]
    assert stored
    for record in stored:
        page = pages[f"methods/{record['experiment']}.html"]
        assert {row["mean"] for row in record["metrics"].values()} <= set(page.values)
        assert record["data"]["source"] in page.text


def test_no_number_is_shown_that_is_not_in_the_json(pages, numbers, all_subjects):
    known = {float(value) for row in numbers.values() for value in flat(row)}
    counts = {float(n) for n in range(len(all_subjects) + 1)} | {179.0}
    for subject in all_subjects:
        for stage in subject.game.facts["stages"] if subject.game else ():
            counts |= {float(each["parameters"]) for each in (*stage["networks"], *stage["frozen"])}
    for name, page in pages.items():
        assert [value for value in page.values if value not in known | counts] == [], name


def test_counts_of_the_front_page(pages, all_subjects):
    found = dict(
        zip(
            ["methods", "base models", "implemented", "measured", "published values"],
            pages["index.html"].values,
            strict=False,
        )
    )
    assert found["methods"] == len(catalogue.methods()) and found["base models"] == len(
        catalogue.base_models()
    )
    assert found["implemented"] == sum(entry.implemented for entry in catalogue.entries())
    assert found["measured"] == sum(each.measured for each in all_subjects)
    assert found["published values"] == sum(len(each.reported) for each in catalogue.methods())


def test_the_tree_goes_from_application_to_loss(site):
    text = (site / "index.html").read_text()
    tree = text[text.index('class="tree"') :]
    assert tree.count('<li><a href="methods/') >= 97
    tree = tree[tree.index("Reconstruction") :]
    at = [
        tree.index(each)
        for each in (
            "Reconstruction",
            "MR ",
            "methods/adv_perceptual_refinement.html",
            "losses: Adv, feature matching",
        )
    ]
    assert at == sorted(at)


def test_a_row_that_is_not_implemented_says_so(pages):
    waiting = [entry for entry in catalogue.entries() if not entry.implemented]
    for entry in waiting:
        text = pages[f"methods/{entry.id}.html"].text
        assert "not implemented yet" in text and "Not implemented yet, so nothing is measured." in text


def test_doubts_stand_beside_what_is_printed(pages):
    for name in ("tables/table12.html", "methods/dagan.html"):
        assert "The unit of time is ambiguous" in pages[name].text


def test_a_failed_run_and_a_game_that_cannot_be_described_say_why(pages):
    assert "Seed 0 failed: " + HOSTILE in "".join(pages["methods/refinegan.html"].texts)
    assert "cannot be described" in pages["methods/pix2pix.html"].text
    assert "The game of stage game" in pages["methods/dagan.html"].text


def test_pictures_equations_unknowns_and_inconsistencies(site, pages):
    page = pages["methods/dagan.html"]
    (picture,) = [attributes for tag, attributes in page.elements if tag == "img"]
    assert (site / "methods" / picture["src"]).read_bytes().startswith(measurements.PNG)
    assert "denoised" in picture["alt"]
    assert "everything" in page.text and "ambiguous" in page.text
    assert "<i>x\u0302</i> = <i>G</i>(<i>y</i>)" in (site / "methods" / "dagan.html").read_text()


@pytest.mark.parametrize(
    ("plain", "typeset"),
    [
        ("lambda E|x_hat - x|^2", "<i>λ</i> <i>E</i>|<i>x\u0302</i> − <i>x</i>|<sup>2</sup>"),
        ("min_G max_D V(D,G)", "min<sub><i>G</i></sub> max<sub><i>D</i></sub> <i>V</i>(<i>D</i>,<i>G</i>)"),
        ("a <= b -> c +- d", "<i>a</i> ≤ <i>b</i> → <i>c</i> ± <i>d</i>"),
        ("E_{x~p}[D(x)]", "<i>E</i><sub><i>x</i>~<i>p</i></sub>[<i>D</i>(<i>x</i>)]"),
        ("I_(k+1) = 10^-4 <b>", "<i>I</i><sub><i>k</i>+1</sub> = 10<sup>−4</sup> &lt;<i>b</i>&gt;"),
        ("I~_k = x^", "<i>I\u0303</i><sub><i>k</i></sub> = <i>x\u0302</i>"),
        ("||f||_2", "‖<i>f</i>‖<sub>2</sub>"),
        ("BCE(D(x), 1)", "BCE(<i>D</i>(<i>x</i>), 1)"),
    ],
)
def test_equations(plain, typeset):
    assert equations.typeset(plain) == typeset


def test_kinds_of_image():
    found = {subjects.kinds_of_image(each.modality) for each in catalogue.methods()}
    assert subjects.kinds_of_image("MR to CT") == "MR, CT" and subjects.kinds_of_image("") == "any images"
    assert {word for each in found for word in each.split(", ")} <= set(subjects.KINDS_OF_IMAGE) | {
        "Endo-microscopy"
    }


def test_style_and_script_are_part_of_the_package():
    project = tomllib.loads((records.ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["medgan_jax.review.site"]
    assert all(any(pathlib.PurePath(name).match(pattern) for pattern in patterns) for name in build.ASSETS)


# --- benchmarks and audits ---


def test_a_benchmark_page_says_what_the_written_table_says(results, pages):
    content = forms.read(results / "tables" / "benchmark_reconstruction.json")
    page = pages["benchmarks/reconstruction-tiny.html"]
    (track,) = content["tracks"]
    assert [row["state"] for row in track["rows"]] == ["measured", "measured", "measured", "failed"]
    for row in track["rows"]:
        for lines in forms.cells(row).values():
            assert all(line == row["id"] or line in page.texts for line in lines if line != "–"), lines
    markdown = forms.markdown(content)
    for lines in (forms.cells(row)["equal updates"] for row in track["rows"]):
        assert all(line.replace("|", "\\|") in markdown for line in lines)
    for line in forms.conditions(track):
        assert line in page.texts
    assert forms.heading(content) in page.texts and "Preliminary" in page.text
    assert ("a", {"href": "../methods/dagan.html"}) in page.elements
    assert ("a", {"href": "benchmarks/reconstruction-tiny.html"}) in pages["index.html"].elements


def test_an_audit_is_linked_on_the_page_of_its_method(pages):
    assert ("a", {"href": "../audits/dagan-0.html"}) in pages["methods/dagan.html"].elements
    page = pages["audits/dagan-0.html"]
    assert "n/a: " + HOSTILE + "." in "".join(page.texts) and "0.1235" in page.text


def test_a_folder_with_a_benchmark_or_an_audit_alone_is_a_result(results, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "audit.json").write_bytes(next(results.rglob("audit.json")).read_bytes())
    (tmp_path / "two").mkdir()
    text = (results / "tables" / "benchmark_reconstruction.json").read_text()
    (tmp_path / "two" / "benchmark_reconstruction.json").write_text(text)
    assert measurements.all_measurements([tmp_path / "one", tmp_path / "two"], tmp_path / "none") == []
    (tmp_path / "two" / "benchmark_reconstruction.json").write_text(text.replace('"schema": 1', '"schema": 0'))
    with pytest.raises(UserError, match="has schema 0 and this version writes 1"):
        studies.benchmarks([tmp_path / "two"])
    (tmp_path / "one" / "audit.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read"):
        studies.audits([tmp_path / "one"])


# --- folders ---


def test_the_same_run_in_two_tables_counts_once(results, tmp_path):
    text = (results / "tables" / "table12.json").read_text()
    for name in ("table12.json", "all.json"):
        (tmp_path / name).write_text(text)
    found = measurements.all_measurements([tmp_path], tmp_path / "none")
    assert [each.id for each in found] == ["dagan", "refinegan"]


def test_work_directories_of_runs_are_results(tmp_path):
    stored = json.loads(next(iter(sorted(records.RECORDS.glob("*.json")))).read_text())
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "evaluation.json").write_text(json.dumps(stored))
    device = {"platform": "gpu", "kind": "H200", "count": 2}
    (run / "manifest.json").write_text(json.dumps({"configuration": {}, "device": device, "git": None}))
    for folder in (run, run.parent):
        (found,) = measurements.all_measurements([folder], tmp_path / "none")
        assert (found.id, found.kind, found.device) == (stored["experiment"], measurements.RUN, "2 x H200")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder.rmdir(), "is no folder"),
        (lambda folder: None, "holds neither tables"),
        (lambda folder: (folder / "table2.json").write_text("{"), "cannot be read"),
    ],
)
def test_results_that_are_none_are_one_line(tmp_path, capsys, make, words):
    folder = tmp_path / "results"
    folder.mkdir()
    make(folder)
    assert cli.main(["report", "--output", str(tmp_path / "site"), "--results", str(folder)]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_a_folder_with_other_files_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").touch()
    assert cli.main(["report", "--output", str(tmp_path)]) == 2
    assert "holds other files than a site" in capsys.readouterr().err
    assert cli.main(["report", "--output", str(tmp_path / "thesis.tex")]) == 2
    assert cli.main(["report"]) == 2 and "--output DIR" in capsys.readouterr().err


def test_a_site_is_written_anew_in_its_place(site, all_subjects, tmp_path):
    build.write(tmp_path, all_subjects[:3])
    build._check(tmp_path)
    build.write(tmp_path, all_subjects[:2])
    assert len(list((tmp_path / "methods").iterdir())) == 2
    with pytest.raises(UserError):
        build._check(tmp_path / "methods")


def test_the_command_describes_without_training(tmp_path, monkeypatch, capsys, toy_game):
    played = []
    monkeypatch.setattr(subjects, "game", lambda entry, preset: played.append((entry.id, preset)) or toy_game)
    monkeypatch.setattr(build, "is_stale", lambda entry, each: False)
    assert cli.main(["report", "--output", str(tmp_path / "site"), "--preset", "tiny"]) == 0
    done = capsys.readouterr()
    assert pathlib.Path(done.out.strip()) == tmp_path / "site" / "index.html"
    implemented = [entry.id for entry in catalogue.entries() if entry.implemented]
    assert played == [(id, "tiny") for id in implemented]
    assert f"[{len(implemented)}/{len(implemented)}] {implemented[-1]}" in done.err


def test_a_stale_record_is_marked(all_subjects, site):
    subject = next(each for each in all_subjects if each.entry.id == "dagan")
    old = dataclasses.replace(subject, stale=frozenset({subject.measurements[0].origin}))
    assert "has changed since" in method_page.method_page(old, all_subjects, {})
    assert "has changed since" not in method_page.method_page(subject, all_subjects, {})
