"""Tables and series as people have them: each case is a kind, with inputs whose right reading is known beforehand."""

from __future__ import annotations

import csv
import datetime
import io
import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from statsmodels.tsa.statespace.structural import UnobservedComponents

from chainrule import cli
from chainrule.core import DataError, UserError
from chainrule.core.digits import in_full
from chainrule.data.corpus import read
from chainrule.data.labelled import read_labelled
from chainrule.data.pauses import check_gap
from chainrule.data.records import spelled_alike
from chainrule.data.series import inputs_of, read_held_out, read_series
from chainrule.data.table import TableOptions, read_table
from chainrule.models.hmm import GaussianConfig, GaussianHMM
from chainrule.models.kalman import Kalman, KalmanConfig
from chainrule.report.messages import Catalogue
from chainrule.tasks.series.inference import read_numbers

WORDS = {"pos": ("good", "nice", "fine", "sweet"), "neg": ("bad", "sad", "weak", "poor")}
KOREAN = Catalogue("ko")


def write(folder: Path, text: str, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def reviews(rows: int = 60) -> list[tuple[str, str]]:
    rng = random.Random(3)
    labels = [rng.choice(["pos", "neg"]) for _ in range(rows)]
    return [(" ".join(rng.choices(WORDS[label], k=4)) + f" n{k}", label) for k, label in enumerate(labels)]


def told(path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line of an error, with exit status 2."""
    assert cli.main(["data", str(path), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


# ------------------------------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize("names", [("review", "sentiment"), ("내용", "감정")])
def test_a_first_row_that_cannot_be_data_is_not_data(
    names: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = reviews()
    path = write(tmp_path, "\n".join(",".join(row) for row in [names, *rows]) + "\n")
    line = told(path, capsys, "--task", "classify")
    assert f"there are: {', '.join(names)}" in line
    mapping = f"text={names[0]},label={names[1]}"
    assert line.endswith(f"--columns {mapping}")
    for columns in (mapping, "text,label"):
        data = read_labelled(path, columns)
        assert data.labels == ("neg", "pos")
        assert sorted(text for part in data.parts.values() for text in part.texts) == sorted(t for t, _ in rows)
    assert mapping in told(path, capsys)  # where no task is named, too
    notes = read_labelled(path, "text,label").notes
    assert f"data.csv: the first row names the columns ({', '.join(names)})" in notes
    assert all(KOREAN.note(note) for note in notes)


@pytest.mark.parametrize(
    "rows",
    [
        [(f"song {k}", ("rock", "pop", "jazz")[k % 3]) for k in range(60)],  # the first label comes back
        [(f"word{k}", " ".join("ABC"[(k + j) % 3] for j in range(4))) for k in range(60)],  # so does this tag
        [("word0", "k"), *((f"word{k}", f"k{k // 2}") for k in range(2, 62))],  # no few kinds
        [("3", "good"), *((str(k), "bad") for k in range(60))],  # a number is no name
    ],
)
def test_a_first_row_that_may_be_data_is_data(rows: list[tuple[str, str]], tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "\n".join("\t".join(row) for row in rows) + "\n", "t.tsv"))
    assert list(zip(*table.columns.values())) == rows


@pytest.mark.parametrize("names", [("review", "sentiment"), ("내용", "감정"), ("said", "mood")])
def test_a_short_file_beside_one_with_a_header_has_the_same_header(names: tuple[str, str], tmp_path: Path) -> None:
    """Two rows are too few to tell, unless names are usual."""
    rows = reviews()
    for part, some in (("train", rows), ("test", rows[:2])):
        write(tmp_path, "\n".join(",".join(row) for row in [names, *some]) + "\n", f"{part}.csv")
    data = read_labelled(tmp_path, "text,label")
    assert data.parts["test"].texts == tuple(text for text, _ in rows[:2])


def test_names_that_are_missing_are_answered_with_those_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, "id,review,sentiment\n" + "".join(f"{k},{t},{s}\n" for k, (t, s) in enumerate(reviews())))
    assert "text=review,label=sentiment" in told(path, capsys, "--task", "classify", "--columns", "text,label")
    assert "did you mean 'sentiment'?" in told(
        path, capsys, "--task", "classify", "--columns", "text=review,label=sentimnt"
    )


# ---------------------------------------------------------------------------------------------------------- separators


@pytest.mark.parametrize(
    ("mark", "name", "said"),
    [(";", "t.csv", "';'"), ("|", "t.csv", "'|'"), ("\t", "t.csv", "tabs"), (",", "t.tsv", "','")],
)
@pytest.mark.parametrize("header", [True, False])
def test_separators_are_recognised_and_said(mark: str, name: str, said: str, header: bool, tmp_path: Path) -> None:
    """Texts hold commas, colons and quotes where the format can."""
    rows = [(f"{t}" if mark == "," else f"{t}, sure" if k % 3 else t, s) for k, (t, s) in enumerate(reviews())]
    text = "\n".join(mark.join(row) for row in ([("text", "label")] if header else []) + rows) + "\n"
    notes: list[str] = []
    table = read_table(write(tmp_path, text, name), "text,label", notes=notes)
    assert table.need("text", "label") == [list(column) for column in zip(*rows)]
    assert notes == [f"{name}: columns are separated by {said}"]
    assert KOREAN.note(notes[0])


def test_the_line_of_a_spreadsheet_that_names_the_separator_is_no_row(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, 'sep=;\r\ntext;label\r\n"a; b";x\r\nc;y\r\n'))
    assert table.columns == {"text": ["a; b", "c"], "label": ["x", "y"]}


@pytest.mark.parametrize("text", ["a,b;c\nd,e;f\n", "x\n", "a;b,c\nd,e\n"])
def test_a_separator_that_fits_is_kept(text: str, tmp_path: Path) -> None:
    notes: list[str] = []
    rows = list(csv.reader(io.StringIO(text)))
    table = read_table(write(tmp_path, text), notes=notes)
    assert list(zip(*table.columns.values())) == [tuple(row) for row in rows] and not notes


@pytest.mark.parametrize(("row", "odd"), [("so; so,l", "so; so,l,z"), ("so so;l", "so so;l;z")])
def test_a_row_of_another_length_does_not_change_the_separator(row: str, odd: str, tmp_path: Path) -> None:
    """Semicolons would separate all rows of the first file evenly, but 19 of its 20 rows are right as CSV."""
    path = write(tmp_path, f"{row}\n" * 19 + f"{odd}\n")
    with pytest.raises(DataError, match="line 20: 3 columns where the first row has 2"):
        read_table(path)


def test_lines_of_text_with_a_comma_each_are_one_column(tmp_path: Path) -> None:
    lines = [f"to be {k}, or not" for k in range(19)] + ["to be, or not, to be"]
    table = read_table(write(tmp_path, "".join(f"{line}\n" for line in lines), "t.tsv"))
    assert [*table.columns.values()] == [lines]


# ------------------------------------------------------------------------------------------------------- decimal commas


VALUES = [round(50 + 10 * math.sin(k / 2) + k / 7, 3) for k in range(60)]


@pytest.mark.parametrize(("form", "mark"), [("{:.3f}", ";"), ("{:.1f}", ";"), ("{:.1f}", "\t")])
def test_decimal_commas_are_read_where_columns_are_separated_otherwise(form: str, mark: str, tmp_path: Path) -> None:
    cells = [form.format(v) for v in VALUES]
    lines = [f"{k + 1}{mark}{c.replace('.', ',')}" for k, c in enumerate(cells)]
    data = read_series(write(tmp_path, "\n".join([f"t{mark}v", *lines]) + "\n"))
    assert data.parts["train"].series[0].values.tolist() == [float(c) for c in cells]
    assert "column 'v': numbers are read with decimal commas" in data.notes
    assert all(KOREAN.note(note) for note in data.notes)


@pytest.mark.parametrize("form", ["{},5", "-1.{:03},25"])
def test_a_decimal_comma_in_every_row_separates_no_columns(form: str, tmp_path: Path) -> None:
    rows = [(str(k), form.format(k)) for k in range(30)]
    table = read_table(write(tmp_path, "".join(f"{k};{v}\n" for k, v in rows)))
    assert list(zip(*table.columns.values())) == rows


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1.234,5", "12,25", "7"], [1234.5, 12.25, 7.0]),
        (["1,234,567", "2,345", "12"], [1234567.0, 2345.0, 12.0]),
        (["1,234.5", "2,000.25"], [1234.5, 2000.25]),
        (["1,234", "2,345"], None),
    ],
)
def test_commas_are_read_as_what_they_can_only_be(cells: list[str], values: list[float] | None, tmp_path: Path) -> None:
    path = write(tmp_path, "v\n" + "".join(f'"{c}"\n' for c in itertools.islice(itertools.cycle(cells), 30)))
    if values is None:
        with pytest.raises(DataError, match="is the comma in '1,234' a decimal comma, or does it separate thousands"):
            read_series(path, "v")
    else:
        assert read_series(path, "v").parts["train"].series[0].values[: len(cells)].tolist() == values


@pytest.mark.parametrize(
    ("prompt", "values"),
    [
        ("45,5 46,2 47,1 46,9", [45.5, 46.2, 47.1, 46.9]),
        ("45,5;46,2", [45.5, 46.2]),
        ("45.5, 46.2, 47", [45.5, 46.2, 47.0]),
        ("1,2,3", [1.0, 2.0, 3.0]),
        ("1, 2,3", [1.0, 2.0, 3.0]),
        ("112 118,5", [112.0, 118.5]),
    ],
)
def test_the_numbers_of_a_prompt_are_as_many_as_were_typed(prompt: str, values: list[float]) -> None:
    assert read_numbers(prompt).tolist() == values


def test_a_single_comma_in_a_prompt_is_asked_about() -> None:
    with pytest.raises(UserError, match=r'one number with a decimal comma, or two\? Type 45\.5 or "45 5"'):
        read_numbers("45,5")


# ----------------------------------------------------------------------------------------------------------- the clock


def months(form: str) -> list[str]:
    return [datetime.date(2001 + k // 12, k % 12 + 1, 1).strftime(form) for k in range(len(VALUES))]


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y-%m", "%d.%m.%Y", "%b %Y", "%Y%m%d", "%Y/%m/%d"])
@pytest.mark.parametrize("order", ["falling", "mixed"])
@pytest.mark.parametrize("columns", [None, "value"])
def test_rows_are_read_in_the_order_of_their_dates(form: str, order: str, columns: str | None, tmp_path: Path) -> None:
    rows = list(zip(months(form), VALUES))
    shuffled = rows[::-1] if order == "falling" else random.Random(1).sample(rows, len(rows))
    path = write(tmp_path, "date,value\n" + "".join(f"{t},{v}\n" for t, v in shuffled))
    data = read_series(path, columns)
    assert data.parts["train"].series[0].values.tolist() == VALUES
    assert any(note.endswith("rows were reordered by date") for note in data.notes)
    assert read_held_out(path, ("value",)).scored()[0].tolist() == VALUES
    assert cli.main(["data", str(path)]) == 0  # recognised as a series


@pytest.mark.parametrize("columns", [None, "-,value"])
def test_falling_years_without_a_header_are_turned_round(columns: str | None, tmp_path: Path) -> None:
    path = write(tmp_path, "".join(f"{1990 - k},{v}\n" for k, v in enumerate(VALUES)))
    assert read_series(path, columns).parts["train"].series[0].values.tolist() == VALUES[::-1]


def test_repeated_missing_and_ambiguous_dates_are_told(tmp_path: Path) -> None:
    days = [datetime.date(2020, 1, 1) + datetime.timedelta(k + 3 * (k > 30)) for k in range(60)]
    apart = read_series(write(tmp_path, "date,value\n" + "".join(f"{d},{v}\n" for d, v in zip(days, VALUES))))
    assert any("1 to 4 days lie between two of them" in note for note in apart.notes)
    twice = "date,value\n" + "".join(f"{days[k // 2]},{v}\n" for k, v in enumerate(VALUES))
    assert "30 rows have the time of the row before them (date)" in read_series(write(tmp_path, twice)).notes
    places = "date,value\n" + "".join(f"{days[k % 30]},{v}\n" for k, v in enumerate(VALUES))
    with pytest.raises(DataError, match="are not in order, and 30 rows have the time of another"):
        read_series(write(tmp_path, places))
    assert len(read_series(write(tmp_path, places), time="date").parts["train"].series[0].values) == 60
    doubt = "date,value\n" + "".join(f"{1 + k % 12:02}/{1 + k // 12:02}/2020,{v}\n" for k, v in enumerate(VALUES))
    with pytest.raises(DataError, match="which number of '01/01/2020' is the day"):
        read_series(write(tmp_path, doubt))


# ------------------------------------------------------------------------------------------------------ missing values


def test_a_kalman_filter_skips_what_is_missing_as_statsmodels_does() -> None:
    """A local linear trend with gaps in the middle and at the end; after 200 values nothing is left of the prior."""
    rng = np.random.default_rng(4)
    x = 0.02 * np.arange(200.0) + 0.05 * rng.normal(size=200)
    missing = np.zeros(200, bool)
    missing[90:120] = missing[[150, 199]] = True
    model = Kalman(KalmanConfig(season=0.0))
    model.variances.copy_(torch.tensor([0.0025, 1e-5, 1e-7, 0.0]))
    read = inputs_of(model, x, missing)
    prediction, _ = model(torch.from_numpy(np.concatenate([[math.nan], read]))[None])
    low, middle, high = prediction.quantiles((0.1, 0.5, 0.9))[0, -1].tolist()
    gapped = np.where(missing, math.nan, x)
    trend: Any = "local linear trend"
    found = UnobservedComponents(gapped, trend).filter([0.0025, 1e-5, 1e-7]).get_forecast(1)
    np.testing.assert_allclose([low, high], found.conf_int(alpha=0.2)[0], atol=2e-4)
    assert middle == pytest.approx(float(found.predicted_mean[0]), abs=2e-4)


def test_a_gaussian_hmm_skips_what_is_missing_as_a_sum_over_all_paths_does() -> None:
    """p(last | the others) by enumeration of 3^5 paths, of which two places emit nothing."""
    torch.manual_seed(0)
    model = GaussianHMM(GaussianConfig(states=3)).double().eval()
    x = np.array([0.3, 0.0, -0.8, 0.0, 0.5])
    missing = np.array([False, True, False, True, False])
    inputs = torch.from_numpy(np.concatenate([[math.nan], inputs_of(model, x, missing)[:-1]]))[None]
    nats = float(model(inputs)[0].log_prob(torch.from_numpy(x)[None])[0, -1].detach())
    start, step = model.prior_N.softmax(-1).detach().numpy(), model.transition_NN.softmax(-1).detach().numpy()
    density = model.emission.log_prob(torch.from_numpy(x)).exp().detach().numpy()
    density[missing] = 1.0

    def total(length: int) -> float:
        return sum(
            start[path[0]]
            * density[0, path[0]]
            * math.prod(step[a, b] * density[t, b] for t, (a, b) in enumerate(itertools.pairwise(path), 1))
            for path in itertools.product(range(3), repeat=length)
        )

    assert nats == pytest.approx(math.log(total(5) / total(4)), abs=1e-9)


def test_a_forecast_after_a_gap_follows_the_trend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """x = 10 + k/2 with a gap that ends 3 values before the end; a model that read repeats would fall behind."""
    rng = np.random.default_rng(1)
    cells = [f"{10 + k / 2 + 0.3 * rng.normal():.3f}" if not 80 <= k < 117 else "" for k in range(120)]
    path = write(
        tmp_path, "month,v\n" + "".join(f"{1980 + k // 12}-{k % 12 + 1:02},{c}\n" for k, c in enumerate(cells))
    )
    run = str(tmp_path / "run")
    assert (
        cli.main(
            [
                "train",
                str(path),
                "--task",
                "series",
                "--model",
                "kalman",
                "--set",
                "model.season=0",
                "--split",
                "0.6/0.05/0.35",
                "--out",
                run,
            ]
        )
        == 0
    )
    assert "37 missing values: they are not scored; kalman and hmm skip them" in capsys.readouterr().err
    assert cli.main(["generate", run, "--max-tokens", "1", "--json"]) == 0
    low, middle, high = json.loads(capsys.readouterr().out)["quantiles"][0][0]
    assert middle == pytest.approx(70, abs=0.6) and high - low < 2


# ----------------------------------------------------------------------------------------------------- size of numbers


def test_large_numbers_are_printed_in_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "v\n" + "".join(f"{10**12 + v}\n" for v in VALUES))
    run = str(tmp_path / "run")
    assert cli.main(["data", str(path)]) == 0
    assert "mean 10000000000" in capsys.readouterr().out
    assert cli.main(["train", str(path), "--task", "series", "--model", "ar", "--out", run]) == 0
    capsys.readouterr()
    assert cli.main(["generate", run, "--max-tokens", "2"]) == 0
    step = capsys.readouterr().out.splitlines()[2].split()[1:]
    assert len({*step}) == 3 and all(1e12 < float(cell) < 1e12 + 100 and "e" not in cell for cell in step)
    assert in_full(1e300, 1e298) == "1e+300"


@pytest.mark.parametrize("cell", ["1e301", "-2.5e120"])
def test_numbers_that_overflow_are_refused_with_their_line(cell: str, tmp_path: Path) -> None:
    path = write(
        tmp_path, "v\n" + "".join(f"{v}\n" for v in VALUES[:7]) + f"{cell}\n" + "".join(f"{v}\n" for v in VALUES)
    )
    with pytest.raises(DataError, match=rf"line 9: column 'v': '{cell}' is too large".replace("+", r"\+")):
        read_series(path, "v")
    with pytest.raises(UserError, match="only finite numbers, up to 1e"):
        read_numbers(f"1 2 {cell}")


# ----------------------------------------------------------------------------------------------------------------- logs

EVENTS = ("login", "search", "view item", "add to cart", "pay", "logout", "help", "rate")


def log(rows: int = 900, users: int = 37) -> list[tuple[str, int, str]]:
    """Visits of users at once, in the order of time: a visit is 3 steps, 10 s apart; the next one is hours later."""
    rng, found = random.Random(5), []
    for visit in range(rows // 3):
        user = f"u{visit % users}"
        found += [
            (user, 1_700_000_000 + 7200 * (visit // users) + visit % users + 10 * k, rng.choice(EVENTS))
            for k in range(3)
        ]
    return sorted(found, key=lambda row: row[1])


def test_rows_of_a_user_are_one_record_and_visits_end_at_a_pause(tmp_path: Path) -> None:
    path = write(tmp_path, "user_id,time,event\n" + "".join(f"{u},{t},{e}\n" for u, t, e in log()))
    whole = read(path, table=TableOptions("event", "user_id", "time"))
    assert sum(map(len, whole.parts.values())) == 37
    assert any(note.endswith("900 rows, 37 records") for note in whole.notes)
    visits = read(path, table=TableOptions("event", "user_id", "time", "30min"))
    assert sum(map(len, visits.parts.values())) == 300
    assert {int(size) for part in visits.parts.values() for size in part.ends - part.starts} == {3}
    sides: dict[str, set[str]] = {}
    for name, part in visits.parts.items():
        for key in part.keys:
            sides.setdefault(key, set()).add(name)
    assert all(len(side) == 1 for side in sides.values())  # visits of one user stay in the same split
    assert all(KOREAN.note(note) for note in visits.notes)
    assert sum(map(len, read(path, table=TableOptions("event", "user_id", "time", "9s")).parts.values())) == 900


@pytest.mark.parametrize("unit", ["seconds", "milliseconds", "dates"])
def test_a_pause_is_the_same_in_every_notation_of_time(unit: str, tmp_path: Path) -> None:
    spell: dict[str, Any] = {
        "seconds": str,
        "milliseconds": lambda t: str(1000 * t),
        "dates": lambda t: datetime.datetime.fromtimestamp(t, datetime.UTC).strftime("%d.%m.%Y %H:%M:%S"),
    }
    path = write(tmp_path, "who,at,what\n" + "".join(f"{u},{spell[unit](t)},{e}\n" for u, t, e in log()))
    found = read(path, table=TableOptions("what", "who", "at", "1h"))
    assert sum(map(len, found.parts.values())) == 300


@pytest.mark.parametrize("gap", ["", "30", "soon", "-5min", "0s"])
def test_a_pause_that_cannot_be_read_is_one_line(gap: str, tmp_path: Path) -> None:
    path = write(
        tmp_path, "who,at,what\n" + "".join(f"{u},2024-01-01 00:{k:02},{e}\n" for k, (u, _, e) in enumerate(log(60)))
    )
    if gap == "30":
        with pytest.raises(UserError, match="--gap 30: column 'at' holds dates; give a unit: 30s, 30min, 30h or 30d"):
            read(path, table=TableOptions("what", "who", "at", gap))
        with pytest.raises(UserError, match="--gap 30min: pauses need times"):
            read(path, table=TableOptions("what", "who", None, "30min"))
    else:
        with pytest.raises(UserError, match="expected a pause such as 45s, 30min, 2h or 1d"):
            check_gap(gap)


@pytest.mark.parametrize("names", ["user_id,time,event", "customer,when,action", ""])
@pytest.mark.parametrize("asked", [(), ("--columns", "-,-,sequence")])
def test_a_log_that_is_read_as_records_is_answered_with_a_command_that_works(
    names: str, asked: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row is a step: as a record of its own, every symbol would be one that training never saw, at 34.6 bits."""
    path = write(
        tmp_path, "".join(f"{row}\n" for row in ([names] if names else []) + [f"{u},{t},{e}" for u, t, e in log()])
    )
    line = told(path, capsys, *asked)
    words = line[line.index("--columns") :].split(": ")[0].split()
    assert "--group" in words and "--time" in words
    assert cli.main(["data", str(path), *words, "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert sum(part["records"] for part in card["parts"].values()) == 37


def test_symbols_that_training_never_saw_are_answered_before_training(tmp_path: Path) -> None:
    path = write(tmp_path, "".join(f'{{"sequence": ["a{k}", "b{k}", "c{k}"]}}\n' for k in range(900)), "d.jsonl")
    with pytest.raises(DataError, match=r"symbols of the (valid|test) split never occur in the training split"):
        read(path)


# --------------------------------------------------------------------------------------------------------------- labels


def test_labels_that_differ_in_case_or_spaces_are_told(tmp_path: Path) -> None:
    rows = [(t, {"pos": ("pos", "Pos", "POS")[k % 3], "neg": "neg"}[s]) for k, (t, s) in enumerate(reviews())]
    data = read_labelled(write(tmp_path, "text,label\n" + "".join(f"{t},{s}\n" for t, s in rows)))
    note = next(note for note in data.notes if "case or spaces" in note)
    assert "POS, Pos, pos" in note and KOREAN.note(note)
    assert spelled_alike(["not good", "notgood", "bad"]) == ["not good", "notgood"]


def test_rows_of_empty_cells_are_counted(tmp_path: Path) -> None:
    notes: list[str] = []
    table = read_table(write(tmp_path, "text,label\na,x\n,\n , \nb,y\n"), notes=notes)
    assert len(table) == 2 and notes == ["data.csv: 2 rows of empty cells left out"]
    assert KOREAN.note(notes[0])


# -------------------------------------------------------------------------------------------------------------- folders


def test_a_folder_of_several_kinds_is_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tagged, labelled = "to\tTO\nbe\tVB\n\nor\tCC\nnot\tRB\n\n", "text\tlabel\na b\tx\nc d\ty\n"
    for folder, files in {
        "a": {"tagged.tsv": tagged, "labelled.tsv": labelled},
        "b": {"book.txt": "to be or not\n" * 99, "labelled.tsv": labelled},
        "c": {"months.csv": "date,v\n" + "".join(f"{t},{v}\n" for t, v in zip(months("%Y-%m"), VALUES)), "x.txt": "a"},
    }.items():
        (tmp_path / folder).mkdir()
        for name, text in files.items():
            write(tmp_path / folder, text, name)
        line = told(tmp_path / folder, capsys)
        assert "holds data of several kinds" in line and all(name in line for name in files)
    train = "text\tlabel\n" + "".join(f"{t}\t{s}\n" for t, s in reviews())
    write(tmp_path / "b", train, "train.tsv")  # a given split says which files are meant
    assert cli.main(["data", str(tmp_path / "b")]) == 0


def test_a_folder_of_pairs_without_a_header_is_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k in range(3):
        lines = [f"der Satz {j} von {k}\tthe sentence {j} of {k}\n" for j in range(30)]
        write(tmp_path, "".join(lines), f"{k}.tsv")
    line = told(tmp_path, capsys)
    assert "the first line has: der Satz 0 von 0, the sentence 0 of 0" in line
    words = line[line.index("--task") :].split()
    assert words == ["--task", "translate", "--columns", "source,target"]
    assert cli.main(["data", str(tmp_path), *words]) == 0
