"""Kun, rule by rule and row by row: every threshold once kept and once rejected, verdicts of every kind."""

import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from reinstruct.commit import result_of
from reinstruct.corpus.open import open_source
from reinstruct.llm import LLM, Reply, Scripted
from reinstruct.plan import Model, Outcome, Step, read, walk
from reinstruct.recipes.kun import (
    VERDICT,
    AnswerRules,
    FitInstruction,
    InstructionRules,
    Prompts,
    RepairInstruction,
    TextRules,
    kun,
)
from reinstruct.records import Document, Drop, Pair
from reinstruct.settings import settings_from
from reinstruct.stages.judge import Score, TeachVerdict
from reinstruct.store import LocalStore
from tests.in_process import make_rows, rejected, rows

PROMPTS = Prompts()


def pair(instruction: str = "", **given: str) -> Pair:
    return Pair(id="p", instruction=instruction, **{"output": "", **given})


def reasons(stage, field: str, *texts: str) -> list[str | None]:
    return pl.DataFrame({field: texts}).with_columns(reason=stage.reason())["reason"].to_list()


def test_texts_are_short_and_chinese():
    stage = TextRules(min_words=4, max_words=6, min_cjk=0.5)
    kept = ("四个汉字", "六个汉字的话", "部署 Istio", "Istio 1.5 的部署法")
    assert reasons(stage, "text", *kept[:2], "三个字", "七个汉字的文章") == [None, None, "few_words", "many_words"]
    assert reasons(stage, "text", "两字 and more", "两字 and many more") == [None, "few_cjk"]
    assert reasons(TextRules(), "text", "字" * 512, "字" * 513, "字" * 19) == [None, "many_words", "few_words"]


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("请根据以上材料回答问题。", "points_at_text"),
        ("总结这篇文章的要点。", "points_at_text"),
        ("把给出的文本翻译成英文。", "points_at_text"),
        ("请概括本文的主旨。", "points_at_text"),
        ("描述这张图片里的景物。", "points_at_picture"),
        ("如图所示，求阴影的面积。", "points_at_picture"),
        ("打开链接并复述要点。", "points_at_link"),
        ("读一读 https://example.com 上的话。", "points_at_link"),
        ("写一篇关于环保的新闻稿。", None),
        ("介绍一下日本文化中的茶道。", None),
        ("散文中怎样用比喻？", None),
        ("怎样写好一份简历？", None),
        ("怎样让网站打开得更快？", None),
        ("在地图中怎样辨认方向？", None),
        ("Summarise the passage above.", "points_at_text"),
        ("What does this article say about bees?", "points_at_text"),
        ("Translate the following short text into French.", "points_at_text"),
        ("Describe the picture below.", "points_at_picture"),
        ("Read the value shown in the chart.", "points_at_picture"),
        ("Open the link and repeat what it says.", "points_at_link"),
        ("Write an article about bees.", None),
        ("How do I write a report on the text of a contract?", None),
        ("Explain how a website is made faster.", None),
        ("Name three pictures by Vermeer.", None),
        ("Why does this happen to old tables?", None),
    ],
)
def test_instructions_point_at_nothing_they_do_not_show(instruction, reason):
    assert reasons(InstructionRules(), "instruction", instruction) == [reason]


RELEASE_WORDS = {
    "points_at_text": "新闻 材料 根据 简历 简介 文章 摘要 文本 提取 关键词",
    "points_at_picture": "图片",
    "points_at_link": "链接 网址 网站",
}


def test_compat_turns_away_each_word_of_the_release():
    wanted = [(word, reason) for reason, words in RELEASE_WORDS.items() for word in words.split()]
    texts = [f"写一写{word}。" for word, _ in wanted]
    assert reasons(InstructionRules(compat=True), "instruction", *texts, "写一写春天。") == [r for _, r in wanted] + [
        None
    ]


def test_more_words_can_be_turned_away_from_the_command_line():
    given = settings_from({"instructions.also": "诗歌,对联"}, {"instructions": (InstructionRules | None, None)})
    assert reasons(given["instructions"], "instruction", "写一首诗歌。", "写一副对联。", "写信。") == [
        "keyword",
        "keyword",
        None,
    ]


LONG = "先把水烧开，再放入面条，煮三分钟后捞出，拌上酱料就可以吃了。"


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (LONG, None),
        ("字" * 3 + "一二三四五六七八九十一二三四五六七", None),  # 20 characters
        ("字" * 3 + "一二三四五六七八九十一二三四五六", "too_short"),
        (f"作为一个人工智能语言模型，我认为：{LONG}", "speaks_as_model"),
        (f"作为早餐，这很合适。{LONG}", None),
        (f"根据您提供的材料，{LONG}", "mentions_text"),
        (f"我的知识库里说：{LONG}", "mentions_text"),
        (f"根据口味调整。{LONG}", None),
        (f"截至2023年，就我的知识而言，{LONG}", "states_cutoff"),
        (f"2023年的做法：{LONG}", None),
        (f"很抱歉，我无法完成这个要求。{LONG}", "refusal"),
        (f"可以说“很抱歉打扰您”。{LONG}", None),
        (f"{LONG}以上内容仅供参考。", "disclaimer"),
        (f"As an AI language model, I think: {LONG}", "speaks_as_model"),
        (f"I'm just an AI, but: {LONG}", "speaks_as_model"),
        (f"As an artist would say: {LONG}", None),
        (f"According to the passage, {LONG}", "mentions_text"),
        (f"As the provided information says, {LONG}", "mentions_text"),
        (f"Decide based on the information at hand. {LONG}", None),
        (f"As of my last update, {LONG}", "states_cutoff"),
        (f"I'm sorry, but I cannot do this. {LONG}", "refusal"),
        (f"Say sorry if you cannot come. {LONG}", None),
        (f"{LONG} This is for informational purposes only.", "disclaimer"),
        ("好的，" * 6 + LONG, "repeats_start"),
        ("好的，" * 5 + LONG, None),
        (LONG + "拌上酱料就可以吃了，真的很好吃。" * 3, "repeats_itself"),
        (LONG + "拌上酱料就可以吃了，真的很好吃。", None),
    ],
)
def test_answers_are_long_enough_give_nothing_away_and_do_not_loop(output, reason):
    assert reasons(AnswerRules(), "output", output) == [reason]


def test_compat_tests_answers_by_the_release_s_words_and_repetition_at_the_start_alone():
    texts = ("作为早餐，", "根据口味，", "从知识库看，", "2023年，", "抱歉，", "好的，" * 6, "")
    wanted = ["speaks_as_model", "mentions_text", "mentions_text", "states_cutoff", "refusal", "repeats_start", None]
    assert reasons(AnswerRules(compat=True), "output", *(text + LONG for text in texts)) == wanted
    assert reasons(AnswerRules(compat=True), "output", LONG + "拌上酱料就可以吃了，真的很好吃。" * 3) == [None]


@pytest.mark.parametrize(
    ("instruction", "repaired"),
    [
        ("写一首诗。\n\n\n\n\n答：春天来了", "写一首诗。"),
        ("写一首诗。 \n \n 再写一篇。", "写一首诗。"),  # five blanks and line ends
        ("写一首诗。\n\n\n\n再写一篇。", "写一首诗。\n\n\n\n再写一篇。"),
        ("写一首诗。\n写一首诗。\n写一首", "写一首诗。"),
        ("写诗。\n写一首长诗。\n写诗。\n写一首长诗。", Drop("repeated_lines", "写一首长诗。")),
        ("甲：\n写一首诗。\n写一首诗。", Drop("repeated_lines", "写一首诗。")),
        ("甲\n\n乙\n\n丙", "甲\n\n乙\n\n丙"),  # empty lines are no repeated lines
        ("写诗。\n写诗。\n\n\n\n\n\n尾巴", "写诗。"),
        ("   \n\n\n", Drop("empty_instruction")),
    ],
)
def test_instructions_are_repaired(instruction, repaired):
    found = RepairInstruction().apply(pair(instruction))
    assert (found if isinstance(found, Drop) else found.instruction) == repaired


def test_how_many_blanks_end_an_instruction_is_a_setting():
    assert RepairInstruction(blank_run=2).apply(pair("写诗。\n\n答")).instruction == "写诗。"
    assert RepairInstruction(blank_run=3).apply(pair("写诗。\n\n答")).instruction == "写诗。\n\n答"


def test_instructions_are_cut_to_the_room_beside_their_text():
    asked = pair("请用 Python 写诗。", document="五个汉字长")
    assert FitInstruction(0).apply(asked) == asked
    assert FitInstruction(10).apply(asked) == asked
    assert FitInstruction(9).apply(asked).instruction == "请用 Python 写"
    assert FitInstruction(6).apply(asked).instruction == "请"
    assert FitInstruction(5).apply(asked) == Drop("no_room")


JUDGE = Score(Model(uri="chat"), PROMPTS.judge, "instruction", VERDICT)
ASKED = pair("介绍春天。", output="绝密答案")
PROMPT = JUDGE.prompt(ASKED)[0].content


def verdict(text: str, finish: str = "stop") -> float | str:
    found = JUDGE.parse(ASKED, Reply(text, finish))
    if isinstance(found, Drop):
        assert found.unreadable
        return found.reason
    (score,) = found.scores
    assert score.name == "instruction"
    return score.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("题目和要求都清楚。【好】", 1),
        ("【好】", 1),
        ("说得清楚。［好］", 1),
        ("做不到。「差」", 0),
        ("要求【 好 】。", 1),
        ("没有附上文章。\n【差】", 0),
        ("虽然题目【好】，但做不到。【差】", "contradictory"),
        ("【差】【好】", "contradictory"),
        ("【好】或【差】", "contradictory"),
        ("这条指令不能评为【好】。", "contradictory"),
        ("还达不到【好】的要求。", "contradictory"),
        ("并非【好】", "contradictory"),
        ("要是写明对象，就能评【好】了。", "contradictory"),
        ("是【好】还是别的？", "contradictory"),
        ("【好】吗", "contradictory"),
        ("题目不难，说得清楚。【好】", 1),
        ("没有附上文章【差】", 0),
        ("做不到【差】", 0),
        ("这条指令很好。", "no_score"),
        ("【不好】", "no_score"),
        ("【好", "no_score"),
        ("评分：5", "no_score"),
        ("", "empty_reply"),
    ],
)
def test_a_verdict_is_one_of_the_two_tags_and_not_both(text, value):
    assert verdict(text) == value


def test_a_verdict_that_was_cut_off_or_repeats_the_prompt_is_none():
    assert verdict("题目清楚。【好】，不过", "length") == "cut_off"
    assert verdict(PROMPT) in ("echoed", "contradictory")
    assert verdict(PROMPT[: len(PROMPT) // 2]) != 1
    assert verdict(PROMPT + "没有说清楚。【差】") != 1


def test_no_reply_of_another_judge_is_taken_for_a_verdict(shared_data: Path):
    with gzip.open(shared_data / "outputs" / "mt_bench_dev.jsonl.gz", "rt") as file:
        run = json.loads(next(file))
    replies = [text for text in texts_in(run) if "[[" in text]
    assert len(replies) > 100
    assert {verdict(reply) for reply in replies} == {"no_score"}


def texts_in(value: Any) -> list[str]:
    """Every text inside plain JSON."""
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in items for text in texts_in(item)]


def test_the_judge_sees_the_instruction_alone_and_the_author_the_text():
    assert "介绍春天。" in PROMPT
    assert "绝密答案" not in PROMPT
    polish = PROMPTS.polish.fill(document="春天多雨。", instruction="介绍春天。")[0].content
    assert polish.index("春天多雨。") < polish.index("介绍春天。")


def test_every_prompt_is_a_users_turn():
    for prompts in (Prompts(), Prompts.english()):
        assert all(template.chat for template in (prompts.label, prompts.judge, prompts.polish, prompts.chat))


TEXT = "{}的方法并不难：先准备材料，再按顺序一步一步地做，中间要耐心等待，最后检查一遍，就能得到满意的结果。"
TOPICS = ("煮面", "种花", "修车", "画画", "写信", "缝衣", "做饭", "钓鱼", "下棋", "唱歌")
LABELLED = {
    "种花": "请根据以上材料回答。",
    "修车": "怎么修车？\n\n\n\n\n\n怎么修车？",
    "画画": "甲\n怎么画画？\n怎么画画？",
}
JUDGED = {"写信": "没有说写给谁。【差】", "缝衣": "说不好。"}
ANSWERED = {"做饭": "做饭要先洗米。", "钓鱼": "作为人工智能，" + LONG, "下棋": "走" * 40}


def topic_in(prompt: str) -> str:
    return next(topic for topic in TOPICS if topic in prompt)


def label(prompt: str) -> str:
    topic = topic_in(prompt)
    return LABELLED.get(topic, f"怎么{topic}？")


def chat(prompt: str) -> str:
    if "【好】" in prompt:
        asked = prompt.split("指令：")[-1]
        return JUDGED.get(topic_in(asked), "清楚。【好】")
    topic = topic_in(prompt)
    return ANSWERED.get(topic, f"{topic}可以这样做：{LONG}")


MODELS = {"label": Scripted(label), "chat": Scripted(chat)}


def open_model(model: Model) -> LLM:
    return MODELS[model.step.name if model.step else model.uri]


def write(path: Path, table: list[dict[str, str]]) -> str:
    path.write_text(json.dumps(table, ensure_ascii=False))
    return str(path)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Any]:
    documents = [{"id": topic, "text": TEXT.format(topic), "url": f"http://{topic}"} for topic in TOPICS]
    documents += [
        {"id": "long", "text": TEXT * 12},
        {"id": "short", "text": "太短。"},
        {"id": "english", "text": "How to cook noodles: boil the water, add them, wait, and serve. " * 4},
        {
            "id": "scrambled",
            "text": "果结意满到得能就遍一查检后最待等心耐要间中做地步一步一序顺按再料材备准先难不并法方的。",
        },
    ]
    pairs = [{"id": f"s{n}", "instruction": f"第{n}问", "input": "", "output": f"第{n}答"} for n in range(3)]
    corpus, seed = write(tmp_path / "corpus.json", documents), write(tmp_path / "seed.json", pairs)
    return {
        "corpus": read(open_source(corpus, Document), name="corpus"),
        "seed": read(open_source(seed, Pair), name="seed"),
        "base": Model(uri="base"),
    }


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.mark.slow
def test_row_by_row(inputs, store):
    outcome = kun(**inputs)
    make_rows(store, outcome.data.step, open_model)
    made = {row.id: row for row in rows(store, outcome.data.step)}
    assert list(made) == ["s0", "s1", "s2", "煮面", "修车", "唱歌"]
    noodles = made["煮面"]
    assert (noodles.instruction, noodles.output) == ("怎么煮面？", f"煮面可以这样做：{LONG}")
    assert (noodles.document, noodles.url, noodles.origin) == (TEXT.format("煮面"), "http://煮面", "synthetic")
    assert [(score.name, score.value) for score in noodles.scores] == [("instruction", 1.0)]
    assert [made.stage for made in noodles.lineage] == ["WriteInstruction", "Score", "Rewrite"]
    assert made["修车"].instruction == "怎么修车？"
    assert turned_away(store, outcome) == {
        "long": ("select", "many_words"),
        "short": ("select", "few_words"),
        "english": ("select", "few_cjk"),
        "scrambled": ("perplexity", "unlikely"),
        "种花": ("repair", "points_at_text"),
        "画画": ("repair", "repeated_lines"),
        "写信": ("judge", "low_instruction"),
        "缝衣": ("judge", "no_score"),
        "做饭": ("answers", "too_short"),
        "钓鱼": ("answers", "speaks_as_model"),
        "下棋": ("answers", "repeats_start"),
    }


def turned_away(store: LocalStore, outcome: Outcome) -> dict[str, tuple[str, str]]:
    done = [step for step in walk(outcome.data.step) if result_of(store, step.id)]
    return {row.id: (step.name, row.reason) for step in done for row in rejected(store, step)}


def test_the_models_learn_from_the_seed_and_the_final_one_from_all(inputs, store):
    outcome = kun(**inputs)
    learnt = {name: examples(store, step) for name, step in trained(outcome).items()}
    assert learnt["label"]["s0"] == (PROMPTS.label.fill(response="第0答"), "第0问")
    assert learnt["chat"]["s0"] == (PROMPTS.chat.fill(instruction="第0问"), "第0答")
    assert learnt["final"]["s0"] == learnt["chat"]["s0"]
    assert learnt["final"]["煮面"] == (PROMPTS.chat.fill(instruction="怎么煮面？"), f"煮面可以这样做：{LONG}")
    asked = outcome.ask.apply(pair("写诗。"))
    assert asked.messages == PROMPTS.chat.fill(instruction="写诗。")


def trained(outcome: Outcome) -> dict[str, Step]:
    return {
        step.name: step
        for step in walk(outcome.data.step, outcome.model.step)
        if step.name in ("label", "chat", "final")
    }


def examples(store: LocalStore, step: Step) -> dict[str, tuple[Any, str]]:
    make_rows(store, step.inputs[0], open_model)
    return {row.id: (row.messages, row.target) for row in rows(store, step.inputs[0])}


def test_a_given_chat_model_judges_and_answers(inputs, store):
    outcome = kun(**inputs, chat=Model(uri="chat"), with_seed=False)
    assert "chat" not in trained(outcome)
    make_rows(store, outcome.data.step, open_model)
    made = rows(store, outcome.data.step)
    assert [row.id for row in made] == ["煮面", "修车", "唱歌"]
    assert [row.lineage[1].model for row in made] == ["chat"] * 3


def test_compat_uses_the_release_s_lists(inputs, store):
    outcome = kun(**inputs, compat=True)
    author = Scripted(lambda prompt: f"写一篇关于{topic_in(prompt)}的文章。")
    make_rows(store, outcome.data.step, lambda model: author)
    assert {turned_away(store, outcome)[topic] for topic in TOPICS} == {("repair", "points_at_text")}


def ids(inputs: dict[str, Any], **settings: Any) -> dict[str, str]:
    outcome = kun(**inputs, **settings)
    return {step.name: step.id for step in walk(outcome.data.step, outcome.model.step) if step.name != "concat"}


def changed(inputs: dict[str, Any], **settings: Any) -> set[str]:
    before, after = ids(inputs), ids(inputs, **settings)
    return {name for name in before if before[name] != after.get(name)}


def test_a_setting_changes_only_what_is_downstream_of_it(inputs):
    tail = {"sample", "ask-data", "final"}
    assert changed(inputs) == set()
    assert changed(inputs, size=5) == tail
    assert changed(inputs, answers=AnswerRules(min_chars=30)) == {"answers", *tail}
    assert changed(inputs, max_unreadable=0.1) == {"judge", "polish", "answers", *tail}
    assert changed(inputs, instructions=InstructionRules(also=("诗",))) == {
        "repair",
        "judge",
        "polish",
        "answers",
        *tail,
    }
    assert "guess" not in changed(inputs, compat=True)
    assert {"select", "perplexity", "candidates", "guess"} <= changed(inputs, texts=TextRules(max_words=800))
    assert {"label", "chat"}.isdisjoint(changed(inputs, max_perplexity=6.0))


@pytest.mark.slow
def test_real_chinese_articles_and_seed_pairs_mostly_pass(shared_data: Path):
    with gzip.open(shared_data / "corpus" / "zh.jsonl.gz", "rt") as file:
        texts = [json.loads(line)["text"] for line in islice(file, 600)]
    found = reasons(TextRules(), "text", *texts)
    assert 60 < found.count(None) < 150
    assert found.count("few_cjk") < 12
    with gzip.open(shared_data / "seed" / "kun_zh_3000.json.gz", "rt") as file:
        seed = [row for row in json.load(file)[:800] if row["output"].strip()]
    instructions, outputs = [row["instruction"] for row in seed], [row["output"] for row in seed]
    assert share_kept(reasons(InstructionRules(), "instruction", *instructions)) > 0.97
    assert share_kept(reasons(InstructionRules(compat=True), "instruction", *instructions)) < 0.9
    assert share_kept(reasons(AnswerRules(), "output", *outputs)) > 0.98
    assert share_kept(reasons(AnswerRules(compat=True), "output", *outputs)) < 0.9
    repaired = [RepairInstruction().apply(pair(text)) for text in instructions]
    same = [
        not isinstance(new, Drop) and new.instruction == old.strip()
        for new, old in zip(repaired, instructions, strict=True)
    ]
    assert sum(same) > 0.98 * len(same)


def share_kept(found: list[str | None]) -> float:
    return found.count(None) / len(found)


def test_a_base_too_small_for_written_rules_is_taught_to_end_in_a_verdict():
    pair = Pair(id="p", instruction="写一首关于春天的诗。", output="春天来了。")
    good, bad = TeachVerdict(PROMPTS.judge, PROMPTS.praise, PROMPTS.blame).apply(pair)
    assert good.messages[-1].content.endswith("指令：写一首关于春天的诗。\n评判：")
    assert bad.messages[-1].content.endswith("指令：写一首关于\n评判：")
    assert [VERDICT.value_in(lesson.target) for lesson in (good, bad)] == [1.0, 0.0]
    assert good.id != bad.id
