"""Sequences of symbols: FASTA, ABC, tables and parallel voices are read, and written back as they were."""

from __future__ import annotations

import gzip
import json
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from chainrule import cli
from chainrule.core import ChainruleError, DataError, UserError, model_type
from chainrule.core.compute import decide
from chainrule.data import EncodedData, Part, SymbolTokenizer, counting_batches, tokenizer_from_json
from chainrule.inference.scoring import token_nats
from chainrule.runs.run import Run
from chainrule.tasks.base import find_task
from chainrule.tasks.generate.inference import generate
from chainrule.tasks.generate.reading import score
from tests.encoded import read, read_part

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def given(folder: Path, name: str, train: str, rest: str | None = None) -> Path:
    """A folder with a given split: ``train``, and the same short content for the other parts."""
    for part in ("train", "valid", "test"):
        write(folder / name.format(part), train if part == "train" else rest or train)
    return folder


def records(corpus: EncodedData, part: str = "train") -> list[list[str]]:
    p = corpus.parts[part]
    assert isinstance(corpus.processor.tokenizer, SymbolTokenizer)
    return [corpus.processor.tokenizer.symbols_of(p.ids[s:e]) for s, e in zip(p.starts, p.ends)]


# --- FASTA ------------------------------------------------------------------------------------------------------------


def test_fasta_entries_are_records_in_upper_case_without_gaps(tmp_path: Path) -> None:
    text = ">one first\nACGTac\ngt-NN\n\n>two\n;comment\nA.C*\n>empty\n>three\r\nAC GT\r\nNA*C\n"
    corpus = read(given(tmp_path / "d", "{}.fa.gz", text))
    assert ["".join(r) for r in records(corpus)] == ["ACGTACGTNN", "AC*", "ACGTNA*C"]
    notes = " ".join(corpus.card()["notes"])
    for said in ("4 lower-case", "2 gaps", "3 N ", "1 entry without"):
        assert said in notes
    p = corpus.parts["train"]
    assert [int(p.ids[e - 1]) for e in p.ends] == [corpus.processor.tokenizer.end] * 3
    assert len(p) == 10 + 3 + 8 + 3
    assert (p.counted, p.nbytes) == ("symbol", 24)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ACGT\n>a\nAC\n", "line 1: letters before"),
        (">a\nAC3\n", "line 2: '3' is no letter"),
        (">a\n>b\n", "no entry"),
        (">a\nA\0\n", "NUL"),
    ],
)
def test_what_is_not_fasta_is_one_line_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DataError, match=told) as error:
        read(write(tmp_path / "x.fasta", text))
    assert "\n" not in str(error.value)


def test_one_long_entry_is_split_into_blocks_and_nothing_ends(tmp_path: Path) -> None:
    bases = "".join(np.random.default_rng(2).choice(list("ACGT"), 30_011))
    path = write(
        tmp_path / "genome.fna", ">chr1\n" + "\n".join(bases[k : k + 60] for k in range(0, len(bases), 60)) + "\n"
    )
    corpus = read(path)
    assert (corpus.unit, corpus.processor.tokenizer.end, corpus.processor.tokenizer.vocab_size) == ("stream", None, 5)
    covered = np.zeros(len(bases), int)
    for name, part in corpus.parts.items():
        raw = corpus.dataset.parts[name]
        for s, e, low, high in zip(part.starts, part.ends, raw.starts, raw.ends, strict=True):
            covered[low:high] += 1
            assert "".join(corpus.processor.tokenizer.symbols_of(part.ids[s:e])) == bases[low:high]
    assert covered.max() == 1
    assert covered.mean() > 0.97
    assert len(corpus.parts["test"]) == pytest.approx(0.05 * len(bases), rel=0.02)


# --- ABC --------------------------------------------------------------------------------------------------------------


def test_tunes_are_records_without_their_number_and_are_written_with_a_new_one(tmp_path: Path) -> None:
    text = "%abc-2.1\n\nX: 17\nT: One\nK:G\nGABc |\n\nnothing here\nX:18\nT: Two\nK:D\nd2 z |\n"
    corpus = read(given(tmp_path / "d", "{}.abc", text + "\n" + text))
    assert ["".join(r) for r in records(corpus)] == ["T: One\nK:G\nGABc |", "T: Two\nK:D\nd2 z |"] * 2
    assert any("4 lines outside tunes" in note for note in corpus.card()["notes"])
    assert corpus.processor.tokenizer.form.write(records(corpus)[1], 3) == "X: 3\nT: Two\nK:D\nd2 z |\n"
    with pytest.raises(DataError, match="no tune"):
        read(write(tmp_path / "x.abc", "T: no number\nGAB\n"))


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "symbols"),
    [
        (["ACGT", "AC"], [list("ACGT"), list("AC")]),
        (["up up down", "down"], [["up", "up", "down"], ["down"]]),
        (['["a b", "c"]', '["c"]'], [["a b", "c"], ["c"]]),
    ],
)
def test_a_column_sequence_holds_characters_words_or_lists(
    tmp_path: Path, cells: list[str], symbols: list[list[str]]
) -> None:
    rows = "".join(json.dumps({"sequence": json.loads(c) if c[0] == "[" else c}) + "\n" for c in cells)
    corpus = read(given(tmp_path / "d", "{}.jsonl", rows * 2))
    assert records(corpus) == symbols * 2
    written = [corpus.processor.tokenizer.form.write(r) for r in symbols]
    assert written == ([f'{{"sequence": {c}}}' for c in cells] if cells[0][0] == "[" else cells)
    assert [corpus.processor.tokenizer.form.read(w) for w in written] == symbols


def test_columns_in_step_become_one_sequence_with_an_alphabet_for_each_voice(tmp_path: Path) -> None:
    text = "soprano,alto,bar\nc5,a4,1\nd5,a4,1\nc5,c5,2\n"
    corpus = read(given(tmp_path / "d", "{}.csv", text), columns="soprano,alto", group="bar")
    unknown = "\N{REPLACEMENT CHARACTER}"  # a soprano's d5 and an alto's c5 are seen but once
    assert records(corpus) == [["soprano=c5", "alto=a4", unknown, "alto=a4"], ["soprano=c5", unknown]]
    assert corpus.processor.tokenizer.names == ["alto=a4", "soprano=c5"]
    assert corpus.parts["train"].unknown_bytes.tolist() == [3, 3]
    assert corpus.processor.tokenizer.form.write(["soprano=c5", "alto=a4", "soprano=d5", "alto=c5"]) == "c5,a4 d5,c5"
    spaced = ["soprano=c 5", "alto=a4", unknown, "alto=c5"]
    assert corpus.processor.tokenizer.form.write(spaced) == '[["c 5", "a4"], ["�", "c5"]]'


def test_columns_in_step_without_groups_are_one_stream(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    rows = [(str(a), str(b)) for a, b in rng.integers(0, 5, (4001, 2))]
    path = write(tmp_path / "steps.tsv", "".join(f"{a}\t{b}\n" for a, b in rows))
    corpus = read(path, columns="x,y")
    flat = [s for a, b in rows for s in (f"x={a}", f"y={b}")]
    for name, part in corpus.parts.items():
        raw = corpus.dataset.parts[name]
        for s, e, low, high in zip(part.starts, part.ends, raw.starts, raw.ends, strict=True):
            assert s % 2 == e % 2 == low % 2 == high % 2 == 0  # no step is cut
            assert corpus.processor.tokenizer.symbols_of(part.ids[s:e]) == flat[low:high]
    one = read(path, columns="event,-")
    assert one.processor.tokenizer.names == ["0", "1", "2", "3", "4"]
    assert one.unit == "stream"


def test_lists_of_lists_are_voices_in_step(tmp_path: Path) -> None:
    rows = [{"id": "a", "satb": [[60, 55], [62, 55]]}, {"id": "b", "satb": [[60, 57]]}]
    text = "".join(json.dumps(r) + "\n" for r in rows * 2)
    corpus = read(given(tmp_path / "d", "{}.jsonl", text))
    assert records(corpus)[0] == ["1=60", "2=55", "1=62", "2=55"]
    assert corpus.processor.tokenizer.form.write(records(corpus)[0]) == '{"satb": [[60, 55], [62, 55]]}'
    assert corpus.processor.tokenizer.encode(b"60,55 62,57").ids.tolist() == [
        corpus.processor.tokenizer.names.index(n) for n in ("1=60", "2=55", "1=62", "2=57")
    ]
    again = tokenizer_from_json(json.loads(json.dumps(corpus.processor.tokenizer.to_json())))
    assert again.to_json() == corpus.processor.tokenizer.to_json()
    bad = write(tmp_path / "bad.jsonl", '{"satb": [[1, 2], [3]]}\n' * 3)
    with pytest.raises(DataError, match=r"line 1: step \[3\]: 2 symbols"):
        read(bad)


def log(rows: list[tuple[str, str, str]]) -> str:
    return "user_id,time,event\n" + "".join(f"{user},{time},{event}\n" for user, time, event in rows)


WHEN = {
    "numbers": lambda k: f"{k - 40}",
    "fractions": lambda k: f"{k / 8:.3f}",
    "nanoseconds": lambda k: f"{1_700_000_000_000_000_000 + k}",
    "days": lambda k: f"{np.datetime64('2024-02-20') + k}",
    "moments": lambda k: f"{np.datetime64('2024-02-29T23:59:00') + k}",
    "zones": lambda k: f"2024-05-01T{9 + k % 2:02}:{k // 60:02}:{k % 60:02}+0{k % 2}:00",
}


@pytest.mark.parametrize("when", WHEN)
def test_a_shuffled_log_gives_the_records_of_the_sorted_one(tmp_path: Path, when: str) -> None:
    """Users alternate, so that no two neighbouring rows belong to one user: rows are grouped by value."""
    rng = np.random.default_rng(11)
    rows = [(f"u{k % 13}", WHEN[when](k), "abc"[k * k % 3]) for k in range(403)]
    shuffled = [rows[k] for k in rng.permutation(len(rows))]
    options = {"columns": "event", "group": "user_id", "time": "time"}
    whole, mixed = (read(write(tmp_path / f"{n}.csv", log(r)), **options) for n, r in (("a", rows), ("b", shuffled)))
    assert sum(len(part.starts) for part in whole.parts.values()) == 13
    assert whole.dataset.sha256 == mixed.dataset.sha256 and whole.dataset.split_sha256 == mixed.dataset.split_sha256
    for name in whole.parts:
        assert records(mixed, name) == records(whole, name)
        for record in records(whole, name):
            assert len(record) == 31
    assert any(note.endswith("403 rows, 13 records") for note in whole.all_notes)  # in order: nothing was moved
    moved = next(note for note in mixed.all_notes if "reordered" in note)
    assert int(moved.split("; ")[1].split()[0]) > 300


def test_rows_of_one_value_are_a_record_wherever_they_stand_and_equal_times_keep_their_order(tmp_path: Path) -> None:
    rows = [("v", "2", "x"), ("u", "1", "y"), ("v", "1", "z"), ("u", "1", "x"), ("v", "2", "y")]
    assert records(read(given(tmp_path / "a", "{}.csv", log(rows * 2)), columns="event", group="user_id"))[0][:3] == [
        "x",
        "z",
        "y",
    ]
    found = records(read(given(tmp_path / "b", "{}.csv", log(rows * 2)), columns="event", group="user_id", time="time"))
    assert found == [["y", "x", "y", "x"], ["z", "z", "x", "y", "x", "y"]]
    swapped = [("u", "1", "y"), ("v", "1", "z")]  # both begin at one time: their names decide which comes first
    for k, some in enumerate((swapped, swapped[::-1])):
        mine = records(
            read(given(tmp_path / f"d{k}", "{}.csv", log(some * 2)), columns="event", group="user_id", time="time")
        )
        assert mine == [["y", "y"], ["z", "z"]]
    one = read(
        write(tmp_path / "c.csv", log([("u", str(-k), str(k // 100)) for k in range(400)])),
        columns="event",
        time="time",
    )
    first = one.parts["train"].ids[: one.parts["train"].ends[0]]
    assert one.processor.tokenizer.symbols_of(first)[:50] == ["3"] * 50


@pytest.mark.parametrize(
    ("times", "told"),
    [
        (["1", "2", "soon"], "line 4: --time time: 'soon' is not a number, as those above it"),
        (
            ["2024-01-01", "2024-13-01"],
            "line 3: --time time: '2024-13-01' is not a number or a date such as 2024-05-31",
        ),
        (["nan"], "line 2: --time time: 'nan' is not a number or a date"),
        ([""], "line 2: --time time: '' is not"),
    ],
)
def test_a_time_that_cannot_be_read_is_one_line_with_its_place(tmp_path: Path, times: list[str], told: str) -> None:
    path = write(tmp_path / "log.csv", log([("u", time, "a") for time in times]))
    with pytest.raises(DataError, match=re.escape(told)):
        read(path, columns="event", group="user_id", time="time")
    with pytest.raises(DataError, match="no column 'when'"):
        read(path, columns="event", time="when")


def test_a_time_orders_steps_not_whole_records_nor_text(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "at,sequence\n" + "1,ABAB\n" * 99)
    with pytest.raises(UserError, match=r"--time at: a row of .* is a whole record"):
        read(path, columns="sequence", time="at")
    with pytest.raises(UserError, match=r"--time at: .* is text"):
        read(write(tmp_path / "t.txt", "to be " * 999), time="at")


def test_groups_stay_on_one_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    rows = [(f"family{k % 29}", "".join(rng.choice(list("ACGT"), 13))) for k in range(601)]
    path = write(tmp_path / "dna.csv.gz", "kin,sequence\n" + "".join(f"{g},{s}\n" for g, s in rows))
    corpus = read(path, group="kin")
    side: dict[str, set[str]] = {}
    where = {s: g for g, s in rows}
    for name in corpus.parts:
        for record in records(corpus, name):
            side.setdefault(where["".join(record)], set()).add(name)
    assert len(side) == 29
    assert all(len(parts) == 1 for parts in side.values())
    assert {p for parts in side.values() for p in parts} == {"train", "valid", "test"}
    with pytest.raises(DataError, match="no column 'species'"):
        read(path, group="species")


def test_lines_of_symbols_in_a_text_file(tmp_path: Path) -> None:
    corpus = read(given(tmp_path / "d", "{}.txt", "login view view\n\nlogin  buy\nbuy\n"), tokenizer="none")
    assert records(corpus) == [["login", "view", "view"], ["login", "buy"], ["buy"]]
    assert corpus.card()["xz"] is None


@pytest.mark.parametrize(
    ("text", "columns", "told"),
    [
        ("source,target\na,b\n", None, "--task translate"),
        ("text,label\na,b\n", None, "--task classify"),
        ("a,b\nc,d\n", None, "--columns -,sequence"),
        ("1\n2.5\n-3e2\n", None, "--task series"),
        ("abc\ndef\n", None, "--columns sequence"),
        ("a,b\nc,d\n", "sequence", "1 name for the 2 columns"),
        ("sequence,x\n,d\n ,e\n", None, "no row holds a symbol"),
        ("sequence\nACGT\n", None, "4 symbols are too few"),
    ],
)
def test_a_table_in_doubt_says_what_would_settle_it(tmp_path: Path, text: str, columns: str | None, told: str) -> None:
    with pytest.raises(ChainruleError, match=told) as error:
        read(write(tmp_path / "t.csv", text), columns=columns)
    assert "\n" not in str(error.value)
    assert "t.csv" in str(error.value)


def test_flags_of_tables_are_refused_elsewhere(tmp_path: Path) -> None:
    text = write(tmp_path / "t.txt", "words and more words\n" * 500)
    for options in ({"columns": "a"}, {"group": "a"}):
        with pytest.raises(UserError, match="no columns"):
            read(text, **options)
    with pytest.raises(UserError, match="is no table"):
        read(write(tmp_path / "t.fa", ">a\nACGT\n"), group="a")
    with pytest.raises(UserError, match="--tokenizer none"):
        read(write(tmp_path / "t.csv", "a,b\n" * 99), tokenizer="char")
    mixed = tmp_path / "mixed"
    write(mixed / "a.csv", "1,2\n")
    write(mixed / "a.fa", ">a\nAC\n")
    with pytest.raises(DataError, match="several kinds"):
        read(mixed)


def test_fasta_and_abc_can_be_read_as_text_when_a_tokenizer_of_text_is_named(tmp_path: Path) -> None:
    corpus = read(write(tmp_path / "t.fa", ">a\n" + "ACGT\n" * 500), tokenizer="byte")
    assert (corpus.counted, corpus.processor.tokenizer.name) == ("byte", "byte")


# --- figures and use --------------------------------------------------------------------------------------------------


def counted(corpus: EncodedData, n: int) -> Run:
    """An n-gram with one added to every count: what it gives can be worked out by hand."""
    chosen = model_type("ngram")
    symbols = corpus.processor.tokenizer.vocab_size
    model = chosen.build(chosen.configure("tiny", vocab_size=symbols, n=n, smoothing="add_k", k=1.0))
    stats = [model.summarize(b) for b in counting_batches(corpus.parts["train"], symbols, n)]
    model.update(sum(stats[1:], stats[0]))
    config = {"model_type": "ngram", "task": "generate", "model": {}}
    data = {"unit": corpus.unit, "counted": corpus.counted}
    return Run("generate", model, corpus.processor, config, {}, data, decide("cpu", "fp32", 1))


def test_bits_per_symbol_count_the_end_and_unknown_symbols_are_spelled_out(tmp_path: Path) -> None:
    folder = given(tmp_path / "d", "{}.tsv", "a\tb c c\na\tb\n", "a\tb xyz\n")
    corpus = read(folder, columns="-,sequence")
    loaded = counted(corpus, 1)
    evaluation = find_task("generate").evaluate(loaded, corpus.parts["test"])
    result, nats = evaluation.metrics, evaluation.items["nats"]
    # train: b 2, c 2, end 2, unknown 0; one added to each of the 4
    wanted = [-math.log(3 / 10), -math.log(1 / 10) + 4 * math.log(256), -math.log(3 / 10)]
    assert nats.tolist() == pytest.approx(wanted, rel=1e-6)
    assert result["bits_per_symbol"] == pytest.approx(sum(wanted) / 3 / math.log(2), rel=1e-6)
    assert (result["symbols"], result["tokens"]) == (3, 3)
    assert not {"bits_per_byte", "bits_per_char", "bytes", "chars"} & set(result)


def test_records_are_scored_as_they_are_written(tmp_path: Path) -> None:
    corpus = read(given(tmp_path / "d", "{}.fa", ">a\nACGGT\n>b\nAC\n"))
    loaded = counted(corpus, 2)
    alone = score(loaded, [b"ACGGT\nAC\n"], unit="lines", tokens=True)
    entries = score(loaded, [b">x\nACG\nGT\n>y\nac\n"])
    assert alone["nats"] == pytest.approx(entries["nats"], rel=1e-9)
    assert [line["symbols"] for line in alone["lines"]] == [6, 3]
    nats, _ = token_nats(loaded.model, corpus.parts["test"], loaded.compute)
    assert alone["nats"] == pytest.approx(-float(nats.sum()), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("{}.fa", ">a\nACGGT\n>b\nACA\n", None),
        ("{}.abc", "X: 1\nT: A\nK:G\nGA |\n\nX: 2\nT: A\nK:G\nAG |\n", None),
        ("{}.csv", "1,2\n1,3\n2,3\n1,2\n1,3\n2,3\n", "x,y"),
        ("{}.csv", "add to cart\nbuy\n" * 4, "event"),
        ("{}.jsonl", '{"sequence": ["a b", "c"]}\n{"sequence": ["c", "a b"]}\n', None),
        ("{}.jsonl", '{"v": [[1, 2], [3, 4]]}\n{"v": [[3, 4], [1, 2]]}\n', None),
    ],
)
def test_what_is_generated_is_read_back_as_the_same_records(
    tmp_path: Path, name: str, text: str, columns: str | None
) -> None:
    corpus = read(given(tmp_path / "d", name, text), columns=columns)
    loaded = counted(corpus, 4)
    made = generate(loaded, [""], max_tokens=40, seed=3, n=5)
    kept = [(s, w) for s, w in zip(made["sequences"], made["written"], strict=True) if s]
    assert kept
    path, tokenizer = (
        write(tmp_path / name.format("made"), "\n".join(w for _, w in kept) + "\n"),
        corpus.processor.tokenizer,
    )
    if tokenizer.form.kind == "steps":  # a line each, not rows of a table, in which records could not be told apart
        back = [tokenizer.form.rows(tokenizer.form.read(line)) for line in path.read_text().splitlines()]
    else:
        part = read_part(path, tokenizer, corpus.unit, columns=columns)
        found = [tokenizer.symbols_of(part.ids[s:e]) for s, e in zip(part.starts, part.ends)]
        back = [tokenizer.form.rows(symbols) for symbols in found]
    assert back == [s for s, _ in kept]


def test_beams_end_with_the_record_and_write_no_unknown_symbol(tmp_path: Path) -> None:
    """After A comes C or G, then the end; symbols seen once are the unknown one, likely as it is at the start."""
    rare = "".join(f">{c}\n{c}\n" for c in "DEFHIKLMNPQ")
    loaded = counted(read(given(tmp_path / "d", "{}.fa", ">a\nACT\n>b\nACT\n>c\nAGT\n>d\nAGT\n" * 9 + rare)), 4)
    made = generate(loaded, ["A"], max_tokens=9, beams=9, n=2)
    assert sorted(map("".join, made["sequences"])) == ["ACT", "AGT"]
    starts = generate(loaded, [""], max_tokens=1, beams=9, n=5)["sequences"]
    assert sorted(map("".join, starts)) == ["", "A", "C", "G", "T"]
    with pytest.raises(UserError, match="-n 6: there are only 5 continuations"):
        generate(loaded, [""], max_tokens=1, beams=9, n=6)
    assert ["".join(s) for s in generate(loaded, ["A"], max_tokens=9, beams=9, forbid=["C"])["sequences"]] == ["AGT"]
    for flag, wish in (("must", {"must": ["D"]}), ("forbid", {"forbid": ["CD"]})):
        with pytest.raises(UserError, match=f"--{flag} .*not in the vocabulary"):
            generate(loaded, ["A"], beams=3, **wish)


def test_voices_in_step_are_not_searched_for(tmp_path: Path) -> None:
    loaded = counted(read(given(tmp_path / "d", "{}.csv", "1,2\n1,3\n2,3\n1,2\n1,3\n2,3\n"), columns="x,y"), 3)
    with pytest.raises(UserError, match="voices in step are drawn"):
        generate(loaded, [""], beams=2)


def test_the_command_line_trains_evaluates_and_generates_over_symbols(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    rows = "".join("n\t" + "".join(rng.choice(list("ACGT"), 11)) + "\n" for _ in range(307))
    path, run = write(tmp_path / "dna.tsv", rows), str(tmp_path / "run")

    def call(*words: str) -> dict[str, object]:
        threads = [] if words[0] == "data" else ["--threads", "1"]
        assert cli.main([*words, "--json", *threads]) == 0
        return json.loads(capsys.readouterr().out)

    call("train", str(path), "--columns", "-,sequence", "--model", "markov", "--budget", "1steps", "--out", run)
    result = call("evaluate", run, str(path))
    assert result["symbols"] == 307 * 12
    assert 1.5 < result["bits_per_symbol"] < 2.5  # log2(5) = 2.3: four bases and the end
    made = call("generate", run, "--prompt", "ACG", "-n", "2", "--max-tokens", "7")
    assert [s[:3] for s in made["sequences"]] == [["A", "C", "G"]] * 2
    card = call("data", str(path), "--columns", "-,sequence")
    assert card["counted"] == "symbol"
    assert "bytes" not in card["parts"]["train"]
    scored = call("score", run, str(write(tmp_path / "two.txt", "ACG\nAN\n")))
    assert [line["symbols"] for line in scored["lines"]] == [4, 3]


@pytest.mark.parametrize(
    ("name", "options", "sizes"),
    [
        ("music_oneill_abc", {}, {"train": 1815, "valid": 87, "test": 90}),
        ("music_bach_chorales", {}, {"train": 286, "valid": 41, "test": 37}),
        ("dna_splice", {"columns": "-,sequence"}, {"test": 607}),
    ],
)
def test_shared_data_has_the_records_that_its_page_says(
    name: str, options: dict[str, str], sizes: dict[str, int]
) -> None:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    corpus = read(folder, **options)
    assert {part: len(corpus.parts[part].starts) for part in sizes} == sizes
    if name == "music_bach_chorales":
        ends = sum(len(part.starts) for part in corpus.parts.values())
        assert sum(map(len, corpus.parts.values())) - ends == 4 * 39_690
        lines = gzip.decompress((folder / "test.jsonl.gz").read_bytes()).decode().splitlines()
        first = json.loads(lines[0])["satb"]
        assert [int(s.partition("=")[2]) for s in records(corpus, "test")[0] if "=" in s] == [
            v for row in first for v in row if str(v)
        ]


def entropy_by_hand(part: Part) -> float:
    counts = Counter(part.ids[np.concatenate([np.arange(s, e) for s, e in zip(part.starts, part.ends)])].tolist())
    total = sum(counts.values())
    return -sum(c / total * math.log2(c / total) for c in counts.values())


def test_the_card_of_symbols_gives_entropy_and_duplicates(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    write(folder / "train.csv", "sequence\nABAB\nAAB\nB\n")
    write(folder / "valid.csv", "sequence\nAB\n")
    write(folder / "test.csv", "sequence\nAAB\nBA\n")
    corpus = read(folder)
    card = corpus.card()
    assert card["entropy"] == pytest.approx(entropy_by_hand(corpus.parts["train"]), rel=1e-12)
    assert card["duplicates"] == 0.5
    assert card["examples"] == ["ABAB", "AAB", "B"]
