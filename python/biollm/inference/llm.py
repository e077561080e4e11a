"""`LLM`: a checkpoint ready to generate."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from biollm.errors import BiollmError, ConfigError, InputError, LimitError, require
from biollm.inference.completion import Completion, Row
from biollm.inference.sampling import SamplingOptions, uniforms
from biollm.tokenization.chat import Chat, ChatTemplate, check_chat, is_chat

if TYPE_CHECKING:
    import torch

    from biollm.inference.decode import CompiledDecode, DecodeStep
    from biollm.inference.kv_cache import KVCache
    from biollm.inference.likelihood import Likelihood

__all__ = ["LLM", "OnDisk", "Prompts", "folder_of"]

log = logging.getLogger("biollm.inference")

Prompts = str | Sequence[str] | Sequence[Sequence[int]] | Chat | Sequence[Chat]

MAX_BATCH_ROWS: Final = 32
# The cache of one batch takes at most this much, unless a single row needs more.
MAX_BATCH_CACHE_BYTES: Final = 4 << 30
MAX_ROW_CACHE_BYTES: Final = 256 << 30
# Each compiled step holds a cache and a compiled graph.
MAX_COMPILED_STEPS: Final = 4
_DTYPES: Final = ("float32", "bfloat16", "float16", "float64")


class OnDisk(Protocol):
    """A result that lies in a folder, as `train` returns one."""

    @property
    def path(self) -> Path:
        """The folder."""


class LLM:
    """A checkpoint folder of the Llama family, loaded for generation.

    Args:
        path: a folder in Hugging Face layout: one of ours, or any Llama, Yi, Mistral, Qwen2 or Qwen3 model. Or what
            `train` returned.
        device: "cpu", "cuda", "cuda:1", …; "auto" is cuda where there is one, else the CPU.
        dtype: "float32", "bfloat16", "float16" or "float64"; "auto" is bfloat16 on cuda, float32 on the CPU.
        compile: whether the decode step is compiled by torch.compile. "auto" compiles for calls long enough to repay it
            (`decode.COMPILE_PAYS_AFTER_STEPS`). Without a working compiler decoding is eager, whatever is asked.

    Attributes:
        path, device, dtype, compile: as given, "auto" decided but for `compile`.
        model: the `Llama`, in evaluation mode.
        config: its `ModelConfig`.
        tokenizer: of the folder; `None` where it has none that can be used.

    Raises:
        MissingExtra: torch or safetensors is not installed.
        FileError, FormatError, ConfigError: as `models.load_checkpoint`; ConfigError also for a device or dtype that
            is not there.

    Calls from several threads take turns.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | OnDisk,
        *,
        device: str = "auto",
        dtype: str = "auto",
        compile: bool | Literal["auto"] = "auto",  # noqa: A002  (the argument's name in torch and transformers too)
    ) -> None:
        require("torch", extra="train")
        require("safetensors", extra="train")
        from biollm.models.checkpoints import load_checkpoint

        if compile not in (True, False, "auto"):
            raise ConfigError(f"compile must be True, False or 'auto', not {compile!r}", field="compile", value=compile)
        self.path = folder_of(path)
        self.device, self.dtype = place(device, dtype)
        self.compile = compile
        self.model = load_checkpoint(self.path, device=self.device, dtype=self.dtype).requires_grad_(False).eval()
        self.config = self.model.config
        self.tokenizer, self._tokenizer_error = _load_tokenizer(self.path)
        self._compiled: OrderedDict[tuple[int, int], CompiledDecode] = OrderedDict()
        self._turn = threading.Lock()

    def generate(
        self,
        prompts: Prompts,
        *,
        max_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
        logprobs: int = 0,
    ) -> list[Completion]:
        """Continue each prompt: one `Completion` a prompt, in the order given.

        Prompts are batched by length; in fp32 a greedy continuation is the same whatever it is batched with.

        Args:
            prompts: a text, a list of texts, a list of lists (or arrays) of token ids, a chat, or a list of chats. A
                chat is a list of `{"role": …, "content": …}`, the last one the user's; it is put into the checkpoint's
                chat template. What looks like a special token in it stays text.
            max_tokens: tokens to generate after each prompt, at most.
            temperature: 0 takes the likeliest token; above 0, samples from the logits divided by it.
            top_p: samples from the likeliest tokens that together have this probability; 1 takes all.
            top_k: samples from this many of the likeliest tokens; 0 takes all.
            stop: a text, or texts, that end a completion; they are not part of it.
            seed: of the sampling; `None` draws one.
            logprobs: how many of the likeliest tokens to give log-probabilities of, at each token; 0 gives none.

        Returns:
            The completions, in the order of the prompts.

        Raises:
            InputError: an empty prompt, an id outside the vocabulary, a prompt that with `max_tokens` exceeds
                the model's context, an option out of range, a malformed chat or one for a checkpoint without a chat
                template, text without a usable tokenizer: all found before any work.
            LimitError: the cache of one prompt would be absurdly large. MemoryError: it does not fit.
            FormatError: the chat template is broken, or fails.
        """
        options = SamplingOptions(
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            seed=seed,
            logprobs=logprobs,
        )
        return self.complete(prompts, options)

    def score(
        self,
        prompts: Sequence[str] | Sequence[Sequence[int]],
        continuations: Sequence[Sequence[str]] | Sequence[Sequence[Sequence[int]]],
        *,
        batch_tokens: int = 8192,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> list[tuple[Likelihood, ...]]:
        """How likely continuations of prompts are: the log-probability of all their tokens, given what stands before.

        A prompt is read once for all its continuations. Prompt and continuation are encoded each by itself; in fp32 a
        continuation has the log-likelihood it has alone, but for the last bits of rounding.

        Args:
            prompts: texts, or lists (or arrays) of token ids; none is empty.
            continuations: of each prompt, texts or lists of token ids; of a text, a leading space belongs to it.
            batch_tokens: tokens of one batch, padding among them.
            progress: called with prompts done and in all; what it raises ends the work.

        Returns:
            For each prompt one `Likelihood` a continuation, in order.

        Raises:
            InputError: as many lists of continuations as prompts are needed; an empty prompt or continuation, an id
                outside the vocabulary, prompt and continuation longer than the model's context, text without a usable
                tokenizer: all found before any work. Or a log-likelihood is not finite.
        """
        from biollm.inference.likelihood import Likelihood, encode_branches
        from biollm.inference.scoring import token_losses

        branches = encode_branches(self, prompts, continuations)
        report = None if progress is None else (lambda done: progress(done, len(branches)))
        with self._turn:
            losses = token_losses(self.model, branches, batch_tokens=batch_tokens, after_batch=report)
        return [tuple(Likelihood(-float(values.sum()), len(values)) for values in row) for row in losses]

    def complete(
        self, prompts: Prompts, options: SamplingOptions, progress: Callable[[int, int | None], None] | None = None
    ) -> list[Completion]:
        """`generate` of `prompts` with its `options` in one object.

        `progress` is called with tokens done and the most there can be.

        Raises:
            InputError, LimitError, MemoryError: as `generate`; and whatever `progress` raises.
        """
        given: list[str | tuple[int, ...]] = []
        ids: list[Sequence[int]] = []
        for index, prompt in enumerate(self._as_list(prompts)):
            shown, encoded = self._encode(index, prompt)
            given.append(shown)
            ids.append(self._checked(index, encoded, options))
        if options.stop and self.tokenizer is None:
            raise InputError("stop strings need a tokenizer, and this checkpoint has none we can use", field="stop")
        if not ids:
            return []
        with self._turn:
            return self._complete(given, ids, options, progress)

    def _complete(
        self,
        prompts: Sequence[str | tuple[int, ...]],
        ids: Sequence[Sequence[int]],
        options: SamplingOptions,
        progress: Callable[[int, int | None], None] | None,
    ) -> list[Completion]:
        from biollm.inference.batch import complete_rows

        length = max(map(len, ids)) + options.max_tokens
        batch_rows = self._batch_rows(len(ids), length)
        shortest_first = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        batches = [shortest_first[i : i + batch_rows] for i in range(0, len(ids), batch_rows)]
        compiled = self._compiles(len(batches) * options.max_tokens)
        completions: dict[int, Completion] = {}
        for batch in batches:
            rows = [self._row(prompts[index], ids[index], options) for index in batch]
            longest = max(len(ids[index]) for index in batch)
            # One shape a call where it is compiled, a fitting one where not.
            cache, step = (
                self._compiled_step(batch_rows, length)
                if compiled
                else self._eager_step(len(batch), longest + options.max_tokens)
            )
            done = len(completions) * options.max_tokens

            def report(rows: Sequence[Row] = rows, done: int = done) -> None:
                if progress is not None:
                    tokens = sum(options.max_tokens if row.finished else len(row.token_ids) for row in rows)
                    progress(done + tokens, len(ids) * options.max_tokens)

            complete_rows(self.model, cache, step, rows, options, uniforms(options, batch), report)
            completions.update((index, row.completion()) for index, row in zip(batch, rows, strict=True))
        return [completions[index] for index in range(len(ids))]

    def _row(self, prompt: str | tuple[int, ...], ids: Sequence[int], options: SamplingOptions) -> Row:
        return Row(
            prompt,
            ids,
            max_tokens=options.max_tokens,
            eos_ids=self.config.eos_ids,
            stop=options.stop,
            tokenizer=self.tokenizer,
            with_logprobs=options.logprobs > 0,
        )

    def _batch_rows(self, prompts: int, length: int) -> int:
        from biollm.inference.kv_cache import KVCache

        row_bytes = KVCache.row_bytes(self.config, length, self.dtype)
        if row_bytes > MAX_ROW_CACHE_BYTES:
            raise LimitError(
                f"the key-value cache of one prompt of {length:,} tokens would take {row_bytes:,} bytes",
                field="max_tokens",
                value=row_bytes,
                limit=MAX_ROW_CACHE_BYTES,
            )
        return max(1, min(prompts, MAX_BATCH_ROWS, MAX_BATCH_CACHE_BYTES // row_bytes))

    def _compiles(self, steps: int) -> bool:
        from biollm.inference.decode import COMPILE_PAYS_AFTER_STEPS, CompiledDecode

        if self.compile == "auto":
            pays_after = COMPILE_PAYS_AFTER_STEPS.get(self.device.type)
            wanted = pays_after is not None and steps >= pays_after
        else:
            wanted = self.compile
        return wanted and not CompiledDecode.no_compiler

    def _eager_step(self, batch: int, length: int) -> tuple[KVCache, DecodeStep]:
        from biollm.inference.decode import decode_one_token
        from biollm.inference.kv_cache import KVCache

        cache = KVCache(self.config, batch=batch, length=length, dtype=self.dtype, device=self.device)
        return cache, decode_one_token

    def _compiled_step(self, batch: int, length: int) -> tuple[KVCache, DecodeStep]:
        """The compiled step of a batch size and of the next power of two of cache length; the last few are kept."""
        from biollm.inference.decode import CompiledDecode
        from biollm.inference.kv_cache import KVCache

        length = min(max(128, 1 << (length - 1).bit_length()), self.config.max_seq_len)
        step = self._compiled.pop((batch, length), None)
        if step is None:
            while len(self._compiled) >= MAX_COMPILED_STEPS:
                self._compiled.popitem(last=False)
            cache = KVCache(self.config, batch=batch, length=length, dtype=self.dtype, device=self.device)
            step = CompiledDecode(cache)
        self._compiled[batch, length] = step
        step.begin()
        return step.cache, step

    def _as_list(self, prompts: Any) -> list[str | tuple[int, ...] | Chat]:
        if isinstance(prompts, str):
            return [prompts]
        if is_chat(prompts):
            return [prompts]
        prompts = _as_plain(prompts)
        if isinstance(prompts, (bytes, dict)) or not isinstance(prompts, Sequence):
            raise TypeError(f"prompts must be a str, a list of str, of token lists or of chats, not {_kind(prompts)}")
        return [self._as_prompt(index, prompt) for index, prompt in enumerate(prompts)]

    def _as_prompt(self, index: int, prompt: Any) -> str | tuple[int, ...] | Chat:
        if isinstance(prompt, str) or is_chat(prompt):
            return prompt
        prompt = _as_plain(prompt)
        if isinstance(prompt, int):
            raise TypeError("prompts must be a list of token lists: pass [[…]] for one prompt of token ids")
        if isinstance(prompt, bytes) or not isinstance(prompt, Sequence):
            raise TypeError(f"prompt {index} must be a str or a list of token ids, not {_kind(prompt)}")
        return tuple(prompt)

    def _encode(self, index: int, prompt: str | tuple[int, ...] | Chat) -> tuple[str | tuple[int, ...], Sequence[int]]:
        """What a prompt is shown as, and its token ids."""
        if isinstance(prompt, tuple) and not is_chat(prompt):
            return prompt, prompt
        if self.tokenizer is None:
            reason = self._tokenizer_error or "it has no tokenizer.json"
            raise InputError(
                f"{'text prompts' if isinstance(prompt, str) else 'chats'} need the checkpoint's tokenizer: {reason}",
                path=self.path,
                row=index,
                field="prompts",
            ) from self._tokenizer_error
        if isinstance(prompt, str):
            return prompt, [int(token_id) for token_id in self.tokenizer.encode(prompt).ids]
        return self._encode_chat(index, prompt)

    def _encode_chat(self, index: int, chat: Any) -> tuple[str, Sequence[int]]:
        if self.chat_template is None:
            raise InputError(
                f"prompt {index} is a chat, and the checkpoint has no chat template: train it with objective "
                "'instruct', put a chat_template.jinja into its folder, or pass the text",
                path=self.path,
                row=index,
                field="prompts",
            )
        try:
            if check_chat(chat)[-1]["role"] == "assistant":
                raise InputError("the chat ends with an answer: end it with a question of the user's")
            text, ids = self.chat_template.prompt_ids(chat, self.tokenizer)
        except InputError as error:
            raise InputError(
                f"prompt {index}: {error.message}", row=index, field="prompts", value=error.value
            ) from error
        return text, ids.tolist()

    @cached_property
    def chat_template(self) -> ChatTemplate | None:
        """Of the folder; `None` where it has none.

        Raises:
            FormatError: it is broken. FileError: it cannot be read. LimitError: it is over 256 KiB.
        """
        return ChatTemplate.of_folder(self.path)

    def _checked(self, index: int, ids: Sequence[int], options: SamplingOptions) -> Sequence[int]:
        """Token ids of a prompt, held against the vocabulary and the context."""
        for token_id in ids:
            if not isinstance(token_id, int) or isinstance(token_id, bool):
                raise TypeError(f"prompt {index} must hold token ids (int), not {_kind(token_id)}")
            if not 0 <= token_id < self.config.vocab_size:
                raise InputError(
                    f"prompt {index} has token id {token_id}, outside the vocabulary of {self.config.vocab_size}",
                    row=index,
                    field="prompts",
                    value=token_id,
                )
        if not ids:
            raise InputError(f"prompt {index} has no tokens", row=index, field="prompts")
        if len(ids) + options.max_tokens > self.config.max_seq_len:
            raise InputError(
                f"prompt {index} has {len(ids)} tokens; with max_tokens={options.max_tokens} it exceeds "
                f"the model's context of {self.config.max_seq_len} tokens",
                row=index,
                field="max_tokens",
                value=len(ids) + options.max_tokens,
                limit=self.config.max_seq_len,
            )
        return ids

    def __repr__(self) -> str:
        return f"LLM({str(self.path)!r}, device={str(self.device)!r}, dtype={_dtype_name(self.dtype)!r})"


def folder_of(checkpoint: str | os.PathLike[str] | OnDisk) -> Path:
    """The folder of a checkpoint, given as a path or as what `train` returned."""
    if isinstance(checkpoint, str | os.PathLike):
        return Path(checkpoint)
    path = getattr(checkpoint, "path", None)
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{type(checkpoint).__name__} is no checkpoint: pass its folder, or what train returned")
    return Path(path)


def place(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """A device and a dtype by their names, "auto" decided. Raises ConfigError where one is not there."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {device!r}", field="device", value=device) from error
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda' is asked for, and torch finds none", field="device", value=device)
    if dtype == "auto":
        dtype = "bfloat16" if place.type == "cuda" else "float32"
    if dtype not in _DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r} (known: auto, {', '.join(_DTYPES)})", field="dtype", value=dtype)
    return place, getattr(torch, dtype)


def _load_tokenizer(folder: Path) -> tuple[Any, BiollmError | None]:
    """The folder's tokenizer, or why there is none: prompts of token ids need none, so it is no error yet."""
    path = folder / "tokenizer.json"
    if not path.exists():
        return None, None
    from biollm.tokenization import Tokenizer

    try:
        return Tokenizer.from_file(path), None
    except BiollmError as error:
        log.warning("only prompts of token ids can be used, without text: %s", error)
        return None, error


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _as_plain(value: Any) -> Any:
    """An array or tensor of ids as a list; anything else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def _kind(value: object) -> str:
    return type(value).__name__
