"""Words that give away what a reader does not see: in an instruction a text, picture or link that is not there, in an
answer the text it was made from or the model that made it. In Chinese and English, for both at once.

The one rule: phrases that point, not words: "write an article" is asked for, "the article above" is missing.
"""

from __future__ import annotations

from reinstruct.stages.checks import Keywords

_THIS = "(?:以上|上述|上面|上文|前文|下面|下文|以下|下列|给定|所给|这|该|此)的?[这那]?[一几]?[篇段则份条些张幅个]?的?"
_TEXTS = "(?:材料|文章|新闻|资料|文本|文字|段落|摘要|简历|简介|报道|故事|对话|文档|内容|信息|描述)"
_PICTURES = "(?:图片|图像|照片|图表|插图|表格|视频|音频)"
_FROM = f"(?:根据|依据|按照|基于|结合)[您你]?(?:已知|提供|给出|{_THIS})的?"
_LINKS = "(?:链接|网址|网站|网页)"
# What stands before a word of its own: there is 本文 in 日本文化, 文中 in 散文中.
_FREE = r"(?:^|[\s，。、：；“请将把从对据在按括结述绍析])"

_TEXT = (
    r"(?:(?:text|passage|article|paragraph|excerpt|document|report|review|post|essay|email|dialogue|conversation|abstract"
    r"|material|description)s?|stor(?:y|ies)|summar(?:y|ies)|information)"
)
_PICTURE = "(?:picture|image|photo|photograph|chart|graph|figure|diagram|illustration|screenshot|table|video)s?"
_LINK = r"(?:links?|urls?|websites?|web\s?(?:page|site)s?)"
_GIVEN = r"(?:above|below|following|preceding|previous|given|provided|attached|supplied)"


def _pointing(noun: str) -> str:
    """ "the given text", "this text", "the text above", in English."""
    these = rf"(?:the|these|those|that)\s+{_GIVEN}\s+(?:\w+\s+)?|th(?:is|ese)\s+"
    return rf"\b(?:{these}){noun}\b|\bthe\s+{noun}\s+(?:above|below|provided|given|attached)\b"


ASKED = (
    Keywords(
        "points_at_text",
        (),
        f"{_THIS}{_TEXTS}|(?:提供|给出)的{_TEXTS}|{_FREE}(?:本文|原文|文中|文章中)|{_pointing(_TEXT)}",
    ),
    Keywords(
        "points_at_picture",
        (),
        rf"{_THIS}{_PICTURES}|如[上下]?图(?:所示|\d)|{_FREE}(?:图中|看图)|{_pointing(_PICTURE)}"
        rf"|\bshown\s+in\s+the\s+{_PICTURE}\b",
    ),
    Keywords(
        "points_at_link",
        (),
        rf"{_THIS}{_LINKS}|(?:打开|点击|访问){_LINKS}|https?://|www\.|{_pointing(_LINK)}"
        rf"|\b(?:open|click(?:\s+on)?|follow|visit)\s+the\s+{_LINK}\b",
    ),
)
RELEASE_ASKED = (
    Keywords("points_at_text", ("新闻", "材料", "根据", "简历", "简介", "文章", "摘要", "文本", "提取", "关键词")),
    Keywords("points_at_picture", ("图片",)),
    Keywords("points_at_link", ("链接", "网址", "网站")),
)
SAID = (
    Keywords(
        "speaks_as_model",
        (),
        "(?:作为|我是)(?:一[个名款位种])?(?:AI|人工智能|大?型?语言模型|大模型|智能助手)"
        r"|\b(?:as|I\s+am|I['’]m)\s+(?:just\s+|only\s+)?an?\s+(?:AI|artificial\s+intelligence|(?:large\s+)?language\s+model)\b",
    ),
    Keywords(
        "mentions_text",
        ("知识库",),
        f"{_FROM}{_TEXTS}|已知{_TEXTS}|{_FREE}(?:本文|原文|文中)"
        rf"|\bthe\s+(?:above|given|provided|supplied|known)\s+{_TEXT}\b|\bthe\s+{_TEXT}\s+(?:above|provided|given)\b"
        r"|\b(?:according\s+to|based\s+on|(?:mentioned|stated|described)\s+in)\s+th(?:e|is)\s+(?:text|passage|article|excerpt)\b",
    ),
    Keywords(
        "states_cutoff",
        (),
        r"(?:我的|训练)(?:知识|数据)[^。]{0,8}截[止至]|截[止至]到?\s*20\d\d\s*年.{0,9}知识|\bknowledge\s+cut-?\s?off\b"
        r"|\bas\s+of\s+my\s+(?:\w+\s+){0,2}(?:knowledge|training|update)\b|\bmy\s+training\s+data\b",
    ),
    Keywords(
        "refusal",
        (),
        "(?:抱歉|对不起)[^。！]{0,30}(?:无法|不能|没有办法)|(?:无法|不能)回答(?:这|该|此|您|你)"
        r"|\b(?:sorry|afraid|apologi[sz]e)\b[^.!?]{0,40}\b(?:I|we)\s*(?:can['’]?t|cannot|can\s+not|am\s+unable|am\s+not\s+able)\b"
        r"|\bI\s+(?:can['’]?t|cannot|am\s+unable\s+to|am\s+not\s+able\s+to)\s+(?:answer|assist|comply|fulfil|help\s+(?:you\s+)?with)\b",
    ),
    Keywords(
        "disclaimer",
        ("仅供参考", "如有侵权", "不构成投资建议"),
        r"\bfor\s+(?:reference|informational\s+purposes)\s+only\b"
        r"|\bnot\s+(?:constitute|intended\s+as|a\s+substitute\s+for)\s+(?:professional\s+)?(?:investment|financial|legal|medical)\s+advice\b",
    ),
)
RELEASE_SAID = (
    Keywords("speaks_as_model", ("作为",)),
    Keywords("mentions_text", ("根据", "知识库")),
    Keywords("states_cutoff", ("2023",)),
    Keywords("refusal", ("抱歉",)),
)
