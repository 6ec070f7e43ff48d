"""Pictures learnt as sequences: a codec's symbols leave as lines, any model type learns to go on with them, and they
come back as pictures."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from chainrule.cli import main
from chainrule.cli.parser import parse
from chainrule.data.codes import read_codes
from chainrule.data.image_files import as_png, read_image_file
from chainrule.data.images import read_images, read_part
from chainrule.tasks.image_codes import coded, psnr, shown
from chainrule.tasks.setup import load
from tests.encoded import read
from tests.encoded import read_part as read_held_out

SIDE, PLACES = 12, 9  # pixels of a side; symbols of a picture, whose patches are of 4 x 4 pixels
EXACT = ("--threads", "1", "--precision", "fp32")
TINY = (*EXACT, "--set", "size=tiny")


def squares(many, seed=2):
    """A coloured square somewhere on white."""
    rng = np.random.default_rng(seed)
    images = np.full((many, SIDE, SIDE, 3), 255, np.uint8)
    for pixels in images:
        y, x = rng.integers(0, 7, 2)
        pixels[y : y + 5, x : x + 5] = rng.choice([[250, 20, 20], [20, 200, 20], [20, 20, 220]])
        pixels[0, 0] = rng.integers(0, 256, 3)  # no two alike
    return images


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder for each of two labels."""
    folder = tmp_path_factory.mktemp("pictures")
    for k, pixels in enumerate(squares(61)):
        path = folder / ("left", "right")[k % 2] / f"{k}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(as_png(pixels))
    return folder


@pytest.fixture(scope="module")
def codec(pictures, tmp_path_factory):
    """A run whose own data were split in other shares than usual."""
    run = tmp_path_factory.mktemp("runs") / "codec"
    words = [
        "train",
        str(pictures),
        "--task",
        "codes",
        "--model",
        "vq",
        "--budget",
        "12steps",
        "--split",
        "0.7/0.1/0.2",
    ]
    assert main([*words, *TINY, "--out", str(run)]) == 0
    return run


@pytest.fixture(scope="module")
def symbols(pictures, codec, tmp_path_factory):
    out = tmp_path_factory.mktemp("symbols") / "symbols.jsonl"
    assert export(codec, pictures, out) == 0
    return out


def opened(codec):
    return load(codec, precision="fp32", threads=1)


def export(codec, data, out, *flags):
    return main(["export", str(codec), "--to", "symbols", str(out), "--data", str(data), *EXACT, *flags])


def lines(path):
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in content.decode().splitlines()]


def drawn(codec, path, folder, *flags):
    """The pictures that ``draw`` makes, in order."""
    folder.mkdir()
    words = [
        "draw",
        str(codec),
        "--symbols",
        str(path),
        "--out",
        str(folder.parent / "grid.png"),
        "--each",
        str(folder),
    ]
    assert main([*words, *EXACT, *flags]) == 0
    return np.stack([read_image_file(p) for p in sorted(folder.iterdir())])


# ----------------------------------------------------------------------------------------------------------- the export


def test_every_picture_is_a_line_under_its_part_with_its_label_and_file(pictures, symbols):
    """The part is what the codec's own shares say, the symbols those of the very file that the line names."""
    want = {
        file: (part, label)
        for part, p in read_images(pictures, split=(0.7, 0.1, 0.2)).parts.items()
        for file, label in zip(p.files, p.names)
    }
    assert len(want) == 61
    assert {row["file"]: (row["split"], row["label"]) for row in lines(symbols)} == want


def test_the_symbols_are_those_of_the_file_that_a_line_names(codec, symbols):
    loaded = opened(codec)
    rows = lines(symbols)
    images = np.stack([loaded.processor.reader.open(Path(row["file"])) for row in rows])
    ids = coded(loaded.model, loaded.processor.reader, images, loaded.compute)
    assert ids.shape == (61, PLACES)
    assert [row["sequence"] for row in rows] == ids.tolist()
    assert len({tuple(row) for row in ids.tolist()}) > 20


def test_the_lines_are_records_of_symbols_in_the_same_parts(symbols):
    corpus = read(symbols)
    assert corpus.counted == "symbol"
    rows = lines(symbols)
    for name, part in corpus.parts.items():
        mine = [row["sequence"] for row in rows if row["split"] == name]
        assert len(part.starts) == len(mine)
        assert len(part) == len(mine) * (PLACES + 1)  # and the end of each
        known = {str(symbol) for row in mine for symbol in row} & set(corpus.processor.tokenizer.names)
        found = [corpus.processor.tokenizer.symbols_of(part.ids[s:e]) for s, e in zip(part.starts, part.ends)]
        assert found == [[str(x) if str(x) in known else "\N{REPLACEMENT CHARACTER}" for x in row] for row in mine]


def test_what_training_saw_is_not_evaluated(symbols, tmp_path):
    corpus, rows = read(symbols), lines(symbols)
    held = read_held_out(symbols, corpus.processor.tokenizer, "lines")
    assert np.array_equal(held.ids, corpus.parts["test"].ids)
    plain = tmp_path / "plain.jsonl"  # no part is told: all of it is held out
    plain.write_text("".join(json.dumps({"sequence": row["sequence"]}) + "\n" for row in rows))
    assert len(read_held_out(plain, corpus.processor.tokenizer, "lines").starts) == len(rows)


def test_a_split_that_is_given_is_kept(codec, tmp_path):
    images, numbers = squares(20, seed=5), np.arange(20) % 3
    sizes = {"train": slice(0, 11), "valid": slice(11, 13), "test": slice(13, 20)}
    arrays = {f"x_{part}": images[rows] for part, rows in sizes.items()}
    arrays |= {f"y_{part}": numbers[rows] for part, rows in sizes.items()}
    np.savez(tmp_path / "given.npz", **arrays)
    out = tmp_path / "symbols.jsonl.gz"
    assert export(codec, tmp_path / "given.npz", out, "--split", "0.2/0.4/0.4") == 0
    want = [(part, str(n)) for part, rows in sizes.items() for n in numbers[rows]]
    assert [(row["split"], row["label"]) for row in lines(out)] == want


def test_shares_can_be_told(pictures, codec, tmp_path):
    assert export(codec, pictures, tmp_path / "s.jsonl", "--split", "0.5/0.5/0") == 0
    parts = [row["split"] for row in lines(tmp_path / "s.jsonl")]
    assert set(parts) == {"train", "valid"}
    assert 18 <= parts.count("valid") <= 43


def test_captions_come_along_and_a_column_picks_them(codec, tmp_path):
    folder = tmp_path / "captioned"
    folder.mkdir()
    np.savez(folder / "images12.npz", images=squares(13, seed=7))
    rows = [{"i": i, "text": f"square {i}", "text_ko": f"네모 {i}"} for i in range(13)]
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for flags, name in (((), "square"), (("--columns", "text_ko"), "네모")):
        assert export(codec, folder, tmp_path / "s.jsonl", *flags) == 0
        found = lines(tmp_path / "s.jsonl")
        assert {row["caption"] for row in found} == {f"{name} {i}" for i in range(13)}
        assert not any({"label", "file"} & set(row) for row in found)


def test_no_picture_is_lost_where_only_some_lie_in_folders(pictures, codec, tmp_path):
    folder = tmp_path / "mixed"
    (folder / "one").mkdir(parents=True)
    for k, pixels in enumerate(squares(17, seed=11)):
        (folder / ("one" if k % 2 else "") / f"{k}.png").write_bytes(as_png(pixels))
    assert export(codec, folder, tmp_path / "s.jsonl") == 0
    found = lines(tmp_path / "s.jsonl")
    assert len(found) == 17
    assert not any("label" in row for row in found)


# ------------------------------------------------------------------------------------------------- and back to pictures


def test_what_is_exported_is_drawn_as_the_codec_itself_gives_it_back(pictures, codec, symbols, tmp_path, capsys):
    loaded = opened(codec)
    images = np.stack([loaded.processor.reader.open(Path(row["file"])) for row in lines(symbols)])
    ids = coded(loaded.model, loaded.processor.reader, images, loaded.compute)
    found = drawn(codec, symbols, tmp_path / "each")
    assert np.array_equal(found, shown(loaded.model, loaded.processor.reader, ids, loaded.compute))
    capsys.readouterr()
    assert main(["evaluate", str(codec), str(pictures), "--json", *EXACT]) == 0
    files = {file: k for k, file in enumerate(read_part(pictures, loaded.processor.reader, "nothing").files)}
    assert len(files) == 61
    assert json.loads(capsys.readouterr().out)["psnr"] == pytest.approx(float(psnr(found, images).mean()), abs=1e-6)


@pytest.mark.parametrize("model", ["gpt", "ngram"])
def test_any_model_type_learns_pictures_and_goes_on_with_them(model, codec, symbols, tmp_path, capsys):
    flags = ("--set", "model.n=3") if model == "ngram" else ("--budget", "4steps", *TINY)
    assert main(["train", str(symbols), "--model", model, *flags, "--out", str(tmp_path / "run")]) == 0
    prompt = lines(symbols)[0]["sequence"][:6]
    words = ["generate", str(tmp_path / "run"), "--prompt", json.dumps(prompt), "--max-tokens", "40", "-n", "23"]
    capsys.readouterr()
    assert main([*words, "--threads", "1", "--json"]) == 0
    (tmp_path / "made.json").write_text(printed := capsys.readouterr().out)
    made = json.loads(printed)["sequences"]
    assert len(made) == 23
    assert all(sequence[:6] == prompt for sequence in made)
    whole = [sequence for sequence in made if len(sequence) >= PLACES]
    assert whole

    found = drawn(codec, tmp_path / "made.json", tmp_path / "each", "--json")
    told, note = capsys.readouterr()
    assert json.loads(told)["left_out"] == 23 - len(whole)
    assert ("left out" in note) == (len(whole) < 23)
    loaded = opened(codec)
    want = np.array([sequence[:PLACES] for sequence in whole])
    assert np.array_equal(found, shown(loaded.model, loaded.processor.reader, want, loaded.compute))

    assert main([*words, "--threads", "1"]) == 0  # the same draws as lines
    (tmp_path / "made.jsonl").write_text(capsys.readouterr().out)
    assert np.array_equal(drawn(codec, tmp_path / "made.jsonl", tmp_path / "again"), found)


def test_sequences_are_cut_left_out_and_counted():
    some = [
        "",
        '{"sequence": [1, 2, 3, 99]}',
        '{"sequences": [["0", 4, 2], [1, 1], []]}',
        '{"sequence": [0], "split": "test"}',
    ]
    ids, short = read_codes(some, 5, 3, "x")
    assert ids.tolist() == [[1, 2, 3], [0, 4, 2]]
    assert short == 3


@pytest.mark.parametrize(("flags", "columns"), [((), 3), (("-n", "2"), 2), (("-n", "100"), 7)])
def test_a_grid_is_a_square_or_as_wide_as_is_asked(flags, columns, codec, symbols, tmp_path):
    seven = symbols.read_text().splitlines(keepends=True)[:7]
    (tmp_path / "seven.jsonl").write_text("".join(seven))
    assert len(drawn(codec, tmp_path / "seven.jsonl", tmp_path / "each", *flags)) == 7
    across, down = (SIDE * 6 * n + 2 * (n - 1) for n in (columns, -(-7 // columns)))
    assert read_image_file(tmp_path / "grid.png").shape == (down, across, 3)


# ------------------------------------------------------------------------------------------------------ what is refused


def complaint(capsys, *words):
    capsys.readouterr()
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    return err


def test_an_export_that_cannot_be_is_one_line(pictures, codec, symbols, tmp_path, capsys):
    assert (
        main(["train", str(symbols), "--model", "ngram", "--set", "model.n=2", "--out", str(tmp_path / "counts")]) == 0
    )
    out, to = tmp_path / "s.jsonl", ("--to", "symbols")
    for words, told in (
        ((tmp_path / "counts", *to, out, "--data", pictures), "task is generate; a run of --task codes"),
        ((codec, *to, out), "no --data; give the images"),
        ((codec, "--to", "arpa", out, "--data", pictures), "leave it out; --to symbols takes images"),
        ((codec, "--to", "symbol", out, "--data", pictures), "did you mean 'symbols'?"),
        ((codec, *to, tmp_path / "no" / "s.jsonl", "--data", pictures), "no such folder; make it first"),
        ((codec, *to, tmp_path / "s.txt", "--data", pictures), "ends in .jsonl or .jsonl.gz"),
        ((codec, *to, tmp_path / "captions.jsonl", "--data", pictures), "ends in .jsonl or .jsonl.gz"),
        ((codec, *to, pictures / "left" / "s.jsonl", "--data", pictures), "write it outside"),
        ((codec, *to, out, "--data", tmp_path / "none"), "no such file or folder"),
        ((codec, *to, out, "--data", pictures, "--split", "1/2/3"), "shares that sum to 1"),
    ):
        assert told in complaint(capsys, "export", *words)
    assert [p.name for p in tmp_path.iterdir()] == ["counts"]
    own = tmp_path / "table.jsonl"
    own.write_text(json.dumps({"image": str(next(pictures.rglob("*.png")))}) + "\n")
    assert "write it outside" in complaint(capsys, "export", codec, *to, own, "--data", own)
    assert "image" in own.read_text()
    assert not list(pictures.rglob("*.jsonl"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"sequence": [1, 2, 3, 4, 5, 6, 7, 8]}', "an image has 9 tokens and the longest sequence 8: generate"),
        (
            '\n{"sequence": [1, 2, 3, 4, 5, 6, 7, 8, 64]}',
            "line 2: '64' is no token of this codec, whose tokens are 0 to 63",
        ),
        ('{"sequence": [1, 2, 3, 4, 5, 6, 7, 8, "�"]}', "'�' is no token"),
        ('{"sequence": [1, 2, 3, 4, 5, 6, 7, 8, true]}', "'true' is no token"),
        ('{"sequence": [1, 2, 3, 4, 5, 6, 7, 8, -1]}', "'-1' is no token"),
        ('{"sequence": [[1], 2, 3, 4, 5, 6, 7, 8, 0]}', "'[1]' is no token"),
        ('{"sequences": []}', "no sequence: generate some"),
        ('{"sequence": "1 2 3"}', "is needed, or what generate --json prints"),
        ('{"texts": ["a"]}', "is needed, or what generate --json prints"),
        ("[1, 2, 3, 4, 5, 6, 7, 8, 0]", "is needed, or what generate --json prints"),
        ('{"sequence": [1', "line 1: not valid JSON"),
        ('{"sequence": [1, 2, 3, 4, 5, 6, 7, 8, 9]}\n' * 1025, "1,025 images, and at most 1,024"),
        ("\n", "only white space"),
    ],
)
def test_symbols_that_are_no_pictures_are_one_line(content, told, codec, tmp_path, capsys):
    (tmp_path / "s.jsonl").write_text(content)
    assert told in complaint(capsys, "draw", codec, "--symbols", tmp_path / "s.jsonl", "--out", tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_captions_may_stand_before_and_after_flags():
    for words in (["a", "b", "-n", "2"], ["-n", "2", "a", "b"]):
        assert parse(["draw", "run", *words])[0].caption == ("a", "b")
    assert not parse(["draw", "run", "--symbols", "x"])[0].caption


def test_captions_and_symbols_exclude_each_other_and_one_is_needed(codec, symbols, tmp_path, capsys):
    assert (
        main(["train", str(symbols), "--model", "ngram", "--set", "model.n=2", "--out", str(tmp_path / "counts")]) == 0
    )
    for words, told in (
        ((codec, "a red square", "--symbols", symbols), "exclude each other"),
        ((codec,), "give a caption, or --symbols"),
        ((codec, "--symbols", symbols, "--top-k", 3), "leave out --top-k"),
        ((codec, "--symbols", symbols, "--best-of", 3), "leave out --best-of"),
        ((codec, "--symbols", symbols, "-n", 0), "-n 0: allowed is 1 to 1024"),
        ((codec, "--symbols", tmp_path / "none.jsonl"), "none.jsonl: no such file"),
        ((tmp_path / "counts", "--symbols", symbols), "task is generate; a run of --task codes"),
        ((codec, "a red square"), "task is codes; a run of --task draw"),
    ):
        assert told in complaint(capsys, "draw", *words)
