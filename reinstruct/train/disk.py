"""Disks that are full, or not to be written to: one sentence that names the place and the cause.

The one rule: only what writes is told of here; any other error of these types passes as it is.
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager

from reinstruct.errors import StoreError, TrainingError

CAUSES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
TORCH = "inline_container"  # named by torch when the file it writes cannot grow; the cause itself is lost


@contextmanager
def told(place: object) -> Generator[None]:
    """TrainingError for whatever cannot be written to `place` in this block."""
    from safetensors import SafetensorError

    try:
        yield
    except StoreError as error:
        raise TrainingError(str(error)) from error
    except OSError as error:
        if error.errno not in CAUSES:
            raise
        raise _cannot_write(error.filename or place, str(error.strerror)) from error
    except SafetensorError as error:
        if "os error" not in str(error):
            raise
        raise _cannot_write(place, str(error).rpartition(": ")[2].partition(" (")[0]) from error
    except RuntimeError as error:
        if TORCH not in str(error):
            raise
        cause = error.__context__
        said = cause.strerror if isinstance(cause, OSError) else "the disk may be full"
        raise _cannot_write(place, str(said)) from error


def _cannot_write(place: object, cause: str) -> TrainingError:
    return TrainingError(f"cannot write {place}: {cause}; the same job goes on from its newest complete checkpoint")
