"""Direct preference optimization through TRL's `DPOTrainer`, on the `transformers` model of a checkpoint folder.

Rafailov et al. 2023 (arXiv 2305.18290, equation 7): −ln σ(β [ln π/π_ref (chosen) − ln π/π_ref (rejected)]), with the
negative log-likelihood of the chosen answer beside it (Pang et al. 2024, arXiv 2404.19733, equation 1, unnormalized),
because the loss alone is content with two answers that both become unlikely.

The pairs are tokenized here, so that no text is read as a mark. Nothing is saved by the trainer.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from biollm.errors import require


def _package(name: str) -> Any:
    return require(name, extra="align")


@contextmanager
def quiet() -> Iterator[None]:
    """Neither progress bars nor notes of the packages around the trainer; their settings are put back."""
    datasets, transformers = _package("datasets"), _package("transformers")
    bars, level = datasets.are_progress_bars_disabled(), transformers.logging.get_verbosity()
    weights_bar = transformers.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(level)
        if weights_bar:
            transformers.logging.enable_progress_bar()
        if not bars:
            datasets.enable_progress_bars()


@dataclass(frozen=True)
class TokenizedPair:
    """Ids of a prompt and of its two answers, their end marks included."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]

    @property
    def longest(self) -> int:
        """Tokens of the prompt with the longer answer."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True)
class DPOLog:
    """Curves: step → value. `loss` is the whole loss, `accuracy` the share of the batch's pairs ranked right, `margin`
    the mean of β times the difference of log-ratios.
    """

    steps: tuple[int, ...]
    loss: tuple[float, ...]
    accuracy: tuple[float, ...]
    margin: tuple[float, ...]


def load_model(folder: Path, device: torch.device) -> Any:
    """The `transformers` model of a checkpoint folder, float32, from safetensors alone.

    Raises:
        MissingExtra: transformers is not installed.
    """
    transformers = _package("transformers")
    with quiet():
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
    return model.to(device)


def run_dpo(
    model: Any,
    tokenizer_folder: Path,
    pairs: Sequence[TokenizedPair],
    *,
    steps: int,
    batch_size: int,
    lr: float,
    beta: float,
    sft_weight: float,
    seed: int,
    every: int,
    check: Callable[[int], bool],
    report: Callable[[int, int], None] | None,
) -> DPOLog:
    """Train `model` in place.

    Args:
        model: of `transformers`.
        tokenizer_folder: where its tokenizer lies; TRL asks for one though nothing is tokenized by it.
        pairs: to learn from.
        steps: optimizer steps.
        batch_size: pairs a step.
        lr: learning rate at the start; it falls linearly to 0 after a tenth of the steps of warm-up.
        beta: of the loss.
        sft_weight: of the likelihood of the chosen answers beside it; 0 = plain DPO.
        seed: of the order of pairs.
        every: steps between calls of `check`.
        check: called with the steps done; False ends the training.
        report: called with steps done and steps in all after each; what it raises ends the training.

    Raises:
        MissingExtra: trl, datasets or transformers is not installed.
    """
    datasets, transformers, trl = _package("datasets"), _package("transformers"), _package("trl")
    _package("accelerate")

    def as_it_is(trainer: Any, dataset: Any, *_: Any, **__: Any) -> Any:
        """In place of the trainer's own tokenization."""
        return dataset

    def on_step_end(callback: Any, args: Any, state: Any, control: Any, **_: Any) -> Any:
        done = int(state.global_step)
        if report is not None:
            report(done, steps)
        if (done % every == 0 or done == steps) and not check(done):
            control.should_training_stop = True
        return control

    # Made by `type`, since these base classes are known only here.
    trainer_class: Any = type("TokenizedPairsTrainer", (trl.DPOTrainer,), {"_prepare_dataset": as_it_is})
    watch_class: Any = type("Watch", (transformers.TrainerCallback,), {"on_step_end": on_step_end})
    rows = {
        "prompt_ids": [list(pair.prompt) for pair in pairs],
        "chosen_ids": [list(pair.chosen) for pair in pairs],
        "rejected_ids": [list(pair.rejected) for pair in pairs],
    }
    on_cpu = next(model.parameters()).device.type == "cpu"
    with tempfile.TemporaryDirectory(prefix="biollm-dpo-") as scratch, quiet():
        config = trl.DPOConfig(
            output_dir=scratch,
            per_device_train_batch_size=batch_size,
            max_steps=steps,
            learning_rate=lr,
            lr_scheduler_type="linear",
            warmup_steps=steps // 10,
            weight_decay=0.0,
            max_grad_norm=1.0,
            beta=beta,
            loss_type=["sigmoid", "sft"] if sft_weight else ["sigmoid"],
            loss_weights=[1.0, sft_weight] if sft_weight else [1.0],
            max_length=None,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=on_cpu,
            bf16=False,
            activation_checkpointing=False,
            disable_tqdm=True,
            seed=seed,
            data_seed=seed,
            remove_unused_columns=False,
            dataloader_pin_memory=not on_cpu,
        )
        trainer = trainer_class(
            model=model,
            args=config,
            train_dataset=datasets.Dataset.from_dict(rows),
            processing_class=transformers.AutoTokenizer.from_pretrained(tokenizer_folder, local_files_only=True),
            callbacks=[watch_class()],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    return DPOLog(
        steps=tuple(int(entry["step"]) for entry in logs),
        loss=tuple(float(entry["loss"]) for entry in logs),
        accuracy=tuple(float(entry.get("rewards/accuracies", 0.0)) for entry in logs),
        margin=tuple(float(entry.get("rewards/margins", 0.0)) for entry in logs),
    )
