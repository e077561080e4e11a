"""Every public name is documented: what it is, each argument and field, what it returns, what it raises."""

from __future__ import annotations

import doc_names


def test_every_public_name_is_documented() -> None:
    missing = doc_names.all_gaps()
    assert missing == [], "\n".join(["undocumented:", *missing])


def test_there_are_names_to_look_at() -> None:
    names = doc_names.public_names()
    assert {"biollm.dedup", "biollm.deduplication.DedupResult", "biollm.errors.InputError"} <= set(names)
    members = {member.path for name in names.values() for member in name.members}
    assert {"biollm.Tokenizer.encode", "biollm.results.Summary.facts", "biollm.LLM.tokenizer"} <= members


def test_a_gap_is_found() -> None:
    import ast

    def gaps(source: str) -> list[str]:
        node = ast.parse(source).body[0]
        assert isinstance(node, ast.FunctionDef | ast.ClassDef)
        members = tuple(doc_names._members("p.x", "p", node)) if isinstance(node, ast.ClassDef) else ()
        return doc_names.gaps(doc_names.Name("p.x", "p", node, ast.get_docstring(node), members))

    assert gaps("def x(a):\n    pass") == ["p.x: no docstring"]
    assert gaps('def x(a, *, b) -> None:\n    """Does it.\n\n    Args:\n        a: one.\n    """') == [
        "p.x: argument b"
    ]
    assert gaps('def x(a, b) -> None:\n    """Does it.\n\n    Args:\n        a, b: both.\n    """') == []
    assert gaps('def x() -> int:\n    """Works hard."""') == ["p.x: what it returns"]
    assert gaps('def x() -> None:\n    """Works."""\n    raise InputError("no")') == ["p.x: raises InputError"]
    assert gaps('class x:\n    """A thing."""\n    size: int') == ["p.x.size: field without a word"]
    assert gaps(
        'class x:\n    """A thing of a `size`."""\n    size: int\n    def go(self, far):\n        """Goes."""'
    ) == ["p.x.go: argument far"]
