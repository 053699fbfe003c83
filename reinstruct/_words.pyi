from typing_extensions import Buffer

def different_pieces(
    views: Buffer, buffers: tuple[Buffer, ...], classes: Buffer, /
) -> tuple[bytearray, bytearray, bytearray, bytearray]: ...
def cut_words(
    views: Buffer,
    buffers: tuple[Buffer, ...],
    classes: Buffer,
    entries: tuple[bytes, ...],
    words: tuple[bytes, ...],
    units: tuple[bytes, ...],
    divides: bool,
    /,
) -> tuple[bytearray, bytearray, bytearray]: ...
def run_chars(lengths: Buffer, numbers: Buffer, pieces: Buffer, keys: Buffer, chars: Buffer, /) -> bytearray: ...
