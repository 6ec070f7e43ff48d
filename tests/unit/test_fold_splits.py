"""Folds of cross-validation: every record is tested once, and never trained on by the run that is tested on it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.core import UserError
from chainrule.core.errors import DataError
from chainrule.data import read
from chainrule.data.folds import Fold, GivenSplit
from chainrule.data.labelled import read_labelled
from chainrule.data.series import read_series
from chainrule.data.split import by_hash, check_split, place_blocks
from chainrule.tasks.settings import RunConfig

KOREAN = "사람이 온다는 것은 실은 어마어마한 일이다 그의 과거와 현재와 그리고 미래가 함께 오기 때문이다\n"


def text_of(folder: Path, lines: int, seed: int) -> Path:
    rng, path = random.Random(seed), folder / "corpus.txt"
    words = [*KOREAN.split(), "the", "wise", "owl"]
    path.write_text("".join(" ".join(rng.choices(words, k=rng.randint(1, 9))) + "\n" for _ in range(lines)))
    return path


@pytest.mark.parametrize(("folds", "lines", "seed"), [(5, 300, 1), (3, 61, 2), (7, 997, 3), (2, 40, 4)])
def test_the_folds_of_a_stream_are_contiguous_and_tile_it(tmp_path: Path, folds: int, lines: int, seed: int) -> None:
    path = text_of(tmp_path, lines, seed)
    content, tested = path.read_bytes(), []
    for k in range(folds):
        parts = read(path, split=Fold(k + 1, folds)).parts
        taken = np.zeros(len(content), int)
        for part in parts.values():
            for start, end in zip(part.starts, part.ends):
                content[start:end].decode()  # no character is cut
                taken[start:end] += 1
        assert taken.max() == 1
        (start,), (end,) = parts["test"].starts, parts["test"].ends
        tested.append((start, end))
        known = np.flatnonzero(taken)
        for gap in (known[known < start], known[known >= end]):  # a guard gap on both sides
            assert not len(gap) or min(abs(gap - start).min(), abs(gap - end + 1).min()) > len(content) // folds // 16
        assert parts["valid"].nbytes > 0.05 * len(content) * (1 - 1 / folds)
        assert sum(part.nbytes for part in parts.values()) > 0.8 * len(content)
    assert tested[0][0] == 0 and tested[-1][1] == len(content)
    assert all(one[1] == other[0] for one, other in zip(tested, tested[1:]))


def test_a_stream_of_symbols_has_folds_too() -> None:
    for size, folds in ((1000, 5), (257, 4)):
        tested = np.zeros(size, int)
        for k in range(folds):
            taken = np.zeros(size, int)
            for part, (starts, ends) in place_blocks(size, Fold(k + 1, folds)).items():
                for start, end in zip(starts, ends):
                    taken[start:end] += 1
                    tested[start:end] += part == "test"
            assert taken.max() == 1
        assert tested.tolist() == [1] * size


@pytest.mark.parametrize(("count", "folds"), [(100, 5), (13, 5), (5, 5), (7, 2)])
def test_each_record_is_tested_once_and_equal_records_together(count: int, folds: int) -> None:
    rng = np.random.default_rng(count)
    groups = rng.integers(0, 2**63, count, dtype=np.uint64)
    records = rng.permutation(np.concatenate([groups, groups[: count // 2]]))
    tested = np.zeros(len(records), int)
    for k in range(folds):
        parts = by_hash(records, Fold(k + 1, folds), "data")
        assert sorted(np.concatenate([*parts.values()]).tolist()) == list(range(len(records)))
        sides = {name: set(records[rows].tolist()) for name, rows in parts.items()}
        assert all(sides.values()) and sum(map(len, sides.values())) == count
        tested[parts["test"]] += 1
    assert tested.tolist() == [1] * len(records)


def test_groups_of_a_table_stay_together_in_folds(tmp_path: Path) -> None:
    path, rng = tmp_path / "t.csv", random.Random(5)
    rows = [f"{rng.choice('abcdefghij')},{rng.choice(['yes', 'no'])},text {i}" for i in range(90)]
    path.write_text("who,label,text\n" + "\n".join(rows) + "\n")
    who = {row.split(",")[2]: row.split(",")[0] for row in rows}
    tested: list[str] = []
    for k in range(4):
        parts = read_labelled(path, "label,text", Fold(k + 1, 4), group="who").parts
        sides = [{who[text] for text in part.texts} for part in parts.values()]
        assert all(not a & b for i, a in enumerate(sides) for b in sides[:i])
        tested += parts["test"].texts
    assert sorted(tested) == sorted(who)


@pytest.mark.parametrize(("size", "folds"), [(60, 5), (101, 3)])
def test_series_train_on_what_comes_before_the_test_part(tmp_path: Path, size: int, folds: int) -> None:
    path = tmp_path / "s.csv"
    path.write_text("sales\n" + "".join(f"{k + 0.5}\n" for k in range(size)))
    ends = []
    for k in range(folds):
        parts = read_series(path, split=Fold(k + 1, folds)).parts
        train, valid, test = (parts[name] for name in ("train", "valid", "test"))
        assert train.start[0] == 0 and train.end == valid.start and valid.end == test.start
        ends.append((test.start[0], test.end[0]))
    assert ends[-1][1] == size and all(one[1] == other[0] for one, other in zip(ends, ends[1:]))
    assert all(abs(end - start - size / (folds + 1)) <= 1 for start, end in ends)


def test_data_that_come_split_are_not_divided(tmp_path: Path) -> None:
    for name in ("train", "test"):
        text_of(tmp_path, 200, 1).rename(tmp_path / f"{name}.txt")
    with pytest.raises(GivenSplit, match="comes split into train, test"):
        read(tmp_path, split=Fold(1, 5))
    table = tmp_path / "t.csv"
    table.write_text("split,label,text\n" + "".join(f"{('train', 'test')[i % 2]},a,text {i}\n" for i in range(40)))
    with pytest.raises(GivenSplit, match="is not divided into folds"):
        read_labelled(table, "label,text", Fold(1, 5))


def test_folds_that_cannot_be_made_are_refused() -> None:
    for index, of in ((0, 5), (6, 5), (1, 1)):
        with pytest.raises(UserError, match="at least 2 folds"):
            Fold(index, of)
    with pytest.raises(DataError, match="4 distinct records cannot be divided into 5 folds"):
        by_hash(np.arange(4, dtype=np.uint64), Fold(1, 5), "data")


def test_the_settings_of_a_run_hold_its_fold() -> None:
    """As values of a file of settings, and back."""
    made: Any = RunConfig.make({"data": "a.txt", "model_type": "gru", "split": Fold(2, 5)})
    saved = made.model_dump(mode="json")
    assert saved["split"] == {"index": 2, "of": 5}
    assert RunConfig.make(saved).split == Fold(2, 5) and check_split(saved["split"]) == Fold(2, 5)
    assert RunConfig.make({**saved, "split": [0.8, 0.1, 0.1]}).split == (0.8, 0.1, 0.1)
