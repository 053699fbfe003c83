"""The in-process engine on a tiny random Llama; the parts that need no model on plain values."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from reinstruct.engine import InProcess, check_folder, first_stop
from reinstruct.errors import LLMError, RecipeError
from reinstruct.llm import Request, Sampling
from reinstruct.prompting import prompt_ids
from reinstruct.records import Message
from tests.conftest import flat

SENTENCES = [
    "the quick brown fox jumps over the lazy dog",
    "a list of words: one, two, three",
    "What is it? It is a dog.",
]
CONTEXT = 96
GREEDY = Sampling(max_tokens=12)
DRAWN = Sampling(temperature=1.0, top_p=0.9, max_tokens=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("model")
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    raw.train_from_iterator(SENTENCES, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    tokenizer.save_pretrained(path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=CONTEXT,
            bos_token_id=0,
            eos_token_id=1,
            initializer_range=0.3,  # far from uniform, so that greedy choices are no ties
            **shape,
        )
        LlamaForCausalLM(config).save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def engine(folder):
    return InProcess(folder, device="cpu")


def requests(n: int = 8) -> list[Request]:
    texts = [(SENTENCES[i % 3] + " ") * (i // 3 + 1) for i in range(n)]
    return [Request(str(i), text[: 20 + 17 * i], seed=i, position=i) for i, text in enumerate(texts)]


def replies(engine, asked, sampling):
    return {request.key: reply for request, reply in flat(engine.complete(asked, sampling))}


def alone(folder_engine, asked, sampling):
    return {key: reply for request in asked for key, reply in replies(folder_engine, [request], sampling).items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        DRAWN,
        Sampling(temperature=0.8, max_tokens=20),
        Sampling(max_tokens=12, repetition_penalty=1.3),
        Sampling(max_tokens=12, presence_penalty=0.8, frequency_penalty=0.4),
        Sampling(temperature=1.0, top_k=5, min_p=0.05, max_tokens=12),
    ],
    ids=["greedy", "top_p", "temperature", "repetition", "presence", "top_k"],
)
def test_a_reply_does_not_depend_on_its_batch(engine, sampling):
    together = replies(engine, requests(), sampling)
    assert together == alone(engine, requests(), sampling)
    assert len({reply.text for reply in together.values()}) > 1


@pytest.mark.slow
def test_greedy_equals_generate(engine, folder):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for request, reply in flat(engine.complete(requests(4), GREEDY)):
        ids = torch.tensor([prompt_ids(tokenizer, request.prompt)])
        out = model.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=1)[0, ids.shape[1] :]
        assert reply.text == tokenizer.decode(out, skip_special_tokens=True).rstrip("\ufffd")
        assert (reply.prompt_tokens, reply.completion_tokens) == (ids.shape[1], len(out))


@pytest.mark.slow
def test_seeds_decide_what_is_drawn_and_leave_the_global_one_alone(engine):
    import torch

    before = torch.random.get_rng_state()
    first, again, other = (Request(key, "the quick", seed) for key, seed in (("a", 1), ("b", 1), ("c", 2)))
    got = replies(engine, [first, again, other], DRAWN)
    assert got["a"] == got["b"] != got["c"]
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.slow
def test_a_tiny_nucleus_is_greedy(engine):
    narrow = Sampling(temperature=1.0, top_p=1e-6, max_tokens=12)
    assert replies(engine, requests(3), narrow) == replies(engine, requests(3), GREEDY)


@pytest.mark.slow
@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"min_p": 1.0}], ids=str)
def test_the_likeliest_token_alone_is_greedy(engine, narrow):
    drawn = Sampling(temperature=1.0, max_tokens=12, **narrow)
    assert replies(engine, requests(3), drawn) == replies(engine, requests(3), GREEDY)


@pytest.mark.slow
def test_log_probabilities_are_the_models_own(engine, folder):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ((request, reply),) = flat(engine.complete(requests(1), Sampling(max_tokens=3, logprobs=2)))
    ids = torch.tensor([prompt_ids(tokenizer, request.prompt)])
    said = model.generate(ids, max_new_tokens=3, do_sample=False, pad_token_id=1)
    assert len(reply.tokens) == reply.completion_tokens == 3
    for number, token in enumerate(reply.tokens):
        with torch.inference_mode():
            logprobs = model(said[:, : ids.shape[1] + number]).logits[0, -1].log_softmax(-1)
        best = logprobs.topk(2)
        assert [text for text, _ in token.top] == [tokenizer.decode([i]) for i in best.indices.tolist()]
        assert [value for _, value in token.top] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert (token.text, token.logprob) == token.top[0]


@pytest.mark.parametrize("asked", [{"n": 2, "temperature": 1.0}, {"regex": "a"}, {"choice": ("a",)}], ids=str)
def test_what_only_servers_can_do_is_said_before_a_model_is_loaded(asked):
    engine = InProcess("/no/model/here")
    with pytest.raises(RecipeError, match=r"in this process; name a server with --server"):
        next(engine.complete(requests(1), Sampling(**asked)))


@pytest.mark.slow
def test_a_stop_string_ends_the_reply_and_is_not_in_it(engine):
    full = replies(engine, requests(1), GREEDY)["0"]
    stop = full.text[3:5]
    cut = replies(engine, requests(1), Sampling(max_tokens=12, stop=(stop,)))["0"]
    assert (cut.text, cut.finish) == (full.text[: full.text.index(stop)], "stop")
    assert cut.completion_tokens < full.completion_tokens


@pytest.mark.slow
def test_eos_ends_the_reply(folder, tmp_path):
    import json
    import shutil
    from pathlib import Path

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    (request,) = requests(1)
    asked = torch.tensor([prompt_ids(tokenizer, request.prompt)])
    said = model.generate(asked, max_new_tokens=12, do_sample=False, pad_token_id=1)[0, asked.shape[1] :].tolist()
    ender = said[5]  # from now on this token ends a reply
    ended = shutil.copytree(folder, tmp_path / "ended")
    settings = Path(ended, "generation_config.json")
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "eos_token_id": [ender]}))
    reply = replies(InProcess(str(ended), device="cpu"), [request], GREEDY)["0"]
    before = said[: said.index(ender)]
    assert (reply.text, reply.finish) == (tokenizer.decode(before).rstrip("\ufffd"), "stop")
    assert reply.completion_tokens == len(before) + 1


@pytest.mark.slow
def test_limits_say_length_and_a_full_context_is_not_asked(engine):
    room_for_two = Request("two", "x" * (CONTEXT - 2))
    too_long = Request("long", "x" * CONTEXT)
    got = replies(engine, [room_for_two, too_long, Request("short", "x")], GREEDY)
    assert (got["two"].finish, got["two"].completion_tokens) == ("length", 2)
    assert (got["long"].finish, got["long"].text, got["long"].prompt_tokens) == ("prompt_too_long", "", CONTEXT)
    assert got["short"].completion_tokens == 12


@pytest.mark.slow
def test_conversations_without_a_template_are_answered(engine):
    chat = Request("chat", (Message("user", "What is it?"),))
    assert replies(engine, [chat], GREEDY)["chat"].prompt_tokens > 8


@pytest.mark.slow
def test_requests_are_read_a_window_at_a_time(folder):
    read = []

    def source():
        for request in requests(9):
            read.append(request.key)
            yield request

    stream = flat(InProcess(folder, window=3, device="cpu").complete(source(), Sampling(max_tokens=1)))
    next(stream)
    assert len(read) == 4, "one more, to see that the window is over"
    assert len(list(stream)) == 8


@pytest.mark.slow
def test_a_resumed_shard_computes_the_windows_that_are_left_and_no_others(folder):
    engine = InProcess(folder, max_batch=3, window=7, device="cpu")
    asked = [replace(request, position=n) for n, request in enumerate(requests(8) * 5)]
    whole = [list(batch) for batch in engine.complete(asked, GREEDY)]
    assert [len(batch) for batch in whole] == [7, 7, 7, 7, 7, 5]
    for killed_after in (1, 4):
        kept = {request.position for batch in whole[:killed_after] for request, _ in batch}
        rest = [list(batch) for batch in engine.complete([r for r in asked if r.position not in kept], GREEDY)]
        assert rest == whole[killed_after:]


@pytest.mark.slow
@pytest.mark.parametrize("batch_tokens", [90, 400])
def test_a_reply_does_not_depend_on_whose_place_it_takes(folder, batch_tokens):
    asked = [replace(request, position=n, key=str(n)) for n, request in enumerate(requests(8) * 2)]
    narrow = InProcess(folder, max_batch=5, batch_tokens=batch_tokens, device="cpu")
    drawn = Sampling(temperature=1.0, top_p=0.9, max_tokens=20, stop=("e", "o"), repetition_penalty=1.1, logprobs=1)
    several = replies(narrow, asked, drawn)
    for key, single in alone(InProcess(folder, device="cpu"), asked[:8], drawn).items():
        assert (several[key].text, several[key].finish) == (single.text, single.finish)
        assert [token.text for token in several[key].tokens] == [token.text for token in single.tokens]
    assert len({reply.completion_tokens for reply in several.values()}) > 2, "rows must end at different times"


def test_the_earliest_stop_string_counts():
    assert first_stop("one two three", ("three", "two", "")) == 4
    assert first_stop("one", ("two",)) is None


def test_a_folder_without_a_model_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(LLMError, match=r"no model in .*lacks weights \(\*\.safetensors\), a tokenizer"):
        check_folder(str(tmp_path))
    with pytest.raises(LLMError, match=r"lacks config\.json"):
        check_folder(str(tmp_path / "nothing" / "here"))
    check_folder("someone/a-model")


def test_settings_below_one_are_refused():
    with pytest.raises(RecipeError, match="window must be at least 1, not 0"):
        InProcess("m", window=0)


def test_importing_the_engine_loads_no_torch():
    script = "import sys, reinstruct.engine; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_without_torch_the_error_says_what_to_install():
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from reinstruct.engine import InProcess\n"
        "from reinstruct.errors import LLMError\n"
        "try: InProcess('m').check()\n"
        "except LLMError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert 'pip install "reinstruct[train]"' in said
