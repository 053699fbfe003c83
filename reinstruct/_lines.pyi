from typing_extensions import Buffer

def text_columns(
    block: Buffer, names: tuple[tuple[str, ...], ...], id_column: int, /
) -> tuple[tuple[bytearray, bytearray], ...] | None: ...
