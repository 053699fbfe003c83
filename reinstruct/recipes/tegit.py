"""TeGit / DoG-Instruct: tasks designed from texts. Chen et al. 2024, https://arxiv.org/abs/2309.05447

A text is not taken as the answer. A model is trained to design a whole task from it, instruction, input and output in
one go, so that what is noise in the text is left out and the output is edited. What it learns from is written by an
aligned model or given; what it designs is checked, and a base model is tuned on that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import polars as pl
from msgspec.structs import replace

from reinstruct.errors import expect
from reinstruct.llm import Prompt, Reply, Sampling
from reinstruct.plan import Dataset, Model, Outcome
from reinstruct.preparation import Preparation
from reinstruct.records import Document, Drop, Example, Pair
from reinstruct.stage import Ask, Filter, Transform
from reinstruct.stages.bounds import expect_order, expect_share
from reinstruct.stages.checks import WORD
from reinstruct.stages.gather import DropDuplicates, Sample
from reinstruct.stages.instruct import PutToModel, Template, example, made_from
from reinstruct.stages.marked import is_blank, mark_pattern, read_fields, write_fields
from reinstruct.stages.select import first_reason, one_line
from reinstruct.stages.text import KeepLengths
from reinstruct.train.settings import Sft
from reinstruct.wording import Wording, worded

FIELDS = {"instruction": "instruction", "input": "input", "output": "output"}
NAMES = {**FIELDS, "指令": "instruction", "输入": "input", "输出": "output"}
MARK = f"(?i){mark_pattern(tuple(NAMES))}"


def tegit(
    corpus: Dataset[Document],
    seed: Dataset[Pair],
    base: Model,
    designs: Dataset[Pair] | None = None,
    teacher: Model | None = None,
    *,
    min_chars: int = 200,
    max_chars: int = 4000,
    rules: DesignRules | None = None,
    prompts: Prompts | None = None,
    candidates: int = 0,
    size: int = 0,
    lessons: int = 2000,
    with_seed: bool = False,
    designing: Sampling = Sampling(max_tokens=1024),
    sft: Sft = Sft(),
    prepare: Preparation = Preparation(),
    random_seed: int = 0,
) -> Outcome:
    """Plan the method.

    The designer learns from `designs`, pairs with the document each was designed from; without them from what a
    `teacher` (any chat model) designs from `lessons` texts; and without one from the seed, each pair designed from
    the text of its own input and response, which teaches to name a task but not to clean a text. Texts have
    `min_chars` to `max_chars` characters, which leaves the designer room to answer. `rules` hold for what it learns
    from as for what it designs. `candidates` samples that many texts before the designer sees them, `size` that many
    tasks; 0 takes all. The paper tunes on the designed tasks alone, `with_seed` on the seed's pairs too.
    """
    expect_order("min_chars", min_chars, "max_chars", max_chars)
    rules, prompts = rules or DesignRules(), prompts or Prompts()
    lengths = KeepLengths[Document]("text", min_chars, max_chars)
    documents = prepare.documents(corpus)
    texts = documents.map(lengths, name="select").gather(DropDuplicates(), name="deduplicate")

    if designs is None and teacher is not None:
        sample = texts.gather(Sample(lessons, random_seed), name="sample-lessons")
        designs = sample.map(Design(teacher, prompts.teach, sampling=designing), name="teach-designs")
    elif designs is None:
        designs = seed.map(JoinToText(), name="seed-designs")
    designer = base.train(
        designs.map(rules, TeachDesign(prompts.design, prompts.marks), name="design-data"), "designer", sft
    )

    chosen = texts.gather(Sample(candidates, random_seed), name="candidates")
    tasks = chosen.map(Design(designer, prompts.design, sampling=designing), rules, name="design")
    synthetic = prepare.without_leaks(tasks).gather(Sample(size, random_seed), name="sample")

    data = seed + synthetic if with_seed else synthetic
    final = base.train(data.map(PutToModel(prompts.chat), name="ask-tasks"), "final", sft)
    return Outcome(data, final, PutToModel(prompts.chat), sft)


@dataclass(frozen=True)
class Design(Ask[Document, Pair]):
    """Ask for a task made from the text. A reply that repeats the prompt holds none."""

    template: Template

    def prompt(self, record: Document) -> Prompt:
        return self.template.fill(document=record.text)

    def parse(self, record: Document, reply: Reply) -> Pair | Drop:
        if not reply.text.strip():
            return Drop("empty_reply", unreadable=True)
        fields = read_fields(self.template.begins + reply.text, NAMES, ("instruction", "output"))
        if isinstance(fields, Drop):
            return fields
        if reply.finish == "length" and not fields.more:
            return Drop("cut_off", reply.text[-200:])
        instruction, output = fields.values["instruction"], fields.values["output"]
        if echo := _echo(self.template.text, instruction, output):
            return Drop("echoes_prompt", echo[:200])
        given = fields.values.get("input", "")
        return made_from(record, instruction=instruction, input="" if is_blank(given) else given, output=output)


@dataclass(frozen=True)
class TeachDesign(Transform[Pair, Example]):
    """From a document, learn to write the whole task."""

    template: Template
    marks: tuple[str, ...] = tuple(FIELDS)

    def apply(self, record: Pair) -> Example:
        target = write_fields({mark: getattr(record, NAMES[mark]) for mark in self.marks})
        prompt = self.template.fill(document=record.document)
        return example(record, prompt, target.removeprefix(self.template.begins))


@dataclass(frozen=True)
class JoinToText(Transform[Pair, Pair]):
    """The text a pair could have been designed from: its input, if any, and its response."""

    def apply(self, record: Pair) -> Pair:
        text = "\n\n".join(part for part in (record.input, record.output) if part.strip())
        return replace(record, document=text, document_id=record.id)


@dataclass(frozen=True)
class DesignRules(Filter[Pair]):
    """Whether a designed task is one. The paper removes invalid tasks without saying how, the release not at all; all
    rules and numbers are ours. Lengths are characters, bounds included.

    An instruction of `copied_chars` or more that stands in the text word for word is a piece of the text, not a
    request. An input comes from the text: `min_input_grounded` is the least share of its distinct words (characters
    in Chinese and Japanese) that the text has too. The output is edited, so less is asked of it.
    """

    min_instruction_chars: int = 10
    max_instruction_chars: int = 1000
    min_output_chars: int = 10
    max_output_chars: int = 8000
    copied_chars: int = 120
    min_input_grounded: float = 0.8
    min_output_grounded: float = 0.3

    def __post_init__(self) -> None:
        for part in ("instruction", "output"):
            least, most = getattr(self, f"min_{part}_chars"), getattr(self, f"max_{part}_chars")
            expect_order(f"rules.min_{part}_chars", least, f"rules.max_{part}_chars", most)
        expect_share("rules.min_input_grounded", self.min_input_grounded)
        expect_share("rules.min_output_grounded", self.min_output_grounded)

    def reason(self) -> pl.Expr:
        names = ("instruction", "input", "output", "document")
        instruction, given, output, text = (one_line(pl.col(name)) for name in names)
        chars = {name: pl.col(name).str.strip_chars().str.len_chars() for name in names}
        copied = (instruction == text) | (
            (chars["instruction"] >= self.copied_chars) & text.str.contains(instruction, literal=True)
        )
        marked = [pl.col(name).str.contains(MARK) for name in names[:3]]
        return first_reason(
            [
                ("no_document", text == ""),
                ("instruction_too_short", chars["instruction"] < self.min_instruction_chars),
                ("instruction_too_long", chars["instruction"] > self.max_instruction_chars),
                ("output_too_short", chars["output"] < self.min_output_chars),
                ("output_too_long", chars["output"] > self.max_output_chars),
                ("left_over_mark", pl.any_horizontal(marked)),
                ("instruction_is_text", copied),
                ("instruction_is_output", instruction == output),
                ("instruction_is_input", instruction == given),
                ("output_is_input", output == given),
                ("input_not_in_text", (given != "") & (_grounded(given, text) < self.min_input_grounded)),
                ("output_not_from_text", _grounded(output, text) < self.min_output_grounded),
            ]
        )


def _echo(prompt: str, instruction: str, output: str) -> str:
    """The line of the prompt that stands for the instruction or the output, or is part of the instruction."""
    lines, asked, answered = _lines(prompt), _flat(instruction), _flat(output)
    return next((line for line in lines if line in (asked, answered) or (len(line) >= 30 and line in asked)), "")


@cache
def _lines(prompt: str) -> tuple[str, ...]:
    bare = [_flat(re.sub(MARK, "", line).strip("# ")) for line in prompt.splitlines() if "{document}" not in line]
    return tuple(line for line in bare if line)


def _flat(text: str) -> str:
    return " ".join(text.lower().split())


def _grounded(part: pl.Expr, text: pl.Expr) -> pl.Expr:
    """Distinct words of `part` that `text` has too, 0 to 1; 1 where `part` has no words."""
    words = part.str.extract_all(WORD).list.unique()
    shared = words.list.set_intersection(text.str.extract_all(WORD)).list.len()
    return pl.when(words.list.len() == 0).then(1.0).otherwise(shared / words.list.len())


@dataclass(frozen=True)
class Prompts(Wording):
    """What is said to the models: `design` to the designer, `teach` to the teacher, whose designs it learns from.
    `marks` are the names of instruction, input and output in both.
    """

    marks: tuple[str, ...] = tuple(FIELDS)
    design: Template = Template(
        """\
Here is a text. Make a task out of it for an assistant, and do the task.

### Text
{document}

### Task
""",
        opening="#instruction#:",
    )
    teach: Template = Template(
        """\
You write exercises for an assistant. Read the text, think of one thing a person may want that this text has the means \
to answer, and write the exercise together with its solution.

- The person has never seen the text: the request stands on its own and does not speak of a text, page or author.
- If the request is about a passage (to shorten, sort or correct it, say), that passage is the input, taken from the \
text as it stands. Most requests need no input; then leave that field blank.
- The solution keeps to what the text says, in good order, without its menus, advertisements and asides.

Answer with these three fields and nothing else:

#instruction#: the person's request
#input#: the passage it is about, or nothing
#output#: the solution

### Text
{document}""",
        chat=True,
    )
    chat: Template = Template(
        """\
A person asks an assistant for something. The assistant does it well.

### Person
{instruction}

### Assistant
"""
    )

    @classmethod
    def english(cls) -> Prompts:
        """As they stand here."""
        return cls()

    @classmethod
    def chinese(cls) -> Prompts:
        """All of them in Chinese."""
        return worded(cls, "tegit.chinese")

    def __post_init__(self) -> None:
        super().__post_init__()
        known = [NAMES.get(mark) for mark in self.marks] == [*FIELDS]
        expect(known, "prompts.marks", self.marks, f"names of instruction, input and output among {', '.join(NAMES)}")
        self.expect_marks("teach", f"#{self.marks[0]}#", f"#{self.marks[2]}#")
