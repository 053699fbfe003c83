"""Kun: answer polishment for Chinese instruction backtranslation. Zheng et al. 2024, https://arxiv.org/abs/2401.06477

A label model trained backward on the seed writes the instruction each short, fluent text answers. A chat model trained
forward on the same seed judges the instruction alone, then answers it anew from the text as known material. A base
model is tuned on the seed and what is left.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import polars as pl
from msgspec import structs

from reinstruct.llm import Sampling
from reinstruct.plan import Dataset, Model, Outcome
from reinstruct.preparation import Preparation
from reinstruct.records import Document, Drop, Pair
from reinstruct.stage import Filter, Transform
from reinstruct.stages.checks import HAN, LETTERS, DropKeywords, DropRepetition, KeepLikely, Keywords
from reinstruct.stages.documents import TextRules
from reinstruct.stages.gather import Sample
from reinstruct.stages.giveaways import ASKED, RELEASE_ASKED, RELEASE_SAID, SAID
from reinstruct.stages.instruct import PutToModel, Rewrite, TeachInstruction, Template, WriteInstruction
from reinstruct.stages.judge import KeepScore, Score, TeachVerdict
from reinstruct.stages.sentences import word_ends, words_in
from reinstruct.stages.text import KeepLengths
from reinstruct.stages.verdict import Choice
from reinstruct.train.settings import Sft
from reinstruct.wording import Wording, worded


def kun(
    corpus: Dataset[Document],
    seed: Dataset[Pair],
    base: Model,
    chat: Model | None = None,
    *,
    prompts: Prompts | None = None,
    texts: TextRules | None = None,
    max_perplexity: float = 8.0,
    instructions: InstructionRules | None = None,
    answers: AnswerRules | None = None,
    candidates: int = 0,
    size: int = 0,
    with_seed: bool = True,
    max_unreadable: float = 0.5,
    teach_verdict: bool = False,
    compat: bool = False,
    sampling: Sampling = Sampling(temperature=0.5, top_p=0.95, max_tokens=1024, repetition_penalty=1.2),
    label_sft: Sft = replace(Sft.kun(), epochs=6),
    sft: Sft = Sft.kun(),
    prepare: Preparation = Preparation(),
    random_seed: int = 0,
) -> Outcome:
    """Plan the method.

    `max_perplexity` is how many times the corpus's median perplexity a text may have (0: any; see KeepLikely).
    `chat` is a chat model to judge and answer with; without it one is trained on the seed, as in the paper.
    `candidates` samples that many texts before any model sees them, `size` that many made pairs; 0 takes all.
    `with_seed` tunes the final model on the seed's pairs, too. `max_unreadable` is the largest share of replies of a
    shard without a verdict. `teach_verdict` adds lessons in judging to the chat model's, for bases too small to follow
    written rules. `compat` takes the keyword lists of the release, tests repetition only at the start of an
    answer and cuts instructions to its prompt's length.
    """
    prompts = prompts or Prompts()
    instructions = replace(instructions or InstructionRules(), compat=compat)
    answers = replace(answers or AnswerRules(), compat=compat)

    texts = texts or TextRules.of(prompts.language)
    likely = KeepLikely[Document]("text", max_perplexity, HAN if texts.min_cjk else LETTERS)
    fluent = prepare.documents(corpus).map(texts, name="select").gather(likely, name="perplexity")
    chosen = fluent.gather(Sample(candidates, random_seed), name="candidates")
    label = base.train(seed.map(TeachInstruction(prompts.label), name="reverse"), "label", label_sft)
    said = seed.map(PutToModel(prompts.chat), name="ask-seed")
    lessons = TeachVerdict(prompts.judge, prompts.praise, prompts.blame)
    taught = said + seed.map(lessons, name="teach-verdict") if teach_verdict else said
    chat = chat or base.train(taught, "chat", sft)

    guesses = chosen.map(WriteInstruction(label, prompts.label, sampling=sampling), name="guess")
    repaired = guesses.map(RepairInstruction(), instructions, name="repair")
    verdict = Score(chat, prompts.judge, "instruction", VERDICT, sampling=sampling, max_unreadable=max_unreadable)
    good = repaired.map(verdict, KeepScore("instruction", 1), name="judge")
    fitted = FitInstruction(512 if compat else 0)
    polished = good.map(fitted, Rewrite(chat, prompts.polish, sampling=sampling), name="polish")
    answered = prepare.without_leaks(polished.map(answers, name="answers"))
    synthetic = answered.gather(Sample(size, random_seed), name="sample")

    data = seed + synthetic if with_seed else synthetic
    final = base.train(data.map(PutToModel(prompts.chat), name="ask-data"), "final", sft)
    return Outcome(data, final, PutToModel(prompts.chat), sft)


@dataclass(frozen=True)
class RepairInstruction(Transform[Pair, Pair]):
    """Cut off what a label model adds when it does not stop (released deplicate.py).

    The instruction ends at the first `blank_run` blanks or line ends on end. Of lines that stand there twice, the
    longest is the instruction if it begins with it; if not, it is turned away as "repeated_lines". The release looks
    for such lines only where nothing was cut.
    """

    blank_run: int = 5

    def apply(self, record: Pair) -> Pair | Drop:
        instruction = re.split(rf"\s{{{self.blank_run},}}", record.instruction.strip(), maxsplit=1)[0]
        lines = [line.strip() for line in instruction.split("\n") if line.strip()]
        repeated = [line for line in lines if lines.count(line) > 1]
        if repeated:
            longest = max(repeated, key=len)
            if not instruction.startswith(longest):
                return Drop("repeated_lines", longest[:200])
            instruction = longest
        return structs.replace(record, instruction=instruction) if instruction else Drop("empty_instruction")


@dataclass(frozen=True)
class InstructionRules(Filter[Pair]):
    """No word of what the instruction alone does not show. Such a task can only be done with the text at hand.

    `lists` name what is turned away and why; none stands for ASKED, or with `compat` for RELEASE_ASKED: single words
    such as "article", with which "write an article on ..." is lost. Words in `also` are turned away, too.
    """

    lists: tuple[Keywords, ...] = ()
    also: tuple[str, ...] = ()
    compat: bool = False

    def reason(self) -> pl.Expr:
        lists = self.lists or (RELEASE_ASKED if self.compat else ASKED)
        return DropKeywords[Pair]("instruction", lists, self.also).reason()


@dataclass(frozen=True)
class FitInstruction(Transform[Pair, Pair]):
    """Cut the instruction so that it and its text have at most `max_words` words (0: any number), as the release does.

    "no_room" is left where the text alone has as many.
    """

    max_words: int = 0

    def apply(self, record: Pair) -> Pair | Drop:
        if not self.max_words:
            return record
        ends = word_ends(record.instruction)
        room = self.max_words - len(words_in(record.document))
        if len(ends) <= room:
            return record
        return (
            structs.replace(record, instruction=record.instruction[: ends[room - 1]]) if room > 0 else Drop("no_room")
        )


@dataclass(frozen=True)
class AnswerRules(Filter[Pair]):
    """Answers long enough (in characters), free of what gives the text or the model away, and not caught in a loop.

    Released delete_key_output.py and deplicate.py. No `lists` stand for SAID, or with `compat` for RELEASE_SAID. The
    other fields are those of DropRepetition; with `compat` it looks at the start of an answer alone.
    """

    min_chars: int = 20
    lists: tuple[Keywords, ...] = ()
    also: tuple[str, ...] = ()
    max_repeats: int = 5
    max_unit: int = 50
    run: int = 10
    max_share: float = 0.2
    compat: bool = False

    def __post_init__(self) -> None:
        self.reason()  # its parts check their own bounds

    def reason(self) -> pl.Expr:
        lengths = KeepLengths[Pair]("output", min_chars=self.min_chars)
        lists = self.lists or (RELEASE_SAID if self.compat else SAID)
        keywords = DropKeywords[Pair]("output", lists, self.also)
        run = 0 if self.compat else self.run
        loops = DropRepetition[Pair]("output", self.max_repeats, self.max_unit, run, self.max_share)
        return pl.coalesce(lengths.reason(), keywords.reason(), loops.reason())


VERDICT = Choice(("好", "good"), ("差", "bad"), "brackets")


@dataclass(frozen=True)
class Prompts(Wording):
    """What is said to the models: `label` to the label model, the others to the chat model; `praise` and `blame` are
    lessons in judging. Texts have the bounds of the `language`.
    """

    language: str = "zh"
    label: Template = Template(
        """\
下面这段文字是对某条指令的答复。请写出最有可能得到这份答复的那条指令，除指令外什么也不要写。

{response}""",
        chat=True,
    )
    judge: Template = Template(
        """\
请评判一条交给文字助手的指令写得好不好。只看指令，不必完成它。

评为【好】要从严，以下几点缺一不可：
一、读一遍就明白要做什么；
二、该交代的都交代了，不靠没有附上的文章、图片或先前的谈话；
三、凭文字和常识就做得到；
四、各项要求前后连贯，不互相矛盾。

评为【差】可从宽，有以下任何一点即可：
一、打听或泄露他人的隐私；
二、意思含混，或者缺少必要的事实；
三、所依据的事实已经过时或者并不存在；
四、不切实际，助手无从办到；
五、啰唆重复，或者要用图片、声音、视频才能完成；
六、条理不通。

例一
指令：用三句话给小学生讲讲为什么会有四季。
评判：对象、篇幅和题目都说清楚了。【好】

例二
指令：概括一下上面那段话的要点。
评判：没有附上要概括的话。【差】

例三
指令：列出五种家里常见的节水办法，每种写明怎样做、大约能省多少水。
评判：数量和每项的要求都具体，做得到。【好】

例四
指令：查一查我邻居的电话号码，再帮我写点什么。
评判：打听隐私，后半句又不知道要写什么。【差】

请先用一句话说明理由，再以【好】或【差】结尾，两者只写其一。

指令：{instruction}
评判：""",
        chat=True,
    )
    praise: str = "要做什么说得清楚。【好】"
    blame: str = "话没有说完，缺少必要的事实。【差】"
    polish: Template = Template(
        """\
已知下面的知识：

{document}

请运用这些知识完成下面的指令。答复要完整、通顺、切题，就像你本来就知道一样，不要提到这些知识从哪里来。

{instruction}""",
        chat=True,
    )
    chat: Template = Template("{instruction}", chat=True)

    @classmethod
    def chinese(cls) -> Prompts:
        """As they stand here."""
        return cls()

    @classmethod
    def english(cls) -> Prompts:
        """All of them in English."""
        return worded(cls, "kun.english")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.expect_read(VERDICT, "judge", "praise", "blame")
