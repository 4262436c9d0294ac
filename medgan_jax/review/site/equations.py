"""Equations of docstrings, written in plain signs, with the field's own: Greek letters, indices, powers."""

import inspect
import re

from medgan_jax.review.site.markup import Markup, escaped, tag

GREEK = dict(
    alpha="α",
    beta="β",
    gamma="γ",
    delta="δ",
    epsilon="ε",
    eta="η",
    theta="θ",
    kappa="κ",
    lambda_="λ",
    mu="μ",
    nu="ν",
    xi="ξ",
    pi="π",
    rho="ρ",
    sigma="σ",
    tau="τ",
    phi="φ",
    chi="χ",
    psi="ψ",
    omega="ω",
    Lambda="Λ",
    Delta="Δ",
    Sigma="Σ",
    Phi="Φ",
    Omega="Ω",
    grad="∇",
    infinity="∞",
)
GREEK["lambda"] = GREEK.pop("lambda_")
SIGNS = {
    "||": "‖",
    "<=": "≤",
    ">=": "≥",
    "!=": "≠",
    "->": "→",
    "<-": "←",
    "+-": "±",
    "-": "−",
    "*": "·",
    "...": "…",
}
COMBINED = {"hat": "\u0302", "tilde": "\u0303", "bar": "\u0304"}
ENDINGS = {"~": "tilde", "^": "hat"}
TOKEN = re.compile(
    r"(?P<word>[A-Za-z][A-Za-z0-9]*(?:~(?![A-Za-z])|\^(?![A-Za-z0-9(.*-]))?)(?P<index>(?:_(?:\([^()]*\)|[A-Za-z0-9*]+))*)"
    r"|(?P<power>\^(?:\([^()]*\)|-?[A-Za-z0-9.*]+))"
    r"|(?P<below>_(?:\{[^{}]*\}|[A-Za-z0-9*]+))"
    r"|(?P<sign>\|\||<=|>=|!=|->|<-|\+-|\.\.\.|-|\*)"
    r"|(?P<other>.)",
    re.DOTALL,
)


def blocks(docstring: str) -> list[tuple[str, str]]:
    """A docstring's paragraphs, in order, as ("prose" or "equations" or "command", text)."""
    found = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        lines = paragraph.splitlines()
        if not all(line.startswith("    ") for line in lines):
            found.append(("prose", " ".join(line.strip() for line in lines)))
            continue
        kind = "command" if lines[0].strip().startswith(("python ", "$ ")) else "equations"
        found.append((kind, inspect.cleandoc("\n".join(lines))))
    return found


def typeset(text: str) -> Markup:
    """`L_G = lambda E|x_hat - x|^2` with indices, powers, Greek letters and accents."""
    return Markup("".join(_token(match) for match in TOKEN.finditer(text)))


def _token(match: re.Match) -> Markup:
    if word := match["word"]:
        return Markup(_word(word, match["index"]))
    if power := match["power"]:
        return tag("sup", typeset(_bare(power[1:])))
    if below := match["below"]:
        return tag("sub", typeset(below[1:].strip("{}")))
    if sign := match["sign"]:
        return escaped(SIGNS[sign])
    return escaped(match["other"])


def _word(word: str, index: str) -> str:
    names = [_bare(name) for name in re.findall(r"_(\([^()]*\)|[A-Za-z0-9*]+)", index)]
    accents = "".join(COMBINED[name] for name in names if name in COMBINED)
    accents += COMBINED[ENDINGS[word[-1]]] if word[-1] in ENDINGS else ""
    word = word.rstrip("~^")
    shown = (
        tag("i", GREEK.get(word, word) + accents)
        if len(word) == 1 or word in GREEK
        else escaped(word + accents)
    )
    below = [name for name in names if name not in COMBINED]
    return shown + (
        tag("sub", [[", ", typeset(name)] if n else typeset(name) for n, name in enumerate(below)])
        if below
        else ""
    )


def _bare(text: str) -> str:
    """Without the brackets that hold an index or a power together."""
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text
