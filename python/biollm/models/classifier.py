"""A model of the Llama family that tells the class of a text, as `transformers`' `…ForSequenceClassification` do.

    tokens → decoder → hidden state of the last token → linear head → one logit a class

The folder is that of the `transformers` class: `score.weight` beside the decoder's tensors, the names of the classes as
`id2label` and `label2id` in `config.json`. A text is given with the EOS at its end, which is the token that is scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from biollm.errors import ConfigError, FormatError
from biollm.models.checkpoints import load_onto, read_json, write_checkpoint
from biollm.models.config import ARCHITECTURES, ModelConfig
from biollm.models.llama import Decoder

__all__ = ["LlamaClassifier", "load_classifier", "save_classifier"]

_SUFFIX: Final = ("ForCausalLM", "ForSequenceClassification")
HEAD_STD: Final = 0.02


class LlamaClassifier(nn.Module):
    """A decoder with a linear head over classes, without a bias.

    Args:
        config: of the decoder.
        labels: names of the classes, in the order of the logits.

    Attributes:
        config, labels: as given.
        model: the `Decoder`.
        score: the head, (classes, dim).
    """

    def __init__(self, config: ModelConfig, labels: Sequence[str]) -> None:
        super().__init__()
        self.config = config
        self.labels = tuple(labels)
        self.model = Decoder(config)
        self.score = nn.Linear(config.dim, len(self.labels), bias=False)
        self.init_head()

    @torch.no_grad()
    def init_head(self) -> None:
        """Normal weights of a standard deviation of 0.02: at first all classes are about as likely."""
        self.score.weight.normal_(0.0, HEAD_STD)

    def forward(self, tokens: Tensor, *, positions: Tensor | None = None, document_ids: Tensor | None = None) -> Tensor:
        """Logits (batch, seq, classes) at each of `tokens` (batch, seq); those of a text stand at its last token.

        Args:
            tokens: ids, (batch, seq), int64.
            positions: (batch, seq), as in `Llama.forward`.
            document_ids: (batch, seq), as in `Llama.forward`: several texts in a row do not see each other.
        """
        logits: Tensor = self.score(self.model(tokens, positions=positions, document_ids=document_ids))
        return logits


def load_classifier(
    folder: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> LlamaClassifier:
    """Load a folder of `LlamaForSequenceClassification`, or that of Mistral, Qwen2 or Qwen3; in training mode.

    Args:
        folder: in Hugging Face layout.
        device: where the weights go.
        dtype: their type; None keeps the file's.

    Returns:
        The model.

    Raises:
        ConfigError: it is no classifier, names no classes, or has an option we lack.
        FileError, FormatError: as `load_checkpoint`.
    """
    folder = Path(folder)
    path = folder / "config.json"
    hf = read_json(path)
    wanted = ARCHITECTURES.get(str(hf.get("model_type")), "").replace(*_SUFFIX)
    if wanted not in (hf.get("architectures") or ()):
        raise ConfigError(
            f"no classifier: architectures is {hf.get('architectures')!r}; train makes one with objective 'classify'",
            path=path,
            field="architectures",
            value=hf.get("architectures"),
        )
    config = ModelConfig.from_hf({**hf, "architectures": None})
    with torch.device("meta"):
        model = LlamaClassifier(config, _labels(hf, path))
    return load_onto(folder, model, device=device, dtype=dtype)


def save_classifier(
    folder: str | Path,
    model: LlamaClassifier,
    tokenizer_folder: str | Path | None = None,
    *,
    state: Mapping[str, Tensor] | None = None,
) -> dict[str, str]:
    """Write a folder that `AutoModelForSequenceClassification` and `load_classifier` read.

    Args:
        folder: to write to; made where it is missing.
        model: whose configuration, classes and weights are written.
        tokenizer_folder: where the tokenizer's files are copied from, as in `save_checkpoint`.
        state: weights by name in place of the model's own, as where adapters are merged.

    Returns:
        Name of each file written → its xxh3-128.

    Raises:
        FileError, ConfigError: as `save_checkpoint`.
    """
    hf = model.config.to_hf()
    hf |= {
        "architectures": [ARCHITECTURES[model.config.model_type].replace(*_SUFFIX)],
        "id2label": {str(index): label for index, label in enumerate(model.labels)},
        "label2id": {label: index for index, label in enumerate(model.labels)},
        "problem_type": "single_label_classification",
    }
    return write_checkpoint(folder, model.state_dict() if state is None else state, model.config, hf, tokenizer_folder)


def _labels(hf: Mapping[str, Any], path: Path) -> list[str]:
    named = hf.get("id2label")
    if not isinstance(named, dict) or not named:
        raise ConfigError("id2label is missing: the classes have no names", path=path, field="id2label")
    try:
        by_id = {int(index): str(label) for index, label in named.items()}
    except ValueError as error:
        raise FormatError(f"id2label: {error}", path=path, field="id2label") from error
    if sorted(by_id) != list(range(len(by_id))):
        raise FormatError(f"id2label has not the ids 0 to {len(by_id) - 1}", path=path, field="id2label")
    return [by_id[index] for index in range(len(by_id))]
