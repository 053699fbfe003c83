from typing_extensions import Buffer

def advice_reasons(
    views: Buffer,
    buffers: tuple[Buffer, ...],
    classes: Buffer,
    limits: tuple[float, ...],
    marks: tuple[bytes, ...],
    pronouns: tuple[bytes, ...],
    bases: frozenset[str],
    ing_forms: frozenset[str],
    /,
) -> bytearray: ...
def advice_reasons_anywhere(
    views: Buffer,
    buffers: tuple[Buffer, ...],
    classes: Buffer,
    limits: tuple[float, ...],
    marks: tuple[bytes, ...],
    pronouns: tuple[bytes, ...],
    bases: frozenset[str],
    ing_forms: frozenset[str],
    /,
) -> bytearray: ...
