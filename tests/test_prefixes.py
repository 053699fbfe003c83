"""The order of asking."""

from reinstruct.llm import Request, Sampling, Scripted
from reinstruct.prefixes import ByPrefix, by_prefix
from reinstruct.records import Message
from tests.conftest import flat


def requests(*prompts) -> list[Request]:
    return [Request(str(n), prompt, seed=n, position=n) for n, prompt in enumerate(prompts)]


def test_prompts_that_begin_alike_go_together_within_a_window():
    asked = requests("b 1", "a 1", "b 2", "a 2", "b 3", "a 3")
    assert [r.prompt for r in by_prefix(asked, 4)] == ["a 1", "a 2", "b 1", "b 2", "a 3", "b 3"]
    assert sorted(by_prefix(asked, 4), key=lambda r: r.position) == asked, "each as it was"


def test_a_shard_taken_up_again_asks_the_rest_in_the_same_order():
    asked = requests(*(f"{'xyz'[n % 3]} {n}" for n in range(40)))
    whole = list(by_prefix(asked, 16))
    kept = {request.position for request in whole[:11]}
    assert list(by_prefix([r for r in asked if r.position not in kept], 16)) == whole[11:]


def test_conversations_are_ordered_by_their_turns():
    def chat(system: str, user: str) -> tuple[Message, ...]:
        return (Message("system", system), Message("user", user))

    asked = requests(chat("b", "1"), chat("a", "2"), chat("b", "0"), chat("a", "1"))
    assert [r.position for r in by_prefix(asked, 9)] == [3, 1, 2, 0]


def test_a_window_is_read_before_any_of_it_is_asked_and_no_more():
    read = []

    def source():
        for request in requests(*"dcba"):
            read.append(request.key)
            yield request

    stream = flat(ByPrefix(Scripted(str.upper), window=2).complete(source(), Sampling()))
    assert next(stream)[1].text == "C"
    assert read == ["0", "1", "2"], "one more, to see that the window is over"
    assert [reply.text for _, reply in stream] == ["D", "A", "B"]
