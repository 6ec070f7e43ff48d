"""Drawing: grids of masks against grids written by hand, records, guidance, completion, and one run from captions to
pictures."""

import json
import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from chainrule.api import draw, load
from chainrule.core import UserError, model_type
from chainrule.core.compute import decide
from chainrule.core.noise import derive_seeds
from chainrule.data.captioned import DrawnBatches, as_batch, fit_captions, read_captioned
from chainrule.data.rainbow import COMBINATIONS, caption, picture
from chainrule.inference.engine import Engine, draw_images
from chainrule.inference.sampling import Filters
from chainrule.nn.masks import Causal, Grid
from chainrule.nn.matching import Matcher, contrast
from chainrule.nn.text_to_image import since_start
from chainrule.tasks.draw.matching import teach, vectors
from chainrule.tasks.draw.task import reciprocal_rank, settled
from chainrule.training.losses import CaptionImageLoss

PLAIN = Filters()

# --- masks ---

GRIDS = {
    # what the place of row 2, column 1 sees of a 4 x 4 picture; x: itself
    "dense": ["1111", "1111", "1x..", "...."],
    "row": ["....", ".111", "1x..", "...."],
    "axial_row": ["....", "....", "1x..", "...."],
    "column": [".1..", ".1..", ".x..", "...."],
    "conv": ["....", "111.", "1x..", "...."],
}


@pytest.mark.parametrize("kind", GRIDS)
@pytest.mark.parametrize("origin", [0, 7])
def test_a_place_of_a_grid_sees_what_is_written_by_hand(kind, origin):
    text, side = 3, 4
    places = origin + torch.arange(text + side * side)[None]
    mask = Causal() & Grid(torch.full_like(places, origin), text, side, kind, reach=3)
    seen = mask.seen(places, places)[0]
    assert not seen.triu(1).any()
    query = text + 2 * side + 1
    want = [c in "1x" for row in GRIDS[kind] for c in row]
    assert seen[query, :text].all()
    assert seen[query, text:].tolist() == want
    assert torch.equal(seen[:text, :text], torch.ones(text, text, dtype=torch.bool).tril())


def test_a_row_of_the_paper_wraps_into_the_row_above():
    places = torch.arange(16)[None]
    seen = (
        Grid(torch.zeros_like(places), 0, 4, "row").seen(places, places)[0]
        & torch.ones(16, 16, dtype=torch.bool).tril()
    )
    assert seen[9].nonzero()[:, 0].tolist() == [5, 6, 7, 8, 9]


# --- records ---


def captions(codebook_size=4):
    return fit_captions(["A red circle", "a blue  square", "a blue circle"], "char", codebook_size)


def test_a_caption_is_filled_up_with_each_places_own_symbol():
    found = captions()
    rows = found.write(["a red circle", "A BLUE", ""])
    own = np.arange(found.words, found.words + found.places)
    assert found.places == len("a blue square") == 13
    assert (rows[0, :12] < found.words).all()
    assert rows[0, 12] == own[12]
    assert rows[1, 6:].tolist() == own[6:].tolist()
    assert rows[2].tolist() == own.tolist()
    assert bytes(found.tokenizer.decode(rows[1, :6].tolist())) == b"a blue"


def test_batches_hide_some_captions_and_are_a_function_of_epoch_and_step():
    found = captions()
    records = found.records(["a red circle"] * 200, np.arange(200)[:, None] % 4)
    batches = DrawnBatches(records, found, 32, seed=1)
    assert batches.steps_per_epoch == 7
    batch = batches.at(3, 2)
    assert torch.equal(batch.targets_BT, batches.at(3, 2).targets_BT)
    blank = torch.from_numpy(found.write([""])[0])
    hidden = sum(
        int((batches.at(e, s).targets_BT[:, : found.places] == blank).all(1).sum()) for e in range(5) for s in range(7)
    )
    assert 50 < hidden < 160  # a tenth of 1,000
    assert (batch.inputs_BT[:, 0] == found.vocab_size).all()
    assert torch.equal(batch.inputs_BT[:, 1:], batch.targets_BT[:, :-1])


def test_what_is_read_of_a_picture_is_in_part_another_ones_and_what_is_learnt_never():
    found = captions(codebook_size=400)
    own = np.arange(100)[:, None] + 100 * np.arange(4)  # picture k: k, k + 100, k + 200, k + 300
    records = found.records(["a red circle"] * 100, own)
    batch = DrawnBatches(records, found, 100, seed=1, dropped=0).at(0, 0)
    plain = DrawnBatches(records, found, 100, seed=1, dropped=0, mistaken=0).at(0, 0)
    assert torch.equal(batch.targets_BT, plain.targets_BT)
    assert torch.equal(plain.inputs_BT[:, 1:], plain.targets_BT[:, :-1])
    of_caption, read = batch.inputs_BT[:, : found.places + 1], batch.inputs_BT[:, found.places + 1 :] - found.picture
    assert torch.equal(of_caption, plain.inputs_BT[:, : found.places + 1])
    assert torch.equal(read // 100, torch.arange(3).expand(100, 3)), "another picture's symbol of the same place"
    assert 0.15 < float((read != plain.inputs_BT[:, found.places + 1 :] - found.picture).double().mean()) < 0.35


def test_places_are_counted_from_the_last_start():
    begins = torch.tensor([[False, True, False, False], [False, False, False, True]])
    assert since_start(begins, torch.tensor([5, 0])).tolist() == [[5, 0, 1, 2], [0, 1, 2, 0]]


# --- model ---


def build(name="dalle", **settings):
    torch.manual_seed(0)
    codec = (
        model_type("vq", "codes")
        .configure("tiny", image_size=8, channels=1, quantiser="ema", **{"codebook_size": 4})
        .model_dump()
    )
    found = captions()
    chosen = model_type(name, "draw")
    sizes = {"vocab_size": found.vocab_size, "words": found.words, "caption": found.places}
    model = chosen.build(chosen.configure("tiny", codec={"model_type": "vq", "model": codec}, **sizes, **settings))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model.eval(), found


@pytest.mark.parametrize("name", ["dalle", "lstm", "gru"])
def test_only_what_may_stand_at_a_place_has_a_probability(name):
    model, found = build(name)
    batch = as_batch(found.records(["a red circle", ""], np.array([[0, 1, 2, 3], [3, 3, 0, 1]])), found)
    with torch.no_grad():
        prediction, _ = model(batch.inputs_BT)
    p = prediction.logits().softmax(-1)
    for place in range(found.places + 4):
        allowed = set(p[0, place].nonzero()[:, 0].tolist())
        text = {*range(found.words), found.words + place}
        assert allowed == (text if place < found.places else set(range(found.words + found.places, found.vocab_size)))
    assert torch.isfinite(prediction.log_prob(batch.targets_BT)).all()


def test_the_loss_is_an_eighth_text_and_seven_eighths_picture():
    model, found = build()
    batch = as_batch(found.records(["a red circle", "a blue"], np.array([[0, 1, 2, 3], [3, 3, 0, 1]])), found)
    objective = CaptionImageLoss(model)
    terms, _ = objective(batch)
    counts = objective.counts(batch)
    with torch.no_grad():
        nats = -model(batch.inputs_BT)[0].log_prob(batch.targets_BT)
    want = nats[:, : found.places].mean() / 8 + 7 / 8 * nats[:, found.places :].mean()
    got = sum(weight * total / counts[name] for name, (total, _, weight) in terms.items())
    assert torch.allclose(got, want)


def test_the_codec_is_frozen_and_the_rest_learns():
    model, found = build()
    batch = as_batch(found.records(["a red circle", "a blue"], np.array([[0, 1, 2, 3], [3, 3, 0, 1]])), found)
    sum(t for t, _, _ in CaptionImageLoss(model)(batch)[0].values()).backward()
    for name, weight in model.named_parameters():
        assert (weight.grad is None) == name.startswith(("codec.", "chooser.", "judge.")), name


@pytest.mark.parametrize("pattern", ["dense", "row,column", "conv,axial_row"])
@pytest.mark.parametrize("name", ["dalle", "lstm"])
def test_drawing_step_by_step_is_the_distribution_read_at_once(name, pattern):
    model, found = build(name, **({"pattern": pattern, "reach": 3} if name == "dalle" else {}))
    model = model.double()
    engine = Engine(model, decide("cpu", "fp32"))
    rows = torch.from_numpy(found.write(["a red circle", "a blue"]))
    ids, nats = draw_images(engine, rows, 4, PLAIN, seeds=derive_seeds(3, len(rows)))
    whole = torch.cat([rows, ids], 1)
    with torch.no_grad():
        prediction, _ = model(torch.cat([torch.full((2, 1), found.vocab_size), whole[:, :-1]], 1))
    want = prediction.log_prob(whole)[:, found.places :].sum(1)
    assert torch.allclose(nats, want, atol=1e-9)


def test_guidance_of_one_is_the_model_and_more_follows_the_formula():
    model, found = build()
    model = model.double()
    engine = Engine(model, decide("cpu", "fp32"))
    rows, blank = torch.from_numpy(found.write(["a red circle"] * 3)), torch.from_numpy(found.write([""])[0])
    plain = draw_images(engine, rows, 4, PLAIN, seeds=derive_seeds(3, len(rows)))
    assert torch.equal(
        plain[0], draw_images(engine, rows, 4, PLAIN, blank_T=blank, guidance=1.0, seeds=derive_seeds(3, 3))[0]
    )
    greedy = draw_images(engine, rows[:1], 1, Filters(temperature=0), seeds=[0], blank_T=blank, guidance=5.0)[0]
    with torch.no_grad():
        start = torch.full((1, 1), found.vocab_size)
        told = [model(torch.cat([start, r[None]], 1))[0].logits()[0, -1].log_softmax(-1) for r in (rows[0], blank)]
    mixed = torch.nan_to_num(told[1] + 5 * (told[0] - told[1]), nan=-torch.inf)
    assert int(greedy) == int(mixed.argmax())


def test_a_look_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="pattern"):
        build(pattern="rows")


# --- matchers ---


def test_the_contrast_is_two_cross_entropies_that_equal_captions_share():
    scores = torch.randn(4, 4, dtype=torch.float64)
    other, equal = torch.tensor([[1, 9], [2, 9], [3, 9], [4, 9]]), torch.tensor([[1, 9], [2, 9], [1, 9], [4, 9]])
    want = [
        torch.eye(4, dtype=torch.float64),
        torch.tensor([[1, 0, 1, 0], [0, 2, 0, 0], [1, 0, 1, 0], [0, 0, 0, 2]]) / 2.0,
    ]
    for ids, target in zip((other, equal), want):
        both = F.cross_entropy(scores, target.double()) + F.cross_entropy(scores.T, target.double())
        assert torch.allclose(contrast(scores, ids), both / 2)


def test_what_fills_a_caption_up_counts_for_nothing():
    matcher = Matcher(words=9, channels=3, stem="pixels").eval()
    short, filled = torch.tensor([[3, 4]]), torch.tensor([[3, 4, 11, 12]])
    assert torch.equal(matcher.embed_captions(short), matcher.embed_captions(filled))
    assert not torch.equal(matcher.embed_captions(short), matcher.embed_captions(torch.tensor([[3, 5]])))


@pytest.mark.parametrize("stem", ["pixels", "patches"])
def test_a_matcher_learns_what_belongs_together(stem, monkeypatch):
    texts = [caption(*c) for c in COMBINATIONS[::200]]
    images = np.stack([picture(*c) for c in COMBINATIONS[::200]])
    found = fit_captions(texts, "word", 4)
    matcher, ids, compute = Matcher(found.words, 3, stem), found.write(texts), decide("cpu", "fp32")
    before = torch.get_rng_state()
    teach(matcher, ids, images, compute, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert matcher.taught
    captions_ND, pictures_ND = vectors(matcher, ids, images, compute)
    assert np.linalg.norm(pictures_ND, axis=1) == pytest.approx(1, abs=1e-6)
    right = (captions_ND @ pictures_ND.T).argmax(0) == np.arange(len(texts))
    assert right.mean() > 0.5, "47 captions: 0.02 by chance"
    monkeypatch.setattr("chainrule.tasks.draw.matching._teach", None)  # rows of a board share it
    again = Matcher(found.words, 3, stem)
    teach(again, ids, images, compute, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), matcher.state_dict().values()))
    with pytest.raises(TypeError):
        teach(again, ids, 255 - images, compute, seed=0)


# --- a whole run ---


def test_every_combination_of_the_rainbow_is_another_picture_but_for_a_few():
    assert len(COMBINATIONS) == 9216
    assert len({caption(*c) for c in COMBINATIONS}) == 9216
    some = COMBINATIONS[::7]
    assert len({picture(*c).tobytes() for c in some}) > 0.97 * len(some)


@pytest.fixture(scope="module")
def rainbow(tmp_path_factory):
    from chainrule.cli import main

    folder = tmp_path_factory.mktemp("rainbow") / "data"
    assert main(["data", "make", "rainbow", "--size", "100", "--out", str(folder)]) == 0
    return folder


def test_the_rainbow_is_read_as_it_was_made(rainbow):
    data = read_captioned(rainbow)
    assert {n: len(p) for n, p in data.parts.items()} == {"train": 100, "valid": 5, "test": 5}
    by_caption = {caption(*c): c for c in COMBINATIONS}
    part = data.parts["test"]
    for k, text in enumerate(part.names):
        assert np.array_equal(part.images[k], picture(*by_caption[text]))


@pytest.mark.parametrize("model", ["dalle", "lstm"])
def test_from_captions_to_pictures(model, rainbow, tmp_path, capsys):
    from chainrule.cli import main

    run, red, blue = str(tmp_path / "run"), "a red circle", "a blue square"
    flags = ["--budget", "6steps", "--threads", "1", "--set", "size=tiny"]
    assert main(["train", str(rainbow), "--model", model, *flags, "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run.codes" / "model.safetensors").exists()
    assert re.search(r"loss [\d.]+ nats, [\d,]+ tokens/s, valid [\d.]+ bits per image token\n", capsys.readouterr().err)
    assert main(["evaluate", str(tmp_path / "run"), str(rainbow), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"bits_per_image_token", "reconstruction_psnr", "codebook_used", "retrieval_at_1", "n"} <= set(result)
    assert result["n"] == result["retrieved_among"] == 5
    assert result["diversity"] > 0
    (tmp_path / "each").mkdir()
    words = ["draw", run, red, blue, "-n", "3", "--guidance", "2", "--top-k", "5"]
    assert main([*words, "--out", str(tmp_path / "grid.png"), "--each", str(tmp_path / "each"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["nats"]) == 6
    assert len(list((tmp_path / "each").iterdir())) == 6
    few = ["draw", run, red, blue, "-n", "2", "--out", str(tmp_path / "few.png")]
    assert main([*few, "--best-of", "5", "--json"]) == 0
    chosen = json.loads(capsys.readouterr().out)
    all_five = draw(load(run), [red, blue], n=5)
    for k in (0, 1):  # the two of five that are closest, the closest first
        drawn = sorted(all_five["nearness"][5 * k : 5 * k + 5], reverse=True)
        assert chosen["nearness"][2 * k : 2 * k + 2] == pytest.approx(drawn[:2])
    assert main([*few, "--best-of", "1"]) == 2
    assert "--best-of 1" in capsys.readouterr().err
    assert main([*few, "--best-of", "1000"]) == 2
    assert "2,000 images" in capsys.readouterr().err
    chose = json.loads((tmp_path / "run" / "data.json").read_text())
    assert settled(load(tmp_path / "run")) == (chose["guidance"], chose["temperature"])
    begun = ["--begin", str(tmp_path / "each" / "0000.png"), "--out", str(tmp_path / "half.png")]
    assert main(["draw", run, red, *begun]) == 0


def test_a_run_that_is_no_codec_is_refused_in_one_line(rainbow, tmp_path, capsys):
    from chainrule.cli import main

    assert (
        main(
            [
                "train",
                str(rainbow),
                "--task",
                "codes",
                "--model",
                "vq",
                "--budget",
                "2steps",
                "--set",
                "size=tiny",
                "--out",
                str(tmp_path / "c"),
            ]
        )
        == 0
    )
    assert (
        main(
            [
                "train",
                str(rainbow),
                "--model",
                "dalle",
                "--from",
                str(tmp_path / "c"),
                "--budget",
                "2steps",
                "--set",
                "size=tiny",
                "--out",
                str(tmp_path / "d"),
            ]
        )
        == 0
    )
    capsys.readouterr()
    assert (
        main(["train", str(rainbow), "--model", "dalle", "--from", str(tmp_path / "d"), "--out", str(tmp_path / "e")])
        == 2
    )
    assert "--task codes" in capsys.readouterr().err
    assert main(["draw", str(tmp_path / "c"), "a red circle"]) == 2
    assert "--task draw" in capsys.readouterr().err
    assert main(["draw", str(tmp_path / "d"), "a red circle", "--guidance", "-1"]) == 2
    assert main(["draw", str(tmp_path / "d"), "a red circle", "-n", "0"]) == 2
    assert main(["draw", str(tmp_path / "d"), "a red circle", "--out", str(tmp_path / "nowhere" / "x.png")]) == 2
    err = capsys.readouterr().err.strip().split("\n")
    assert len(err) == 3


def test_a_board_shows_what_was_asked_what_is_possible_and_what_was_drawn(rainbow, tmp_path):
    from chainrule.api import compare

    board = compare(
        rainbow,
        tmp_path / "board",
        task="draw",
        models="gru,dalle",
        budget="0.2epochs",
        set={"size": "tiny"},
        threads=1,
    )
    assert [row["status"] for row in board["rows"]] == ["done"] * 2
    assert all(len(row["drawn"]) == len(row["nearest"]) == len(board["asked"]) == 5 for row in board["rows"])
    page = (tmp_path / "board" / "report.html").read_text()
    assert "{{" not in page
    assert page.count("data:image/png;base64,") >= 30
    assert (
        "an independently trained evaluator" in page
        and "Nearest training images: DALL·E" in page
        and "images with captions" in page
    )
    assert 'style="--n:5"' in page  # what was drawn stands below what was asked for
    ceiling = f"{board['rows'][0]['reconstruction_psnr']:.1f} dB"
    assert board["verdict"]["text"].endswith(f"which reconstruct test images at {ceiling}.")
    assert (tmp_path / "board.codes" / "model.safetensors").exists()


def test_grey_pictures_are_drawn_in_grey(tmp_path, capsys):
    from chainrule.cli import main

    rng = np.random.default_rng(1)
    np.savez(tmp_path / "images8.npz", images=rng.integers(0, 256, (40, 8, 8), dtype=np.uint8))
    rows = [{"i": i, "text": f"picture {i % 4}"} for i in range(40)]
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_captioned(tmp_path).parts["train"].images.shape[3] == 1
    sheet = tmp_path.parent / "sheet.png"
    assert main(["data", str(tmp_path), "--sheet", str(sheet)]) == 0
    assert "8 x 8 pixels, 1 channel, for --task draw" in capsys.readouterr().out
    assert sheet.read_bytes()[24:26] == b"\x08\x00"  # eight bits, grey
    out = tmp_path.parent / "grey-run"
    flags = ["--budget", "2steps", "--set", "size=tiny", "--threads", "1", "--out", str(out)]
    assert main(["train", str(tmp_path), "--model", "gru", *flags]) == 0
    assert main(["evaluate", str(out), str(tmp_path)]) == 0
    assert main(["draw", str(out), "picture 1", "--out", str(tmp_path.parent / "grey.png")]) == 0


def test_what_cannot_be_is_said_before_a_codec_is_trained(rainbow, tmp_path, capsys):
    from chainrule.cli import main

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for words, told in (
        (["train", str(rainbow), "--model", "dalle", "--out", str(tmp_path / "full")], "never overwritten"),
        (["train", str(rainbow), "--model", "dalle", "--set", "model.widht=9", "--out", str(tmp_path / "a")], "width"),
        (["compare", str(rainbow), "--models", "dalle", "--out", str(tmp_path / "full")], "no comparison"),
        (["compare", str(rainbow), "--models", "dali", "--out", str(tmp_path / "b")], "dalle"),
    ):
        assert main(words) == 2
        assert told in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full"]


def test_overwriting_a_drawing_overwrites_its_codec(rainbow, tmp_path):
    from chainrule.cli import main

    words = [
        "train",
        str(rainbow),
        "--model",
        "gru",
        "--set",
        "size=tiny",
        "--threads",
        "1",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main([*words, "--budget", "1steps"]) == 0
    assert main([*words, "--budget", "2steps", "--overwrite"]) == 0
    assert "2steps" in (tmp_path / "run.codes" / "config.yaml").read_text()


def test_the_reciprocal_rank_by_hand():
    near = np.array([[0.9, 0.8, 0.1], [0.1, 0.5, 0.2], [0.0, 0.6, 0.0]])  # captions x pictures: ranks 1, 3, 3
    assert reciprocal_rank(near) == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)
