"""Measure beam search of a translator of Transformer-base's shape against CTranslate2 and transformers: sentences per
second, on the same random weights.

    make benchmark-peers
    python benchmarks/translate_speed.py --work /tmp/translate --threads 2 --rounds 5

500 lines of the bundled plays, 50 at a time, four beams, 24 tokens each: the end is forbidden, as random weights would
put it anywhere. Every engine is a process of its own that waits for its turn. It prints a table of medians and, last,
one JSON object. Measure on a machine on which nothing else runs.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from engines import Engine, answer_tasks, compare, seconds

VOCABULARY, WIDTH, HEADS, LAYERS = 4096, 512, 8, 6
SENTENCES, BATCH, BEAMS, LENGTH = 500, 50, 4, 24
END, PAD = VOCABULARY, VOCABULARY + 1
OURS, PEERS = ("fp32", "bf16"), ("CTranslate2 float32", "CTranslate2 int8", "transformers fp32")
AIMS = {("fp32", "CTranslate2 float32"): 1.0, ("bf16", "CTranslate2 int8"): 1.0, ("fp32", "transformers fp32"): 3.0}
"""Ratios that are to be reached; CTranslate2's int8 against our fastest."""
Search = Callable[[list[list[int]]], None]
"""Translates sources."""


def prepare(work: Path) -> None:
    """Write random weights and sources (in our environment)."""
    import gzip
    from importlib.resources import files

    import numpy as np
    import torch
    from transformers import MarianConfig, MarianMTModel

    from chainrule.data.bpe import BpeTokenizer
    from chainrule.data.split import spans_of

    texts = [
        gzip.decompress(x.read_bytes()) for x in sorted(files("chainrule.data").joinpath("plays").iterdir(), key=str)
    ]
    lines = [line.decode() for line in b"\n".join(texts).splitlines() if len(line.split()) > 3]
    units = BpeTokenizer.fit(spans_of(["\n".join(lines)], "plays"), VOCABULARY)
    some = np.random.default_rng(0).choice(len(lines), SENTENCES, replace=False)
    work.mkdir(parents=True, exist_ok=True)
    (work / "sources.json").write_text(json.dumps([units.encode(lines[k].encode()).ids.tolist() for k in some]))
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=VOCABULARY + 2, d_model=WIDTH, encoder_layers=LAYERS, decoder_layers=LAYERS,
        encoder_attention_heads=HEADS, decoder_attention_heads=HEADS, encoder_ffn_dim=4 * WIDTH,
        decoder_ffn_dim=4 * WIDTH, scale_embedding=True, max_position_embeddings=512, eos_token_id=END,
        pad_token_id=PAD, decoder_start_token_id=PAD, activation_function="swish", forced_eos_token_id=None,
    )  # fmt: skip
    MarianMTModel(config).eval().save_pretrained(work / "marian")


def convert(work: Path) -> None:
    """Write the weights for CTranslate2 (in the environment of the peers)."""
    from ctranslate2.converters.transformers import _MODEL_LOADERS
    from transformers import MarianMTModel

    for kind in ("float32", "int8"):
        model = MarianMTModel.from_pretrained(work / "marian")
        loader = _MODEL_LOADERS["MarianConfig"]
        spec = loader.get_model_spec(model)
        loader.set_config(spec.config, model, SimpleNamespace(eos_token="</s>", unk_token="t0"))
        loader.set_vocabulary(spec, [*(f"t{k}" for k in range(VOCABULARY)), "</s>"])
        spec.validate()
        spec.optimize(quantization=kind)
        (work / f"ctranslate2-{kind}").mkdir(exist_ok=True)
        spec.save(str(work / f"ctranslate2-{kind}"))


def ours(precision: str, work: Path) -> Search:
    """Our engine; what Marian's padding symbol begins, our start symbol does."""
    import torch
    from transformers import MarianMTModel

    from chainrule.core import model_type
    from chainrule.core.compute import decide
    from chainrule.inference.beam import Beams
    from chainrule.inference.engine import Engine as Decoding
    from chainrule.inference.requests import Request, SourcePrompt
    from chainrule.interop.huggingface import Rename
    from chainrule.models.transformer import FROM_MARIAN

    chosen = model_type("transformer", "translate")
    sizes: dict[str, Any] = {"width": WIDTH, "heads": HEADS, "encoder_layers": LAYERS, "layers": LAYERS}
    symbols = {"vocab_size": VOCABULARY + 2, "source_vocab_size": VOCABULARY + 2, "joint": True, "layout": "concat"}
    model = chosen.build(chosen.configure("paper", activation="swish", dropout=0.0, **sizes, **symbols))
    weights = Rename(**FROM_MARIAN).to_ours(MarianMTModel.from_pretrained(work / "marian").state_dict())
    weights["embedding.weight"] = torch.cat([weights["embedding.weight"], weights["embedding.weight"][PAD:]])
    model.load_state_dict(weights)
    options = Beams(BEAMS, length_penalty=0.0, max_length=LENGTH, forbid=((PAD,), (END,)))
    engine = Decoding(model.eval(), decide("cpu", precision))

    def search(sources: list[list[int]]) -> None:
        for k in range(0, len(sources), BATCH):
            prompts = [SourcePrompt([*ids, END]) for ids in sources[k : k + BATCH]]
            handles = engine.run(Request(prompt, options) for prompt in prompts)
            assert all(len(handle.result()[0].ids) == LENGTH for handle in handles)

    return search


def transformers_engine(work: Path) -> Search:
    """``generate`` of transformers."""
    import torch
    from transformers import MarianMTModel

    model = MarianMTModel.from_pretrained(work / "marian").eval()

    def search(sources: list[list[int]]) -> None:
        for k in range(0, len(sources), BATCH):
            rows = [torch.tensor([*ids, END]) for ids in sources[k : k + BATCH]]
            ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
            made = model.generate(
                ids, attention_mask=(ids != PAD).long(), num_beams=BEAMS, do_sample=False, max_new_tokens=LENGTH,
                length_penalty=0.0, bad_words_ids=[[PAD], [END]],
            )  # fmt: skip
            assert made.shape[1] == LENGTH + 1

    return search


def ctranslate2_engine(kind: str, work: Path, threads: int) -> Search:
    """CTranslate2."""
    import ctranslate2

    model = ctranslate2.Translator(
        str(work / f"ctranslate2-{kind}"), compute_type=kind, inter_threads=1, intra_threads=threads
    )  # fmt: skip

    def search(sources: list[list[int]]) -> None:
        rows = [[*(f"t{k}" for k in ids), "</s>"] for ids in sources]
        found = model.translate_batch(
            rows, beam_size=BEAMS, max_batch_size=BATCH, min_decoding_length=LENGTH, max_decoding_length=LENGTH,
            length_penalty=0.0,
        )  # fmt: skip
        assert all(len(one.hypotheses[0]) == LENGTH for one in found)

    return search


def serve(name: str, work: Path, threads: int) -> None:
    """Time the search for all sources."""
    import torch

    torch.set_num_threads(threads)
    kind, sources = name.split()[-1], json.loads((work / "sources.json").read_text())
    if name in OURS:
        search = ours(name, work)
    else:
        search = ctranslate2_engine(kind, work, threads) if name.startswith("CT") else transformers_engine(work)
    search(sources[:BATCH])
    answer_tasks(lambda: seconds(lambda: search(sources), 1))


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """All engines in turns."""
    names, peers = (*OURS, *PEERS), str(Path(options.peers) / "bin" / "python")
    engines = {
        name: Engine(
            [peers if name.startswith("CT") else sys.executable, __file__, "--engine", name, "--work", str(work),
             "--threads", str(options.threads)],
            OMP_NUM_THREADS=str(options.threads),
        )
        for name in names
    }  # fmt: skip
    rates: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name, engine in engines.items():
            rates[name].append(SENTENCES / engine.ask())
    ratios = [
        {"ours": mine, "peer": peer, "aim": aim, **compare(rates[mine], rates[peer])}
        for (mine, peer), aim in AIMS.items()
    ]
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return {"threads": options.threads, "rounds": options.rounds, "sentences_per_second": medians, "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, help="folder for the weights")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", default=".venv-peers", help="environment of CTranslate2")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    options = parser.parse_args()
    work = Path(options.work)
    if options.engine == "convert":
        convert(work)
        return
    if options.engine:
        serve(options.engine, work, options.threads)
        return
    if not (work / "ctranslate2-int8").exists():
        prepare(work)
        python = str(Path(options.peers) / "bin" / "python")
        subprocess.run([python, __file__, "--engine", "convert", "--work", str(work)], check=True)
    found = measure(options, work)
    for name, rate in found["sentences_per_second"].items():
        print(f"{name:20} {rate:7.1f} sentences/s")
    for one in found["ratios"]:
        rounds = "{:.2f} to {:.2f}".format(*one["rounds"])
        print(f"{one['ours']} / {one['peer']}: {one['ratio']:.2f} ({rounds}), aim {one['aim']}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
