"""What `import biollm` promises: it is light, and its lazy names are the ones it lists."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import biollm

INIT = Path(biollm.__file__)
HEAVY = ("numpy", "pyarrow", "torch", "typer", "rich", "safetensors", "transformers")


def names_under_type_checking() -> dict[str, str]:
    """Public name → package, as the type checker sees them."""
    names = {}
    for node in ast.parse(INIT.read_text()).body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for statement in node.body:
                assert isinstance(statement, ast.ImportFrom)
                assert statement.module is not None
                for alias in statement.names:
                    names[alias.name] = statement.module.removeprefix("biollm.")
    return names


def test_the_lists_of_names_agree() -> None:
    assert names_under_type_checking() == biollm._HOMES
    assert sorted(biollm.__all__) == sorted(biollm._HOMES)
    assert set(biollm.__all__) <= set(dir(biollm))


@pytest.mark.parametrize("name", biollm.__all__)
def test_every_name_loads(name: str) -> None:
    if biollm._HOMES[name] in ("alignment", "inference", "training", "quantization"):
        pytest.importorskip("torch", reason="torch is not installed: pip install 'biollm[train]'")
    assert getattr(biollm, name).__module__.startswith("biollm")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'deduplicate'"):
        biollm.deduplicate  # noqa: B018
    assert biollm.__version__.count(".") == 2


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}; import json, sys; print(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("statement", "without"),
    [
        ("import biollm", HEAVY),
        ("import biollm; biollm.BiollmError", HEAVY),
        ("import biollm; biollm.dedup", ("torch", "typer")),
        ("import biollm; biollm.Tokenizer", ("torch", "typer")),
        ("import biollm.cli", ("numpy", "pyarrow", "torch")),
    ],
)
def test_heavy_imports_are_lazy(statement: str, without: tuple[str, ...]) -> None:
    assert loaded_after(statement).isdisjoint(without)


def test_a_misspelt_verb_fails_the_type_checker(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    for verb, wrong in (("dedup", False), ("dedupp", True)):
        script = tmp_path / f"{verb}.py"
        script.write_text(f"import biollm\nprint(biollm.{verb})\n")
        command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(script)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert (f'Module has no attribute "{verb}"' in done.stdout) == wrong, done.stdout + done.stderr


def test_nothing_in_the_package_unpickles_or_trusts_remote_code() -> None:
    for path in INIT.parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                assert not {m.partition(".")[0] for m in modules} & {"pickle", "marshal", "shelve"}, path
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                raise AssertionError(f"{path} sets trust_remote_code")
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load":
                raise AssertionError(f"{path} calls torch.load")
