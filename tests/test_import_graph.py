"""The layers of the package, held on the import graph: read from the source, so that lazy imports count as well."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import biollm

ROOT = Path(biollm.__file__).parent

# A unit (a package or a module right below `biollm`) imports units of lower layers, and of its own only those to its
# left.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "_native",
        "errors",
        "lazy",
        "atomic",
        "manifest",
        "results",
        "telemetry",
        "partial",
        "columns",
        "documents",
        "document_files",
        "filtering",
        "stages",
    ),
    ("readers", "deduplication", "selection", "tokenization"),
    ("models",),
    ("inference",),
    ("evaluation",),
    ("training", "alignment", "quantization"),
    ("serving",),
    ("report", "recipe", "demo", "cli", "__main__"),
)
ORDER = [unit for layer in LAYERS for unit in layer]

# Packages from outside that only some units may import, whatever the layer.
ONLY_IN = {
    "torch": {"errors", "models", "inference", "training", "alignment", "quantization"},
    "safetensors": {"models", "inference", "training"},
    "typer": {"cli"},
    "rich": {"cli"},
    "jinja2": {"tokenization"},
    "peft": {"training"},
    "transformers": set[str](),
    "tokenizers": set[str](),
}


def units() -> list[str]:
    """The packages and modules that are there."""
    modules = {path.stem for path in ROOT.glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    return sorted(modules | packages | {"_native"})


def files_of(unit: str) -> list[Path]:
    return sorted((ROOT / unit).rglob("*.py")) if (ROOT / unit).is_dir() else [ROOT / f"{unit}.py"]


def imports_of(file: Path) -> Iterator[tuple[str, int]]:
    """Every module a file imports, wherever in it, by its absolute name; and the line."""
    package = ("biollm", *file.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            # `from biollm import manifest` imports a unit, not a name.
            yield from ((f"{name}.{alias.name}" if name == "biollm" else name, node.lineno) for alias in node.names)


def test_every_unit_has_its_layer() -> None:
    assert set(units()) <= set(ORDER), "say in LAYERS where the new package stands"


@pytest.mark.parametrize("unit", [unit for unit in units() if unit != "_native"])
def test_a_unit_imports_only_what_lies_below_it(unit: str) -> None:
    wrong = []
    for file in files_of(unit):
        for name, line in imports_of(file):
            parts = name.split(".")
            if parts[0] != "biollm" or len(parts) == 1:
                continue
            other = parts[1]
            # A name of `biollm` itself (its version) is no unit; a verb's name from there would hide its home.
            if other not in ORDER:
                if other != "__version__":
                    wrong.append(f"{file.relative_to(ROOT)}:{line} imports {name} through biollm itself")
            elif other != unit and ORDER.index(other) > ORDER.index(unit):
                wrong.append(f"{file.relative_to(ROOT)}:{line} imports {name}")
    assert wrong == []


@pytest.mark.parametrize("outside", ONLY_IN)
def test_heavy_packages_are_imported_only_where_they_belong(outside: str) -> None:
    found = {
        unit
        for unit in units()
        if unit != "_native"
        for file in files_of(unit)
        for name, _ in imports_of(file)
        if name.split(".")[0] == outside
    }
    assert found <= ONLY_IN[outside]


def test_no_module_is_pickled_or_trusts_remote_code() -> None:
    for unit in units():
        if unit == "_native":
            continue
        for file in files_of(unit):
            modules = {name.split(".")[0] for name, _ in imports_of(file)}
            assert not modules & {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}, file


def test_the_graph_of_modules_has_no_cycle() -> None:
    """Of the imports a module makes when it is loaded: top level, not under TYPE_CHECKING."""
    graph: dict[str, set[str]] = {}
    for file in sorted(ROOT.rglob("*.py")):
        graph[module_name(file)] = set(loaded_imports(file))
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join([*path[path.index(name) :], name])
        if name in done or name not in graph:
            return
        for other in graph[name]:
            visit(other, (*path, name))
        done.add(name)

    for name in graph:
        visit(name, ())


def module_name(file: Path) -> str:
    parts = ["biollm", *file.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def loaded_imports(file: Path) -> Iterator[str]:
    """Modules of ours that are loaded when this one is; a package's `__init__` does not wait for its own modules."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("biollm."):
            for alias in node.names:
                inner = ROOT.parent / Path(*node.module.split("."), f"{alias.name}.py")
                yield f"{node.module}.{alias.name}" if inner.exists() and alias.name not in ("run",) else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("biollm."))
