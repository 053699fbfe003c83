from typing_extensions import Buffer

Column = tuple[str, int, Buffer, tuple[Buffer, ...]]

def json_objects(columns: tuple[Column, ...], /) -> tuple[bytearray, bytearray]: ...
