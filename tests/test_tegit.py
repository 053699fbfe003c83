"""TeGit: marked fields are read or refused, never raised over; every rule keeps and rejects; the plan runs scripted."""

import gzip
import json
import random

import msgspec
import polars as pl
import pytest

from reinstruct.commit import result_of
from reinstruct.corpus.open import open_source
from reinstruct.llm import Reply, Scripted
from reinstruct.plan import Model, read, walk
from reinstruct.planning import Ask, plan_run
from reinstruct.recipes.tegit import (
    FIELDS,
    NAMES,
    Design,
    DesignRules,
    JoinToText,
    Prompts,
    TeachDesign,
    tegit,
)
from reinstruct.records import Document, Drop, Pair
from reinstruct.stages.marked import Fields, read_fields, write_fields
from reinstruct.store import LocalStore
from tests.conftest import SEED
from tests.in_process import make_rows, rows

DESIGN, DESIGN_CHAT = Prompts().design, Prompts().teach
REQUIRED = ("instruction", "output")
TEXT = "Home | Shop | About. Rivers carry water from the hills to the sea. They feed towns and turn mills. Buy now!"
GOOD = "#instruction#: What do rivers do?\n#input#:\n#output#: They carry water to the sea and turn mills."
MODEL = Model(uri="model")


def read_reply(text: str) -> Fields | Drop:
    return read_fields(text, NAMES, REQUIRED)


def seed_pairs() -> list[Pair]:
    return [msgspec.convert(json.loads(line), Pair) for line in SEED.read_text().splitlines()]


@pytest.mark.parametrize(
    ("reply", "values"),
    [
        ("#instruction#: A\n#input#: B\n#output#: C", ("A", "B", "C")),
        ("#instruction#: A\n#input#:\n#output#: C", ("A", "", "C")),
        ("#instruction#: A\n#output#: C", ("A", "", "C")),  # the release loses such rows
        ("#output#: C\n#instruction#: A\n#input#: B", ("A", "B", "C")),
        ("Of course!\n\n#instruction#: A #output#: C", ("A", "", "C")),
        ("#instruction#: #input#: #output#:\n#instruction#: A\n#input#: B\n#output#: C", ("A", "B", "C")),
        ("#instruction#: A\n#output#: #output#: C", ("A", "", "C")),
        ("#instruction#: A\n#output#: C\n#output#: C", ("A", "", "C")),
        ("#Instruction#：A\n#INPUT# ：B\n# output #\u00a0: C", ("A", "B", "C")),
        ("#指令#：甲\n#输入#：乙\n#输出#：丙", ("甲", "乙", "丙")),
        ('#instruction#: "A"\n#output#: “C”', ("A", "", "C")),
        ('#instruction#: "A" or "B"\n#output#: C s>', ('"A" or "B"', "", "C s>")),
        ("**#instruction#**: A\n**#output#**: C", ("A", "", "C")),
        ("**#instruction#:** A\n**#output#:** **C** c", ("A", "", "**C** c")),
        ("#instruction#: A\n#output#: **C** c", ("A", "", "**C** c")),
        ("```text\n#instruction#: A\n#output#: C\n```", ("A", "", "C")),
        ("#instruction#: A\n#output#: Run:\n```\nls\n```", ("A", "", "Run:\n```\nls\n```")),
        ("**Instruction:** A\n**Input:** B\n**Output:** C\n\nMore: c", ("A", "B", "C\n\nMore: c")),
        ("### Instruction\nA\n\n### Output\nC", ("A", "", "C")),
        ("【指令】：甲\n【输出】：丙", ("甲", "", "丙")),
        ("1. Instruction: A\n2. Output: C", ("A", "", "C")),
        ("#instruction#: A\n#output#: Call it.\nInput: 3\nOutput: 4", ("A", "", "Call it.\nInput: 3\nOutput: 4")),
    ],
)
def test_marked_fields_are_read(reply: str, values: tuple[str, str, str]):
    fields = read_reply(reply)
    assert isinstance(fields, Fields)
    assert tuple(fields.values.get(name, "") for name in FIELDS) == values
    assert not fields.more


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("Rivers carry water to the sea, which is the input of the cycle.", "no_fields"),
        ("#output#: C", "no_instruction"),
        (" A\n#input#: B\n#output#: C", "no_instruction"),
        ("#instruction#: A\n#input#: B", "no_output"),
        ("#instruction#: A\n#outp", "no_output"),
        ("#instruction#: #input#: #output#:", "no_instruction"),
        ("#instruction#: A\n#output#: C\n#output#: D", "repeated_field"),
        ("#instruction#: A\n#input#: B\n#input#: D\n#output#: C", "repeated_field"),
        ("Instruction: A\nOutput: Give it numbers.\nInput: 3", "wrong_order"),
        ("Instruction: A\nInput: x\nOutput: Try:\nInput: 3\nOutput: 4", "repeated_field"),
    ],
)
def test_what_holds_no_task_has_a_reason(reply: str, reason: str):
    drop = read_reply(reply)
    assert isinstance(drop, Drop)
    assert (drop.reason, drop.unreadable) == (reason, reason == "no_fields")


@pytest.mark.parametrize("order", [("instruction", "output"), ("output", "instruction")])
def test_a_second_task_is_left_out(order: tuple[str, str]):
    tasks = [" ".join(f"#{name}#: {name} {number}" for name in order) for number in (1, 2)]
    fields = read_reply("\n".join(tasks))
    assert fields == Fields({name: f"{name} 1" for name in order}, more=True)


def test_every_seed_pair_survives_being_written_and_read():
    pairs = seed_pairs()
    assert len(pairs) > 100
    for pair in pairs:
        values = {name: getattr(pair, name).strip() for name in FIELDS}
        read_back = read_reply(write_fields(values))
        assert read_back == Fields({name: value for name, value in values.items() if value})


def real_replies(shared_data) -> list[str]:
    names = ("llama-2-7b-chat-hf", "phi-2", "NullModel", "oasst-sft-llama-33b")
    files = [shared_data / "outputs" / "alpaca_eval" / f"dev_{name}.jsonl.gz" for name in names]
    return [json.loads(line)["output"] for file in files for line in gzip.open(file, "rt", encoding="utf-8")]


def test_real_replies_never_raise_and_are_no_task_unless_marked(shared_data):
    replies = real_replies(shared_data)
    assert len(replies) > 2000
    ask = Design(MODEL, DESIGN_CHAT)
    document = Document(id="d", text=TEXT)
    parsed = [ask.parse(document, Reply(text)) for text in replies]
    for text, made in zip(replies, parsed, strict=True):
        if not isinstance(made, Drop):
            assert all(name in text.lower() for name in REQUIRED)
    assert sum(isinstance(made, Drop) for made in parsed) > 0.98 * len(replies)


def test_real_replies_in_marks_are_recovered_and_damaged_ones_never_raise(shared_data):
    replies = [text.strip() for text in real_replies(shared_data)]
    rng = random.Random(3)
    recovered = 0
    for number, text in enumerate(replies[:800]):
        parts = [f"#instruction#: Do {number}.", "#input#:", f"#output#: {text}"]
        fields = read_reply("\n".join(parts))
        if isinstance(fields, Fields):
            assert fields.values["output"] in text
            recovered += 1
        rng.shuffle(parts)
        shuffled = "\n".join(parts)
        for cut in (len(shuffled), rng.randrange(len(shuffled)), rng.randrange(60)):
            made = read_reply(shuffled[:cut])
            assert isinstance(made, Drop) or made.values["instruction"] in f"Do {number}."
    assert recovered > 780


def parse(reply: Reply) -> Pair | Drop:
    return Design(MODEL, DESIGN_CHAT).parse(Document(id="d", text=TEXT, url="u", licence="CC0"), reply)


def test_a_design_becomes_a_pair_that_keeps_its_text():
    made = parse(Reply(GOOD))
    assert isinstance(made, Pair)
    assert (made.instruction, made.input, made.document) == ("What do rivers do?", "", TEXT)
    assert (made.document_id, made.url, made.licence, made.origin) == ("d", "u", "CC0", "synthetic")


@pytest.mark.parametrize("nothing", ["None", "(none)", "N/A", "<noinput>", "No input.", "无", "-"])
def test_words_for_no_input_are_no_input(nothing: str):
    made = parse(Reply(f"#instruction#: What do rivers do?\n#input#: {nothing}\n#output#: They carry water."))
    assert isinstance(made, Pair)
    assert made.input == ""


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(" \n"), "empty_reply"),
        (Reply(GOOD, "length"), "cut_off"),
        (Reply("#instruction#: Answer with these three fields and nothing else:\n#output#: C"), "echoes_prompt"),
        (Reply("#instruction#: the person's request\n#output#: the solution"), "echoes_prompt"),
        (Reply("#instruction#: What is it?\n#output#: The solution"), "echoes_prompt"),
    ],
)
def test_unusable_replies(reply: Reply, reason: str):
    made = parse(reply)
    assert isinstance(made, Drop)
    assert made.reason == reason


@pytest.mark.parametrize("said", [" What do rivers do?", " #instruction#: What do rivers do?"])
def test_a_reply_goes_on_where_the_prompt_ends(said: str):
    reply = Reply(said + "\n#input#:\n#output#: They carry water.")
    assert Design(MODEL, DESIGN).parse(Document(id="d", text=TEXT), reply).instruction == "What do rivers do?"


def test_a_reply_cut_in_a_second_design_still_holds_the_first():
    assert isinstance(parse(Reply(f"{GOOD}\n#instruction#: And ano", "length")), Pair)


def test_the_prompts_explain_themselves_with_the_marks():
    for prompts in (Prompts(), Prompts.chinese()):
        assert isinstance(read_fields(prompts.teach.text, NAMES, REQUIRED), Fields)
        assert prompts.design.fill(document="d").endswith(f"#{prompts.marks[0]}#:")


RULES = DesignRules(
    min_instruction_chars=5,
    max_instruction_chars=60,
    min_output_chars=4,
    max_output_chars=40,
    copied_chars=20,
    min_input_grounded=0.75,
    min_output_grounded=0.5,
)
KEPT = {"instruction": "Name a thing", "input": "", "output": "Water feeds towns", "document": TEXT}


def reason_of(rules: DesignRules, **changed: str) -> str | None:
    return pl.DataFrame([{**KEPT, **changed}]).select(rules.reason()).item()


@pytest.mark.parametrize(
    ("reason", "kept", "rejected"),
    [
        ("no_document", {"document": TEXT}, {"document": " "}),
        ("instruction_too_short", {"instruction": "12345"}, {"instruction": "1234 "}),
        ("instruction_too_long", {"instruction": "x" * 60}, {"instruction": "x" * 61}),
        ("output_too_short", {"output": "feed"}, {"output": "sea"}),
        ("output_too_long", {"output": "water " * 6 + "feed"}, {"output": "water " * 6 + "feeds"}),
        ("left_over_mark", {"instruction": "What is #input?"}, {"instruction": "What is # Input #?"}),
        ("left_over_mark", {"output": "output: water"}, {"output": "#output#: water"}),
        ("left_over_mark", {"input": "Rivers"}, {"input": "Rivers #输出#"}),
        ("instruction_is_text", {"instruction": "They feed towns and"}, {"instruction": "they  feed towns and t"}),
        ("instruction_is_output", {"instruction": "Water feeds"}, {"instruction": "water feeds  towns"}),
        (
            "instruction_is_input",
            {"instruction": "the hills", "input": "the sea"},
            {"instruction": "the hills", "input": "The hills "},
        ),
        (
            "output_is_input",
            {"output": "turn mills", "input": "mills"},
            {"output": "turn mills", "input": "Turn mills"},
        ),
        ("input_not_in_text", {"input": "rivers carry water north"}, {"input": "rivers carry gold north"}),
        ("output_not_from_text", {"output": "water is wet, towns"}, {"output": "water is wet and cold"}),
    ],
)
def test_each_rule_keeps_and_rejects(reason: str, kept: dict[str, str], rejected: dict[str, str]):
    assert reason_of(RULES, **kept) is None
    assert reason_of(RULES, **rejected) == reason


def test_a_text_that_is_its_own_instruction_is_none_however_short():
    assert reason_of(RULES, instruction="Turn mills", document="turn mills ") == "instruction_is_text"


def test_characters_count_where_words_are_not_spaced():
    chinese = {"document": "河流把水从山上带到大海,推动Python磨坊。", "output": "河流推动磨坊"}
    assert reason_of(RULES, **chinese, input="大海的水") is None  # three of four
    assert reason_of(RULES, **chinese, input="大湖的水") == "input_not_in_text"


def test_the_seed_joined_to_texts_breaks_no_rule():
    pairs = [JoinToText().apply(pair) for pair in seed_pairs()]
    assert all(pair.document.startswith(pair.input or pair.output) for pair in pairs)
    reasons = pl.DataFrame([msgspec.to_builtins(pair) for pair in pairs]).select(DesignRules().reason())
    assert reasons.to_series().null_count() == len(pairs)


def test_a_lesson_is_the_prompt_the_designer_is_asked_with():
    pair = JoinToText().apply(Pair(id="1", instruction="Shorten it.", input="A long text.", output="Text."))
    lesson = TeachDesign(DESIGN).apply(pair)
    assert lesson.prompt == Design(MODEL, DESIGN).prompt(Document(id="1", text="A long text.\n\nText."))
    assert (lesson.prompt + lesson.target).endswith(
        "### Task\n#instruction#: Shorten it.\n#input#: A long text.\n#output#: Text."
    )


def inputs(corpus_file, **more):
    corpus = read(open_source(str(corpus_file), Document), name="corpus")
    seed = read(open_source(str(SEED), Pair), name="seed")
    return {"corpus": corpus, "seed": seed, "base": Model(uri="base"), **more}


def names_to_ids(outcome) -> dict[str, str]:
    return {step.name: step.id for step in walk(outcome.data.step, outcome.model.step)}


def test_planning_is_stable_and_a_setting_changes_only_what_follows(corpus_file):
    def planned(**settings):
        return names_to_ids(tegit(**inputs(corpus_file), **settings))

    before = planned()
    assert planned() == before
    for settings, kept in [
        ({"size": 5}, {"corpus", "select", "candidates", "designer", "design"}),
        ({"candidates": 5}, {"corpus", "select", "deduplicate", "designer"}),
        ({"rules": DesignRules(copied_chars=50)}, {"corpus", "deduplicate", "seed-designs"}),
    ]:
        after = planned(**settings)
        assert {name for name in before if after[name] == before[name]} >= kept
        assert after["final"] != before["final"]


def test_where_lessons_come_from(corpus_file):
    given = open_source(str(SEED), Pair)
    alone = names_to_ids(tegit(**inputs(corpus_file)))
    taught = names_to_ids(tegit(**inputs(corpus_file, teacher=Model(uri="chat"))))
    shown = names_to_ids(tegit(**inputs(corpus_file, teacher=Model(uri="chat"), designs=read(given, name="designs"))))
    assert {"seed", "seed-designs"} <= alone.keys()
    assert {"sample-lessons", "teach-designs"} <= taught.keys()
    assert "designs" in shown
    assert "seed" not in taught.keys() | shown.keys()
    assert "teach-designs" not in shown


def test_settings_reach_the_rules_by_name(corpus_file):
    asked = {"corpus": str(corpus_file), "seed": str(SEED), "base": "scratch:tiny"}
    plan = plan_run(Ask("tegit", asked, {"rules.copied_chars": "50", "min_chars": "100"}))
    (design,) = [step for step in plan.steps if step.name == "design"]
    assert design.action["stages"][1]["copied_chars"] == 50
    assert design.action["stages"][1]["max_output_chars"] == DesignRules().max_output_chars


def designer(prompt: str) -> str:
    number = prompt.partition("Notes on river ")[2].partition(".")[0]
    if number == "3":
        return "Rivers are long."
    if number == "4":
        return "#instruction#: How long is river 4?\n#input#: The Nile is in Africa\n#output#: It is 4 miles long."
    return f"#instruction#: How long is river {number}?\n#input#: None\n#output#: It is {number} miles long."


def test_texts_become_tasks_with_a_scripted_designer(corpus_file, tmp_path):
    """All of the way to what the designer learns from; the teacher's step is the designer's but for the prompt."""
    outcome = tegit(**inputs(corpus_file, teacher=MODEL), lessons=30)
    lessons = next(step for step in walk(outcome.model.step) if step.name == "design-data")
    store, llm = LocalStore(tmp_path / "store"), Scripted(designer)
    make_rows(store, lessons, lambda model: llm)
    taught = result_of(store, lessons.inputs[0].id)
    assert len(llm.asked) == 30
    assert all(prompt[0].role == "user" for prompt in llm.asked)
    dropped = {**taught.counts[0].rejected, **result_of(store, lessons.id).counts[0].rejected}
    assert dropped.keys() <= {"no_fields", "input_not_in_text"}
    taught_rows = rows(store, lessons)
    assert len(taught_rows) == 30 - sum(dropped.values())
    assert all(row.target.startswith(" How long is river") for row in taught_rows)


def test_designed_tasks_are_checked_in_the_step_that_designs_them(corpus_file, tmp_path):
    texts = inputs(corpus_file)["corpus"].map(Design(MODEL, DESIGN), DesignRules(), name="design")
    store, llm = LocalStore(tmp_path / "store"), Scripted(designer)
    make_rows(store, texts.step, lambda model: llm)
    asked, ruled = result_of(store, texts.step.id).counts
    assert (asked.read, asked.rejected) == (40, {"no_output": 1})
    # river 4's input is not in its text; the last document tells of no river
    assert ruled.rejected == {"input_not_in_text": 1, "output_not_from_text": 1}
