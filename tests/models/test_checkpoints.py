"""Checkpoints in Hugging Face layout, both ways, and what is refused."""

from __future__ import annotations

import errno
import json
import struct
from pathlib import Path
from random import Random
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from biollm import _native  # noqa: E402
from biollm.errors import BiollmError, ConfigError, FileError, FormatError  # noqa: E402
from biollm.models import Llama, load_checkpoint, model_config, save_checkpoint  # noqa: E402
from biollm.models.checkpoints import read_config  # noqa: E402
from random_models import FAMILY, LLAMA3_ROPE, random_hf_folder  # noqa: E402

TOKENS = torch.arange(200).reshape(2, 100)


def logits_of_hf(folder: Path) -> torch.Tensor:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        return model(TOKENS).logits


def tokenizer_folder(folder: Path, **settings: Any) -> Path:
    folder.mkdir()
    added = [{"id": 0, "content": "<|endoftext|>"}, {"id": 1, "content": "<|pad|>"}]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": added, "model": {}}))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def random_model() -> Llama:
    torch.manual_seed(0)
    return Llama(model_config("tiny", 300, eos_id=0, n_layers=2, tie_embeddings=True))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder of ours."""
    save_checkpoint(tmp_path / "saved", random_model())
    return tmp_path / "saved"


@pytest.mark.parametrize("member", FAMILY)
def test_transformers_loads_ours_with_equal_logits(member: str, tmp_path: Path) -> None:
    theirs = random_hf_folder(tmp_path / "hf", member)
    save_checkpoint(tmp_path / "ours", load_checkpoint(tmp_path / "hf"))
    with torch.no_grad():
        expected = theirs(TOKENS).logits
    assert (logits_of_hf(tmp_path / "ours") - expected).abs().max() <= 1e-5


def test_a_saved_model_loads_as_it_was(saved: Path) -> None:
    model = random_model()
    again = load_checkpoint(saved)
    assert again.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in again.parameters())
    with torch.no_grad():
        assert torch.equal(again(TOKENS), model(TOKENS))
        assert (logits_of_hf(saved) - model(TOKENS)).abs().max() <= 1e-5


def test_the_folder_holds_no_pickle(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]


def test_others_may_read_the_weights_as_the_other_files(saved: Path) -> None:
    assert len({path.stat().st_mode for path in saved.iterdir()}) == 1


def test_transformers_generates_from_ours(saved: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(saved)
    assert model.generation_config.eos_token_id == 0
    assert model.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtype_on_loading_and_saving(saved: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    model = load_checkpoint(saved, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model.model.rotary.inv_freq.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    save_checkpoint(tmp_path / "cast", model)
    assert load_checkpoint(tmp_path / "cast").model.embed_tokens.weight.dtype == dtype
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "cast").dtype == dtype
    if dtype == torch.float64:
        assert (logits_of_hf(tmp_path / "cast") - model(TOKENS)).abs().max() <= 1e-5


def test_sharded_folders_load(tmp_path: Path) -> None:
    model = random_hf_folder(tmp_path / "whole", "llama, tied, llama3 rope")
    model.save_pretrained(tmp_path / "sharded", max_shard_size="100KB")
    assert (tmp_path / "sharded" / "model.safetensors.index.json").exists()
    assert not (tmp_path / "sharded" / "model.safetensors").exists()
    with torch.no_grad():
        assert torch.equal(load_checkpoint(tmp_path / "sharded")(TOKENS), load_checkpoint(tmp_path / "whole")(TOKENS))


def test_generation_config_names_the_end_of_text(saved: Path) -> None:
    (saved / "generation_config.json").write_text('{"eos_token_id": [7, 9], "pad_token_id": 3}')
    assert read_config(saved).eos_ids == (7, 9)
    assert read_config(saved).pad_id == 3


def test_tokenizer_files_come_along_and_name_eos_and_pad(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Llama(model_config("tiny", 300, eos_id=0, n_layers=1))
    named = tokenizer_folder(tmp_path / "named", eos_token="<|endoftext|>", pad_token="<|pad|>", model_max_length=512)
    written = save_checkpoint(tmp_path / "a", model, named)
    settings = json.loads((tmp_path / "a" / "tokenizer_config.json").read_text())
    assert settings == {"eos_token": "<|endoftext|>", "pad_token": "<|pad|>", "model_max_length": 512}
    assert (tmp_path / "a" / "tokenizer.json").read_bytes() == (named / "tokenizer.json").read_bytes()
    assert written == {path.name: _native.hash_file(path) for path in (tmp_path / "a").iterdir()}

    unnamed = tokenizer_folder(tmp_path / "unnamed")
    (unnamed / "chat_template.jinja").write_text("{{ messages }}")
    save_checkpoint(tmp_path / "b", model, unnamed)
    settings = json.loads((tmp_path / "b" / "tokenizer_config.json").read_text())
    assert settings == {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    assert (tmp_path / "b" / "chat_template.jinja").exists()

    with pytest.raises(ConfigError, match="eos_token"):
        save_checkpoint(tmp_path / "c", Llama(model_config("tiny", 300, n_layers=1)), unnamed)


def rewrite(folder: Path, change: Any) -> None:
    """Save the folder's tensors again after `change(tensors)`."""
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


BIAS = "model.layers.0.self_attn.q_proj.bias"
NORM = "model.layers.1.input_layernorm.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(NORM), f"'{NORM}' is missing"),
        (lambda t: t.update({BIAS: torch.zeros(128)}), f"'{BIAS}' is unexpected"),
        (lambda t: t.update({NORM: torch.zeros(3)}), rf"'{NORM}' has shape \[3\]"),
        (lambda t: t.update({NORM: torch.zeros(128, dtype=torch.int8)}), f"'{NORM}' has type I8"),
        (lambda t: t.update({"lm_head.weight": torch.zeros(300, 128)}), "differs from the embedding"),
    ],
)
def test_tensors_that_do_not_fit_are_named(saved: Path, change: Any, message: str) -> None:
    rewrite(saved, change)
    with pytest.raises(FormatError, match=message) as caught:
        load_checkpoint(saved)
    assert str(saved) in (caught.value.path or "")


def test_a_tied_model_may_store_its_output_layer_and_old_frequencies(saved: Path) -> None:
    expected = load_checkpoint(saved)(TOKENS)

    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(16)

    rewrite(saved, change)
    assert torch.equal(load_checkpoint(saved)(TOKENS), expected)


HEADERS = {
    "empty": b"",
    "short": b"\x08\0\0",
    "a header of 2**63 bytes": struct.pack("<Q", 1 << 63) + b"{}",
    "a header past the end": struct.pack("<Q", 1000) + b"{}",
    "not JSON": struct.pack("<Q", 4) + b"oops",
    "a shape that overflows": (lambda h: struct.pack("<Q", len(h)) + h + b"\0" * 8)(
        b'{"w":{"dtype":"F32","shape":[4294967296,4294967296,16],"data_offsets":[0,8]}}'
    ),
    "offsets past the end": (lambda h: struct.pack("<Q", len(h)) + h)(
        b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    ),
    "a zip file (pickled weights)": b"PK\x03\x04" + b"\0" * 64,
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_broken_safetensors_are_format_errors(saved: Path, content: bytes) -> None:
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises(FormatError, match="safetensors") as caught:
        load_checkpoint(saved)
    assert caught.value.path == str(saved / "model.safetensors")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 200_000, b'{"model_type": "llama"}', b"null"]
)
def test_broken_configs_are_refused(saved: Path, content: bytes) -> None:
    (saved / "config.json").write_bytes(content)
    with pytest.raises((FormatError, ConfigError)):
        load_checkpoint(saved)


def test_a_huge_config_is_refused_before_anything_is_built(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    for key in ("vocab_size", "hidden_size", "num_hidden_layers"):
        (saved / "config.json").write_text(json.dumps({**config, key: 1 << 62}))
        with pytest.raises(ConfigError, match="must be an integer"):
            load_checkpoint(saved)
    (saved / "config.json").write_text(json.dumps({**config, "vocab_size": 1 << 24}))
    with pytest.raises(FormatError, match="embed_tokens"):
        load_checkpoint(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_files_are_file_errors(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(FileError) as caught:
        load_checkpoint(saved)
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == str(saved / name)


def test_an_index_may_not_lead_out_of_its_folder(saved: Path) -> None:
    (saved / "model.safetensors").rename(saved.parent / "model.safetensors")
    index = {"weight_map": {"model.norm.weight": "../model.safetensors"}}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FormatError, match="not a file of this folder"):
        load_checkpoint(saved)


def test_an_index_that_misplaces_a_tensor_is_named(saved: Path) -> None:
    (saved / "model.safetensors").rename(saved / "model-1.safetensors")
    index = {"weight_map": {"model.norm.weight": "model-1.safetensors", "ghost": "model-1.safetensors"}}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FormatError, match=r"'ghost' is not in model-1\.safetensors"):
        load_checkpoint(saved)


def test_saving_where_nothing_can_be_written_is_a_file_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError):
        save_checkpoint(tmp_path / "file" / "folder", Llama(model_config("tiny", 300, n_layers=1)))


def test_the_shared_rope_of_the_test_is_really_scaled() -> None:
    """Guards the parity tests: a llama3 scaling over a context of 64 must change frequencies."""
    from biollm.models import RopeScaling
    from biollm.models.llama import inverse_frequencies

    options = {key: value for key, value in LLAMA3_ROPE.items() if key not in ("rope_type", "rope_theta")}
    scaling = RopeScaling("llama3", options["factor"], 1.0, 4.0, 64)
    plain, scaled = (model_config("tiny", 300, rope_theta=5e5, rope_scaling=s) for s in (None, scaling))
    ratio = inverse_frequencies(plain, torch.float32) / inverse_frequencies(scaled, torch.float32)
    assert ratio[0] == 1
    assert ratio[-1] == 8
    assert ((ratio > 1.01) & (ratio < 7.99)).any()


def mutated(data: bytes, random: Random) -> bytes:
    """A valid file with a few bytes flipped, cut, doubled or replaced by a number out of range."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 3)):
        place = random.randrange(len(changed))
        match random.randrange(5):
            case 0:
                changed[place] ^= 1 << random.randrange(8)
            case 1:
                del changed[place : place + random.randint(1, 40)]
            case 2:
                changed[place:place] = changed[place : place + random.randint(1, 40)]
            case 3:
                changed[place:place] = random.choice([b"-1", b"99999999999999999999", b"1e400", b"null", b"[", b'"'])
            case _:
                changed[place] = random.randrange(256)
        if not changed:
            break
    return bytes(changed)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors"])
def test_mutated_files_load_or_raise_an_error_of_ours(saved: Path, name: str) -> None:
    save_checkpoint(saved, Llama(model_config("tiny", 40, dim=8, ffn_dim=8, n_layers=1, eos_id=0)))
    random = Random(name)
    original = (saved / name).read_bytes()
    header = 8 + struct.unpack("<Q", original[:8])[0] if name.endswith(".safetensors") else len(original)
    refused = 0
    for _ in range(200):
        (saved / name).write_bytes(mutated(original[:header], random) + original[header:])
        try:
            load_checkpoint(saved)
        except BiollmError:
            refused += 1
    assert refused > 50
