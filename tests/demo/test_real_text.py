"""`recipes/abstracts.toml` on real abstracts and questions, trained a little: every stage, and the bar on the loss."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shared_data import shared_file

RECIPE = Path(__file__).parents[2] / "recipes" / "abstracts.toml"


@pytest.mark.slow
def test_real_text_goes_all_the_way(tmp_path: Path) -> None:
    abstracts = shared_file("text_bio/medical_abstracts.jsonl.gz")
    questions = shared_file("text_bio/medquad_qa.jsonl.gz")
    shorter = {
        "abstracts.inputs": f'["{abstracts}"]',
        "questions.inputs": f'["{questions}"]',
        "tokenize.vocab_size": "2048",
        "train.steps": "120",
        "train.batch_size": "4",
        "generate.max_tokens": "24",
        "generate.compile": "false",
    }
    sets = [part for key, value in shorter.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-c", "from biollm.cli import main; main()"]
    done = subprocess.run(
        [*command, "run", str(RECIPE), "--output", str(tmp_path / "run"), *sets],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]

    folders = [path.parent for path in (tmp_path / "run").glob("*/manifest.json")]
    counts = {folder.name: json.loads((folder / "manifest.json").read_bytes())["counts"] for folder in folders}
    assert counts["abstracts"]["documents"] == 1912
    assert counts["questions"]["documents"] == 7328
    assert counts["dedup"]["documents_in"] == 1912 + 7328
    assert counts["dedup"]["documents_dropped"] > 300  # MedQuAD's answers are templates in part
    assert counts["select"]["documents_in"] == counts["dedup"]["documents_kept"]
    assert counts["generate"]["prompts"] == 3
    facts = json.loads((tmp_path / "run" / "train" / "summary.json").read_bytes())["facts"]
    assert facts["nats_below_unigram"] >= 1.0
    assert facts["bigram_entropy_nats"] < facts["unigram_entropy_nats"]
    assert (tmp_path / "run" / "report.html").is_file()
