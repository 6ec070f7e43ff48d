"""BERT: a bidirectional Transformer encoder, trained as a masked language model.

    x = norm(embed(token) + embed(segment) + position);   x = norm(x + attend(x));   x = norm(x + ff(x))
    p(x_t | visible tokens) = softmax(E norm(gelu(W x_t)) + b),   E the embedding itself

Devlin et al. 2019. It is not a model of p(x): it has no first token and continues nothing, and the product of its
predictions is the pseudo-likelihood, which is not comparable with bits per byte.

``size=base`` and ``size=large`` are the paper's models: post-norm, learnt positions, GELU by erf, biases, layer norms
with eps 1e-12, all weights from N(0, 0.02) truncated at two standard deviations, a pooler that learns next-sentence
prediction. The default differs from them as GPT does here: pre-norm, rotary positions, squared ReLU, no biases in the
blocks, RMS-normalised queries and keys, maps into the residual path near zero at the start, and no next-sentence
prediction (Liu et al. 2019). Deviations, in all sizes: no dropout on attention weights; the special tokens ([CLS],
[MASK], [SEP]) have the last rows of the embedding and are never predicted, so that a random replacement is never one of
them.

Fine-tuning for tag and classify begins with its weights (``--from RUN``): a token is tagged from the mean of its
pieces, a record is labelled from the mean, the maximum and the last of its tokens; all weights are trained.
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
from chainrule.nn.blocks import activate, weight_names
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
from chainrule.nn.transformer_config import MUON, TransformerConfig, TransformerLMConfig

EPS = 1e-12
READ_ONLY = 3
"""Rows of the embedding of tokens that are never predicted: start token, mask, separator."""
PAPER: dict[str, Any] = {
    "context": 512, "positions": "learned", "norm": "post", "bias": True, "activation": "gelu", "qk_norm": False,
    "dropout": 0.1, "next_sentence": True,
}  # fmt: skip


class BERTConfig(TransformerLMConfig):
    context: int = 128
    """Largest number of tokens of a row, the start token among them."""
    tied: bool = True
    segments: int = 2
    next_sentence: bool = False
    """Train on pairs of segments, and predict whether the second one follows the first."""

    presets = {
        "tiny": {"width": 16, "layers": 2, "heads": 2, "context": 32},
        "small": {},
        "base": {"width": 768, "layers": 12, "heads": 12, **PAPER},
        "large": {"width": 1024, "layers": 24, "heads": 16, **PAPER},
    }


class BERTEncoder(SequenceModel, Encoder):
    """The encoder of BERT and of models that are fine-tuned from it."""

    config: BERTConfig
    attention_stack = "encoder"
    token_vectors = {"embedding": True}

    def __init__(self, config: BERTConfig):
        super().__init__(config)
        c = config
        self.vocab_size, self.window = c.vocab_size, c.context
        self.attention_chunk = c.context - 1
        self.embedding = nn.Embedding(c.vocab_size + READ_ONLY, c.width)
        self.segment_embedding = nn.Embedding(c.segments, c.width)
        self.norm = nn.LayerNorm(c.width, EPS)
        self.encoder = Stack(c, eps=EPS)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights from N(0, 0.02), truncated at two standard deviations; pre-norm blocks keep their own start."""
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
    recipe=Recipe(batch_size=32, sequence_length=128, stateful=False, bf16=True, **MUON),
    width_step=48,
)
class BERT(BERTEncoder, MaskedLM):
    """A masked language model."""

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
        """Return logits, B x T x V."""
        weight = self.embedding.weight[: self.vocab_size] if self.head is None else self.head.weight
        return F.linear(x_BTD, weight, self.head_bias)

    def pooled(self, hidden_BTD: Tensor) -> Tensor:
        """Return tanh(W h of the start token), B x D: the paper's vector of a row."""
        assert self.pooler is not None
        return self.pooler(hidden_BTD[:, 0]).tanh()

    def next_sentence_logit(self, hidden_BTD: Tensor) -> Tensor:
        if self.next_head is None:
            return super().next_sentence_logit(hidden_BTD)
        follows_B, not_B = self.next_head(self.pooled(hidden_BTD)).unbind(-1)  # the paper's order
        return follows_B - not_B


class BERTLabellerConfig(TransformerConfig, LabelsConfig):
    """Settings of taggers and classifiers on BERT's encoder; ``--from`` sets all but the dropout."""

    source_vocab_size: int
    context: int = 128
    """Tokens that are encoded at once, the start token among them: longer rows are encoded in chunks."""
    segments: int = 2
    directions: Literal["both"] = "both"

    def encoder_config(self) -> BERTConfig:
        """Return the settings of the encoder."""
        shared = {name: getattr(self, name) for name in TransformerConfig.model_fields}
        return BERTConfig.make({**shared, "vocab_size": self.source_vocab_size, "segments": self.segments})


class BERTTaggerConfig(BERTLabellerConfig, TokensConfig):
    presets = {
        "tiny": {"width": 16, "layers": 2, "heads": 2, "embedding": 8, "spelling": 8, "context": 32},
        "small": {"dropout": 0.2, "word_dropout": 0.1},
    }


class BERTClassifierConfig(BERTLabellerConfig):
    presets = {"tiny": {"width": 16, "layers": 2, "heads": 2, "context": 32}, "small": {"dropout": 0.2}}


def stretches(reader: BERTEncoder, ids_BS: Tensor, lengths_B: Tensor) -> Tensor:
    """Encode rows in chunks of the encoder's window, each behind a start token.

    Args:
        reader: the encoder.
        ids_BS: tokens without a start token, padded on the right.
        lengths_B: valid length of each row.

    Returns:
        B x S x D; undefined beyond the length of a row.
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
    """Tokens as vectors: the mean over the encoded pieces of a token, its word embedding and its characters side by
    side.
    """

    attention_stack = "reader.encoder"
    token_vectors = {"reader.embedding": True, "words": False}

    def __init__(self, config: BERTTaggerConfig):
        super().__init__()
        self.reader, self.words = BERTEncoder(config.encoder_config()), WordInput(config)
        self.attention_chunk = self.reader.attention_chunk
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
    """Tokens of a text as vectors: the outputs of the encoder."""

    attention_stack = "reader.encoder"
    token_vectors = {"reader.embedding": True}

    def __init__(self, config: BERTClassifierConfig):
        super().__init__()
        self.reader, self.width = BERTEncoder(config.encoder_config()), config.width
        self.attention_chunk = self.reader.attention_chunk

    def forward(self, batch: Batch) -> Tensor:
        assert batch.lengths_B is not None
        return stretches(self.reader, batch.inputs_BT, batch.lengths_B)


class Precomputed(nn.Module):
    """The backbone of networks whose inputs are encoded already."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, x_BSD: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        return x_BSD, at_end(x_BSD, lengths_B)


class BERTLabeller(Pretrainable):
    """Base of taggers and classifiers that can be fine-tuned from a run of bert."""

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


FINE_TUNING: dict[str, Any] = {"lr": 1e-3, "bf16": True}
SIZE: dict[str, Any] = {"width_step": 48}


@register("bert", task="tag", config=BERTTaggerConfig, recipe=TAGGING.replace(**FINE_TUNING), **SIZE)
class BERTTagger(NeuralTagger, BERTLabeller):
    """A tagger of tokens, from their pieces."""

    def __init__(self, config: BERTTaggerConfig):
        inputs = PieceInput(config)
        super().__init__(config, inputs, Precomputed(inputs.width))


@register("bert", task="classify", config=BERTClassifierConfig, recipe=CLASSIFYING.replace(**FINE_TUNING), **SIZE)
class BERTClassifier(NeuralClassifier, BERTLabeller):
    """A classifier of texts."""

    def __init__(self, config: BERTClassifierConfig):
        inputs = TextInput(config)
        super().__init__(config, inputs, Precomputed(inputs.width))


_PARTS = (("queries", "query"), ("keys", "key"), ("values", "value"))
_BLOCK = [
    *((f"attention.{ours}", f"attention.self.{theirs}") for ours, theirs in _PARTS),
    ("attention.out", "attention.output.dense"), ("norm_attention", "attention.output.LayerNorm"),
    ("feed_forward.inner", "intermediate.dense"), ("feed_forward.out", "output.dense"),
    ("norm_feed_forward", "output.LayerNorm"),
]  # fmt: skip
_MASKED = [("transform", "cls.predictions.transform.dense"), ("transform_norm", "cls.predictions.transform.LayerNorm")]
_BIAS = ("head_bias", "cls.predictions.bias")


def _names(prefix: str, heads: list[tuple[str, str]], *single: tuple[str, str]) -> dict[str, Any]:
    """The table of one of Hugging Face's models, whose encoder has the prefix; ``heads``: what it has beside that."""
    embeddings = [
        ("embedding.weight", f"{prefix}embeddings.word_embeddings.weight"),
        ("encoder.position.weight", f"{prefix}embeddings.position_embeddings.weight"),
        ("segment_embedding.weight", f"{prefix}embeddings.token_type_embeddings.weight"),
    ]
    modules = weight_names([("norm", f"{prefix}embeddings.LayerNorm"), *heads])
    blocks = weight_names(_BLOCK, "encoder.blocks.{i}.", f"{prefix}encoder.layer.{{i}}.")
    tied = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias", f"{prefix}embeddings.position_ids"}
    return {"pairs": [*embeddings, *single, *modules, *blocks], "ignore": tied}


FROM_BERT = {
    "BertModel": _names("", [("pooler", "pooler.dense")]),
    "BertForMaskedLM": _names("bert.", _MASKED, _BIAS),
    "BertForPreTraining": _names(
        "bert.", [("pooler", "bert.pooler.dense"), ("next_head", "cls.seq_relationship"), *_MASKED], _BIAS
    ),
}
"""``Rename(**FROM_BERT["BertForPreTraining"])`` turns the weights of Hugging Face's model of that name into those of
``size=base`` (of ``BertForMaskedLM``: with ``next_sentence=False``). Our embedding has three rows more, those of start
token, mask and separator: [CLS], [MASK] and [SEP] are part of that vocabulary. ``BertModel`` has no heads: ours keep
their start.
"""
