"""Makes verbs.json, the verb forms the package ships, from verbs.txt, our list of base forms: one a line.

The one rule: verbs.json is never edited; a form that `lemminflect` gets wrong is mended in the tables below.

    python -m reinstruct.stages.build_verbs
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from reinstruct.errors import RecipeError
from reinstruct.stages.verbs import PACKAGED, Row

HERE = Path(__file__).parent
TAGS = ("VBZ", "VBD", "VBN", "VBG")  # third person, past, participle, -ing
PREFIXES = ("counter", "under", "inter", "over", "fore", "hand", "mis", "out", "pre", "de", "re", "un", "up")
# Base form, third person, past, participle, then every -ing form.
MENDED = """\
arc arcs arced arced arcing
babysit babysits babysat babysat babysitting
bestride bestrides bestrode bestridden bestriding
bias biases biased biased biasing
blend blends blended blended blending
broadcast broadcasts broadcast broadcast broadcasting
bus buses bused bused busing
bust busts busted busted busting
control controls controlled controlled controlling
corral corrals corralled corralled corralling
crossbreed crossbreeds crossbred crossbred crossbreeding
diagram diagrams diagrammed diagrammed diagramming
distill distills distilled distilled distilling
empanel empanels empaneled empaneled empaneling empanelling
enrol enrols enrolled enrolled enrolling
envelop envelops enveloped enveloped enveloping
forecast forecasts forecast forecast forecasting
forego foregoes forewent foregone foregoing
forgo forgoes forwent forgone forgoing
foxtrot foxtrots foxtrotted foxtrotted foxtrotting
gel gels gelled gelled gelling
gossip gossips gossiped gossiped gossiping
heave heaves heaved heaved heaving
hobnob hobnobs hobnobbed hobnobbed hobnobbing
inlay inlays inlaid inlaid inlaying
interweave interweaves interwove interwoven interweaving
jell jells jelled jelled jelling
lasso lassos lassoed lassoed lassoing
lie lies lay lain lying
light lights lit lit lighting
marvel marvels marveled marveled marveling marvelling
microchip microchips microchipped microchipped microchipping
mimic mimics mimicked mimicked mimicking
occur occurs occurred occurred occurring
offset offsets offset offset offsetting
overspend overspends overspent overspent overspending
photoshop photoshops photoshopped photoshopped photoshopping
program programs programmed programmed programming
proofread proofreads proofread proofread proofreading
quit quits quit quit quitting
rappel rappels rappelled rappelled rappelling
redevelop redevelops redeveloped redeveloped redeveloping
redo redoes redid redone redoing
refer refers referred referred referring
relight relights relit relit relighting
rendezvous rendezvouses rendezvoused rendezvoused rendezvousing
reprogram reprograms reprogrammed reprogrammed reprogramming
retie reties retied retied retying
shotgun shotguns shotgunned shotgunned shotgunning
ski skis skied skied skiing
sting stings stung stung stinging
sublet sublets sublet sublet subletting
tar tars tarred tarred tarring
target targets targeted targeted targeting
tie ties tied tied tying
torpedo torpedoes torpedoed torpedoed torpedoing
underlay underlays underlaid underlaid underlaying
unweave unweaves unwove unwoven unweaving
wake wakes woke woken waking
weave weaves wove woven weaving
whir whirs whirred whirred whirring
whiz whizzes whizzed whizzed whizzing
workshop workshops workshopped workshopped workshopping
"""
FORMS = {line.split()[0]: tuple(line.split()[1:]) for line in MENDED.splitlines()}

Inflect = Callable[[str, str], tuple[str, ...]]


def build(verbs: Iterable[str]) -> list[Row]:
    """Rows [base, third person, past, participle, -ing] in the order given, one per spelling of the -ing form.

    RecipeError if `lemminflect` is not installed.
    """
    try:
        from lemminflect import getAllInflections, getAllInflectionsOOV
    except ImportError as error:
        raise RecipeError("building verbs.json needs lemminflect: pip install 'reinstruct[dev]'") from error
    known: Any = getAllInflections
    guessed: Any = getAllInflectionsOOV

    def inflect(verb: str, tag: str) -> tuple[str, ...]:
        forms: tuple[str, ...] = known(verb, upos="VERB").get(tag, ())
        return tuple(form for form in forms if form.isascii() and form.isalpha())  # not "over shoots", "re-doing"

    def guess(verb: str, tag: str) -> tuple[str, ...]:
        return guessed(verb, upos="VERB").get(tag, ())

    verbs = list(verbs)
    listed = frozenset(verbs)
    return [row for verb in verbs for row in _rows(verb, listed, inflect, guess)]


def render(rows: Iterable[Row]) -> bytes:
    """JSON with one row a line, so that a change to the list reads as one in a diff."""
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    return f"[\n{lines}\n]\n".encode()


def read_verbs() -> list[str]:
    """The base forms of verbs.txt."""
    return (HERE / "verbs.txt").read_text("ascii").split()


def main() -> None:
    rows = build(read_verbs())
    (HERE / PACKAGED).write_bytes(render(rows))
    print(f"{PACKAGED}: {len(rows)} rows")


def _rows(verb: str, listed: frozenset[str], inflect: Inflect, guess: Inflect) -> list[Row]:
    if verb in FORMS:
        third, past, participle, *ing_forms = FORMS[verb]
    else:
        thirds, pasts, participles, ing_forms = (_forms(verb, tag, listed, inflect, guess) for tag in TAGS)
        third, past = thirds[0], pasts[0]
        participle = (participles or pasts)[0]
    return [(verb, third, past, participle, ing) for ing in ing_forms]


def _forms(verb: str, tag: str, listed: frozenset[str], inflect: Inflect, guess: Inflect) -> tuple[str, ...]:
    """As looked up; else those of the verb behind a prefix, which keep what is irregular; else by rules of spelling."""
    for prefix in ("", *PREFIXES):
        stem = verb.removeprefix(prefix)
        if prefix and (stem == verb or stem not in listed):
            continue
        if found := inflect(stem, tag):
            return tuple(prefix + form for form in found)
        if tag == "VBN" and inflect(stem, "VBD"):  # the participle is the past
            return ()
    return guess(verb, tag)


if __name__ == "__main__":
    main()
