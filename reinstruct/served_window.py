"""How many requests one server is given at once. It finds the server's limit by itself, and shares it with others.

The one rule: a round is as many answers as the window is wide, and the window changes by what its round says alone.
It widens by one per round, or by one per reply until the server first objects, and narrows by half the share of the
round that the server turned away (Alizadeh et al. 2010, DCTCP, section 3.1, with the last round's share alone). So
it halves where everything is refused, closes in on a fixed limit in a few rounds without falling below it, hardly
moves where one answer in twenty fails by chance, and, as in every scheme that adds equally and subtracts
proportionally, clients that share a server come to equal windows.
"""

from __future__ import annotations

FIRST = 64  # requests at once before anything is known of a server, or half of the most if that is more


class Window:
    """`most` is never exceeded. `patient_s`: replies that take longer are a sign of a queue, and nothing is added."""

    def __init__(self, most: int, patient_s: float) -> None:
        self.size = float(min(max(FIRST, most // 2), most))
        self.round = 0  # a request remembers the round it was sent in
        self._most = most
        self._patient_s = patient_s
        self._starting = True
        self._counts_from = 0  # answers to requests sent in earlier rounds were heard already
        self._answers = self._refusals = self._queued = 0

    def has_room(self, in_flight: int) -> bool:
        return in_flight < max(1, int(self.size))

    def replied(self, sent_in: int, took_s: float) -> None:
        """The server did its work."""
        self._queued += took_s > self._patient_s
        if self._starting and not self._queued:
            self.size = min(self.size + 1, self._most)
        self._answered(sent_in)

    def refused(self, sent_in: int) -> None:
        """The server had no room for a request, or not in time."""
        self._starting = False
        self._refusals += sent_in >= self._counts_from
        self._answered(sent_in)

    def _answered(self, sent_in: int) -> None:
        self._answers += sent_in >= self._counts_from
        if self._answers >= int(self.size):
            self._end_round()

    def _end_round(self) -> None:
        self.round += 1
        if self._refusals:
            self.size = max(1.0, self.size * (1 - self._refusals / self._answers / 2))
            self._counts_from = self.round
        if not self._queued:
            self.size = min(self.size + (not self._starting), self._most)
        self._answers = self._refusals = self._queued = 0
