"""What goes wrong outside a training: a disk that is full or must not be written to, a process that is gone, memory
that is too small.

The one rule: such a trouble is told in one sentence with its cause; any other error passes as it is.
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager

from reinstruct.errors import StoreError, TrainingError

CAUSES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ENOTDIR)
TORCH = "inline_container"  # named by torch when the file it writes cannot grow; the cause itself is lost
MEMORY = ("out of memory", "can't allocate memory")  # said of a GPU's, and of this machine's
NETWORKS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
RESUMES = "the same job goes on from its newest complete checkpoint"


@contextmanager
def told(place: object) -> Generator[None]:
    """TrainingError for whatever cannot be written to `place` in this block, processes that are gone and memory that is
    too small."""
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
        said = str(error)
        if TORCH in said:
            cause = error.__context__
            strerror = cause.strerror if isinstance(cause, OSError) else "the disk may be full"
            raise _cannot_write(place, str(strerror)) from error
        if any(memory in said for memory in MEMORY):
            first = said.strip().partition("\n")[0]
            raise TrainingError(
                f"memory is too small for this training ({first}): pass_tokens of the job makes passes smaller, "
                f'the setting checkpointing "yes" keeps less of each; {RESUMES}'
            ) from error
        if any(network in said for network in NETWORKS):
            first = said.strip().partition("\n")[0]
            raise TrainingError(
                f"another process of this training is gone or out of reach ({first}); {RESUMES}"
            ) from error
        raise


def _cannot_write(place: object, cause: str) -> TrainingError:
    return TrainingError(f"cannot write {place}: {cause}; {RESUMES}")
