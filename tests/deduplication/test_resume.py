"""`dedup` goes on from a run that was killed: signed documents are not signed again, and the folder is the same."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import biollm
import interrupted
import near_duplicates
from biollm import _native
from biollm.columns import text_array, text_chunks
from biollm.manifest import Manifest

LIMITS = {
    "biollm.document_files.BLOCK_ROWS": 100,
    "biollm.document_files.ROWS_PER_FILE": 400,
    "biollm.deduplication.clustering.GROUP_BYTES": 100_000,
}
OPTIONS: dict[str, Any] = {"threshold": 0.7, "num_perm": 64, "bands": 16, "shingle": "word:3"}
ROWS = 1000
SIGNING = {"unit": "word", "ngram": 3, "num_perm": 64, "bands": 16, "seed": 0}


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return near_duplicates.make(ROWS, seed=5)


@pytest.fixture
def source(tmp_path: Path, texts: list[str]) -> Path:
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps({"id": f"d{i}", "text": text}) + "\n" for i, text in enumerate(texts)))
    return path


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows that each native call signs."""
    interrupted.set_limits(monkeypatch, LIMITS)
    rows: list[int] = []
    sign, cluster = _native.dedup_signatures, _native.dedup_fuzzy

    def counted_sign(texts: list[tuple[Any, Any, int]], **options: Any) -> Any:
        rows.append(sum(n for _, _, n in texts))
        return sign(texts, **options)

    def counted_cluster(texts: list[tuple[Any, Any, int]], **options: Any) -> Any:
        width = 8 * (OPTIONS["bands"] + 3)
        given = sum(memoryview(part).nbytes // width for part in options["signatures"])
        rows.append(sum(n for _, _, n in texts) - given)
        return cluster(texts, **options)

    monkeypatch.setattr(_native, "dedup_signatures", counted_sign)
    monkeypatch.setattr(_native, "dedup_fuzzy", counted_cluster)
    return rows


def test_signatures_made_before_give_the_same(texts: list[str]) -> None:
    def found(signatures: list[Any], rows: int) -> list[bytes]:
        column = text_chunks(text_array(texts[:rows]))
        given = _native.dedup_fuzzy(column, threshold=0.7, keep="longest", signatures=signatures, **SIGNING)
        return [bytes(part) for part in given[:6]] + [str(given[6]).encode()]

    rng = np.random.default_rng(0)
    for rows in (0, 1, 127, 128, 129, 500, 1000):
        whole = found([], rows)
        for _ in range(3):
            cuts = sorted({0, *(int(cut) * 128 for cut in rng.integers(0, rows // 128 + 1, 3))})
            parts = [
                _native.dedup_signatures(text_chunks(text_array(texts[a:b])), **SIGNING)
                for a, b in itertools.pairwise(cuts)
            ]
            assert found(parts, rows) == whole


def kill(source: Path, out: Path, pieces: int) -> None:
    interrupted.kill("dedup", source, out, OPTIONS, LIMITS, ("signatures-*.piece", pieces))


def test_a_killed_run_is_gone_on_with(tmp_path: Path, source: Path, signed: list[int]) -> None:
    whole = biollm.dedup(source, output=tmp_path / "whole", **OPTIONS)
    expected = interrupted.outputs(tmp_path / "whole")
    assert sum(signed) == ROWS
    assert len(signed) > 6
    assert len(expected) == 4
    in_memory = biollm.dedup(source, **OPTIONS)
    assert signed[-1] == ROWS  # without an output it is one call
    assert (in_memory.cluster_id == whole.cluster_id).all()
    out = tmp_path / "out"
    kill(source, out, 1)
    kill(source, out, 4)
    signed.clear()
    result = biollm.dedup(source, output=out, **OPTIONS)
    assert interrupted.outputs(out) == expected
    first, second = result.manifest.resumptions
    assert Manifest.read(out).resumptions == (first, second)
    assert 0 < first.kept <= first.done < second.kept <= second.done
    assert max(first.repeated, second.repeated) <= 256
    assert sum(signed) == ROWS - second.kept
    assert result.histogram == whole.histogram
    assert result.pairs() == whole.pairs()


def test_clusters_are_kept_as_well(
    tmp_path: Path, source: Path, signed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    biollm.dedup(source, output=tmp_path / "whole", **OPTIONS)
    out = tmp_path / "out"
    with monkeypatch.context() as patched:

        def fail(*_: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr("biollm.deduplication.deduplicating.show_removed", fail)
        with pytest.raises(KeyboardInterrupt):
            biollm.dedup(source, output=out, **OPTIONS)
    assert not (out / "manifest.json").exists()
    assert len(list((out / ".partial" / "documents").glob("*.parquet"))) == 2
    signed.clear()
    result = biollm.dedup(source, output=out, **OPTIONS)
    assert interrupted.outputs(out) == interrupted.outputs(tmp_path / "whole")
    assert signed == []
    assert [(r.kept, r.done) for r in result.manifest.resumptions] == [(ROWS, ROWS)]


def test_what_is_damaged_is_done_again(tmp_path: Path, source: Path, signed: list[int]) -> None:
    biollm.dedup(source, output=tmp_path / "whole", **OPTIONS)
    out = tmp_path / "out"
    kill(source, out, 4)
    pieces = sorted((out / ".partial").glob("signatures-*"))
    assert len(pieces) >= 3
    interrupted.damage(pieces[1])
    pieces[2].write_bytes(pieces[2].read_bytes()[:-1])
    signed.clear()
    result = biollm.dedup(source, output=out, **OPTIONS)
    assert interrupted.outputs(out) == interrupted.outputs(tmp_path / "whole")
    (resumption,) = result.manifest.resumptions
    assert 0 < resumption.kept < resumption.done
    assert sum(signed) == ROWS - resumption.kept


def test_another_option_begins_anew(tmp_path: Path, source: Path, signed: list[int]) -> None:
    out = tmp_path / "out"
    kill(source, out, 4)
    signed.clear()
    result = biollm.dedup(source, output=out, **{**OPTIONS, "seed": 1})
    assert result.manifest.resumptions == ()
    assert sum(signed) == ROWS
    interrupted.outputs(out)
