"""The verdict: one sentence a person can act on, in two languages, with the confidence that the measurements allow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from chainrule.explain.memory import horizon
from chainrule.report.exhibit import Figure
from chainrule.scoring.evaluate import Blocks, difference

LITTLE_TEST = 5_000
"""Bytes (or symbols) of test data below which no ranking is given."""
LITTLE_TRAIN = 100_000
COUNTING = ("markov", "ngram")


@dataclass(frozen=True)
class Standing:
    """Finished rows from best to worst, and the paired difference of each to the best: (value, low, high) in bits."""

    order: list[str]
    gaps: dict[str, tuple[float, float, float]]

    @property
    def tie(self) -> list[str]:
        """Rows that the best one is not clearly better than, itself included."""
        return [name for name in self.order if name == self.order[0] or self.gaps[name][1] <= 0]


def rank(blocks: dict[str, Blocks]) -> Standing | None:
    """Order by bits; differences by paired bootstrap over the same blocks."""
    if not blocks:
        return None
    order = sorted(blocks, key=lambda name: blocks[name].bits())
    return Standing(order, {name: difference(blocks[name], blocks[order[0]]) for name in order})


def flip(rows: dict[str, dict[str, Any]], standing: Standing) -> tuple[str, float] | None:
    """Which row would overtake the best one, and at about how many times the training time.

    Learning is compared where the rate is still constant (a decay would bend the curve): the gain from a quarter to half of the
    budget is what a doubling of time brings. An estimate, and only as good as that line; of an accuracy or a PSNR, which flatten, it
    would promise too much.
    """
    best = standing.order[0]
    gain = {name: gain_of_doubling(rows[name]) for name in standing.order}
    found = []
    for name in standing.order[1:]:
        faster = gain[name] - gain[best]
        if faster > 1e-3 and standing.gaps[name][0] > 0:
            found.append((2 ** (standing.gaps[name][0] / faster), name))
    times, name = min(found, default=(math.inf, ""))
    return (name, times) if times <= 32 else None


def gain_of_doubling(row: dict[str, Any]) -> float:
    """By how much the learning curve falls from a quarter to half of the time; 0 where it rises."""
    curve = row.get("curve") or []
    if len(curve) < 5:
        return 0.0
    total = curve[-1]["seconds"]
    near = lambda share: min(curve, key=lambda p: abs(p["seconds"] - share * total))["value"]  # noqa: E731
    return max(0.0, near(0.25) - near(0.5))


def _cheapest(names: list[str], rows: dict[str, dict[str, Any]]) -> str:
    """The row of a tie that costs least to keep and to run: constant memory first, then fewer parameters."""
    return min(names, key=lambda n: ((rows[n]["state_bytes_per_token"] or 0) > 0, rows[n]["params"]))


def make_verdict(
    rows: dict[str, dict[str, Any]], blocks: dict[str, Blocks], *, running: bool, figure: Figure
) -> dict[str, Any]:
    """``{"text", "text_ko", "best", "tie", "confidence", "horizon"}``."""
    standing = rank(blocks)
    if standing is None:
        text = ("No model has finished yet.", "아직 끝난 모델이 없습니다.")
        return _verdict(text, None, [], "so far" if running else "cannot tell", None)
    size = next(iter(blocks.values())).size.sum()
    best, tie = standing.order[0], standing.tie
    reach = horizon(rows[best].get("memory") or [])
    if running:
        text = (
            f"So far {label(rows, best)} leads with {said(rows, best, figure)}; not all models have finished.",
            f"지금까지는 {label(rows, best)}이(가) {said_ko(rows, best, figure)}로 앞섭니다. 아직 끝나지 않은 모델이 있습니다.",
        )
        return _verdict(text, best, tie, "so far", reach)
    if size < figure.least:
        text = (
            f"Cannot tell: {size:,.0f} {figure.items} are too few to rank models (at least {figure.least:,} are needed); "
            f"{label(rows, best)} is ahead with {said(rows, best, figure)}.",
            f"판정할 수 없습니다: {figure.items_ko.format(f'{size:,.0f}')}로는 순위를 매길 수 없습니다(최소 {figure.least:,}개 필요). "
            f"{label(rows, best)}이(가) {said_ko(rows, best, figure)}로 앞서 있습니다.",
        )
        return _verdict(text, best, tie, "cannot tell", reach)
    chosen = _cheapest(tie, rows)
    sentences, sentences_ko = (_tie if len(tie) > 1 else _clear)(rows, standing, chosen, figure)
    if reach is not None:
        sentences += f" {_reach(reach)}"
        sentences_ko += f" {_reach_ko(reach)}"
    turn = flip(rows, standing) if figure.followed and not figure.higher else None
    if turn and turn[0] not in tie:
        times = f"{max(turn[1], 1.1):.2g}"
        sentences += f" With about {times}× the training time {label(rows, turn[0])} would overtake it."
        sentences_ko += f" 학습 시간이 약 {times}배이면 {label(rows, turn[0])}이(가) 앞설 것으로 보입니다."
    return _verdict((sentences, sentences_ko), chosen, tie, "tie" if len(tie) > 1 else "clear", reach)


def _verdict(
    text: tuple[str, str], best: str | None, tie: list[str], confidence: str, reach: int | None
) -> dict[str, Any]:
    return {"text": text[0], "text_ko": text[1], "best": best, "tie": tie, "confidence": confidence, "horizon": reach}


def _clear(rows: dict[str, dict[str, Any]], standing: Standing, best: str, figure: Figure) -> tuple[str, str]:
    text = f"Use {label(rows, best)}: {said(rows, best, figure)}"
    text_ko = f"{label(rows, best)}을(를) 쓰십시오: {said_ko(rows, best, figure)}"
    if len(standing.order) > 1:
        second = standing.order[1]
        value, low, high = map(figure.number, standing.gaps[second])
        text += f", {value} better than {label(rows, second)} (95% interval {low} to {high})"
        text_ko += f", {label(rows, second)}보다 {value} {figure.better_ko}(95% 구간 {low}~{high})"
    counted = next((n for n in standing.order if n.split(":")[0] == "ngram" and n != best), None)
    if counted and counted != standing.order[1]:
        value = figure.number(standing.gaps[counted][0])
        text += f" and {value} better than counting ({label(rows, counted)})"
        text_ko += f". 세기만 하는 {label(rows, counted)}보다는 {value} {figure.better_ko}"
    return text + ".", text_ko + "."


def _tie(rows: dict[str, dict[str, Any]], standing: Standing, chosen: str, figure: Figure) -> tuple[str, str]:
    names = ", ".join(label(rows, n) for n in standing.tie)
    text = f"Tie between {names} at {said(rows, standing.order[0], figure)}: take {label(rows, chosen)}, the cheapest to keep."
    text_ko = f"{names} 사이에 차이가 없습니다({said_ko(rows, standing.order[0], figure)}): 가장 가벼운 {label(rows, chosen)}을(를) 쓰십시오."
    return text, text_ko


def _reach(symbols: int) -> str:
    if symbols == 0:
        return "What came before tells it nothing."
    return f"It needs the last {symbols} symbol{'s' if symbols > 1 else ''} to come within 1% of its best."


def _reach_ko(symbols: int) -> str:
    return (
        "앞의 기호는 아무것도 알려 주지 않습니다."
        if symbols == 0
        else f"최선의 1% 이내에 들려면 직전 {symbols}개 기호가 필요합니다."
    )


def label(rows: dict[str, dict[str, Any]], name: str) -> str:
    return rows[name]["label"]


def said(rows: dict[str, dict[str, Any]], name: str, figure: Figure) -> str:
    return figure.said.format(figure.number(rows[name][figure.metric]))


def said_ko(rows: dict[str, dict[str, Any]], name: str, figure: Figure) -> str:
    return figure.said_ko.format(figure.number(rows[name][figure.metric]))


def counted_ko(unit: str) -> str:
    """The unit behind a number."""
    return "바이트" if unit == "byte" else "개 기호"


def make_warnings(card: dict[str, Any], rows: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    """What a reader must know before believing the table."""
    found = []
    unit = card.get("counted", "byte")
    size = "bytes" if unit == "byte" else "symbols"
    train, test = card["parts"]["train"][size], card["parts"].get("test", {}).get(size, 0)
    if train < LITTLE_TRAIN:
        found.append(("little_train", f"Only {train:,} {size} to train on: small models and counting have the advantage here.",
                      f"학습 데이터가 {train:,}{counted_ko(unit)}뿐입니다. 작은 모델과 세기 방식이 유리합니다."))  # fmt: skip
    if test < 10 * LITTLE_TEST:
        found.append(
            (
                "little_test",
                f"Only {test:,} {size} to test on: intervals are wide.",
                f"시험 데이터가 {test:,}{counted_ko(unit)}뿐이라 구간이 넓습니다.",
            )
        )
    if card.get("duplicates", 0) > 0.01:
        share = card["duplicates"]
        found.append(("duplicates", f"{share:.1%} of the test part also stands in the training part: memorising pays here.",
                      f"시험 부분의 {share:.1%}가 학습 부분에도 있습니다. 외우기만 해도 점수가 오릅니다."))  # fmt: skip
    slow = [r["label"] for r in rows.values() if r.get("status") == "done" and r.get("gain_of_doubling", 0) > 0.03]
    if slow:
        names = ", ".join(slow)
        found.append(("still_improving", f"Still improving when the budget ended: {names}. More time would lower their bits.",
                      f"예산이 끝날 때까지 계속 나아지고 있던 모델: {names}. 시간을 더 주면 비트가 내려갑니다."))  # fmt: skip
    return [{"code": code, "text": text, "text_ko": text_ko} for code, text, text_ko in found]
