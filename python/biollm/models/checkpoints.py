"""Checkpoints in Hugging Face layout: safetensors in, safetensors out, never a pickle.

A folder holds `config.json`, `generation_config.json`, `model.safetensors` (or shards with an index, when loading),
`tokenizer.json` and `tokenizer_config.json`. Before a tensor is read, every name, shape and dtype in the files'
headers is compared with what the configuration says the model has; what does not match is named.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from biollm import _native
from biollm.atomic import atomic_path, make_folder, write_bytes, write_json
from biollm.errors import ConfigError, FileError, FormatError, InputError
from biollm.models.config import ModelConfig
from biollm.models.hugging_face import special_ids
from biollm.models.llama import Llama, Rotary
from biollm.models.quantized import SCALE_DTYPE, prepare_kernels

if TYPE_CHECKING:
    from biollm.models.classifier import LlamaClassifier

__all__ = [
    "load_checkpoint",
    "load_onto",
    "load_weights",
    "read_config",
    "read_json",
    "refuse_quantized",
    "save_checkpoint",
    "write_checkpoint",
    "write_tensors",
]

MAX_JSON_BYTES: Final = 64 << 20
_CHAT_TEMPLATE: Final = "chat_template.jinja"

_DTYPES: Final[Mapping[str, torch.dtype]] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
_PACKED_DTYPES: Final[Mapping[str, torch.dtype]] = {"I8": torch.int8, "U8": torch.uint8}


class Model(Protocol):
    """A model whose weights lie in a folder: `Llama`, `LlamaClassifier`."""

    config: ModelConfig

    def state_dict(self) -> Any:
        """Name → tensor."""


ModelT = TypeVar("ModelT", bound="Llama | LlamaClassifier")


def read_config(folder: str | Path) -> ModelConfig:
    """The configuration of a checkpoint folder.

    End-of-text and other special ids are as `generation_config.json` has them, where there is one: chat models list
    more of them there than in `config.json`.

    Raises `FileError` (no `config.json`), `FormatError` (not JSON), `ConfigError` (a model or option we lack).
    """
    folder = Path(folder)
    config = ModelConfig.from_hf(read_json(folder / "config.json"))
    generation_path = folder / "generation_config.json"
    if not generation_path.exists():
        return config
    generation = read_json(generation_path)
    return replace(config, **special_ids(generation, config.vocab_size))


def refuse_quantized(folder: str | Path, config: ModelConfig, purpose: str, *, field: str) -> None:
    """Raise where a model's layers are quantized, which cannot be trained.

    Args:
        folder: of the model, for the message.
        config: its configuration.
        purpose: what it was to be used for: "training".
        field: the argument that named it.

    Raises:
        InputError: they are.
    """
    if config.quantization is not None:
        raise InputError(
            f"the model is quantized ({config.quantization.name}), and {purpose} needs the weights that were rounded "
            "away: give the checkpoint that it was made of",
            path=folder,
            field=field,
        )


def load_checkpoint(
    folder: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> Llama:
    """Load a Llama, Yi, Mistral, Qwen2 or Qwen3 folder, or one that `quantize` wrote; gives a `Llama` in training mode.

    Args:
        folder: in Hugging Face layout.
        device: where the weights go.
        dtype: their type; None keeps the file's (that of its embedding table). Whole numbers of quantized layers stay
            what they are.

    Raises:
        FileError: a file is missing or cannot be read.
        FormatError: a broken file; a tensor missing, unexpected, or of another shape or type; names file and tensor.
        ConfigError: an option we lack; named.
    """
    folder = Path(folder)
    config = read_config(folder)
    with torch.device("meta"):
        model = Llama(config)
    return load_onto(folder, model, device=device, dtype=dtype)


def load_onto(
    folder: Path, model: ModelT, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> ModelT:
    """Give a `model` that was made on the meta device the weights of a folder; raises as `load_checkpoint`."""
    config = model.config
    homes = _find_tensors(folder)
    _check_tensors(folder, homes, model, config)
    if dtype is None:
        embedding = "model.embed_tokens.weight"
        dtype = _DTYPES[_stored_types(homes[embedding])[embedding][0]]

    state: dict[str, Tensor] = {}
    names = list(model.state_dict())
    for path in dict.fromkeys(homes[name] for name in names):
        with _open(path) as file:
            for name in names:
                if homes[name] == path:
                    # copied, so that the weights do not hang on the mapped file
                    tensor = file.get_tensor(name)
                    kept = dtype if tensor.is_floating_point() else tensor.dtype
                    state[name] = tensor.to(device=device, dtype=kept, copy=True)
    model.load_state_dict(state, assign=True)
    with torch.device(device):
        model.model.rotary = Rotary(config)
    if dtype == torch.float64:
        model.model.rotary.to(torch.float64)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    prepare_kernels(model)
    return model


@torch.no_grad()
def load_weights(folder: str | Path, model: Model) -> None:
    """Copy the weights of a checkpoint folder into a model that is there, whose tensors stay where and what they are.

    Raises as `load_checkpoint`, where the folder's tensors are not those of the model.
    """
    folder = Path(folder)
    homes = _find_tensors(folder)
    _check_tensors(folder, homes, model, model.config)
    targets = model.state_dict()
    for path in dict.fromkeys(homes[name] for name in targets):
        with _open(path) as file:
            for name, target in targets.items():
                if homes[name] == path:
                    target.copy_(file.get_tensor(name))


def save_checkpoint(
    folder: str | Path,
    model: Llama,
    tokenizer_folder: str | Path | None = None,
    *,
    chat_template: str | None = None,
) -> dict[str, str]:
    """Write a folder that `AutoModelForCausalLM` and `load_checkpoint` read; every file is replaced atomically.

    Args:
        folder: to write to; made where it is missing.
        model: whose weights and configuration are written.
        tokenizer_folder: where `tokenizer.json` and `tokenizer_config.json` (and `chat_template.jinja`, where there is
            one) are copied from; None for a model without a tokenizer. The copied `tokenizer_config.json` always names
            `eos_token` and `pad_token`: an absent eos is looked up by the model's `eos_id`, an absent pad is the eos.
        chat_template: written to `chat_template.jinja`, in place of the one of the tokenizer's folder.

    Returns:
        Name of each file written → its xxh3-128.

    Raises:
        FileError: the system refused.
        ConfigError: no end-of-text token can be named.
    """
    return write_checkpoint(
        folder, model.state_dict(), model.config, model.config.to_hf(), tokenizer_folder, chat_template=chat_template
    )


def write_checkpoint(
    folder: str | Path,
    state: Mapping[str, Tensor],
    config: ModelConfig,
    hf: Mapping[str, Any],
    tokenizer_folder: str | Path | None = None,
    *,
    chat_template: str | None = None,
) -> dict[str, str]:
    """`save_checkpoint` of weights by name; ``hf``: what `config.json` holds beside their type."""
    folder = make_folder(folder)
    weights = {name: tensor.detach().contiguous() for name, tensor in state.items()}
    if config.quantization is not None:  # scales were rounded to this when they were made
        weights |= {name: weights[name].to(SCALE_DTYPE) for name in weights if name.endswith(".scales")}
    written = {"model.safetensors": write_tensors(folder / "model.safetensors", weights)}
    ids = {
        "bos_token_id": config.bos_id,
        "eos_token_id": list(config.eos_ids) if isinstance(config.eos_id, tuple) else config.eos_id,
        "pad_token_id": config.pad_id,
    }
    present = {key: value for key, value in ids.items() if value is not None}
    written["generation_config.json"] = write_json(folder / "generation_config.json", present)
    if tokenizer_folder is not None:
        written |= _copy_tokenizer(folder, Path(tokenizer_folder), config)
    if chat_template is not None:
        written[_CHAT_TEMPLATE] = write_bytes(folder / _CHAT_TEMPLATE, chat_template.encode())
    dtype = str(state["model.embed_tokens.weight"].dtype).removeprefix("torch.")
    written["config.json"] = write_json(folder / "config.json", {**hf, "torch_dtype": dtype})
    return written


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a safetensors file atomically, readable to whom other new files are (the library makes it private).

    Returns:
        Its xxh3-128.

    Raises:
        FileError: the system refused.
    """
    with atomic_path(path) as temporary:
        temporary.path.touch()
        mode = temporary.path.stat().st_mode  # as the umask has it
        try:
            save_file(dict(tensors), temporary, metadata={"format": "pt"})
        except SafetensorError as error:  # the library's words for what the system said: "I/O error: … (os error 28)"
            code = re.search(r"\(os error (\d+)\)", str(error))
            raise FileError(str(error), path=path, errno=int(code[1]) if code else None) from error
        temporary.path.chmod(mode)
    assert temporary.xxh3_128 is not None
    return temporary.xxh3_128


def _copy_tokenizer(folder: Path, source: Path, config: ModelConfig) -> dict[str, str]:
    tokenizer = read_json(source / "tokenizer.json")
    settings_path = source / "tokenizer_config.json"
    settings = read_json(settings_path) if settings_path.exists() else {}
    if settings.get("eos_token") is None:
        settings["eos_token"] = _token_of(tokenizer, config.eos_ids, source)
    if settings.get("pad_token") is None:
        settings["pad_token"] = settings["eos_token"]
    names = ["tokenizer.json", *([_CHAT_TEMPLATE] if (source / _CHAT_TEMPLATE).exists() else [])]
    written = {name: _copy(source / name, folder / name) for name in names}
    return {**written, "tokenizer_config.json": write_json(folder / "tokenizer_config.json", settings)}


def _token_of(tokenizer: Mapping[str, Any], eos_ids: tuple[int, ...], source: Path) -> str:
    """The text of the first end-of-text id among the added tokens of a `tokenizer.json`."""
    for token in tokenizer.get("added_tokens") or ():
        if eos_ids and token.get("id") == eos_ids[0]:
            return str(token["content"])
    raise ConfigError(
        f"no eos_token is named, and the model's eos_id {eos_ids} is none of the special tokens of tokenizer.json",
        path=source / "tokenizer_config.json",
        field="eos_token",
    )


def _copy(source: Path, target: Path) -> str:
    if source.resolve() == target.resolve():
        return _native.hash_file(target)
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
    assert temporary.xxh3_128 is not None
    return temporary.xxh3_128


def _find_tensors(folder: Path) -> dict[str, Path]:
    """Which file of the folder each tensor lies in."""
    single = folder / "model.safetensors"
    index_path = folder / "model.safetensors.index.json"
    if single.exists():
        return dict.fromkeys(_stored_types(single), single)
    if not index_path.exists():
        raise FileError(
            "there is neither this file nor model.safetensors.index.json (weights in pickle files are not read)",
            path=single,
            errno=errno.ENOENT,
        )
    weight_map = read_json(index_path).get("weight_map")
    if not isinstance(weight_map, dict):
        raise FormatError("weight_map is missing", path=index_path)
    homes: dict[str, Path] = {}
    for file_name in sorted({str(name) for name in weight_map.values()}):
        if Path(file_name).name != file_name or not file_name.endswith(".safetensors"):
            raise FormatError(f"weight_map names {file_name!r}, not a file of this folder", path=index_path)
        homes.update(dict.fromkeys(_stored_types(folder / file_name), folder / file_name))
    absent = sorted(set(weight_map) - set(homes))
    if absent:
        path = folder / str(weight_map[absent[0]])
        raise FormatError(f"tensor {absent[0]!r} is not in {path.name}, where the index puts it", path=path)
    return homes


def _stored_types(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name → (dtype, shape) as the header of a safetensors file has them (the library bounds and checks the header)."""
    with _open(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}


def _check_tensors(folder: Path, homes: dict[str, Path], model: Model, config: ModelConfig) -> None:
    """Raise `FormatError` naming the first tensor that is missing, unexpected, or of another shape or type."""
    stored: dict[str, tuple[str, tuple[int, ...]]] = {}
    for path in set(homes.values()):
        stored.update(_stored_types(path))
    expected = model.state_dict()
    for name, tensor in expected.items():
        shape = tuple(tensor.shape)
        if name not in stored:
            raise FormatError(f"tensor {name!r} is missing", path=folder)
        if stored[name][1] != shape:
            raise FormatError(
                f"tensor {name!r} has shape {list(stored[name][1])}, config.json says {list(shape)}", path=homes[name]
            )
        if tensor.is_floating_point():
            known = list(_DTYPES)
        else:
            known = [kind for kind, dtype in _PACKED_DTYPES.items() if dtype == tensor.dtype]
        if stored[name][0] not in known:
            raise FormatError(
                f"tensor {name!r} has type {stored[name][0]} (supported: {', '.join(known)})", path=homes[name]
            )
    for name, path in homes.items():
        if name in expected or name.endswith(".rotary_emb.inv_freq"):  # old files store the frequencies; they follow
            continue  # from the configuration
        if name == "lm_head.weight" and config.tie_embeddings:
            _check_tied(homes)
            continue
        raise FormatError(f"tensor {name!r} is unexpected: a model of this config.json has none", path=path)


def _check_tied(homes: dict[str, Path]) -> None:
    """A tied model may store its output layer too, but only as the same numbers."""
    head, embedding = "lm_head.weight", "model.embed_tokens.weight"
    with _open(homes[head]) as head_file, _open(homes[embedding]) as embedding_file:
        if not torch.equal(head_file.get_tensor(head), embedding_file.get_tensor(embedding)):
            raise FormatError(
                "tensor 'lm_head.weight' differs from the embedding, but config.json says tie_word_embeddings",
                path=homes[head],
            )


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """`safe_open` with our errors."""
    try:
        os.stat(path)  # safe_open's own error for a missing file has no errno
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except SafetensorError as error:
        raise FormatError(f"not a valid safetensors file: {error}", path=path) from error
    except FileError:
        raise
    except OSError as error:
        raise FileError.from_os_error(error, path) from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint's folder. Raises FileError, and FormatError where it is none."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise FileError.from_os_error(error, path) from error
    if len(data) > MAX_JSON_BYTES:
        raise FormatError(f"over {MAX_JSON_BYTES} bytes", path=path)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not valid JSON: {error}", path=path) from error
    if not isinstance(value, dict):
        raise FormatError("not a JSON object", path=path)
    return value
