import pytest

from reinstruct.compare import Made, as_markdown, scaling
from reinstruct.evaluate.scaling import scaling_coefficient


def test_the_scaling_coefficient_is_the_slope_over_the_logarithm_of_size():
    sizes = [100, 800, 6400]
    assert scaling_coefficient(sizes, [10, 10 + 6.95 * 2.0794415, 10 + 6.95 * 4.158883]) == pytest.approx(6.95)
    assert scaling_coefficient(sizes, [50, 50, 50]) == 0
    for wrong in (([100], [1.0]), ([100, 100], [1.0, 2.0]), ([1, 2], [1.0])):
        with pytest.raises(ValueError, match="two different sizes"):
            scaling_coefficient(*wrong)


def made(name: str, rows: int, final: float | None) -> Made:
    return Made(name, 100, rows, rows, 0, 0, 1.0, *[None] * 7, {"final": final})


def test_a_recipe_at_several_sizes_shows_what_more_data_brings():
    entries = [made("humpback@100", 100, 5.0), made("humpback@800", 800, 4.0), made("kun", 50, 6.0)]
    assert scaling(entries) == {
        "humpback@100": pytest.approx(-1 / 2.0794415),
        "humpback@800": pytest.approx(-1 / 2.0794415),
        "kun": None,
    }
    assert "| final nll, for each e-fold of pairs | -0.481 | -0.481 | – |" in as_markdown(entries)


@pytest.mark.parametrize(
    "entries",
    [
        [made("kun@a", 100, 5.0), made("kun@b", 100, 4.0)],
        [made("kun@a", 100, 5.0), made("kun@b", 800, None)],
        [made("kun@a", 100, 5.0), made("kun@b", 0, 4.0)],
        [made("kun", 100, 5.0), made("tegit", 800, 4.0)],
    ],
    ids=["one size", "one loss", "an empty dataset", "two recipes"],
)
def test_without_two_sizes_there_is_no_slope(entries):
    assert not any(scaling(entries).values())
    assert "e-fold" not in as_markdown(entries)
