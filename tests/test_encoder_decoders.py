"""Models of encoder and decoder (T5, BART): their rows, their loss, their training and their replies."""

from dataclasses import replace

import msgspec
import pyarrow.parquet as pq
import pytest

from reinstruct.architecture import DECODER, ENCODER_DECODER, stated_architecture
from reinstruct.corpus.open import open_source
from reinstruct.engine import InProcess
from reinstruct.engines import Engine
from reinstruct.errors import LLMError, RecipeError, TrainingError
from reinstruct.llm import Request, Sampling
from reinstruct.model_checks import check_models
from reinstruct.plan import read
from reinstruct.planfile import Plan, specs
from reinstruct.records import Document, Example, Message, to_table
from reinstruct.serve import weights as served_weights
from reinstruct.serving import existing_model
from reinstruct.stages.instruct import PutToModel, Template, WriteInstruction
from reinstruct.train.job import Job, check
from reinstruct.train.packing import apart, plan, statistics
from reinstruct.train.rows import Refused, Shape, encode, encode_all
from reinstruct.train.settings import Sft
from tests.encoder_decoders import FAMILIES, made_base, rows

pytestmark = pytest.mark.slow

SETTINGS = Sft(epochs=2, batch_size=4, learning_rate=5e-3, max_tokens=256)
SHAPE = Shape(ENCODER_DECODER)


@pytest.fixture(scope="module", params=FAMILIES)
def base(request, tmp_path_factory):
    return made_base(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def loaded(base):
    from reinstruct.train.model import load_model, load_tokenizer

    tokenizer = load_tokenizer(base)
    return load_model(base, tokenizer).eval(), tokenizer


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows.parquet"
    pq.write_table(to_table(rows(20), Example), path)
    return str(path)


def job(base, data, folder, **changed):
    settings = replace(SETTINGS, **changed)
    places = {"work": str(folder / "work"), "out": str(folder / "out")}
    return Job(kind="sft", data=(data,), base=base, settings=settings, **places)


def batch_of(model, tokenizer, examples):
    """A batch of all rows, as the training makes it."""
    from reinstruct.architecture import opening
    from reinstruct.train.encoded import Encoded

    encoded = encode_all(examples, tokenizer, 256, SHAPE).rows
    return Encoded(encoded, tokenizer.pad_token_id, opening(model))([{"rows": list(range(len(encoded)))}])


def test_prompts_are_whole_texts_and_labels_are_the_targets_alone(loaded):
    model, tokenizer = loaded
    examples = rows(6)
    batch = batch_of(model, tokenizer, examples)
    for example, ids, mask, labels in zip(
        examples, batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True
    ):
        prompt = tokenizer.decode(ids[mask.bool()])
        front = tokenizer.bos_token or ""
        turns = f"### User\n{example.messages[0].content}\n\n### Assistant\n" if example.messages else example.prompt
        assert prompt == f"{front}{turns}</s>"
        assert tokenizer.decode(labels[labels != -100]) == f"{example.target}</s>"


def test_decoders_read_what_the_models_own_shift_makes_of_their_labels(loaded):
    model, tokenizer = loaded
    batch = batch_of(model, tokenizer, rows(6))
    whole = batch["labels"].clone()
    if tokenizer.bos_token:  # it is forced when the model generates, so it is no part of a target
        assert (whole[:, 0] == -100).all()
        whole[:, 0] = tokenizer.bos_token_id
    own = model.prepare_decoder_input_ids_from_labels(labels=whole)
    for labels, made, shifted in zip(whole, batch["decoder_input_ids"], own, strict=True):
        length = int((labels != -100).sum())
        assert made[:length].tolist() == shifted[:length].tolist()


def test_a_batch_has_the_loss_of_its_rows_alone(loaded):
    import torch

    from reinstruct.train.encoded import token_losses
    from reinstruct.train.loss import nll_sums

    model, tokenizer = loaded
    encoded = encode_all(rows(7), tokenizer, 256, SHAPE).rows
    batch = batch_of(model, tokenizer, rows(7))
    labels = batch.pop("labels")
    with torch.inference_mode():
        output = model(**batch, labels=labels)
    together = token_losses(output.logits, labels).sum(1).tolist()
    alone = [nll_sums(model, encoded[at : at + 1])[0] for at in range(7)]
    assert together == pytest.approx(alone, rel=1e-4)
    assert nll_sums(model, encoded) == pytest.approx(alone, rel=1e-4)
    assert sum(alone) / encoded.target_tokens == pytest.approx(output.loss.item(), rel=1e-4)


def test_rows_that_do_not_fit_are_refused_with_a_reason(loaded):
    tokenizer = loaded[1]
    asked = Example(id="a", prompt="Say it:", target="The fox.")
    prompt = len(ENCODER_DECODER.prompt_ids(tokenizer, asked.prompt))
    target = len(encode(asked, tokenizer, 256, SHAPE).ids) - prompt

    def reason(example=asked, limit=256, **shape):
        made = encode(example, tokenizer, limit, replace(SHAPE, **shape))
        return made.reason if isinstance(made, Refused) else ""

    assert reason(limit=prompt + target, prompt=prompt, target=target) == ""
    assert reason(limit=prompt + target - 1) == reason(target=target - 1) == "target_too_long"
    assert reason(limit=prompt + 1) == reason(prompt=prompt - 1) == "prompt_too_long"
    assert reason(replace_target(asked, " ")) == "empty_target"
    assert reason(msgspec.structs.replace(asked, messages=(Message("user", "Hi"),))) == "prompt_and_messages"


def replace_target(example, target):
    return msgspec.structs.replace(example, target=target)


def test_positions_bound_prompts_and_targets_apart(tmp_path):
    from reinstruct.train.model import load_model, load_tokenizer, longest_sequence, shape_of

    folder = made_base(tmp_path, "bart")  # 96 positions on each side, of which a decoder's first is for <s>
    model = load_model(folder, load_tokenizer(folder))
    assert (shape_of(model).prompt, shape_of(model).target, longest_sequence(model, 256)) == (96, 95, 256)


def test_rows_are_dealt_by_what_both_sides_compute():
    prompts, targets = [10, 50, 11, 49], [40, 3, 38, 4]
    lengths = [p + t for p, t in zip(prompts, targets, strict=True)]
    layout = apart(prompts)
    assert layout.size([0, 1], lengths) == 2 * (50 + 40)
    passes = plan([0, 1, 2, 3], lengths, batch=4, capacity=120, layout=layout)
    assert all(len(rows) == 1 or layout.size(rows, lengths) <= 120 for rows in passes.passes)
    told = statistics(passes, lengths, layout)
    assert told["packed"] is False
    assert "never packed" in told["layout"]


def test_what_cannot_be_done_with_them_is_refused_before_it_costs_anything(base, data, tmp_path):
    with pytest.raises(RecipeError, match=r"neftune_alpha is 5\.0; accepted: 0 for .* encoder and decoder"):
        check(job(base, data, tmp_path, neftune_alpha=5.0))
    with pytest.raises(RecipeError, match=r"profile is 'fsdp'; accepted: ddp, zero2, zero3 for .* encoder and decoder"):
        check(msgspec.structs.replace(job(base, data, tmp_path), profile="fsdp"))
    check(job(base, data, tmp_path))
    with pytest.raises(RecipeError, match="vLLM serves no model of encoder and decoder such as"):
        served_weights(base)


def plan_of(base, corpus, **settings):
    """A plan that asks a model tuned from this base."""
    documents = read(open_source(str(corpus), Document), name="corpus")
    pairs = documents.map(WriteInstruction(existing_model(base), Template("Say: {response}")), name="guesses")
    learnt = pairs.map(PutToModel(Template("{instruction}")), name="rows")
    tuned = existing_model(base).train(learnt, "tuned", Sft(**settings))
    again = documents.map(WriteInstruction(tuned, Template("Say: {response}")), name="again")
    return Plan(recipe="test", steps=specs(again.step), data=again.step.id)


def test_a_plan_is_refused_where_vllm_would_have_to_serve_one(base, corpus_file):
    check_models(plan_of(base, corpus_file), {}, Engine())
    for engine in (Engine("vllm", python="/no/such"), Engine("vllm-offline", python="/no/such")):
        with pytest.raises(RecipeError, match=r"vLLM serves no model of encoder and decoder .* --engine transformers"):
            check_models(plan_of(base, corpus_file), {}, engine)
    with pytest.raises(RecipeError, match="neftune_alpha is 5"):
        check_models(plan_of(base, corpus_file, neftune_alpha=5.0), {}, Engine())


def test_builds_are_told_by_files_at_hand(base, tmp_path):
    assert stated_architecture(base) is ENCODER_DECODER
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert stated_architecture(str(tmp_path)) is stated_architecture(f"file://{tmp_path}") is DECODER
    (tmp_path / "config.json").write_text("[")
    for unknown in (str(tmp_path), "org/name", "scratch:tiny", ""):
        assert stated_architecture(unknown) is None


def test_a_model_that_does_not_say_how_replies_begin_is_refused(tmp_path):
    from reinstruct.train.model import load_model, load_tokenizer

    folder = made_base(tmp_path, "t5", decoder_start_token_id=None)
    with pytest.raises(TrainingError, match="does not say how a reply begins: set decoder_start_token_id"):
        load_model(folder, load_tokenizer(folder))
    with pytest.raises(LLMError, match="does not say how a reply begins"):
        list(InProcess(folder, device="cpu").complete([Request("a", "Say")], Sampling()))
