"""Conversation trees of Open Assistant: the first question and its best answer as one pair.

The one rule: a tree gives one pair or a reason; no other turn of it is read.
"""

from __future__ import annotations

from typing import Any, cast

from reinstruct.records import Drop

SOURCE = "open-assistant/"  # followed by the language, as in open-assistant/en

Node = dict[str, Any]


def is_tree(row: Node) -> bool:
    """A published tree (`prompt` is its first message), or its first message itself."""
    return isinstance(_root(row).get("replies"), list) and isinstance(_root(row).get("text"), str)


def first_turn(row: Node) -> Node | Drop:
    """Fields of a pair (id, instruction, output, source) by name: the first message, and the reply to it that people
    ranked first (rank 0).

    An only reply needs no rank. Deleted and disapproved messages, and replies in another language, do not count.
    """
    root = _root(row)
    if not _stands(root):
        return Drop("message_withdrawn")
    if root.get("role", "prompter") != "prompter":
        return Drop("not_a_question", "the first message of the tree is not the prompter's")
    replies = [cast(Node, reply) for reply in root["replies"] if isinstance(reply, dict)]
    best = next((reply for reply in replies if reply.get("rank") == 0), None)
    if best is None and len(replies) == 1 and replies[0].get("rank") is None:
        best = replies[0]
    if best is None or not _stands(best):
        return Drop("no_best_reply", f"none of {len(replies)} replies stands and is ranked first")
    language = root.get("lang") or ""
    if (best.get("lang") or "") != language:
        return Drop("reply_in_other_language", f"{language} and {best.get('lang')}")
    source = {"source": f"{SOURCE}{language}"} if language else {}
    return {"id": root.get("message_id"), "instruction": root["text"], "output": best.get("text"), **source}


def _root(row: Node) -> Node:
    prompt = row.get("prompt")
    return cast(Node, prompt) if isinstance(prompt, dict) else row


def _stands(message: Node) -> bool:
    return not message.get("deleted") and message.get("review_result") is not False
