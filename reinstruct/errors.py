"""Every error this package raises on purpose.

ReinstructError
  RecipeError        a recipe, setting or run file is wrong; raised before anything is spent
  CorpusError        an input cannot be read at all (missing, empty, no such column)
  StoreError         the bucket refused or lost something
    AlreadyCommitted another attempt committed this shard first
  ShardError         a shard broke a promise (lost rows, too many unreadable replies); it is retried
  TrainingError      training cannot start or went wrong
  LLMError           a call to a language model failed
    LLMUnavailable   the server gave no answer after all retries
    LLMRefused       the server refused the request itself (4xx); retrying cannot help

A record that cannot be used is not an error: a stage returns `Drop(reason)` for it.
"""


class ReinstructError(Exception):
    """Base of every deliberate error; the command line prints it as one sentence and exits with 2."""


class RecipeError(ReinstructError):
    """A recipe, a setting or a run file is wrong."""


class CorpusError(ReinstructError):
    """An input cannot be read at all."""


class StoreError(ReinstructError):
    """A read or write in the store failed."""


class AlreadyCommitted(StoreError):
    """Another attempt committed this record first."""


class ShardError(ReinstructError):
    """A shard broke a promise; nothing of it was committed."""


class TrainingError(ReinstructError):
    """Training cannot start or went wrong."""


class LLMError(ReinstructError):
    """A call to a language model failed."""


class LLMUnavailable(LLMError):
    """The server gave no answer after all retries."""


class LLMRefused(LLMError):
    """The server refused the request itself; retrying cannot help."""


def expect(right: bool, name: str, given: object, accepted: str) -> None:
    """RecipeError naming a setting, what was given and what is accepted, unless it is right."""
    if not right:
        raise RecipeError(f"{name} is {given!r}; accepted: {accepted}")
