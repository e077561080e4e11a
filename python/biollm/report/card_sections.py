"""The sections of a model card, each from what the stages left; a section with nothing to say is empty."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from biollm.errors import BiollmError
from biollm.report.document_fields import licences_of, sources_of
from biollm.report.energy import EnergyModel
from biollm.report.folders import real
from biollm.report.lineage import Given, Lineage, Step
from biollm.report.markdown import code, escape, table, titled
from biollm.report.markup import number, seconds
from biollm.report.sections import machine_words
from biollm.results import Scalar

NOT_STATED: Final = "not stated"
SHOWN_FILES: Final = 50
TOKENS_A_PARAMETER: Final = 20.0
"""Hoffmann et al. 2022 (arXiv 2203.15556, table 3): about so many are compute-optimal."""
_TRAINED: Final = (
    ("steps", "steps"),
    ("tokens_trained_on", "tokens trained on"),
    ("epochs", "epochs"),
    ("train_loss_nats", "training loss"),
    ("validation_loss_before_nats", "validation loss before"),
    ("validation_loss_nats", "validation loss"),
    ("validation_bits_per_byte", "validation bits a byte"),
    ("bigram_bits_per_byte", "bits a byte of an interpolated bigram"),
    ("device", "device"),
    ("dtype", "dtype"),
)


def title(lineage: Lineage) -> str:
    """The name of the checkpoint, with the run's before it where there is one."""
    step = lineage.checkpoint
    run = step.folder.resolve().parent.name if lineage.record else ""
    return escape(f"{run}/{step.name}" if run else step.name)


def lead(lineage: Lineage) -> str:
    """What it is, and what this page rests on."""
    parameters = lineage.checkpoint.manifest.counts.get("parameters")
    steps = [step.name for step in lineage.steps]
    size_words = f"of {parameters:,.0f} parameters " if parameters else ""
    words = (
        f"A language model {size_words}made with biollm in {len(steps)} stage{'s' if len(steps) > 1 else ''}: "
        f"{' → '.join(map(escape, steps))}. Written from the manifests of these stages; what they do not say is "
        f"“{NOT_STATED}”."
    )
    if lineage.lost:
        lost = ", ".join(code(item.name) for item in lineage.lost)
        words += f"\n\n**Not found:** {lost}. What these stages were made of, counted and cost is not in this card."
    return words


def licences(lineage: Lineage, model: str | None, data: str | None) -> str:
    """Of the model, as given; of the data, as given and as documents state it."""
    lines = [
        "## Licences\n",
        f"- Model: {escape(model) if model else NOT_STATED}.",
        f"- Data: {escape(data) if data else NOT_STATED}.",
    ]
    for step in _document_ends(lineage):
        found = licences_of(step.folder)
        if found is None:
            lines.append(f"- Documents of {code(step.name)}: their fields could not be read.")
        elif set(found) <= {None}:
            lines.append(f"- Documents of {code(step.name)}: no field `licence` or `license`.")
        else:
            shares = (f"{escape(name) if name else NOT_STATED} {count:,}" for name, count in found.items())
            lines.append(f"- Documents of {code(step.name)}, by their field: {'; '.join(shares)}.")
    return "\n".join(lines)


def data(lineage: Lineage) -> str:
    """The files that came in, and what became of the documents."""
    blocks = ["## Data"]
    if lineage.sources:
        rows = [_file_row(given) for given in lineage.sources[:SHOWN_FILES]]
        blocks.append(table(("input", "bytes", "xxh3-128", "taken by"), rows))
        if len(lineage.sources) > SHOWN_FILES:
            blocks.append(f"{len(lineage.sources) - SHOWN_FILES:,} more inputs are not shown.")
    else:
        blocks.append(f"Files: {NOT_STATED}.")
    counted = [row for step in lineage.steps if (row := _document_row(step)) is not None]
    if counted:
        blocks.append(table(("stage", "documents in", "kept", "dropped", "rejected"), counted))
    for step in _document_ends(lineage):
        found = sources_of(step.folder)
        if found and set(found) != {None}:
            shares = (f"{escape(name) if name else NOT_STATED} {count:,}" for name, count in found.items())
            blocks.append(f"Sources of the documents of {code(step.name)}: {'; '.join(shares)}.")
    return "\n\n".join(blocks)


def stages(lineage: Lineage) -> str:
    """Each stage with its inputs, options and counts."""
    blocks = ["## Stages"]
    for step in lineage.steps:
        manifest = step.manifest
        inputs = [Given(record, ()).name for record in manifest.inputs[:6]]
        more = len(manifest.inputs) - len(inputs)
        names = ", ".join([*map(code, inputs), *([f"{more:,} more"] if more else [])]) or "nothing"
        lines = [f"### {escape(step.name)}\n", f"`{manifest.verb}` of {names}.", ""]
        counts = [f"{name.replace('_', ' ')} {number(value)}" for name, value in manifest.counts.items()]
        lines.append(f"- Counts: {', '.join(counts) or NOT_STATED}.")
        options = [code(f"{name} = {_json(value)}") for name, value in manifest.options.items() if value is not None]
        lines.append(f"- Options: {', '.join(options) or 'none'}.")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def training(lineage: Lineage) -> str:
    """Steps, tokens and losses of each training; losses are nats a token."""
    steps = lineage.of_verb("train")
    if not steps:
        return ""
    facts = [step.summary.facts for step in steps]
    rows = [(label, *(f.get(name) for f in facts)) for name, label in _TRAINED if any(name in f for f in facts)]
    shown = table(("", *(step.name for step in steps)), rows) if rows else f"Losses: {NOT_STATED}."
    return f"## Training\n\nLosses are nats a token (of `classify`: a document).\n\n{shown}"


def alignment(lineage: Lineage) -> str:
    """Harm, guards and win rate of each alignment, before and after."""
    blocks = []
    for step in lineage.of_verb("align"):
        facts = step.summary.facts
        lines = [f"{code(step.name)}, by {escape(str(facts.get('method', NOT_STATED)))}."]
        if isinstance(win := facts.get("win_rate"), float):
            low, high = facts.get("win_rate_low"), facts.get("win_rate_high")
            lines.append(f"Win rate over its start {number(win)} ({number(low)} to {number(high)}).")
        lines.append(f"Guards broken: {escape(str(facts.get('guards_broken', NOT_STATED)))}.")
        blocks += [" ".join(lines), *map(titled, step.summary.tables)]
    return "\n\n".join(["## Alignment", *blocks]) if blocks else ""


def quantization(lineage: Lineage) -> str:
    """What each quantization cost."""
    blocks = []
    for step in lineage.of_verb("quantize"):
        facts = step.summary.facts
        rise = [number(facts.get(f"perplexity_increase{end}")) for end in ("", "_low", "_high")]
        words = f"{code(step.name)}: {escape(str(facts.get('weights', NOT_STATED)))}; perplexity rose by "
        blocks.append(f"{words}a share of {rise[0]} ({rise[1]} to {rise[2]}).")
        blocks += [titled(shown) for shown in step.summary.tables[:1]]
    return "\n\n".join(["## Quantization", *blocks]) if blocks else ""


def evaluation(lineage: Lineage) -> str:
    """The tables of the evaluations that were found, with their intervals."""
    blocks = []
    for step, measured in lineage.evaluations:
        interval = step.summary.facts.get("intervals")
        words = f"{code(step.name)} measured {code(measured)}."
        blocks.append(words + (f" Intervals: {escape(str(interval))}." if interval else ""))
        blocks += map(titled, step.summary.tables)
    if not blocks:
        blocks = ["No evaluation was found beside the checkpoint."]
    return "\n\n".join(["## Evaluation", *blocks])


def results(lineage: Lineage) -> list[dict[str, object]]:
    """Accuracies of this checkpoint as the Hub's `model-index` has them."""
    found: list[dict[str, object]] = []
    for step, measured in lineage.evaluations:
        if measured != lineage.checkpoint.name:
            continue
        for task, accuracy in _accuracies(step):
            name = str(task.get("task"))
            metric = {"type": "accuracy", "name": f"accuracy, {task.get('shots')}-shot", "value": accuracy["estimate"]}
            of_data = {"name": name, "type": name}
            found.append({"task": {"type": "multiple-choice"}, "dataset": of_data, "metrics": [metric]})
    return found


def cost(lineage: Lineage, energy: EnergyModel) -> str:
    """Machine, measured seconds, modelled energy."""
    cpu_s = sum(step.manifest.cpu_s for step in lineage.steps)
    on_gpu = [step for step in lineage.steps if step.summary.facts.get("device") not in (None, "cpu")]
    gpu_s = sum(step.manifest.wall_s for step in on_gpu)
    kwh = energy.kwh(cpu_s, gpu_s)
    machine = machine_words(lineage.record) or f"Machine: {NOT_STATED}."
    rows = [(step.name, seconds(step.manifest.wall_s), seconds(step.manifest.cpu_s)) for step in lineage.steps]
    lines = [
        f"- CPU time, measured: {seconds(cpu_s)} ({cpu_s:,.1f} CPU-seconds).",
        f"- Energy, **modelled**: {kwh:.3g} kWh, at {energy.core_watts:g} W a busy core"
        + (f" and {energy.gpu_watts:g} W a GPU" if energy.gpu_watts is not None and on_gpu else "")
        + ". Nothing of it was measured.",
        f"- Carbon, **modelled**: {energy.grams(kwh):.3g} g of CO2, at {energy.grid_g_per_kwh:g} g a kWh.",
    ]
    if on_gpu:
        names = ", ".join(code(step.name) for step in on_gpu)
        left = "" if energy.gpu_watts is not None else "; the GPU's energy is **not** in the figure above"
        lines.append(f"- On a GPU: {names}, {seconds(gpu_s)}{left}.")
    if cut := [step for step in lineage.steps if step.manifest.resumptions]:
        names = ", ".join(code(step.name) for step in cut)
        lines.append(f"- Cut off and gone on with: {names}; of these the last part counts.")
    if lineage.lost:
        lines.append("- The stages that were not found are not in these figures.")
    return "\n\n".join(
        ["## Hardware, time and energy", machine, "\n".join(lines), table(("stage", "wall time", "CPU time"), rows)]
    )


def limitations(lineage: Lineage, config: Mapping[str, Any]) -> str:
    """What the measurements say against the model, and what was not measured."""
    found = list(_limits(lineage, config))
    return "## Limitations\n\n" + "\n".join(f"- {words}" for words in found) if found else ""


def provenance(lineage: Lineage) -> str:
    """Versions of packages and algorithms, and what identifies the checkpoint."""
    manifest = lineage.checkpoint.manifest
    made = [step.manifest.versions for step in lineage.steps]
    packages = sorted({name for versions in made for name in versions})
    rows = [(name, ", ".join(dict.fromkeys(v[name] for v in made if name in v))) for name in packages]
    lines = [f"- Manifest of the checkpoint: `{manifest.hash}` (xxh3-128)."]
    for name, value in manifest.outputs.items():
        if name.endswith(".safetensors") and "/" not in name:
            lines.append(f"- {code(name)}: `{value}`.")
    return "\n\n".join(["## Versions and provenance", "\n".join(lines), table(("package", "version"), rows)])


# --- parts ------------------------------------------------------------------------------------------------------------


def _limits(lineage: Lineage, config: Mapping[str, Any]) -> Iterator[str]:
    context = config.get("max_position_embeddings")
    if isinstance(context, int):
        yield f"It reads at most {context:,} tokens at once."
    seen = [step.summary.facts.get("tokens_trained_on") for step in lineage.of_verb("train")]
    parameters = lineage.checkpoint.manifest.counts.get("parameters")
    tokens = sum(count for count in seen if isinstance(count, int))
    if tokens and parameters and not lineage.lost and tokens < TOKENS_A_PARAMETER * parameters:
        yield (
            f"It saw {tokens / parameters:.2g} tokens a parameter; about {TOKENS_A_PARAMETER:.0f} are "
            "compute-optimal (Hoffmann et al. 2022)."
        )
    for step in lineage.of_verb("train"):
        below = step.summary.facts.get("nats_below_bigram")
        if isinstance(below, float) and below <= 0:
            yield f"{code(step.name)} does not predict held-out text better than an interpolated bigram."
    for step in lineage.of_verb("align"):
        yield from _alignment_limits(step)
    if not lineage.of_verb("align") and not lineage.lost:
        yield "It was not aligned: how often its answers are harmful was not measured."
    for step in lineage.of_verb("quantize"):
        high = step.summary.facts.get("perplexity_increase_high")
        if isinstance(high, float) and high > 0:
            yield f"Quantization ({code(step.name)}) may have raised perplexity by up to {high:.2%}."
    own = [step for step, measured in lineage.evaluations if measured == lineage.checkpoint.name]
    if not own:
        yield "Of this checkpoint itself no evaluation was found."
    for step in own:
        for task, accuracy in _accuracies(step):
            majority = task.get("majority")
            if isinstance(majority, float) and accuracy["low"] <= majority:
                yield (
                    f"On {code(str(task.get('task')))} it is not shown to be better than always giving the most "
                    f"frequent answer: {accuracy['estimate']:.3f} ({accuracy['low']:.3f} to {accuracy['high']:.3f}) "
                    f"against {majority:.3f}."
                )


def _alignment_limits(step: Step) -> Iterator[str]:
    facts = step.summary.facts
    after, samples = facts.get("harmful_after"), facts.get("samples")
    if isinstance(after, float) and isinstance(samples, int):
        yield (
            f"After {code(step.name)}, {after:.1%} of {samples:,} sampled answers held a word of the list that harm "
            "was measured with; harm in other words was not measured."
        )
    broken = facts.get("guards_broken")
    if isinstance(broken, str) and broken != "none":
        yield f"{code(step.name)} broke guards of quality: {escape(broken)}."


def _accuracies(step: Step) -> Iterator[tuple[Mapping[str, Any], Mapping[str, float]]]:
    """The tasks of `evaluation.json` with their accuracies, of those that have one."""
    with suppress(BiollmError, OSError, ValueError, KeyError, TypeError):
        for task in json.loads((step.folder / "evaluation.json").read_bytes())["tasks"]:
            bounds = {name: real(task, "accuracy", name) for name in ("estimate", "low", "high")}
            known = {name: value for name, value in bounds.items() if value is not None}
            if len(known) == 3:
                yield task, known


def _document_ends(lineage: Lineage) -> list[Step]:
    """Stages of documents that something else than a stage of documents took: what the model has seen."""
    taken = {key for step in lineage.steps if step.manifest.kind != "documents" for key in step.made_of}
    return [step for step in lineage.steps if step.manifest.kind == "documents" and step.manifest.hash in taken]


def _document_row(step: Step) -> tuple[Scalar, ...] | None:
    counts = step.manifest.counts
    came = counts.get("documents_in")
    if step.manifest.kind == "documents":
        kept = counts.get("documents_kept", counts.get("documents"))
        return step.name, came, kept, counts.get("documents_dropped"), counts.get("rejected")
    return (step.name, came, None, None, counts.get("rows_rejected", counts.get("rows_skipped"))) if came else None


def _file_row(given: Given) -> tuple[Scalar, ...]:
    record = given.record
    takers = ", ".join(given.used_by)
    return code(given.name), record.size_bytes, code(record.xxh3_128) if record.xxh3_128 else NOT_STATED, takers


def _json(value: object) -> str:
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= 200 else shown[:200] + " …"
