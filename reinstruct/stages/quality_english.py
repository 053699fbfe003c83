"""English words that a word split must not cut, or must cut where no mark stands: "don't" is "do" and "n't".

The one rule: the same words and cuts as spaCy 3.8's English rules, whose counts the published quality filters were
tuned with. They are spelled out from their parts here; tests compare the result with spaCy where that is installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import product

CUT = "\x1f"  # between two words of an entry

_SUBJECTS = ("i", "you", "he", "she", "it", "we", "they")
_QUESTIONS = ("who", "what", "when", "where", "why", "how", "there", "that", "this", "these", "those")
_NEVER = {"Ill", "ill", "Its", "its", "Hell", "hell", "Shell", "shell", "Shed", "shed", "were", "Were"} | {
    *("Well", "well", "Whore", "whore")
}
_NEGATED = {
    **dict.fromkeys(("ca", "could", "do", "does", "did", "had", "may", "might", "must", "need", "ought"), True),
    **dict.fromkeys(("sha", "should", "wo", "would"), True),
    **dict.fromkeys(("ai", "are", "dare", "has", "have", "is", "was", "were"), False),
}  # whether "have" may follow: "couldn't've"
_WHOLE = (
    "'S 's ‘S ‘s ’S ’s and/or w/o 're 'Cause 'cause 'cos 'Cos 'coz 'Coz 'cuz 'Cuz 'bout ma'am Ma'am o'clock O'clock "
    "lovin' lovin Lovin' Lovin havin' havin Havin' Havin doin' doin Doin' Doin goin' goin Goin' Goin nothin' nothin "
    "Nothin' Nothin nuthin' nuthin Nuthin' Nuthin somethin' somethin Somethin' Somethin ol' ol Ol' Ol "
    "'em em 'll ll 'nuff nuff 'd a.m. p.m. vs. v.s. i.e. I.e. I.E. e.g. E.g. E.G. C++ '' ' \\\") <space> \\n \\t — co. "
    "Adm. Ak. Ala. Apr. Ariz. Ark. Aug. Bros. Calif. Co. Colo. Conn. Corp. D.C. Dec. Del. Dr. Feb. Fla. Ga. Gen. Gov. "
    "Ia. Id. Ill. Inc. Ind. Jan. Jr. Jul. Jun. Kan. Kans. Ky. La. Ltd. Mar. Mass. Md. Messrs. Mich. Minn. Miss. Mo. "
    "Mont. Mr. Mrs. Ms. Mt. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa. Ph.D. Prof. Rep. "
    "Rev. S.C. Sen. Sep. Sept. St. Tenn. Va. Wash. Wis. ä. ö. ü."
)
_FACES = (
    "(*_*) (-8 (-: (-; (-_-) (._.) (: (; (= (>_<) (^_^) (o: (¬_¬) (ಠ_ಠ) (╯°□°）╯︵┻━┻ )-: ): -_- -__- ._. 0.0 0.o "
    "0_0 0_o "
    "8) 8-) 8-D 8D :'( :') :'-( :'-) :’( :’) :’-( :’-) :( :(( :((( :() :) :)) :))) :* :-( :-(( :-((( :-) :-)) :-))) "
    ":-* :-/ :-0 :-3 :-> :-D :-O :-P :-X :-] :-o :-p :-x :-| :-} :/ :0 :1 :3 :> :D :O :P :X :] :o :o) :p :x :| :} "
    ";) ;-) ;-D ;D ;_; <.< </3 <3 <33 <333 =( =) =/ =3 =D =[ =] =| >.< >.> >:( >:o ><(((*> @_@ O.O O.o O_O O_o V.V "
    "V_V XD XDD [-: [: [= ]= ^_^ ^__^ ^___^ o.0 o.O o.o o_0 o_O o_o v.v v_v xD xDD ¯\\(ツ)/¯ ಠ_ಠ ಠ︵ಠ"
)
_CUT_WORDS = (
    "can not|Can not|gon na|Gon na|got ta|Got ta|let 's|Let 's|c'm on|C'm on|"
    "how 'd 'y|How 'd 'y|not 've|Not 've|not ve|Not ve|y' all|y all"
)


@cache
def entries() -> dict[str, str]:
    """Text without white space -> its words, CUT between them; as it is where it is one word."""
    faces = set(_FACES.split())
    words = [*_whole(), *_contracted(), *_negated(), *(tuple(item.split()) for item in _CUT_WORDS.split("|"))]
    words += [(f"{hour}", half) for hour, half in product(range(1, 13), ("a.m.", "am", "p.m.", "pm"))]
    words += [("°", unit, ".") for unit in "cfkCFK"]
    found = {"".join(word): CUT.join(word) for word in words}
    curled = {text.replace("'", "’"): cut.replace("'", "’") for text, cut in found.items() if text not in faces}
    return {text: cut for text, cut in {**curled, **found}.items() if text not in _NEVER}


def _whole() -> Iterator[tuple[str, ...]]:
    yield from ((word,) for word in (*_WHOLE.split(), *_FACES.split()))
    yield from ((f"{letter}.",) for letter in "abcdefghijklmnopqrstuvwxyz")


def _contracted() -> Iterator[tuple[str, ...]]:
    """ "she'd've", "shedve", "who're"; what may follow depends on the word."""
    for word in (*_SUBJECTS, *_QUESTIONS):
        tails = [("ll",), ("ll", "ve"), ("d",), ("d", "ve")]
        if word not in ("he", "she", "it", "that", "this"):
            tails.append(("ve",))
        if word in ("you", "we", "they") or (word in _QUESTIONS and word not in ("that", "this")):
            tails.append(("re",))
        if word in ("he", "she", "it") or (word in _QUESTIONS and word not in ("these", "those")):
            tails.append(("s",))
        if word == "i":
            tails += [("m",), ("m", "a")]
        yield from _spelled(word, tails)
    for verb in ("could", "might", "must", "should", "would"):
        yield from _spelled(verb, [("ve",)])


def _spelled(word: str, tails: list[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    for start, tail in product((word, word.title()), tails):
        yield (start, *tail)
        yield (start, *(part if part == "a" else f"'{part}" for part in tail))


def _negated() -> Iterator[tuple[str, ...]]:
    for verb, have in _NEGATED.items():
        for start in (verb, verb.title()):
            yield from ((start, "n't"), (start, "nt"))
            if have:
                yield from ((start, "n't", "'ve"), (start, "nt", "ve"))
