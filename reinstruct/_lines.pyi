from typing_extensions import Buffer

def text_columns(
    parts: tuple[Buffer, ...], names: tuple[tuple[str, ...], ...], id_column: int, /
) -> tuple[tuple[bytearray, bytearray], ...] | None: ...

text_columns_anywhere = text_columns
