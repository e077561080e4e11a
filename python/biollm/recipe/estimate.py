"""How long a stage will take, how much memory and disk it needs: from rates measured where a verb ran before.

Where the run's folder holds a manifest of the verb, the time it took scales the model below and its shares (documents
kept, bytes of text a token) are taken over. Elsewhere the rates are those of `rates.toml`, scaled to this machine by a
control (`rates`). Models are of the first order: a fixed part, a part for each byte, token or parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from biollm.alignment.options import DEFAULT_SIZES
from biollm.manifest import Manifest
from biollm.recipe import evaluation_work
from biollm.recipe.rates import Rates
from biollm.recipe.volumes import UNKNOWN, Volume, total

BYTES_PER_TOKEN: Final = 4.0
"""Of English text, by a vocabulary of some thousand ids: what rows are taken for before they are tokenized."""

Options = Mapping[str, Any]
Table = Mapping[str, float]


@dataclass(frozen=True)
class Past:
    """An earlier run of a verb.

    Attributes:
        manifest: that it left.
        size_bytes: of its folder.
        own: whether it was this stage's, not another's of the same verb.
    """

    manifest: Manifest
    size_bytes: float
    own: bool = True


@dataclass(frozen=True)
class Estimate:
    """What a stage is expected to take; `None` where it cannot be known.

    Attributes:
        wall_s: seconds on the clock.
        memory_bytes: highest resident memory of the process while it runs.
        gives: what it leaves; its `size_bytes` stay on disk.
        scratch_bytes: of disk that it needs besides while it runs (a training run's last checkpoints).
        basis: what the figures rest on, in words.
    """

    wall_s: float | None = None
    memory_bytes: float | None = None
    gives: Volume = UNKNOWN
    scratch_bytes: float = 0.0
    basis: str = "unknown"


@dataclass(frozen=True)
class _Model:
    """What is known of one verb.

    Attributes:
        seconds, memory: of a run with these options on what came in, by the verb's table of rates.
        gives: what it leaves, likewise.
        came: what came in to an earlier run, by its manifest; what that does not say is filled in from its input now.
        shares: entries of the table as an earlier run found them.
        trains: whether it is torch that takes the time.
    """

    seconds: Callable[[Options, Volume, Table], float | None]
    memory: Callable[[Options, Volume, Table], float | None]
    gives: Callable[[Options, Volume, Table], Volume]
    came: Callable[[Manifest, Volume], Volume]
    shares: Callable[[Manifest, Volume, float], dict[str, float]]
    trains: bool = False


def estimate(verb: str, options: Options, inputs: Sequence[Volume], past: Past | None, rates: Rates) -> Estimate:
    """What a stage is expected to take.

    Args:
        verb: what it does.
        options: those that change its output, as plain values.
        inputs: what comes in.
        past: an earlier run of the verb, if there was one. One that was cut off and gone on with has measured only its
            last part, and is of no use.
        rates: for what no earlier run says.
    """
    came = total(inputs)
    if past is not None and (past.manifest.resumptions or past.manifest.wall_s <= 0):
        past = None
    model = _MODELS.get(verb)
    if model is None:
        return _as_before(past)
    table = dict(rates.of(verb))
    if past is None:
        factor = rates.training_factor if model.trains else rates.data_factor
        basis = f"rates of {rates.source}, times {factor:.2g} for this machine"
    else:
        before = model.came(past.manifest, came)
        table |= model.shares(past.manifest, before, past.size_bytes)
        modelled = model.seconds(past.manifest.options, before, table)
        factor = past.manifest.wall_s / modelled if modelled else 1.0
        basis = "the time it took before" if past.own else f"the time another {verb} took here"
    seconds = model.seconds(options, came, table)
    return Estimate(
        wall_s=seconds * factor if seconds is not None else None,
        memory_bytes=model.memory(options, came, table),
        gives=(gives := model.gives(options, came, table)),
        scratch_bytes=(gives.size_bytes or 0.0) * table.get("scratch_copies", 0.0),
        basis=basis if seconds is not None else "unknown: the size of its input is",
    )


def _as_before(past: Past | None) -> Estimate:
    """For a verb that nothing is known of: as it was before."""
    if past is None or not past.own:
        return Estimate()
    return Estimate(
        wall_s=past.manifest.wall_s, gives=Volume(size_bytes=past.size_bytes), basis="the time it took before"
    )


# --- documents --------------------------------------------------------------------------------------------------------


def _read_seconds(options: Options, came: Volume, table: Table) -> float | None:
    if came.text_bytes is None:
        return None
    xml = came.xml_bytes or 0.0
    text = came.text_bytes if not xml else 0.0
    return table["fixed_s"] + text * table["s_per_byte"] + xml * table["s_per_xml_byte"]


def _read_gives(options: Options, came: Volume, table: Table) -> Volume:
    if came.text_bytes is None:
        return Volume()
    text = came.text_bytes * table.get("text_share", 1.0)
    documents = text / table["bytes_per_document"]
    return Volume(size_bytes=text * table["disk_share"], documents=documents, text_bytes=text)


def _read_came(manifest: Manifest, now: Volume) -> Volume:
    """The files of then, estimated as those of now are, by their sizes."""
    sizes = [record.size_bytes for record in manifest.inputs]
    if None in sizes or not now.size_bytes or now.text_bytes is None:
        return now
    share = sum(size or 0 for size in sizes) / now.size_bytes
    xml = now.xml_bytes * share if now.xml_bytes is not None else None
    return replace(now, text_bytes=now.text_bytes * share, xml_bytes=xml)


def _read_shares(manifest: Manifest, before: Volume, size_bytes: float) -> dict[str, float]:
    text, documents = _count(manifest, "text_bytes"), _count(manifest, "documents")
    shares = {"disk_share": size_bytes / text, "bytes_per_document": text / documents} if text and documents else {}
    return shares | ({"text_share": text / before.text_bytes} if before.text_bytes else {})


def _dedup_seconds(options: Options, came: Volume, table: Table) -> float | None:
    if came.text_bytes is None:
        return None
    each = table["s_per_byte"] + table["s_per_byte_and_permutation"] * _permutations(options)
    return table["fixed_s"] + came.text_bytes * each


def _dedup_memory(options: Options, came: Volume, table: Table) -> float | None:
    if came.documents is None:
        return None
    each = table["memory_per_document"] + table["memory_per_permutation"] * _permutations(options)
    return table["memory_fixed"] + came.documents * each


def _permutations(options: Options) -> float:
    """Those of the fuzzy method; the others are bound by reading and writing."""
    return float(options["num_perm"]) if options.get("method", "fuzzy") == "fuzzy" else 0.0


def _select_seconds(options: Options, came: Volume, table: Table) -> float | None:
    return None if came.text_bytes is None else table["fixed_s"] + came.text_bytes * table["s_per_byte"]


def _documents_memory(options: Options, came: Volume, table: Table) -> float | None:
    """Blocks of text go by; what grows is kept for each document."""
    if came.documents is None or came.text_bytes is None:
        return None
    held = min(came.text_bytes, table["block_bytes"]) * table["memory_per_block_byte"]
    return table["memory_fixed"] + held + came.documents * table["memory_per_document"]


def _documents_gives(options: Options, came: Volume, table: Table) -> Volume:
    """The documents that are kept."""
    if came.text_bytes is None or came.documents is None:
        return Volume()
    text, documents = came.text_bytes * table["kept_share"], came.documents * table["kept_share"]
    return Volume(size_bytes=text * table["disk_share"], documents=documents, text_bytes=text)


def _documents_came(manifest: Manifest, now: Volume) -> Volume:
    documents = _count(manifest, "documents_in")
    text = _count(manifest, "text_bytes_in")
    if not text and now.text_bytes and now.documents:
        text = documents * now.text_bytes / now.documents
    return Volume(documents=documents, text_bytes=text)


def _documents_shares(manifest: Manifest, before: Volume, size_bytes: float) -> dict[str, float]:
    came, kept = _count(manifest, "documents_in"), _count(manifest, "documents_kept")
    if not came or not kept:
        return {}
    text = _count(manifest, "text_bytes_kept") or (before.text_bytes or 0.0) * kept / came
    return {"kept_share": kept / came, **({"disk_share": size_bytes / text} if text else {})}


# --- tokens -----------------------------------------------------------------------------------------------------------


def _tokenize_seconds(options: Options, came: Volume, table: Table) -> float | None:
    if came.text_bytes is None:
        return None
    vocabulary = (
        came.text_bytes * table["s_per_trained_byte"] + float(options.get("vocab_size") or 0) * table["s_per_id"]
    )
    return table["fixed_s"] + came.text_bytes * table["s_per_byte"] + (vocabulary if options.get("vocab_size") else 0.0)


def _tokenize_gives(options: Options, came: Volume, table: Table) -> Volume:
    if came.text_bytes is None or came.documents is None:
        return Volume()
    ids = float(options.get("vocab_size") or table["vocab_size"])
    # Bytes a token grow with the logarithm of the vocabulary; a run before says where they stand.
    doublings = math.log2(ids / table["vocab_size"])
    bytes_per_token = max(1.0, table["bytes_per_token"] + table["bytes_per_token_and_doubling"] * doublings)
    tokens = came.text_bytes / bytes_per_token + came.documents
    held_out = tokens * float(options.get("validation_fraction") or 0.0)
    width = 2 if ids <= 1 << 16 else 4
    size = tokens * width + came.documents * table["disk_per_document"] + ids * table["disk_per_id"]
    return Volume(size, came.documents, came.text_bytes, None, tokens - held_out, held_out, ids)


def _tokenize_came(manifest: Manifest, now: Volume) -> Volume:
    text = _count(manifest, "train_bytes") + _count(manifest, "validation_bytes")
    return Volume(documents=_count(manifest, "documents_in"), text_bytes=text)


def _tokenize_shares(manifest: Manifest, before: Volume, size_bytes: float) -> dict[str, float]:
    tokens = _count(manifest, "train_tokens") + _count(manifest, "validation_tokens") - (before.documents or 0.0)
    ids = _count(manifest, "vocab_size")
    if tokens <= 0 or not before.text_bytes or not ids:
        return {}
    return {"bytes_per_token": before.text_bytes / tokens, "vocab_size": ids}


# --- models -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainWork:
    """What a training run computes.

    Attributes:
        parameters: of the model.
        layers: of it.
        steps: optimizer steps.
        passes: forward and backward passes a step.
        step_tokens: tokens a step, padding included.
        flops: of all steps and validations (6 a weight of a matrix and token, and attention's).
        scanned_tokens: of the shards, read for the baselines.
    """

    parameters: float
    layers: float
    steps: float
    passes: float
    step_tokens: float
    flops: float
    scanned_tokens: float


def train_work(options: Options, came: Volume) -> TrainWork | None:
    """What a run of `train` with these `options` computes on what `came` in; `None` where that is not known."""
    config, came = _model_config(options, came), _in_tokens(options, came)
    if config is None or came.train_tokens is None:
        return None
    step_tokens = float(options["batch_size"]) * float(options["seq_len"])
    epochs = 1.0 if options.get("epochs") is None else float(options["epochs"])
    steps = float(options.get("steps") or max(1.0, math.ceil(epochs * came.train_tokens / step_tokens)))
    # Every weight but the table of embeddings is multiplied with each token; a tied table is the output layer.
    weights = config.num_parameters - (0 if config.tie_embeddings else config.vocab_size * config.dim)
    attention = 12 * config.n_layers * config.n_heads * config.head_size * float(options["seq_len"])
    token_flops = 6 * weights + attention
    held_out = came.validation_tokens or 0.0
    flops = token_flops * (steps * step_tokens + _validations(options, steps, step_tokens, held_out) * held_out / 3)
    return TrainWork(
        parameters=config.num_parameters,
        layers=config.n_layers,
        steps=steps,
        passes=float(options["accumulation"]),
        step_tokens=step_tokens,
        flops=flops,
        scanned_tokens=came.train_tokens + held_out,
    )


def _in_tokens(options: Options, came: Volume) -> Volume:
    """Rows as tokens, by their bytes; shards as they are."""
    if options.get("objective", "pretrain") == "pretrain" or came.text_bytes is None:
        return came
    tokens = came.text_bytes / BYTES_PER_TOKEN
    held_out = tokens * float(options["validation_fraction"])
    return replace(came, train_tokens=tokens - held_out, validation_tokens=held_out)


def _validations(options: Options, steps: float, step_tokens: float, held_out: float) -> float:
    """How often the run validates: as asked, else up to ten times at a tenth of the time (`training.pretraining`)."""
    if not held_out:
        return 0.0
    if every := options.get("validate_every"):
        return math.ceil(steps / float(every))
    return min(10.0, max(1.0, 0.3 * steps * step_tokens / held_out))


def _train_seconds(options: Options, came: Volume, table: Table) -> float | None:
    work = train_work(options, came)
    if work is None:
        return None
    step_s = table["s_per_layer"] * work.layers * work.passes + table["s_per_parameter"] * work.parameters
    scanning = work.scanned_tokens * table["s_per_scanned_token"]
    return table["fixed_s"] + scanning + work.steps * step_s + work.flops / table["flops_per_s"]


def _train_memory(options: Options, came: Volume, table: Table) -> float | None:
    config, came = _model_config(options, came), _in_tokens(options, came)
    if config is None or came.train_tokens is None:
        return None
    word = 8 if options.get("dtype") == "float64" else 4
    tokens = float(options["batch_size"]) / float(options["accumulation"]) * float(options["seq_len"])
    # Weights, gradients and AdamW's two moments; of a pass what the gradient needs again, and the logits.
    layer = table["activations_per_dim"] * config.dim + table["activations_per_ffn"] * config.ffn_dim
    kept = tokens * (config.n_layers * layer + table["logit_copies"] * config.vocab_size)
    scanned = table["memory_per_scanned_token"] * came.train_tokens
    # Of all processes: each has torch, its part of the batch, and the model or a slice of it.
    processes = float(options.get("nproc") or 1)
    models = processes if options.get("engine", "ddp") == "ddp" else 1.0
    model = models * 4 * config.num_parameters * word
    return float(processes * table["memory_fixed"] + model + max(kept * word, processes * scanned))


def _train_gives(options: Options, came: Volume, table: Table) -> Volume:
    config = _model_config(options, came)
    if config is None:
        return Volume()
    # The weights, and for going on the two moments.
    size = 3 * config.num_parameters * 4 + config.vocab_size * table["disk_per_id"]
    return Volume(size_bytes=size, parameters=config.num_parameters, vocab_size=config.vocab_size)


def _train_came(manifest: Manifest, now: Volume) -> Volume:
    """Shards say what came in; an earlier run's were as large as those of now, for all that its manifest says."""
    return replace(now, validation_tokens=_count(manifest, "validation_tokens"))


def _quantize_seconds(options: Options, came: Volume, table: Table) -> float | None:
    """Calibration documents pass each block some six times, held-out ones twice; then the columns are rounded."""
    if came.parameters is None:
        return None
    passes = table["calibration_passes"] * float(options["calibration_documents"])
    passes += 2 * float(options["evaluation_documents"])
    tokens = passes * table["tokens_per_document"]
    return table["fixed_s"] + came.parameters * (2 * tokens / table["flops_per_s"] + table["s_per_parameter"])


def _quantize_memory(options: Options, came: Volume, table: Table) -> float | None:
    if came.parameters is None:
        return None
    return table["memory_fixed"] + table["copies"] * 4 * came.parameters


def _align_seconds(options: Options, came: Volume, table: Table) -> float | None:
    if came.parameters is None:
        return None
    answers = table["rows_at_once"]
    decode_s = float(options["max_tokens"]) * (
        table["s_per_token"] + came.parameters * table["s_per_decoded_parameter"]
    )
    token_s = came.parameters / table["flops_per_s"]  # times 2 for a pass forward, 6 with the one back
    measuring = 2 * math.ceil(float(options["samples"]) / answers) * decode_s
    if options.get("method") != "ppo":
        steps, pairs = (float(options.get(name) or usual["dpo"]) for name, usual in DEFAULT_SIZES.items())
        step_s = 2 * pairs * table["tokens_per_answer"] * 8 * token_s  # the reference reads the pairs as well
        return table["fixed_s"] + measuring + steps * (table["s_per_step"] + step_s)
    steps, batch = (float(options.get(name) or usual["ppo"]) for name, usual in DEFAULT_SIZES.items())
    fitted = 0.0
    if options.get("reward") != "rule":
        pairs = float(options["reward_epochs"]) * (came.documents or 0.0)
        fitted = 2 * pairs * table["tokens_per_answer"] * 6 * token_s
    # Of its answers and of as many chosen ones; what is behind the plus reads the answers alone.
    passes = 6 * float(options["epochs"]) * (1 if options.get("sft_weight") == 0 else 2)
    learning = (passes + 6) * batch * table["tokens_per_answer"] * token_s
    step_s = math.ceil(batch / answers) * decode_s + learning
    return table["fixed_s"] + measuring + fitted + steps * (table["s_per_step"] + step_s)


def _align_memory(options: Options, came: Volume, table: Table) -> float | None:
    """Weights of the policy with gradients and two moments, of the reference, of a reward model, and kept ones."""
    if came.parameters is None:
        return None
    return table["memory_fixed"] + table["copies"] * 4 * came.parameters


def _quantize_gives(options: Options, came: Volume, table: Table) -> Volume:
    if came.size_bytes is None or came.parameters is None:
        return Volume(parameters=came.parameters, vocab_size=came.vocab_size)
    # Embeddings stay as they are, so a small model shrinks by less than its blocks do.
    blocks = came.parameters * table["share_in_blocks"]
    word = float(options["bits"]) / 8 + (0.0 if options["bits"] == 8 else 0.04)
    size = blocks * word + (came.parameters - blocks) * 4
    return Volume(size_bytes=size, parameters=came.parameters, vocab_size=came.vocab_size)


def _quantize_came(manifest: Manifest, now: Volume) -> Volume:
    return replace(now, parameters=_count(manifest, "parameters"))


def _align_gives(options: Options, came: Volume, table: Table) -> Volume:
    if came.parameters is None:
        return Volume()
    size = 4 * came.parameters + (came.vocab_size or 0.0) * table["disk_per_id"]
    return Volume(size_bytes=size, parameters=came.parameters, vocab_size=came.vocab_size)


def _align_came(manifest: Manifest, now: Volume) -> Volume:
    return replace(now, documents=_count(manifest, "pairs_in"))


def _generate_seconds(options: Options, came: Volume, table: Table) -> float | None:
    if came.parameters is None:
        return None
    batches = math.ceil(_prompts(options, came) / table["batch_rows"])
    token_s = table["s_per_token"] + came.parameters * table["s_per_parameter"]
    return table["fixed_s"] + batches * float(options["max_tokens"]) * token_s


def _generate_memory(options: Options, came: Volume, table: Table) -> float | None:
    if came.parameters is None:
        return None
    return table["memory_fixed"] + 2 * 4 * came.parameters


def _generate_gives(options: Options, came: Volume, table: Table) -> Volume:
    prompts = _prompts(options, came)
    return Volume(size_bytes=prompts * float(options["max_tokens"]) * table["disk_per_token"], documents=prompts)


def _generate_came(manifest: Manifest, now: Volume) -> Volume:
    return replace(now, documents=_count(manifest, "prompts"))


def _prompts(options: Options, came: Volume) -> float:
    return float(len(options.get("prompts") or ())) or came.documents or 0.0


def _model_config(options: Options, came: Volume) -> Any:
    """The shape of the model: of its named size, or where training goes on from another, of the size next to it."""
    from biollm.models import SIZES, model_config

    if came.vocab_size is None:
        return None
    ids = round(came.vocab_size)
    if came.parameters is None:
        return model_config(options["size"], ids)
    configs = [model_config(size, ids) for size in SIZES]
    wanted = math.log(came.parameters)
    return min(configs, key=lambda config: abs(math.log(config.num_parameters) - wanted))


def _count(manifest: Manifest, name: str) -> float:
    return float(manifest.counts.get(name, 0.0))


def _as_now(manifest: Manifest, now: Volume) -> Volume:
    """As much came in to an earlier run as now, for all that its manifest says."""
    return now


def _no_shares(manifest: Manifest, before: Volume, size_bytes: float) -> dict[str, float]:
    return {}


_MODELS: Final[Mapping[str, _Model]] = MappingProxyType(
    {
        "read": _Model(_read_seconds, _documents_memory, _read_gives, _read_came, _read_shares),
        "dedup": _Model(_dedup_seconds, _dedup_memory, _documents_gives, _documents_came, _documents_shares),
        "select": _Model(_select_seconds, _documents_memory, _documents_gives, _documents_came, _documents_shares),
        "tokenize": _Model(_tokenize_seconds, _documents_memory, _tokenize_gives, _tokenize_came, _tokenize_shares),
        "train": _Model(_train_seconds, _train_memory, _train_gives, _train_came, _no_shares, trains=True),
        "align": _Model(_align_seconds, _align_memory, _align_gives, _align_came, _no_shares, trains=True),
        "quantize": _Model(
            _quantize_seconds, _quantize_memory, _quantize_gives, _quantize_came, _no_shares, trains=True
        ),
        "generate": _Model(
            _generate_seconds, _generate_memory, _generate_gives, _generate_came, _no_shares, trains=True
        ),
        "evaluate": _Model(
            evaluation_work.seconds, evaluation_work.memory, evaluation_work.gives, _as_now, _no_shares, trains=True
        ),
    }
)
