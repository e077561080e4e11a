"""What of a trained model is written, and read again by a run that goes on: all weights, or adapters beside a base."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from biollm.models import Llama, LlamaClassifier, save_checkpoint, save_classifier
from biollm.models.checkpoints import load_weights, write_checkpoint
from biollm.training import lora
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

    def write(self, folder: Path, *, to_go_on: bool = False) -> dict[str, str]:
        """A folder in Hugging Face layout, adapters merged; ``to_go_on``: with what `read` needs besides.

        Gives the name of each file → its xxh3-128. Raises FileError where the system refuses.
        """
        if not self.options.lora_rank:
            return self._write_all(folder)
        written = self._write_merged(folder)
        if to_go_on:
            written |= lora.write_trained(folder, self.model)
        elif self.options.save_adapter:
            written |= lora.write_adapter(folder, self.model, self.options)
        return written

    def read(self, folder: Path) -> None:
        """Take over the weights of a folder that `write` wrote to go on from."""
        if self.options.lora_rank:
            lora.read_trained(folder, self.model)
        else:
            load_weights(folder, self.model)

    def _write_all(self, folder: Path) -> dict[str, str]:
        if isinstance(self.model, LlamaClassifier):
            return save_classifier(folder, self.model, self.tokenizer_folder)
        return save_checkpoint(folder, self.model, self.tokenizer_folder, chat_template=self.chat_template)

    def _write_merged(self, folder: Path) -> dict[str, str]:
        state, config = lora.merged_state(self.model), self.model.config
        if isinstance(self.model, LlamaClassifier):
            return save_classifier(folder, self.model, self.tokenizer_folder, state=state)
        return write_checkpoint(
            folder, state, config, config.to_hf(), self.tokenizer_folder, chat_template=self.chat_template
        )
