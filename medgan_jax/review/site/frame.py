"""What every page of the site has: head, navigation, footer, and links that work from any page."""

from typing import Any

from medgan_jax.review.site.markup import Markup, file_name, tag

TITLE = "GANs for medical images: the living review"


def link(words: Any, target: str, root: str) -> Markup:
    """A link to a page of the site; `root` leads from the present page to the site's folder."""
    return tag("a", words, href=f"{root}{target}")


def method_file(identifier: str) -> str:
    """Page of a row."""
    return f"methods/{file_name(identifier)}.html"


def table_file(name: str) -> str:
    """Page of a table, by the name that `reproduce` takes."""
    return f"tables/{file_name(name)}.html"


def page(title: str, content: Any, *, root: str, description: str, script: bool = False) -> str:
    """A whole page as text. script: whether it needs the site's script."""
    full = title if title == TITLE else f"{title} · {TITLE}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="description", content=description),
        tag("title", full),
        tag("link", rel="icon", href="data:,"),
        tag("link", rel="stylesheet", href=f"{root}assets/style.css"),
        tag("script", src=f"{root}assets/script.js", defer=True) if script else "",
    )
    navigation = tag(
        "nav",
        tag("a", "medgan_jax", tag("span", " living review"), href=f"{root}index.html", class_="brand"),
        tag(
            "ul",
            [
                tag("li", link(words, target, root))
                for words, target in (
                    ("Tree", "index.html#tree"),
                    ("Tables", "index.html#tables"),
                    ("Methods", "index.html#methods"),
                    ("The review", "review.html"),
                )
            ],
        ),
        aria_label="Site",
    )
    body = tag(
        "body",
        tag("a", "Skip to the content", href="#content", class_="skip"),
        tag("header", navigation),
        tag("main", content, id="content"),
        tag("footer", tag("p", _footer())),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _footer() -> list:
    made = [
        "Made by ",
        tag("code", "python -m medgan_jax report"),
        " from the catalogue, the experiments and their records. ",
    ]
    return [made, "Research code, not a medical device; values on phantoms say nothing about patients."]


def section(heading: str, *content: Any, id: str) -> Markup:
    """A section with a heading that can be linked to."""
    return tag(
        "section", tag("h2", heading, id=f"{id}-heading"), content, id=id, aria_labelledby=f"{id}-heading"
    )


def badge(words: str, kind: str) -> Markup:
    """A short state in words; kind: `yes`, `no` or `warn`."""
    return tag("span", words, class_=f"badge {kind}")
