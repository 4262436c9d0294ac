"""Fingerprints of code: what a function or a module computes, without comments, docstrings and layout.

Records of measured runs carry one, so that a record whose code has changed since can be told from a fresh one.
"""

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import pathlib
from collections.abc import Callable, Iterable, Iterator

LIBRARY = __name__.partition(".")[0]


def digest(parts: Iterable[str]) -> str:
    """SHA-256 of some texts, in hexadecimal digits."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@functools.cache
def tree(module: str) -> ast.Module:
    """The syntax tree of a module's file; the module is not imported, though its packages are."""
    return ast.parse(pathlib.Path(importlib.util.find_spec(module).origin).read_text())


@functools.cache
def is_module(name: str) -> bool:
    """Whether there is a module or package of this dotted name."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@functools.cache
def code(module: str) -> str:
    """A module's code in text."""
    return written(tree(module))


def written(node) -> str:
    """A syntax tree in text that is the same under every version of Python."""
    if isinstance(node, list):
        return "[" + ",".join(map(written, node)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
        fields["body"] = fields["body"][1:]
    # Newer versions add fields, which are empty in code that older ones can read.
    parts = [f"{name}={written(value)}" for name, value in fields.items() if value not in (None, [])]
    return f"{type(node).__name__}({','.join(parts)})"


def with_imports(module: str) -> set[str]:
    """The module and the modules of this library that it imports, and so on."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == LIBRARY:
                members = [f"{node.module}.{alias.name}" for alias in node.names]
                waiting += [node.module, *(each for each in members if is_module(each))]
            elif isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names if alias.name.partition(".")[0] == LIBRARY]
    return found


@dataclasses.dataclass(frozen=True)
class _Scope:
    """What the names of a module's top level stand for: `own` definitions, and `imported` (module, name)."""

    own: dict[str, ast.AST]
    imported: dict[str, tuple[str, str | None]]


@functools.cache
def _scope(module: str) -> _Scope:
    own, imported = {}, {}
    for node in tree(module).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            own[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
            own |= dict.fromkeys(names, node)
    # Imports within functions count as those of the module.
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == LIBRARY:
            for alias in node.names:
                member = f"{node.module}.{alias.name}"
                target = (member, None) if is_module(member) else (node.module, alias.name)
                imported[alias.asname or alias.name] = target
    return _Scope(own, imported)


def _references(node: ast.AST, module: str) -> Iterator[tuple[str, str | None]]:
    """Definitions of this library that a piece of code names, as (module, name); None is a whole module."""
    scope, inner = _scope(module), set()
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name):
            target, name = scope.imported.get(each.value.id, (None, ""))
            if target is not None and name is None:
                inner.add(each.value)
                yield (target, each.attr)
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and each not in inner:
            if each.id in scope.own:
                yield (module, each.id)
            elif each.id in scope.imported:
                yield scope.imported[each.id]


def named_call(module: str, function: str, first: str) -> ast.Call | None:
    """The call `function("first", ...)` somewhere in a module; None without one."""
    calls = (node for node in ast.walk(tree(module)) if isinstance(node, ast.Call) and node.args)
    named = (node for node in calls if isinstance(node.func, ast.Name) and node.func.id == function)
    return next((node for node in named if getattr(node.args[0], "value", None) == first), None)


def definitions(
    module: str, enter: Callable[[str], bool], start: ast.AST | None = None
) -> dict[tuple[str, str], str]:
    """All that a module uses of this library, `{(module, name): code}`, its own definitions included.

    Only what is reached by name is taken, so a function that is added to a module changes nothing for those
    who use another one. enter: module -> whether to look into it. start: the piece of the module's code whose
    uses are asked for, in the place of the whole module.
    """
    found: dict[tuple[str, str], str] = {}
    waiting: list[tuple[str, str | None]] = [(module, None)]
    if start is not None:
        waiting = [each for each in _references(start, module) if enter(each[0])]
    while waiting:
        place, name = waiting.pop()
        scope = _scope(place)
        if name is None:
            waiting += [(place, each) for each in scope.own]
        elif name in scope.own and (place, name) not in found:
            node = scope.own[name]
            found[place, name] = written(node)
            waiting += [each for each in _references(node, place) if enter(each[0])]
        elif name in scope.imported and enter(scope.imported[name][0]):
            waiting.append(scope.imported[name])
    return found
