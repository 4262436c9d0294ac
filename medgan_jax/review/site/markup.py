"""HTML and SVG from Python: every text is escaped unless it was made here."""

import html
import re
from typing import Any

VOID = {"br", "col", "hr", "img", "input", "link", "meta"}


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escaped(content: Any) -> Markup:
    """Any content as HTML: markup as it is, the parts of lists and tuples joined, nothing for None."""
    if content is None:
        return Markup("")
    if isinstance(content, Markup):
        return content
    if isinstance(content, list | tuple):
        return Markup("".join(map(escaped, content)))
    return Markup(html.escape(str(content)))


def tag(element: str, *content: Any, **attributes: Any) -> Markup:
    """An element: `tag("p", "a < b", class_="note")`.

    Names end in `_` where Python has a word of that name, and `_` stands for `-`. An attribute that is None
    or False is left out; one that is True has no value.
    """
    words = []
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        words.append(f" {name}" if value is True else f' {name}="{html.escape(str(value))}"')
    start = f"<{element}{''.join(words)}>"
    return Markup(start if element in VOID else f"{start}{escaped(content)}</{element}>")


def joined(parts: list, between: str = ", ") -> Markup:
    """Parts with a text between them."""
    return Markup(escaped(between).join(map(escaped, parts)))


def file_name(identifier: str) -> str:
    """An id as the name of a file, whatever signs it has."""
    return re.sub(r"[^\w-]", "_", identifier)


def external(address: str | None, words: str) -> Markup | str:
    """A link to a web address; any other kind of address stays words."""
    is_web = address is not None and re.match(r"https?://[\w.-]+(/|$)", address)
    return tag("a", words, href=address, rel="noreferrer") if is_web else words


def table(
    headings: list, rows: list[list], *, caption: str, class_: str = "", first_is_heading: bool = True
) -> Markup:
    """A table that scrolls by itself where it is wider than the page; reachable by keyboard, so that it can
    be.
    """
    head = tag("tr", [tag("th", heading, scope="col") for heading in headings])
    body = []
    for row in rows:
        cells = [tag("td", cell) for cell in row]
        if first_is_heading and row:
            cells[0] = tag("th", row[0], scope="row")
        body.append(tag("tr", cells))
    inner = tag(
        "table",
        tag("caption", tag("span", caption)),
        tag("thead", head),
        tag("tbody", body),
        class_=class_ or None,
    )
    return scrolling(inner, caption)


def scrolling(content: Any, name: str) -> Markup:
    """A region that scrolls sideways by itself."""
    return tag("div", content, class_="scroll", role="region", aria_label=name, tabindex="0")


def definitions(facts: dict[str, Any]) -> Markup:
    """Named facts; what is empty is left out."""
    rows = [tag("div", tag("dt", name), tag("dd", words)) for name, words in facts.items() if words]
    return tag("dl", rows, class_="facts")


def items(contents: list, *, class_: str | None = None, ordered: bool = False) -> Markup:
    """A list."""
    return tag("ol" if ordered else "ul", [tag("li", each) for each in contents], class_=class_)
