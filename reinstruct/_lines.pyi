from typing_extensions import Buffer

def text_columns(
    parts: tuple[Buffer, ...], names: tuple[tuple[str, ...], ...], id_column: int, /
) -> tuple[tuple[bytearray, bytearray], ...] | None: ...
def text_columns_anywhere(
    parts: tuple[Buffer, ...], names: tuple[tuple[str, ...], ...], id_column: int, /
) -> tuple[tuple[bytearray, bytearray], ...] | None: ...
