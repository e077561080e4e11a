from __future__ import annotations

import errno
import pickle

import pytest

from biollm import errors
from biollm.errors import BiollmError, FileError, FormatError, InputError, LimitError, MissingExtra

CLASSES = [c for name in errors.__all__ if isinstance(c := getattr(errors, name), type)]


@pytest.mark.parametrize("cls", CLASSES)
def test_survives_pickle(cls: type[BiollmError]) -> None:
    error = cls("it broke", path="a/b", line=3, row=0, field="text", value=7, limit=5)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert str(copy) == str(error) == "a/b:3: it broke"
    names = ("message", "path", "line", "row", "field", "value", "limit")
    assert [getattr(copy, n) for n in names] == [getattr(error, n) for n in names]
    assert copy.row == 0


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (InputError, ValueError),
        (FileError, OSError),
        (FormatError, ValueError),
        (LimitError, ValueError),
        (errors.ConfigError, ValueError),
        (MissingExtra, ImportError),
    ],
)
def test_derives_from_the_builtin_users_catch(cls: type[BiollmError], builtin: type[Exception]) -> None:
    assert issubclass(cls, builtin)
    assert issubclass(cls, BiollmError)


def test_attributes_are_keyword_only() -> None:
    with pytest.raises(TypeError):
        InputError("message", "path")  # type: ignore[misc]


def test_file_error_keeps_errno() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        open("/nonexistent/file")
    error = FileError.from_os_error(caught.value)
    copy = pickle.loads(pickle.dumps(error))
    for e in (error, copy):
        assert (e.errno, e.filename) == (errno.ENOENT, "/nonexistent/file")
        assert str(e) == "/nonexistent/file: No such file or directory"


def test_require_names_the_pip_command() -> None:
    with pytest.raises(MissingExtra, match=r"pip install 'biollm\[train\]'") as caught:
        errors.require("no_such_package_anywhere", extra="train")
    assert caught.value.name == "no_such_package_anywhere"
    assert errors.require("json", extra="train").loads("1") == 1


def test_require_does_not_hide_a_failure_inside_a_package(tmp_path, monkeypatch) -> None:
    (tmp_path / "halfbroken.py").write_text("import also_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="also_not_there") as caught:
        errors.require("halfbroken", extra="train")
    assert not isinstance(caught.value, MissingExtra)
