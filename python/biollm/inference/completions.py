"""The verb `generate`: a checkpoint and prompts in, completions out, as a list and as a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from biollm import _native
from biollm.atomic import make_folder, write_bytes, write_json
from biollm.errors import InputError
from biollm.inference.completion import Completion
from biollm.inference.llm import LLM, OnDisk, Prompts, folder_of
from biollm.inference.sampling import SamplingOptions
from biollm.manifest import InputRecord, Manifest, StageTimer
from biollm.results import Sample, Summary

if TYPE_CHECKING:
    from biollm.results import Progress

__all__ = ["ALGORITHM_VERSION", "UNMATCHED_OPTIONS", "Completions", "GenerateOptions", "generate"]

ALGORITHM_VERSION: Final = 1
MAX_SAMPLES: Final = 8


class Completions(list[Completion]):
    """The completions of one call, in the order of the prompts: a list that also tells of itself.

    Args:
        completions: one a prompt.
        manifest: what they were made of.
    """

    def __init__(self, completions: Iterable[Completion], manifest: Manifest) -> None:
        super().__init__(completions)
        self._manifest = manifest

    @property
    def manifest(self) -> Manifest:
        """What they were made of; with the files' checksums once written."""
        return self._manifest

    def summary(self) -> Summary:
        """Counts, speed and a few of the texts."""
        counts = self.manifest.counts
        return Summary(
            title="generate",
            facts={
                "prompts": len(self),
                "prompt tokens": counts["prompt_tokens"],
                "generated tokens": counts["generated_tokens"],
                "ended by themselves": counts["stopped"],
                "cut at max_tokens": len(self) - counts["stopped"],
                "generated tokens per second": counts["generated_tokens"] / max(counts["decode_s"], 1e-9),
            },
            samples=tuple(
                Sample(
                    title=f"prompt: {_shown(completion.prompt)}", text=completion.text or _shown(completion.token_ids)
                )
                for completion in self[:MAX_SAMPLES]
            ),
        )

    def write(self, path: str | os.PathLike[str], /) -> None:
        """Leave `path` as a folder of kind "completions": `completions.jsonl`, `summary.json`, `manifest.json` last.

        Raises:
            FileError: the system refused.
        """
        folder = make_folder(path)
        lines = (json.dumps(completion.to_dict(), ensure_ascii=False, allow_nan=False) for completion in self)
        data = "".join(f"{line}\n" for line in lines).encode()
        outputs = {"completions.jsonl": write_bytes(folder / "completions.jsonl", data)}
        outputs["summary.json"] = write_json(folder / "summary.json", self.summary().to_dict())
        self._manifest = replace(self._manifest, outputs=outputs)
        self._manifest.write(folder)


@dataclass(frozen=True)
class GenerateOptions(SamplingOptions):
    """The options of `generate`, and the keys of its stage.

    Attributes:
        max_tokens: tokens to generate after each prompt, at most.
        temperature: 0 takes the likeliest token, otherwise tokens are drawn from logits divided by it.
        top_p: draw only from the likeliest tokens that together reach this probability (1.0: all).
        top_k: draw only from this many of the likeliest tokens (0: all).
        stop: strings that end a text and are cut from it.
        seed: makes draws repeatable; without one each run draws others.
        logprobs: how many likely tokens to report with their log-probabilities at each step (0: none).
        prompts: the texts to continue, where no documents are given.
        text: the column of the documents that holds the prompts.
        chat: whether each prompt is a user's message, to be put into the checkpoint's chat template.
        device: auto (cuda where there is one), cpu, cuda.
        dtype: auto (bfloat16 on cuda, float32 on the CPU), float32, bfloat16, float16, float64.
        compile: whether torch.compile compiles the decode step; auto does for long runs.
    """

    prompts: tuple[str, ...] = ()
    text: str = "text"
    chat: bool = False
    device: str = "auto"
    dtype: str = "auto"
    compile: bool | Literal["auto"] = "auto"


UNMATCHED_OPTIONS: Final = frozenset({"compile"})


def generate(
    checkpoint: str | os.PathLike[str] | OnDisk,
    prompts: Prompts | Path,
    *,
    max_tokens: int = 128,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    stop: str | Sequence[str] = (),
    seed: int | None = None,
    logprobs: int = 0,
    text: str = "text",
    chat: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    compile: bool | Literal["auto"] = "auto",  # noqa: A002  (as in LLM)
    output: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Completions:
    """Continue prompts with a checkpoint. `LLM` keeps a checkpoint loaded between calls; this loads it for one.

    Args:
        checkpoint: a folder in Hugging Face layout, or what `train` returned.
        prompts: a text, a list of texts, a list of token lists, a chat or a list of chats, or a `Path` to documents (a
            file or a stage's folder) whose texts are the prompts.
        max_tokens: tokens to generate after each prompt, at most.
        temperature: 0 takes the likeliest token; above 0, samples from the logits divided by it.
        top_p: samples from the likeliest tokens that together have this probability; 1 takes all.
        top_k: samples from this many of the likeliest tokens; 0 takes all.
        stop: a text, or texts, that end a completion; they are not part of it.
        seed: of the sampling; `None` draws one.
        logprobs: how many of the likeliest tokens to give log-probabilities of, at each token; 0 gives none.
        text: the column of the documents that holds the prompts.
        chat: whether each text is a user's message, to be put into the checkpoint's chat template.
        device: "cpu", "cuda", "cuda:1", …; "auto" is cuda where there is one, else the CPU.
        dtype: "float32", "bfloat16", "float16" or "float64"; "auto" is bfloat16 on cuda, float32 on the CPU.
        compile: whether to decode by a compiled step; "auto" compiles where that pays; see `LLM`.
        output: a folder to leave as a stage leaves it.
        progress: called with the tokens done and the most there can be.

    Returns:
        One `Completion` a prompt, in order; a list that also has `manifest`, `summary()` and `write(path)`.

    Raises:
        InputError, LimitError, MemoryError: as `LLM.generate`.
        FileError, FormatError, ConfigError, MissingExtra: as `LLM`; and as `read` for documents.
    """
    options = GenerateOptions(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        seed=seed,
        logprobs=logprobs,
        text=text,
        chat=chat,
        device=device,
        dtype=dtype,
        compile=compile,
    )
    folder = folder_of(checkpoint)
    inputs = checkpoint_records(folder)
    were_read = isinstance(prompts, Path)
    if isinstance(prompts, Path):
        prompts, records = read_prompts([prompts], text)
        inputs += records
    completions = complete(folder, prompts, options, inputs=inputs, were_read=were_read, progress=progress)
    if output is not None:
        completions.write(output)
    return completions


def complete(
    folder: Path,
    prompts: Prompts,
    options: GenerateOptions,
    *,
    inputs: tuple[InputRecord, ...],
    were_read: bool,
    progress: Progress | None = None,
) -> Completions:
    """`generate` on prompts in memory.

    inputs: what the manifest says of the checkpoint, and of the documents the prompts were read from.
    were_read: whether there are such documents; else the prompts themselves stand among the manifest's options.

    Raises:
        BiollmError: as `generate`.
    """
    timer = StageTimer()
    llm = LLM(folder, device=options.device, dtype=options.dtype, compile=options.compile)
    texts = [prompts] if isinstance(prompts, str) else prompts
    if options.chat:
        if not all(isinstance(text, str) for text in texts):
            raise InputError("chat=True makes chats of texts: leave it out for chats and token ids", field="chat")
        prompts = [[{"role": "user", "content": text}] for text in texts]
    decoding = StageTimer()
    completions = llm.complete(prompts, options, progress)
    decode_s = decoding.wall_s
    shown = [list(c.prompt) if isinstance(c.prompt, tuple) else c.prompt for c in completions]
    given = list(texts) if options.chat else shown  # a stage is known by its options as they were written
    manifest = Manifest(
        verb="generate",
        kind="completions",
        algorithm_version=ALGORITHM_VERSION,
        options=_matched(options, () if were_read else given),
        inputs=inputs,
        counts={
            "prompts": len(completions),
            "prompt_tokens": sum(c.prompt_tokens for c in completions),
            "generated_tokens": sum(len(c.token_ids) for c in completions),
            "stopped": sum(c.finish_reason == "stop" for c in completions),
            "decode_s": round(decode_s, 6),
        },
        wall_s=timer.wall_s,
        cpu_s=timer.cpu_s,
    )
    return Completions(completions, manifest)


def read_prompts(sources: Sequence[Path | str], text: str) -> tuple[list[str], tuple[InputRecord, ...]]:
    """The texts of documents, and the records of what they were read from.

    Raises:
        BiollmError: as `read`.
    """
    from biollm.readers import as_documents

    prompts: list[str] = []
    records: list[InputRecord] = []
    for source in sources:
        documents = as_documents(source, text=text)
        for batch in documents.reader():
            prompts.extend(batch.column("text").to_pylist())
        if (Path(source) / "manifest.json").is_file():
            records.append(InputRecord.of_stage(source))
        else:
            records.extend(documents.inputs)
    return prompts, tuple(records)


def checkpoint_records(folder: Path) -> tuple[InputRecord, ...]:
    """One record of a checkpoint: its manifest's hash, or for a folder of other software that of its files."""
    if (folder / "manifest.json").is_file():
        return (InputRecord.of_stage(folder),)
    names = sorted(path.name for path in folder.glob("*") if path.suffix in (".json", ".safetensors"))
    contents = [[name, _native.hash_file(folder / name)] for name in names]
    return (InputRecord(str(folder), "folder", _native.hash_bytes(json.dumps(contents).encode())),)


def _matched(options: GenerateOptions, prompts: Sequence[Any]) -> dict[str, Any]:
    """The options that decide the output, as plain JSON values; prompts that were read are inputs instead."""
    values = asdict(options) | {"stop": list(options.stop), "prompts": list(prompts)}
    return {name: value for name, value in values.items() if name not in UNMATCHED_OPTIONS}


def _shown(prompt: str | Sequence[int]) -> str:
    return prompt if isinstance(prompt, str) else " ".join(map(str, prompt))
