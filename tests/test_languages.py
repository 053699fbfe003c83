"""Recipes in the language that is not their own, end to end with models that answer by script; and prompts that lack
what their replies are read by.
"""

from pathlib import Path
from typing import Any

import pytest

from reinstruct.errors import RecipeError
from reinstruct.llm import Reply
from reinstruct.plan import Model, Outcome, Step, walk
from reinstruct.planning import Ask, plan_run
from reinstruct.recipes import back_and_forth, cycle_instruct, find, humpback, kun, reinstruct, tegit
from reinstruct.records import Document, Drop, Pair
from reinstruct.settings import settings_from
from reinstruct.stages.segment import SegmentRules
from reinstruct.stages.sides import Sides
from reinstruct.stages.text import SelectAdvice
from tests.conftest import ROOT
from tests.in_process import rejected
from tests.scripted_world import World, write

BODY = (
    "先把{thing}搬到亮处，从头到尾看一遍，找出松动的地方。用软布擦去灰尘，因为裂纹往往藏在灰尘下面。"
    "换零件时要选同样大小的，旧的那个先留着，等新的装好再扔。第一次试用要慢，听听有没有从前没有的响声。"
    "最后把做过的事记在本子上，下一次修{thing}就能省下一半时间。"
)
PLACES = {
    "水壶": "厨房里的人天天用它烧水，底上结的白垢要用醋泡软，再拿竹片轻轻刮掉，千万不能用铁丝。",
    "木船": "河边的人到秋天才把它拖上岸，船底朝天晾上三天，缝里塞进麻丝，再刷两遍桐油。",
    "收音机": "老人爱在院子里听它唱戏，旋钮转起来沙沙响，多半是里面积了尘，吹一吹就好。",
    "铁门": "雨季过后合页容易生锈，滴几滴油，来回开关十几次，声音便小了，漆也不必重刷。",
}
LATER = "邻居们看了都说好，有人当场记了下来，回家照着做，也都成了。要紧的是不急，一步做完再做下一步，累了就歇一会儿。"


def guide(thing: str) -> str:
    return BODY.format(thing=thing) + PLACES[thing] + LATER


SEEDS = [
    {"id": "s1", "instruction": "怎样煮鸡蛋？", "output": "先把水烧开。再放入鸡蛋。煮六分钟就好。"},
    {"id": "s2", "instruction": "说出一条大河。", "output": "长江。它很长。它流进东海。"},
]
VERDICTS = {
    "水壶": "该说的都说了。\n评分：５分",
    "木船": "像一篇文章。\n评分：3",
    "收音机": "评分：4到5分",
    "铁门": "切题，没有废话。\n**最终评分：5分（满分5分）。**",
}


def thing_in(prompt: str) -> str:
    return next(thing for thing in PLACES if f"修{thing}" in prompt or f"把{thing}" in prompt)


def step_of(outcome: Outcome, name: str) -> Step:
    return next(step for step in walk(outcome.data.step, outcome.model.step) if step.name == name)


def reasons(world: World, step: Step) -> dict[str, str]:
    return {row.id: row.reason for row in rejected(world.store, step)}


def test_humpback_in_chinese(tmp_path: Path):
    def answer(name: str, prompt: str) -> str:
        return f"怎样修{thing_in(prompt)}？" if name == "backward" else VERDICTS[thing_in(prompt)]

    world = World(tmp_path, answer)
    pages = [{"id": thing, "text": f"# 怎样修{thing}\n\n{guide(thing)}"} for thing in PLACES]
    pages.append({"id": "menu", "text": f"# 友情链接\n\n{guide('水壶')}"})
    corpus, seed = world.dataset("corpus", Document, pages), world.dataset("seed", Pair, SEEDS)
    prompts, rules = humpback.Prompts.chinese(), SegmentRules.chinese()
    outcome = humpback.humpback(corpus, seed, Model(uri="base"), rules=rules, prompts=prompts, max_unreadable=0.5)
    made = world.make(outcome.data.step)
    assert [(pair.id, pair.instruction) for pair in made if pair.origin == "synthetic"] == [
        ("水壶.1", "怎样修水壶？"),
        ("铁门.1", "怎样修铁门？"),
    ]
    assert reasons(world, step_of(outcome, "segments")) == {"menu.1": "navigation_header"}
    assert reasons(world, step_of(outcome, "curate-2")) == {"木船.1": "low_quality", "收音机.1": "no_score"}
    asked = world.asked["forward-1"].asked[0]
    assert asked.startswith("请像一位出色的人工智能助手那样作答。\n\n### 用户\n有人提出了下面的要求")
    assert asked.endswith("\n\n### 助手\n理由：\n")
    learnt = {row.id: row.prompt for row in world.make(step_of(outcome, "forward-2").inputs[0])}
    assert learnt["s1"] == "请像一位出色的人工智能助手那样作答。\n\n### 用户\n怎样煮鸡蛋？\n\n### 助手\n"
    assert learnt["铁门.1"].startswith("请用从网上搜到的内容作答。\n\n### 用户\n怎样修铁门？")
    assert step_of(outcome, "choose-seed").action.stages[0].language == "zh"


def test_the_seed_is_of_the_language_of_the_prompts_unless_another_is_named(tmp_path: Path):
    def chosen(name: str, **settings: Any) -> str:
        plan = plan_run(Ask(name, files(tmp_path), settings))
        (stage,) = next(step.action["stages"] for step in plan.steps if step.name == "choose-seed")
        return stage["language"]

    for name in ("humpback", "back_and_forth"):
        given = [{}, {"prompts": "chinese"}, {"prompts": "chinese", "seed_language": "ja"}, {"seed_language": ""}]
        assert [chosen(name, **settings) for settings in given] == ["en", "zh", "ja", ""]


def test_back_and_forth_in_chinese(tmp_path: Path):
    def answer(name: str, prompt: str) -> str:
        thing = thing_in(prompt)
        if name == "backward":
            return f"怎样修{thing}？"
        return VERDICTS[thing] if "评分" in prompt else f"这样修{thing}。\n[/RES]"

    world = World(tmp_path, answer)
    corpus = world.dataset("corpus", Document, [{"id": thing, "text": guide(thing)} for thing in PLACES])
    seed, prompts = world.dataset("seed", Pair, SEEDS), back_and_forth.Prompts.chinese()
    outcome = back_and_forth.back_and_forth(corpus, seed, Model(uri="base"), prompts=prompts)
    made = {pair.id: pair.output for pair in world.make(outcome.data.step) if pair.origin == "synthetic"}
    assert made == {"水壶": "这样修水壶。", "铁门": "这样修铁门。"}
    assert world.asked["rewriter"].asked[0].endswith("怎样修水壶？\n\n### 助手\n[RES]\n")
    (lesson, _) = world.make(step_of(outcome, "rewrite-data"))
    assert lesson.target == f"{SEEDS[0]['output']}\n[/RES]"
    talk = "请把改好的答复写在 [RES] 和 [/RES] 之间。"
    assert isinstance(back_and_forth.span(talk), Drop)
    assert back_and_forth.span(f"{talk}\n[RES]好的。[/RES]") == "好的。"


ENGLISH = (
    "Carry the {thing} into good light and look it over for parts that have come loose. Wipe off the dust with a soft "
    "cloth, since cracks hide under it, and only then decide what needs a new part and what can stay."
)
THINGS = ("kettle", "boat", "radio", "gate", "shelf", "clock")
LABELLED = {"boat": "Sum up the passage above.", "radio": "How is a radio mended?\nHow is a radio mended?"}
JUDGED = {"gate": "What to do is left open. [bad]", "shelf": "This is not [good]."}
TOLD = "Look it over in good light, wipe the dust off, and change what is worn for a part of the same size."
ANSWERED = {"clock": f"As an AI language model, I think: {TOLD}"}


def kun_says(name: str, prompt: str) -> str:
    asked = prompt.rpartition("Instruction:")[2] if "Judge whether" in prompt else prompt
    thing = next(thing for thing in THINGS if thing in asked)
    if name == "label":
        return LABELLED.get(thing, f"How is a {thing} mended?")
    if "Judge whether" in prompt:
        return JUDGED.get(thing, "It is clear what is to be done. [good]")
    return ANSWERED.get(thing, f"A {thing}? {TOLD}")


def test_kun_in_english(tmp_path: Path):
    world = World(tmp_path, kun_says)
    texts = [{"id": thing, "text": ENGLISH.format(thing=thing)} for thing in THINGS]
    texts.append({"id": "chinese", "text": guide("水壶")})
    pairs = [{"id": "s1", "instruction": "Boil an egg.", "output": "Heat water and put the egg in."}]
    corpus, seed = world.dataset("corpus", Document, texts), world.dataset("seed", Pair, pairs)
    outcome = kun.kun(corpus, seed, Model(uri="base"), prompts=kun.Prompts.english(), teach_verdict=True)
    made = {pair.id: pair for pair in world.make(outcome.data.step)}
    assert list(made) == ["s1", "kettle", "radio"]
    assert (made["kettle"].instruction, made["kettle"].output) == ("How is a kettle mended?", f"A kettle? {TOLD}")
    assert made["radio"].instruction == "How is a radio mended?"
    gone = {name: reasons(world, step_of(outcome, name)) for name in ("perplexity", "repair", "judge", "answers")}
    assert gone == {
        "perplexity": {"chinese": "unlikely"},
        "repair": {"boat": "points_at_text"},
        "judge": {"gate": "low_instruction", "shelf": "contradictory"},
        "answers": {"clock": "speaks_as_model"},
    }
    lessons = world.make(step_of(outcome, "teach-verdict"))
    assert [kun.VERDICT.value_in(row.target) for row in lessons] == [1, 0]
    assert lessons[0].messages[-1].content.endswith("Instruction: Boil an egg.\nJudgement:")


def test_tegit_in_chinese():
    prompts, base = tegit.Prompts.chinese(), Model(uri="base")
    pair = Pair(
        id="p", instruction="缩写这段话。", input="很长的话。", output="短话。", document="很长的话。\n\n短话。"
    )
    lesson = tegit.TeachDesign(prompts.design, prompts.marks).apply(pair)
    text = "### 题目\n#指令#: 缩写这段话。\n#输入#: 很长的话。\n#输出#: 短话。"
    assert (lesson.prompt + lesson.target).endswith(text)
    designer, document = tegit.Design(base, prompts.design), Document(id="d", text="水往低处流。")
    assert designer.prompt(document).endswith("水往低处流。\n\n### 题目\n#指令#:")
    made = designer.parse(document, Reply(" 水往哪里流？\n#输入#：没有\n#输出#：低处。"))
    assert (made.instruction, made.input, made.output) == ("水往哪里流？", "", "低处。")
    teacher = tegit.Design(base, prompts.teach)
    assert teacher.parse(document, Reply(teacher.prompt(document)[0].content)).reason == "echoes_prompt"


def test_cycle_instruct_tells_the_sides_of_chinese_apart():
    sides = Sides.chinese()
    assert sides.of("阳台上的番茄为什么总是裂开？") == "question"
    assert sides.of("请介绍一下怎样给木船刷桐油。") == "question"
    assert sides.of(guide("木船")) == "answer"
    assert sides.of("为什么？") == "short_question"
    assert sides.of("水往低处流。") == "too_short"
    assert Sides().of(guide("木船")) == "too_short", "bounds for English ask for more characters"


def test_reinstruct_selects_chinese_and_turns_away_what_points_at_a_text():
    import polars as pl

    texts = [guide("铁门"), "太短。", "真的吗？" * 60]
    frame = pl.DataFrame({"text": texts}).with_columns(reason=SelectAdvice.chinese().reason())
    assert frame["reason"].to_list() == [None, "too_short", "questions"]
    asked = ["这段话讲了什么？", "请概括本文。", "怎样修铁门？", "介绍日本文化。", "除此之外还有什么？"]
    frame = pl.DataFrame({"instruction": asked}).with_columns(reason=reinstruct.InstructionRules().reason())
    assert frame["reason"].to_list() == ["points_at_text", "points_at_text", None, None, None]
    told = ["根据提供的信息，先上油。", "先给合页上油。"]
    frame = pl.DataFrame({"output": told}).with_columns(reason=reinstruct.ResponseRules().reason())
    assert frame["reason"].to_list() == ["mentions_source", None]


def files(folder: Path) -> dict[str, str]:
    corpus = write(folder / "corpus.jsonl", {"id": "d", "text": guide("水壶")})
    return {"corpus": corpus, "seed": write(folder / "seed.jsonl", *SEEDS), "base": "org/base"}


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        (
            "back_and_forth",
            {"prompts.rewrite.text": "{document} {instruction} [RES]"},
            "prompts.rewrite is '{document} ",
        ),
        (
            "tegit",
            {"prompts.teach.text": "{document} #instruction#"},
            "accepted: a text that holds #instruction# and #ou",
        ),
        ("tegit", {"prompts.marks": "输入,指令,输出"}, "prompts.marks is ('输入', '指令', '输出'); accepted: names of"),
        (
            "tegit",
            {"prompts": "chinese", "prompts.marks": "instruction,input,output"},
            "accepted: a text that holds #ins",
        ),
        (
            "kun",
            {"prompts.judge.text": "{instruction}：【好】"},
            "accepted: a text that asks for one of 好, good or one of",
        ),
        (
            "kun",
            {"prompts.praise": "很好。"},
            "prompts.praise is '很好。'; accepted: a judgement that ends in one of 好",
        ),
        (
            "humpback",
            {"prompts.rate.text": "{instruction} {response}: how good?"},
            "accepted: a text that asks for a num",
        ),
        ("humpback", {"verdict": "mt_bench"}, "with [["),
        ("humpback", {"verdict": "out_of_five"}, "with /5 or out of 5"),
        ("humpback", {"teach_rating": True, "prompts.blame": "坏。"}, "prompts.blame is '坏。'; accepted: a judgement"),
        (
            "humpback",
            {"prompts": "chines"},
            "setting prompts is 'chines' (did you mean 'chinese'?); accepted: english, chi",
        ),
        (
            "humpback",
            {"prompts.rate": "{instruction}"},
            "accepted: prompts.rate.text, prompts.rate.chat, prompts.rate.",
        ),
    ],
)
def test_prompts_that_lack_what_replies_are_read_by_are_refused(tmp_path: Path, name, settings, words):
    with pytest.raises(RecipeError) as told:
        plan_run(Ask(name, files(tmp_path), settings))
    assert words in str(told.value)


def test_patterns_of_ones_own_may_ask_as_they_like(tmp_path: Path):
    settings = {"verdict.pattern": r"note: (?P<value>\d)", "prompts.rate.text": "{instruction} {response} Note?"}
    assert plan_run(Ask("humpback", files(tmp_path), settings)).recipe == "humpback"


def test_one_prompt_is_changed_on_the_ground_of_a_language():
    wanted = {"prompts": (humpback.Prompts, None)}
    changed = {"preset": "chinese", "seed_tag": "请好好回答。", "backward": {"text": "答复：{response}\n提问："}}
    made = settings_from({"prompts": changed}, wanted)["prompts"]
    assert (
        made
        == settings_from({"prompts": "chinese", **{f"prompts.{k}": v for k, v in flat(changed)}}, wanted)["prompts"]
    )
    assert (made.seed_tag, made.backward.text, made.language) == ("请好好回答。", "答复：{response}\n提问：", "zh")
    assert made.rate == humpback.Prompts.chinese().rate


def flat(table: dict[str, Any]) -> list[tuple[str, str]]:
    nested = [(f"{name}.text", value["text"]) for name, value in table.items() if isinstance(value, dict)]
    return [*nested, *((name, value) for name, value in table.items() if isinstance(value, str) and name != "preset")]


def test_the_settings_of_a_plan_tell_the_prompts_that_were_changed(tmp_path: Path):
    plan = plan_run(Ask("tegit", files(tmp_path), {"prompts": "english", "prompts.chat.text": "{instruction}\n"}))
    assert {name: value for name, value in plan.settings.items() if name.startswith("prompts")} == {
        "prompts.chat.text": "{instruction}\n"
    }


def test_every_file_of_words_is_a_recipes():
    files = {path.stem for path in (ROOT / "reinstruct" / "wording").glob("*.toml")}
    assert len(files) == 6
    assert {find(name.partition(".")[0]).name for name in files} == {
        *("back_and_forth", "cycle_instruct", "humpback", "kun", "reinstruct", "tegit")
    }
    assert cycle_instruct.Prompts.chinese() != cycle_instruct.Prompts()
