"""BERT: a bidirectional Transformer encoder, trained as a masked language model.

    x = norm(embed(symbol) + embed(segment) + position);   x = norm(x + attend(x));   x = norm(x + ff(x))
    p(x_t | all that is shown) = softmax(E norm(gelu(W x_t)) + b),   E the embedding itself

Devlin et al. 2019. It is not a model of p(x): there is no first symbol, nothing is continued, and the product of its answers is the
pseudo-likelihood, which is never set beside bits per byte.

``size=base`` and ``size=large`` are the paper's models: post-norm, learned positions, GELU by erf, biases, layer norms with eps 1e-12,
everything drawn from N(0, 0.02) cut at two standard deviations, a pooler that learns whether the second segment follows the
first. The default differs from them as GPT does here: pre-norm, rotary positions, squared ReLU, no biases in the blocks,
RMS-normalised queries and keys, maps into the residual path near zero at the start, and no pairs (Liu et al. 2019).
Deviations, in all sizes: no dropout on attention weights; the symbols that are only read ([CLS], [MASK], [SEP]) have the
last rows of the embedding and are never predicted, so that a random replacement is never one of them.

What it learnt without labels is where labelling may begin (``--from RUN``): tokens are tagged by the mean of their pieces, records
labelled by the mean, the maximum and the last of their symbols, with all weights learning on.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import (
    Batch,
    ConfigError,
    Encoder,
    MaskedBatch,
    MaskedLM,
    Prediction,
    Pretrainable,
    Projected,
    Recipe,
    SequenceModel,
    TaggedBatch,
    register,
)
from chainrule.nn.blocks import activate
from chainrule.nn.decoder import TransformerConfig, TransformerLMConfig
from chainrule.nn.encoder import Encoder as Stack
from chainrule.nn.labelling import (
    CLASSIFYING,
    TAGGING,
    LabelsConfig,
    NeuralClassifier,
    NeuralTagger,
    TokensConfig,
    WordInput,
)
from chainrule.nn.recurrent_backbones import at_end

EPS = 1e-12
READ_ONLY = 3
"""Rows of the embedding for what is never predicted: the start symbol, the mask, the separator."""


PAPER: dict[str, Any] = {
    "context": 512, "positions": "learned", "norm": "post", "bias": True, "activation": "gelu", "qk_norm": False, "dropout": 0.1,
    "next_sentence": True,
}  # fmt: skip


class BERTConfig(TransformerLMConfig):
    context: int = 128
    """Symbols of a row, the start symbol among them."""
    tied: bool = True
    segments: int = 2
    next_sentence: bool = False
    """Rows are two segments, and the pooler learns whether the second one follows the first."""

    presets = {
        "tiny": {"width": 16, "layers": 2, "heads": 2, "context": 32},
        "small": {},
        "base": {"width": 768, "layers": 12, "heads": 12, **PAPER},
        "large": {"width": 1024, "layers": 24, "heads": 16, **PAPER},
    }


class BERTEncoder(SequenceModel, Encoder):
    """What reads: of BERT, and of what is made of it. ``vocab_size`` of its config are those that are read."""

    config: BERTConfig

    def __init__(self, config: BERTConfig):
        super().__init__(config)
        c = config
        self.vocab_size, self.window = c.vocab_size, c.context
        self.embedding = nn.Embedding(c.vocab_size + READ_ONLY, c.width)
        self.segment_embedding = nn.Embedding(c.segments, c.width)
        self.norm = nn.LayerNorm(c.width, EPS)
        self.encoder = Stack(c, eps=EPS)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """N(0, 0.02) cut at two standard deviations; pre-norm blocks keep their own start, scaled to their width."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding) and (self.config.norm == "post" or ".blocks." not in name):
                nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)

        if self.encoder.position.kind == "learned" and self.encoder.position.weight is not None:
            nn.init.trunc_normal_(self.encoder.position.weight, std=0.02, a=-0.04, b=0.04)

    def encode(self, batch: Batch) -> Tensor:
        ids_BT = batch.inputs_BT
        segments_BT = batch.segments_BT if isinstance(batch, MaskedBatch) else None
        place_1T = torch.arange(ids_BT.shape[1], device=ids_BT.device)[None]
        x_BTD = self.embedding(ids_BT)
        x_BTD = x_BTD + self.segment_embedding(torch.zeros_like(ids_BT) if segments_BT is None else segments_BT)
        x_BTD = self.norm(self.encoder.position.add(x_BTD, place_1T))
        return self.encoder(F.dropout(x_BTD, self.config.dropout, self.training), batch.lengths_B)


@register(
    "bert",
    label="BERT",
    task="fill",
    config=BERTConfig,
    recipe=Recipe(
        optimizer="muon",
        lr=3e-3,
        muon_lr=0.02,
        batch_size=32,
        sequence_length=128,
        stateful=False,
        bf16=True,
        weight_decay=0.01,
    ),
    width="width",
    width_step=48,
)
class BERT(BERTEncoder, MaskedLM):
    """Sees before and after."""

    config: BERTConfig

    def __init__(self, config: BERTConfig):
        super().__init__(config)
        c = config
        self.next_sentence = c.next_sentence
        self.pooler = nn.Linear(c.width, c.width) if c.next_sentence else None
        self.next_head = nn.Linear(c.width, 2) if c.next_sentence else None
        self.transform = nn.Linear(c.width, c.width)
        self.transform_norm = nn.LayerNorm(c.width, EPS)
        self.head = None if c.tied else nn.Linear(c.width, c.vocab_size, bias=False)
        self.head_bias = nn.Parameter(torch.zeros(c.vocab_size))
        self.reset_parameters()

    def predict(self, hidden_BTD: Tensor) -> Prediction:
        x_BTD = self.transform_norm(activate(self.transform(hidden_BTD), self.config.activation))
        return Projected(x_BTD, self.project, self.vocab_size)

    def project(self, x_BTD: Tensor) -> Tensor:
        weight = self.embedding.weight[: self.vocab_size] if self.head is None else self.head.weight
        return F.linear(x_BTD, weight, self.head_bias)

    def pooled(self, hidden_BTD: Tensor) -> Tensor:
        """tanh(W h of the start symbol), B x D: the paper's vector of a row."""
        assert self.pooler is not None
        return self.pooler(hidden_BTD[:, 0]).tanh()

    def next_sentence_logit(self, hidden_BTD: Tensor) -> Tensor:
        if self.next_head is None:
            return super().next_sentence_logit(hidden_BTD)
        follows_B, not_B = self.next_head(self.pooled(hidden_BTD)).unbind(-1)  # the paper's order
        return follows_B - not_B


class BERTLabellerConfig(TransformerConfig, LabelsConfig):
    """What is shared by those that label with BERT's reader; with ``--from`` all but the dropout is as it was learnt."""

    source_vocab_size: int
    context: int = 128
    """Symbols that are read at once, the start symbol among them: longer rows are read in stretches."""
    segments: int = 2
    directions: Literal["both"] = "both"

    def reading(self) -> BERTConfig:
        shared = {name: getattr(self, name) for name in TransformerConfig.model_fields}
        return BERTConfig.make({**shared, "vocab_size": self.source_vocab_size, "segments": self.segments})


class BERTTaggerConfig(BERTLabellerConfig, TokensConfig):
    presets = {
        "tiny": {"width": 16, "layers": 2, "heads": 2, "embedding": 8, "spelling": 8, "context": 32},
        "small": {"dropout": 0.2, "word_dropout": 0.1},
    }


class BERTClassifierConfig(BERTLabellerConfig):
    presets = {
        "tiny": {"width": 16, "layers": 2, "heads": 2, "context": 32},
        "small": {"dropout": 0.2},
    }


def stretches(reader: BERTEncoder, ids_BS: Tensor, lengths_B: Tensor) -> Tensor:
    """What the reader makes of every symbol, B x S x D: each stretch of its window is read by itself, behind a start symbol; what
    stands beyond a row's length means nothing.
    """
    (B, S), room = ids_BS.shape, reader.window - 1
    each = -(-S // room)
    ids_NC = F.pad(ids_BS, (0, each * room - S)).view(B * each, room)
    begins_E = torch.arange(each, device=ids_BS.device) * room
    lengths_N = (lengths_B[:, None] - begins_E).clamp(0, room).flatten()
    used_N = lengths_N > 0
    rows_NC = F.pad(ids_NC[used_N], (1, 0), value=reader.start_id)
    hidden_NCD = reader.encode(Batch(rows_NC, rows_NC, lengths_N[used_N] + 1))[:, 1:]
    found_NCD = hidden_NCD.new_zeros(len(ids_NC), room, hidden_NCD.shape[-1])
    found_NCD[used_N] = hidden_NCD
    return found_NCD.view(B, each * room, hidden_NCD.shape[-1])[:, :S]


class PieceInput(nn.Module):
    """Tokens as vectors: the mean of what the reader makes of a token's pieces, the word and its spelling side by side."""

    def __init__(self, config: BERTTaggerConfig):
        super().__init__()
        self.reader, self.words = BERTEncoder(config.reading()), WordInput(config)
        self.width = config.width + self.words.width

    def forward(self, batch: TaggedBatch) -> Tensor:
        B, T = batch.inputs_BT.shape
        own_BS1 = (batch.owners_BS < T)[:, :, None]
        hidden_BSD = stretches(self.reader, batch.pieces_BS, own_BS1[:, :, 0].sum(1)).masked_fill(~own_BS1, 0)
        place_BSD = batch.owners_BS[:, :, None].expand_as(hidden_BSD)
        sums_BTD = hidden_BSD.new_zeros(B, T + 1, hidden_BSD.shape[-1]).scatter_add(1, place_BSD, hidden_BSD)
        many_BT1 = batch.owners_BS.new_zeros(B, T + 1).scatter_add(1, batch.owners_BS, torch.ones_like(batch.owners_BS))
        pooled_BTD = (sums_BTD / many_BT1.clamp(min=1)[:, :, None])[:, :T]
        return torch.cat([pooled_BTD, self.words(batch)], -1)


class TextInput(nn.Module):
    """Symbols of a text as vectors: what the reader makes of them."""

    def __init__(self, config: BERTClassifierConfig):
        super().__init__()
        self.reader, self.width = BERTEncoder(config.reading()), config.width

    def forward(self, batch: Batch) -> Tensor:
        assert batch.lengths_B is not None
        return stretches(self.reader, batch.inputs_BT, batch.lengths_B)


class Precomputed(nn.Module):
    """The body of those whose input knows the whole row already."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, x_BSD: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        return x_BSD, at_end(x_BSD, lengths_B)


class BERTLabeller(Pretrainable):
    """Labels from what BERT's reader knows."""

    inputs: Any

    def load_pretrained(self, learnt: SequenceModel) -> None:
        mine = self.inputs.reader
        weights = {k: v for k, v in learnt.state_dict().items() if k in mine.state_dict()}
        if not isinstance(learnt, BERT):
            raise ConfigError("--from: expected a run of bert, trained with --task fill")
        try:
            mine.load_state_dict(weights)
        except RuntimeError as error:
            raise ConfigError(f"--from: its weights do not fit: {str(error).splitlines()[-1].strip()}") from None


@register("bert", task="tag", config=BERTTaggerConfig, recipe=TAGGING.replace(lr=1e-3, bf16=True), width="width", width_step=48)  # fmt: skip
class BERTTagger(NeuralTagger, BERTLabeller):
    """Tokens in pieces, read as text, each seeing all others: a tag for each token."""

    def __init__(self, config: BERTTaggerConfig):
        inputs = PieceInput(config)
        super().__init__(config, inputs, Precomputed(inputs.width))


@register("bert", task="classify", config=BERTClassifierConfig, recipe=CLASSIFYING.replace(lr=1e-3, bf16=True), width="width", width_step=48)  # fmt: skip
class BERTClassifier(NeuralClassifier, BERTLabeller):
    """Records, read as text, each symbol seeing all others: a label for all of one."""

    def __init__(self, config: BERTClassifierConfig):
        inputs = TextInput(config)
        super().__init__(config, inputs, Precomputed(inputs.width))


def _names(prefix: str, *, masked: bool, next_sentence: bool, pooled: bool) -> dict[str, Any]:
    """The table of one of Hugging Face's models; ``prefix`` is where its encoder lies."""
    block = [
        *((f"attention.{ours}", f"attention.self.{theirs}") for ours, theirs in _PARTS),
        ("attention.out", "attention.output.dense"), ("norm_attention", "attention.output.LayerNorm"),
        ("feed_forward.inner", "intermediate.dense"), ("feed_forward.out", "output.dense"),
        ("norm_feed_forward", "output.LayerNorm"),
    ]  # fmt: skip
    layers = [
        ("norm", f"{prefix}embeddings.LayerNorm"),
        *((f"encoder.blocks.{{i}}.{ours}", f"{prefix}encoder.layer.{{i}}.{theirs}") for ours, theirs in block),
        *([("pooler", f"{prefix}pooler.dense")] if pooled else []),
        *([("next_head", "cls.seq_relationship")] if next_sentence else []),
        *([("transform", "cls.predictions.transform.dense")] if masked else []),
        *([("transform_norm", "cls.predictions.transform.LayerNorm")] if masked else []),
    ]
    single = [
        ("embedding.weight", f"{prefix}embeddings.word_embeddings.weight"),
        ("encoder.position.weight", f"{prefix}embeddings.position_embeddings.weight"),
        ("segment_embedding.weight", f"{prefix}embeddings.token_type_embeddings.weight"),
        *([("head_bias", "cls.predictions.bias")] if masked else []),
    ]
    tied = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias", f"{prefix}embeddings.position_ids"}
    pairs = [(f"{ours}.{kind}", f"{theirs}.{kind}") for ours, theirs in layers for kind in ("weight", "bias")]
    return {"pairs": single + pairs, "ignore": tied}


_PARTS = (("queries", "query"), ("keys", "key"), ("values", "value"))
FROM_BERT = {
    "BertModel": _names("", masked=False, next_sentence=False, pooled=True),
    "BertForMaskedLM": _names("bert.", masked=True, next_sentence=False, pooled=False),
    "BertForPreTraining": _names("bert.", masked=True, next_sentence=True, pooled=True),
}
"""``Rename(**FROM_BERT["BertForPreTraining"])`` turns the weights of Hugging Face's model of that name into those of ``size=base`` (of
``BertForMaskedLM``: with ``next_sentence=False``). Our embedding has three rows more, those of the start symbol, the mask and
the separator: [CLS], [MASK] and [SEP], which lie within that vocabulary. ``BertModel`` has no heads: those keep their start.
"""
