"""What a source is known by: the same for the same files, another for any that changed, nothing for passing data."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from biollm.errors import FileError, InputError
from biollm.manifest import Manifest
from biollm.partial import work_key
from biollm.readers import as_documents
from biollm.readers.identities import is_verb_folder, source_identities


def write(path: Path, text: str = '{"text": "one"}\n') -> Path:
    path.write_text(text)
    return path


def test_files_are_known_by_size_times_and_inode(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl")
    status = file.stat()
    identity = [str(file), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    for source in (file, str(file), [file], (file,), file.as_uri()):
        assert source_identities(source) == [identity]


def test_globs_and_lists_give_their_files_in_order(tmp_path: Path) -> None:
    b, a = write(tmp_path / "b.jsonl"), write(tmp_path / "a.jsonl")
    for source, expected in ((str(tmp_path / "*.jsonl"), [a, b]), ([b, a], [b, a]), ([b, str(a)], [b, a])):
        identities = source_identities(source)
        assert identities is not None
        assert [identity[0] for identity in identities] == [str(path) for path in expected]


def test_a_changed_file_is_another(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl")
    before = source_identities(file)
    os.utime(file, ns=(1, 1))
    touched = source_identities(file)
    write(tmp_path / "new", "[]").replace(file)
    replaced = source_identities(file)
    assert len({work_key("dedup", 1, {}, identities) for identities in (before, touched, replaced)}) == 3


def test_folders_of_verbs_are_known_by_their_manifests(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    assert not is_verb_folder(folder)
    assert source_identities(folder) is None
    manifest = Manifest("dedup", "documents", 1, outputs={"documents/part-00000.parquet": "0" * 32})
    manifest.write(folder)
    assert is_verb_folder(folder)
    file = write(tmp_path / "a.jsonl")
    identities = source_identities([folder, file])
    assert identities is not None
    assert identities[0] == ["stage", manifest.hash]
    assert identities[1][0] == str(file)


def test_what_cannot_be_known_again_has_no_identity(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    file = write(tmp_path / "a.jsonl")
    table = pa.table({"text": ["one"]})
    passing = [
        ["one", "two"],
        [],
        (),
        iter(["one"]),
        table,
        table.to_reader(),
        as_documents(file),
        pipe,
        [file, pipe],
        [file, 7],
        "https://example.org/a.jsonl",
        [Path("s3://bucket/a.jsonl"), file],
        None,
    ]
    assert [source_identities(source) for source in passing] == [None] * len(passing)


def test_what_is_missing_is_said_as_the_reader_says_it(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        source_identities(tmp_path / "missing.jsonl")
    with pytest.raises(InputError, match="matches no file"):
        source_identities(str(tmp_path / "*.jsonl"))
