"""The report and the dataset card, on a small store written by hand; the page is judged by its parsed HTML."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import polars as pl
import pytest

from reinstruct.card import FIELDS, cell, collection, dataset_card, hub_licence
from reinstruct.commit import Count, Done, Layout, Part, Slice, close, commit
from reinstruct.corpus.source import Source, SourceFile
from reinstruct.errors import StoreError
from reinstruct.plan import Dataset, Model, measure_loss, read
from reinstruct.planfile import Plan, specs
from reinstruct.records import Document, Example, Made, Pair, Rejected, Score
from reinstruct.report import report_of, write_report
from reinstruct.report_figures import histogram, ticks
from reinstruct.report_funnel import main_path
from reinstruct.report_rows import _spread, open_run, rejected_examples
from reinstruct.report_text import clip, duration, loss_sentence, number, safe_link, share
from reinstruct.server_metrics import ServerUse
from reinstruct.stage import Ask, Filter, Transform
from reinstruct.store import LocalStore
from reinstruct.tables import ROWS, PartWriter
from reinstruct.usage import Point, Usage

NASTY = (
    """</summary></div><script>alert("x")</script><img src=x onerror='alert(1)'> "quotes" & 'more' """
    "🦊 مرحبا بالعالم"
)
THIN = "\u202f"


@dataclass(frozen=True)
class KeepLong(Filter[Document]):
    min_chars: int = 20

    def reason(self):
        return pl.when(pl.col("text").str.len_chars() < self.min_chars).then(pl.lit("short"))


@dataclass(frozen=True)
class WriteInstruction(Ask[Document, Pair]):
    def prompt(self, record):
        return record.text

    def parse(self, record, reply):
        return Pair(id=record.id, instruction=reply.text, output=record.text)


@dataclass(frozen=True)
class Reverse(Transform[Pair, Example]):
    def apply(self, record):
        return Example(id=record.id, prompt=record.output, target=record.instruction)


class Page(HTMLParser):
    """Every start tag with its attributes, and all text outside of <style>."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, f"</{tag}> closes nothing"

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if "style" not in self._open:
            self.text += data

    def all(self, tag, cls=""):
        return [attrs for name, attrs in self.tags if name == tag and cls in (attrs.get("class") or "")]


def rows_part(store, step, kind, shard, rows, record_type):
    with PartWriter(store, f"steps/{step.id}/{kind}/{shard:05d}-a.parquet", record_type) as writer:
        writer.write_records(rows)
    return writer.parts()


def finish(store, step, *shards):
    store.create(f"steps/{step.id}/layout.json", msgspec.json.encode(Layout([[Slice("x")] for _ in shards])))
    for number_, made in enumerate(shards):
        commit(store, Done(step=step.id, shard=number_, attempt="a", owner="host:1", **made))
    close(store, step.id)


def usage_of(model, began):
    """Of a shard that took five seconds and found 8 of its 21 replies."""
    points = [Point(float(second), 4, 2 * second, 20 * second) for second in range(6)]
    server = ServerUse(3, 20.0, 5.5, 1.5, 4, 0.31, 0.62, prefix_hits=600, prefix_queries=1000, tokens=100)
    told = {"retries": {"http_429": 2}, "finish": {"stop": 18, "length": 3}, "server": server}
    counts = {"asked": 13, "found": 8, "calls": 15, "prompt_tokens": 650, "completion_tokens": 100}
    return Usage(model=model, **counts, **told, began=began, seconds=5.0, points=points)


def source(name, record_type):
    return Source("/data", "jsonl", record_type, (SourceFile(name, 10, "g1"),))


def pair(index, **changes):
    lineage = (Made(step="write-instruction-0", stage="WriteInstruction", model="backward", prompt="abc123"),)
    fields = {
        "id": f"p{index}",
        "instruction": f"How do I do thing {index}?",
        "output": f"Answer {index}",
        "origin": "synthetic",
        "document": f"Document {index}",
        "url": f"https://example.org/{index}",
        "source": "guides",
        "licence": "CC0-1.0",
        "scores": (Score("quality", 4.5),),
        "lineage": lineage,
    }
    return Pair(**{**fields, **changes})


@dataclass
class Graph:
    """Corpus -> KeepLong -> WriteInstruction (by a trained model) -> seed + those; a tuned model, its loss measured."""

    def __post_init__(self):
        corpus: Dataset[Document] = read(source("corpus.jsonl", Document), name="corpus")
        seed: Dataset[Pair] = read(source("seed.jsonl", Pair), name="seed")
        self.corpus, self.seed = corpus.step, seed.step
        examples = seed.map(Reverse(), name="reversed")
        self.examples = examples.step
        backward = Model(uri="tiny/base").train(examples, "backward")
        kept = corpus.map(KeepLong(), name="select")
        written = kept.map(WriteInstruction(backward), name="write")
        self.kept, self.written = kept.step, written.step
        data = seed + written
        self.data = data.step
        tuned = Model(uri="tiny/base").train(data.map(Reverse(), name="examples"), "tuned")
        assert backward.step
        assert tuned.step
        self.backward, self.tuned = backward.step, tuned.step
        self.losses = {
            "base": measure_loss(Model(uri="tiny/base"), examples, "loss-base"),
            "tuned": measure_loss(tuned, examples, "loss-tuned"),
        }

    def plan(self, **changes):
        fields = {
            "recipe": "reinstruct",
            "settings": {"rounds": 2, "note": NASTY},
            "steps": specs(self.data, self.tuned, *self.losses.values()),
            "data": self.data.id,
            "corpus": self.corpus.id,
            "models": {"backward": self.backward.id, "tuned": self.tuned.id},
            "losses": {label: step.id for label, step in self.losses.items()},
        }
        return Plan(**{**fields, **changes})


@pytest.fixture(scope="module")
def graph():
    return Graph()


@pytest.fixture(scope="module")
def finished(graph, tmp_path_factory):
    """A store where every step is done; no test writes to it."""
    store = LocalStore(tmp_path_factory.mktemp("finished"))
    fill(store, graph)
    return store


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


def fill(store, graph, pairs=None):
    """Every step finished; `pairs` are those written, by default 40 synthetic ones."""
    pairs = [pair(index) for index in range(40)] if pairs is None else pairs
    documents = [Document(id=f"d{index}", text="word " * 10) for index in range(50)]
    finish(
        store, graph.corpus, {"parts": rows_part(store, graph.corpus, "parts", 0, documents, Document), "seconds": 2.0}
    )
    rejected = [
        Rejected(id="d1", stage="KeepLong", reason="too_short", detail=NASTY, record='{"id": "d1", "text": "tiny"}'),
        Rejected(id="d2", stage="KeepLong", reason="too_short", record="not json " + NASTY),
        *(Rejected(id=f"d{n}", stage="KeepLong", reason="code", record="[1]") for n in range(3, 9)),
    ]
    count = Count("KeepLong", read=50, kept=42, written=42, rejected={"too_short": 2, "code": 6})
    selected = {
        "parts": rows_part(store, graph.kept, "parts", 0, documents[:42], Document),
        "rejected": rows_part(store, graph.kept, "rejected", 0, rejected, Rejected),
    }
    finish(store, graph.kept, {**selected, "counts": [count], "seconds": 1.0})
    half = len(pairs) // 2
    finish(
        store,
        graph.written,
        *(
            {
                "parts": rows_part(store, graph.written, "parts", shard, rows, Pair),
                "counts": [Count("WriteInstruction", read=21, kept=len(rows), written=len(rows), unreadable=1)],
                "seconds": 5.0,
                "prompt_tokens": 700,
                "completion_tokens": 100,
                "usage": usage_of(graph.backward.id, began=1000.0 + 5 * shard),
            }
            for shard, rows in enumerate((pairs[:half], pairs[half:]))
        ),
    )
    seeds = [pair(index, id=f"s{index}", origin="seed", document="", lineage=(), licence="MIT") for index in range(5)]
    finish(store, graph.seed, {"parts": rows_part(store, graph.seed, "parts", 0, seeds, Pair)})
    curve = [[step, 3.0 - step / 10] for step in range(1, 11)]
    metrics = {"rows": 5, "rejected": {}, "steps": 10, "epochs": 3.0, "loss": 2.0, "seconds": 65, "tokens_per_s": 1200}
    tokens = {"min": 9, "median": 40, "p95": 80, "max": 1200}
    metrics |= {"packing": {"row_tokens": tokens, "efficiency": 0.987, "efficiency_if_padded": 0.123}}
    metrics |= {"rejected": {"target_too_long": 3}, "checkpoints": {"written": 2, "lost_s": 0.25}}
    metrics |= {"held_out": [[5, 2.9], [10, 2.75]], "kept_step": 10}
    for step in (graph.backward, graph.tuned):
        finish(
            store, step, {"metrics": {**metrics, "curve": curve}, "counts": [Count("Train", read=5, kept=5, written=5)]}
        )
    for label, nll in (("base", 3.5), ("tuned", 2.25)):
        measured = {"nll": nll, "perplexity": math.exp(nll), "tokens": 900, "rows": 5}
        finish(store, graph.losses[label], {"metrics": measured})


def page_of(store, plan, tmp_path):
    write_report(store, plan, tmp_path / "out" / "report.html")
    return Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))


def test_counts_of_the_funnel_follow_the_path_from_corpus_to_data(finished, graph):
    funnel = report_of(finished, graph.plan()).funnel
    assert [(row.stage, row.read, row.kept) for row in funnel.main] == [
        ("KeepLong", 50, 42),
        ("WriteInstruction", 42, 40),
    ]
    assert [(reason.name, reason.rows) for reason in funnel.main[0].reasons] == [("code", 6), ("too_short", 2)]
    assert (funnel.documents, funnel.synthetic, funnel.seed, funnel.pairs) == (50, 40, 5, 45)
    assert [row.stage for row in funnel.others] == ["Train", "Train"]


def test_main_path_without_a_corpus_is_everything_before_the_data(graph):
    assert main_path(graph.plan()) == {step.id for step in (graph.corpus, graph.kept, graph.written, graph.data)}
    assert main_path(graph.plan(corpus="")) == main_path(graph.plan()) | {graph.seed.id}


def test_page_is_one_file_that_asks_for_nothing(finished, graph, tmp_path):
    page = page_of(finished, graph.plan(), tmp_path)
    tags = {name for name, _ in page.tags}
    assert not tags & {"script", "iframe", "img", "object", "form", "base"}
    assert [attrs["href"] for attrs in page.all("link")] == ["data:,"]
    policy = [attrs["content"] for attrs in page.all("meta") if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]


def test_hostile_text_stays_text_and_only_web_links_are_links(store, graph, tmp_path):
    bad = "javascript:alert(1)//" + "a" * 90
    hostile = [
        pair(0, id=NASTY, instruction=NASTY, output=NASTY * 400, document=NASTY, source=NASTY, licence=NASTY, url=bad),
        pair(1, url='https://example.org/"onclick="alert(1)', lineage=(Made(step=NASTY, stage=NASTY, prompt=NASTY),)),
        pair(2, url="data:text/html,<script>1</script>", scores=(Score(NASTY, 1.0),)),
    ]
    fill(store, graph, hostile)
    page = page_of(store, graph.plan(), tmp_path)
    assert not {name for name, _ in page.tags} & {"script", "img"}
    links = [attrs["href"] for attrs in page.all("a") if not (attrs["href"] or "").startswith("#")]
    assert links == ['https://example.org/"onclick="alert(1)']
    assert '<script>alert("x")</script>' in page.text
    assert "مرحبا" in page.text
    assert "more characters are in the dataset" in page.text
    assert all(attrs.get("dir") == "auto" for attrs in page.all("div", "text") + page.all("details", "text"))


def test_rejected_examples_are_a_few_of_each_reason(finished, graph):
    reasons = {reason.name: reason for reason in report_of(finished, graph.plan()).funnel.main[0].reasons}
    assert len(reasons["code"].examples) == 3
    first, second = reasons["too_short"].examples
    assert (first.id, first.texts) == ("d1", (("text", clip("tiny")),))
    assert first.detail.head == NASTY
    assert second.texts[0][1].head == "not json " + NASTY


def test_looking_for_rejected_examples_stops_after_some_row_groups(store, graph):
    common = [Rejected(id=f"a{n}", stage="KeepLong", reason="common") for n in range(3000)]
    rare = [Rejected(id="b", stage="KeepLong", reason="rare")]
    counts = [Count("KeepLong", read=3001, kept=0, rejected={"common": 3000, "rare": 1})]
    finish(
        store,
        graph.kept,
        {"rejected": rows_part(store, graph.kept, "rejected", 0, common, Rejected), "counts": counts},
        {"rejected": rows_part(store, graph.kept, "rejected", 1, rare, Rejected)},
    )
    result = open_run(store, graph.plan()).results[graph.kept.id]
    near = rejected_examples(store, result, groups=2)
    far = rejected_examples(store, result)
    assert {key: [row.id for row in rows] for key, rows in near.items()} == {("KeepLong", "common"): ["a0", "a1", "a2"]}
    assert [row.id for row in far["KeepLong", "rare"]] == ["b"]


def test_samples_are_synthetic_the_same_every_time_and_thirty_at_most(finished, graph, tmp_path):
    run = open_run(finished, graph.plan())
    drawn = run.sample(30)
    assert len({found.id for found in drawn}) == 30
    assert {found.origin for found in drawn} == {"synthetic"}
    assert [found.id for found in drawn] != sorted(found.id for found in drawn)
    assert run.sample(10) == drawn[:10]
    assert len(page_of(finished, graph.plan(), tmp_path).all("article", "sample")) == 30


@pytest.mark.slow
def test_rows_of_large_datasets_are_looked_at_in_part_from_all_over(store, graph):
    pairs = [pair(index) for index in range(25_000)]
    finish(
        store,
        graph.written,
        *({"parts": rows_part(store, graph.written, "parts", n, pairs[n::5], Pair)} for n in range(5)),
    )
    run = open_run(store, graph.plan(data=graph.written.id))
    looked_at = len(run.lengths()["synthetic"]["response"])
    assert 10_000 < looked_at <= 20_480
    assert run.count("origin") == {"synthetic": 25_000}
    assert len({int(found.id[1:]) % 5 for found in run.sample(30)}) == 5


def test_lengths_count_characters_not_bytes(store, graph):
    fill(store, graph, [pair(0, document="日本語", instruction="ab", input="c", output="🦊")])
    lengths = open_run(store, graph.plan()).lengths()
    assert lengths["synthetic"] == {"document": [3], "instruction": [3], "response": [1]}
    assert lengths["seed"]["document"] == []


def test_figures_say_in_words_what_they_show(finished, graph, tmp_path):
    page = page_of(finished, graph.plan(), tmp_path)
    figures = page.all("svg")
    assert len(figures) == 3 + 2 + 2 * 2
    assert all(attrs["role"] == "img" for attrs in figures)
    assert len(page.all("title")) == 1 + len(figures)
    assert len(page.all("desc")) == len(figures)
    assert "loss (nats) over step: from 2.900 at 1 to 2.000 at 10" in page.text


def test_anchors_lead_to_steps_of_the_plan_and_other_steps_have_none(finished, graph, tmp_path):
    page = page_of(finished, graph.plan(), tmp_path)
    ids = {attrs["id"] for _, attrs in page.tags if attrs.get("id")}
    wanted = {href[1:] for attrs in page.all("a") if (href := attrs["href"] or "").startswith("#")}
    assert wanted - ids == set()
    assert f"step-{graph.written.id}" in wanted
    assert "step-write-instruction-0" not in wanted


def test_costs_add_up(finished, graph):
    report = report_of(finished, graph.plan())
    steps = {step.name: step for step in report.steps}
    write = steps["write"]
    assert (write.shards, write.rows, write.seconds) == (2, 40, 10.0)
    assert (write.prompt_tokens, write.completion_tokens, write.speed) == (1400, 200, 20.0)
    assert write.models == (graph.backward.id,)
    assert (write.kind, steps["select"].kind, steps["backward"].kind) == ("ask", "map", "train")
    assert steps["tuned"].speed == 1200
    assert report.tokens == 1600
    assert report.base_models == ["tiny/base"]


def test_what_asking_took_is_summed_over_shards(finished, graph, tmp_path):
    (row,) = report_of(finished, graph.plan()).asked
    assert (row.step, row.model) == (graph.written.id, graph.backward.id)
    assert (row.replies, row.found, row.calls, row.failed) == (42, 16, 30, "http_429 4")
    assert (row.prompt_tokens, row.completion_tokens, row.tokens_per_s) == (1300, 200, 20.0)
    assert (row.finishes, row.unreadable) == (f"length 14.3{THIN}%", f"4.8{THIN}%")
    assert f"31{THIN}% full on average and 62{THIN}% at most" in row.server
    assert f"60{THIN}% of prompt tokens" in row.server
    assert [title for title, _ in row.figures] == ["write: calls in flight", "write: new tokens a second"]
    page = page_of(finished, graph.plan(), tmp_path)
    assert "write: new tokens a second" in page.text
    assert "5.5 requests running and 1.5 waiting" in page.text


def test_nothing_run_yet_gives_a_page_that_says_so(store, graph, tmp_path):
    page = page_of(store, graph.plan(), tmp_path)
    assert page.text.count("not started") >= len(graph.plan().steps) - 1
    assert "steps are not finished" in page.text
    assert "The dataset has no pairs yet." in page.text
    assert "There are no synthetic pairs to show." in page.text
    assert "No finished step has asked a model." in page.text
    assert page.text.count("not measured yet") == 2


def test_steps_under_way_tell_how_far_they_are(store, graph):
    layout = Layout([[Slice("a")], [Slice("b")], [Slice("c")]])
    store.create(f"steps/{graph.kept.id}/layout.json", msgspec.json.encode(layout))
    commit(store, Done(step=graph.kept.id, shard=1, attempt="a", owner="o"))
    states = {step.name: step.state for step in report_of(store, graph.plan()).steps}
    assert states["select"] == "1 of 3 shards done"
    assert states["concat"] == "waits for seed, write"


def test_trainings_say_what_they_learnt_from_and_what_it_took(finished, graph, tmp_path):
    tuned = report_of(finished, graph.plan()).trainings[-1]
    assert tuned.numbers == ("5", "10", "3.0", "2.000", "2.750 at step 10", f"1{THIN}200", f"1{THIN}min 5{THIN}s")
    assert tuned.rows == ("target_too_long 3", f"9 / 40 / 80 / 1{THIN}200", "0.99", "0.12", f"2, 0.2{THIN}s")
    assert [title for title, _ in tuned.curves] == ["tuned", "tuned: held-out rows"]
    text = page_of(finished, graph.plan(), tmp_path).text
    assert "target_too_long 3" in text
    assert "2.750 at step 10" in text


def test_a_recipe_without_models_losses_or_settings_says_so(store, graph, tmp_path):
    kept = graph.corpus
    finish(store, kept, {"counts": [Count("Read")]})
    plan = Plan(recipe="plain", steps=specs(kept), data=kept.id, corpus=kept.id)
    page = page_of(store, plan, tmp_path)
    for word in ("trains no model", "measures no held-out loss", "records no settings", "no pairs to measure"):
        assert word in page.text


def test_files_that_are_passed_over_are_told(store, tmp_path):
    files = "2 files of other endings (a.xyz, <b>.xyz)"
    docs = read(replace(source("corpus.jsonl", Document), passed_over=files), name="docs").step
    page = page_of(store, Plan(recipe="plain", steps=specs(docs), data=docs.id), tmp_path)
    assert f"docs: {files}" in page.text


def test_metrics_of_any_shape_do_not_break_the_page(store, graph, tmp_path):
    plan = graph.plan()
    finish(store, graph.backward, {"metrics": {"curve": [[1], [2, None], [0, 5.0]], "loss": "nan", "rows": True}})
    finish(store, graph.losses["base"], {"metrics": {"nll": None}})
    report = report_of(store, plan)
    backward = next(training for training in report.trainings if training.label == "backward")
    assert backward.numbers == ("–",) * 7
    assert backward.rows == ("none", "–", "–", "–", "–")
    assert [title for title, _ in backward.curves] == ["backward"]
    assert report.losses[0].nll is None
    assert "not measured yet" in page_of(store, plan, tmp_path).text


def test_lost_rows_are_an_error_with_their_name(store, graph, tmp_path):
    part = Part("steps/x/parts/gone.parquet", 1, "0", 5)
    finish(store, graph.seed, {"parts": [part]})
    with pytest.raises(StoreError, match=r"has lost steps/x/parts/gone\.parquet"):
        write_report(store, graph.plan(), tmp_path / "report.html")


def test_the_verdict_on_losses_says_no_more_than_the_numbers():
    same = {"a": 900.0, "b": 900.0}
    gap = "The lowest loss is that of b: 2.000 nats per token, 0.500 below a."
    assert loss_sentence({"a": 2.5, "b": 2.0}, same) == gap
    assert loss_sentence({"a": 2.5, "b": 2.0}, same, missing=1) == f"{gap} Not measured yet: 1 more."
    assert "less than 0.001 below b" in loss_sentence({"a": 2.0, "b": 2.0001}, same)
    assert loss_sentence({"a": 2.0, "b": 2.0}, same) == "The lowest loss is the same for a and b: 2.000 nats per token."
    assert loss_sentence({"a": 2.0}, same) == "Only a was measured: 2.000 nats per token."
    assert loss_sentence({}, {}) == ""
    assert "compare only roughly" in loss_sentence({"a": 2.5, "b": 2.0}, {"a": 900.0, "b": 800.0})


def test_numbers_as_people_read_them():
    assert (number(1234567), number(None), number(2.345, 2)) == (f"1{THIN}234{THIN}567", "–", "2.35")
    assert [share(part, 10_000) for part in (0, 1, 1234, 9999, 10_000)] == [
        f"{text}{THIN}%" for text in ("0.0", "< 0.1", "12.3", "> 99.9", "100.0")
    ]
    assert share(1, 0) == "–"
    assert [duration(seconds) for seconds in (7.25, 59.99, 200, 3599.7, 7500)] == [
        text.replace("_", THIN) for text in ("7.2_s", "1_min 0_s", "3_min 20_s", "1_h 0_min", "2_h 5_min")
    ]


def test_clips_keep_every_character_up_to_the_limit():
    text = "word " * 1000
    cut = clip(text)
    assert cut.head + cut.rest == text
    assert len(cut.head) <= 480
    assert clip("x" * 10_000).left_out == 4000
    assert clip("short").rest == ""
    assert clip("a\n" * 20).head == "a\n" * 11 + "a"


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "//host/x", "http://", "http://[x", "", "file:///etc"]
)
def test_no_link_leads_out_of_the_web(url):
    assert safe_link(url) == ""


def test_ticks_cover_the_range_with_round_steps():
    assert ticks(0, 3000) == [0, 1000, 2000, 3000]
    assert ticks(1.92, 3.4) == [1.5, 2.0, 2.5, 3.0, 3.5]
    assert ticks(0, 87) == [0, 20, 40, 60, 80, 100]
    assert ticks(2, 2) == [2.0, 2.5]
    assert ticks(0, 0)[0] == 0


def test_histogram_gathers_the_longest_in_the_last_bin():
    figure = histogram("Lengths", {"synthetic": [10] * 99 + [100_000], "seed": []}, "characters")
    assert "≥" in figure
    assert "seed" not in figure


def test_card_tells_sizes_licences_and_where_the_rows_lie(store, graph):
    sources = [pair(index, source=f"site {index:02}") for index in range(40)]
    fill(store, graph, [*sources, pair(99, licence="evil | <b>x</b>\nrow", source="a|b")])
    card = dataset_card(store, graph.plan())
    header = card.split("---\n")[1]
    assert "license: other" in header
    assert "- n<1K" in header
    assert 'path: "train-*.parquet"' in header
    assert "| CC0-1.0 | 40 |" in card
    assert r"| evil \| &lt;b&gt;x&lt;/b&gt; row | 1 |" in card
    assert "| KeepLong | 50 | 42 | 8 | code 6, too_short 2 |" in card
    assert "and 22 more." in card
    assert "abc123" in card
    assert "<script>" not in card


def test_card_of_nothing(store, graph):
    card = dataset_card(store, graph.plan())
    assert card.count("The dataset has no rows yet.") == 2


def test_card_names_every_field_of_a_row():
    assert tuple(FIELDS) == Pair.__struct_fields__


def test_one_licence_the_hub_knows_is_the_licence_of_the_card():
    assert hub_licence(Counter({"CC0 1.0": 3})) == "cc0-1.0"
    assert hub_licence(Counter({"MIT": 3, "": 1})) == "other"
    assert hub_licence(Counter({"my own": 3})) == "other"
    assert hub_licence(Counter()) == "other"


def test_cells_are_one_line_of_plain_text():
    assert cell("a|b\n[x](javascript:1) `c` <i>") == r"a\|b \[x\](javascript:1) \`c\` &lt;i&gt;"
    assert len(cell("x" * 500)) == 201


def test_sources_are_counted_by_collection():
    given = ("github.com/a/b@93af:x/y.md#3", "https://example.org/page/1", "guides", "", "gutenberg: 12")
    assert [collection(source) for source in given] == ["github.com/a/b", "example.org", "guides", "", "gutenberg"]


def test_rows_looked_at_are_spread_evenly_over_parts_of_any_size(tmp_path: Path):
    store, parts = LocalStore(tmp_path), []
    for name, groups in (("long", 30), ("short", 2)):
        with PartWriter(store, f"{name}.parquet", Document) as writer:
            for start in range(groups):
                writer.write_records([Document(id=f"{name}{start}", text="x")] * ROWS)
        parts += writer.parts()
    some = [(name, group) for name, group, _ in _spread(store, [*parts, parts[0]], ["id"], 8 * ROWS)]
    assert some == [("long.parquet", 4 * n) for n in range(8)]
    assert len(list(_spread(store, parts, ["id"], 32 * ROWS))) == 32
