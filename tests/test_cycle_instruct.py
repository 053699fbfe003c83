"""Cycle-Instruct: which text asks and which tells, the guards on made-up halves, the round trip, and the whole plan."""

import json
from pathlib import Path

import polars as pl
import pytest

from reinstruct.corpus.open import open_source
from reinstruct.errors import RecipeError
from reinstruct.llm import Reply, Scripted
from reinstruct.plan import Dataset, Map, Model, Outcome, Step, Train, read, walk
from reinstruct.planfile import specs
from reinstruct.recipes.cycle_instruct import Answer, Polish, Prompts, Rebuild, cycle_instruct, text_distance
from reinstruct.records import Document, Drop, Pair, Rejected, question, to_table
from reinstruct.stages.cluster import PruneClusters
from reinstruct.stages.instruct import example
from reinstruct.stages.sentences import whole_sentences
from reinstruct.stages.sides import Guard, KeepSide, Sides, SplitSegments
from reinstruct.store import LocalStore
from tests.in_process import make_rows, rejected, rows

PROMPTS = Prompts()
MODEL = Model(uri="base")
TELLING = "Steel is iron with a little carbon in it. The carbon makes it hard, and heat makes it hard or soft again. "


def document(text: str, key: str = "d") -> Document:
    return Document(id=key, text=text, url="u", source="s", licence="CC0")


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("How do bees find their way home?", "question"),
        ("- 3) Can a cat see colours at night?", "question"),
        ("蜜蜂怎样找到回家的路？", "question"),
        ("كيف يجد النحل طريقه إلى المنزل؟", "question"),
        ("My bread never rises. The dough is cold. What can I do?", "question"),
        ("How to keep bread fresh for a week", "question"),
        ("How to keep bread. Wrap it in cloth.", "too_short"),
        ("Why bees?", "short_question"),
        ("“Why do bees dance?” he asked.", "quoted"),
        ('"Who is there, and what do you want?"', "quoted"),
        ("What do bees eat? They eat pollen and nectar.", "mixed"),
        ("let _: (String) -> Int? = path |> first", "code"),
        (TELLING * 3, "answer"),
        (TELLING * 3 + "And why does it matter? " + TELLING * 2, "answer"),
        (TELLING, "too_short"),
        (TELLING * 20, "too_long"),
        (TELLING * 3 + "Is that so? Is that all? Is it? " + TELLING, "mixed"),
        (TELLING * 4 + "Does that make sense to you?", "mixed"),
        ("Can you hear me? " * 40, "too_long"),
        ("See http://a.org/x?y for more of it. " * 9, "answer"),
    ],
)
def test_each_rule_of_the_split(text, side):
    assert Sides().of(text) == side


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("What do bees eat? They eat pollen.", "question"),
        ("“Why?” he asked her.", "question"),
        ("See http://a.org/x?y=1", "question"),
        ("Bees eat pollen.", "answer"),
        ("Why bees?", "too_short"),
        ("Why, bees?", "question"),
    ],
)
def test_the_papers_rule_is_a_question_mark(text, side):
    assert Sides(compat=True).of(text) == side


BEES = "Bees fly far. "
ASKS = "Do bees fly? "


@pytest.mark.parametrize(
    ("kept", "lost", "reason"),
    [
        ("Do bees ever sleep?", "Do bees sleep?", "short_question"),  # 4 words
        ("Why? " * 119 + "Why?!?", "Why? " * 119 + "Why ?!?", "too_long"),  # 601 characters, one more
        (BEES * 20 + "Do they come home?", BEES * 21 + "Do they come home?", "mixed"),  # 298 and 312 characters
        ((BEES + ASKS) * 12, (BEES + ASKS) * 11 + BEES * 2 + ASKS, "mixed"),  # 12 of 24 sentences ask, 12 of 25
        (
            BEES * 10 + (ASKS + BEES) * 5 + BEES * 5,
            BEES * 9 + (ASKS + BEES) * 5 + BEES * 5,
            "mixed",
        ),  # 5 of 25, 5 of 24
        ("a" * 299 + ".", "a" * 298 + ".", "too_short"),
        ("a" * 1199 + ".", "a" * 1200 + ".", "too_long"),
        ("{}{}{}" + "a" * 294, "{}{}{}" + "a" * 293, "code"),  # 2 % of the characters
        ("How to keep bread fresh", "How to keep", "short_question"),
    ],
)
def test_bounds_of_the_split_are_included(kept, lost, reason):
    assert Sides(max_question_chars=601).of(kept) in ("question", "answer")
    assert Sides(max_question_chars=601).of(lost) == reason


def texts_of(text: str, **settings) -> list[str]:
    segments = SplitSegments(Sides(**settings)).apply(document(text))
    assert isinstance(segments, list)
    assert [segment.id for segment in segments] == [f"d:{n}" for n in range(len(segments))]
    assert {(segment.url, segment.source, segment.licence) for segment in segments} == {("u", "s", "CC0")}
    return [segment.text for segment in segments]


def test_short_paragraphs_that_tell_are_joined_and_questions_stand_alone():
    short, long = TELLING.strip(), (TELLING * 3).strip()
    asks = "How do bees find their way home?"
    assert texts_of(f"{short}\n\n{short}\n \n{asks}\n\n{short}\n\n{long}\n\n{long}\n") == [
        f"{short}\n\n{short}",
        asks,
        f"{short}\n\n{long}",
        long,
    ]
    assert texts_of(f"{short}\n\n{short}\n\n{short}\n\n{short}") == [f"{short}\n\n{short}\n\n{short}", short]
    assert texts_of(f"{short}\n\n{long}", max_answer_chars=350) == [short, long]
    assert texts_of(f"{short}\n\n{short}\n\n{asks}", compat=True) == [short, short, asks]
    assert SplitSegments(Sides()).apply(document(" \n\n ")) == Drop("no_text")


def test_each_side_says_what_it_turned_away():
    asks, tells = document("How do bees find their way home?"), document(TELLING * 3)
    assert KeepSide("question", Sides()).apply(asks) is asks
    assert KeepSide("answer", Sides()).apply(tells) is tells
    assert KeepSide("question", Sides()).apply(tells) == Drop("is_answer")
    assert KeepSide("answer", Sides()).apply(asks) == Drop("is_question")
    assert KeepSide("answer", Sides()).apply(document("Why bees?")) == Drop("short_question")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Why is steel so much harder than iron?", None),
        ("Three words only", None),
        ("Two words", "few_words"),
        ("w " * 13, "many_words"),
        ("why is it hard why is it hard why is it", "repeats_itself"),
        ("Steel is iron with a little carbon in it.", "copy"),
        ("Why is it true that steel is iron with a bit?", None),
        ("Почему сталь намного твёрже железа?", "other_script"),
        ("12 345 678", None),
    ],
)
def test_each_guard(text, reason):
    pairs = [Pair(id="a", instruction=text, output=TELLING, document=TELLING)]
    frame = pl.DataFrame(pl.from_arrow(to_table(pairs, Pair)))
    assert frame.select(Guard("instruction", 3, 12).reason()).item() == reason


@pytest.mark.parametrize(
    ("rule", "kept", "rejected", "reason"),
    [
        ({"min_words": 3, "max_words": 4}, "one two three", "one two", "few_words"),
        ({"min_words": 3, "max_words": 4}, "one two three four", "one two three four five", "many_words"),
        ({"max_repeated": 0.25}, "a b c d e a b c d", "a b c d e a b c d e", "repeats_itself"),  # 1 of 6 runs, 2 of 7
        (
            {"max_copied": 0.5},
            "x y z rain falls on the warm hills",
            "z rain falls on the warm hills",
            "copy",
        ),  # 2 of 4, 2 of 3
        ({"min_script": 0.5}, "heat тепл", "heat тепло", "other_script"),  # 4 of 8 letters are Latin, 4 of 9
    ],
)
def test_each_bound_of_a_guard_is_included(rule, kept, rejected, reason):
    guard = Guard("output", **{"min_words": 1, "max_words": 50, **rule})
    real = "Rain falls on the warm hills."
    pairs = [Pair(id=text, instruction="Why?", output=text, document=real) for text in (kept, rejected)]
    frame = pl.DataFrame(pl.from_arrow(to_table(pairs, Pair)))
    assert frame.select(guard.reason()).to_series().to_list() == [None, reason]


def test_whole_sentences():
    assert whole_sentences("One. Two! And thr") == "One. Two!"
    assert whole_sentences("One. Two!") == "One. Two!"
    assert whole_sentences("一。二") == "一。"
    assert whole_sentences("None of it, version 1.2") == ""
    assert whole_sentences("") == ""


def test_a_cut_off_answer_keeps_its_whole_sentences():
    stage, asks = Answer(MODEL, PROMPTS.answer), document("How do bees find their way home?")
    answer = stage.parse(asks, Reply(" By the sun. By the sme", "length"))
    assert isinstance(answer, Pair)
    assert (answer.instruction, answer.output, answer.document) == (asks.text, "By the sun.", asks.text)
    assert (answer.origin, answer.document_id, answer.licence) == ("synthetic", "d", "CC0")
    whole = stage.parse(asks, Reply("By the sun"))
    assert isinstance(whole, Pair)
    assert whole.output == "By the sun"
    assert stage.parse(asks, Reply("By the", "length")) == Drop("cut_off", "By the")
    assert stage.parse(asks, Reply(" \n")) == Drop("empty_reply")


def test_polishing_must_leave_a_text_what_it_is():
    stage, asks = Polish(MODEL, PROMPTS.polish_question), document("How do they find their way home?")
    polished = stage.parse(asks, Reply("How do honey bees find their way home?"))
    assert polished == document("How do honey bees find their way home?")
    assert stage.parse(asks, Reply("Sure! Bees use the sun as a compass, see below.")) == Drop(
        "drifted", "Sure! Bees use the sun as a compass, see below."
    )
    assert stage.parse(asks, Reply("How do", "length")) == Drop("cut_off", "How do")
    assert stage.parse(asks, Reply("")) == Drop("empty_reply")


def test_how_far_a_polished_text_may_be_is_a_bound():
    asks = document("How do they find their way home?")
    said = "How do honey bees find their way home?"
    distance = text_distance(asks.text, said)
    for most, kept in ((distance, True), (distance - 0.001, False)):
        made = Polish(MODEL, PROMPTS.polish_question, max_distance=most).parse(asks, Reply(said))
        assert isinstance(made, Document) is kept


def test_distance_of_texts():
    assert text_distance("a b c", "abc") == 0
    assert text_distance("abc", "xyz") == text_distance("abc", "") == text_distance("", "abc") == 1
    # n = 1: 2 of 2 found are right, of 3 wanted; n = 2: 1 of 1, of 2; n = 3: none found, one wanted
    precision, recall = (1 + 1 + 0) / 3, (2 / 3 + 1 / 2 + 0) / 3
    assert text_distance("abc", "ab") == pytest.approx(1 - 5 * precision * recall / (4 * precision + recall))
    near, far = "How do bees find their homes?", "What is the price of steel?"
    assert text_distance("How do bees find home?", near) < 0.5 < text_distance("How do bees find home?", far)


@pytest.mark.parametrize(
    ("gold", "prompt"),
    [("instruction", PROMPTS.ask.fill(response="The sun.")), ("output", PROMPTS.answer.fill(instruction="How?"))],
)
def test_the_round_trip_asks_with_the_made_up_half_and_measures_against_the_real_one(gold, prompt):
    real = "How?" if gold == "instruction" else "The sun."
    pair = Pair(id="a", instruction="How?", output="The sun.", document=real)
    stage = Rebuild(MODEL, PROMPTS.ask if gold == "instruction" else PROMPTS.answer, gold)
    assert stage.prompt(pair) == prompt
    assert [(score.name, score.value) for score in stage.parse(pair, Reply(real)).scores] == [("cycle_distance", 0)]
    assert stage.parse(pair, Reply("")).scores[0].value == 1
    assert question(stage.parse(pair, Reply("x"))) == "How?"


def corpus_of(folder: Path) -> Dataset[Document]:
    path = folder / "corpus.jsonl"
    if not path.exists():
        tells = (
            "Fact {n}: {n} rivers start in the hills and end in the sea, and town {n} stands where two of them meet. "
        )
        texts = [f"How long is river number {n}?\n\n{tells.format(n=n) * 4}\n\nWhy {n}?" for n in range(40)]
        path.write_text("".join(json.dumps({"id": f"d{n:02}", "text": text}) + "\n" for n, text in enumerate(texts)))
    return read(open_source(str(path), Document), name="corpus")


def planned(folder: Path, **settings) -> Outcome:
    return cycle_instruct(corpus_of(folder), MODEL, **settings)


def by_name(outcome: Outcome) -> dict[str, Step]:
    assert outcome.model is not None
    assert outcome.model.step is not None
    return {step.name: step for step in walk(outcome.data.step, outcome.model.step) if step.name != "concat"}


def test_the_plan_is_that_of_the_paper(tmp_path):
    steps = by_name(planned(tmp_path, cycles=2))
    trained = {name: step.action for name, step in steps.items() if isinstance(step.action, Train)}
    assert set(trained) == {"asker-1", "answerer-1", "asker-2", "answerer-2", "final"}
    # later cycles go on from the models of the cycle before, with a smaller step; the final model starts afresh
    assert trained["asker-1"].base == trained["answerer-1"].base == trained["final"].base == MODEL
    assert trained["asker-2"].base.step == steps["asker-1"]
    assert trained["answerer-2"].base.step == steps["answerer-1"]
    rates = {name: action.settings.learning_rate for name, action in trained.items()}
    assert rates == {
        **dict.fromkeys(("asker-1", "answerer-1", "final"), 1e-4),
        **dict.fromkeys(("asker-2", "answerer-2"), pytest.approx(8e-5)),
    }
    assert {action.settings.lora_rank for action in trained.values()} == {8}
    asked = {name: step.action.stages[0].model.id for name, step in steps.items() if uses_model(step)}
    assert asked == {
        "answer-1": "base",
        "ask-1": steps["asker-1"].id,
        "answer-2": steps["answerer-1"].id,
        "ask-2": steps["asker-2"].id,
        "answer-last": steps["answerer-2"].id,
        "round-trip-q": steps["asker-2"].id,
        "round-trip-a": steps["answerer-2"].id,
    }


def uses_model(step: Step) -> bool:
    return isinstance(step.action, Map) and hasattr(step.action.stages[0], "model")


def test_plans_are_stable_and_settings_change_only_what_follows(tmp_path):
    before, again = (by_name(planned(tmp_path)) for _ in range(2))
    assert before == again
    after = by_name(planned(tmp_path, prune=PruneClusters(share=0.1)))
    assert {name for name in before if before[name] != after[name]} == {"prune", "final-data", "final"}
    compat = by_name(planned(tmp_path, compat=True))
    assert {name for name in before if before[name] == compat[name]} == {"corpus"}
    assert len(specs(planned(tmp_path).data.step)) > 20


def test_without_a_share_nothing_is_rebuilt_or_pruned(tmp_path):
    left_out = set(by_name(planned(tmp_path))) - set(by_name(planned(tmp_path, prune=PruneClusters(share=0))))
    assert left_out == {"round-trip-q", "round-trip-a", "prune"}


def test_the_seed_is_for_measuring_alone(tmp_path):
    seed = read(open_source(str(Path(__file__).parents[1] / "examples" / "seed.jsonl"), Pair), name="seed")
    assert by_name(planned(tmp_path, seed=seed)) == by_name(planned(tmp_path))


@pytest.mark.parametrize(("wrong", "words"), [({"cycles": 0}, "cycles is 0"), ({"rates": (1.0, 0.0)}, "rates are")])
def test_wrong_settings_are_named(tmp_path, wrong, words):
    with pytest.raises(RecipeError, match=words):
        planned(tmp_path, **wrong)


def script(prompt: str) -> str:
    """A model of the two: it knows rivers by their number, asks badly of every tenth and answers one in its sleep."""
    given = prompt.rpartition("### Question\n")[2] if "### Question" in prompt else prompt
    number = next(word for word in given.replace("?", "").replace(":", "").split() if word.isdigit())
    if "### The question" in prompt:
        return "Rivers?" if number.endswith("7") else f"How many rivers start in the hills near town {number}?"
    return "zzz " * 30 if number == "13" else f"River number {number} is {number} miles long, from spring to sea."


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Store and steps of a whole run."""
    folder = tmp_path_factory.mktemp("run")
    steps = by_name(planned(folder, cycles=1, prune=PruneClusters(share=0.1, clusters=2)))
    store = LocalStore(folder / "store")
    for step in steps.values():
        make_rows(store, step, lambda model: Scripted(script))
    return store, steps


def test_end_to_end_real_halves_stay_real_and_every_row_is_accounted_for(finished):
    store, steps = finished
    assert len(rows(store, steps["segment"])) == 120
    assert {row.text for row in rows(store, steps["questions"])} == {
        f"How long is river number {n}?" for n in range(40)
    }
    reasons = [row.reason for row in rejected(store, steps["ask-side"])]
    assert (reasons.count("is_answer"), reasons.count("short_question")) == (40, 40)
    asked = rows(store, steps["distinct-1"])
    assert {row.reason for row in rejected(store, steps["ask-1"])} == {"few_words"}
    assert len(asked) == 36
    (sleepy,) = rejected(store, steps["answer-1"])
    assert (sleepy.id, sleepy.reason) == ("d13:0", "repeats_start")
    pairs = rows(store, steps["prune"])
    gone = rejected(store, steps["prune"])
    assert len(pairs) + len(gone) == 36 + 39
    assert {row.reason for row in gone} == {"pruned"}
    for pair in pairs:
        real, made = (pair.instruction, pair.output) if pair.id.endswith(":0") else (pair.output, pair.instruction)
        assert real == pair.document != made
        assert [score.name for score in pair.scores] == ["cycle_distance"]
        assert [made.step for made in pair.lineage][-1].startswith("round-trip")


def test_models_learn_to_say_the_real_half(finished):
    store, steps = finished
    real = {row.id: row.text for side in ("questions", "answers") for row in rows(store, steps[side])}
    for name in ("rebuild-q-1", "rebuild-a-1"):
        taught = rows(store, steps[name])
        assert len(taught) > 30
        assert all(row.target == real[row.id] for row in taught)


def test_a_question_asked_of_two_texts_teaches_once(tmp_path):
    steps = by_name(planned(tmp_path, cycles=1))
    store = LocalStore(tmp_path / "store")

    def ask(prompt: str) -> str:
        return "What is there to say about rivers?" if "### The question" in prompt else script(prompt)

    distinct = steps["distinct-1"]
    make_rows(store, distinct, lambda model: Scripted(ask))
    assert len(rows(store, distinct)) == 1
    assert {row.reason for row in rejected(store, distinct)} == {"duplicate"}


def test_what_is_asked_is_what_was_taught(tmp_path):
    """The prompt of the asker and of the answerer is the one they are trained after, to the letter."""
    steps = by_name(planned(tmp_path, cycles=2))
    pair = Pair(id="a", instruction="How?", output="So.", document="So.")
    for taught, asked in (("rebuild-q-1", "ask-1"), ("rebuild-a-1", "answer-2"), ("final-data", "answer-last")):
        teach, ask = steps[taught].action.stages[0], steps[asked].action.stages[0]
        record = document(pair.output if asked.startswith("ask") else pair.instruction)
        assert teach.apply(pair) == example(pair, ask.prompt(record), teach.apply(pair).target)


def test_rejected_rows_are_stored_whole(finished):
    store, steps = finished
    (sleepy,) = rejected(store, steps["answer-1"])
    assert isinstance(sleepy, Rejected)
    assert json.loads(sleepy.record)["instruction"] == "How long is river number 13?"


def test_a_polisher_words_segments_anew_before_any_answer_is_made(tmp_path):
    steps = by_name(planned(tmp_path, polisher=Model(uri="chat"), cycles=1))
    for side, name in (("questions", "polish-questions"), ("answers", "polish-answers")):
        assert steps[name].inputs == (steps[side],)
        assert [stage.model.id for stage in steps[name].action.stages] == ["chat"]
    assert steps["answer-1"].inputs == steps["answer-last"].inputs == (steps["polish-questions"],)
    assert steps["ask-1"].inputs == (steps["polish-answers"],)
