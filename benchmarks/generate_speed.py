"""Measure decoding of a GPT-2-sized model against llama.cpp and CTranslate2, on the same random weights.

    make benchmark-peers
    python benchmarks/generate_speed.py --work /tmp/generate --threads 2 --rounds 7

One sequence and sixteen: a prompt of 16 tokens and 64 new ones, greedily; and reading a prompt of 512. Every engine is
a process of its own that waits for its turn, so that none disturbs another. It prints a table of medians and, last, one
JSON object: ratios of medians, the smallest and largest ratio of a round, and the machine's own limits, the rate at
which memory is read and that of a product in bf16. Measure on a machine on which nothing else runs.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engines import Engine, answer_tasks, compare, matmul_rate, seconds

VOCABULARY, CONTEXT, WIDTH, LAYERS, HEADS = 50257, 1024, 768, 12, 12
PROMPT, NEW, MANY, LONG = 16, 64, 16, 512
OURS = ("fp32", "bf16", "int8", "int4")
PEERS = ("llama.cpp f16", "llama.cpp q8_0", "llama.cpp q4_0", "CTranslate2 int8")
AIMS = [
    ("one", "int8", "llama.cpp q8_0", 1.7),
    ("one", "bf16", "llama.cpp f16", 1.4),
    ("one", "int4", "llama.cpp q4_0", 2.0),
    ("sixteen", "int8", "CTranslate2 int8", 2.5),
    ("prompt", "int8", "llama.cpp q8_0", 2.0),
    ("prompt", "bf16", "llama.cpp f16", 2.0),
]
"""What is measured, of ours and of a peer, and the ratio that is to be reached."""
Task = Callable[[list[int], int, int], float]
"""Token ids of a prompt, new tokens, number of sequences -> seconds."""


def prompt(length: int) -> list[int]:
    """The same tokens for every engine."""
    return [(7919 * k) % (VOCABULARY - 1) for k in range(1, length + 1)]


# --- the weights, for every engine ------------------------------------------------------------------------------------


def prepare(work: Path) -> None:
    """Write random weights as transformers names them (in our environment)."""
    import torch
    from safetensors.torch import save_file

    from chainrule.core import model_type
    from chainrule.interop.huggingface import Rename
    from chainrule.models.gpt import FROM_GPT2

    torch.manual_seed(0)
    found = model_type("gpt")
    model = found.build(found.configure("gpt2", vocab_size=VOCABULARY))
    tensors = Rename(**FROM_GPT2).to_foreign({name: x.contiguous() for name, x in model.state_dict().items()})
    tensors["wte.weight"] = tensors["wte.weight"][:VOCABULARY]
    work.mkdir(parents=True, exist_ok=True)
    save_file({name: x.contiguous().clone() for name, x in tensors.items()}, work / "gpt2.safetensors")
    save_file({name: x.clone() for name, x in model.state_dict().items()}, work / "ours.safetensors")


def prepare_peers(work: Path) -> None:
    """Convert the weights for the peers (in their environment)."""
    import ctranslate2
    import llama_cpp
    from safetensors.torch import load_file
    from transformers import GPT2Config, GPT2LMHeadModel

    tensors = load_file(work / "gpt2.safetensors")
    folder = work / "transformers"
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS)
    model = GPT2LMHeadModel(config)
    model.transformer.load_state_dict(tensors)
    model.float().save_pretrained(folder)
    words = {f"t{k}": k for k in range(VOCABULARY - 1)} | {"<|endoftext|>": VOCABULARY - 1}
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    ctranslate2.converters.TransformersConverter(str(folder)).convert(
        str(work / "ct2"), quantization="int8", force=True
    )
    write_gguf(tensors, list(words), work / "llama.cpp-f16.gguf")
    for name, kind in (("q8_0", llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0), ("q4_0", llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0)):
        options = llama_cpp.llama_model_quantize_default_params()
        options.ftype = kind
        source, target = (str(work / f"llama.cpp-{part}.gguf").encode() for part in ("f16", name))
        assert llama_cpp.llama_model_quantize(source, target, options) == 0


def write_gguf(tensors: dict[str, Any], words: list[str], path: Path) -> None:
    """Write the weights for llama.cpp, matrices in f16."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(str(path), "gpt2")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(4 * WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([gguf.TokenType.NORMAL] * (VOCABULARY - 1) + [gguf.TokenType.CONTROL])
    writer.add_token_merges(["t 0"])
    writer.add_bos_token_id(VOCABULARY - 1)
    writer.add_eos_token_id(VOCABULARY - 1)
    names = {
        "wte.weight": "token_embd.weight", "wpe.weight": "position_embd.weight", "ln_f": "output_norm",
        "ln_1": "attn_norm", "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
        "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    }  # fmt: skip
    for name, x in tensors.items():
        array = x.numpy().T if name.startswith("h.") and x.dim() == 2 else x.numpy()
        for theirs, gguf_name in names.items():
            name = name.replace(theirs, gguf_name)
        name = name.replace("h.", "blk.", 1) if name.startswith("h.") else name
        matrix = array.ndim == 2 and name != "position_embd.weight"
        writer.add_tensor(name, np.ascontiguousarray(array).astype(np.float16 if matrix else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# --- engines ----------------------------------------------------------------------------------------------------------


def ours(precision: str, work: Path, threads: int) -> Task:
    """Our engine."""
    import torch
    from safetensors.torch import load_file

    from chainrule.core import model_type
    from chainrule.core.compute import Compute
    from chainrule.inference.engine import Engine
    from chainrule.inference.requests import Request
    from chainrule.inference.sampling import Filters
    from chainrule.kernels.precision import with_weights_in

    torch.set_num_threads(threads)
    found = model_type("gpt")
    model = found.build(found.configure("gpt2", vocab_size=VOCABULARY)).eval()
    model.load_state_dict(load_file(work / "ours.safetensors"))
    model: Any = model if precision == "fp32" else with_weights_in(precision, model, threads, sys.exit)
    engine = Engine(model, Compute("cpu", False, threads))

    def run(ids: list[int], new: int, many: int) -> float:
        began = time.perf_counter()
        if not new:
            with torch.no_grad():
                prediction, _ = model(torch.tensor([[model.start_id, *ids[1:]]]))
                prediction.select(torch.tensor([len(ids) - 1])).logits()
        else:
            for _ in range(many):
                engine.submit(Request(ids, Filters(temperature=0.0), max_tokens=new))
            engine.run_until(lambda: not engine.busy)
        return time.perf_counter() - began

    return run


def llama_cpp_engine(kind: str, work: Path, threads: int) -> Task:
    """llama.cpp, one sequence."""
    import llama_cpp

    model = llama_cpp.Llama(
        str(work / f"llama.cpp-{kind}.gguf"), n_ctx=CONTEXT, n_threads=threads, n_threads_batch=threads, n_batch=512,
        verbose=False,
    )  # fmt: skip

    def run(ids: list[int], new: int, many: int) -> float:
        assert many == 1
        model.reset()
        began = time.perf_counter()
        if not new:
            model.eval(ids)
        else:
            tokens = model.generate(ids, top_k=1, temp=0.0, repeat_penalty=1.0)
            for _ in range(new):
                next(tokens)
        return time.perf_counter() - began

    return run


def ctranslate2_engine(work: Path, threads: int) -> Task:
    """CTranslate2 in int8."""
    import ctranslate2

    model = ctranslate2.Generator(str(work / "ct2"), compute_type="int8", inter_threads=1, intra_threads=threads)

    def run(ids: list[int], new: int, many: int) -> float:
        rows = [[f"t{k}" for k in ids]] * many
        began = time.perf_counter()
        if not new:
            model.forward_batch(rows)
        else:
            found = model.generate_batch(
                rows, max_length=new, min_length=new, sampling_topk=1, include_prompt_in_result=False
            )
            assert all(len(one.sequences_ids[0]) == new for one in found)
        return time.perf_counter() - began

    return run


def serve(name: str, work: Path, threads: int) -> None:
    """Wait for tasks on standard input, and answer with seconds."""
    kind = name.split()[-1]
    if name in OURS:
        run = ours(name, work, threads)
    else:
        run = ctranslate2_engine(work, threads) if name.startswith("CT") else llama_cpp_engine(kind, work, threads)
    tasks = {"one": (PROMPT, NEW, 1), "sixteen": (PROMPT, NEW, MANY), "prompt": (LONG, 0, 1)}

    def task(name: str) -> float:
        length, new, many = tasks[name]
        return run(prompt(length), new, many)

    answer_tasks(task)


# --- measuring --------------------------------------------------------------------------------------------------------


def start(name: str, options: argparse.Namespace) -> Engine:
    """Start the process of an engine."""
    python = sys.executable if name in OURS else str(Path(options.peers) / "bin" / "python")
    return Engine([python, __file__, "--engine", name, "--work", options.work, "--threads", str(options.threads)])


def memory_rate() -> float:
    """Bytes that are read from memory in a second."""
    import torch

    x = torch.ones(1 << 27)
    return x.numel() * 4 / seconds(x.sum)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All engines in turns."""
    engines = {name: start(name, options) for name in (*OURS, *PEERS)}
    able = {"one": list(engines), "sixteen": [*OURS, "CTranslate2 int8"], "prompt": [*OURS, *PEERS[:3]]}
    tokens = {"one": NEW, "sixteen": NEW * MANY, "prompt": LONG}
    rates: dict[str, dict[str, list[float]]] = {task: {name: [] for name in names} for task, names in able.items()}
    for turn in range(options.rounds + 1):
        for task, names in able.items():
            for name in names:
                took = engines[name].ask(name=task)
                if turn:  # the first one warms up
                    rates[task][name].append(tokens[task] / took)
    ratios = []
    for task, mine, theirs, aim in AIMS:
        found = compare(rates[task][mine], rates[task][theirs])
        ratios.append({"task": task, "ours": mine, "peer": theirs, **found, "aim": aim})
    medians = {task: {name: statistics.median(x) for name, x in found.items()} for task, found in rates.items()}
    return {"threads": options.threads, "rounds": options.rounds, "tokens_per_second": medians, "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, help="folder for the weights")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peers", default=".venv-peers", help="environment of the peers")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    options = parser.parse_args()
    work = Path(options.work)
    if options.engine == "prepare":
        prepare_peers(work)
    elif options.engine:
        serve(options.engine, work, options.threads)
    else:
        tell(options, work)


def tell(options: argparse.Namespace, work: Path) -> None:
    """Measure, and print what was found."""
    import torch

    if not (work / "llama.cpp-q4_0.gguf").exists():
        prepare(work)
        python = Path(options.peers) / "bin" / "python"
        subprocess.run([str(python), __file__, "--engine", "prepare", "--work", str(work)], check=True)
    torch.set_num_threads(options.threads)
    limits = {"read_gb_s": memory_rate() / 1e9, "bf16_gflops": matmul_rate() / 1e9}
    found = {**limits, **measure(options)}
    for task, rates in found["tokens_per_second"].items():
        for name, rate in rates.items():
            print(f"{task:8} {name:18} {rate:8.0f} tokens/s")
    for one in found["ratios"]:
        rounds = "{:.2f} to {:.2f}".format(*one["rounds"])
        print(f"{one['task']:8} {one['ours']} / {one['peer']}: {one['ratio']:.2f} ({rounds}), aim {one['aim']}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
