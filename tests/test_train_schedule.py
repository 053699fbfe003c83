"""Which row is trained on when: epochs, weights, curricula, held-out rows. No torch is needed."""

import random
from array import array
from collections import Counter

import pytest

from reinstruct.errors import RecipeError, TrainingError
from reinstruct.train.packing import PACKED, PADDED
from reinstruct.train.packing import plan as packed_plan
from reinstruct.train.schedule import Schedule, fingerprint, order, plan, split
from reinstruct.train.settings import Sft
from reinstruct.train.tokens import Row, TokenRows


def some_rows(count, origins=("",), ids=None):
    """Rows of random lengths, origins in turn."""
    draw = random.Random(1)
    return TokenRows.of(
        [
            Row(ids[n] if ids else f"r{n}", array("i", [7] * draw.randint(2, 40)), 1, origins[n % len(origins)])
            for n in range(count)
        ]
    )


def epochs(rows, steps, batch, **settings):
    return order(rows, range(len(rows)), Schedule(steps, batch, Sft(**settings)))


def test_every_row_comes_equally_often():
    assert Counter(epochs(some_rows(10), 5, 4, seed=3)) == Counter(dict.fromkeys(range(10), 2))


def test_order_hangs_on_the_seed_alone():
    assert epochs(some_rows(32), 8, 8, seed=1) == epochs(some_rows(32), 8, 8, seed=1)
    assert epochs(some_rows(32), 8, 8, seed=1) != epochs(some_rows(32), 8, 8, seed=2)


def test_epochs_are_shuffled_apart():
    planned = epochs(some_rows(32), 2, 32)
    assert sorted(planned[:32]) == sorted(planned[32:])
    assert planned[:32] != planned[32:]


def test_rows_come_as_given_or_from_short_to_long():
    rows = some_rows(30)
    assert epochs(rows, 4, 15, order="given").tolist() == [*range(30), *range(30)]
    lengths = [rows.lengths[row] for row in epochs(rows, 4, 15, order="shortest")]
    assert lengths == sorted(rows.lengths) * 2


def test_weights_say_how_often_an_origin_is_shown():
    rows = some_rows(300, ("seed", "web", "other"))
    settings = Sft(weights=("seed=2.0", "web=0.25"), epochs=4, batch_size=65)
    schedule = plan(settings, rows, range(300))
    assert schedule.steps * schedule.batch == 4 * (200 + 25 + 100)
    seen = Counter(rows.origins[row] for row in order(rows, range(300), schedule))
    assert seen["seed"] / seen["other"] == pytest.approx(2, rel=0.1)
    assert seen["web"] / seen["other"] == pytest.approx(0.25, rel=0.3)
    shown = Counter(row for row in order(rows, range(300), schedule) if rows.origins[row] == "web")
    assert len(shown) > 50  # others in each epoch


def test_no_weight_at_all_is_an_error():
    rows = some_rows(9, ("web",))
    with pytest.raises(TrainingError, match="no row to train on: weights is web=0"):
        plan(Sft(weights=("web=0",)), rows, range(9))
    assert 0 not in epochs(some_rows(2, ("web", "seed")), 4, 2, weights=("web=0",))


@pytest.mark.parametrize(("rows", "batch", "steps"), [(600, 128, 15), (175, 32, 17), (3, 1, 9), (512, 128, 12)])
def test_batches_are_at_most_a_quarter_of_the_rows(rows, batch, steps):
    schedule = plan(Sft(), some_rows(rows), range(rows))
    assert (schedule.batch, schedule.steps) == (batch, steps)


def test_batches_split_evenly_over_processes():
    assert plan(Sft(), some_rows(600), range(600), processes=6).batch == 126
    assert plan(Sft(), some_rows(3), range(3), processes=4).batch == 4


def test_held_out_rows_are_chosen_by_id_and_copies_stay_together():
    ids = [f"r{n // 2}" + ("#2" if n % 2 else "") for n in range(200)]
    rows = some_rows(200, ids=ids)
    trained, held_out = split(rows, 0.2, seed=0)
    assert sorted(trained + held_out) == list(range(200))
    assert 20 <= len(held_out) <= 60
    assert all(held_out.count(row ^ 1) == 1 for row in held_out)
    assert split(rows, 0.2, seed=1)[1] != held_out
    assert split(rows, 0.0, seed=0) == (range(200), range(0))


def test_a_split_that_leaves_nothing_is_an_error():
    with pytest.raises(TrainingError, match=r"held_out is 0\.01: of 2 rows it leaves 2 to train on, 0 out"):
        split(some_rows(2), 0.01, seed=0)


def test_checkpoints_belong_to_what_changes_the_weights():
    def mark(rows=some_rows(9), steps=5, held_out=(), **settings):
        return fingerprint(Schedule(steps, 2, Sft(**settings)), rows, held_out)

    same = [mark(), mark(epochs=3), mark(epochs=3.0), mark(checkpointing="yes"), mark(report_to=("wandb",))]
    others = [mark(some_rows(8)), mark(steps=6), mark(held_out=[1]), mark(seed=1), mark(weights=("web=2",))]
    assert len({*same}) == 1
    assert len({*same, *others}) == 6


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"end_ratio": 0.5}, "end_ratio is 0.5; accepted: 0.0, where schedule is constant"),
        ({"schedule": "cosine", "decay_ratio": 0.5}, "decay_ratio is 0.5; accepted: 0.1, where schedule is cosine"),
        ({"learning_rate": float("inf")}, "learning_rate is inf; accepted: a number above 0"),
        ({"seed": -1}, "seed is -1; accepted: 0 or more"),
        (
            {"quantize": "4bit", "lora_rank": 8, "lora_continue": True},
            "accepted: nothing with lora_continue",
        ),
    ],
)
def test_settings_that_would_change_nothing_or_break_later_are_refused(settings, said):
    with pytest.raises(RecipeError, match=said):
        Sft(**settings)


def in_lists(rows, schedule):
    """The order of rows as one would write it down: a list of each epoch's rows, drawn one by one."""
    settings, planned, epoch = schedule.settings, [], 0
    while len(planned) < schedule.steps * schedule.batch:
        rng, shown = random.Random(f"{settings.seed}:{epoch}"), []
        for row in range(len(rows)):
            weight = settings.weight_of(rows.origins[row])
            times = int(weight)
            if weight > times and rng.random() < weight - times:
                times += 1
            shown += [row] * times
        if settings.order != "given":
            rng.shuffle(shown)
        if settings.order == "shortest":
            shown.sort(key=lambda row: rows.lengths[row])
        planned += shown
        epoch += 1
    return planned[: schedule.steps * schedule.batch]


@pytest.mark.parametrize("how", ["shuffled", "given", "shortest"])
@pytest.mark.parametrize("weights", [(), ("seed=2.4", "web=0.3")])
def test_the_order_is_that_of_plain_lists(how, weights):
    rows = some_rows(150, ("seed", "web", "other"))
    schedule = Schedule(13, 32, Sft(order=how, weights=weights, seed=5))
    assert order(rows, range(150), schedule).tolist() == in_lists(rows, schedule)


@pytest.mark.parametrize("layout", [PACKED, PADDED], ids=["packed", "padded"])
def test_passes_are_those_that_are_dealt_step_by_step(layout):
    rows = some_rows(150)
    planned = epochs(rows, 13, 32)
    made = packed_plan(planned, rows.lengths, 32, 150, layout=layout, processes=2)
    steps = [planned[at : at + 32].tolist() for at in range(0, 13 * 32, 32)]
    dealt = [passed for step in steps for passed in layout.deal(step, list(rows.lengths), made.per_step)]
    assert list(made.passes) == dealt
    assert made.per_step > 2
