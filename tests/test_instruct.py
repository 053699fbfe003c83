"""Writing, rewriting and teaching: what goes into prompts and training rows, and what replies become."""

import polars as pl
import pytest

from reinstruct.llm import Reply
from reinstruct.plan import Model
from reinstruct.recipes.reinstruct import InstructionRules, ResponseRules
from reinstruct.records import Document, Drop, Example, Message, Pair
from reinstruct.stages.instruct import (
    LoseLines,
    PutToModel,
    Repeat,
    Rewrite,
    TeachInstruction,
    TeachRewriting,
    Template,
    WriteInstruction,
)

MODEL = Model(uri="model")
LINES = Pair(id="p", instruction="List five fruits.", output="\n".join(f"line {n}" for n in range(10)))


def pair(**given: str) -> Pair:
    return Pair(**{"id": "p", "instruction": "Why?", "output": "Because.", **given})


def test_a_template_leaves_braces_in_values_alone():
    template = Template("Say {{this}}: {response} / {question}")
    assert template.fill(response="{question} {0} {", question="}") == "Say {this}: {question} {0} { / }"
    assert template.placeholders == {"response", "question"}


def test_a_chat_template_is_sent_as_the_users_message():
    assert Template("About {x}.", chat=True).fill(x="tea") == (Message("user", "About tea."),)


def test_teaching_instructions_reverses_pairs_input_and_all():
    made = TeachInstruction(Template("{response} ->")).apply(pair(input="A, B", origin="seed"))
    assert made == Example(id="p", prompt="Because. ->", target="Why?\n\nA, B", origin="seed")


def test_reversed_pairs_may_have_a_name_to_be_weighted_by():
    made = pair(origin="synthetic")
    assert TeachInstruction(Template("{response}"), origin="reverse").apply(made).origin == "reverse"
    assert TeachInstruction(Template("{response}")).apply(made).origin == "synthetic"


def test_teaching_with_a_chat_template_gives_messages_and_no_prompt():
    made = TeachInstruction(Template("{response} ->", chat=True)).apply(pair())
    assert (made.prompt, made.messages, made.target) == ("", (Message("user", "Because. ->"),), "Why?")


def test_a_written_instruction_keeps_where_its_text_comes_from():
    stage = WriteInstruction(MODEL, Template("{response} ->"))
    document = Document(id="d", text="Stir {gently}.", url="http://a", source="web", licence="CC0")
    assert stage.prompt(document) == "Stir {gently}. ->"
    assert stage.parse(document, Reply("\n How? \n")) == Pair(
        id="d",
        instruction="How?",
        output="Stir {gently}.",
        origin="synthetic",
        document="Stir {gently}.",
        document_id="d",
        url="http://a",
        source="web",
        licence="CC0",
    )


@pytest.mark.parametrize(
    ("reply", "drop"),
    [
        (Reply(" \n"), Drop("empty_reply")),
        (Reply("", "length"), Drop("empty_reply")),
        (Reply("x" * 300, "length"), Drop("cut_off", "x" * 200)),
    ],
)
def test_replies_without_an_end_or_a_word_are_no_records(reply: Reply, drop: Drop):
    assert WriteInstruction(MODEL, Template("{response}")).parse(Document(id="d", text="Stir."), reply) == drop
    assert Rewrite(MODEL, Template("{document}{instruction}")).parse(pair(), reply) == drop


def test_rewriting_asks_from_the_document_and_changes_the_output_alone():
    stage = Rewrite(MODEL, Template("{document}|{instruction}"))
    before = pair(document="Page", input="Given", output="Raw")
    assert stage.prompt(before) == "Page|Why?\n\nGiven"
    assert stage.parse(before, Reply(" Better. ")) == pair(document="Page", input="Given", output="Better.")


def test_teaching_to_rewrite_needs_a_document():
    stage = TeachRewriting(Template("{document}|{instruction}"))
    assert stage.apply(pair(document="Page", input="Given")) == Example(
        id="p", prompt="Page|Why?\n\nGiven", target="Because.", origin="seed"
    )
    assert stage.apply(pair()) == Drop("no_document")


def test_lost_lines_are_drawn_by_seed_and_id_alone():
    first = LoseLines(share=0.5).apply(LINES)
    assert LoseLines(share=0.5).apply(LINES) == first
    others = [LoseLines(share=0.5, seed=seed).apply(LINES).document for seed in range(1, 6)]
    assert any(document != first.document for document in others)
    named = [LoseLines(share=0.5).apply(Pair(id=f"p{n}", instruction="", output=LINES.output)) for n in range(5)]
    assert len({made.document for made in named}) > 1
    assert (first.output, first.document_id) == (LINES.output, "p")


def test_kept_lines_stay_in_order_and_about_the_share_is_lost():
    kept = 0
    for number in range(200):
        made = LoseLines(share=0.2).apply(Pair(id=f"p{number}", instruction="", output=LINES.output))
        lines = made.document.split("\n")
        assert lines == [line for line in LINES.output.split("\n") if line in lines]
        kept += len(lines)
    assert kept / 2000 == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize(("share", "left"), [(0.0, 9), (1.0, 1)])
def test_at_least_one_line_is_lost_and_one_kept(share: float, left: int):
    assert len(LoseLines(share=share).apply(LINES).document.split("\n")) == left


def test_short_responses_lose_sentences():
    made = LoseLines(share=0.0).apply(pair(output="First one. Second one! Third?"))
    assert made.document in ("First one. Second one!", "First one. Third?", "Second one! Third?")
    assert LoseLines().apply(pair(output="Only one sentence.")) == Drop("single_sentence")
    chinese = LoseLines(share=0.0).apply(pair(output="先烧水。再下面条。最后拌酱。"))
    assert len(chinese.document.split("。")) == 3, "two of three sentences and nothing behind the last"


def test_blank_lines_are_not_counted_as_lines():
    assert "" not in LoseLines(share=0.0).apply(pair(output="a\n\nb\n \nc\n\nd")).document.split("\n")


@pytest.mark.parametrize(("times", "ids"), [(1, ["p"]), (2, ["p", "p#2"]), (3, ["p", "p#2", "p#3"])])
def test_repeated_pairs_have_ids_of_their_own(times: int, ids: list[str]):
    copies = Repeat(times).apply(pair())
    assert [copy.id for copy in copies] == ids
    assert {copy.output for copy in copies} == {"Because."}


def test_tags_follow_the_question_with_one_space_each():
    template = Template("Q: {instruction}\nA: ")
    made = PutToModel(template, ("First.", "Second.")).apply(pair(input="Given", origin="synthetic"))
    assert made == Example(id="p", prompt="Q: Why?\n\nGiven First. Second.\nA: ", target="Because.", origin="synthetic")
    assert PutToModel(template).apply(pair()).prompt == "Q: Why?\nA: "


def reason(rules: InstructionRules | ResponseRules, text: str) -> str | None:
    column = "instruction" if isinstance(rules, InstructionRules) else "output"
    frame = pl.DataFrame({column: [text]}, schema={column: pl.String})
    return frame.select(rules.reason()).to_series()[0]


@pytest.mark.parametrize(
    ("rules", "text", "verdict"),
    [
        (InstructionRules(), "x" * 500, None),
        (InstructionRules(), "x" * 501, "instruction_too_long"),
        (InstructionRules(), "é" * 500, None),
        (InstructionRules(), "What is This about?", "points_at_text"),
        (InstructionRules(), "Explain this.", "points_at_text"),
        (InstructionRules(), "How tall is a thistle?", None),
        (InstructionRules(compat=True), "How tall is a thistle?", "points_at_text"),
        (InstructionRules(compat=True), "How tall is a tree?", None),
        (ResponseRules(), "- a\n" * 10, None),
        (ResponseRules(), "- a\n" * 11, "too_many_bullets"),
        (ResponseRules(), "The Web text says so.", "mentions_source"),
        (ResponseRules(), "Based on the information provided, yes.", "mentions_source"),
        (ResponseRules(), "A web of text.", None),
        (ResponseRules(), "I'm sorry, no.", None),
        (ResponseRules(remove_refusals=True), "I'm Sorry, no.", "refusal"),
        (ResponseRules(remove_refusals=True), "I apologize.", "refusal"),
        (ResponseRules(remove_refusals=True), "Gladly.", None),
    ],
)
def test_rules_on_instructions_and_responses_at_their_thresholds(rules, text: str, verdict: str | None):
    assert reason(rules, text) == verdict
