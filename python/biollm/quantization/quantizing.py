"""The verb `quantize`: a checkpoint in, one of whole-number weights out, and what that cost."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from biollm.atomic import write_json
from biollm.document_files import begin_folder
from biollm.errors import ConfigError, LimitError
from biollm.evaluation import DocumentLosses, Interval, bootstrap, document_losses, perplexity
from biollm.inference.completions import checkpoint_records
from biollm.inference.llm import OnDisk, folder_of
from biollm.manifest import InputRecord, Manifest, StageTimer
from biollm.models import Llama, load_checkpoint, save_checkpoint
from biollm.models.checkpoints import read_config, refuse_quantized
from biollm.models.quantized import quantized_linears
from biollm.quantization.converting import convert
from biollm.quantization.measuring import decode_rates, weights_bytes
from biollm.quantization.options import ALGORITHM_VERSION, QuantizeOptions
from biollm.quantization.report import Outcome, summarize
from biollm.quantization.samples import Samples, draw_samples
from biollm.training.checkpoint import Checkpoint
from biollm.training.placement import resolve, torch_threads

if TYPE_CHECKING:
    from biollm.results import Progress

__all__ = ["quantize", "quantize_checkpoint"]

_HF_FILES: Final = r"(generation_|tokenizer_)?config\.json|model\.safetensors|tokenizer\.json|chat_template\.jinja"
_LEFTOVERS: Final = re.compile(rf"\..*\.tmp|{_HF_FILES}|summary\.json")


def quantize(
    checkpoint: str | os.PathLike[str] | OnDisk,
    calibration: Any,
    *,
    output: str | os.PathLike[str],
    bits: int = 4,
    group_size: int | None = None,
    method: str = "gptq",
    calibration_documents: int = 256,
    evaluation_documents: int = 256,
    max_perplexity_increase: float | None = None,
    seed: int = 0,
    text: str | Sequence[str] = "text",
    device: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Checkpoint:
    """Store the linear layers of a checkpoint's blocks as whole numbers of 8 or 4 bits.

    Rounding is GPTQ's (Frantar et al. 2022, arXiv 2210.17323), with scales searched for under the calibration inputs.
    Embeddings, a tied output layer among them, the output layer and the norms stay as they are. Perplexity is measured
    on held-out documents before and after; none of them is among those that the rounding is fitted to.

    Args:
        checkpoint: a folder in Hugging Face layout, or what `train` returned; not a quantized one.
        calibration: token shards of the checkpoint's tokenizer (a folder, `Shards`, or a list of them): their train
            side calibrates, their validation side is held out. Or documents as any verb takes them: a part of those
            drawn is held out.
        output: folder of the quantized checkpoint; emptied first where it holds an earlier one.
        bits: 4 or 8.
        group_size: inputs that share a scale, at 4 bits; `None` is 64. At 8 bits each output channel has its scale.
        method: "gptq", or "rtn" for plain rounding to the nearest.
        calibration_documents: at most so many; of each the first 2,048 tokens at most.
        evaluation_documents: at most so many.
        max_perplexity_increase: greatest share by which perplexity may rise (0.06 is 6 %); `None` allows any.
        seed: of the choice of documents.
        text: column of the text where documents are given, or several joined by a blank line.
        device: "cpu", "cuda" or "auto".
        threads: of torch on the CPU; `None` is the cores this process may use.
        progress: called with the layers done and in all.

    Returns:
        The checkpoint that was written. `LLM`, `generate` and `evaluate` take it, `train` does not. `transformers`
        does not know its layers: give it the checkpoint this one was made of.

    Raises:
        LimitError: perplexity rose by more than was allowed; `value` and `limit` are shares, and nothing is written.
        InputError: the checkpoint is quantized already; shards of another tokenizer; too few documents; a model that
            overflows on them; an output folder that holds something else.
        ConfigError: an option out of range, a group size that does not divide a layer's inputs, no such device.
        FileError, FormatError: something cannot be read or written.
    """
    options = QuantizeOptions(
        bits=bits,
        group_size=group_size,
        method=method,
        calibration_documents=calibration_documents,
        evaluation_documents=evaluation_documents,
        max_perplexity_increase=max_perplexity_increase,
        seed=seed,
        text=text if isinstance(text, str) else tuple(text),
        device=device,
        threads=threads,
    )
    return quantize_checkpoint(folder_of(checkpoint), calibration, options, output=Path(output), progress=progress)


def quantize_checkpoint(
    checkpoint: Path,
    calibration: Any,
    options: QuantizeOptions,
    *,
    output: Path,
    inputs: Sequence[InputRecord] | None = None,
    progress: Progress | None = None,
) -> Checkpoint:
    """`quantize` with its options in one piece: what the function and the stage share.

    Args:
        checkpoint: its folder.
        calibration: as in `quantize`.
        options: checked ones.
        output: as in `quantize`.
        inputs: what the manifest says of the inputs; without them, what checkpoint and documents know.
        progress: as in `quantize`.
    """
    timer = StageTimer()
    config = read_config(checkpoint)
    refuse_quantized(checkpoint, config, "quantization", field="checkpoint")
    try:
        replace(config, quantization=options.quantization())
    except ConfigError as error:
        raise ConfigError(error.message, path=checkpoint, field=error.field, value=error.value) from None
    device = resolve(options.device, "float32").device
    samples = draw_samples(calibration, checkpoint, config, options)
    begin_folder(output, [checkpoint, *_folders(calibration)], verb="quantize", leftovers=_LEFTOVERS)
    with torch_threads(options.threads):
        model = load_checkpoint(checkpoint, device=device).requires_grad_(False).eval()
        stored = model.model.embed_tokens.weight.dtype
        model.to(torch.float32)
        before = _losses(model, samples)
        errors = convert(model, samples.calibration, options.quantization(), method=options.method, report=progress)
        after = _losses(model, samples)
        increase = _increase(before, after)
        _check_increase(increase, options, output)
        _to_dtype(model, stored)
        tokenizer = checkpoint if (checkpoint / "tokenizer.json").is_file() else None
        files = save_checkpoint(output, model, tokenizer)
        del model
        folders = {"before": checkpoint, "after": output}
        rates = {
            str(dtype).removeprefix("torch."): decode_rates(folders, device, dtype) for dtype in _decoded_in(device)
        }
    outcome = Outcome(
        options=options,
        errors=errors,
        calibration_documents=len(samples.calibration),
        calibration_tokens=sum(ids.size for ids in samples.calibration),
        dropped=samples.dropped,
        evaluation_documents=len(samples.held_out),
        evaluation_tokens=int(before.tokens.sum()),
        perplexity=(before.perplexity, after.perplexity),
        increase=increase,
        file_bytes=(weights_bytes(checkpoint), weights_bytes(output)),
        rates={dtype: (rate["before"], rate["after"]) for dtype, rate in rates.items()},
    )
    write_json(output / "summary.json", summarize(outcome).to_dict())
    manifest = Manifest(
        verb="quantize",
        kind="checkpoint",
        algorithm_version=ALGORITHM_VERSION,
        options=options.matched(),
        inputs=tuple(inputs) if inputs is not None else (*checkpoint_records(checkpoint), *samples.inputs),
        counts={
            "parameters": config.num_parameters,
            "calibration_documents": outcome.calibration_documents,
            "calibration_tokens": outcome.calibration_tokens,
            "evaluation_documents": outcome.evaluation_documents,
            "evaluation_tokens": outcome.evaluation_tokens,
        },
        outputs=dict(sorted(files.items())),
        wall_s=timer.wall_s,
        cpu_s=timer.cpu_s,
    )
    manifest.write(output)
    return Checkpoint(output, manifest)


def _losses(model: Llama, samples: Samples) -> DocumentLosses:
    return document_losses(model, samples.held_out, masks=samples.held_out_masks)


def _increase(before: DocumentLosses, after: DocumentLosses) -> Interval:
    """By what share perplexity rose, on the same documents; resampled together."""
    return bootstrap(
        np.concatenate([before.totals, after.totals], axis=1),
        lambda sums: perplexity(sums[..., 3:]) / perplexity(sums[..., :3]) - 1,
    )


def _check_increase(increase: Interval, options: QuantizeOptions, output: Path) -> None:
    limit = options.max_perplexity_increase
    # A figure that is no number is no proof that the model is good.
    if limit is None or increase.estimate <= limit:
        return
    way_out = "use 8 bits" if options.bits == 4 else "use more calibration documents"
    raise LimitError(
        f"perplexity rises by {increase.estimate:.2%} on {increase.units} held-out documents, over the {limit:.2%} "
        f"allowed; nothing is written: {way_out}, a smaller group_size, or allow more",
        path=output,
        field="max_perplexity_increase",
        value=increase.estimate,
        limit=limit,
    )


def _to_dtype(model: Llama, dtype: torch.dtype) -> None:
    """What is not quantized goes back to the dtype of the file; scales keep theirs, in which they are exact."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    for layer in quantized_linears(model).values():
        layer.bias = None if layer.bias is None else layer.bias.to(dtype)


def _decoded_in(device: torch.device) -> tuple[torch.dtype, ...]:
    """The default of `generate` there, and on the CPU the dtype that has kernels for whole numbers besides."""
    return (torch.float32, torch.bfloat16) if device.type == "cpu" else (torch.bfloat16,)


def _folders(calibration: Any) -> list[Path]:
    """The paths among what calibrates, for the output must be none of them."""
    items = calibration if isinstance(calibration, list | tuple) else [calibration]
    paths = [getattr(item, "folder", item) for item in items]
    return [Path(path) for path in paths if isinstance(path, os.PathLike)]
