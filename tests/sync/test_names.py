"""How far names, numbers and texts agree, as people write them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.names import (
    name_level,
    normal_name,
    normal_phone,
    normal_plate,
    normal_stall,
    normal_text,
    phone_level,
    plate_level,
    sound,
    stall_level,
    text_level,
)

Level = Callable[[str | None, str | None], str | None]
LEVELS: list[Level] = [name_level, phone_level, plate_level, stall_level, text_level]
NAMES = [level.__name__ for level in LEVELS]

#: written, without what never matters
NORMAL_NAMES = [
    ("王建国", "王建国"),
    (" 王 建 国 ", "王建国"),
    ("王建國", "王建国"),
    ("王建国（卖水果）", "王建国"),
    ("王师傅", "王"),
    ("李老板娘", "李"),
    ("摊主张伟", "张伟"),
    ("姓陈", "陈"),
    ("老王", "王"),
    ("阿强", "强"),
    ("老王八", "老王八"),  # nobody's 老
    ("老板", ""),
    ("Ｗａｎｇ　Ｗｅｉ", "wangwei"),
    ("ＡＢ记", "ab记"),
    ("😀", ""),
    ("", ""),
]


@pytest.mark.parametrize(("written", "normal"), NORMAL_NAMES)
def test_a_name_is_rid_of_what_never_matters(written: str, normal: str) -> None:
    assert normal_name(written) == normal


#: one, other, level
NAME_LEVELS = [
    ("王建国", "王建国", "equal"),
    ("王建国", "王建國师傅", "equal"),
    ("王建国", "王健国", "same-sound"),
    ("章建国", "张建国", "same-sound"),
    ("单建国", "山建国", "same-sound"),  # the surname is read shan, the character alone dan
    ("陈英", "陈银", "similar"),  # ying and yin
    ("黄强", "王强", "similar"),  # the same in the dialect of Xiaoshan
    ("王建国", "王建军", "similar"),  # one of three characters
    ("王建国", "王国建", "similar"),
    ("王建国", "王建", "similar"),
    ("王师傅", "王建国", "similar"),
    ("老王", "王老板", "similar"),  # a surname alone is a tenth of all people
    ("老王", "汪师傅", "similar"),
    ("王强", "王刚", "differs"),
    ("王建国", "李建军", "differs"),
    ("王", "李", "differs"),
    ("老板", "王建国", None),
    ("王建国", None, None),
    ("王建国", "", None),
]


@pytest.mark.parametrize(("one", "other", "level"), NAME_LEVELS)
def test_names_agree_as_far_as_ears_and_keyboards_leave_them(one: str, other: str | None, level: str | None) -> None:
    assert name_level(one, other) == level
    assert name_level(other, one) == level


def test_a_name_is_said_in_syllables_without_tones() -> None:
    assert sound("王建国师傅") == "wang jian guo"
    assert sound("曾小贤") == "zeng xiao xian"
    assert sound("老板") == ""


#: written, digits
NORMAL_PHONES = [
    ("13800001111", "13800001111"),
    ("+86 138-0000-1111", "13800001111"),
    ("0086 13800001111", "13800001111"),
    ("8613800001111", "13800001111"),
    ("１３８００００１１１１", "13800001111"),
    ("0571-82123456", "82123456"),
    ("82123456", "82123456"),
    ("8212345", "8212345"),
    ("123456", None),
    ("没有", None),
]


@pytest.mark.parametrize(("written", "digits"), NORMAL_PHONES)
def test_a_phone_number_is_its_digits(written: str, digits: str | None) -> None:
    assert normal_phone(written) == digits


#: one, other, level
PHONE_LEVELS = [
    ("13800001111", "+86 138 0000 1111", "equal"),
    ("13800001111", "13800001112", "similar"),
    ("13800001111", "13800010111", "similar"),
    ("13800001111", "1380000111", "similar"),
    ("13800001111", "13800001122", "differs"),
    ("13800001111", "没有", None),
    (None, None, None),
]


@pytest.mark.parametrize(("one", "other", "level"), PHONE_LEVELS)
def test_phone_numbers_agree_but_for_one_slip(one: str | None, other: str | None, level: str | None) -> None:
    assert phone_level(one, other) == level


#: one, other, level
PLATE_LEVELS = [
    ("浙A12345", "浙a·12345", "equal"),
    ("浙A1O345", "浙A10345", "equal"),  # no plate has the letter O
    ("浙AI2345", "浙A12345", "equal"),
    ("浙A12345", "A12345", "similar"),
    ("浙A12345", "浙A12346", "similar"),
    ("浙A12345", "浙A21345", "similar"),
    ("浙A12345", "浙A54321", "differs"),
    ("浙A12345", "无牌", None),
    ("浙A12345", "浙A", None),
]


@pytest.mark.parametrize(("one", "other", "level"), PLATE_LEVELS)
def test_plates_agree_but_for_one_slip(one: str, other: str, level: str | None) -> None:
    assert plate_level(one, other) == level


def test_a_plate_is_letters_digits_and_its_province() -> None:
    assert normal_plate(" 浙Ａ·12O45 ") == "浙a12045"
    assert normal_plate("三轮车") is None


#: written, named
NORMAL_STALLS = [
    ("A-12号摊", "a12"),
    ("a 012", "a12"),
    ("Ａ十二", "a12"),
    ("第二十号", "20"),
    ("十号", "10"),
    ("三号铺位", "3位"),
    ("二十三号摊位", "23"),
    ("三轮车", "3轮车"),
    ("号", None),
    ("——", None),
]


@pytest.mark.parametrize(("written", "named"), NORMAL_STALLS)
def test_a_stall_is_its_row_and_number(written: str, named: str | None) -> None:
    assert normal_stall(written) == named


#: one, other, level
STALL_LEVELS = [
    ("A-12号摊", "a十二", "equal"),
    ("12号", "A12", "similar"),
    ("A12", "B12", "differs"),
    ("A12", "A13", "differs"),  # the neighbour
    ("2", "A12", "differs"),
    ("三轮车", "推车", "differs"),
    ("红色三轮车", "三轮车", "similar"),
    ("A12", "", None),
]


@pytest.mark.parametrize(("one", "other", "level"), STALL_LEVELS)
def test_one_number_further_is_the_next_stall(one: str, other: str, level: str | None) -> None:
    assert stall_level(one, other) == level
    assert stall_level(other, one) == level


#: one, other, level
TEXT_LEVELS = [
    ("占道经营，已劝离。", "占道经营 已劝离", "equal"),
    ("佔道經營已勸離", "占道经营已劝离", "equal"),
    ("在工地北门占道卖水果，已劝离", "在工地北门占道卖水果，已劝离（补报）", "similar"),
    ("工地北门有人占道卖水果，已劝离", "工地门口水果摊占道，劝离", "related"),
    ("工地北门有人占道卖水果", "装修垃圾乱堆影响通行", "differs"),
    ("占道经营", "。，！", None),
    ("占道经营", None, None),
]


@pytest.mark.parametrize(("one", "other", "level"), TEXT_LEVELS)
def test_texts_agree_by_what_stands_in_both(one: str, other: str | None, level: str | None) -> None:
    assert text_level(one, other) == level
    assert text_level(other, one) == level


#: Any Unicode, half surrogates included, and much of what the rules look for.
ANY = st.text(st.characters(), max_size=60) | st.text(
    "王建国老师傅摊号第十二三A-12０９+86()（）\ud800\udfffﷺ", max_size=40
)


@pytest.mark.parametrize("level", LEVELS, ids=NAMES)
@given(one=ANY, other=ANY)
def test_any_two_texts_agree_the_same_from_both_sides(level: Level, one: str, other: str) -> None:
    assert level(one, other) == level(other, one)


@pytest.mark.parametrize("level", LEVELS, ids=NAMES)
@given(text=ANY)
def test_what_says_anything_agrees_with_itself(level: Level, text: str) -> None:
    assert level(text, text) in ("equal", "similar", None)
    assert level(text, text) != "similar" or level is name_level
    assert level(text, None) is None


@pytest.mark.parametrize("normal", [normal_name, normal_phone, normal_plate, normal_stall, normal_text, sound])
@given(text=ANY)
def test_any_text_is_taken(normal: Callable[[str], str | None], text: str) -> None:
    assert normal(text) == normal(text)
    (normal(text) or "").encode("utf-8")


@pytest.mark.parametrize("level", LEVELS, ids=NAMES)
def test_the_longest_texts_are_compared_at_once(level: Level) -> None:
    dice = random.Random(7)
    one, other = ("".join(chr(dice.randrange(0x4E00, 0x9FFF)) for _ in range(4_000)) for _ in range(2))
    began = time.perf_counter()
    for long in (one, other, "ﷺ" * 4_000, "(" * 4_000, "十" * 4_000, "0" * 4_000, "师傅" * 1_999 + "x"):
        level(one, long)
        level(long, other)
    assert time.perf_counter() - began < 2
