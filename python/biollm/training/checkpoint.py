"""A trained model on disk, and the state that training would go on from.

The folder: Hugging Face layout (`models.save_checkpoint`), the training state apart in ``state/`` (safetensors and
JSON, never a pickle), ``summary.json``, and ``manifest.json`` last: a folder with it is complete.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from biollm.atomic import atomic_path, make_folder, write_json
from biollm.document_files import begin_folder
from biollm.errors import FileError, FormatError
from biollm.manifest import Manifest
from biollm.results import Summary

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor, nn

    from biollm.training.engines import Engine

STATE_FORMAT: Final = "biollm-training-state"
STATE_VERSION: Final = 1
STATE_FILES: Final = ("state/optimizer.safetensors", "state/rng.safetensors", "state/state.json")
_HF_FILES: Final = r"(generation_|tokenizer_)?config\.json|model\.safetensors|tokenizer\.json|chat_template\.jinja"
_ADAPTER_FILES: Final = r"adapter/adapter_(config\.json|model\.safetensors)"
_LEFTOVERS: Final = re.compile(
    rf"((state|adapter)/)?\..*\.tmp|{_HF_FILES}|{_ADAPTER_FILES}|{'|'.join(map(re.escape, STATE_FILES))}|"
    r"rejected\.jsonl|summary\.json"
)


@dataclass(frozen=True)
class Checkpoint:
    """A finished checkpoint folder: what ``train`` returns.

    ``path``: the folder, in Hugging Face layout. ``manifest``: what it was made of.
    """

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Checkpoint:
        """The checkpoint in a ``folder`` that ``train`` wrote.

        Raises:
            FileError: no manifest: not one of ours, or not complete.
            FormatError: a broken manifest, or one of another kind of folder.
        """
        manifest = Manifest.read(folder)
        if manifest.kind != "checkpoint":
            raise FormatError(f"this folder holds {manifest.kind}, not a checkpoint", path=folder, field="kind")
        return cls(Path(folder), manifest)

    def summary(self) -> Summary:
        """Losses, baselines, rates and speed of the training.

        Raises:
            FileError: there is no ``summary.json``.
            FormatError: it is broken.
        """
        path = self.path / "summary.json"
        try:
            return Summary.from_dict(json.loads(path.read_bytes()))
        except OSError as error:
            raise FileError.from_os_error(error, path) from error
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"not a summary: {error!r}", path=path) from error

    def write(self, path: str | os.PathLike[str], /) -> None:
        """Copy the folder to ``path``; its manifest is copied last.

        Raises:
            InputError: the other folder holds files that are no checkpoint of ours.
            FileError: the system refused.
        """
        target = Path(path)
        if target.resolve() == self.path.resolve():
            return
        begin_checkpoint(target, [], verb=self.manifest.verb)
        for name in (*self.manifest.outputs, "summary.json"):
            make_folder((target / name).parent)
            with atomic_path(target / name) as temporary:
                shutil.copyfile(self.path / name, temporary)
        self.manifest.write(target)


@dataclass(frozen=True)
class TrainingState:
    """Where a run stood beside its weights and its optimizer.

    ``step``: optimizer steps done. ``position``: tokens of the packed stream consumed, where the next batch begins.
    ``options``: those of the run that its output depends on. ``rng``: state of torch's generator on the CPU, and on
    cuda where that was used.
    """

    step: int
    position: int
    options: dict[str, Any]
    rng: dict[str, Tensor]


def begin_checkpoint(folder: str | os.PathLike[str], sources: list[Path], *, verb: str = "train") -> Path:
    """Make the folder, and empty it of an earlier checkpoint or of what an interrupted run left, the manifest first.

    Raises:
        InputError: the folder holds anything else, or one of ``sources``.
        FileError: the system refused.
    """
    return begin_folder(folder, sources, verb=verb, leftovers=_LEFTOVERS)


def save_state(folder: Path, moments: Mapping[str, Tensor], state: TrainingState) -> dict[str, str]:
    """Write ``state/`` of a checkpoint folder: the moments of each parameter under its name, and the rest.

    Gives the name of each file written → its xxh3-128. Raises FileError where the system refuses.
    """
    from biollm.models.checkpoints import write_tensors

    make_folder(folder / "state")
    rest = {
        "format": STATE_FORMAT,
        "version": STATE_VERSION,
        "step": state.step,
        "position": state.position,
        "options": state.options,
    }
    optimizer_file, rng_file, state_file = STATE_FILES
    on_host = {name: tensor.detach().cpu().contiguous() for name, tensor in moments.items()}
    return {
        optimizer_file: write_tensors(folder / optimizer_file, on_host),
        rng_file: write_tensors(folder / rng_file, state.rng),
        state_file: write_json(folder / state_file, rest),
    }


def load_state(
    folder: str | os.PathLike[str], model: nn.Module, optimizer: torch.optim.Optimizer | Engine
) -> TrainingState:
    """Read ``state/`` of a checkpoint ``folder`` into the ``optimizer`` of ``model``; gives the rest.

    ``optimizer``: torch's AdamW over the parameters of ``model``, or the engine that has it.

    Raises:
        FileError: a file is missing.
        FormatError: a broken file, another version, or moments that are not those of the model's parameters.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from biollm.training.engines import Engine, trained

    paths = [Path(folder) / name for name in STATE_FILES]
    for path in paths:
        if not path.is_file():
            message = "no training state here: a checkpoint of other software, or not complete"
            raise FileError(message, path=path, errno=errno.ENOENT)
    try:
        moments, rng = load_file(paths[0]), load_file(paths[1])
        data = json.loads(paths[2].read_bytes())
    except (SafetensorError, ValueError) as error:
        raise FormatError(f"broken training state: {error}", path=folder) from error
    if not isinstance(data, dict) or (data.get("format"), data.get("version")) != (STATE_FORMAT, STATE_VERSION):
        raise FormatError(f"not a training state of version {STATE_VERSION}", path=paths[2])
    _check_moments(trained(model), moments, paths[0])
    engine = optimizer if isinstance(optimizer, Engine) else Engine(model, optimizer)
    engine.take_moments(moments)
    return TrainingState(data["step"], data["position"], data["options"], rng)


def _check_moments(parameters: dict[str, nn.Parameter], moments: dict[str, Tensor], path: Path) -> None:
    from biollm.training.engines import MOMENTS, whole_shape

    expected = {f"{name}.{moment}" for name in parameters for moment in MOMENTS}
    if odd := sorted(expected ^ set(moments)):
        raise FormatError(
            f"{odd[0]} is {'missing' if odd[0] in expected else 'of no parameter of this model'}", path=path
        )
    for name, parameter in parameters.items():
        for moment in MOMENTS[1:]:
            shape, expected_shape = moments[f"{name}.{moment}"].shape, whole_shape(parameter)
            if shape != expected_shape:
                raise FormatError(f"{name}.{moment} has shape {list(shape)}, not {list(expected_shape)}", path=path)
