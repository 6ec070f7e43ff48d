"""Beside Hugging Face's Marian: trained from scratch by its own trainer, and searched by its own ``generate`` with the
same weights.

    python benchmarks/marian.py train --data ../shared/data/pairs_ding_en_de --seconds 1020 --out marian
    python benchmarks/marian.py beam --model marian --data ../shared/data/pairs_ding_en_de

Both print one JSON object. ``beam`` is a timing: nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chainrule.core import model_type
from chainrule.core.compute import Compute, decide
from chainrule.data import tokenizer_from_json
from chainrule.data.pair_encoding import PairPart
from chainrule.data.pairs import read_pairs, read_pairs_part
from chainrule.data.processors import PairProcessor
from chainrule.inference.beam import Beams
from chainrule.inference.engine import Engine
from chainrule.inference.requests import Request, SourcePrompt
from chainrule.interop.huggingface import Rename
from chainrule.models.transformer import FROM_MARIAN
from chainrule.tasks.translate.metrics import judge

WIDTH, HEADS, LAYERS = 256, 4, 3
BATCH, BEAMS, SENTENCES, LONGEST = 50, 4, 500, 64
Search = Callable[[list[np.ndarray]], list[list[int]]]
"""Sources -> the best target of each, its end left out."""


def config(vocab_size: int) -> Any:
    """Marian's, at a size that can be trained here; symbols of the text, then the end, then what pads and begins."""
    from transformers import MarianConfig

    return MarianConfig(
        vocab_size=vocab_size + 2, d_model=WIDTH, encoder_layers=LAYERS, decoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS, encoder_ffn_dim=4 * WIDTH, decoder_ffn_dim=4 * WIDTH, scale_embedding=True,
        max_position_embeddings=512, eos_token_id=vocab_size, pad_token_id=vocab_size + 1,
        decoder_start_token_id=vocab_size + 1,
        activation_function="swish", dropout=0.1, forced_eos_token_id=None,
    )  # fmt: skip


def train(data: Path, seconds: float, out: Path) -> dict[str, Any]:
    """Hugging Face's own trainer on the same pairs, in units chosen for them."""
    from transformers import MarianMTModel, Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

    pairs = read_pairs(data, "source,target")
    units = PairProcessor.fit(pairs)
    end, pad = units.target.vocab_size, units.target.vocab_size + 1
    torch.manual_seed(0)
    model = MarianMTModel(config(end))
    train_part = units.encode_parts(pairs.parts)["train"]
    rows = [
        {"input_ids": [*s.tolist(), end], "labels": [*t.tolist(), end]}
        for s, t in zip(train_part.source_ids, train_part.target_ids)
    ]

    def collate(batch: list[dict[str, list[int]]]) -> dict[str, Tensor]:
        source, target = ([torch.tensor(row[key]) for row in batch] for key in ("input_ids", "labels"))
        padded = torch.nn.utils.rnn.pad_sequence
        ids = padded(source, batch_first=True, padding_value=pad)
        labels = padded(target, True, -100)
        begun = model.prepare_decoder_input_ids_from_labels(labels)
        return {"input_ids": ids, "attention_mask": (ids != pad).long(), "labels": labels, "decoder_input_ids": begun}

    began = time.perf_counter()
    spent = lambda: (time.perf_counter() - began) / seconds  # noqa: E731

    class Clock(TrainerCallback):
        """How many steps fit into the time is not known: the clock ends it."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = spent() > 1

    arguments = Seq2SeqTrainingArguments(
        output_dir=str(out / "trainer"), per_device_train_batch_size=64, max_steps=1_000_000,
        label_smoothing_factor=0.1, bf16=True,
        use_cpu=True, save_strategy="no", report_to=[], disable_tqdm=True, logging_steps=200,
        dataloader_pin_memory=False,
        train_sampling_strategy="group_by_length", seed=0,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / 400, max(0.0, 1 - spent())))
    trainer = Seq2SeqTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=collate,
        callbacks=[Clock()],
        optimizers=(optimizer, rate),
    )
    trainer.train()
    steps, took = trainer.state.global_step, time.perf_counter() - began
    model.save_pretrained(out)
    (out / "units.json").write_text(json.dumps(units.target.to_json()))
    part = units.encode(pairs.parts["test"])
    found = of_hugging_face(model.eval(), length_penalty=0.6)(part.source_ids)
    scores = judge([spelled(units.target, ids) for ids in found], part.targets).metrics()
    return {"parameters": sum(p.numel() for p in model.parameters()), "steps": steps, "seconds": took, **scores}


def spelled(units: Any, ids: list[int]) -> str:
    return units.decode([i for i in ids if i < units.vocab_size]).decode(errors="replace").strip()


def of_hugging_face(model: Any, length_penalty: float = 0.0) -> Search:
    """``generate``, in batches of sources as they come; cut at LONGEST."""
    end, pad = model.config.eos_token_id, model.config.pad_token_id

    def search(sources: list[np.ndarray]) -> list[list[int]]:
        found: list[list[int]] = []
        for k in range(0, len(sources), BATCH):
            batch = [torch.tensor([*ids.tolist(), end]) for ids in sources[k : k + BATCH]]
            ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=pad)
            made = model.generate(
                ids, attention_mask=(ids != pad).long(), num_beams=BEAMS, do_sample=False, max_new_tokens=LONGEST,
                length_penalty=length_penalty, early_stopping=False, bad_words_ids=[[pad]],
            )  # fmt: skip
            found += [[i for i in row[1:] if i not in (end, pad)] for row in made.tolist()]
        return found

    return search


def of_ours(theirs: Any, compute: Compute) -> Search:
    """The same weights in our Transformer; what Marian's padding symbol begins, our start symbol does."""
    symbols, pad = theirs.config.vocab_size, theirs.config.pad_token_id
    settings = {"width": WIDTH, "heads": HEADS, "encoder_layers": LAYERS, "layers": LAYERS, "layout": "concat"}
    chosen = model_type("transformer", "translate")
    model = chosen.build(
        chosen.configure(
            "paper",
            vocab_size=symbols,
            source_vocab_size=symbols,
            joint=True,
            activation="swish",
            dropout=0.0,
            **settings,
        )
    )
    weights = Rename(**FROM_MARIAN).to_ours(theirs.state_dict())
    weights["embedding.weight"] = torch.cat([weights["embedding.weight"], weights["embedding.weight"][pad:]])
    model.load_state_dict(weights)
    model.eval()
    options, end = Beams(BEAMS, length_penalty=0.0, max_length=LONGEST, forbid=((pad,),)), theirs.config.eos_token_id
    engine = Engine(model, compute)

    def search(sources: list[np.ndarray]) -> list[list[int]]:
        found: list[list[int]] = []
        for k in range(0, len(sources), BATCH):
            prompts = [SourcePrompt([*ids.tolist(), end]) for ids in sources[k : k + BATCH]]
            handles = engine.run(Request(prompt, options, end=end) for prompt in prompts)
            found += [handle.result()[0].ids for handle in handles]
        return found

    return search


def beam(folder: Path, data: Path, repeats: int = 5) -> dict[str, Any]:
    """Seconds, in turns, of both for the same sentences in the same batches; and how many translations agree."""
    from transformers import MarianMTModel

    theirs = MarianMTModel.from_pretrained(folder).eval()
    units = tokenizer_from_json(json.loads((folder / "units.json").read_text()))
    pairs = PairProcessor(units, units, "").encode(read_pairs_part(data / "test.tsv.gz", "source,target"))
    part = first(pairs, SENTENCES)
    compute = {name: decide("cpu", name) for name in ("fp32", "bf16")}
    ways = {
        "hugging face": of_hugging_face(theirs),
        "ours": of_ours(theirs, compute["fp32"]),
        "ours, bf16": of_ours(theirs, compute["bf16"]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    outputs: dict[str, list[list[int]]] = {}
    for _ in range(repeats):
        for name, search in ways.items():
            began = time.perf_counter()
            outputs[name] = search(part.source_ids)
            seconds[name].append(time.perf_counter() - began)
    same = np.mean([a == b for a, b in zip(outputs["ours"], outputs["hugging face"], strict=True)])
    scores = {n: judge([spelled(units, ids) for ids in out], part.targets).chrf for n, out in outputs.items()}
    median = {name: statistics.median(taken) for name, taken in seconds.items()}
    return {
        "sentences": len(part), "threads": torch.get_num_threads(), "seconds": median, "equal": float(same),
        "chrf": scores,
        "ratio": median["hugging face"] / median["ours"], "ratio_bf16": median["hugging face"] / median["ours, bf16"],
    }  # fmt: skip


def first(part: PairPart, count: int) -> PairPart:
    """The first sentences, as they stand in the file."""
    return part.take(range(min(count, len(part))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Beside Hugging Face's Marian")
    parser.add_argument("what", choices=["train", "beam"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="train: where the model is written")
    parser.add_argument("--model", type=Path, help="beam: the folder that train wrote")
    parser.add_argument("--seconds", type=float, default=1020)
    parser.add_argument("--threads", type=int)
    a = parser.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    print(json.dumps(train(a.data, a.seconds, a.out) if a.what == "train" else beam(a.model, a.data), indent=1))
