"""The verb: what it writes, who reads that, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

import biollm  # noqa: E402
from biollm.errors import ConfigError, InputError, LimitError  # noqa: E402
from biollm.evaluation import shard_losses  # noqa: E402
from biollm.inference.decode import CompiledDecode  # noqa: E402
from biollm.manifest import Manifest  # noqa: E402
from biollm.models import Llama, load_checkpoint, model_config, save_checkpoint  # noqa: E402
from biollm.models.config import Quantization  # noqa: E402
from biollm.quantization import convert  # noqa: E402
from biollm.recipe import run  # noqa: E402
from biollm.results import Summary  # noqa: E402
from biollm.tokenization import Shards  # noqa: E402

TOKENS = torch.arange(100).reshape(2, 50)
PROMPTS = [[5, 6, 7, 8], [20], [30, 31]]
FEW: dict[str, Any] = {"calibration_documents": 24, "evaluation_documents": 16, "threads": 1}


@pytest.fixture(scope="session")
def int4(model: Path, shards: Path) -> Path:
    return biollm.quantize(model, shards, output=model.parent / "int4", **FEW).path


@pytest.fixture(scope="session")
def int8(model: Path, shards: Path) -> Path:
    return biollm.quantize(model, shards, output=model.parent / "int8", bits=8, **FEW).path


def table(summary: Summary, title: str) -> dict[str, tuple[Any, ...]]:
    (found,) = (t for t in summary.tables if t.title == title)
    return {str(row[0]): row[1:] for row in found.rows}


@pytest.mark.parametrize(("kind", "share", "rise"), [("int8", 0.53, 0.003), ("int4", 0.31, 0.06)])
def test_sizes_perplexity_and_what_is_told(
    kind: str, share: float, rise: float, shards: Path, model: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(kind)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "generation_config.json",
        "manifest.json",
        "model.safetensors",
        "summary.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    stored, original = load_file(folder / "model.safetensors"), load_file(model / "model.safetensors")
    packed = sum(tensor.nbytes for name, tensor in stored.items() if name.endswith((".qweight", ".scales")))
    as_bf16 = sum(2 * tensor.numel() for name, tensor in original.items() if "proj" in name)
    assert packed <= share * as_bf16
    kept = {name: tensor for name, tensor in original.items() if "proj" not in name}
    assert all(torch.equal(stored[name], tensor) for name, tensor in kept.items())
    checkpoint = biollm.Checkpoint.open(folder)
    summary = checkpoint.summary()
    facts = summary.facts
    assert facts["linear_share_of_bf16"] == packed / as_bf16
    assert facts["perplexity_increase"] == facts["perplexity_after"] / facts["perplexity_before"] - 1 <= rise
    # What it says of itself is what the folder gives when it is loaded.
    documents = Shards.open(shards)
    whole = shard_losses(load_checkpoint(folder).eval(), documents)
    assert facts["evaluation_documents"] == min(len(whole), 16)
    if len(whole) <= 16:
        assert facts["perplexity_after"] == pytest.approx(whole.perplexity, rel=1e-5)
    layers = table(summary, "Layers")
    assert len(layers) == 28
    assert max(row[1] for row in layers.values()) == facts["largest_relative_error"] < 0.3
    rows = table(summary, "Before and after")
    assert rows["bytes of the checkpoint's weights"][1] == (folder / "model.safetensors").stat().st_size
    assert {name for name in rows if "tokens/s" in name and rows[name][2] > 0} == {
        f"tokens/s decoded in {dtype}, batch 1, not compiled" for dtype in ("float32", "bfloat16")
    }
    manifest = Manifest.read(folder)
    assert (manifest.verb, manifest.kind) == ("quantize", "checkpoint")
    assert manifest.inputs[0].xxh3_128 == Manifest.read(model).hash
    assert manifest.counts["calibration_documents"] == 24


def test_a_fresh_process_has_equal_logits(int4: Path, int8: Path, tmp_path: Path) -> None:
    code = """
import json, sys, torch
from safetensors.torch import save_file
from biollm.inference import LLM
torch.set_num_threads(1)
for folder in sys.argv[2:]:
    llm = LLM(folder, device="cpu", compile=False)
    with torch.no_grad():
        logits = llm.model(torch.arange(100).reshape(2, 50))
    save_file({"logits": logits}, sys.argv[1] + "/" + folder.rpartition("/")[2])
    print(json.dumps([c.token_ids for c in llm.generate([[5, 6, 7, 8], [20], [30, 31]], max_tokens=6)]))
"""
    call = [sys.executable, "-c", code, str(tmp_path), str(int4), str(int8)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    for folder, line in zip((int4, int8), done.stdout.splitlines(), strict=True):
        llm = biollm.LLM(folder, device="cpu", compile=False)
        with torch.no_grad():
            assert torch.equal(load_file(tmp_path / folder.name)["logits"], llm.model(TOKENS))
        here = [list(c.token_ids) for c in llm.generate(PROMPTS, max_tokens=6)]
        assert json.loads(line) == here
        assert here == [list(llm.generate([prompt], max_tokens=6)[0].token_ids) for prompt in PROMPTS]


@pytest.fixture
def no_recompilation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    import torch._dynamo

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(CompiledDecode, "no_compiler", False)
    torch._dynamo.reset()
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield
    torch._dynamo.reset()


def check_compiled(folder: Path, dtype: str) -> None:
    eager, compiled = (biollm.LLM(folder, device="cpu", dtype=dtype, compile=mode) for mode in (False, True))
    for prompts in (PROMPTS, PROMPTS[::-1]):
        expected = [c.token_ids for c in eager.generate(prompts, max_tokens=12)]
        assert [c.token_ids for c in compiled.generate(prompts, max_tokens=12)] == expected
    assert not CompiledDecode.no_compiler


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_decode_step_is_one_graph(
    kind: str, dtype: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, no_recompilation: None
) -> None:
    """As far as the compiler's front end goes: a second instead of twenty."""
    compile_ = torch.compile

    def traced(function: Any, *, mode: str, **options: Any) -> Any:
        assert options["fullgraph"]
        return compile_(function, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", traced)
    check_compiled(request.getfixturevalue(kind), dtype)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")
def test_the_compiled_decode_step_gives_the_same_tokens(tmp_path: Path, no_recompilation: None) -> None:
    """The real compiler, on one block."""
    torch.manual_seed(0)
    model = Llama(model_config("tiny", 300, n_layers=1)).requires_grad_(False)
    convert(model, [np.arange(200)], Quantization(4, 64), method="rtn")
    save_checkpoint(tmp_path / "int4", model)
    check_compiled(tmp_path / "int4", "float32")


def test_a_worse_model_is_not_written(model: Path, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(LimitError, match=r"perplexity rises by \d+\.\d\d%.*nothing is written") as caught:
        biollm.quantize(
            model, shards, output=tmp_path / "out", method="rtn", group_size=128, max_perplexity_increase=0.0, **FEW
        )
    assert caught.value.field == "max_perplexity_increase"
    assert isinstance(caught.value.value, float)
    assert caught.value.value > caught.value.limit == 0.0
    assert list((tmp_path / "out").iterdir()) == []
    allowed = biollm.quantize(model, shards, output=tmp_path / "out", bits=8, max_perplexity_increase=0.06, **FEW)
    assert allowed.summary().facts["max_perplexity_increase"] == 0.06


def test_equal_runs_give_equal_folders(model: Path, shards: Path, int4: Path, tmp_path: Path) -> None:
    again = biollm.quantize(biollm.Checkpoint.open(model), shards, output=tmp_path / "again", **FEW)
    assert again.manifest.outputs == Manifest.read(int4).outputs
    assert again.manifest.hash == Manifest.read(int4).hash


def test_texts_calibrate_as_well(model: Path, texts: list[str], tmp_path: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    made = biollm.quantize(
        model, texts, output=tmp_path / "out", progress=lambda done, total: steps.append((done, total)), **FEW
    )
    assert made.manifest.counts["evaluation_documents"] == 16
    assert steps[-1] == (28, 28)
    assert biollm.LLM(made.path, compile=False).generate("asthma in", max_tokens=3)[0].prompt_tokens > 0


def test_a_tied_bfloat16_model_keeps_its_table_and_its_dtype(shards: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tied = Llama(model_config("tiny", 300, n_layers=1, tie_embeddings=True, eos_id=0)).bfloat16()
    save_checkpoint(tmp_path / "tied", tied, shards)
    biollm.quantize(tmp_path / "tied", shards, output=tmp_path / "int4", **FEW)
    stored = load_file(tmp_path / "int4" / "model.safetensors")
    assert "lm_head.weight" not in stored
    assert torch.equal(stored["model.embed_tokens.weight"], tied.model.embed_tokens.weight)
    assert {str(tensor.dtype) for tensor in stored.values()} == {"torch.bfloat16", "torch.uint8"}
    assert json.loads((tmp_path / "int4" / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_training_from_it_is_refused(int4: Path, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"quantized \(int4-g64\), and training needs") as caught:
        biollm.train(shards, start=int4, output=tmp_path / "out", steps=1)
    assert caught.value.field == "start"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("objective", ["instruct", "classify"])
def test_tuning_it_is_refused(objective: str, int4: Path, tmp_path: Path) -> None:
    rows = [{"question": "a", "answer": "b", "text": "c", "label": "d"}]
    with pytest.raises(InputError, match="training needs the weights"):
        biollm.train(rows, start=int4, output=tmp_path / "out", objective=objective, steps=1, seq_len=16)
    assert not (tmp_path / "out").exists()


def test_aligning_it_is_refused(int4: Path, tmp_path: Path) -> None:
    pairs = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    with pytest.raises(InputError, match="alignment needs the weights"):
        biollm.align(int4, pairs, output=tmp_path / "out", method="ppo")
    assert not (tmp_path / "out").exists()


def test_quantizing_it_again_is_refused(int8: Path, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="quantization needs the weights") as caught:
        biollm.quantize(int8, shards, output=tmp_path / "out")
    assert caught.value.field == "checkpoint"


@pytest.mark.parametrize(
    ("options", "error", "field"),
    [
        ({"bits": 3}, ConfigError, "bits"),
        ({"bits": 8, "group_size": 64}, ConfigError, "group_size"),
        ({"group_size": 7}, ConfigError, "group_size"),
        ({"group_size": 96}, ConfigError, "group_size"),
        ({"method": "awq"}, ConfigError, "method"),
        ({"device": "tpu"}, ConfigError, "device"),
        ({"calibration_documents": 0}, ConfigError, "calibration_documents"),
        ({"max_perplexity_increase": -0.1}, ConfigError, "max_perplexity_increase"),
        ({"max_perplexity_increase": float("nan")}, ConfigError, "max_perplexity_increase"),
        ({"calibration_documents": 1.5}, TypeError, None),
        ({"max_perplexity_increase": "6 %"}, TypeError, None),
    ],
)
def test_bad_options(
    options: dict[str, Any], error: type[Exception], field: str | None, model: Path, shards: Path, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        biollm.quantize(model, shards, output=tmp_path / "out", **options)
    assert getattr(caught.value, "field", None) == field
    assert not (tmp_path / "out").exists()


def test_bad_folders(model: Path, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds the source"):
        biollm.quantize(model, shards, output=model, **FEW)
    with pytest.raises(InputError, match="calibrate"):
        biollm.quantize(model, [], output=tmp_path / "out")
    with pytest.raises(biollm.FileError):
        biollm.quantize(tmp_path / "absent", shards, output=tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="other files"):
        biollm.quantize(model, shards, output=tmp_path / "full", **FEW)


RECIPE = """
[[stage]]
name = "int8"
verb = "quantize"
inputs = ["model", "shards"]
bits = 8
calibration_documents = 6
evaluation_documents = 6

[[stage]]
name = "int4"
verb = "quantize"
inputs = ["notes.jsonl", "model"]
max_perplexity_increase = 1.0
calibration_documents = 6
evaluation_documents = 6

[[stage]]
name = "generate"
verb = "generate"
inputs = ["int4"]
prompts = ["asthma in"]
max_tokens = 3
compile = false
"""


def test_as_stages_of_a_recipe(model: Path, shards: Path, texts: list[str], tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(RECIPE)
    for source in (model, shards):
        (tmp_path / source.name).symlink_to(source)
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:20]))
    result = run(tmp_path / "r.toml", output=tmp_path / "RUN")
    assert [stage.status for stage in result.stages] == ["complete"] * 3
    again = run(tmp_path / "r.toml", output=tmp_path / "RUN")
    assert [stage.status for stage in again.stages] == ["matched"] * 3
    report = (tmp_path / "RUN" / "report.html").read_text()
    assert "cannot be shown" not in report
    assert "Relative output error by layer" in report
    assert "Before and after" in report
    (tmp_path / "wrong.toml").write_text(RECIPE.replace('"model", "shards"', '"model"'))
    with pytest.raises(ConfigError, match="neither shards nor documents"):
        run(tmp_path / "wrong.toml", output=tmp_path / "OTHER")


def test_as_a_command(model: Path, shards: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from biollm.cli.app import app

    few = ["--calibration-documents", "4", "--evaluation-documents", "4", "--threads", "1", "--quiet"]
    call = ["quantize", str(model), str(shards), "-o", str(tmp_path / "out"), *few]
    refused = CliRunner().invoke(
        app, [*call, "--method", "rtn", "--max-perplexity-increase", "0", "--group-size", "128"]
    )
    assert refused.exit_code == 1
    assert "perplexity rises by" in refused.output
    done = CliRunner().invoke(app, [*call, "--bits", "8", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["summary"]["facts"]["weights"] == "int8"
