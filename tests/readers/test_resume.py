"""`read` goes on from a run that was killed: files that lie in full parts are not read again."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import biollm
import interrupted
from biollm.manifest import Manifest
from biollm.readers.streams import StreamReader

LIMITS = {
    "biollm.readers.reading.GROUP_ROWS": 100,
    "biollm.document_files.ROWS_PER_FILE": 1000,
}
OPTIONS: dict[str, Any] = {"on_error": "skip"}
FILES, ROWS = 8, 700


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    folder.mkdir()
    for k in range(FILES):
        # The second has no document at all, and every file some bad records.
        rows = range(0 if k == 1 else ROWS)
        lines = [json.dumps({"id": f"d{k}-{i}", "text": f"word {i} " * (i % 40), "n": i}) for i in rows]
        lines += ["no JSON", "{}"]
        data = "".join(line + "\n" for line in lines).encode()
        (folder / f"{k}.jsonl.gz").write_bytes(gzip.compress(data, mtime=0))
    return folder


@pytest.fixture
def source(folder: Path) -> Path:
    return folder / "*.jsonl.gz"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read."""
    interrupted.set_limits(monkeypatch, LIMITS)
    names: list[str] = []
    batches = StreamReader.batches

    def counted(self: StreamReader, *arguments: Any) -> Any:
        names.append(Path(self.file.path).name)
        return batches(self, *arguments)

    monkeypatch.setattr(StreamReader, "batches", counted)
    return names


def kill(source: Path, out: Path, parts: int) -> None:
    interrupted.kill("read", source, out, OPTIONS, LIMITS, ("part-*.piece", parts))


def test_a_killed_run_is_gone_on_with(tmp_path: Path, source: Path, opened: list[str]) -> None:
    whole = biollm.read(source, output=tmp_path / "whole", **OPTIONS)
    expected = interrupted.outputs(tmp_path / "whole")
    assert len(expected) == 7 + 2
    assert len(opened) == FILES
    out = tmp_path / "out"
    kill(source, out, 1)
    kill(source, out, 3)
    opened.clear()
    result = biollm.read(source, output=out, **OPTIONS)
    assert interrupted.outputs(out) == expected
    first, second = result.manifest.resumptions
    assert Manifest.read(out).resumptions == (first, second)
    assert 0 < first.kept <= first.done < second.kept <= second.done
    assert max(first.repeated, second.repeated) <= 1000 + ROWS
    assert len(opened) == FILES - 1 - second.kept // ROWS
    assert result.manifest.counts == whole.manifest.counts
    assert result.manifest.inputs == whole.manifest.inputs
    assert result.rejected == whole.rejected
    assert len(result.rejected) == 2 * FILES


def test_a_part_may_end_within_a_file(tmp_path: Path, folder: Path, opened: list[str]) -> None:
    large = pa.table({"text": [f"word {i} " * (i % 9) for i in range(20_000)], "n": range(20_000)})
    pq.write_table(large, folder / "a.parquet", row_group_size=500)
    sources = [folder / "0.jsonl.gz", folder / "a.parquet", folder / "2.jsonl.gz"]
    biollm.read(sources, output=tmp_path / "whole", **OPTIONS)
    out = tmp_path / "out"

    def stop(done: int, total: int | None) -> None:
        if len(list((out / ".partial").glob("*.piece"))) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        biollm.read(sources, output=out, progress=stop, **OPTIONS)
    opened.clear()
    (resumption,) = biollm.read(sources, output=out, **OPTIONS).manifest.resumptions
    assert interrupted.outputs(out) == interrupted.outputs(tmp_path / "whole")
    assert ROWS < resumption.kept < 20_000
    assert opened == ["2.jsonl.gz"]


def test_what_is_damaged_is_done_again(tmp_path: Path, source: Path, opened: list[str]) -> None:
    biollm.read(source, output=tmp_path / "whole", **OPTIONS)
    for name in ("part-00001.parquet.piece", "documents/part-00001.parquet"):
        out = tmp_path / name.replace("/", "-")
        kill(source, out, 3)
        interrupted.damage(out / ".partial" / name)
        opened.clear()
        (resumption,) = biollm.read(source, output=out, **OPTIONS).manifest.resumptions
        assert interrupted.outputs(out) == interrupted.outputs(tmp_path / "whole")
        assert 0 < resumption.kept <= 1000 < resumption.done
        assert len(opened) == FILES - 1 - resumption.kept // ROWS


def test_other_work_begins_anew(tmp_path: Path, folder: Path, source: Path, opened: list[str]) -> None:
    out = tmp_path / "out"
    kill(source, out, 2)
    one = folder / "0.jsonl.gz"
    twice = biollm.read([one, one], output=out, **OPTIONS)  # counts of a file that comes twice cannot be told apart
    assert (twice.manifest.resumptions, len(twice)) == ((), 2 * ROWS)
    interrupted.outputs(out)
    kill(source, tmp_path / "b", 2)
    one.write_bytes(gzip.compress(b'{"text": "another"}\n'))
    opened.clear()
    assert biollm.read(source, output=tmp_path / "b", **OPTIONS).manifest.resumptions == ()
    assert len(opened) == FILES
    interrupted.outputs(tmp_path / "b")
