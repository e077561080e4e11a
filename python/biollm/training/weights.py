"""What of a trained model is written, and read again by a run that goes on: all weights, or adapters beside a base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from biollm.models import Llama, LlamaClassifier, save_classifier
from biollm.models.checkpoints import load_weights, write_checkpoint
from biollm.training import lora
from biollm.training.engines import trained
from biollm.training.options import TrainOptions

Model = Llama | LlamaClassifier


@dataclass(frozen=True)
class Weights:
    """The weights of a model and what lies beside them.

    ``tokenizer_folder``: whose tokenizer files are copied. ``chat_template``: written in place of that folder's.
    """

    model: Model
    options: TrainOptions
    tokenizer_folder: Path
    chat_template: str | None = None

    def write(self, folder: Path, state: Mapping[str, Tensor], *, to_go_on: bool = False) -> dict[str, str]:
        """A folder in Hugging Face layout, adapters merged; ``to_go_on``: with what `read` needs besides.

        ``state``: the whole model's tensors by name. Gives the name of each file → its xxh3-128. Raises FileError where
        the system refuses.
        """
        if not self.options.lora_rank:
            return self._write_model(folder, state)
        written = self._write_model(folder, lora.merged_state(state, self.options))
        if to_go_on:
            written |= lora.write_trained(folder, {name: state[name] for name in trained(self.model)})
        elif self.options.save_adapter:
            written |= lora.write_adapter(folder, state, self.options)
        return written

    def read(self, folder: Path) -> None:
        """Take over the weights of a folder that `write` wrote to go on from; before an engine has the model."""
        if self.options.lora_rank:
            lora.read_trained(folder, self.model)
        else:
            load_weights(folder, self.model)

    def _write_model(self, folder: Path, state: Mapping[str, Tensor]) -> dict[str, str]:
        if isinstance(self.model, LlamaClassifier):
            return save_classifier(folder, self.model, self.tokenizer_folder, state=state)
        config = self.model.config
        return write_checkpoint(
            folder, state, config, config.to_hf(), self.tokenizer_folder, chat_template=self.chat_template
        )
