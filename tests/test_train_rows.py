"""Examples as token ids: exact masks, in the tensors of a batch too, refusals with reasons, and how they are kept."""

import random
from array import array

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from reinstruct.architecture import DECODER, ENCODER_DECODER
from reinstruct.errors import TrainingError
from reinstruct.prompting import prompt_ids, target_ids, without_clock
from reinstruct.records import Document, Example, Message, to_table
from reinstruct.train.rows import Refused, Shape, encode, encode_all, encode_once, encode_portion, read_examples
from reinstruct.train.text import END, blocks, read_enough, read_texts, train_tokenizer
from reinstruct.train.tokens import PORTION, PORTION_CHARACTERS, Row, TokenRows, as_batch, portions, read, write

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


def test_a_template_that_tells_the_day_tells_the_same_day_always(framing_tokenizer):
    framing_tokenizer.chat_template = (
        "{%- if not date is defined %}{%- set date = strftime_now('%d %b %Y') %}{%- endif %}"
        '{{ date }}, {{ strftime_now( "%Y" ) }}: {% for m in messages %}{{ m.content }}{% endfor %}'
    )
    asked = (Message("user", "fox"),)
    assert framing_tokenizer.decode(prompt_ids(framing_tokenizer, asked)) == "01 Jan 2024, 2024: fox"
    pinned = without_clock(framing_tokenizer.chat_template)
    assert "strftime_now" not in pinned
    assert without_clock(pinned) == pinned
    assert without_clock(None) is None


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
    """(ids, labels) of rows side by side; no position behind a row is learnt or seen, and none before it is filled."""
    assert batch.keys() == {"input_ids", "labels", "attention_mask"}
    assert batch["attention_mask"].sum(1).tolist() == lengths
    assert all(mask[:length].all() for mask, length in zip(batch["attention_mask"], lengths, strict=True))
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


ROWS = [Row(f"row {n}", array("i", range(n, n + n % 7 + 2)), n % 3, "web" if n % 2 else "") for n in range(50)]


def in_chunks(rows, size):
    return TokenRows(pa.Table.from_batches([as_batch(rows[at : at + size]) for at in range(0, len(rows), size)]))


def test_rows_in_chunks_are_rows_in_one():
    whole = TokenRows.of(ROWS)
    assert list(whole) == ROWS
    for size in (1, 7, 49, 50):
        rows = in_chunks(ROWS, size)
        assert (list(rows), rows[-1], len(rows)) == (ROWS, ROWS[-1], 50)
        assert (rows.lengths, rows.prompt_lengths) == (whole.lengths, whole.prompt_lengths)
        assert (list(rows.ids), rows.origins) == (list(whole.ids), whole.origins)
        assert rows.target_tokens == whole.target_tokens
        assert (rows.digest(), rows.content) == (whole.digest(), whole.content)
        for part in (slice(5, 23), slice(13, 14), slice(0, 0), slice(None, None, 3), slice(20, 3, -2)):
            assert list(rows[part]) == ROWS[part]
            assert rows[part].digest() == TokenRows.of(ROWS[part]).digest()


def test_digests_of_rows_stay_what_they_were():
    """Checkpoints are known by them."""
    digest = "b91ad2af069296c5b0f710845069b5994f0b9948e911531e743b44eb0384424e"
    assert in_chunks(ROWS, 7).digest() == digest


def test_tokens_are_looked_at_where_they_lie(tmp_path):
    write([as_batch(ROWS[:20]), as_batch(ROWS[20:])], tmp_path / "tokens.arrow", "key", dict)
    before = pa.total_allocated_bytes()
    rows, notes = read(tmp_path / "tokens.arrow", "key")
    assert (list(rows), notes) == (ROWS, {})
    assert pa.total_allocated_bytes() == before
    assert all(not rows.tokens(row).flags.owndata for row in range(50))


def test_batches_are_written_as_they_come_and_notes_at_the_end(tmp_path):
    told = {}

    def batches():
        for at in (0, 25):
            told["rows"] = str(at + 25)
            yield as_batch(ROWS[at : at + 25])
            assert not (tmp_path / "tokens.arrow").exists()

    write(batches(), tmp_path / "tokens.arrow", "key", lambda: dict(told))
    rows, notes = read(tmp_path / "tokens.arrow", "key")
    assert (list(rows), notes) == (ROWS, {"rows": "50"})
    assert read(tmp_path / "tokens.arrow", "other") is None
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.arrow"]


def test_nothing_is_left_of_a_file_that_is_not_finished(tokenizer, tmp_path):
    pq.write_table(to_table([example(target="")], Example), tmp_path / "a.parquet")
    with pytest.raises(TrainingError, match="1 empty_target"):
        encode_once([str(tmp_path / "a.parquet")], tokenizer, 60, tmp_path / "work" / "tokens.arrow")
    assert list((tmp_path / "work").iterdir()) == []


def test_a_file_that_is_damaged_anywhere_is_not_used(tmp_path):
    path = tmp_path / "tokens.arrow"
    write([as_batch(ROWS[:20]), as_batch(ROWS[20:])], path, "key", lambda: {"notes": "told"})
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        assert read(path, "key") is None
    for at in range(0, len(content), 11):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :])
        found = read(path, "key")  # a byte may be one that says nothing: padding
        assert found is None or (list(found[0]), found[1]) == (ROWS, {"notes": "told"})


@pytest.mark.parametrize("damage", [b"", b"ARROW1\0\0", b"no rows", None])
def test_a_file_that_cannot_be_read_is_made_anew(kept, tokenizer, tmp_path, damage):
    path, first = kept
    file = tmp_path / "tokens.arrow"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    again = encode_once([path], tokenizer, 60, file)
    assert (again.rows.digest(), again.refused) == (first.rows.digest(), first.refused)
    assert file.read_bytes() == whole


def test_a_file_with_other_tokens_than_were_written_is_made_anew(kept, tokenizer, tmp_path):
    path, first = kept
    file = tmp_path / "tokens.arrow"
    whole = file.read_bytes()
    ids = first.rows.tokens(0).tobytes()
    assert whole.count(ids) == 1
    file.write_bytes(whole.replace(ids, bytes(len(ids))))
    assert encode_once([path], tokenizer, 60, file).rows.digest() == first.rows.digest()
    assert file.read_bytes() == whole


def test_portions_are_bounded_in_number_and_in_characters():
    assert [len(portion) for portion in portions(["a"] * (2 * PORTION + 5), len)] == [PORTION, PORTION, 5]
    texts = ["x" * (PORTION_CHARACTERS // 2)] * 5
    assert [len(portion) for portion in portions(texts, len)] == [2, 2, 1]
    assert list(portions([], len)) == []


@pytest.mark.parametrize("architecture", [DECODER, ENCODER_DECODER])
@pytest.mark.parametrize("template", [None, CHAT])
@pytest.mark.parametrize("framed", [False, True])
def test_many_examples_have_the_ids_of_each_alone(tokenizer, framing_tokenizer, architecture, template, framed):
    draw, made = random.Random(2), framing_tokenizer if framed else tokenizer
    examples = [
        example(
            draw.choice(["", random_text(draw)]),
            draw.choice(["", random_text(draw), random_text(draw)]),
            id=f"e{n}",
            messages=tuple(Message("user", random_text(draw)) for _ in range(draw.randint(0, 2))),
        )
        for n in range(200)
    ]
    made.chat_template = template
    shape = Shape(architecture, prompt=60)
    together = encode_portion(examples, made, 90, shape)
    assert together == [alone(each, made, 90, shape) for each in examples]
    assert len({getattr(row, "reason", "row") for row in together}) == 5
    made.chat_template = None


def alone(example, tokenizer, limit, shape):
    """An example encoded text by text, as transformers' own calls make its ids."""
    if example.prompt and example.messages:
        return Refused(example.id, "prompt_and_messages")
    if not example.target.strip():
        return Refused(example.id, "empty_target")
    if example.messages:
        turns = [{"role": message.role, "content": message.content} for message in example.messages]
        how = {"chat_template": tokenizer.chat_template or shape.architecture.template, "add_generation_prompt": True}
        prompt = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False, **how)
    else:
        prompt = tokenizer(example.prompt)["input_ids"]
        ended = prompt[-1:] == [tokenizer.eos_token_id] and not example.prompt.endswith(END)
        prompt = prompt[:-1] if shape.architecture is DECODER and ended else prompt
        prompt = prompt or [tokenizer.eos_token_id]
    if len(prompt) > min(shape.prompt, limit - 2):
        return Refused(example.id, "prompt_too_long", len(prompt))
    target = tokenizer(example.target, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    ids = array("i", [*prompt, *target, tokenizer.eos_token_id])
    return Refused(example.id, "target_too_long", len(ids)) if len(ids) > limit else Row(example.id, ids, len(prompt))


class ByBytes:
    """A tokenizer that is not fast, and takes one text at a time."""

    eos_token, eos_token_id, unk_token_id, chat_template = "<end>", 1, None, None

    def __call__(self, text, **options):
        return {"input_ids": [byte + 2 for byte in text.encode()]}

    def apply_chat_template(self, turns, **options):
        return self("".join(turn["content"] for turn in turns))["input_ids"]


def test_tokenizers_that_are_not_fast_get_text_by_text():
    examples = [example("ab", "c", id="a"), example("", "de", id="b", messages=(Message("user", "fg"),))]
    found = encode_all(examples, ByBytes(), 60).rows
    assert [bytes(id - 2 for id in row.ids[:-1]) for row in found] == [b"abc", b"fgde"]


@pytest.fixture
def lacking_tokenizer():
    """One without braces, that makes spaces of line breaks, as T5's."""
    letters = [(chr(number), -2.0) for number in range(32, 123)]
    raw = Tokenizer(models.Unigram([("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *letters], unk_id=2))
    raw.normalizer = normalizers.Replace(Regex(r"\s+"), " ")
    raw.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def test_targets_the_tokenizer_cannot_spell_are_refused(lacking_tokenizer):
    examples = [
        example(id="plain"),
        example("{}", id="asked with braces"),
        example(target='{"a": 1}', id="JSON"),
        example(target="- a\n- b", id="list"),
        example(target="{" + "ab" * 40, id="long"),
    ]
    found = encode_all(examples, lacking_tokenizer, 60)
    assert found.reasons == {"target_too_long": 1, "unknown_tokens": 1}
    assert found.refused[0] == Refused("JSON", "unknown_tokens", len("Say it:") + len('{"a": 1}') + 1)
    assert list(found.rows.ids) == ["plain", "asked with braces", "list"]
    listed = found.rows[2]
    assert lacking_tokenizer.decode(listed.ids[listed.prompt_tokens : -1]) == "- a - b"


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


@pytest.mark.parametrize(("text", "held"), [("x" * 4_000, 1_000), ("\u65e5\u672c" * 2_000, 1_000), ("short", 3)])
def test_enough_is_read_however_little_is_asked_for(tmp_path, text, held):
    """The draw of a few long documents, or of texts of three bytes a character, falls short otherwise."""
    path = str(tmp_path / "a.parquet")
    pq.write_table(to_table([Document(id=str(n), text=f"{n} {text}") for n in range(held)], Document), path)
    for seed in range(5):
        read = read_enough([path], 5_000, 20_000, seed)
        assert read == read_enough([path], 5_000, 20_000, seed)
        assert sum(map(len, read)) >= 20_000 or len(read) == held
        assert len(read) < 50


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


def test_blocks_of_many_texts_are_those_of_texts_in_one_call(tokenizer):
    draw = random.Random(3)
    texts = [random_text(draw) for _ in range(2 * PORTION + 7)]
    encoded = tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    stream = [token for text in encoded for token in [*text.ids, tokenizer.eos_token_id]]
    found = [token for row in blocks(texts, tokenizer, 16) for token in row.ids]
    assert found == stream[: len(found)]
    assert len(stream) - len(found) < 16


def test_tokenizer_training_is_deterministic(tokenizer):
    assert train_tokenizer(TEXT, 400).backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
