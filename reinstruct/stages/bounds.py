"""Bounds on numbers in settings. The rule: a wrong number is told when a stage is made, before anything is spent."""

from __future__ import annotations

from reinstruct.errors import expect


def expect_share(name: str, given: float) -> None:
    """RecipeError unless it is from 0 to 1."""
    expect(0 <= given <= 1, name, given, "a share from 0 to 1")


def expect_at_least(name: str, given: int, least: int) -> None:
    """RecipeError unless it is `least` or more."""
    expect(given >= least, name, given, f"a whole number, {least} or more")


def expect_order(low_name: str, low: float, high_name: str, high: float) -> None:
    """RecipeError unless the lower bound is at most the upper one: nothing would lie between them."""
    expect(low <= high, low_name, low, f"a number up to {high_name}, which is {high:g}")
