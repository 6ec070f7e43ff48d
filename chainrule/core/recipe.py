"""Training settings of a model type."""

from __future__ import annotations

from typing import ClassVar, Literal

from chainrule.core.config import Config


class Recipe(Config):
    """Training settings of a model type, as plain data, so that a board can state that every model type had its own
    tuned recipe.
    """

    section: ClassVar[str] = "train"

    update: Literal["gradient", "counting", "em"] = "gradient"
    """counting: one pass over the data, then one estimate; em: expected counts per pass or per batch, until the budget
    is spent.
    """
    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: float = 2e-3
    muon_lr: float = 0.02
    """Learning rate of Muon, for matrices; ``lr`` then holds for all other weights."""
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    batch_size: int = 32
    sequence_length: int = 64
    stateful: bool = True
    """True: rows are long streams and the State is carried from batch to batch; False: every sequence begins with an
    empty State.
    """
    reset_prob: float = 0.03
    """Probability that a row of a stateful batch begins with an empty State, so that ``start`` is trained too."""
    warmup: int = 40
    """Steps of learning-rate warm-up; counted in steps because a budget in seconds does not tell their number in
    advance.
    """
    decay_fraction: float = 0.5
    """Last fraction of the budget, over which the learning rate decays to zero."""
    average_last: int = 0
    """Number of weight snapshots from the end of training that are averaged and compared with the last weights; 0:
    none.
    """
    keep_weights: Literal["best", "last"] = "best"
    """Weights that the run ends with: the best on the validation split, or the last, which fit the training split more
    closely.
    """
    grad_accumulation: int = 1
    label_smoothing: float = 0.0
    """Share of a target's probability that is spread over the vocabulary (Szegedy et al. 2016), in training only."""
    mask_prob: float = 0.15
    """fill: share of the tokens of a row that are masked."""
    whole_word_mask: bool = False
    """fill: mask all tokens of a word or none."""
    em_step_power: float = 0.2
    """em: step size at step k is 1 / (k + 2)^em_step_power, times the factor of ``decay_fraction``; 0: full steps, one
    per pass.
    """
    restarts: int = 1
    """em: number of random initialisations tried on the first batch; training continues from the best."""
    bf16: bool = False
    """Train in bf16 on a CPU with AVX512-BF16 or AMX and on a GPU, where it is faster (measured once per model type).
    """
