"""Pictures: what is read, what is refused before it costs anything, and one run from files to a label."""

import io
import json
import re
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest

import chainrule
from chainrule.core import ChainruleError, DataError, UserError
from chainrule.data.image_files import as_png, decode, grid
from chainrule.data.images import read_images
from chainrule.data.text_encoding import Decoding

Image = pytest.importorskip("PIL.Image")
RNG = np.random.default_rng(3)


def picture(size=(8, 8), channels=3):
    shape = (*size, channels) if channels > 1 else size
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def saved(image, kind="PNG", **options):
    content = io.BytesIO()
    image.save(content, format=kind, **options)
    return content.getvalue()


def folder_of(path, labels=("cat", "dog"), many=12, size=(8, 8)):
    for k, label in enumerate(labels):
        (path / label).mkdir(parents=True)
        for i in range(many):
            pixels = picture(size) // 4 + np.uint8(150 * k)
            (path / label / f"{i}.png").write_bytes(as_png(pixels))
    return path


# ------------------------------------------------------------------------------------------------------------ a picture


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_formats_are_told_by_their_first_bytes_whatever_the_name_says(kind, tmp_path):
    pixels = np.full((6, 9, 3), (200, 30, 90), np.uint8)
    content = saved(Image.fromarray(pixels), kind, **({} if kind == "PNG" else {"quality": 100}))
    found = decode(content, "picture.gif")
    assert found.shape == (6, 9, 3)
    assert np.abs(found.astype(int) - pixels).max() <= (0 if kind == "PNG" else 12)


def test_pixels_go_through_png_unchanged():
    for channels in (1, 3):
        pixels = picture((7, 5), channels).reshape(7, 5, channels)
        assert np.array_equal(decode(as_png(pixels), "x"), pixels.repeat(3 // channels, 2))


def test_what_is_transparent_stands_on_white():
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    pixels[1, 1] = (0, 0, 0, 128)
    found = decode(saved(Image.fromarray(pixels)), "x")
    assert found[0, 0].tolist() == [10, 20, 30]
    assert found[0, 1].tolist() == [255, 255, 255]
    assert found[1, 1].tolist() == [127, 127, 127]


def test_sixteen_bits_become_eight():
    values = np.array([[0, 257, 65535], [256, 32896, 514]], np.uint16)
    found = decode(saved(Image.fromarray(values)), "x")
    assert found[..., 0].tolist() == [[0, 1, 255], [1, 128, 2]]


def test_cmyk_palette_one_bit_and_one_pixel_are_read():
    red = Image.new("RGB", (5, 5), (250, 5, 5))
    assert np.abs(decode(saved(red.convert("CMYK"), "JPEG", quality=100), "x").astype(int) - (250, 5, 5)).max() < 12
    assert decode(saved(red.convert("P")), "x")[0, 0, 0] > 240
    assert decode(saved(Image.new("1", (3, 3), 1)), "x").tolist() == [[[255] * 3] * 3] * 3
    assert decode(saved(Image.new("RGB", (1, 1), (9, 8, 7))), "x", size=8)[3, 3].tolist() == [9, 8, 7]


def test_of_an_animation_the_first_frame_is_read():
    first, second = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    for kind in ("PNG", "WEBP"):
        content = saved(
            first, kind, save_all=True, append_images=[second], **({"lossless": True} if kind == "WEBP" else {})
        )
        assert decode(content, "x")[0, 0].tolist() == [255, 0, 0]


def test_a_camera_that_lay_on_its_side_is_turned():
    wide = Image.fromarray(np.arange(32, dtype=np.uint8).reshape(4, 8).repeat(3).reshape(4, 8, 3))
    exif = Image.Exif()
    exif[274] = 6
    assert decode(saved(wide, exif=exif), "x").shape == (8, 4, 3)


def bomb(side=10_000):
    """A PNG that says it has side x side pixels, in fewer than 100 kB."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    rows = zlib.compress(bytes((1 + side // 8) * side), 9)
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def webp_bomb(side=16_000):
    """A WebP whose header speaks of side x side pixels, in 80 bytes."""
    inside = saved(Image.new("RGB", (4, 4)), "WEBP", lossless=True)[12:]
    head = struct.pack("<II", 10, 0) + (side - 1).to_bytes(3, "little") * 2
    return b"RIFF" + struct.pack("<I", 4 + 4 + len(head) + len(inside)) + b"WEBPVP8X" + head + inside


def jpeg_bomb(side=60_000):
    """A JPEG whose header speaks of side x side pixels."""
    content = saved(Image.new("RGB", (4, 4)), "JPEG")
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", side, side) + content[at + 4 :]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: bomb(4_001), "4,001 x 4,001 pixels, more than 16 million"),
        (lambda: bomb(10_000), "10,000 x 10,000 pixels, more than 16 million"),
        (lambda: bomb(1_000)[:16] + struct.pack(">II", 30_000, 30_000) + bomb(1_000)[24:], "damaged"),
        (jpeg_bomb, "60,000 x 60,000 pixels, more than 16 million"),
        (webp_bomb, "far too many pixels, more than 16 million"),
    ],
)
def test_a_bomb_is_refused_in_our_words_before_anything_is_allocated_for_it(make, told, tmp_path):
    content = make()
    decode(saved(Image.new("RGB", (4, 4))), "x")  # Pillow's own modules are loaded
    tracemalloc.start()
    with pytest.raises(DataError, match=told), warnings.catch_warnings(record=True) as found:
        decode(content, "bomb.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20
    folder_of(tmp_path / "d")
    (tmp_path / "d" / "cat" / "0.png").write_bytes(content)
    with warnings.catch_warnings(record=True) as more:
        warnings.simplefilter("always")
        with pytest.raises(DataError, match=told):
            read_images(tmp_path / "d")
    assert not found + more


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"not a picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP"]
)
def test_what_is_no_picture_is_told_in_one_line(content):
    with pytest.raises(DataError, match=r"^here\.png: ") as error:
        decode(content, "here.png")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_cut_short_is_damaged(kind):
    content = saved(Image.fromarray(picture((32, 32))), kind)
    for share in (0.3, 0.6, 0.9):
        with pytest.raises(DataError, match="damaged"):
            decode(content[: int(len(content) * share)], "x")


def mended(png):
    """With check sums that are right, so that what is wrong reaches the decoder."""
    found, at = bytearray(png), 8
    while at + 12 <= len(found) and (end := at + 8 + int.from_bytes(found[at : at + 4])) + 4 <= len(found):
        found[end : end + 4] = struct.pack(">I", zlib.crc32(found[at + 4 : end]))
        at = end + 4
    return found


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_thousand_mutations_are_errors_or_pictures(kind):
    rng = np.random.default_rng(11)
    image = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    content = saved(image.convert("P"), kind, transparency=bytes(range(256))) if kind == "PNG" else saved(image, kind)
    outcomes = {"picture": 0, "error": 0}
    for k in range(1000):
        bad = bytearray(content)
        for place in rng.integers(0, len(bad), rng.integers(1, 9)):
            bad[place] = rng.integers(256)
        if k % 4 == 3:  # some lose a piece, or hold it twice
            a, z = sorted(rng.integers(0, len(bad), 2))
            bad[a:z] = bad[a:z] * int(rng.integers(0, 3))
        if kind == "PNG" and k % 2:
            bad = mended(bad)
        try:
            found = decode(bytes(bad), "x", size=16)
            assert found.shape == (16, 16, 3)
            outcomes["picture"] += 1
        except DataError:
            outcomes["error"] += 1
    assert min(outcomes.values()) > 0, outcomes


def test_a_grid_enlarges_by_whole_factors():
    sheet = grid(
        [np.full((8, 8, 1), 10, np.uint8), np.full((8, 8, 1), 20, np.uint8), np.full((8, 8, 1), 30, np.uint8)],
        2,
        gap=1,
        least=16,
    )
    assert sheet.shape == (33, 33, 1)
    assert (sheet[0, 0, 0], sheet[0, 17, 0], sheet[17, 0, 0], sheet[17, 17, 0]) == (10, 20, 30, 255)


# --------------------------------------------------------------------------------------------------------- what is read


def test_a_folder_for_each_label(tmp_path):
    data = read_images(folder_of(tmp_path / "pets"), split=(0.5, 0.25, 0.25))
    assert data.labels == ("cat", "dog")
    assert data.name == "pets"
    assert sum(map(len, data.parts.values())) == 24
    assert data.parts["train"].images.shape[1:] == (8, 8, 3)
    assert data.card()["duplicates"] == 0


def test_given_parts_are_kept_and_equal_pictures_stay_on_one_side(tmp_path):
    folder_of(tmp_path / "d" / "train")
    folder_of(tmp_path / "d" / "test", many=3)
    parts = read_images(tmp_path / "d").parts
    assert len(parts["test"]) == 6
    assert len(parts["train"]) + len(parts["valid"]) == 24
    same = tmp_path / "same"
    folder_of(same, many=20)
    for k in range(20):
        (same / "cat" / f"again{k}.png").write_bytes((same / "cat" / "0.png").read_bytes())
    hashes = {part: set(p.hashes) for part, p in read_images(same, split=(0.6, 0.2, 0.2)).parts.items()}
    assert not (hashes["train"] & hashes["test"])
    assert not (hashes["train"] & hashes["valid"])


def test_a_table_of_paths_beside_it(tmp_path):
    folder_of(tmp_path / "files", many=6)
    rows = [f"files/{label}/{k}.png,{label},{'g' + str(k)}" for label in ("cat", "dog") for k in range(6)]
    (tmp_path / "pets.csv").write_text("image,label,group\n" + "\n".join(rows) + "\n")
    data = read_images(tmp_path / "pets.csv", split=(0.5, 0.25, 0.25))
    assert sum(map(len, data.parts.values())) == 12
    places = {part: {f.rsplit("/", 1)[1] for f in p.files} for part, p in data.parts.items()}
    assert not places["train"] & places["test"]  # rows of one group are on one side


def test_arrays_with_and_without_names(tmp_path):
    x, y = picture((40, 8), 8).reshape(40, 8, 8), np.arange(40) % 2
    np.savez(tmp_path / "a.npz", images=x, labels=y)
    assert read_images(tmp_path / "a.npz").labels == ("0", "1")
    np.savez(tmp_path / "b.npz", x_train=x, y_train=y, x_test=x[:4], y_test=y[:4], names=np.array(["even", "odd"]))
    data = read_images(tmp_path / "b.npz")
    assert data.labels == ("even", "odd")
    assert len(data.parts["test"]) == 4
    assert data.parts["train"].images.shape[3] == 1  # grey stays grey
    learned = set(data.parts["train"].hashes)
    assert data.card()["duplicates"] == np.mean([h in learned for h in data.parts["test"].hashes])


def test_pictures_of_several_sizes_are_brought_to_one_and_it_is_said(tmp_path):
    folder_of(tmp_path / "d", many=4)
    (tmp_path / "d" / "cat" / "wide.jpg").write_bytes(saved(Image.new("RGB", (90, 40), (1, 2, 3)), "JPEG"))
    data = read_images(tmp_path / "d")
    assert data.parts["train"].images.shape[1:3] == (32, 32)
    assert any("--image-size" in note for note in data.notes)
    assert read_images(tmp_path / "d", size=16).parts["train"].images.shape[1:3] == (16, 16)


def test_a_damaged_picture_stops_or_is_left_out_and_counted(tmp_path):
    folder_of(tmp_path / "d")
    (tmp_path / "d" / "cat" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n rubbish")
    with pytest.raises(DataError, match=r"bad\.png"):
        read_images(tmp_path / "d")
    data = read_images(tmp_path / "d", decoding=Decoding("skip"))
    assert sum(map(len, data.parts.values())) == 24
    assert any("1 image left out" in note for note in data.notes)


def test_what_cannot_be_meant_is_told_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    folder_of(tmp_path / "one", labels=("cat",))
    gap = folder_of(tmp_path / "gap")
    (gap / "bird").mkdir()
    loose = tmp_path / "loose"
    loose.mkdir()
    (loose / "a.png").write_bytes(as_png(picture()))
    np.savez(tmp_path / "float.npz", images=np.zeros((4, 8, 8)), labels=np.zeros(4, int))
    np.savez(tmp_path / "other.npz", pictures=np.zeros((4, 8, 8), np.uint8))
    np.savez(tmp_path / "short.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.zeros(3, int))
    np.savez(tmp_path / "objects.npz", images=np.array([{}], object), labels=np.zeros(1, int))
    (tmp_path / "torn.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:60])
    (tmp_path / "t.csv").write_text("image,label\nnowhere.png,a\n")
    for name, told in {
        "empty": "no images", "one": "at least 2 labels", "gap": "no images", "loose": "1 images without labels",
        "float.npz": "uint8", "other.npz": "expected images,labels", "short.npz": "3", "objects.npz": "plain arrays",
        "torn.npz": "damaged",
        "t.csv": "no such file", "nothing": "no such file",
    }.items():  # fmt: skip
        with pytest.raises(ChainruleError, match=told) as error:
            read_images(tmp_path / name)
        assert "\n" not in str(error.value)


def test_in_a_folder_too_a_wrong_suffix_does_no_harm(tmp_path):
    folder = folder_of(tmp_path / "d", size=(16, 16))
    red = Image.new("RGB", (16, 16), (250, 5, 5))
    (folder / "cat" / "jpeg.png").write_bytes(saved(red, "JPEG"))
    (folder / "cat" / "webp.jpg").write_bytes(saved(red, "WEBP"))
    data = read_images(folder)
    assert sum(map(len, data.parts.values())) == 26
    assert not any("scaled" in note for note in data.notes)
    (folder / "cat" / "text.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"text\.png: no PNG, JPEG, WebP, BMP, GIF or TIFF by its first bytes"):
        read_images(folder)


def test_pictures_of_one_pixel_go_all_the_way_or_are_refused_in_one_line(tmp_path):
    from chainrule.api import compare

    folder_of(tmp_path / "d", many=30, size=(1, 1))
    models = "knn,logistic,mlp,cnn,gru,vit"
    board = compare(
        tmp_path / "d", tmp_path / "out", task="classify", models=models, budget="2epochs", set={"size": "tiny"}
    )
    rows = {row["model"]: row for row in board["rows"]}
    assert {model for model, row in rows.items() if row["status"] == "failed"} == {"vit"}
    assert "does not divide images of 1 pixels" in rows["vit"]["error"]


def test_a_class_of_one_picture_is_noted(tmp_path):
    folder = folder_of(tmp_path / "d")
    (folder / "bird").mkdir()
    (folder / "bird" / "only.png").write_bytes(as_png(picture()))
    data = read_images(folder)
    part = next(name for name, p in data.parts.items() if "bird" in p.names)
    told = "only one training image each: bird" if part != "test" else "train lacks (bird)"
    assert any(told in note for note in data.notes)


# ------------------------------------------------------------------------------------------------------ a contact sheet


def tiles(path, side, factor, gap=2):
    """The pictures of a contact sheet as they were before it enlarged them: rows of arrays."""
    sheet, step = np.asarray(Image.open(path)), side * factor + gap
    sheet = sheet.reshape(*sheet.shape[:2], -1)
    return [
        [sheet[y : y + side * factor : factor, x : x + side * factor : factor] for x in range(0, sheet.shape[1], step)]
        for y in range(0, sheet.shape[0], step)
    ]


def test_the_rows_of_a_contact_sheet_are_the_labels_and_its_pixels_the_pictures(tmp_path, capsys):
    from chainrule.cli import main

    many = {"bird": 3, "cat": 11, "dog": 29}
    for label, count in many.items():
        folder_of(tmp_path / "d", labels=(label,), many=count, size=(5, 5))
    out = tmp_path / "sheet.png"
    flags = ["--split", "0.6/0.2/0.2", "--sheet", str(out)]
    assert main(["data", str(tmp_path / "d"), *flags, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sheet"] == {"file": str(out), "rows": list(many)}
    assert main(["data", str(tmp_path / "d"), *flags]) == 0
    assert f"{out}: a row for each label, from the top: bird, cat, dog" in capsys.readouterr().out
    train = read_images(tmp_path / "d", split=(0.6, 0.2, 0.2)).parts["train"]
    rows = tiles(out, side=5, factor=13)  # 13 is the least that makes 64 pixels of 5
    assert [len(row) for row in rows] == [8, 8, 8]
    for label, row in zip(many, rows, strict=True):
        mine = {x.tobytes() for x, name in zip(train.images, train.names) if name == label}
        shown = [x.tobytes() for x in row if not (x == 255).all()]
        assert len(shown) == len(set(shown)) == min(8, len(mine))
        assert set(shown) <= mine


def test_without_labels_a_contact_sheet_is_spread_evenly(tmp_path, capsys):
    from chainrule.cli import main

    images = np.arange(200, dtype=np.uint8)[:, None, None].repeat(7, 1).repeat(7, 2)
    np.savez(tmp_path / "images.npz", images=images)
    flags = ["--task", "codes", "--split", "0.8/0.1/0.1", "--sheet", str(tmp_path / "sheet.png")]
    assert main(["data", str(tmp_path / "images.npz"), *flags]) == 0
    assert "sheet.png: a sample, evenly spread" in capsys.readouterr().out
    train = (
        read_images(tmp_path / "images.npz", split=(0.8, 0.1, 0.1), labelled=False).parts["train"].images[:, 0, 0, 0]
    )
    shown = [int(x[0, 0, 0]) for row in tiles(tmp_path / "sheet.png", side=7, factor=10) for x in row]
    places = [train.tolist().index(value) for value in shown]
    assert len(shown) == 24
    assert places[0] == 0 and places[-1] == len(train) - 1
    assert set(np.diff(places)) <= {len(train) // 23, len(train) // 23 + 1}
    assert main(["data", str(tmp_path / "images.npz"), "--task", "codes"]) == 0
    assert "--sheet FILE.png" in capsys.readouterr().out


def test_a_contact_sheet_that_cannot_be_is_told_in_one_line_before_anything_is_read(pets, tmp_path, capsys):
    from chainrule.cli import main

    (tmp_path / "a.txt").write_text("some text")
    for data, sheet, told in (
        (tmp_path / "a.txt", tmp_path / "x.png", "holds no images"),
        (tmp_path / "nowhere", tmp_path / "x.png", "no such file"),
        (pets, tmp_path / "nowhere" / "x.png", "no such folder"),
        (pets, tmp_path, "a folder"),
    ):
        assert main(["data", str(data), "--sheet", str(sheet)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert told in err and err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


# ---------------------------------------------------------------------------------------------------------- a whole run


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("pets") / "pets", many=40)


@pytest.mark.parametrize("model", ["vit", "cnn", "mlp", "logistic", "knn", "lstm", "gru:read=pixels"])
def test_from_files_to_a_label(model, pets, tmp_path, capsys):
    from chainrule.cli import main

    name, _, setting = model.partition(":")
    settings = ["--set", f"model.{setting}"] if setting else []
    flags = ["--task", "classify", "--budget", "40steps", "--threads", "1", "--set", "size=tiny", *settings]
    assert main(["train", str(pets), "--model", name, *flags, "--out", str(tmp_path / "run")]) == 0
    told = capsys.readouterr().err
    loss = "" if name == "knn" else r"loss [\d.]+ nats, "
    assert re.search(rf": {loss}[\d,]+ images/s", told), told
    assert (
        main(["evaluate", str(tmp_path / "run"), str(pets), "--json", "--predictions", str(tmp_path / "p.jsonl")]) == 0
    )
    result = json.loads(capsys.readouterr().out)
    assert result["n"] == 80
    assert result["accuracy"] > 0.9
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) == 80
    files = [str(pets / "dog" / f"{k}.png") for k in range(3)]
    assert main(["classify", str(tmp_path / "run"), *files, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"].count("dog") >= 2


def test_a_board_shows_the_pictures_and_the_mistakes(pets, tmp_path):
    from chainrule.api import compare

    board = compare(
        pets,
        tmp_path / "board",
        task="classify",
        models="knn,logistic,vit",
        budget="2epochs",
        set={"size": "tiny"},
        threads=1,
    )
    assert board["task"] == "classify-images"
    assert {row["model"] for row in board["rows"] if row["status"] == "done"} == {"knn", "logistic", "vit"}
    assert len(board["sheet"]) == 24
    page = (tmp_path / "board" / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 24
    assert "{{" not in page
    for said in (
        ">images/s<",
        "images trained on",
        "share of test images whose label is predicted correctly",
        "8 × 8 × 3",
    ):
        assert said in page
    assert "stride" not in page.partition("<script")[0]  # no column that no row can fill


def test_a_board_that_is_done_has_the_same_figures_when_it_is_asked_for_again(tmp_path):
    from chainrule.api import compare

    rng = np.random.default_rng(5)
    np.savez(
        tmp_path / "noise.npz", images=rng.integers(0, 256, (400, 8, 8), dtype=np.uint8), labels=np.arange(400) % 4
    )
    settings = {"task": "classify", "models": "vit,mlp", "budget": "3epochs", "threads": 1}
    settings["set"] = {"size": "tiny", "model.dropout": 0.5}
    first, again = (
        compare(tmp_path / "noise.npz", tmp_path / "board", split=(0.4, 0.1, 0.5), **settings) for _ in range(2)
    )
    for one, other in zip(first["rows"], again["rows"], strict=True):
        assert {k: one[k] for k in ("accuracy", "ece", "interval")} == {
            k: other[k] for k in ("accuracy", "ece", "interval")
        }


def test_a_run_of_texts_does_not_take_pictures_and_the_other_way_round(pets, tmp_path, capsys):
    from chainrule.cli import main

    assert main(["train", str(pets), "--model", "knn", "--out", str(tmp_path / "run")]) == 0
    assert main(["classify", str(tmp_path / "run")]) == 2
    assert "name their files" in capsys.readouterr().err
    assert main(["classify", str(tmp_path / "run"), "no such text"]) == 2
    assert "no such file" in capsys.readouterr().err
    with pytest.raises(UserError, match="no such file"):
        chainrule.load(tmp_path / "run").classify(["a text"])
