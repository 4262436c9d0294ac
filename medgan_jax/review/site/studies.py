"""Benchmarks and audits that result folders hold, beside tables and runs."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence

from medgan_jax.errors import UserError
from medgan_jax.review import audit_page
from medgan_jax.review.benchmark import forms
from medgan_jax.review.site.frame import link, page
from medgan_jax.review.site.markup import Markup, file_name, tag

AUDIT = "audit.json"
DEPTH = 6  # of the folders below a result folder in which audits are looked for
ROOT = "../"


@dataclasses.dataclass(frozen=True)
class Audit:
    """An audit that was found: of which experiment, in which file of the folder, and what it says."""

    id: str
    origin: str
    content: Mapping

    @property
    def title(self) -> str:
        """`Audit on phantom:head_t1_128, 32 cases`."""
        return f"Audit on {self.content['data']}, {self.content['cases']} test cases"


def benchmarks(folders: Sequence[pathlib.Path]) -> list[dict]:
    """The benchmarks in result folders or their `tables`, as the written tables read them; each name once."""
    found: dict[tuple, dict] = {}
    for folder in folders:
        for path in sorted([*folder.glob("*.json"), *folder.glob("tables/*.json")]):
            try:
                is_one = forms.is_benchmark(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError) as error:
                raise UserError(f"{path} cannot be read ({error}); delete it or make it again") from error
            if is_one:
                content = forms.read(path)
                found.setdefault((content["benchmark"], content["preset"]), content)
    return list(found.values())


def audits(folders: Sequence[pathlib.Path]) -> dict[str, list[Audit]]:
    """The audits in result folders and below them, by experiment; UserError for a file that is broken."""
    found: dict[str, list[Audit]] = {}
    for folder in folders:
        for path in sorted(each for depth in range(DEPTH) for each in folder.glob("*/" * depth + AUDIT)):
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                each = Audit(content["experiment"], path.relative_to(folder).as_posix(), content)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path} cannot be read ({error}); audit the run again") from error
            found.setdefault(each.id, []).append(each)
    return found


def audit_file(audit: Audit, number: int) -> str:
    """Page of an audit, by its number among those of the experiment."""
    return f"audits/{file_name(audit.id)}-{number}.html"


def site_audit_page(audit: Audit, back: str) -> str:
    """An audit as a page of the site; back: the page of its method."""
    head = f"{audit.content['cases']} test cases of {audit.content['data']}, from {audit.origin}."
    trail = tag("nav", tag("ol", tag("li", link(audit.id, back, ROOT)),
                           tag("li", tag("span", "Audit", aria_current="page"))),
                class_="trail", aria_label="Where this is")  # fmt: skip
    answers = Markup(audit_page.sections(audit.content))
    title = f"Audit of {audit.id}"
    return page(title, [trail, tag("h1", title), tag("p", head), answers], root=ROOT, description=audit.title)
