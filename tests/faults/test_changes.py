"""What changes between two runs is noticed: a damaged output, a changed input, a lost file; and a run is alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from biollm.errors import BiollmError, FormatError
from biollm.models import load_checkpoint
from biollm.readers import as_documents
from biollm.recipe.folder import LOCK_NAME, lock
from biollm.tokenization.shards import Shards
from commands import Commands, Done
from interrupted import damage
from small_run import VERBS
from whole_files import torn_files


@pytest.fixture
def place(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound run and what it was made of, with the times of the files kept."""
    folder = tmp_path / "place"
    shutil.copytree(sound, folder, copy_function=shutil.copy2)
    # The first two stages alone, for what the others would only make slower.
    stages = (folder / "recipe.toml").read_text().split("[[stage]]")
    (folder / "start.toml").write_text("[[stage]]".join(stages[:3]))
    return folder


def run(commands: Commands, place: Path, *options: str, recipe: str = "start.toml") -> tuple[Done, dict[str, str]]:
    """Runs a recipe again; gives stage → status."""
    done = commands("run", place / recipe, "-o", place / "RUN", "--json", *options)
    stages = json.loads(done.stdout).get("stages", []) if done.stdout else []
    return done, {stage["name"]: stage["status"] for stage in stages}


def ran(statuses: dict[str, str]) -> list[str]:
    return [name for name, status in statuses.items() if status == "complete"]


OUTPUTS = {
    "read": "documents/part-00000.parquet",
    "dedup": "decisions.parquet",
    "select": "documents/part-00000.parquet",
    "tokenize": "train-00000.tokens",
    "train": "model.safetensors",
    "generate": "completions.jsonl",
}


# Not of `read`, whose summary names the files: here they are copies elsewhere, and all is made again.
@pytest.mark.parametrize("verb", VERBS[1:])
def test_a_damaged_output_is_made_again_where_it_is_verified(verb: str, place: Path, commands: Commands) -> None:
    file = place / "RUN" / verb / OUTPUTS[verb]
    before = file.read_bytes()
    damage(file)
    done, statuses = run(commands, place, "--verify", recipe="recipe.toml")
    assert done.code == 0, done.stderr
    # It has the same bytes as before, so what is made of it stands. Completions note how long they took.
    assert ran(statuses) == [verb]
    assert f"{verb}: runs (its output {OUTPUTS[verb]} is not what was written)" in done.stderr
    assert verb == "generate" or file.read_bytes() == before
    assert torn_files(place / "RUN") == []


@pytest.mark.parametrize("name", ["train-00000.tokens", "train-00000.offsets", "train-00000.documents.parquet"])
def test_a_damaged_shard_is_not_trained_on(name: str, place: Path, commands: Commands, tmp_path: Path) -> None:
    damage(place / "RUN" / "tokenize" / name)
    with pytest.raises(FormatError, match="the file was changed") as caught:
        Shards.open(place / "RUN" / "tokenize")
    assert caught.value.path == str(place / "RUN" / "tokenize" / name)
    done = commands("train", place / "RUN" / "tokenize", "-o", tmp_path / "out", "--steps", "1", "--size", "tiny")
    assert (done.code, len(done.errors)) == (1, 1), done.stderr
    assert name in done.errors[0]
    assert not (tmp_path / "out" / "manifest.json").exists()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def head(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[:8] = b"\xff" * 8
    file.write_bytes(data)


@pytest.mark.parametrize("harm", [cut, head])
def test_torn_weights_and_documents_are_format_errors(harm: Callable[[Path], None], place: Path) -> None:
    weights = place / "RUN" / "train" / "model.safetensors"
    harm(weights)
    with pytest.raises(FormatError) as caught:
        load_checkpoint(weights.parent)
    assert caught.value.path == str(weights)
    documents = place / "RUN" / "read" / "documents" / "part-00000.parquet"
    documents.write_bytes(documents.read_bytes()[:-100] if harm is cut else b"NOPE" + documents.read_bytes()[4:-4])
    with pytest.raises(FormatError) as caught:
        as_documents(documents).to_table()
    assert caught.value.path == str(documents)


def test_damage_to_any_byte_of_documents_is_an_error_of_ours_or_harmless(place: Path) -> None:
    file = place / "RUN" / "read" / "documents" / "part-00000.parquet"
    whole = file.read_bytes()
    refused = 0
    for at in range(4, len(whole), max(1, len(whole) // 150)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        try:
            as_documents(file).to_table()
        except (BiollmError, MemoryError):
            refused += 1
    assert refused > 30


def test_a_changed_input_runs_what_is_made_of_it(place: Path, commands: Commands) -> None:
    documents = place / "documents.jsonl"
    with documents.open("a") as file:
        file.write(
            json.dumps({"id": "new", "text": "sepsis after angina in adults with a trial of dose and risk"}) + "\n"
        )
    done, statuses = run(commands, place)
    assert done.code == 0, done.stderr
    assert ran(statuses) == ["read", "dedup"]
    assert "read: runs (the file" in done.stderr


@pytest.mark.parametrize("options", [(), ("--verify",)])
def test_a_changed_input_of_the_same_size_and_time(options: tuple[str, ...], place: Path, commands: Commands) -> None:
    # The copy has times of its own: they become the recorded ones.
    assert ran(run(commands, place)[1]) == []
    documents = place / "documents.jsonl"
    before, data = documents.stat(), documents.read_bytes()
    with documents.open("r+b") as file:  # in place: the same inode
        file.write(data.replace(b"asthma", b"sepsis", 1))
    os.utime(documents, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = documents.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    done, statuses = run(commands, place, *options)
    assert done.code == 0, done.stderr
    assert ran(statuses) == ["read", "dedup"]


@pytest.mark.parametrize("verb", ["dedup", "tokenize", "train"])
def test_an_output_that_is_lost_is_made_again(verb: str, place: Path, commands: Commands) -> None:
    (place / "RUN" / verb / OUTPUTS[verb]).unlink()
    done, statuses = run(commands, place, recipe="recipe.toml")
    assert done.code == 0, done.stderr
    assert ran(statuses) == [verb]
    assert f"its output {OUTPUTS[verb]} is missing" in done.stderr
    assert torn_files(place / "RUN") == []


def test_broken_records(place: Path, commands: Commands) -> None:
    (place / "RUN" / "run.json").write_text('{"half')
    (place / "RUN" / "dedup" / "summary.json").write_text('{"half')
    done, statuses = run(commands, place, "--verify")
    assert done.code == 0, done.stderr
    assert ran(statuses) == ["dedup"]
    # Without its manifest, nothing says that what lies in a folder is ours: it is refused, and nothing of it removed.
    (place / "RUN" / "dedup" / "manifest.json").write_text('{"half')
    done, _ = run(commands, place)
    assert (done.code, len(done.errors)) == (1, 1), done.stderr
    assert "files that no stage wrote" in done.errors[0]
    assert (place / "RUN" / "dedup" / OUTPUTS["dedup"]).exists()
    shutil.rmtree(place / "RUN" / "dedup")
    assert ran(run(commands, place)[1]) == ["dedup"]


def test_two_runs_in_one_folder(place: Path, commands: Commands) -> None:
    with lock(place / "RUN" / LOCK_NAME):
        done, _ = run(commands, place)
        assert done.code == 1
        assert f"another run is at work in this folder (process {os.getpid()})" in done.stderr
    assert run(commands, place)[0].code == 0


def test_the_lock_of_a_killed_run_does_not_count(place: Path, commands: Commands) -> None:
    held = place / "RUN" / LOCK_NAME
    code = "import sys, os, signal; from pathlib import Path; from biollm.recipe.folder import lock\n"
    code += "with lock(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", code, held], check=False).returncode == -9
    assert held.exists()
    assert run(commands, place)[0].code == 0
