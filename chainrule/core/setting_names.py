"""Names of settings in other libraries and papers, to answer a foreign or mistyped name with the right one."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    """Our names for one quantity, the likeliest first, and its names elsewhere."""

    words: str
    ours: tuple[str, ...]
    foreign: tuple[str, ...]


def _meaning(words: str, ours: str, foreign: str) -> Meaning:
    return Meaning(words, _words(ours), _words(foreign))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


MEANINGS = (
    _meaning("learning rate", "lr", "learning_rate rate base_lr max_lr peak_lr init_lr eta step_size alpha"),
    _meaning("learning rate of Muon", "muon_lr", "matrix_rate matrix_lr muon_learning_rate"),
    _meaning(
        "width of the hidden state",
        "width states",
        "hidden_size hidden_dim hidden_units hidden hidden_width d_model d_hidden n_embd n_hidden num_units units dim "
        "model_dim rnn_size embed_dim nhid",
    ),
    _meaning("number of hidden states", "states", "n_components n_states num_states hidden_states state_count"),
    _meaning(
        "number of layers",
        "layers",
        "n_layer n_layers num_layers num_hidden_layers layer depth n_blocks num_blocks decoder_layers nlayers",
    ),
    _meaning(
        "number of encoder layers", "encoder_layers", "num_encoder_layers n_encoder_layers enc_layers encoder_depth"
    ),
    _meaning(
        "number of attention heads", "heads", "n_head n_heads num_heads num_attention_heads nhead attention_heads"
    ),
    _meaning(
        "number of key and value heads", "groups", "n_kv_heads kv_heads num_key_value_heads num_kv_heads query_groups"
    ),
    _meaning("width of a head", "head_width", "head_dim head_size d_head d_k d_kv"),
    _meaning(
        "size of the embedding",
        "embedding width",
        "embedding_dim embedding_size emb_size emb_dim d_embed word_dim emsize",
    ),
    _meaning(
        "width of the feed-forward layer, as a multiple of the width",
        "expansion",
        "intermediate_size ffn_dim d_ff dim_feedforward n_inner mlp_ratio ffn_mult feed_forward_size",
    ),
    _meaning(
        "dropout",
        "dropout",
        "dropout_rate dropout_prob dropout_p p_dropout drop_rate drop keep_prob resid_pdrop embd_pdrop attn_pdrop "
        "hidden_dropout_prob attention_dropout",
    ),
    _meaning("dropout of whole tokens", "token_dropout", "symbol_dropout input_dropout embedding_dropout"),
    _meaning("activation function", "activation", "hidden_act act activation_function nonlinearity act_fn"),
    _meaning("positional encoding", "positions", "position_embedding_type pos_encoding positional_encoding rope"),
    _meaning(
        "context length in tokens",
        "context lag sequence_length",
        "block_size n_ctx n_positions context_length context_size max_position_embeddings max_seq_len max_length "
        "max_len window_size",
    ),
    _meaning(
        "length of a training sequence in tokens",
        "sequence_length",
        "window seq_len seq_length sequence_len bptt bptt_len time_steps timesteps",
    ),
    _meaning("length n of the n-gram", "n", "order ngram_order n_gram ngram_size ngram"),
    _meaning("size of the codebook", "codebook_size", "codes num_codes n_embed num_embeddings n_codes codebook"),
    _meaning(
        "vocabulary size, which follows from the data and --tokenizer",
        "tokenizer",
        "symbols vocab vocab_size n_vocab ntoken",
    ),
    _meaning(
        "sequences in a batch",
        "batch_size",
        "batch rows bs batchsize minibatch_size mini_batch_size per_device_train_batch_size train_batch_size",
    ),
    _meaning("optimizer", "optimizer", "optimiser optim opt solver"),
    _meaning("betas of Adam", "betas", "beta adam_betas beta1 beta2 adam_beta1 adam_beta2"),
    _meaning("weight decay", "weight_decay", "wd l2 l2_penalty l2_reg decay_rate"),
    _meaning(
        "largest norm of the gradient",
        "max_grad_norm",
        "clip grad_clip clip_grad clip_norm grad_norm clip_grad_norm gradient_clip_val gradient_clipping max_norm "
        "clipping",
    ),
    _meaning(
        "steps of warm-up", "warmup", "warmup_steps num_warmup_steps warmup_iters warmup_ratio n_warmup lr_warmup_steps"
    ),
    _meaning(
        "share of the budget over which the learning rate falls",
        "decay_fraction",
        "decay decay_ratio decay_steps cooldown lr_decay lr_decay_iters cooldown_fraction",
    ),
    _meaning(
        "parts of a batch whose gradients are added",
        "grad_accumulation",
        "accumulate gradient_accumulation_steps grad_accum accumulate_grad_batches accumulation_steps accum_steps "
        "grad_acc",
    ),
    _meaning(
        "label smoothing", "label_smoothing smoothing", "label_smoothing_factor smooth smoothing_factor epsilon_ls"
    ),
    _meaning(
        "share of masked tokens", "mask_prob", "masked mlm_probability mask_ratio mask_rate mlm_prob masking_prob"
    ),
    _meaning("mask whole words", "whole_word_mask", "whole_words whole_word_masking wwm"),
    _meaning(
        "weights that are averaged", "average_last", "average averaging ema ema_decay swa polyak checkpoint_averaging"
    ),
    _meaning("which weights are kept", "keep_weights", "keep load_best_model_at_end restore_best_weights save_best"),
    _meaning("carry the state from batch to batch", "stateful", "windows carry carry_state tbptt"),
    _meaning("probability that a carried state is reset", "reset_prob", "forget reset reset_probability"),
    _meaning("power of the steps of EM", "em_step_power", "stepwise em_step step_power"),
    _meaning("random restarts", "restarts", "n_init n_restarts num_restarts"),
    _meaning(
        "how long to train, such as --budget 60s, 2000steps or 3epochs",
        "budget",
        "epochs epoch num_epochs n_epochs max_epochs num_train_epochs steps max_steps num_steps iterations max_iters "
        "max_iter n_iter train_steps max_time time_limit",
    ),
    _meaning(
        "shares of train, valid and test, such as 0.8/0.1/0.1",
        "split",
        "test_size train_size valid_size validation_size test_split validation_split val_split train_test_split",
    ),
    _meaning("random seed", "seed", "random_state random_seed rng"),
    _meaning("model type", "model_type", "family architecture arch model_name"),
    _meaning("size of an image in pixels", "image_size", "img_size resolution input_size"),
    _meaning("side of a patch in pixels", "patch", "patch_size"),
)
"""Meanings in order of precedence: of those that a name has, the first whose setting exists is the answer."""

SECTIONS = {
    "train": _words(
        "recipe training trainer train_args training_args hyperparameters hparams optim optimizer optimiser"
    ),
    "model": _words("network net architecture arch config model_args model_config"),
}
"""Foreign names of the sections of the settings."""


def path(section: str, name: str) -> str:
    """Return a setting as ``--set`` takes it: ``train.lr``, or ``seed``, which belongs to no section."""
    return f"{section}.{name}" if section else name


def section_of(name: str) -> str | None:
    """Return the section meant by a foreign section name; None where there is none.

    >>> section_of("recipe"), section_of("seed")
    ('train', None)
    """
    return next((ours for ours, foreign in SECTIONS.items() if name == ours or name in foreign), None)


def advise(section: str, name: str, known: Mapping[str, Collection[str]]) -> str:
    """Return a hint for a setting that does not exist.

    Args:
        section: the section that was given: "train", "model", or "" for none.
        name: the name that was typed.
        known: the settings that exist, by section.

    Returns:
        ``use train.lr (learning rate)`` where the name says what is meant, in this section or another; else
        ``did you mean 'train.warmup'?`` where the letters do; else all settings of the section.

    >>> advise("model", "learning_rate", {"model": ["width"], "train": ["lr"]})
    'use train.lr (learning rate)'
    """
    places = [section, *(s for s in ("model", "train", "") if s != section and s in known)]
    typed = name.lower().replace("-", "_")
    if found := next((place for place in places if typed in known.get(place, ())), None):
        return f"use {path(found, typed)}"
    if hint := _by_meaning(typed, places, known):
        return hint
    own = sorted(known.get(section, ()))
    allowed = f"allowed: {', '.join(path(section, one) for one in own)}"
    if missing := next((meaning for meaning in MEANINGS if typed in (*meaning.ours, *meaning.foreign)), None):
        return f"there is no setting for the {missing.words} here; {allowed}"
    foreign = {word for meaning in MEANINGS for word in meaning.foreign if len(word) > 3}
    close = difflib.get_close_matches(typed, [*own, *foreign], n=8, cutoff=0.6)
    for word in close:
        if word in own:
            return f"did you mean '{path(section, word)}'?"
        if hint := _by_meaning(word, places, known):
            return hint
    return allowed


def _by_meaning(name: str, places: list[str], known: Mapping[str, Collection[str]]) -> str | None:
    meanings = [meaning for meaning in MEANINGS if name in meaning.foreign or name in meaning.ours]
    for place in places:
        for meaning in meanings:
            for ours in meaning.ours:
                if ours in known.get(place, ()):
                    return f"use {path(place, ours)} ({meaning.words})"
    return None
