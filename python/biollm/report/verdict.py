"""The verdict on two runs, in sentences: what was the same, what differed, by how much, and what cannot be compared.

One run a side shows that two results differ, never that they would differ again: no sentence says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from biollm.report.comparison import Comparison, StagePair, data_files
from biollm.report.folders import RunView, StageView, text
from biollm.report.headline import BIGRAM, MODEL, finite
from biollm.report.markup import number, seconds
from biollm.results import Scalar

MAX_SETTINGS: Final = 6
ONE_RUN: Final = "One run a side: this says what differed here, not what would differ again with another seed."


def verdict(comparison: Comparison) -> tuple[str, ...]:
    """Sentences about a comparison, the weightiest first; each stands on data of the two folders.

    Args:
        comparison: without a verdict.
    """
    sentences = [*_unfinished(comparison.a, "A"), *_unfinished(comparison.b, "B")]
    if not comparison.pairs:
        return (*sentences, "No stage of A has its like in B: there is nothing to compare.")
    finished = [p for p in comparison.pairs if p.a.manifest is not None and p.b.manifest is not None]
    alone = bool(comparison.only_a or comparison.only_b)
    settings = list(_settings(comparison.pairs))
    if finished and all(p.files for p in finished) and len(finished) == len(comparison.pairs) and not alone:
        what = "every stage" if len(finished) > 1 else f"the stage {finished[0].name}"
        sentences.append(f"A and B hold the same files in {what}.")
    elif finished:
        clauses = [*_source(finished), *_documents(finished), *_training(finished)]
        if clauses:
            sentences.append(_sentence("; ".join(clauses)))
        sentences += _validation(finished)
    if settings:
        more = f" and {len(settings) - MAX_SETTINGS} more" if len(settings) > MAX_SETTINGS else ""
        sentences.append(f"Set otherwise: {', '.join(settings[:MAX_SETTINGS])}{more}.")
    elif not alone and len(comparison.pairs) == len(finished):
        sentences.append("No option is set otherwise.")
    for stages, side in ((comparison.only_a, "A"), (comparison.only_b, "B")):
        if stages:
            sentences.append(f"Only {side} has {', '.join(stage.name for stage in stages)}.")
    sentences += _time(comparison, finished)
    return tuple(sentences)


def more_or_fewer(a: float, b: float, what: str) -> str:
    """B against A in words: "12 % fewer tokens (880 against 1,000)".

    Args:
        a: a count in A, not negative.
        b: the count in B.
        what: is counted, in the plural.
    """
    if a == b:
        return f"as many {what} ({_count(b)})"
    both = f"({_count(b)} against {_count(a)})"
    if not a or not b:
        return f"{_count(b)} {what} against {_count(a)}"
    if b >= 2 * a:
        return f"{b / a:.3g} times as many {what} {both}"
    return f"{_percent(abs(b - a) / a)} {'more' if b > a else 'fewer'} {what} {both}"


def _percent(part: float) -> str:
    share = 100 * part
    return "less than 0.1 %" if share < 0.1 else f"{share:.1f} %" if share < 10 else f"{share:.0f} %"


def _count(value: float) -> str:
    return number(int(value)) if value == int(value) else number(value)


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _unfinished(run: RunView, side: str) -> Iterator[str]:
    if run.status in ("complete", "matched"):
        return
    at = next((f" in stage {s.name}" for s in run.stages if s.status == run.status), "")
    error = text(run.record, "error")
    said = {
        "running": f"is not finished: it was at work{at} when its record was written",
        "failed": f"failed{at}{f' ({error})' if error else ''}",
        "interrupted": f"was interrupted{at}",
    }
    yield f"{side} {said.get(run.status, f'is {run.status}')}."


def _settings(pairs: Iterable[StagePair]) -> Iterator[str]:
    for pair in pairs:
        for option in pair.options:
            values = [_setting(value) for value in (option.a, option.b)]
            yield f"{pair.name}.{option.name} {values[0]} → {values[1]}"


def _setting(value: Scalar) -> str:
    shown = "unset" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return shown if len(shown) <= 40 else f"{shown[:40]}…"


def _source(pairs: Sequence[StagePair]) -> Iterator[str]:
    """Whether what came from outside was the same."""
    sides: list[list[str | None]] = [[], []]
    for pair in pairs:
        for side, stage in zip(sides, (pair.a, pair.b), strict=True):
            inputs = stage.manifest.inputs if stage.manifest is not None else ()
            side += [i.xxh3_128 for i in inputs if i.kind != "stage"]
    if not sides[0] and not sides[1]:
        return
    if any(None in side for side in sides):
        yield "whether the input is the same is not known, for not all of it was hashed"
    elif sides[0] == sides[1]:
        yield "the same input files"
    elif sorted(map(str, sides[0])) == sorted(map(str, sides[1])):
        yield "the same input files in another order"
    else:
        yield "other input files"


def _documents(pairs: Sequence[StagePair]) -> Iterator[str]:
    """What the last stage that gives documents left of them."""
    last = next((p for p in reversed(pairs) if p.a.manifest and p.a.manifest.kind == "documents"), None)
    if last is None:
        return
    parts = [{k: v for k, v in data_files(s).items() if k.startswith("documents/")} for s in (last.a, last.b)]
    if parts[0] and parts[0] == parts[1]:
        yield f"the same documents after {last.name}"
        return
    for name in ("documents_kept", "documents"):
        a, b = _counts(last, name)
        if a is not None and b is not None:
            ends = " of other content" if a == b else ""
            yield f"after {last.name} B has {more_or_fewer(a, b, 'documents')}{ends}"
            return


def _training(pairs: Sequence[StagePair]) -> Iterator[str]:
    trainings = _of_kind(pairs, "checkpoint")
    for pair in trainings:
        where = f" in {pair.name}" if len(trainings) > 1 else ""
        a, b = _counts(pair, "parameters")
        if a is not None and b is not None and a != b:
            yield f"B's model{where} has {more_or_fewer(a, b, 'parameters')}"
        a, b = _counts(pair, "train_tokens")
        if a is not None and b is not None:
            fewer = f"B trains{where} on {more_or_fewer(a, b, 'tokens')}"
            yield f"both train{where} on {_count(b)} tokens" if a == b else fewer


def _validation(pairs: Sequence[StagePair]) -> Iterator[str]:
    """The validation of each training, in the unit that can be compared; none where the texts differ."""
    trainings = _of_kind(pairs, "checkpoint")
    for pair in trainings:
        what = f"validation of {pair.name}" if len(trainings) > 1 else "validation"
        rates, losses = (_facts(pair, name) for name in (MODEL, "validation_loss_nats"))
        same_text, same_tokens = _same_validation(pair)
        if same_tokens and losses is not None:
            yield _sentence(_lower_or_higher(f"{what}: loss", losses, "nats a token"))
        elif same_text and rates is not None:
            words = _lower_or_higher(f"{what}:", rates, "bits per byte")
            yield _sentence(f"{words}; the tokenizers differ, so losses by token do not compare")
        elif rates is not None:
            known = "on other documents" if same_text is False else "on documents not known to be the same"
            shown = f"{rates[1]:.3f} bits per byte in B and {rates[0]:.3f} in A"
            yield _sentence(f"{what}: {shown}, but {known}, so the two do not compare")
        below = [_facts(pair, name) for name in (BIGRAM, MODEL)]
        if below[0] is not None and below[1] is not None:
            sides = [_above_or_below(*both) for both in zip(*below, strict=True)]
            yield f"Against the interpolated bigram of its own shards A is {sides[0]}, B {sides[1]}."


def _above_or_below(bigram: float, model: float) -> str:
    return f"{abs(bigram - model):.3f} bits per byte {'below' if model < bigram else 'above'}"


def _lower_or_higher(what: str, values: tuple[float, float], unit: str) -> str:
    change = f"{abs(values[1] - values[0]):.3f}"
    if values[0] == values[1]:
        return f"{what} the same ({values[0]:.3f} {unit})"
    if not float(change):
        return f"{what} the same to three decimals ({values[1]:.3f} {unit})"
    side = "lower" if values[1] < values[0] else "higher"
    return f"{what} {change} {unit} {side} in B ({values[1]:.3f} against {values[0]:.3f})"


def _same_validation(pair: StagePair) -> tuple[bool | None, bool]:
    """Whether both were validated on the same documents (`None`: not known), and on the same tokens of them."""
    a, b = _counts(pair, "validation_tokens")
    if not pair.inputs and pair.inputs_same:
        return True, a == b
    shards = [next((s for s in side if s.manifest and s.manifest.kind == "shards"), None) for side in pair.above]
    if shards[0] is None or shards[1] is None:
        return None, False
    both = shards[0], shards[1]
    if any(_count_of(both[0], n) != _count_of(both[1], n) for n in ("validation_documents", "validation_bytes")):
        return False, False
    files = [{k: v for k, v in data_files(s).items() if k.startswith("validation-")} for s in both]
    documents = [{k: v for k, v in f.items() if k.endswith(".documents.parquet")} for f in files]
    if not documents[0] or documents[0] != documents[1]:
        return None, False
    tokenizers = [data_files(s).get("tokenizer.json") for s in both]
    return True, a == b and files[0] == files[1] and tokenizers[0] == tokenizers[1]


def _time(comparison: Comparison, pairs: Sequence[StagePair]) -> Iterator[str]:
    walls = [sum(s.wall_s or 0.0 for s in side) for side in ([p.a for p in pairs], [p.b for p in pairs])]
    if min(walls, default=0.0) <= 0:
        return
    records = comparison.a.record, comparison.b.record
    machines = [record.get("machine") for record in records]
    ratio = "as long" if abs(walls[1] / walls[0] - 1) < 0.005 else f"{walls[1] / walls[0]:.3g} times as long"
    ratio += ", on another machine" if all(machines) and machines[0] != machines[1] else ""
    profiled = [side for side, record in zip("AB", records, strict=True) if record.get("profile") is True]
    ratio += f"; {' and '.join(profiled)} ran under the profiler, which takes time" if profiled else ""
    cut = any(s.resumptions for p in pairs for s in (p.a, p.b))
    note = " (of stages that were cut off, the last part counts)" if cut else ""
    yield f"Their stages took {seconds(walls[1])} in B and {seconds(walls[0])} in A, {ratio}{note}."


def _of_kind(pairs: Sequence[StagePair], kind: str) -> list[StagePair]:
    return [p for p in pairs if p.a.manifest is not None and p.a.manifest.kind == kind]


def _counts(pair: StagePair, name: str) -> tuple[float | None, float | None]:
    return _count_of(pair.a, name), _count_of(pair.b, name)


def _count_of(stage: StageView, name: str) -> float | None:
    value = finite(stage.manifest.counts.get(name)) if stage.manifest is not None else None
    return value if value is not None and value >= 0 else None


def _facts(pair: StagePair, name: str) -> tuple[float, float] | None:
    values = [finite(side.summary.facts.get(name)) if side.summary is not None else None for side in (pair.a, pair.b)]
    return None if values[0] is None or values[1] is None else (values[0], values[1])
