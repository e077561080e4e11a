"""Jinja for templates that nobody has read: immutable values, no attributes of Python's, no huge intermediate results.

Bounded are the output, what `*`, `**`, `+`, `~` and `%` make at once, and `range`. Filters and methods that pad a text
to a width of the template's choice are not there. The time that loops take is not bounded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment

from biollm.errors import FormatError, InputError, LimitError

__all__ = ["environment", "run"]

MAX_RANGE: Final = 10_000
_MAX_NUMBER_BITS: Final = 1 << 12
_PADDING_FILTERS: Final = ("center", "format", "pprint", "wordwrap", "urlize", "xmlattr")
_PADDING_METHODS: Final = frozenset(
    {"center", "ljust", "rjust", "zfill", "expandtabs", "translate", "format", "format_map"}
)


class _Refusal(Exception):  # noqa: N818  (what a template says of a chat, no fault of the program's)
    """What `raise_exception` of a template says."""


class _Concatenation(CodeGenerator):
    """Writes `a ~ b` as a call that bounds what comes of it."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "+", "%"})
    code_generator_class = _Concatenation

    def __init__(self, limit: int) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
        self.limit = limit
        for name in _PADDING_FILTERS:
            self.filters.pop(name)
        self.filters["tojson"] = _to_json
        self.filters |= {"indent": self._indented, "replace": self._replaced, "join": self._strung}
        self.globals.update(raise_exception=_refuse, range=_bounded_range)
        for name in ("lipsum", "cycler", "joiner"):
            self.globals.pop(name)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str) and attr in _PADDING_METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        return None  # it would be let through

    def call(self, context: Any, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(called, "__self__", None)
        if isinstance(owner, str) and args and not kwargs:
            if called.__name__ == "replace":
                return self._replaced(owner, *args)
            if called.__name__ == "join":
                return self._strung(args[0], owner)
        return super().call(context, called, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str | bytes):
            raise LimitError("a chat template formats with %, which could make a text of any width")
        if operator == "**" and not (_bits(left) * max(1, abs(right)) <= _MAX_NUMBER_BITS):
            raise LimitError("a chat template computes a power of thousands of digits")
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, str | list | tuple) and isinstance(other, int):
                    self._bound(len(one) * other)
            if isinstance(left, int) and isinstance(right, int) and _bits(left) + _bits(right) > _MAX_NUMBER_BITS:
                raise LimitError("a chat template computes a number of thousands of digits")
        if operator == "+" and isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
            self._bound(len(left) + len(right))
        return super().call_binop(context, operator, left, right)

    def joined(self, parts: tuple[Any, ...]) -> str:
        """`~`."""
        texts = [str(part) for part in parts]
        self._bound(sum(map(len, texts)))
        return "".join(texts)

    def _replaced(self, text: str, old: str, new: str, count: int = -1) -> str:
        places = text.count(old)
        self._bound(len(text) + len(new) * (places if count < 0 else min(places, count)))
        return text.replace(old, new, count)

    def _strung(self, parts: Any, separator: str = "", attribute: str | None = None) -> str:
        texts = [str(part if attribute is None else self.getitem(part, attribute)) for part in parts]
        self._bound(sum(map(len, texts)) + len(separator) * len(texts))
        return separator.join(texts)

    def _indented(self, text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
        margin = width if isinstance(width, str) else " " * min(width, 64)
        self._bound(len(text) + len(margin) * (text.count("\n") + 1))
        lines = text.split("\n")
        kept = [line if not line and not blank else margin + line for line in lines[1:]]
        return "\n".join([margin + lines[0] if first else lines[0], *kept])

    def _bound(self, size: int) -> None:
        if size > self.limit:
            raise LimitError(f"a chat template makes a text of {size:,} characters", value=size, limit=self.limit)


def environment(limit: int) -> SandboxedEnvironment:
    """Where templates are compiled.

    Args:
        limit: most characters that an operator may make at once.
    """
    return _Environment(limit)


def run(template: jinja2.Template, values: Mapping[str, Any], *, limit: int, path: Path | None) -> str:
    """The text that a template makes.

    Args:
        template: of `environment`.
        values: what it may use.
        limit: most characters of the text.
        path: of the template, for messages.

    Raises:
        InputError: it says so by `raise_exception`. FormatError: it fails. LimitError: its text is longer.
    """
    parts: list[str] = []
    length = 0
    try:
        for part in template.generate(values):
            length += len(part)
            if length > limit:
                message = f"the chat template makes a text of over {limit:,} characters"
                raise LimitError(message, path=path, value=length, limit=limit)
            parts.append(part)
    except _Refusal as error:
        raise InputError(f"the chat template refuses the chat: {error}", path=path, field="messages") from None
    except LimitError:
        raise
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise FormatError(f"the chat template fails: {type(error).__name__}: {error}", path=path) from error
    except RecursionError as error:
        raise FormatError("the chat template calls itself too often", path=path) from error
    return "".join(parts)


def _refuse(message: object) -> None:
    raise _Refusal(str(message))


def _bounded_range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > MAX_RANGE:
        raise LimitError(f"a chat template counts to {len(numbers):,}", value=len(numbers), limit=MAX_RANGE)
    return numbers


def _to_json(value: Any, indent: int | None = None) -> str:
    """As `transformers` has it: plain JSON, not escaped for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=min(indent, 64) if indent is not None else None)


def _bits(number: Any) -> int:
    return number.bit_length() if isinstance(number, int) else 64
