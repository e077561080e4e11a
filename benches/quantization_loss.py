"""What quantization costs a trained model: perplexity on held-out documents, bytes, and tokens a second.

    python benches/quantization_loss.py MODEL SHARDS [--calibration 256] [--evaluation 100000] [--threads 1]

Prints two tables for BENCHMARKS.md. Intervals are 95 % of a bootstrap over documents, all models resampled together;
"closes" is the share of the rise from bfloat16 weights to round-to-nearest that GPTQ takes back at equal group size.
Perplexities are computed in float32; "bfloat16" is the model with its weights rounded to bfloat16.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from biollm.evaluation import DocumentLosses, Interval, bootstrap, document_losses, perplexity
from biollm.models import Llama, Quantization, load_checkpoint, save_checkpoint
from biollm.models.checkpoints import read_config
from biollm.quantization import QuantizeOptions, convert
from biollm.quantization.measuring import decode_rates
from biollm.quantization.samples import draw_samples

KINDS = (Quantization(8), Quantization(4, 64), Quantization(4, 32))


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    config = read_config(arguments.model)
    options = QuantizeOptions(calibration_documents=arguments.calibration, evaluation_documents=arguments.evaluation)
    samples = draw_samples(arguments.shards, arguments.model, config, options)
    model = load_checkpoint(arguments.model, dtype=torch.float32).requires_grad_(False).eval()

    def losses(of: Llama) -> DocumentLosses:
        return document_losses(of, samples.held_out, masks=samples.held_out_masks)

    whole, bf16 = losses(model), losses(rounded_to_bf16(model))
    sizes = [sum(ids.size for ids in samples.calibration), int(whole.tokens.sum())]
    print(
        f"{config.num_parameters:,} parameters; {len(samples.calibration)} documents of {sizes[0]:,} tokens calibrate, "
    )
    print(f"{len(whole)} others of {sizes[1]:,} judge; {samples.dropped} left out as equal to one of these\n")
    print("| weights | perplexity | over bfloat16 | GPTQ closes | linear bytes | mean output error | seconds |")
    print("|---|---|---|---|---|---|---|")
    print(f"| float32 | {whole.perplexity:.4f} | {percent(rise(bf16, whole))} | – | 2.000 | – | – |")
    print(f"| bfloat16 | {bf16.perplexity:.4f} | – | – | 1.000 | – | – |", flush=True)
    with tempfile.TemporaryDirectory() as place:
        folders = {"as trained": arguments.model}
        for kind in KINDS:
            nearest: DocumentLosses | None = None
            for method in ("rtn", "gptq"):
                changed = copy.deepcopy(model)
                began = time.perf_counter()
                errors = convert(changed, samples.calibration, kind, method=method)
                seconds = time.perf_counter() - began
                found = losses(changed)
                # Of a rise that may be none there is no share.
                real = nearest is not None and rise(bf16, nearest).excludes(0.0)
                closes = percent(closed(bf16, nearest, found), sign="") if nearest is not None and real else "–"
                share = sum(e.weight_bytes for e in errors) / sum(2 * e.shape[0] * e.shape[1] for e in errors)
                mean = np.mean([error.relative_error for error in errors])
                cells = [f"{kind.name} {method}", f"{found.perplexity:.4f}", percent(rise(bf16, found)), closes]
                print(f"| {' | '.join(cells)} | {share:.4f} | {mean:.4f} | {seconds:.0f} |", flush=True)
                nearest = found
            folders[kind.name] = Path(place) / kind.name
            save_checkpoint(folders[kind.name], changed)
        speeds(folders)


def parse() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--calibration", type=int, default=256)
    parser.add_argument("--evaluation", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def rounded_to_bf16(model: Llama) -> Llama:
    return copy.deepcopy(model).bfloat16().float()


def rise(before: DocumentLosses, after: DocumentLosses) -> Interval:
    return bootstrap(
        np.concatenate([before.totals, after.totals], axis=1),
        lambda sums: perplexity(sums[..., 3:]) / perplexity(sums[..., :3]) - 1,
    )


def closed(bf16: DocumentLosses, nearest: DocumentLosses, found: DocumentLosses) -> Interval:
    def share(sums: Any) -> Any:
        whole, plain, ours = (perplexity(sums[..., 3 * i : 3 * i + 3]) for i in range(3))
        return (plain - ours) / (plain - whole)

    return bootstrap(np.concatenate([bf16.totals, nearest.totals, found.totals], axis=1), share)


def percent(interval: Interval, sign: str = "+") -> str:
    digits = ".3%" if sign else ".0%"
    values = (format(value, sign + digits) for value in (interval.estimate, interval.low, interval.high))
    return "{} ({} … {})".format(*values)


def speeds(folders: dict[str, Path]) -> None:
    names: Sequence[str] = list(folders)
    print(f"\n| tokens/s, batch 1, eager | {' | '.join(names)} |")
    print(f"|---|{'---|' * len(names)}")
    for dtype in (torch.float32, torch.bfloat16):
        rates = decode_rates(folders, torch.device("cpu"), dtype)
        shown = [f"{rates[name]:.0f} ({rates[name] / rates[names[0]]:.2f}×)" for name in names]
        print(f"| {str(dtype).removeprefix('torch.')} | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()
