"""The demo's folder: what it refuses, what it replaces, what it leaves alone."""

from pathlib import Path

import pytest

from biollm.demo.corpus import sample_is_written, write_sample
from biollm.demo.run import _claim, demo, recipe_text
from biollm.errors import ConfigError, FileError, InputError


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_unknown_size_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tiny, small"):
        demo(tmp_path / "out", size="huge")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["notes.txt", "recipe.toml", "run.json"])
def test_a_folder_of_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[[stage]]\n")
    before = contents(tmp_path)
    with pytest.raises(InputError, match="--overwrite") as refused:
        demo(tmp_path, size="tiny")
    assert name in str(refused.value)
    assert refused.value.path == str(tmp_path)
    assert contents(tmp_path) == before


def test_a_demo_of_another_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(recipe_text("tiny"))
    with pytest.raises(InputError, match="another run"):
        demo(tmp_path, size="small")


def test_its_own_folder_is_taken_up_again(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(recipe_text("tiny"))
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "part-0.jsonl.gz").write_bytes(b"torn")
    before = contents(tmp_path)
    _claim(tmp_path, recipe_text("tiny"), overwrite=False)
    assert contents(tmp_path) == before


def test_overwrite_clears_another_sample_and_nothing_else(tmp_path: Path) -> None:
    sample = tmp_path / "sample"
    sample.mkdir()
    for name in ("part-0.jsonl.gz", "part-3.jsonl.gz", "pairs.jsonl", "truth.parquet"):
        (sample / name).write_bytes(b"old")
    (tmp_path / "recipe.toml").write_text(recipe_text("small"))
    (tmp_path / "notes.txt").write_text("mine")
    _claim(tmp_path, recipe_text("tiny"), overwrite=True)
    assert sorted(contents(tmp_path)) == ["notes.txt", "recipe.toml"]


def test_overwrite_stops_at_files_no_demo_wrote(tmp_path: Path) -> None:
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "part-0.jsonl.gz").write_bytes(b"old")
    (tmp_path / "sample" / "thesis.jsonl.gz").write_bytes(b"mine")
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"thesis\.jsonl\.gz"):
        demo(tmp_path, size="tiny", overwrite=True)
    assert contents(tmp_path) == before


def test_a_file_in_the_way_is_a_file_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(FileError) as error:
        demo(tmp_path / "out", size="tiny")
    assert error.value.filename == str(tmp_path / "out")


def test_a_whole_sample_is_known_again(tmp_path: Path) -> None:
    assert not sample_is_written(tmp_path, "tiny")
    write_sample(tmp_path, "tiny")
    assert sample_is_written(tmp_path, "tiny")
    assert not sample_is_written(tmp_path, "small")
    assert not sample_is_written(tmp_path, "tiny", seed=1)
    part = tmp_path / "part-1.jsonl.gz"
    data = part.read_bytes()
    part.write_bytes(data[:-1])
    assert not sample_is_written(tmp_path, "tiny")
    part.write_bytes(data)
    assert sample_is_written(tmp_path, "tiny")
    pairs = (tmp_path / "pairs.jsonl").read_bytes()
    (tmp_path / "pairs.jsonl").write_bytes(pairs[:-2])
    assert not sample_is_written(tmp_path, "tiny")
    (tmp_path / "pairs.jsonl").write_bytes(pairs)
    (tmp_path / "part-9.jsonl.gz").write_bytes(b"")  # the recipe's glob would read it
    assert not sample_is_written(tmp_path, "tiny")
    (tmp_path / "part-9.jsonl.gz").unlink()
    (tmp_path / "truth.parquet").write_bytes(b"PAR1")
    assert not sample_is_written(tmp_path, "tiny")
