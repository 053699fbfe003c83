"""From a prompt to the token ids a model sees: the same in training, in-process generation and loss measurement.

The one rule: a prompt is tokenised alone, never together with what follows it. So a model trained on
`prompt_ids(...) + target_ids(...)` is later asked with exactly the ids it was trained after.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def prompt_ids(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Ids of a prompt as a server presents them, ready for the reply's first token.

    Plain text gets the special tokens its tokenizer puts in front (such as BOS), but never one behind; a prompt
    without any token is the token that separates texts, so that there is something to go on from. Messages go
    the chat template, or `PLAIN_TEMPLATE` where the tokenizer has none, with the assistant's turn opened.
    """
    if isinstance(prompt, str):
        return _without_end(tokenizer, prompt, tokenizer(prompt)["input_ids"])
    return _conversation_ids(tokenizer, prompt, PLAIN_TEMPLATE)


def encoded_ids(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Ids of a prompt that an encoder reads whole: with all special tokens its tokenizer puts around a text.

    Messages go through the chat template, or `ENCODED_TEMPLATE` where the tokenizer has none.
    """
    if isinstance(prompt, str):
        return tokenizer(prompt)["input_ids"] or [tokenizer.eos_token_id]
    return _conversation_ids(tokenizer, prompt, ENCODED_TEMPLATE)


def target_ids(tokenizer: Any, target: str) -> list[int]:
    """Ids of a target without special tokens; text that looks like one ("</s>") stays text."""
    return tokenizer(target, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def _conversation_ids(tokenizer: Any, messages: Sequence[Message], template: str) -> list[int]:
    turns = [{"role": message.role, "content": message.content} for message in messages]
    return tokenizer.apply_chat_template(
        turns,
        chat_template=tokenizer.chat_template or template,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=False,
    )


def _without_end(tokenizer: Any, prompt: str, ids: list[int]) -> list[int]:
    """Drop the EOS that some tokenizers put behind every text: a prompt goes on."""
    ended = ids and ids[-1] == tokenizer.eos_token_id and not prompt.endswith(tokenizer.eos_token)
    return (ids[:-1] if ended else ids) or [tokenizer.eos_token_id]
