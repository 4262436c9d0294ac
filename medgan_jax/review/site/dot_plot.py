"""A picture of values side by side: one line each, with a dot and the bar of its interval."""

import dataclasses
from collections.abc import Sequence

from medgan_jax.review.site.markup import Markup, tag

LINE, TOP = 34, 30


@dataclasses.dataclass(frozen=True)
class Dot:
    """One line of the picture: its words, the value, the ends of its interval, and whether it is the method's."""

    words: str
    value: float
    lower: float
    upper: float
    of_method: bool


def dot_plot(heading: str, description: str, dots: Sequence[Dot], limits: tuple[float, float], *,
             width: int, margin: int = 14) -> Markup:  # fmt: skip
    """The dots between the limits, the first on top; `description` says in words what the picture shows."""
    low, high = limits
    drawn = [_line(dot, TOP + LINE * number + 21, low, (high - low) or 1.0, width, margin)
             for number, dot in enumerate(dots)]  # fmt: skip
    height = TOP + LINE * len(dots) + 4
    return tag(
        "svg",
        tag("title", f"{heading}{description}"),
        tag("text", heading, x=margin, y="18", class_="plot-title"),
        drawn,
        class_="plot",
        role="img",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        xmlns="http://www.w3.org/2000/svg",
    )


def _line(dot: Dot, y: int, low: float, span: float, width: int, margin: int) -> list[Markup]:
    def place(value):
        return f"{margin + (value - low) / span * (width - 2 * margin):.1f}"

    return [
        tag("text", dot.words, x=margin, y=y - 9, class_="plot-name"),
        tag("line", x1=margin, x2=width - margin, y1=y, y2=y, class_="plot-axis"),
        tag("line", x1=place(dot.lower), x2=place(dot.upper), y1=y, y2=y, class_="plot-bar"),
        tag("circle", cx=place(dot.value), cy=y, r="5", class_="plot-method" if dot.of_method else "plot-other"),
    ]
