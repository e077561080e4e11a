"""What an evaluation takes: the part of `estimate` that knows `evaluate`.

A forward pass over the validation split of shards, and over all other text once for each number of shots and way of
asking; questions and documents are not told apart, so of documents beside many shots too much is said. Rationales are
decoded token by token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from biollm.recipe.volumes import Volume

Options = Mapping[str, Any]
Table = Mapping[str, float]


def seconds(options: Options, came: Volume, table: Table) -> float | None:
    """Seconds of a run with these `options` on what `came` in, by the `table` of rates; `None` where unknown."""
    if came.parameters is None or (came.text_bytes is None and came.validation_tokens is None):
        return None
    token_s = table["s_per_token"] + 2 * came.parameters / table["flops_per_s"]
    found = table["fixed_s"] + _tokens(options, came, table) * token_s
    if options["chain_of_thought"]:
        batches = math.ceil(_rows(options, came) * len(options["shots"]) / table["batch_rows"])
        decoded_s = table["s_per_step"] + came.parameters * table["s_per_parameter"]
        found += batches * float(options["rationale_tokens"]) * decoded_s
    return found


def memory(options: Options, came: Volume, table: Table) -> float | None:
    """Bytes: the weights twice while they are loaded, one batch, and what is kept for each item."""
    if came.parameters is None:
        return None
    return table["memory_fixed"] + 8 * came.parameters + _rows(options, came) * table["memory_per_item"]


def gives(options: Options, came: Volume, table: Table) -> Volume:
    """The tables of items and documents."""
    return Volume(size_bytes=_rows(options, came) * len(options["shots"]) * table["disk_per_item"])


def _tokens(options: Options, came: Volume, table: Table) -> float:
    shards = (came.train_tokens or 0.0) + (came.validation_tokens or 0.0)
    # Shards count the text that they hold among what came in.
    text = max(0.0, (came.text_bytes or 0.0) / table["bytes_per_token"] - shards)
    ways = 2 if options["chain_of_thought"] else 1
    passes = float(ways * sum(1 + shots for shots in options["shots"]))
    return (came.validation_tokens or 0.0) + text * passes * _share(options, came)


def _rows(options: Options, came: Volume) -> float:
    return (came.documents or 0.0) * _share(options, came)


def _share(options: Options, came: Volume) -> float:
    """The share of items and documents that is asked for, where both are limited."""
    limits = (options.get("max_items"), options.get("max_documents"))
    if None in limits or not came.documents:
        return 1.0
    return min(1.0, sum(float(limit) for limit in limits if limit is not None) / came.documents)
