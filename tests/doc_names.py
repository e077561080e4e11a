"""The public names of the package as its source declares them, and what their docstrings leave out.

A unit is a package or module right below `biollm`, and `biollm` itself; public are the names in a unit's `__all__`,
followed to where they are defined, with the public methods and fields of the classes among them. All of it is read
from the source, so nothing heavy is imported and names that load lazily count as well.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import biollm

ROOT = Path(biollm.__file__).parent

Function = ast.FunctionDef | ast.AsyncFunctionDef
Node = Function | ast.ClassDef | ast.Assign | ast.AnnAssign

#: A name that stands for its own entry: `name: …` or `name, other: …` where a line or sentence begins.
_ENTRY = re.compile(r"(?:^|[.;])[ ]*(\*{0,2}\w+(?:, (?:and )?\*{0,2}\w+)*)(?: \([^)]*\))?: (?=\S)", re.MULTILINE)
_CODE = re.compile(r"``(.+?)``|`([^`]+)`", re.DOTALL)
#: How a first sentence says what the function gives, where no section "Returns" does.
_GIVES = re.compile(
    r"^(The|A|An|All|Any|Both|Each|Every|How|One|Other|Plain|What|Where|Whether|Which|Logits|Natural|Documents|Texts|"
    r"Counts|Wall|User|Losses|[A-Z]?[a-z]*s of|`)|\b(gives?|returns?|Gives?|Returns?|→|as a list|is true)\b"
)


@dataclass(frozen=True)
class Name:
    """A public name.

    `path` is what a user writes ("biollm.deduplication.dedup"), `home` the module that defines it.
    """

    path: str
    home: str
    node: Node
    doc: str | None
    members: tuple[Name, ...] = field(default=())

    @cached_property
    def is_property(self) -> bool:
        """Whether it is a method that is read as a field."""
        decorators = {ast.unparse(d) for d in getattr(self.node, "decorator_list", ())}
        return bool(decorators & {"property", "cached_property", "functools.cached_property"})


def units() -> list[str]:
    """`biollm`, and the packages and modules right below it that declare public names."""
    files = [*ROOT.glob("*.py"), *ROOT.glob("*/__init__.py")]
    names = ["biollm" if f.parent == ROOT and f.stem == "__init__" else f"biollm.{_unit(f)}" for f in files]
    return sorted(name for name in names if declared(name))


def _unit(file: Path) -> str:
    return file.parent.name if file.stem == "__init__" else file.stem


def source_file(module: str) -> Path:
    """The file of a module."""
    base = ROOT.joinpath(*module.split(".")[1:])
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


@cache
def tree(module: str) -> ast.Module:
    """The parsed source of a module."""
    return ast.parse(source_file(module).read_text(encoding="utf-8"))


def declared(module: str) -> list[str]:
    """The names in a module's `__all__`."""
    for node in tree(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    return []


@cache
def public_names() -> dict[str, Name]:
    """Every public name by its path; where a name is public in `biollm` and in its package, both are there."""
    return {f"{unit}.{name}": _define(f"{unit}.{name}", unit, name) for unit in units() for name in declared(unit)}


def _define(path: str, module: str, name: str, depth: int = 0) -> Name:
    if depth > 8:
        raise AssertionError(f"{path}: imported in a circle")
    found = list(_definitions(module, name))
    if found:
        node, doc = found[0]
        members = tuple(_members(path, module, node)) if isinstance(node, ast.ClassDef) else ()
        return Name(path, module, node, doc, members)
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _define(path, node.module, alias.name, depth + 1)
    raise AssertionError(f"{path} is in __all__, and nothing defines it")


def _definitions(module: str, name: str) -> Iterator[tuple[Node, str | None]]:
    body = tree(module).body
    for i, node in enumerate(body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name:
            yield node, ast.get_docstring(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id == name for t in targets):
                yield node, _string(body[i + 1]) if i + 1 < len(body) else None


def _string(node: ast.stmt) -> str | None:
    """The docstring of what stands above: a statement that is only a string."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return node.value.value
    return None


def _members(path: str, module: str, node: ast.ClassDef) -> Iterator[Name]:
    for i, item in enumerate(node.body):
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and not item.name.startswith("_"):
            yield Name(f"{path}.{item.name}", module, item, ast.get_docstring(item))
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            if not item.target.id.startswith("_"):
                doc = _string(node.body[i + 1]) if i + 1 < len(node.body) else None
                yield Name(f"{path}.{item.target.id}", module, item, doc)
        elif isinstance(item, ast.FunctionDef) and item.name == "__init__":
            yield from _set_in_init(path, module, item)


def _set_in_init(path: str, module: str, init: ast.FunctionDef) -> Iterator[Name]:
    """`self.name = …`: fields of a class that is no dataclass."""
    seen: set[str] = set()
    for node in ast.walk(init):
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in [t for each in targets for t in (each.elts if isinstance(each, ast.Tuple) else [each])]:
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                name = target.attr
                if not name.startswith("_") and name not in seen:
                    seen.add(name)
                    yield Name(f"{path}.{name}", module, node, None)


# --- what is missing -----------------------------------------------------------------------------------------------


def mentioned(doc: str | None) -> set[str]:
    """Names that a docstring explains: those with an entry of their own, and those in code marks."""
    if not doc:
        return set()
    found = {name.strip("* ") for entry in _ENTRY.findall(doc) for name in re.split(r", (?:and )?", entry)}
    for double, single in _CODE.findall(doc):
        found.update(re.findall(r"\w+", double or single))
    return found


def gaps(name: Name) -> list[str]:
    """What the docstrings of a name and of its members leave out, each as "path: what"."""
    if not (name.doc or "").strip():
        return [f"{name.path}: no docstring"]
    if isinstance(name.node, ast.ClassDef):
        return _class_gaps(name)
    if isinstance(name.node, Function):
        return _function_gaps(name)
    return []


def _class_gaps(name: Name) -> list[str]:
    node = name.node
    assert isinstance(node, ast.ClassDef)
    init = next((i for i in node.body if isinstance(i, ast.FunctionDef) and i.name == "__init__"), None)
    known = mentioned(name.doc) | (mentioned(ast.get_docstring(init)) if init else set())
    missing = []
    if init is not None:
        missing += [f"{name.path}: argument {a}" for a in _arguments(init, method=True) if a not in known]
    for member in name.members:
        last = member.path.rpartition(".")[2]
        if isinstance(member.node, Function):
            missing += gaps(member)
        elif last not in known and not member.doc:
            missing.append(f"{member.path}: field without a word")
    return missing


def _function_gaps(name: Name) -> list[str]:
    node, doc = name.node, name.doc or ""
    assert isinstance(node, Function)
    method = name.path.count(".") >= 3 or _has_self(node)
    missing = [f"{name.path}: argument {a}" for a in _arguments(node, method=method) if a not in mentioned(doc)]
    gives = node.returns is not None and ast.unparse(node.returns) not in ("None", "NoReturn", "'None'")
    if gives and not name.is_property and "Returns:" not in doc and not _GIVES.search(doc.split("\n\n")[0]):
        missing.append(f"{name.path}: what it returns")
    return missing + [f"{name.path}: raises {error}" for error in sorted(_raised(node)) if error not in doc]


def _has_self(node: Function) -> bool:
    arguments = [*node.args.posonlyargs, *node.args.args]
    return bool(arguments) and arguments[0].arg in ("self", "cls")


def _arguments(node: Function, *, method: bool) -> list[str]:
    arguments = [*node.args.posonlyargs, *node.args.args]
    names = [a.arg for a in arguments[1 if method and _has_self(node) else 0 :]]
    rest = [a.arg for a in (node.args.vararg, *node.args.kwonlyargs, node.args.kwarg) if a is not None]
    return [name for name in (*names, *rest) if not name.startswith("_")]


def _raised(node: Function) -> set[str]:
    """Errors of ours that the function's own lines raise: `raise Name(…)`, or its `from_os_error`."""
    found = set()
    for item in ast.walk(node):
        if isinstance(item, ast.Raise) and isinstance(item.exc, ast.Call):
            called = ast.unparse(item.exc.func).removesuffix(".from_os_error")
            if called in _errors():
                found.add(called)
    return found


@cache
def _errors() -> frozenset[str]:
    classes = [node.name for node in tree("biollm.errors").body if isinstance(node, ast.ClassDef)]
    return frozenset(classes)


def all_gaps() -> list[str]:
    """Every gap once, under the shortest path of its name."""
    seen: dict[tuple[str, int], str] = {}
    for path in sorted(public_names(), key=lambda p: (p.count("."), p)):
        name = public_names()[path]
        seen.setdefault((name.home, name.node.lineno), path)
    return sorted({gap for path in seen.values() for gap in gaps(public_names()[path])})
