"""A server that answers every recipe's prompts as a good model would, and never twice the same to different texts."""

from __future__ import annotations

import zlib

from tests.fake_server import Call, FakeServer

NAMES = (
    "Ada",
    "Ben",
    "Cem",
    "Dora",
    "Emil",
    "Fay",
    "Gus",
    "Hana",
    "Ivo",
    "Jun",
    "Kai",
    "Lea",
    "Mia",
    "Noa",
    "Ole",
    "Pia",
)


class WellAnswering(FakeServer):
    """Verdicts are the best there are, marked fields and spans are marked, all else is a few plain sentences."""

    def answer(self, call: Call) -> dict:
        text = well_answered(call.prompt)
        said = {"message": {"role": "assistant", "content": text}} if "messages" in call.body else {"text": text}
        usage = {"prompt_tokens": len(call.prompt) // 4, "completion_tokens": len(text) // 4}
        return {"choices": [{"index": 0, "finish_reason": "stop", **said}], "usage": usage}


def well_answered(prompt: str) -> str:
    """The reply to a prompt: the same for the same prompt."""
    number = zlib.crc32(prompt.encode())
    who, other = NAMES[number % len(NAMES)], NAMES[number // 31 % len(NAMES)]
    question = f"What should {who} tell {other} about matter {number % 9973}?"
    answer = f"{who} should say that matter {number % 9973} takes time, and that {other} will learn it by doing it."
    if "the word Score" in prompt:
        return "It answers all that was asked.\nScore: 5"
    if "【好】" in prompt:
        return "题目和要求都说得清楚。【好】"
    if "[/RES]" in prompt:
        return f"[RES]\n{answer}\n[/RES]"
    if prompt.endswith("#instruction#:"):
        return f" {question}\n#input#:\n#output#: {answer}"
    if "#instruction#" in prompt:
        return f"#instruction#: {question}\n#input#:\n#output#: {answer}"
    if "这段文字是对某条指令的答复" in prompt:
        return f"请用三句话说明第{number % 9973}种做法为什么能省时间。"
    if "已知下面的知识" in prompt:
        return f"第{number % 9973}种做法先把材料备齐，再按顺序动手，最后检查一遍，所以不必返工，时间自然就省下来了。"
    if prompt.endswith(("### Request\n", "### Message\n", "### The question that was asked\n")):
        return question
    return answer
