"""Which files of a public data set make a case, whose case it is, and in which part it belongs."""

import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from medgan_jax.data.records import held_out
from medgan_jax.errors import UserError

TEST_FRACTION = 0.2
UNLABELLED = "unlabelled"
# Names that an error lists before it says how many more there are.
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a reader makes of the files of one field: an array, or a text; spacing and affine if known."""

    value: Any
    spacing: tuple[float, ...] | None = None
    affine: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    """One case on disk.

    files: by field, only those that are there. keys: what its paths say. part: number of its part in the
    form.
    """

    id: str
    subject: str
    split: str | None
    files: Mapping[str, tuple[pathlib.Path, ...]]
    keys: Mapping[str, str]
    part: int


Read = Callable[[Sequence[pathlib.Path], Case], Reading]


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a record and the files that it is read from.

    files: templates of paths, of which the first that fits any file counts; `{name}` stands for a part of a
    file's or folder's name, `*` for any, `**` for any folders. Folders above are free, and upper and lower
    case are one. Files whose named parts agree are of one case. read: (files, case) -> Reading. dtype: as
    stored, 'str' for texts. shape: with None where cases differ; empty for a number or text. unit: of a value
    of one. classes: words for the values of a class. optional: cases without it have a field of no elements.
    geometry: record spacing and affine. aligned: on the grid of the first field, which is checked.
    """

    name: str
    files: str | tuple[str, ...]
    read: Read
    dtype: str = "uint8"
    shape: tuple[int | None, ...] = (None, None, 1)
    unit: str = ""
    classes: tuple[str, ...] = ()
    optional: bool = False
    geometry: bool = False
    aligned: bool = True

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates, always as a tuple."""
        return (self.files,) if isinstance(self.files, str) else self.files


@dataclasses.dataclass(frozen=True)
class Part:
    """Cases that are laid out alike.

    fields: the first has files of its own for every case and so says which cases there are. split: the
    official part; None lets `held_out` choose the test subjects. where: patterns of the named parts in
    templates. expected: (root) -> the named parts of every case that has to be there; None where the set does
    not say. count: how many cases there are, if their names are not known. subject: the named parts that tell
    the subject; a case without them is its own. subjects: (root, cases) -> the
    subject of each case by its id, where paths do not tell it. keep: which cases to use.
    """

    fields: tuple[Field, ...]
    split: str | None = None
    where: Mapping[str, str] = dataclasses.field(default_factory=dict)
    expected: Callable[[pathlib.Path], Iterable[Mapping[str, str]]] | None = None
    count: int | None = None
    subject: tuple[str, ...] = ("subject",)
    subjects: Callable[[pathlib.Path, Sequence[Case]], Mapping[str, str]] | None = None
    keep: Callable[[Case], bool] | None = None


@dataclasses.dataclass(frozen=True)
class PublicSet:
    """One public data set that is fetched by hand.

    forms: parts by the name of the configuration, the default first; '' if there is one only. steps: what to
    do by hand, in order. terms: address of the terms of use. registration: what they ask for before the
    download, '' for nothing. records: (fields, case) -> records by the end of their ids, where a case makes
    several.
    """

    name: str
    title: str
    anatomy: str
    modality: str
    citation: str
    licence: str
    terms: str
    steps: tuple[str, ...]
    forms: Mapping[str, tuple[Part, ...]]
    registration: str = ""
    notes: str = ""
    records: Callable[[Sequence[Field], Case], Iterable[tuple[str, dict[str, Any]]]] | None = None

    def fields(self, form: str) -> tuple[Field, ...]:
        """The fields of all parts of a form, the first mention of each; in some part only makes optional."""
        parts = self.forms[form]
        found = {field.name: field for part in reversed(parts) for field in reversed(part.fields)}
        common = set.intersection(*({field.name for field in part.fields} for part in parts))
        order = dict.fromkeys(field.name for part in parts for field in part.fields)
        return tuple(
            dataclasses.replace(found[name], optional=found[name].optional or name not in common)
            for name in order
        )

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the fields of any form beside the image."""
        names = (field.name for form in self.forms for field in self.fields(form))
        return tuple(dict.fromkeys(name for name in names if name != "image"))

    @property
    def instructions(self) -> str:
        """The steps, numbered, with the licence and the address of its terms."""
        lines = [f"{number}. {step}" for number, step in enumerate(self.steps, start=1)]
        needs = f" {self.registration}" if self.registration else ""
        return "\n".join([f"{self.title}. Licence: {self.licence}. Terms: {self.terms}{needs}", *lines])


def numbered(name: str, numbers: Iterable[int], width: int) -> Callable[[pathlib.Path], list[dict[str, str]]]:
    """`expected` of a part whose named part `name` counts through `numbers`, written with `width` digits."""
    return functools.partial(_fixed, [{name: f"{number:0{width}d}"} for number in numbers])


def listed(name: str, values: Iterable[str]) -> Callable[[pathlib.Path], list[dict[str, str]]]:
    """`expected` of a part whose named part `name` takes these values."""
    return functools.partial(_fixed, [{name: value} for value in values])


def _fixed(names: list[dict[str, str]], root: pathlib.Path) -> list[dict[str, str]]:
    return names


def find_cases(public: PublicSet, form: str, root: pathlib.Path) -> dict[str, list[Case]]:
    """The cases of every part under `root`, by split; no subject is in two.

    Of a subject in two official parts, the test part keeps the cases. Raises UserError, with the number of
    missing files and the first of their names, unless all are there.
    """
    paths = _paths(root)
    cases, missing = [], []
    for number, part in enumerate(public.forms[form]):
        found, lacking = _cases(number, part, root, paths)
        cases += found
        missing += lacking
    if missing or not cases:
        raise UserError(_missing_line(public, root, missing, len(cases)))
    ids = {}
    for case in cases:
        if ids.setdefault(case.id, case) is not case:
            files = [next(iter(c.files.values()))[0].relative_to(root) for c in (ids[case.id], case)]
            raise UserError(f"{public.name}: {files[0]} and {files[1]} are both case '{case.id}': keep one")
    return _by_split(public.name, cases)


def _by_split(name: str, cases: Sequence[Case]) -> dict[str, list[Case]]:
    free = [case.subject for case in cases if case.split is None]
    test = held_out(free, TEST_FRACTION, "test", name) if free else frozenset()
    splits: dict[str, list[Case]] = {}
    for case in cases:
        split = case.split or ("test" if case.subject in test else "train")
        splits.setdefault(split, []).append(dataclasses.replace(case, split=split))
    taken: set[str] = set()
    for split in ("test", "validation", "train", UNLABELLED):
        if split in splits:
            splits[split] = [case for case in splits[split] if case.subject not in taken]
            taken |= {case.subject for case in splits[split]}
    empty = [split for split, kept in splits.items() if not kept]
    if empty:
        raise UserError(f"{name}: all subjects of the part '{empty[0]}' are in another part, too")
    return splits


def _paths(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Every file below `root` by its path from there; hidden ones and what archivers add are not data."""
    found = {}
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in sorted(files):
            if not name.startswith("."):
                path = pathlib.Path(folder, name)
                found[path.relative_to(root).as_posix()] = path
    return found


@functools.cache
def _pattern(template: str, where: tuple[tuple[str, str], ...]) -> re.Pattern:
    patterns, seen, text = dict(where), set(), []
    for piece in re.split(r"(\{\w+\}|\*\*/|\*)", template):
        if piece == "**/":
            text.append("(?:.*/)?")
        elif piece == "*":
            text.append("[^/]*")
        elif piece[:1] == "{":
            name = piece[1:-1]
            text.append(f"(?P={name})" if name in seen else f"(?P<{name}>{patterns.get(name, '[^/]+')})")
            seen.add(name)
        else:
            text.append(re.escape(piece))
    return re.compile("(?:.*/)?" + "".join(text), re.IGNORECASE)


Keys = tuple[tuple[str, str], ...]


def _matches(field: Field, part: Part, paths: Mapping[str, pathlib.Path]) -> dict[Keys, list[pathlib.Path]]:
    """The files of a field by the values of its named parts; those of the first template that has any."""
    where = tuple(sorted(part.where.items()))
    for template in field.templates:
        found: dict[Keys, list[pathlib.Path]] = {}
        for name, path in paths.items():
            if match := _pattern(template, where).fullmatch(name):
                found.setdefault(tuple(match.groupdict().items()), []).append(path)
        if found:
            return found
    return {}


def _cases(
    number: int, part: Part, root: pathlib.Path, paths: Mapping[str, pathlib.Path]
) -> tuple[list[Case], list[str]]:
    """The complete cases of a part, and the names of files that are missing."""
    matches = {field.name: _matches(field, part, paths) for field in part.fields}
    first = part.fields[0]
    found = {_folded(keys): dict(keys) for keys in matches[first.name]}
    wanted = {} if part.expected is None else {_folded(k.items()): dict(k) for k in part.expected(root)}
    names = {field.name: _names(matches[field.name]) for field in part.fields}
    folded = {
        field.name: {_folded(keys): tuple(files) for keys, files in matches[field.name].items()}
        for field in part.fields
    }
    cases, missing = [], []
    for keys in ({**wanted, **found}).values():
        files = {}
        for field in part.fields:
            own = _folded((name, value) for name, value in keys.items() if name in names[field.name])
            if own in folded[field.name]:
                files[field.name] = folded[field.name][own]
            elif not field.optional:
                missing.append(_filled(field.templates[0], keys))
        id = "_".join(value.strip("_") for value in keys.values() if value)
        subject = "_".join(keys[name] for name in part.subject if name in keys) or id
        cases.append(Case(id, subject, part.split, files, keys, number))
    if part.count is not None and len(cases) < part.count:
        missing += [_filled(first.templates[0], {})] * (part.count - len(cases))
    if not missing and part.keep is not None:
        cases = [case for case in cases if part.keep(case)]
    if not missing and part.subjects is not None:
        subjects = part.subjects(root, cases)
        cases = [dataclasses.replace(case, subject=subjects.get(case.id, case.subject)) for case in cases]
    return cases, missing


def _names(found: Mapping[Keys, Any]) -> frozenset[str]:
    """The named parts of the template that fitted."""
    return frozenset(name for keys in found for name, _ in keys)


def _folded(keys: Iterable[tuple[str, str]]) -> Keys:
    return tuple(sorted((name, value.casefold()) for name, value in keys))


def _filled(template: str, keys: Mapping[str, str]) -> str:
    """The name of a file that a template describes, with stars for what is not known."""
    return re.sub(r"\{(\w+)\}", lambda match: keys.get(match[1], "*"), template).replace("**/", "")


def _missing_line(public: PublicSet, root: pathlib.Path, missing: Sequence[str], found: int) -> str:
    wanted = missing or [
        _filled(field.templates[0], {})
        for parts in public.forms.values()
        for field in parts[0].fields
        if not field.optional
    ]
    names = list(dict.fromkeys(wanted))[:_NAMED]
    shown = ", ".join(names) + (", ..." if len(set(wanted)) > _NAMED else "")
    number = f"{len(missing)} files are" if len(missing) > 1 else "1 file is" if missing else "all files are"
    return (
        f"{public.name}: {number} missing in {root}: {shown}; "
        f"`python -m medgan_jax data list {public.name}` says how to fetch them"
    )
