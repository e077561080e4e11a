"""`LLM.generate`: against `transformers`, batches against prompts alone, and what is refused before any work."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from biollm.errors import BiollmError, ConfigError, FileError, FormatError, InputError, LimitError  # noqa: E402
from biollm.inference import LLM, SamplingOptions  # noqa: E402
from biollm.inference import llm as llm_module  # noqa: E402
from byte_tokenizer import ByteTokenizer  # noqa: E402
from random_models import FAMILY, random_hf_folder  # noqa: E402

TIE = 1e-4  # of two logits, see same_greedy_tokens


def random_prompts(*lengths: int, vocab_size: int = 300) -> list[list[int]]:
    generator = torch.Generator().manual_seed(sum(lengths))
    return [torch.randint(3, vocab_size, (n,), generator=generator).tolist() for n in lengths]


def same_greedy_tokens(theirs: Any, prompt: list[int], expected: list[int], found: tuple[int, ...]) -> bool:
    """Equal, or first different where the two best logits lie within `TIE`."""
    for index, (a, b) in enumerate(zip(expected, found, strict=False)):
        if a != b:
            with torch.no_grad():
                best = theirs(torch.tensor([prompt + expected[:index]])).logits[0, -1].topk(2).values
            return bool(best[0] - best[1] <= TIE)
    return len(expected) == len(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    random_hf_folder(path)
    return path


@pytest.fixture
def llm(folder: Path) -> LLM:
    return LLM(folder)


@pytest.fixture
def text_llm(folder: Path) -> LLM:
    model = LLM(folder)
    model.tokenizer = ByteTokenizer()
    return model


@pytest.mark.parametrize("member", FAMILY)
def test_greedy_tokens_equal_those_of_transformers(member: str, tmp_path: Path) -> None:
    theirs = random_hf_folder(tmp_path, member)
    ours = LLM(tmp_path)
    prompts = random_prompts(1, 6, 33, 120)
    seen: set[int] = set()
    for prompt, completion in zip(prompts, ours.generate(prompts, max_tokens=40), strict=True):
        output = theirs.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False)
        expected = output[0, len(prompt) :].tolist()
        seen.update(expected)
        assert same_greedy_tokens(theirs, prompt, expected, completion.token_ids)
        assert completion.finish_reason == ("stop" if expected[-1] == 2 else "length")
    assert len(seen) > 12  # texts, not one token repeated


def test_a_batch_of_unequal_prompts_gives_what_each_gives_alone(llm: LLM) -> None:
    prompts = random_prompts(50, 2, 17, 1, 200, 17)
    together = llm.generate(prompts, max_tokens=48)
    alone = [llm.generate([prompt], max_tokens=48)[0] for prompt in prompts]
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]
    assert [c.prompt for c in together] == [tuple(p) for p in prompts]
    assert [c.prompt_tokens for c in together] == [50, 2, 17, 1, 200, 17]


def test_more_prompts_than_a_batch_holds(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = random_prompts(*range(1, 12))
    expected = [c.token_ids for c in llm.generate(prompts, max_tokens=10)]
    monkeypatch.setattr(llm_module, "MAX_BATCH_ROWS", 4)
    assert [c.token_ids for c in llm.generate(prompts, max_tokens=10)] == expected
    monkeypatch.setattr(llm_module, "MAX_BATCH_CACHE_BYTES", 1)  # one row at a time
    assert [c.token_ids for c in llm.generate(prompts, max_tokens=10)] == expected


def test_logprobs_equal_a_whole_forward_pass(llm: LLM) -> None:
    (prompt,) = random_prompts(20)
    (completion,) = llm.generate([prompt], max_tokens=15, logprobs=3)
    assert completion.logprobs is not None
    with torch.no_grad():
        logits = llm.model(torch.tensor([prompt + list(completion.token_ids)]))[0, len(prompt) - 1 : -1]
    expected = logits.log_softmax(-1)
    for index, (token_id, entry) in enumerate(zip(completion.token_ids, completion.logprobs, strict=True)):
        assert entry.token_id == token_id
        assert entry.logprob == pytest.approx(expected[index, token_id].item(), abs=1e-5)
        assert [i for i, _ in entry.top] == expected[index].topk(3).indices.tolist()
        assert entry.top[0] == (token_id, entry.logprob)  # greedy


def test_sampling_is_repeatable_and_free_of_the_batch(llm: LLM) -> None:
    prompts = random_prompts(5, 30, 9)
    options = {"max_tokens": 30, "temperature": 1.0, "top_p": 0.95, "seed": 11}
    first = [c.token_ids for c in llm.generate(prompts, **options)]
    assert [c.token_ids for c in llm.generate(prompts, **options)] == first
    assert llm.generate(prompts[:1], **options)[0].token_ids == first[0]
    assert [c.token_ids for c in llm.generate(prompts, **{**options, "seed": 12})] != first
    same_prompt = llm.generate(prompts[:1] * 2, **options)
    assert same_prompt[0].token_ids != same_prompt[1].token_ids


def test_end_of_text_ends_each_row_by_itself(folder: Path, llm: LLM) -> None:
    prompts = random_prompts(4, 4, 4)
    free = llm.generate(prompts, max_tokens=30)
    ending = LLM(folder)
    ends = free[0].token_ids[7]
    ending.config = type(ending.config)(**{**vars(ending.config), "eos_id": (ends,)})
    completions = ending.generate(prompts, max_tokens=30)
    cut = free[0].token_ids.index(ends) + 1
    assert completions[0].token_ids == free[0].token_ids[:cut]
    assert completions[0].finish_reason == "stop"
    for before, after in zip(free[1:], completions[1:], strict=True):
        stops = before.token_ids.index(ends) + 1 if ends in before.token_ids else 30
        assert after.token_ids == before.token_ids[:stops]


def test_text_prompts_and_stop_strings(text_llm: LLM) -> None:
    (whole,) = text_llm.generate("A prompt.", max_tokens=40)
    assert whole.prompt == "A prompt."
    assert whole.prompt_tokens == 9
    assert whole.text
    stop = whole.text[10:12]
    (cut,) = text_llm.generate("A prompt.", max_tokens=40, stop=stop)
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"
    assert len(cut.token_ids) < len(whole.token_ids)


def test_the_tokenizer_of_the_folder_is_used(folder: Path, tmp_path: Path) -> None:
    from biollm import tokenization

    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tokenizer = tokenization.train(["the patient was given aspirin and recovered"] * 20, vocab_size=290)
    tokenizer.save(tmp_path)
    model = LLM(tmp_path)
    prompts = ["the patient", "aspirin, naïve café 日本"]
    completions = model.generate(prompts, max_tokens=60)
    ids = [tokenizer.encode(prompt).ids.tolist() for prompt in prompts]
    assert [c.token_ids for c in completions] == [c.token_ids for c in model.generate(ids, max_tokens=60)]
    for completion, prompt_ids in zip(completions, ids, strict=True):
        assert completion.prompt_tokens == len(prompt_ids)
        # The model has ten ids more than the tokenizer.
        assert completion.text == tokenizer.decode([i for i in completion.token_ids if i < 290 and i != 2])
    with pytest.raises(InputError):
        model.generate("a lone \ud800 surrogate")


def test_arrays_of_ids_are_prompts(llm: LLM) -> None:
    expected = [c.token_ids for c in llm.generate([[5, 6, 7], [8, 9, 10]], max_tokens=5)]
    array = torch.tensor([[5, 6, 7], [8, 9, 10]])
    for prompts in (array, array.numpy().astype("uint32"), list(array), [array[0].numpy(), [8, 9, 10]]):
        completions = llm.generate(prompts, max_tokens=5)
        assert [c.token_ids for c in completions] == expected
        assert completions[0].prompt == (5, 6, 7)


def test_no_prompts_give_no_completions(llm: LLM) -> None:
    assert llm.generate([]) == []


def test_the_context_is_used_to_its_last_token(llm: LLM) -> None:
    assert len(llm.generate(random_prompts(500), max_tokens=12)[0].token_ids) == 12


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([[1] * 500], {"max_tokens": 13}, "context of 512"),
        ([[5], [1] * 600], {"max_tokens": 1}, "prompt 1 has 600 tokens"),
        ([[5], []], {}, "prompt 1 has no tokens"),
        ([[300]], {}, "token id 300"),
        ([[-1]], {}, "token id -1"),
        ("text", {}, "no tokenizer.json"),
        ([[5]], {"stop": "x"}, "stop strings need a tokenizer"),
        ([[5]], {"top_p": 2.0}, "top_p"),
        ([{"role": "user", "content": "hi"}], {}, "chat"),
        ([[{"role": "user", "content": "hi"}]], {}, "chat"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(
    llm: LLM, prompts: Any, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm.model, "forward", None)
    monkeypatch.setattr(llm.model.model, "forward", None)
    with pytest.raises(InputError, match=message):
        llm.generate(prompts, **options)


@pytest.mark.parametrize("prompts", [None, 5, b"x", [b"x"], [5, 6], [[5, "x"]], [[5, True]], [None]])
def test_prompts_of_the_wrong_type_are_type_errors(llm: LLM, prompts: Any) -> None:
    with pytest.raises(TypeError):
        llm.generate(prompts)


def test_an_absurd_cache_is_a_limit_error(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm_module, "MAX_ROW_CACHE_BYTES", 1000)
    with pytest.raises(LimitError) as caught:
        llm.generate([[5]])
    assert caught.value.limit == 1000


def test_progress_counts_tokens_and_may_stop_the_work(llm: LLM) -> None:
    seen: list[tuple[int, int | None]] = []
    llm.complete(random_prompts(3, 5), SamplingOptions(max_tokens=6), lambda done, total: seen.append((done, total)))
    assert [total for _, total in seen] == [12] * len(seen)
    assert seen[0] == (2, 12)
    assert seen[-1] == (12, 12)

    class Enough(Exception):  # noqa: N818
        pass

    def stop(done: int, total: int | None) -> None:
        raise Enough

    with pytest.raises(Enough):
        llm.complete([[5]], SamplingOptions(), stop)
    assert llm.generate([[5]], max_tokens=2)  # and the model is free again


def test_threads_take_turns(llm: LLM) -> None:
    prompts = random_prompts(3, 8, 20, 41)
    expected = [llm.generate([prompt], max_tokens=20)[0].token_ids for prompt in prompts]
    found: dict[int, tuple[int, ...]] = {}

    def work(index: int) -> None:
        found[index] = llm.generate([prompts[index]], max_tokens=20)[0].token_ids

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(4)] == expected


@pytest.mark.parametrize(("dtype", "expected"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
def test_dtype(folder: Path, dtype: str, expected: torch.dtype) -> None:
    model = LLM(folder, device="cpu", dtype=dtype)
    assert model.model.lm_head.weight.dtype == expected
    assert len(model.generate([[5, 6]], max_tokens=4)[0].token_ids) == 4
    assert not any(parameter.requires_grad for parameter in model.model.parameters())


def test_the_model_is_the_same_in_fp64(folder: Path, llm: LLM) -> None:
    prompts = random_prompts(9, 30)
    wide = LLM(folder, dtype="float64")
    assert [c.token_ids for c in wide.generate(prompts, max_tokens=20)] == [
        c.token_ids for c in llm.generate(prompts, max_tokens=20)
    ]


@pytest.mark.parametrize("options", [{"device": "abacus"}, {"dtype": "int8"}, {"compile": "maybe"}, {"dtype": "float"}])
def test_unknown_devices_dtypes_and_modes_are_named(folder: Path, options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options.values()))):
        LLM(folder, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_where_there_is_none_is_an_error(folder: Path) -> None:
    with pytest.raises(ConfigError, match="cuda"):
        LLM(folder, device="cuda")


def test_a_missing_folder_is_a_file_error(tmp_path: Path) -> None:
    with pytest.raises(FileError):
        LLM(tmp_path / "nothing")


def test_a_tokenizer_we_cannot_honour_leaves_token_prompts(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "tokenizer.json").write_text("not JSON")
    model = LLM(tmp_path)
    assert model.generate([[5]], max_tokens=2)[0].text is None
    with pytest.raises(InputError, match="tokenizer") as caught:
        model.generate("text")
    assert isinstance(caught.value.__cause__, FormatError | BiollmError)


def test_what_is_no_checkpoint_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="int is no checkpoint"):
        LLM(5)  # type: ignore[arg-type]
