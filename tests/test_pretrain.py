"""`reinstruct pretrain`: its plan, its mistakes, and a model with its card."""

import json
import random

import pytest
import yaml

from reinstruct.errors import RecipeError
from reinstruct.pretrain import Wanted, plan_pretraining
from reinstruct.train.model_card import licence_of
from reinstruct.train.settings import Pretrain
from tests.test_cli import complain, in_a_process, reinstruct

THINGS = [
    "river",
    "mill",
    "town",
    "hill",
    "field",
    "road",
    "bridge",
    "boat",
    "garden",
    "house",
    "wall",
    "market",
    "winter",
    "summer",
    "harvest",
]
DOES = [
    "carries",
    "feeds",
    "turns",
    "passes",
    "reaches",
    "follows",
    "joins",
    "leaves",
    "crosses",
    "keeps",
    "finds",
    "shows",
]


def sentence(draw):
    one, other, last = draw.sample(THINGS, 3)
    return f"The {one} {draw.choice(DOES)} the {other}, and it {draw.choice(DOES)} the {last} as well."


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Eight hundred documents of made sentences, from eighty books; every fourth may not be used."""
    draw, folder = random.Random(0), tmp_path_factory.mktemp("corpus")
    rows = [
        {
            "id": f"d{n}",
            "text": f"Book {n % 80}\n\n" + "\n\n".join(" ".join(sentence(draw) for _ in range(4)) for _ in range(3)),
            "source": f"books/{n % 80}.md#{n // 80}",
            "licence": "All rights reserved" if n % 4 == 3 else "Public domain",
        }
        for n in range(800)
    ]
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_what_changes_the_model_changes_its_step_alone(corpus):
    def step(**changed):
        return plan_pretraining(Wanted([str(corpus)], **changed)).models["model"]

    first = step()
    assert step() == first
    for changed in ({"licences": ("public",)}, {"limit": 5}, {"settings": Pretrain("tiny")}):
        assert step(**changed) != first
    for settings in (Pretrain("mini", seed=1), Pretrain("mini", tokens=9)):
        assert step(settings=settings) != first


def test_the_licence_of_a_model_changes_no_step(corpus):
    plans = [plan_pretraining(Wanted([str(corpus)], model_licence=licence)) for licence in ("", " mit ")]
    assert [plan.settings["model_licence"] for plan in plans] == ["", "mit"]
    assert plans[0].steps == plans[1].steps


def test_mistakes_are_named(corpus):
    for wrong, said in (
        (Wanted([]), "pretrain needs a corpus"),
        (Wanted([str(corpus)], licences=(" ",)), "--licence is empty"),
        (Wanted([str(corpus)], limit=-1), "limit is -1; accepted"),
        (Wanted([str(corpus)], held_out=0), "held_out is 0; accepted: a share of the sources"),
    ):
        with pytest.raises(RecipeError, match=said):
            plan_pretraining(wrong)


MISTAKES = {
    "a size there is not": (["--size", "mnii"], ["size is 'mnii'", "tiny, mini, small"]),
    "an unknown flag": (["--licences", "x"], ["--licences"]),
    "a file for --out": (["--out", "{corpus}"], ["--out is", "is a file"]),
    "tokens below 0": (["--tokens", "-5"], ["tokens is -5"]),
}


@pytest.mark.parametrize(("flags", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence(corpus, tmp_path, flags, words):
    flags = [flag.format(corpus=corpus) for flag in flags]
    line = complain(reinstruct("pretrain", str(corpus), "--out", str(tmp_path / "out"), *flags))
    assert [word for word in words if word not in line] == []
    assert not (tmp_path / "out").exists()


def test_an_absent_corpus_is_named(tmp_path):
    line = complain(reinstruct("pretrain", str(tmp_path / "absent.jsonl"), "--out", str(tmp_path / "out")))
    assert "absent.jsonl: no such file" in line


def header(card):
    return yaml.safe_load(card.split("---\n")[1])


@pytest.mark.slow
def test_a_model_is_made_with_its_card_and_found_again(corpus, tmp_path):
    flags = ("--size", "tiny", "--tokens", "40000", "--licence", "public domain", "--workers", "1", "--out", "out")
    said = in_a_process("pretrain", str(corpus), *flags, cwd=tmp_path)
    assert said.code == 0, said.err
    folder = tmp_path / "out" / "model"
    figures = json.loads((folder / "metrics.json").read_text())
    card = (folder / "README.md").read_text()
    held_out = figures["held_out"]
    assert held_out["nll_per_token"] < 4  # 8.3 is what guessing costs
    assert 0 < held_out["bits_per_byte"] < 3
    assert figures["steps"] == 40000 // 1024
    assert f"{held_out['bits_per_byte']:.4f}" in card
    assert "| Public domain | " in card
    assert "All rights reserved" not in card
    assert "other_licence 200" in card
    assert "books" in card
    assert header(card)["tags"] == ["base-model"]
    assert "license" not in header(card)
    again = in_a_process("pretrain", str(corpus), *flags, "--model-licence", 'My own: "free"', cwd=tmp_path)
    assert " 0 steps run" in again.out.replace("\n", " ")
    assert header((folder / "README.md").read_text())["license"] == 'My own: "free"'
    assert licence_of(str(folder)) == 'My own: "free"'

    from reinstruct.serving import existing_model

    assert existing_model(str(folder)).fingerprint


@pytest.mark.slow
def test_a_licence_that_no_document_has_is_told(corpus, tmp_path):
    said = in_a_process("pretrain", str(corpus), "--licence", "mit", "--workers", "1", "--out", "out", cwd=tmp_path)
    assert said.code == 2
    assert "let none of 800 documents through: other_licence 800" in said.err
