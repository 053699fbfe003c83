"""Examples as token ids: exact masks, in the tensors of a batch too, refusals with reasons, and how they are kept."""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from reinstruct.errors import TrainingError
from reinstruct.prompting import prompt_ids, target_ids
from reinstruct.records import Document, Example, Message, to_table
from reinstruct.train.rows import Refused, encode, encode_all, encode_once, read_examples
from reinstruct.train.text import END, blocks, read_texts, train_tokenizer
from reinstruct.train.tokens import Row, TokenRows

pytestmark = pytest.mark.slow

IGNORED = -100  # a label that counts in no loss
TEXT = ["The quick brown fox jumps over the lazy dog. " * 20, "def add(a, b):\n    return a + b\n" * 20]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXT, 400)


@pytest.fixture
def framing_tokenizer():
    """One that puts a token before and EOS behind every text, as some do."""
    made = train_tokenizer(TEXT, 400)
    made.add_special_tokens({"bos_token": "<s>"})
    special = [("<s>", made.bos_token_id), (END, made.eos_token_id)]
    made.backend_tokenizer.post_processor = TemplateProcessing(single=f"<s> $A {END}", special_tokens=special)
    return made


def random_text(draw):
    alphabet = ["fox", " the", "\n", "  ", "é", "日本", "🦊", "\x00", "<s>", END, "\u0301", "a + b", "\t"]
    return "".join(draw.choices(alphabet, k=draw.randint(1, 30)))


def example(prompt="Say it:", target="The fox.", **fields):
    return Example(**{"id": "e", "prompt": prompt, "target": target, **fields})


def test_loss_falls_on_exactly_the_target(tokenizer):
    draw = random.Random(1)
    for _ in range(300):
        prompt, target = random_text(draw), "." + random_text(draw)
        row = encode(example(prompt, target), tokenizer, 10_000)
        labelled = list(row.ids[row.prompt_tokens :])
        assert labelled.pop() == tokenizer.eos_token_id
        assert tokenizer.eos_token_id not in labelled
        assert tokenizer.decode(labelled) == target
        assert list(row.ids[: row.prompt_tokens]) == prompt_ids(tokenizer, prompt)


def test_prompt_and_target_never_share_a_token(tokenizer):
    whole = tokenizer("The quick")["input_ids"]
    assert len(whole) < len("The quick")  # letters do merge
    row = encode(example("The qu", "ick"), tokenizer, 100)
    assert list(row.ids[: row.prompt_tokens]) == tokenizer("The qu")["input_ids"]


def test_special_tokens_stand_before_the_prompt_only(framing_tokenizer):
    row = encode(example("fox", "dog"), framing_tokenizer, 100)
    assert framing_tokenizer.decode(row.ids) == f"<s>foxdog{END}"


def test_end_written_in_a_prompt_stays(framing_tokenizer):
    assert prompt_ids(framing_tokenizer, f"fox{END}")[-1] == framing_tokenizer.eos_token_id


def test_prompt_of_nothing_is_the_separator(tokenizer):
    assert prompt_ids(tokenizer, "") == [tokenizer.eos_token_id]


def test_messages_without_a_template_are_headed_by_role(tokenizer):
    ids = prompt_ids(tokenizer, (Message("system", "Be brief."), Message("user", "Hi")))
    assert tokenizer.decode(ids) == "### System\nBe brief.\n\n### User\nHi\n\n### Assistant\n"


def test_messages_go_through_the_chat_template(framing_tokenizer):
    framing_tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[go]{% endif %}"
    )
    row = encode(example("", "dog", messages=(Message("user", "fox"),)), framing_tokenizer, 100)
    assert framing_tokenizer.decode(row.ids) == f"[user]fox[go]dog{END}"


def test_rows_that_do_not_fit_are_refused_not_cut(tokenizer):
    prompt, target = prompt_ids(tokenizer, "Say it:"), target_ids(tokenizer, "The fox.")
    whole = len(prompt) + len(target) + 1
    assert len(encode(example(), tokenizer, whole).ids) == whole
    assert encode(example(), tokenizer, whole - 1) == Refused("e", "target_too_long", whole)
    assert encode(example(), tokenizer, len(prompt) + 2).reason == "target_too_long"
    assert encode(example(), tokenizer, len(prompt) + 1) == Refused("e", "prompt_too_long", len(prompt))


def test_targets_of_nothing_and_two_prompts_are_refused(tokenizer):
    assert encode(example(target=" \n"), tokenizer, 100).reason == "empty_target"
    assert encode(example(messages=(Message("user", "Hi"),)), tokenizer, 100).reason == "prompt_and_messages"


def test_documents_of_a_hundred_thousand_tokens_are_refused_with_their_length(tokenizer):
    text = "xyzzy " * 20_000
    length = len(target_ids(tokenizer, text))
    assert length > 100_000
    prompt = len(prompt_ids(tokenizer, "Say it:"))
    assert encode(example(target=text), tokenizer, 2048) == Refused("e", "target_too_long", prompt + length + 1)
    assert encode(example(text), tokenizer, 2048).reason == "prompt_too_long"
    assert len(encode(example(target=text), tokenizer, 1_000_000).ids) == prompt + length + 1


def test_rows_of_prompt_alone_are_refused(tokenizer):
    """However the response is missing, and also where the prompt leaves no room for one."""
    prompt = len(prompt_ids(tokenizer, "Say it:"))
    for target in ("", " ", "\n\t\u00a0\u2003"):
        assert encode(example(target=target), tokenizer, 100).reason == "empty_target"
    assert encode(example(), tokenizer, prompt).reason == "prompt_too_long"


TURNS = st.lists(st.builds(Message, st.sampled_from(["system", "user"]), st.text(max_size=40)), min_size=1, max_size=3)
CHAT = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[go]{% endif %}"


PROMPTS = st.text(max_size=60) | TURNS.map(tuple)
TARGETS = st.text(min_size=1, max_size=60) | st.sampled_from([END, f"a{END}b", "### User\n", "[go]"])


@settings(deadline=None, derandomize=True, database=None)
@given(prompt=PROMPTS, target=TARGETS, template=st.sampled_from([None, CHAT]))
def test_what_the_loss_falls_on_decodes_to_exactly_the_target(tokenizer, prompt, target, template):
    row = encoded(tokenizer, prompt, target, template)
    if not target.strip():
        assert row == Refused("e", "empty_target")
        return
    labelled = list(row.ids[row.prompt_tokens :])
    assert labelled.pop() == tokenizer.eos_token_id
    assert tokenizer.decode(labelled) == target
    assert 0 < row.prompt_tokens < len(row.ids)


def encoded(tokenizer, prompt, target, template):
    tokenizer.chat_template = template
    asked = {"prompt": prompt} if isinstance(prompt, str) else {"prompt": "", "messages": prompt}
    row = encode(example(**asked, target=target), tokenizer, 10_000)
    tokenizer.chat_template = None
    return row


@settings(deadline=None, derandomize=True, database=None)
@given(
    said=st.lists(st.tuples(PROMPTS, TARGETS.filter(str.strip)), min_size=1, max_size=5),
    template=st.sampled_from([None, CHAT]),
    draw=st.randoms(use_true_random=False),
)
def test_in_batches_the_loss_falls_on_exactly_the_targets(tokenizer, said, template, draw):
    """Each row of a batch, told apart as the model tells them, is a row whole, and what is learnt of it its target."""
    from reinstruct.train.batches import Packed, Padded

    rows = TokenRows.of([encoded(tokenizer, prompt, target, template) for prompt, target in said])
    order = draw.sample(range(len(said)), len(said))
    cut = draw.randint(1, len(said))
    passes = [{"rows": part} for part in (order[:cut], order[cut:]) if part]
    assert tokenizer.pad_token_id == tokenizer.eos_token_id  # so that padding could be taken for the end of a target
    for batch, split in ((Packed(rows)(passes), by_position), (Padded(rows, tokenizer.pad_token_id)(passes), by_line)):
        assert (batch["labels"][:, 1:] != IGNORED).sum() == rows.targets_of(order)
        found = split(batch, [rows.lengths[row] for row in order])
        assert [ids for ids, _ in found] == [rows.tokens(row).tolist() for row in order]
        for row, (ids, labels) in zip(order, found, strict=True):
            learnt = [label for label in labels if label != IGNORED]
            assert ids[len(ids) - len(learnt) :] == learnt
            assert learnt.pop() == tokenizer.eos_token_id
            assert tokenizer.decode(learnt) == said[row][1]


def by_position(batch, lengths):
    """(ids, labels) of the rows of one sequence, whose borders transformers finds in the positions."""
    from transformers.masking_utils import find_packed_sequence_indices

    assert batch.keys() == {"input_ids", "labels", "position_ids"}
    positions = batch["position_ids"]
    found = find_packed_sequence_indices(positions)
    numbers = [0] * positions.shape[1] if found is None else found[0].tolist()
    ids, labels = (batch[name][0].tolist() for name in ("input_ids", "labels"))
    rows = [[at for at, number in enumerate(numbers) if number == row] for row in range(len(lengths))]
    assert positions[0].tolist() == [position for length in lengths for position in range(length)]
    assert sum(map(len, rows)) == len(ids)
    return [([ids[at] for at in row], [labels[at] for at in row]) for row in rows]


def by_line(batch, lengths):
    """(ids, labels) of rows side by side; no position behind a row is learnt, and none before it is filled."""
    assert batch.keys() == {"input_ids", "labels"}
    assert batch["input_ids"].shape == batch["labels"].shape == (len(lengths), max(lengths))
    assert all((line[length:] == IGNORED).all() for line, length in zip(batch["labels"], lengths, strict=True))
    lines = zip(batch["input_ids"].tolist(), batch["labels"].tolist(), lengths, strict=True)
    return [(ids[:length], labels[:length]) for ids, labels, length in lines]


def test_every_example_is_counted(tokenizer):
    examples = [example(id="a"), example(id="b", target=""), example("fox " * 99, id="c"), example(id="d", target="")]
    found = encode_all(examples, tokenizer, 60)
    assert [row.id for row in found.rows] == ["a"]
    assert {refused.id: refused.reason for refused in found.refused} == {
        "b": "empty_target",
        "c": "prompt_too_long",
        "d": "empty_target",
    }
    assert found.reasons == {"empty_target": 2, "prompt_too_long": 1}
    assert found.rows.target_tokens == len(target_ids(tokenizer, "The fox.")) + 1


@pytest.fixture
def kept(tokenizer, tmp_path):
    """A file of examples, tokenised once: its path and what came of it."""
    rows = [
        example(id="a", origin="seed", licence="cc0-1.0"),
        example("", id="b", messages=(Message("user", "Hi"),)),
        example(id="c", target=""),
    ]
    pq.write_table(to_table(rows, Example), tmp_path / "a.parquet")
    path = str(tmp_path / "a.parquet")
    return path, encode_once([path], tokenizer, 60, tmp_path / "tokens.arrow")


def test_examples_are_tokenised_once(kept, tokenizer, tmp_path):
    path, first = kept
    written = (tmp_path / "tokens.arrow").stat()
    again = encode_once([path], tokenizer, 60, tmp_path / "tokens.arrow")
    assert (tmp_path / "tokens.arrow").stat() == written
    assert list(again.rows) == list(first.rows)
    assert list(first.rows) == list(encode_all(read_examples([path]), tokenizer, 60).rows)
    assert (again.refused, again.with_messages) == ([Refused("c", "empty_target")], True)
    assert again.licences == first.licences == {"cc0-1.0": 1, "": 1}
    assert again.rows.digest() == first.rows.digest()
    assert [row.origin for row in again.rows] == ["seed", ""]


def test_another_limit_tokenizer_or_file_is_tokenised_anew(kept, tokenizer, framing_tokenizer, tmp_path):
    path, first = kept
    cut = encode_once([path], tokenizer, 20, tmp_path / "tokens.arrow")
    assert len(cut.rows) < len(first.rows)
    assert encode_once([path], framing_tokenizer, 60, tmp_path / "tokens.arrow").rows.digest() != first.rows.digest()
    pq.write_table(to_table([example(id="d")], Example), path)
    assert [row.id for row in encode_once([path], tokenizer, 60, tmp_path / "tokens.arrow").rows] == ["d"]


def test_no_usable_row_is_an_error_with_counts(tokenizer):
    with pytest.raises(TrainingError, match=r"max_tokens is 60.*2 empty_target"):
        encode_all([example(target=""), example(target=" ")], tokenizer, 60)
    with pytest.raises(TrainingError, match="there are none"):
        encode_all([], tokenizer, 60)


def test_reads_examples_back(tmp_path):
    rows = [example(id="a"), example("", id="b", messages=(Message("user", "Hi"),))]
    pq.write_table(to_table(rows, Example), tmp_path / "a.parquet")
    assert list(read_examples([str(tmp_path / "a.parquet")])) == rows


def test_other_files_are_not_examples(tmp_path):
    pq.write_table(pa.table({"id": ["a"], "text": ["fox"]}), tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("fox")
    for name in ("other.parquet", "text.parquet"):
        with pytest.raises(TrainingError, match=name):
            list(read_examples([str(tmp_path / name)]))


def test_texts_are_drawn_from_the_whole_corpus(tmp_path):
    paths = [str(tmp_path / name) for name in ("a.parquet", "b.parquet")]
    for path in paths:
        rows = [Document(id=str(n), text=f"{path}{n}" + "x" * 500) for n in range(200)]
        pq.write_table(to_table(rows, Document), path)
    some = list(read_texts(paths, 40_000, seed=0))
    assert 30_000 < sum(map(len, some)) < 42_000
    assert all(any(text.startswith(path) for text in some) for path in paths)
    assert some == list(read_texts(paths, 40_000, seed=0))
    assert len(list(read_texts(paths, 10**9, seed=0))) == 400


def test_documents_need_a_text(tmp_path):
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(TrainingError, match=r"a\.parquet has no column 'text' \(it has: id\)"):
        list(read_texts([str(tmp_path / "a.parquet")], 100, seed=0))


def test_blocks_hold_the_texts_with_an_end_between(tokenizer):
    rows = blocks(TEXT, tokenizer, 16)
    assert all(isinstance(row, Row) and len(row.ids) == 16 and row.prompt_tokens == 0 for row in rows)
    read = tokenizer.decode([token for row in rows for token in row.ids])
    assert f"{TEXT[0]}{END}{TEXT[1]}{END}".startswith(read)
    assert END in read


def test_tokenizer_training_is_deterministic(tokenizer):
    assert train_tokenizer(TEXT, 400).backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
