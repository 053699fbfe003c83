"""T5 and BART trained, measured, continued and asked: what holds for decoders alone holds for them."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from reinstruct.architecture import ENCODER_DECODER
from reinstruct.engine import InProcess
from reinstruct.llm import Request, Sampling
from reinstruct.records import Example, to_table
from reinstruct.train.job import Job, run
from reinstruct.train.settings import Sft
from tests.conftest import flat
from tests.encoder_decoders import FAMILIES, made_base, rows

pytestmark = pytest.mark.slow

LEARNT = rows(6)
SETTINGS = Sft(
    batch_size=6, learning_rate=5e-3, schedule="linear", warmup_ratio=0.1, max_tokens=256, precision="float32"
)
BY_HEART = replace(SETTINGS, epochs=25, weights=("seed=4", "web=4"))
GREEDY = Sampling(max_tokens=12)


class StopEarly(Exception):
    pass


@pytest.fixture(scope="module", params=FAMILIES)
def base(request, tmp_path_factory):
    return made_base(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return written(tmp_path_factory.mktemp("data") / "rows.parquet", rows(16))


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Rows to be learnt by heart, with some that are of no use."""
    useless = [Example(id="blank", prompt="Say:", target=" "), Example(id="long", prompt="fox " * 400, target="fox")]
    return written(tmp_path_factory.mktemp("few") / "rows.parquet", [*LEARNT, *useless])


@pytest.fixture(scope="module")
def tuned(base, few, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    run(job(base, few, folder, BY_HEART))
    return folder / "out"


def written(path, examples):
    pq.write_table(to_table(examples, Example), path)
    return str(path)


def job(base, data, folder, settings, **changed):
    places = {"work": str(folder / "work"), "out": str(folder / "out")}
    return Job(kind="sft", data=(data,), base=str(base), settings=settings, **places, **changed)


def told(folder):
    return json.loads((folder / "metrics.json").read_text())


def weights(folder):
    return (Path(folder) / "model.safetensors").read_bytes()


def replies(folder, sampling=GREEDY, examples=LEARNT, **limits):
    asked = [Request(row.id, row.messages or row.prompt, seed=n, position=n) for n, row in enumerate(examples)]
    engine = InProcess(str(folder), device="cpu", **limits)
    return {request.key: reply for request, reply in flat(engine.complete(asked, sampling))}


def test_what_is_learnt_is_replied(tuned):
    curve = told(tuned)["curve"]
    assert curve[-1][1] < 0.02 * curve[0][1]
    assert {key: reply.text for key, reply in replies(tuned).items()} == {row.id: row.target for row in LEARNT}
    assert {reply.finish for reply in replies(tuned).values()} == {"stop"}


def test_metrics_and_card_say_what_it_is(tuned):
    metrics, card = told(tuned), (tuned / "README.md").read_text()
    assert metrics["rejected"] == {"empty_target": 1, "prompt_too_long": 1}
    assert metrics["packing"]["packed"] is False
    assert "never packed" in metrics["packing"]["layout"]
    assert "pipeline_tag: text2text-generation" in card
    assert "AutoModelForSeq2SeqLM.from_pretrained" in card
    assert "tokenizer.decode(reply[0], skip" in card


def test_the_cards_words_ask_it_as_it_learnt(tuned):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(tuned), AutoModelForSeq2SeqLM.from_pretrained(tuned)
    for row in LEARNT:
        turns = [{"role": message.role, "content": message.content} for message in row.messages]
        asked = (
            tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
            if turns
            else tokenizer(row.prompt, return_tensors="pt")
        )
        assert asked["input_ids"][0].tolist() == ENCODER_DECODER.prompt_ids(tokenizer, row.messages or row.prompt)
        assert tokenizer.decode(model.generate(**asked, max_new_tokens=12)[0], skip_special_tokens=True) == row.target


def test_the_first_loss_is_that_of_the_base_and_the_last_that_of_the_model(base, few, tuned, tmp_path):
    settings = replace(SETTINGS, epochs=1, batch_size=1)  # a step for each row, from weights that hardly change
    found = run(job(base, few, tmp_path / "still", replace(settings, learning_rate=1e-12)))
    mean = sum(loss * tokens for (_, loss), tokens in zip(found["curve"], _targets(base, few), strict=True))
    for folder, expected in ((base, mean / found["target_tokens"]), (tuned, told(tuned)["curve"][-1][1])):
        places = {"work": str(tmp_path / "w"), "out": str(tmp_path / "loss")}
        measured = run(Job(kind="loss", data=(few,), base=str(folder), settings=Sft(max_tokens=256), **places))
        assert measured["nll"] == pytest.approx(expected, rel=1e-3, abs=0.02)
        assert measured["rejected"] == {"empty_target": 1, "prompt_too_long": 1}


def _targets(base, data):
    """Target tokens of the rows, in the order in which a training of one epoch takes them."""
    from reinstruct.train.model import load_tokenizer
    from reinstruct.train.rows import Shape, encode_all, read_examples
    from reinstruct.train.schedule import Schedule, order

    encoded = encode_all(read_examples([data]), load_tokenizer(base), 256, Shape(ENCODER_DECODER)).rows
    planned = order(encoded, range(len(encoded)), Schedule(len(encoded), 1, SETTINGS))
    return [len(encoded[row].ids) - encoded[row].prompt_tokens for row in planned]


def test_an_interrupted_training_ends_as_an_undisturbed_one(base, data, tmp_path):
    settings = replace(SETTINGS, epochs=3, batch_size=4, held_out=0.3, eval_steps=2, keep="best", dropout=0.1)
    settings = replace(settings, weights=("seed=2",))

    def interrupt(done, total):
        if done == 5:
            raise StopEarly

    whole = run(job(base, data, tmp_path / "whole", settings))
    cut = job(base, data, tmp_path / "cut", settings, checkpoint_s=0.0)
    with pytest.raises(StopEarly):
        run(cut, interrupt)
    again = run(cut)
    assert 0 < again["checkpoints"]["went_on_from"] < again["steps"]
    for name in ("curve", "held_out", "kept_step"):
        assert again[name] == whole[name]
    assert weights(tmp_path / "cut" / "out") == weights(tmp_path / "whole" / "out")
    step, loss = min(whole["held_out"], key=lambda point: point[1])
    assert whole["kept_step"] == step
    assert held_out_loss(tmp_path / "whole" / "out", data) == pytest.approx(loss, abs=2e-4)


def held_out_loss(folder, data):
    from reinstruct.train.loss import nll_sums
    from reinstruct.train.model import load_model, load_tokenizer
    from reinstruct.train.rows import Shape, encode_all, read_examples
    from reinstruct.train.schedule import split

    tokenizer = load_tokenizer(str(folder))
    encoded = encode_all(read_examples([data]), tokenizer, 256, Shape(ENCODER_DECODER)).rows
    held_out = split(encoded, 0.3, 0)[1]
    sums = nll_sums(load_model(str(folder), tokenizer), encoded)
    return sum(sums[row] for row in held_out) / encoded.targets_of(held_out)


def test_activations_that_are_recomputed_change_nothing_but_rounding(base, data, tmp_path):
    settings = replace(SETTINGS, epochs=1, batch_size=4, learning_rate=1e-3)
    plain = run(job(base, data, tmp_path / "plain", settings))
    recomputed = run(job(base, data, tmp_path / "recomputed", replace(settings, checkpointing="yes")))
    assert [loss for _, loss in recomputed["curve"]] == pytest.approx([loss for _, loss in plain["curve"]], abs=1e-3)


def test_adapters_are_trained_merged_and_gone_on_from(base, few, tmp_path):
    adapters = replace(BY_HEART, epochs=10, lora_rank=16, lora_alpha=64, lora_dropout=0.0)
    first = run(job(base, few, tmp_path / "first", adapters))
    out = tmp_path / "first" / "out"
    assert json.loads((out / "adapter" / "adapter_config.json").read_text())["task_type"] == "SEQ_2_SEQ_LM"
    assert first["loss"] < 0.97 * first["curve"][0][1]
    further = run(job(out, few, tmp_path / "second", replace(adapters, lora_continue=True)))
    assert further["curve"][0][1] == pytest.approx(first["curve"][-1][1], abs=0.3)
    assert further["loss"] < first["loss"]
    loss = Job(
        kind="loss", data=(few,), base=str(out), settings=adapters, work=str(tmp_path / "w"), out=str(tmp_path / "loss")
    )
    merged = run(loss)["nll"]
    assert merged == pytest.approx(first["curve"][-1][1], abs=0.3)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_tokens=12, logprobs=2),
        Sampling(max_tokens=10, temperature=1.0, top_p=0.9),
        Sampling(max_tokens=10, repetition_penalty=1.3, frequency_penalty=0.4),
    ],
    ids=["greedy", "drawn", "penalised"],
)
def test_a_reply_does_not_depend_on_its_batch(tuned, sampling):
    examples = rows(9)
    together, alone = (replies(tuned, sampling, examples, max_batch=most) for most in (4, 1))
    assert {key: reply.text for key, reply in together.items()} == {key: reply.text for key, reply in alone.items()}
    assert len({reply.text for reply in together.values()}) > 1
    for key, reply in together.items():
        mine, theirs = ([token.logprob for token in each.tokens] for each in (reply, alone[key]))
        assert len(mine) == (reply.completion_tokens if sampling.logprobs else 0)
        assert mine == pytest.approx(theirs, abs=1e-3)


def test_prompts_beyond_the_encoder_are_told_apart(tmp_path):
    base = made_base(tmp_path, "bart")
    long = msgspec.structs.replace(LEARNT[0], prompt="the " * 200)
    told = replies(base, Sampling(max_tokens=500), [long, LEARNT[2]])
    assert told[long.id].finish == "prompt_too_long"
    assert told[LEARNT[2].id].completion_tokens <= 95
