"""Writes a folder for `flask load-reference`: the demo's reference data with lists shaped like the articles of 2022.

350 items are delegated to every township, 261 of them comprehensive; 瓜沥镇 has 367 in 17 domains, more than the 350;
南阳街道 has 203 of the 350. The figures and their sources stand in `reference/seed_facts.json`. The 30 items of
`reference/enforcement_items.csv` are among them; the others are invented and say so. The same seed gives the same
folder, and a longer list begins with the shorter one.

    python -m tests.demo.demo_list FOLDER [--size 5850]
"""

from __future__ import annotations

import argparse
import csv
import shutil
from collections.abc import Iterable, Iterator
from itertools import chain, cycle, islice, product
from pathlib import Path
from random import Random

from sync import sheets

REFERENCE = Path(__file__).parent / "reference"
BASIC, BASIC_COMPREHENSIVE = 350, 261
GUALI, GUALI_ITEMS = "330109113", 367
NANYANG, NANYANG_ITEMS = "330109006", 203
#: A few items more than anybody may enforce, so that something is left to be referred.
DEFAULT_SIZE = 400
SEED = 20221223
ITEMS_FROM_ON, DELEGATED_FROM_ON = "2022-01-01", "2022-06-01"

Row = dict[str, str]

BUREAU = "DEMO-D-ZHZF"
#: Domain: who acts on it, and what its invented items are about.
DOMAINS = {
    "市容环卫": (BUREAU, "果皮箱 垃圾容器间 店招标牌 公共厕所 临街橱窗 环卫作业车辆"),
    "工地管理": (BUREAU, "施工围挡 车辆冲洗设施 施工公示牌 扬尘监测设备 夜间施工照明 工地出入口"),
    "建筑垃圾": (BUREAU, "渣土运输车辆 消纳场地 装修垃圾堆放点 密闭运输装置 处置核准文件 中转场所"),
    "市政公用": (BUREAU, "人行道板 道路护栏 窨井盖 路灯设施 桥梁限载标志 地下通道"),
    "生活垃圾分类": (BUREAU, "分类收集容器 集中投放点 厨余垃圾桶 可回收物站点 有害垃圾暂存点 分类运输车辆"),
    "食品摊贩": (BUREAU, "摊贩登记卡 经营台位 食品防护设施 餐饮油烟装置 废弃物收集桶 摊位公示牌"),
    "园林绿化": (BUREAU, "行道树 公共绿地 花坛护栏 古树名木保护牌 绿化灌溉设施 临时占绿围挡"),
    "物业管理": (BUREAU, "电梯轿厢 物业档案 专项维修资金账目 小区道闸 公共走廊 消防车通道"),
    "燃气管理": (BUREAU, "瓶装燃气 燃气调压箱 燃气管道标志 用户安全检查记录 燃气配送车辆 报警切断装置"),
    "城镇排水": (BUREAU, "排水管网 雨水口 隔油池 排水许可证 沉淀池 检测井"),
    "水环境": ("DEMO-D-STHJ", "排污口标志牌 污水处理设施 入河排口 在线监测设备 畜禽粪污贮存池 饮用水源隔离网"),
    "自然资源": ("DEMO-D-GZ", "临时用地 耕地保护标志 规划许可公示牌 测量标志 矿山道路 设施农用地"),
    "应急管理": ("DEMO-D-YJGL", "安全警示标志 危险化学品台账 应急预案 有限空间作业票 安全培训记录 烟花爆竹柜台"),
    "农业农村": ("DEMO-D-NYNC", "农药经营台账 兽药处方笺 渔业船舶证书 种子标签 禁用渔具 动物检疫证明"),
    "文化旅游": ("DEMO-D-WGLY", "营业性演出场地 游泳场所救生器材 出版物零售架 旅游合同 网吧登记系统 健身设施"),
    "交通运输": ("DEMO-D-JTYS", "公路用地 货运装载单 客运站牌 网约车运输证 航道标志 公路护栏"),
    "卫生健康": ("DEMO-D-WSJK", "公共场所卫生许可证 二次供水水箱 从业人员健康证明 消毒记录 控烟标识 医疗废物暂存间"),
}
SETTINGS = [
    *("主要街道", "集贸市场周边", "学校周边", "医院周边", "居民小区内"),
    *("工业园区内", "公园广场", "公交站点周边", "河道沿线", "建筑工地周边"),
]
ACTS = [
    *("未按规定维护", "擅自移动", "擅自拆除", "故意损毁", "未按要求登记"),
    *("未定期检查", "超期使用", "违规占用", "未及时更新", "拒不整改"),
]


def write(folder: Path, *, size: int = DEFAULT_SIZE) -> None:
    """The folder holds everything `load-reference` reads, with `size` items: at least 367, the district had 5,850."""
    if size < GUALI_ITEMS:
        raise ValueError(f"瓜沥镇 alone has {GUALI_ITEMS} items")
    folder.mkdir(parents=True, exist_ok=True)
    for sheet in sheets.SHEETS:
        if (REFERENCE / sheet.file).exists():
            shutil.copyfile(REFERENCE / sheet.file, folder / sheet.file)
    items = list(islice(_items(), size))
    known = _rows(sheets.PROVISIONS)
    _write(folder, sheets.ITEMS, items)
    _write(folder, sheets.PROVISIONS, [*known, *(_provision(item) for item in items if _is_invented(item))])
    _write(folder, sheets.DELEGATIONS, _delegations([item["code"] for item in items]))


def _rows(sheet: sheets.Sheet) -> list[Row]:
    with (REFERENCE / sheet.file).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _write(folder: Path, sheet: sheets.Sheet, rows: Iterable[Row]) -> None:
    with (folder / sheet.file).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [column.name for column in sheet.columns], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _items() -> Iterator[Row]:
    """First the 350 that every township has, then what 瓜沥镇 adds, then what nobody was given."""
    known = _rows(sheets.ITEMS)
    comprehensive = sum(item["scope"] == "comprehensive" for item in known)
    names = {domain: _names(domain, Random(f"{SEED} {domain}")) for domain in DOMAINS}
    bureau = [domain for domain, (department, _) in DOMAINS.items() if department == BUREAU]
    others = [domain for domain in DOMAINS if domain not in bureau]
    domains = chain(
        islice(cycle(bureau), BASIC_COMPREHENSIVE - comprehensive),
        islice(cycle(others), BASIC - BASIC_COMPREHENSIVE - (len(known) - comprehensive)),
        cycle(DOMAINS),
    )
    amounts = Random(SEED)
    yield from known
    for number, domain in enumerate(domains, start=1):
        yield _item(number, domain, next(names[domain]), amounts)


def _names(domain: str, random: Random) -> Iterator[str]:
    """Every name the words of a domain can make, once, in an order of its own."""
    parts = list(product(SETTINGS, ACTS, DOMAINS[domain][1].split()))
    random.shuffle(parts)
    return (f"对在{setting}{act}{thing}的处理（演示）" for setting, act, thing in parts)


def _item(number: int, domain: str, name: str, random: Random) -> Row:
    department, _ = DOMAINS[domain]
    least = random.choice((50, 100, 200, 500))
    return {
        "code": f"DEMO-X-{number:04d}",
        "name": name,
        "domain": domain,
        "scope": "comprehensive" if department == BUREAU else "specialist",
        "department_code": department,
        "first_step": random.choice(("责令改正", "责令限期改正")),
        "fine_condition": random.choice(("拒不改正", "逾期不改正")),
        "fine_modal": random.choice(("可以", "应当")),
        "person_min_yuan": str(least),
        "person_max_yuan": str(least * 10),
        "org_min_yuan": str(least * 10),
        "org_max_yuan": str(least * 100),
        "remark": "invented for the demo / 演示数据，非真实事项",
        "synthetic": "1",
        "from_on": ITEMS_FROM_ON,
    }


def _is_invented(item: Row) -> bool:
    return item["code"].startswith("DEMO-X-")


def _provision(item: Row) -> Row:
    article = 10 + int(item["code"].removeprefix("DEMO-X-")) % 60
    return {
        "item_code": item["code"],
        "item_from_on": item["from_on"],
        "ordinal": "1",
        "law": f"{item['domain']}管理演示条例（虚构）",
        "prohibition_article": f"第{article}条第一款",
        "penalty_article": f"第{article}条第二款",
        "penalty_text": f"（虚构条文）违反本条第一款规定的，{item['first_step']}；{item['fine_condition']}的，"
        f"{item['fine_modal']}处{item['person_min_yuan']}元以上{item['person_max_yuan']}元以下罚款。",
    }


def _delegations(codes: list[str]) -> Iterator[Row]:
    lists = {GUALI: codes[:GUALI_ITEMS], NANYANG: _first_batch(codes[:BASIC])}
    for township in _rows(sheets.TOWNSHIPS):
        if township["until_on"]:
            continue
        for code in lists.get(township["code"], codes[:BASIC]):
            names = {"township_code": township["code"], "township_name": township["name"]}
            yield names | {"item_code": code, "from_on": DELEGATED_FROM_ON}


def _first_batch(basic: list[str]) -> list[str]:
    """What 南阳街道 chose: the comprehensive ones of the 30 items and a draw from the rest."""
    chosen = [item["code"] for item in _rows(sheets.ITEMS) if item["scope"] == "comprehensive"]
    invented = [code for code in basic if code.startswith("DEMO-X-")]
    return chosen + sorted(Random(SEED).sample(invented, NANYANG_ITEMS - len(chosen)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=DEFAULT_SIZE, help="how many items the list has")
    given = parser.parse_args()
    write(given.folder, size=given.size)
