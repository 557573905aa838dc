"""Decides: how far two names, phones, plates, stalls or texts agree, as people write them.

Officers write by ear, in a hurry, on a phone's keyboard: traditional for simplified characters, a title for a given
name, one homophone for another, full-width digits. Each `normal_…` undoes what never matters; each `…_level` tells what
is left, and `None` where either side says nothing. All of it is symmetric and takes any Unicode of any length.

What people write is no decision: who the vendor is, is decided by `vendors`, and what is the same by `likeness`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from opencc import OpenCC
from pypinyin import Style, pinyin
from rapidfuzz.distance import OSA, Indel

#: Of a longer text only so much is looked at: what a record may say (`wire`), before compatibility forms unfold.
LONGEST = 4_000
#: A phone number has at least so many digits: a landline without its area code.
LEAST_PHONE_DIGITS = 7
#: A plate has at least so many letters and digits; less is a remark such as 无牌. ESTIMATE: e-bikes' are the shortest.
LEAST_PLATE_CHARACTERS = 4
#: Texts whose characters agree to such a share say the same with a few words changed. ESTIMATE.
SIMILAR_SHARE = 0.75
#: Texts whose characters agree to such a share tell of one thing in other words. ESTIMATE: texts about different stalls
#: in the officers' set phrases come to 0.3.
RELATED_SHARE = 0.45
#: Texts kept ready in their normal form, and syllables: candidates are compared in crowds of the same few.
_KEPT_TEXTS, _KEPT_CHARACTERS = 2_048, 32_768

#: Forms of address, which officers write for, before or behind a name.
_TITLES = (
    *("老板娘", "老板", "师傅", "女士", "先生", "小姐", "大姐", "大哥", "大妈", "大娘", "大爷", "大伯", "大叔", "阿姨"),
    *("叔叔", "同志", "老师", "摊主", "店主", "车主", "业主", "商户", "摊贩", "商贩", "小贩", "姓"),
)
_ADDRESS = re.compile(rf"^(?:{'|'.join(_TITLES)})+|(?:{'|'.join(_TITLES)})+$")
#: 老王, 小李, 阿强: said of somebody, not in the name.
_FAMILIAR = re.compile(r"^[老小阿](?=.$)")
_BRACKETED = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|【[^【】]*】")
_STALL_WORDS = re.compile("摊位|档口|号|摊|铺|店|第")
_TENS = re.compile("([一二三四五六七八九]?)十([一二三四五六七八九]?)")
_NUMERALS = str.maketrans("零〇一二三四五六七八九", "00123456789")
_LEADING_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
#: China's plates use neither O nor I (GA 36-2018), so these are digits that were misread.
_NO_PLATE_LETTERS = str.maketrans("oi", "01")

#: Surnames that are read otherwise than the character alone.
_SURNAMES = {
    **{"单": "shan", "解": "xie", "查": "zha", "仇": "qiu", "曾": "zeng", "区": "ou", "任": "ren", "盖": "ge"},
    **{"朴": "piao", "翟": "zhai", "尉": "yu", "乐": "yue", "冼": "xian", "繁": "po", "缪": "miao", "宓": "mi"},
}
#: What speakers of southern dialects do not tell apart (模糊音, as every pinyin keyboard offers it), and 王 and 黄,
#: which sound the same in the dialect of Xiaoshan.
_BY_EAR = (("huang", "wang"), ("zh", "z"), ("ch", "c"), ("sh", "s"), ("ing", "in"), ("eng", "en"))
_simplified = OpenCC("t2s").convert


@lru_cache(_KEPT_TEXTS)
def _folded(text: str) -> str:
    """Compatibility forms, case and traditional characters undone; half surrogates are left out."""
    if not text.isascii():
        text = text[:LONGEST].encode("utf-8", "ignore").decode()
        text = _simplified(unicodedata.normalize("NFKC", text))
    return text[:LONGEST].casefold()[:LONGEST]


def _told(text: str) -> str:
    """Its letters and digits, of any script."""
    return "".join(filter(str.isalnum, text))


# ---------------------------------------------------------------- names


@lru_cache(_KEPT_TEXTS)
def normal_name(text: str) -> str:
    """The name without spaces, remarks in brackets, titles (王师傅: 王) and traditional characters; may be empty."""
    name = _told(_BRACKETED.sub("", _folded(text)))
    return _FAMILIAR.sub("", _ADDRESS.sub("", name))


@lru_cache(_KEPT_TEXTS)
def sound(text: str) -> str:
    """How a name is said: its syllables in pinyin without tones; what is no Chinese character stays as it is."""
    name = normal_name(text)
    first = _SURNAMES.get(name[:1]) or _syllable(name[:1])
    return " ".join([first, *map(_syllable, name[1:])])


@lru_cache(_KEPT_CHARACTERS)
def _syllable(character: str) -> str:
    return str(pinyin(character, style=Style.NORMAL)[0][0]) if character else ""


@lru_cache(_KEPT_TEXTS)
def _heard(text: str) -> str:
    """The sound as it is heard by ears of another dialect."""
    heard = sound(text)
    for said, as_heard in _BY_EAR:
        heard = heard.replace(said, as_heard)
    return heard


def name_level(one: str | None, other: str | None) -> str | None:
    """`equal`, `same-sound`, `similar` or `differs`; a surname that is all of one side is never more than similar.

    Similar: heard as the same, one begins with the other, or one character of three or more is another.
    """
    name, other_name = normal_name(one or ""), normal_name(other or "")
    if not name or not other_name:
        return None
    shorter, longer = sorted((name, other_name), key=len)
    if len(shorter) > 1:
        if name == other_name:
            return "equal"
        if sound(name) == sound(other_name):
            return "same-sound"
    if longer.startswith(shorter) or _heard(name) == _heard(other_name):
        return "similar"
    return "similar" if len(longer) > 2 and _one_off(name, other_name) else "differs"


def _one_off(one: str, other: str) -> bool:
    """Whether one character was changed, left out or added, or two neighbours changed places."""
    return OSA.distance(one, other, score_cutoff=1) == 1


# ---------------------------------------------------------------- numbers


@lru_cache(_KEPT_TEXTS)
def normal_phone(text: str) -> str | None:
    """The digits of a phone number without China's and Hangzhou's prefix; `None` if there are fewer than 7."""
    digits = "".join(filter("0123456789".__contains__, _folded(text))).removeprefix("00")
    if len(digits) > 11:
        digits = digits.removeprefix("86")
    if len(digits) == 12:
        digits = digits.removeprefix("0571")
    return digits if len(digits) >= LEAST_PHONE_DIGITS else None


@lru_cache(_KEPT_TEXTS)
def normal_plate(text: str) -> str | None:
    """The letters, digits and characters of a plate, O and I as digits; `None` where that can't be a plate (无牌)."""
    plate = _told(_folded(text)).translate(_NO_PLATE_LETTERS)
    return plate if sum(map(str.isascii, plate)) >= LEAST_PLATE_CHARACTERS else None


@lru_cache(_KEPT_TEXTS)
def normal_stall(text: str) -> str | None:
    """What names a stall, numerals as digits: A-12号摊 and a十二 are a12; `None` where nothing is left."""
    folded = _TENS.sub(lambda found: f"{found[1] or '一'}{found[2] or '零'}", _folded(text))
    return _LEADING_ZEROS.sub("", _STALL_WORDS.sub("", _told(folded.translate(_NUMERALS)))) or None


def phone_level(one: str | None, other: str | None) -> str | None:
    """`equal`, `similar` (one digit off, or two neighbours swapped) or `differs`."""
    return _number_level(normal_phone(one or ""), normal_phone(other or ""))


def plate_level(one: str | None, other: str | None) -> str | None:
    """`equal`, `similar` (one character off, or two neighbours swapped) or `differs`."""
    return _number_level(normal_plate(one or ""), normal_plate(other or ""))


def _number_level(one: str | None, other: str | None) -> str | None:
    if one is None or other is None:
        return None
    if one == other:
        return "equal"
    return "similar" if _one_off(one, other) else "differs"


def stall_level(one: str | None, other: str | None) -> str | None:
    """`equal`, `similar` (one is the other without its row) or `differs`: one digit off is the neighbour's stall."""
    stall, other_stall = normal_stall(one or ""), normal_stall(other or "")
    if stall is None or other_stall is None:
        return None
    if stall == other_stall:
        return "equal"
    shorter, longer = sorted((stall, other_stall), key=len)
    row = longer.removesuffix(shorter)
    return "similar" if row != longer and not row[-1].isdecimal() else "differs"


# ---------------------------------------------------------------- texts


@lru_cache(_KEPT_TEXTS)
def normal_text(text: str) -> str:
    """The letters and digits of a text without case and traditional characters."""
    return _told(_folded(text))


def text_level(one: str | None, other: str | None) -> str | None:
    """`equal`, `similar`, `related` or `differs`, by the share of characters that stand in both in the same order."""
    text, other_text = normal_text(one or ""), normal_text(other or "")
    if not text or not other_text:
        return None
    if text == other_text:
        return "equal"
    share = Indel.normalized_similarity(text, other_text, score_cutoff=RELATED_SHARE)
    return "similar" if share >= SIMILAR_SHARE else "related" if share >= RELATED_SHARE else "differs"
