"""`reinstruct corpus`: look at a corpus before anything is spent on it.

reinstruct corpus inspect URI [--sample N] [--json]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from reinstruct.errors import RecipeError

if TYPE_CHECKING:
    from reinstruct.corpus.profile import Profile

corpus = typer.Typer(no_args_is_help=True, help="Look at a corpus before anything is spent on it.")
_BAR = 28


@corpus.command()
def inspect(
    uri: Annotated[str, typer.Argument(help="a file, folder, glob or URL, pydoc:, lines:FILE or - for standard input")],
    sample: Annotated[int, typer.Option(min=1, max=100_000, help="look at so many documents")] = 1000,
    columns: Annotated[
        list[str] | None,
        typer.Option("--columns", "--corpus-columns", help="FIELD=COLUMN[,...], such as text=body"),
    ] = None,
    seed: Annotated[int, typer.Option(help="another seed looks at other documents")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print the figures as JSON")] = False,
) -> None:
    """Show what a corpus holds, in seconds whatever its size: count, languages, lengths, what rules reject, samples."""
    from reinstruct.corpus.cuts import one_worker_each
    from reinstruct.corpus.open import open_source
    from reinstruct.corpus.profile import profile
    from reinstruct.corpus.sample import take_sample
    from reinstruct.records import Document

    source = open_source(uri, Document, columns=_mapping(columns or []))
    if source.passed_over:
        typer.echo(f"passed over: {source.passed_over}", err=True)
    found = profile(take_sample(source, sample, seed), seed)
    whole = one_worker_each(source)
    if as_json:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        size = sum(file.size for file in source.files)
        _print(found, uri, f"{len(source.files):,} {source.kind} file{'s' * (len(source.files) != 1)}, {_bytes(size)}")
        for reason, count in whole.items():
            typer.echo(f"\n{count:,} large file{'s' * (count != 1)} will be read by one worker each: {reason}")


def _mapping(given: list[str]) -> dict[str, str]:
    pairs = [pair.partition("=") for part in given for pair in part.split(",")]
    for name, _, column in pairs:
        if not name or not column:
            raise RecipeError(f"--columns is {', '.join(given)!r}; accepted: FIELD=COLUMN[,FIELD=COLUMN...]")
    return {name.strip(): column.strip() for name, _, column in pairs}


def _print(found: Profile, uri: str, files: str) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    out = Console(highlight=False)
    about = "" if found.documents_exact else "about "
    counted = "counted" if found.documents_exact else f"estimated from {_bytes(found.bytes_read)}"
    out.print(Text.assemble((uri, "bold"), f"  {files}"))
    documents = f"{about}{_round(found)} documents"
    out.print(Text.assemble((documents, "bold"), f" ({counted}); {found.looked_at:,} looked at\n"))

    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    facts.add_row(found.languages_are, _list(found.languages))
    facts.add_row("characters", "   ".join(f"[dim]{_named(name)}[/] {value:,}" for name, value in found.chars.items()))
    facts.add_row("licences", _list(found.licences, most=4))
    facts.add_row("with a URL", _percent(found.with_url))
    facts.add_row("exact duplicates", f"{found.duplicates:.1%} of the documents looked at")
    if found.repeated_ids:
        facts.add_row("repeated ids", f"{found.repeated_ids:,}, each of several texts, among the documents read")
    if found.unusable:
        facts.add_row("unusable rows", ", ".join(f"{name} {count:,}" for name, count in found.unusable.items()))
    out.print(facts)

    bars = Table(box=None, pad_edge=False, title="[bold]Lengths[/]", title_justify="left")
    bars.add_column("characters", justify="right")
    bars.add_column("")
    bars.add_column("share", justify="right")
    longest = max(found.histogram.values())
    for edge, share in found.histogram.items():
        bar = "█" * round(_BAR * share / longest) or "▏" * (share > 0)
        bars.add_row(f"{int(edge):,}+", Text(bar, "cyan"), _percent(share))
    out.print(bars)

    rules = Table(box=None, pad_edge=False, title="\n[bold]What rules would reject[/]", title_justify="left")
    rules.add_column("rule", no_wrap=True)
    rules.add_column("rejects", justify="right")
    rules.add_column("mostly for")
    for verdict in found.rules:
        rules.add_row(verdict.rule, _percent(verdict.rejected), _list(verdict.reasons, most=3))
    out.print(rules)

    out.print(f"\n[bold]{len(found.samples)} at random[/]")
    for number, item in enumerate(found.samples, start=1):
        origin = item["source"] or item["id"]
        out.print(Text.assemble((f"{number:>2} ", "dim"), (origin, "cyan")), no_wrap=True, overflow="ellipsis")
        out.print(Padding(Text(item["text"]), (0, 0, 0, 3)))


def _list(shares: dict[str, float], most: int = 6) -> str:
    from rich.markup import escape

    shown = [escape(f"{name} {_percent(share)}") for name, share in list(shares.items())[:most]]
    rest = len(shares) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def _percent(share: float) -> str:
    return "<1%" if 0 < share < 0.01 else f"{share:.0%}"


def _named(quantile: str) -> str:
    return {"0%": "least", "50%": "median", "100%": "most"}.get(quantile, quantile)


def _round(found: Profile) -> str:
    """An estimate to two figures; a count as it is."""
    if found.documents_exact:
        return f"{found.documents:,}"
    digits = max(0, len(str(found.documents)) - 2)
    return f"{round(found.documents, -digits):,}"


def _bytes(size: int) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size //= 1000
    return f"{size:,} {unit}"
