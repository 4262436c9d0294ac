"""Options of a command from nested dataclasses, with help from docstrings and every mistake as one line.

tyro does the parsing. It sees a mirror of the dataclasses whose fields carry their help; the dataclasses
themselves are built afterwards, so that their own checks speak last and once.
"""

import contextlib
import dataclasses
import difflib
import inspect
import io
import re
import textwrap
import tokenize
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from medgan_jax.errors import UserError

NO_PREFIX = {"prefix": False}
_NUMBERS = {int: ("an integer", "integers"), float: ("a number", "numbers"), str: ("text", "texts")}


def parse(
    defaults: Any,
    argv: Sequence[str],
    *,
    program: str,
    description: str,
    hidden: Collection[str] = (),
    shorthands: Mapping[str, str] | None = None,
) -> Any:
    """`defaults`, a dataclass instance, with the options of `argv` put into it.

    A field that is a dataclass gives options `--field.name`; with metadata `NO_PREFIX` they are `--name`.
    hidden: options, such as `steps` or `config.data.source`, that this command does not have. shorthands:
    beginnings of options -> what they stand for. `--help` prints the help and raises SystemExit(0); any
    mistake raises UserError.
    """
    import tyro

    argv = [_expand(token, shorthands or {}) for token in argv]
    mirror = _mirror(defaults, frozenset(hidden), "")
    options = _options(mirror, "")
    if not {"-h", "--help"} & set(argv):
        _refuse_unknown(argv, options, program)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed = tyro.cli(
                type(mirror),
                args=argv,
                default=mirror,
                prog=program,
                description=description,
                use_underscores=True,
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(_explain(said.getvalue(), argv, options, program)) from None
    return _rebuild(defaults, parsed)


def value_of(argv: Sequence[str], option: str) -> str | None:
    """The last value that `argv` gives to `--option`, before any real parsing; None without one."""
    found = None
    for index, token in enumerate(argv):
        if token == option and index + 1 < len(argv):
            found = argv[index + 1]
        elif token.startswith(option + "="):
            found = token.partition("=")[2]
    return found


def require_counts(
    arguments: Any, *, positive: Sequence[str] = ("seeds",), least_zero: Sequence[str] = ("seed", "jobs")
) -> None:
    """UserError if options that count are below 1, or below 0."""
    for least, names in ((1, positive), (0, least_zero)):
        for name in names:
            if getattr(arguments, name) < least:
                raise UserError(f"--{name} is {getattr(arguments, name)}; it must be at least {least}")


def nearest(name: str, known: Collection[str]) -> str:
    """`; the nearest is ...` with the known name most like `name`; empty if none is alike."""
    same_end = [each for each in known if each.lstrip("-").split(".")[-1] == name.lstrip("-").split(".")[-1]]
    close = same_end or difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; the nearest is {close[0]}" if close else ""


def first_paragraph(cls: type) -> str:
    """The first paragraph of a class's own docstring, on one line."""
    own = cls.__dict__.get("__doc__") or ""
    # The docstring that dataclasses make is the signature.
    written = "" if own.startswith(f"{cls.__name__}(") else inspect.cleandoc(own)
    return " ".join(written.split("\n\n")[0].split())


def field_help(cls: type) -> dict[str, str]:
    """Help of a dataclass's fields: `name: sentence.` in its docstrings, comments beside or above them."""
    names = {field.name for field in dataclasses.fields(cls)}
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        if dataclasses.is_dataclass(each):
            found |= _comments(each, names)
            found |= _sentences(each.__dict__.get("__doc__") or "", names)
    return found


def _sentences(docstring: str, names: set[str]) -> dict[str, str]:
    text = " ".join(docstring.split())
    name = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    marker = re.compile(rf"(?:^|(?<=[.)] ))((?:{name})(?:, (?:{name}))*): ")
    parts = marker.split(text)
    return {
        name: said.strip().rstrip(".")
        for heading, said in zip(parts[1::2], parts[2::2], strict=True)
        for name in heading.split(", ")
    }


def _comments(cls: type, names: set[str]) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):
        return {}
    found, above, field = {}, [], None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        starts_line = token.line[: token.start[1]].strip() == ""
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("#: ").strip()
            if starts_line:
                above.append(text)
            elif field:
                found[field] = text
        elif token.type == tokenize.NAME and starts_line:
            field = token.string if token.string in names and ":" in token.line else None
            if field and above:
                found[field] = " ".join(above)
            above = []
        elif token.type == tokenize.NEWLINE:
            field = None
    return found


def _mirror(defaults: Any, hidden: frozenset[str], prefix: str) -> Any:
    """An instance like `defaults` of a dataclass made for tyro, whose fields carry their help."""
    import tyro

    cls = type(defaults)
    hints, helps = typing.get_type_hints(cls, include_extras=True), field_help(cls)
    fields = []
    for field in dataclasses.fields(cls):
        bare = field.metadata.get("prefix") is False
        name = prefix if bare else f"{prefix}{field.name}"
        if not field.init or name in hidden:
            continue
        value = getattr(defaults, field.name)
        if dataclasses.is_dataclass(value):
            value = _mirror(value, hidden, prefix if bare else f"{name}.")
            hint = Annotated[type(value), tyro.conf.arg(name="")] if bare else type(value)
        else:
            hint = Annotated[hints[field.name], tyro.conf.arg(help=helps.get(field.name, ""))]
        fields.append((field.name, hint, dataclasses.field(default=value, metadata=field.metadata)))
    made = dataclasses.make_dataclass(cls.__name__, fields, frozen=True)
    made.__doc__ = first_paragraph(cls) or cls.__name__
    return made()


def _rebuild(defaults: Any, parsed: Any) -> Any:
    """`defaults` with the values of its parsed mirror."""
    changes = {}
    for field in dataclasses.fields(parsed):
        before, now = getattr(defaults, field.name), getattr(parsed, field.name)
        changes[field.name] = _rebuild(before, now) if dataclasses.is_dataclass(before) else now
    return dataclasses.replace(defaults, **changes)


def _options(mirror: Any, prefix: str) -> dict[str, Any]:
    """`--option` -> type, for every option of a mirror; a switch has its `no_` form too."""
    found = {}
    for field in dataclasses.fields(mirror):
        value = getattr(mirror, field.name)
        if dataclasses.is_dataclass(value):
            inner = prefix if field.metadata.get("prefix") is False else f"{prefix}{field.name}."
            found |= _options(value, inner)
            continue
        kind = typing.get_args(field.type)[0]
        found[f"--{prefix}{field.name}"] = kind
        if kind is bool:
            found[f"--{prefix}no_{field.name}"] = kind
    return found


def _expand(token: str, shorthands: Mapping[str, str]) -> str:
    for short, full in shorthands.items():
        if token.startswith(short):
            return full + token.removeprefix(short)
    return token


def _option_name(token: str) -> str:
    """The option that a token names, in underscores: `--config.batch-size=4` is `--config.batch_size`."""
    return "--" + token.removeprefix("--").partition("=")[0].replace("-", "_")


def _refuse_unknown(argv: Sequence[str], options: Mapping[str, Any], program: str) -> None:
    for token in argv:
        name = _option_name(token)
        if token.startswith("--") and name not in options:
            hint = nearest(name, options)
            raise UserError(f"unknown option {token.partition('=')[0]}{hint}; `{program} --help` lists all")
        if token.startswith("--") and "=" in token and options[name] is bool:
            raise UserError(_switch(name, token.partition("=")[2]))


def _explain(said: str, argv: Sequence[str], options: Mapping[str, Any], program: str) -> str:
    """tyro's box of an error as one line that names the option and what it takes."""
    lines = [line.strip("│╭╮╰╯─ ") for line in said.splitlines()]
    text = " ".join(line for line in lines if line)
    mentioned = re.findall(r"--[\w.-]*\w", text.partition("For full helptext")[0])
    named = [name for name in map(_option_name, mentioned) if name in options]
    if text.startswith("Unrecognized") or not named:
        stray = _stray(text, argv)
        if stray is None:
            return text
        before = _option_name(argv[argv.index(stray) - 1]) if argv.index(stray) else ""
        if options.get(before) is bool:
            return _switch(before, stray)
        return f"unexpected argument {stray!r}; `{program} --help` lists the options"
    values = _values(argv, named[0])
    given = f"not {' '.join(values)!r}" if values else "but no value was given"
    return f"{named[0]} takes {in_words(options[named[0]])}, {given}"


def _switch(option: str, value: str) -> str:
    positive = re.sub(r"([-.])no_(\w+)$", r"\1\2", option)
    negative = re.sub(r"([-.])(\w+)$", r"\1no_\2", positive)
    return f"{option} is a switch and takes no value ({value!r}); write {positive} or {negative}"


def _stray(text: str, argv: Sequence[str]) -> str | None:
    """The first of the arguments that tyro could not place."""
    listed = re.search(r"Unrecognized options: (.*?)(?: For full helptext|$)", text)
    strays = re.split(r",? ", listed.group(1)) if listed else []
    return next((stray for stray in strays if stray in argv), None)


def _values(argv: Sequence[str], option: str) -> list[str]:
    """What `argv` gives to an option."""
    for index in reversed(range(len(argv))):
        if argv[index].startswith("--") and _option_name(argv[index]) == option:
            if "=" in argv[index]:
                return [argv[index].partition("=")[2]]
            after = argv[index + 1 :]
            end = next((i for i, token in enumerate(after) if token.startswith("--")), len(after))
            return list(after[:end])
    return []


def in_words(kind: Any) -> str:
    """A type as a user would say it: `an integer`, `one of a, b`, `2 numbers`, `an integer or None`."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return in_words(inner[0])
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join("None" if each is type(None) else in_words(each) for each in inner)
    if origin in (tuple, list):
        repeated = origin is list or inner[-1] is Ellipsis
        many = _NUMBERS.get(inner[0], ("", "values"))[1]
        return f"any number of {many}" if repeated else f"{len(inner)} {many}"
    if kind is bool:
        return "no value: it is a switch"
    return _NUMBERS.get(kind, (getattr(kind, "__name__", str(kind)), ""))[0]
