"""Points, clusters and pruning: fixed by the rows alone, whatever their order."""

import tracemalloc

import numpy as np
import polars as pl
import pytest

from reinstruct.errors import RecipeError
from reinstruct.records import Pair, Score, to_table
from reinstruct.stages.cluster import PruneClusters, by_cost, k_center, k_means, starts, trigram_points
from tests.conftest import judged

RIVERS = "The river carries water from the hills to the sea and floods the meadows in spring, year {}."
LOANS = "A bank lends money at interest, and the borrower pays it back in {} monthly instalments."


def pair(key: str, text: str, distance: float | None = 0.5) -> Pair:
    scores = () if distance is None else (Score("cycle_distance", distance),)
    return Pair(id=key, instruction="Why?", output="Because.", document=text, scores=(Score("other", 0.0), *scores))


def frame(*pairs: Pair) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(to_table(pairs, Pair)))


def pruned(stage: PruneClusters, records: pl.DataFrame) -> set[str]:
    return set(judged(stage, records).filter(pl.col("reason") == "pruned")["id"])


def mixed(n: int = 40) -> pl.DataFrame:
    pairs = [pair(f"p{at:02}", (RIVERS if at % 2 else LOANS).format(at * 37), (at * 7 % 10) / 10) for at in range(n)]
    return frame(*pairs)


def test_points_are_alike_for_texts_that_are():
    river, other_river, loan, chinese = trigram_points(
        [RIVERS.format(1), RIVERS.format(2), LOANS.format(3), "河流入海"]
    )
    assert river @ other_river > 0.8 > 0.3 > abs(river @ loan)
    assert abs(chinese @ river) < 0.2
    assert np.linalg.norm(loan) == pytest.approx(1)


def test_points_do_not_see_case_and_white_space_and_bear_empty_texts():
    points = trigram_points(["One  two\n", "one TWO", "", "x"])
    assert np.array_equal(points[0], points[1])
    assert not points[2].any()
    assert np.linalg.norm(points[3]) == pytest.approx(1)


def test_points_are_fixed_for_ever():
    """Another hash would prune other pairs from the same data."""
    (point,) = trigram_points(["water"], size=16)
    assert [int(value) for value in np.sign(point)] == [-1, 0, -1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]


def test_clusters_part_what_differs():
    points = trigram_points([text.format(n) for n in range(5) for text in (RIVERS, LOANS)])
    labels = k_means(points, [0, 1])
    assert labels.tolist() == [0, 1] * 5
    assert k_means(points, [0]).tolist() == [0] * 10


def test_many_points_and_centres_are_compared_in_blocks():
    """All with all at once, these would take 160 MB and more."""
    first = np.array([(x, y) for x in range(40) for y in range(40)], dtype=np.float32)
    points = np.tile(first, (8, 1)) + np.linspace(0, 0.4, len(first) * 8, dtype=np.float32)[:, None]
    tracemalloc.start()
    labels = k_means(points, range(1600))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert labels.tolist() == list(range(1600)) * 8
    assert peak < 80 << 20


def test_an_emptied_cluster_does_no_harm():
    points = np.array([[0, 0], [0, 0], [1, 1]], dtype=np.float32)
    assert k_means(points, [0, 1, 2]).tolist() == [0, 0, 2]


def test_starts_depend_on_keys_not_on_places():
    keys = [f"p{n}" for n in range(20)]
    drawn = {keys[place] for place in starts(keys, 5, 0)}
    assert drawn == {keys[::-1][place] for place in starts(keys[::-1], 5, 0)}
    assert drawn != {keys[place] for place in starts(keys, 5, 1)}
    assert len(starts(keys, 50, 0)) == 20


def test_k_center_covers_and_puts_off_what_costs():
    line = np.array([[0], [1], [10], [9.5]], dtype=np.float32)
    assert k_center(line, [0, 0, 0, 0]) == [0, 2, 1, 3]  # the far end first, near neighbours of kept ones last
    assert k_center(line, [0, 0, 0.95, 0]) == [0, 3, 1, 2]  # far, but lost on the round trip
    assert k_center(line, [0.5, 0.5, 0.1, 0.5]) == [2, 0, 1, 3]  # the cheapest is the first
    assert k_center(line, [1, 1, 1, 1]) == [0, 1, 2, 3]
    assert k_center(line[:0], []) == []


def test_costs_rank_with_ties_in_order():
    assert by_cost([0.5, 0.1, 0.5, 0.3]) == [1, 3, 0, 2]


def test_the_worst_share_of_each_cluster_is_pruned():
    records = mixed()
    stage = PruneClusters(share=0.1, clusters=2, by="distance")
    gone = pruned(stage, records)
    assert len(gone) == 4
    assert {int(key[1:]) % 2 for key in gone} == {0, 1}  # of rivers and loans alike
    for odd in (0, 1):
        distances = {f"p{at:02}": (at * 7 % 10) / 10 for at in range(40) if at % 2 == odd}
        cut = min(distances[key] for key in gone if key in distances)
        assert all(distances[key] <= cut for key in distances if key not in gone)


def test_pruning_does_not_depend_on_the_order_of_rows():
    records = mixed()
    for by in ("k-center", "distance"):
        stage = PruneClusters(share=0.2, clusters=3, least=5, by=by)
        gone = pruned(stage, records)
        assert 0 < len(gone) <= 8
        assert (
            pruned(stage, records.reverse()) == gone == pruned(stage, records.sample(fraction=1, shuffle=True, seed=3))
        )


def test_rows_that_share_an_id_are_pruned_one_by_one():
    texts = [(RIVERS if at % 2 else LOANS).format(at * 37) for at in range(40)]
    records = frame(*(pair(f"p{at % 20}", text, (at * 7 % 10) / 10) for at, text in enumerate(texts)))
    for by in ("k-center", "distance"):
        stage = PruneClusters(share=0.1, clusters=2, by=by)
        gone = judged(stage, records).filter(pl.col("reason") == "pruned")["document"].to_list()
        assert len(gone) == 4
        assert sorted(gone) == sorted(
            judged(stage, records.reverse()).filter(pl.col("reason") == "pruned")["document"].to_list()
        )


def test_shares_are_rounded_down_and_clusters_are_large_enough_for_one():
    assert len(pruned(PruneClusters(share=0.05), mixed(19))) == 0
    assert len(pruned(PruneClusters(share=0.05, by="distance"), mixed(20))) == 1  # 200 clusters would be empty ones
    assert pruned(PruneClusters(share=0), mixed()) == set()
    assert pruned(PruneClusters(), mixed().clear()) == set()


def test_a_pair_without_a_distance_is_the_worst():
    texts = [RIVERS.format(n) for n in range(4)]
    records = frame(pair("a", texts[0], 0.9), pair("b", texts[1], None), pair("c", texts[2]), pair("d", texts[3]))
    for by in ("k-center", "distance"):
        assert pruned(PruneClusters(share=0.25, least=1, clusters=1, by=by), records) == {"b"}


def test_the_newest_distance_counts():
    again = Pair(
        id="a",
        instruction="Why?",
        output="So.",
        document="x",
        scores=(Score("cycle_distance", 0.9), Score("cycle_distance", 0.0)),
    )
    stage = PruneClusters(share=0.5, clusters=1, by="distance")
    assert pruned(stage, frame(again, pair("b", "x", 0.2))) == {"b"}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"share": 1}, "share is 1"), ({"clusters": 0}, "clusters is 0"), ({"by": "worst"}, "k-center or distance")],
)
def test_wrong_settings_are_named(wrong, words):
    with pytest.raises(RecipeError, match=words):
        PruneClusters(**wrong)
