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

advice_reasons_anywhere = advice_reasons
