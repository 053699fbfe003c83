"""From a prompt to the token ids a model sees: the same in training, in-process generation and loss measurement.

The one rule: a prompt is tokenised alone, never together with what follows it. So a model trained on
`prompt_ids(...) + target_ids(...)` is later asked with exactly the ids it was trained after.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from reinstruct.llm import Prompt
from reinstruct.records import Message

# Used for conversations when the tokenizer has no chat template. Jinja, so that a model trained with it can carry
# it along and any server renders it the same way. It ends in a line break: no token spans prompt and target.
_TURNS = (
    "{{ bos_token or '' }}"
    "{% for message in messages %}### {{ message['role'] | capitalize }}\n{{ message['content'] }}\n\n{% endfor %}"
)
PLAIN_TEMPLATE = _TURNS + "{% if add_generation_prompt %}### Assistant\n{% endif %}"
# The same for an encoder, whose text is complete: it ends as these models' tokenizers end every text.
ENCODED_TEMPLATE = _TURNS + "{% if add_generation_prompt %}### Assistant\n{{ eos_token }}{% endif %}"


# Some templates tell the model the day. It is always this one, or a row would have other tokens tomorrow.
DAY = datetime(2024, 1, 1)
_CLOCK = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")


def without_clock(template: Any) -> Any:
    """A chat template that names `DAY` wherever it would ask for the time. What is no text is left as it is."""
    return _CLOCK.sub(lambda found: repr(DAY.strftime(found[2])), template) if isinstance(template, str) else template


def prompt_ids(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Ids of a prompt as a server presents them, ready for the reply's first token.

    Plain text gets the special tokens its tokenizer puts in front (such as BOS), but never one behind; a prompt
    without any token is the token that separates texts, so that there is something to go on from. Messages go
    the chat template, or `PLAIN_TEMPLATE` where the tokenizer has none, with the assistant's turn opened.
    """
    return prompts_ids(tokenizer, [prompt])[0]


def prompts_ids(tokenizer: Any, prompts: Sequence[Prompt]) -> list[list[int]]:
    """As `prompt_ids` for each."""
    return _each(tokenizer, prompts, PLAIN_TEMPLATE, _without_end)


def encoded_prompts_ids(tokenizer: Any, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Ids of prompts that an encoder reads whole: with all special tokens its tokenizer puts around a text.

    Messages go through the chat template, or `ENCODED_TEMPLATE` where the tokenizer has none.
    """
    return _each(tokenizer, prompts, ENCODED_TEMPLATE, lambda tokenizer, _, ids: ids or [tokenizer.eos_token_id])


def target_ids(tokenizer: Any, target: str) -> list[int]:
    """Ids of a target without special tokens; text that looks like one ("</s>") stays text."""
    return targets_ids(tokenizer, [target])[0]


def targets_ids(tokenizer: Any, targets: Sequence[str]) -> list[list[int]]:
    """As `target_ids` for each."""
    return _texts_ids(tokenizer, targets, add_special_tokens=False, split_special_tokens=True)


def _each(
    tokenizer: Any,
    prompts: Sequence[Prompt],
    template: str,
    finished: Callable[[Any, str, list[int]], list[int]],
) -> list[list[int]]:
    """Ids of prompts in their order, plain texts in one call and conversations in another."""
    texts = {at: prompt for at, prompt in enumerate(prompts) if isinstance(prompt, str)}
    talks = {at: prompt for at, prompt in enumerate(prompts) if not isinstance(prompt, str)}
    read = _texts_ids(tokenizer, list(texts.values()))
    found = {at: finished(tokenizer, text, ids) for (at, text), ids in zip(texts.items(), read, strict=True)}
    found.update(zip(talks, _conversations_ids(tokenizer, list(talks.values()), template), strict=True))
    return [found[at] for at in range(len(prompts))]


def _texts_ids(tokenizer: Any, texts: Sequence[str], **options: bool) -> list[list[int]]:
    """Ids of each text. Fast tokenizers make one text's ids as a list of one's, so they get all in one call; what
    others do with a list is their own affair, so they get one text at a time."""
    if texts and getattr(tokenizer, "is_fast", False):
        return tokenizer(list(texts), **options)["input_ids"]
    return [tokenizer(text, **options)["input_ids"] for text in texts]


def _conversations_ids(tokenizer: Any, talks: Sequence[Sequence[Message]], template: str) -> list[list[int]]:
    """Ids of each conversation, the next turn opened; of fast tokenizers in one call, as `_texts_ids`."""
    turns = [[{"role": message.role, "content": message.content} for message in talk] for talk in talks]
    options: dict[str, Any] = {
        "chat_template": without_clock(tokenizer.chat_template or template),
        "add_generation_prompt": True,
        "tokenize": True,
        "return_dict": False,
    }
    if turns and getattr(tokenizer, "is_fast", False):
        return tokenizer.apply_chat_template(turns, **options)
    return [tokenizer.apply_chat_template(talk, **options) for talk in turns]


def _without_end(tokenizer: Any, prompt: str, ids: list[int]) -> list[int]:
    """Drop the EOS that some tokenizers put behind every text: a prompt goes on."""
    ended = ids and ids[-1] == tokenizer.eos_token_id and not prompt.endswith(tokenizer.eos_token)
    return (ids[:-1] if ended else ids) or [tokenizer.eos_token_id]
