"""How people write down what they saw: names by ear, numbers with a slip, one scene in the words of whoever was there.

What is true of a vendor or a place stands in `Vendor` and `Place`; what an officer makes of it in the functions below
them, each with the odds of every variant. Odds marked ESTIMATE are nobody's measurement.

Names, phones and plates can be nobody's: surnames are characters that mean sample or trial and stand in no book of
surnames, phone numbers begin with 100, which no operator has, and plates hold a character that no plate has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

# ---------------------------------------------------------------- what is true


@dataclass(frozen=True)
class Vendor:
    """Somebody who sells. `stall` is a number painted on the ground, or what the goods stand on."""

    name: str
    title: str
    phone: str
    stall: str
    plate: str | None
    goods: Sequence[str]


@dataclass(frozen=True)
class Place:
    """A stretch of a street as people call it, and the number over the next door."""

    road: str
    landmark: Sequence[str]
    door: int


@dataclass(frozen=True)
class Sight:
    """What officers see often. `others` are the items and event classes that colleagues choose for the same."""

    code: str
    event_class: str
    acts: Sequence[str]
    measures: Sequence[str]
    others: Sequence[tuple[str, str]] = ()


SURNAMES = "演试样例假虚拟测验示稿仿摹题案图表词篇栏格线圈框标号码寸"
#: The five commonest surnames hold a third of the people (王 7.25 %, 李 7.19 %, 张 6.83 % …: Ministry of Public
#: Security, 2007), the hundred commonest 85 %: weights that fall like this.
_SURNAME_WEIGHTS = [1 / (rank + 8) for rank in range(len(SURNAMES))]
#: Characters of given names by sound, the usual one first.
GIVEN = (
    *("伟玮炜", "芳坊方", "建健剑", "国帼", "明铭鸣", "华骅桦", "英瑛莺", "红宏鸿", "军君钧", "平萍苹", "兰岚澜"),
    *("丽莉利", "勇永咏", "秀绣", "珍真贞", "杰洁捷", "涛滔桃", "梅玫枚", "林琳霖", "云芸耘", "辉晖徽", "春椿"),
    *("志智致", "新欣鑫", "小晓筱", "文雯纹", "金津锦", "祥翔详", "福富", "生升声", "东冬", "海", "龙隆", "阿"),
)
TRADITIONAL = dict(
    zip(
        "伟国华红军兰丽涛云辉龙东样试测验题图拟词栏线标号码虚",
        "偉國華紅軍蘭麗濤雲輝龍東樣試測驗題圖擬詞欄線標號碼虛",
        strict=True,
    )
)
TITLES = (("师傅", "老板", "先生", "大哥"), ("女士", "老板娘", "大姐", "阿姨"))

#: What is sold, each as several people would put it.
GOODS = (
    *(("水果", "新鲜水果", "苹果香蕉"), ("早点", "早餐", "包子豆浆"), ("煎饼", "煎饼果子", "杂粮煎饼")),
    *(
        ("蔬菜", "青菜", "自种蔬菜"),
        ("烧烤", "烤串", "羊肉串"),
        ("袜子", "袜子内衣", "小百货"),
        ("西瓜", "瓜果", "西瓜"),
    ),
    *(
        ("炒饭炒面", "炒粉", "快餐"),
        ("鲜花", "盆栽", "花卉"),
        ("手机壳", "手机贴膜", "手机配件"),
        ("玩具", "气球", "儿童玩具"),
    ),
    *(
        ("水产", "活鱼", "鱼虾"),
        ("烤红薯", "红薯玉米", "烤玉米"),
        ("甘蔗", "甘蔗荸荠", "现榨甘蔗汁"),
        ("旧书", "书籍", "书刊"),
    ),
    *(("卤味", "熟食", "鸭脖卤菜"), ("奶茶", "冷饮", "饮料"), ("衣服", "服装", "童装"), ("豆腐", "豆制品", "豆腐干")),
)
#: Fruit and breakfast are sold more than old books. ESTIMATE.
_GOODS_WEIGHTS = [1 / (rank + 2) for rank in range(len(GOODS))]
VEHICLES = (
    ("三轮车", "电动三轮车", "三轮"),
    ("推车", "手推车", "小推车"),
    ("地摊", "摊布", "地面铺布"),
    ("面包车", "白色面包车", "小面包车"),
)
COLOURS = ("", "红色", "蓝色", "绿色")
#: Of the vehicles, those that have a plate.
_PLATED = {"三轮车": 0.6, "面包车": 1.0}

ROADS = tuple(f"{name}{kind}" for name in ("示范", "样板", "演示", "试点", "例证", "模拟", "练习") for kind in "路街巷")
LANDMARKS = (
    *(("工地北门", "在建工地大门口", "项目部门口"), ("农贸市场东侧", "菜场东门", "菜市场边上")),
    *(
        ("小学校门外", "学校门口", "小学大门旁"),
        ("地铁站出口", "地铁口", "地铁站A口"),
        ("医院北门", "医院门口", "医院后门"),
    ),
    *(("公交站旁", "公交站台", "车站边"), ("小区西门", "小区门口", "小区出入口"), ("十字路口", "路口", "红绿灯路口")),
    *(("桥下", "高架桥下", "桥洞边"), ("滨河步道", "河边步道", "河边"), ("银行门前", "银行门口", "银行对面")),
)

STALL = Sight(
    *("DEMO-SR-001", "09001", ("占道经营", "占用人行道设摊", "流动设摊", "摆摊售卖", "占道摆卖")),
    ("educate", "guide"),
    (("DEMO-SR-001", "09006"), ("DEMO-TF-001", "09001"), ("DEMO-SR-002", "09005")),
)
SHOP = Sight(
    *("DEMO-SR-002", "09005", ("店外经营", "跨门经营", "货架摆出门外", "出店堆放商品")),
    ("educate", "inform"),
    (("DEMO-SR-005", "06036"), ("DEMO-SR-001", "09001")),
)
SPOTS = (
    Sight("DEMO-SR-005", "06036", ("沿街堆放装修材料", "路边堆放杂物", "乱堆物料"), ("inform", "order_correction")),
    Sight(
        "DEMO-SR-006",
        "06007",
        ("树间拉绳晾晒被褥", "沿街晾挂衣物", "晾晒被子"),
        ("educate",),
        (("DEMO-SR-004", "06005"),),
    ),
    Sight("DEMO-SR-009", "07001", ("电杆张贴小广告", "墙面乱贴广告", "非法小广告"), ("educate",)),
    Sight(
        *("DEMO-SR-012", "06010", ("绿化带内倾倒垃圾", "暴露垃圾一堆", "乱倒生活垃圾"), ("educate", "inform")),
        (("DEMO-SR-012", "06017"), ("DEMO-LJ-001", "06041")),
    ),
    Sight("DEMO-SR-013", "06020", ("露天焚烧落叶", "焚烧树叶", "烧垃圾冒烟"), ("educate", "publicise")),
    Sight(
        *("DEMO-JZ-002", "06011", ("装修垃圾乱堆", "建筑垃圾未入指定点", "渣土堆积"), ("inform", "order_correction")),
        (("DEMO-JZ-006", "06011"), ("DEMO-SR-005", "06036")),
    ),
    Sight("DEMO-LJ-001", "06041", ("垃圾分类混投", "可回收物与厨余混投", "未分类投放"), ("educate",)),
)
DONE = (
    *("已批评教育", "经劝导当场改正", "已引导至疏导点", "当事人表示配合", "现场劝离", "已告知相关规定", "当场清理完毕"),
    *("要求限期整改", "已拍照取证", "口头教育后离开"),
)
TOLD = (
    "告知相关规定，引导至指定地点经营",
    "批评教育，要求不再占道",
    "宣传市容条例，当事人表示理解",
    "要求立即收摊离开",
    "告知再次发现将处罚",
)


def a_vendor(random: Random, number: int, stall: str | None) -> Vendor:
    """A vendor of whom nobody has the name, the phone or the plate. `number` makes phone and plate their own; without
    a numbered stall they sell from a vehicle or on the ground."""
    man = random.random() < 0.5
    length = 2 if random.random() < 0.85 else 1  # most given names have two characters
    given = "".join(_of_a_sound(random, random.choice(GIVEN)) for _ in range(length))
    surname = random.choices(SURNAMES, _SURNAME_WEIGHTS)[0]
    vehicle = random.choice(VEHICLES)[0]
    plated = stall is None and random.random() < _PLATED.get(vehicle, 0.0)
    return Vendor(
        surname + given,
        random.choice(TITLES[man]),
        f"100{(number * 7_919 + random.randrange(7_000)) % 100_000_000:08d}",
        stall or random.choice(COLOURS) + vehicle,
        f"浙A演{number % 10_000:04d}" if plated else None,
        random.choices(GOODS, _GOODS_WEIGHTS)[0],
    )


def a_shop(random: Random) -> str:
    """The name over a shop's door."""
    kinds = ("小吃店", "水果店", "五金店", "便利店", "服装店", "面馆", "理发店", "药店")
    return random.choice(SURNAMES) + random.choice("记氏家福") + random.choice(kinds)


def _of_a_sound(random: Random, sound: str) -> str:
    return random.choices(sound, [3, *[1] * (len(sound) - 1)])[0]


# ---------------------------------------------------------------- what is written of it


def name_told(random: Random, vendor: Vendor) -> str:
    """A name as an officer writes it who heard it, the vendor having shown no document.

    ESTIMATE: 64 % right; 14 % by ear with another character of the same sound; 4 % one character wrong, 2 % one
    missing; 8 % surname and title, 5 % surname with 老; 3 % in the traditional characters of that phone's keyboard.
    """
    name = vendor.name
    return _drawn(
        random,
        (name, 0.64),
        (_by_ear(random, name), 0.14),
        (_one_wrong(random, name), 0.04),
        (name[:-1] if len(name) > 2 else name, 0.02),
        (name[0] + vendor.title, 0.08),
        (f"老{name[0]}", 0.05),
        ("".join(TRADITIONAL.get(character, character) for character in name), 0.03),
    )


def phone_told(random: Random, phone: str) -> str:
    """A number as taken down. ESTIMATE: 92 % right, 4 % one digit wrong, 2 % one missing, 2 % two swapped; a third
    with blanks or +86."""
    place = random.randrange(4, len(phone) - 1)
    wrong = phone[:place] + str((int(phone[place]) + random.randrange(1, 10)) % 10) + phone[place + 1 :]
    missing = phone[:place] + phone[place + 1 :]
    swapped = phone[:place] + phone[place + 1] + phone[place] + phone[place + 2 :]
    written = _drawn(random, (phone, 0.92), (wrong, 0.04), (missing, 0.02), (swapped, 0.02))
    return random.choice(
        (written, written, written, written, f"{written[:3]} {written[3:7]} {written[7:]}", f"+86{written}")
    )


def plate_told(random: Random, plate: str) -> str:
    """A plate as read. ESTIMATE: 93 % right, 5 % one digit wrong, 2 % without its province; some with a dot."""
    place = random.randrange(3, len(plate))
    wrong = plate[:place] + random.choice("0123456789") + plate[place + 1 :]
    written = _drawn(random, (plate, 0.93), (wrong, 0.05), (plate[2:], 0.02))
    return random.choice((written, written, written, f"{written[:2]}·{written[2:]}", written.lower()))


def stall_told(random: Random, stall: str) -> str:
    """Where the goods stand. ESTIMATE: a painted number is written in five ways, 4 % of them misread; of a vehicle half
    tell the colour."""
    vehicle = vehicle_of(stall)
    if vehicle:
        colour = stall.removesuffix(vehicle[0])
        return random.choice((colour, "")) + random.choice(vehicle)
    row, number = stall[0], int(stall[1:])
    number += random.choice((-1, 1)) if random.random() < 0.04 else 0
    return random.choice(
        (f"{row}{number}", f"{row}-{number}", f"{row}{number}号", f"{row.lower()}{number}号摊", f"{number}号")
    )


def shop_told(random: Random, shop: str) -> str:
    """The name over a door as written down. ESTIMATE: 80 % right, 12 % only its first part, 8 % a character wrong."""
    index = random.randrange(1, len(shop))
    wrong = shop[:index] + random.choice(random.choice(GIVEN)) + shop[index + 1 :]
    return _drawn(random, (shop, 0.80), (shop[:2], 0.12), (wrong, 0.08))


def vehicle_of(stall: str) -> Sequence[str]:
    """The words for the vehicle that a stall is; none for one with a number."""
    return next((words for words in VEHICLES if stall.endswith(words[0])), ())


@dataclass(frozen=True)
class Pen:
    """How an officer writes: in full, in a few words, or always the same sentence."""

    style: str
    templates: Mapping[str, str]


def a_pen(random: Random) -> Pen:
    """ESTIMATE: a quarter of officers always take their own template, a third are brief, the others write it out."""
    templates = {sight.code: f"{random.choice(sight.acts)}，{random.choice(DONE)}" for sight in (STALL, SHOP, *SPOTS)}
    return Pen(_drawn(random, ("template", 0.25), ("brief", 0.35), ("full", 0.40)), templates)


def described(
    random: Random, pen: Pen, sight: Sight, place: Place, what: Sequence[str], vehicle: str | None
) -> str | None:
    """A scene in the words of who saw it; `what` is sold there, or whose it is. ESTIMATE: 10 % leave it empty."""
    if random.random() < 0.10:
        return None
    act, done = random.choice(sight.acts), random.choice(DONE)
    where = _where(random, place)
    if pen.style == "template":
        return pen.templates[sight.code]
    thing = random.choice(what) if what else ""
    if pen.style == "brief":
        return _drawn(random, (f"{where}{act}", 0.4), (f"{where}{thing}{act}", 0.4), (f"{thing}{act}", 0.2))
    how = random.choice(
        ("", f"，占道约{random.choice('一两三')}米", "，影响通行", f"，有{random.choice('二三四五')}人围观")
    )
    by = f"用{vehicle}" if vehicle and random.random() < 0.4 else ""
    return f"{where}有人{by}{act}{thing and '，' + thing}{how}，{done}"


def _where(random: Random, place: Place) -> str:
    """Where it was, in words. ESTIMATE: a third give the number of a door, one in ten of them the next one's."""
    landmark = random.choice(place.landmark)
    door = place.door + (random.choice((-2, 2)) if random.random() < 0.1 else 0)
    address = f"{place.road}{door}号{random.choice(('', '门前', '门口'))}"
    return _drawn(
        random, (address, 0.33), (place.road + landmark, 0.25), (landmark, 0.2), (place.road, 0.12), ("", 0.1)
    )


def _by_ear(random: Random, name: str) -> str:
    index = random.randrange(1, len(name))
    sound = next(sound for sound in GIVEN if name[index] in sound)
    return name[:index] + random.choice(sound) + name[index + 1 :]


def _one_wrong(random: Random, name: str) -> str:
    index = random.randrange(1, len(name))
    return name[:index] + random.choice(random.choice(GIVEN)) + name[index + 1 :]


def _drawn(random: Random, *odds: tuple[str, float]) -> str:
    return random.choices([value for value, _ in odds], [odd for _, odd in odds])[0]
