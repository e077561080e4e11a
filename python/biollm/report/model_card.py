"""The command `card`: a model card in the form of the Hugging Face Hub, written from manifests alone.

Front matter and form follow https://huggingface.co/docs/hub/model-cards. What the manifests, summaries and documents of
the checkpoint's stages do not say is said to be missing: nothing is guessed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from biollm.atomic import write_bytes
from biollm.errors import BiollmError, InputError
from biollm.report import card_sections as sections
from biollm.report.energy import CORE_WATTS, GRID_G_PER_KWH, EnergyModel
from biollm.report.folders import CARD_MARK, CARD_NAME, is_card, read_json
from biollm.report.lineage import Lineage, find_checkpoint, trace
from biollm.report.markdown import yaml

__all__ = ["card"]

_LICENCE_ID: Final = re.compile(r"[a-z0-9][a-z0-9.+-]*")


def card(
    folder: str | os.PathLike[str],
    *,
    stage: str | None = None,
    output: str | os.PathLike[str] | None = None,
    licence: str | None = None,
    data_licence: str | None = None,
    core_watts: float = CORE_WATTS,
    grid_g_per_kwh: float = GRID_G_PER_KWH,
    gpu_watts: float | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the model card of a checkpoint: data, licences, stages, losses, harm, quantization, evaluation, energy.

    The manifests of its stages are followed back as far as they are found beside the checkpoint; evaluations beside it
    are shown. A checkpoint that was copied elsewhere gets a card of what its own folder says.

    Args:
        folder: of a checkpoint, or of a run: then the card is of its last checkpoint.
        stage: of a run's folder, the name of the checkpoint's stage instead.
        output: the file to write; by default `README.md` in the checkpoint's folder.
        licence: of the model, as the Hub names it ("apache-2.0"); without it the card says "not stated".
        data_licence: of the documents; beside it stands what their fields `licence` or `license` say.
        core_watts: of one busy core, for the modelled energy.
        grid_g_per_kwh: grams of CO2 a kWh, for the same.
        gpu_watts: of one GPU at work; without it the energy of GPUs is left out, and the card says so.
        overwrite: replace a file that `card` did not write.

    Returns:
        The path of the card.

    Raises:
        InputError: no manifest of a checkpoint is there; no such stage; the file exists and is no card of ours.
        ConfigError: watts or grams that are no sensible number.
        FileError, FormatError: a manifest cannot be read, or the card cannot be written.
    """
    energy = EnergyModel(core_watts, grid_g_per_kwh, gpu_watts)
    checkpoint = find_checkpoint(Path(folder), stage)
    target = Path(output) if output is not None else checkpoint / CARD_NAME
    if target.is_dir():
        raise InputError("the output is a folder: name a file", path=target, field="output")
    if not overwrite and target.exists() and not is_card(target):
        message = "there is a file that biollm did not write: choose another output, or give overwrite"
        raise InputError(message, path=target, field="output")
    lineage = trace(checkpoint)
    blocks = [
        f"# {sections.title(lineage)}",
        sections.lead(lineage),
        sections.licences(lineage, licence, data_licence),
        sections.data(lineage),
        sections.stages(lineage),
        sections.training(lineage),
        sections.alignment(lineage),
        sections.quantization(lineage),
        sections.evaluation(lineage),
        sections.cost(lineage, energy),
        sections.limitations(lineage, _config(checkpoint)),
        sections.provenance(lineage),
    ]
    mark = f"{CARD_MARK}{lineage.checkpoint.manifest.hash} -->"
    head = f"---\n{yaml(_front_matter(lineage, licence, _config(checkpoint)))}---\n{mark}\n\n"
    write_bytes(target, (head + "\n\n".join(block for block in blocks if block) + "\n").encode())
    return target


def _config(checkpoint: Path) -> Mapping[str, Any]:
    """`config.json`; empty where it cannot be read."""
    with suppress(BiollmError):
        return read_json(checkpoint / "config.json")
    return {}


def _front_matter(lineage: Lineage, licence: str | None, config: Mapping[str, Any]) -> dict[str, object]:
    """What the Hub reads; a key that is not known is left out."""
    values: dict[str, object] = {}
    if licence is not None:
        name = licence.lower()
        known = _LICENCE_ID.fullmatch(name) is not None
        values |= {"license": name} if known else {"license": "other", "license_name": licence}
    ours = isinstance(found := config.get("quantization_config"), dict) and found.get("quant_method") == "biollm"
    values["library_name"] = "biollm" if ours else "transformers"
    classifies = any("Classification" in str(name) for name in config.get("architectures") or ())
    values["pipeline_tag"] = "text-classification" if classifies else "text-generation"
    methods = [str(step.manifest.options.get("method")) for step in lineage.of_verb("align")]
    values["tags"] = list(dict.fromkeys(["biollm", *methods]))
    if bases := [given.name for given in lineage.sources if given.record.kind == "folder"]:
        values["base_model"] = bases[0] if len(bases) == 1 else bases
    if results := sections.results(lineage):
        values["model-index"] = [{"name": sections.title(lineage), "results": results}]
    return values
