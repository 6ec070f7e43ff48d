"""VQ: a discrete autoencoder: an image becomes a grid of tokens, and an image again.

    z = E x,   s_p = the token nearest to z_p,   x' = D(s_1 .. s_P);   trained so that x' is close to x

Every token is made from one patch by a perceptron, the same everywhere; the decoder is a Transformer over all patches,
so that what a token shows depends on its neighbours. With ``encoder_layers`` > 0 tokens depend on their neighbours too:
reconstructions improve, but the tokens are much harder to predict. There are three quantisers from z to a token:

    fsq      each of a few numbers is bounded and rounded to some levels; a token is their combination. Nothing is
    learnt,
             and no token can go unused (Mentzer et al. 2024)
    ema      the nearest of N vectors, which are moving averages of what is assigned to them (van den Oord et al. 2017);
    an
             unused one is reset to a vector of the batch
    gumbel   a distribution over N tokens, sampled softly in training: softmax((log p + g) / t), g Gumbel noise, t
    falling;
             its KL divergence from the uniform distribution is penalised (the dVAE of Ramesh et al. 2021)

Gradients pass straight through the rounding of fsq and ema (Bengio et al. 2013). The loss is the mean squared error of
each image, or its logarithm, which is what PSNR averages (``model.error``).

Deviations from DALL-E's dVAE: a perceptron and a Transformer instead of convolutions, squared error instead of
logit-Laplace, an exponential decay of the temperature.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import Codec, ConfigError, ImageBatch, Recipe, SequenceModel, register
from chainrule.nn.encoder import Encoder
from chainrule.nn.images import AugmentedImageConfig, augment, patches_per_side, sinusoids
from chainrule.nn.transformer_config import TransformerConfig, of_blocks

LEVELS = {
    64: (4, 4, 4), 125: (5, 5, 5), 240: (8, 6, 5), 512: (8, 8, 8), 1000: (8, 5, 5, 5), 1920: (8, 8, 6, 5),
    4375: (7, 5, 5, 5, 5),
}  # fmt: skip
"""Number of tokens -> levels of each number (Mentzer et al. 2024, table 1, and smaller ones)."""
COMMITMENT, DECAY, DEAD = 0.25, 0.99, 0.1
"""ema: weight of the commitment loss; decay of the averages; uses per batch below which a token is reset."""
COLDEST = 1 / 16
FAINT = 1e-4
"""Mean squared error in units of the variance of pixels, added before the logarithm: about 50 dB."""


class VQConfig(TransformerConfig, AugmentedImageConfig):
    codebook_size: int = 1024
    """Largest number of tokens; fsq takes the next lower one of its table."""
    width: int = 128
    heads: int = 4
    layers: int = 3
    """Layers of the decoder."""
    encoder_layers: int = 0
    """0: a token depends on its own patch alone, which is easiest to learn to draw with."""
    patch: int = 4
    quantiser: Literal["fsq", "ema", "gumbel"] = "fsq"
    code_width: int = 16
    """ema, gumbel: width of the vector of a token."""
    error: Literal["squared", "log"] = "log"
    flip: bool = True
    recolour: float = 0.5
    """Share of colour images whose channels are permuted in training, as an augmentation."""
    divergence: float = 1e-4
    """gumbel: weight of the KL divergence from the uniform distribution, in nats per token."""
    cooling: int = 2000
    """gumbel: number of steps over which the temperature falls from 1 to 1/16."""
    positions: Literal["none"] = "none"  # type: ignore[assignment]

    presets = {
        "tiny": {"width": 16, "layers": 1, "heads": 2, "codebook_size": 64, "code_width": 4},
        "small": {},
        "base": {"width": 256, "layers": 6, "heads": 8},
    }


@register(
    "vq",
    label="VQ",
    task="codes",
    config=VQConfig,
    recipe=Recipe(optimizer="muon", lr=2e-3, muon_lr=0.02, batch_size=32, sequence_length=1, warmup=100, bf16=True),
    width_step=64,
)
class ImageCodec(SequenceModel, Codec):
    """A discrete autoencoder of images."""

    config: VQConfig

    def __init__(self, config: VQConfig):
        super().__init__(config)
        c = config
        self.side = patches_per_side(c.image_size, c.patch)
        self.quantiser = {"fsq": FSQ, "ema": EMAQuantiser, "gumbel": GumbelQuantiser}[c.quantiser](c)
        self.codebook_size, wide = self.quantiser.codebook_size, self.quantiser.width
        self.terms = ("pixels", *self.quantiser.terms)
        self.patches = nn.Sequential(
            nn.Conv2d(c.channels, c.width, c.patch, c.patch), nn.ReLU(), nn.Conv2d(c.width, c.width, 1)
        )
        self.encoder = Encoder(of_blocks(c, layers=c.encoder_layers)) if c.encoder_layers else None
        self.decoder = Encoder(of_blocks(c))
        self.to_code, self.from_code = nn.Linear(c.width, self.quantiser.asked), nn.Linear(wide, c.width)
        self.pixels = nn.Linear(c.width, CHANNELS * c.patch**2)
        self.smooth = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(CHANNELS, c.channels, 3, padding=1),
        )
        self.register_buffer("places", sinusoids(self.side, self.side, c.width, torch.zeros(0)), persistent=False)
        nn.init.normal_(self.to_code.weight, std=c.width**-0.5)

    def latent(self, pixels_BCYX: Tensor) -> Tensor:
        """Return the input of the quantiser for each patch, B x P x ``quantiser.asked``."""
        x_BPD = self.patches(pixels_BCYX).flatten(2).mT
        if self.encoder is not None:
            x_BPD = self.encoder(x_BPD + self.places.to(x_BPD.dtype))
        return self.to_code(x_BPD)

    def drawn(self, vectors_BPK: Tensor) -> Tensor:
        """Return images from the vectors of their tokens."""
        c = self.config
        x_BPD = self.from_code(vectors_BPK.to(self.from_code.weight.dtype))
        x_BPD = self.decoder(x_BPD + self.places.to(x_BPD.dtype))
        grid_BFYX = self.pixels(x_BPD).mT.unflatten(2, (self.side, self.side))
        return self.smooth(F.pixel_shuffle(grid_BFYX, c.patch))

    def encode(self, pixels_BCYX: Tensor) -> Tensor:
        return self.quantiser.ids(self.latent(pixels_BCYX))

    def decode(self, ids_BP: Tensor) -> Tensor:
        return self.drawn(self.quantiser.vectors(ids_BP))

    def losses(self, batch: ImageBatch) -> dict[str, Tensor]:
        pixels = batch.pixels_BCYX
        if self.training:
            pixels = recoloured(augment(pixels, self.config), self.config.recolour)
        vectors_BPK, terms = self.quantiser(self.latent(pixels))
        squared_B = (self.drawn(vectors_BPK).float() - pixels).square().flatten(1).mean(1)
        wrong_B = (squared_B + FAINT).log() if self.config.error == "log" else squared_B
        return {"pixels": wrong_B.sum(), **terms}


CHANNELS = 16
"""Channels of an image before it is smoothed across the borders of patches."""


def recoloured(pixels_BCYX: Tensor, share: float) -> Tensor:
    """Permute the channels of some images at random.

    Args:
        pixels_BCYX: images.
        share: expected share of the images that are changed.
    """
    B, C = pixels_BCYX.shape[:2]
    if C == 1 or not share:
        return pixels_BCYX
    order_BC = torch.rand(B, C, device=pixels_BCYX.device).argsort(1)
    kept_B1 = torch.rand(B, 1, device=pixels_BCYX.device) >= share
    order_BC = torch.where(kept_B1, torch.arange(C, device=order_BC.device), order_BC)
    return pixels_BCYX.gather(1, order_BC[:, :, None, None].expand_as(pixels_BCYX))


class Quantiser(nn.Module):
    """Base of quantisers, from vectors to tokens."""

    codebook_size: int
    asked: int
    """Width of its inputs."""
    width: int
    """Width of the vector of a token."""
    terms: tuple[str, ...] = ()

    def ids(self, latent_BPA: Tensor) -> Tensor:
        """Return the token of each vector, B x P."""
        raise NotImplementedError

    def vectors(self, ids_BP: Tensor) -> Tensor:
        """Return the vector of each token, the input of the decoder, B x P x K."""
        raise NotImplementedError

    def forward(self, latent_BPA: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return vectors through which gradients pass, B x P x K, and further terms of the loss, summed over the
        batch.
        """
        raise NotImplementedError


class FSQ(Quantiser):
    """Finite scalar quantisation: every number is bounded and rounded."""

    levels_K: Tensor
    basis_K: Tensor

    def __init__(self, config: VQConfig):
        super().__init__()
        most, least = config.codebook_size, min(LEVELS)
        if most < least:
            raise ConfigError(f"model.codebook_size={most}: fsq has at least {least}; or --set model.quantiser=ema")
        levels = LEVELS[max(n for n in LEVELS if n <= most)]
        self.codebook_size, self.asked, self.width = math.prod(levels), len(levels), len(levels)
        self.register_buffer("levels_K", torch.tensor(levels), persistent=False)
        self.register_buffer(
            "basis_K", torch.tensor([math.prod(levels[:k]) for k in range(len(levels))]), persistent=False
        )

    def bounded(self, z: Tensor) -> Tensor:
        """Squash into the range of the levels; an even number is shifted by half a level (eq. 1, appendix A)."""
        half = (self.levels_K - 1) * (1 + 1e-3) / 2
        offset = torch.where(self.levels_K % 2 == 0, 0.5, 0.0)
        z = z if z.dtype == torch.float64 else z.float()
        return (z + (offset / half).atanh()).tanh() * half - offset

    def rounded(self, z: Tensor) -> Tensor:
        bounded = self.bounded(z)
        return bounded + (bounded.round() - bounded).detach()

    def ids(self, latent_BPA: Tensor) -> Tensor:
        return ((self.rounded(latent_BPA).round().long() + self.levels_K // 2) * self.basis_K).sum(-1)

    def vectors(self, ids_BP: Tensor) -> Tensor:
        steps = ids_BP[..., None] // self.basis_K % self.levels_K - self.levels_K // 2
        return steps / (self.levels_K // 2)

    def forward(self, latent_BPA: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.rounded(latent_BPA) / (self.levels_K // 2), {}


class EMAQuantiser(Quantiser):
    """The nearest of a codebook of moving averages; all vectors have length one (Yu et al. 2022)."""

    terms = ("commitment",)
    book_NK: Tensor
    uses_N: Tensor
    sums_NK: Tensor

    def __init__(self, config: VQConfig):
        super().__init__()
        self.codebook_size, self.asked, self.width = config.codebook_size, config.code_width, config.code_width
        book_NK = F.normalize(torch.randn(self.codebook_size, self.width), dim=-1)
        self.register_buffer("book_NK", book_NK)
        self.register_buffer("uses_N", torch.ones(self.codebook_size))
        self.register_buffer("sums_NK", book_NK.clone())

    def ids(self, latent_BPA: Tensor) -> Tensor:
        return (F.normalize(latent_BPA.to(self.book_NK.dtype), dim=-1) @ self.book_NK.T).argmax(-1)

    def vectors(self, ids_BP: Tensor) -> Tensor:
        return self.book_NK[ids_BP]

    def forward(self, latent_BPA: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        z_BPK = F.normalize(latent_BPA.to(self.book_NK.dtype), dim=-1)
        ids_BP = self.ids(z_BPK)
        chosen_BPK = self.vectors(ids_BP)
        if self.training:
            self.follow(z_BPK.detach().flatten(0, 1), ids_BP.flatten())
        far = (z_BPK - chosen_BPK.detach()).square().sum()
        return z_BPK + (chosen_BPK - z_BPK).detach(), {"commitment": COMMITMENT * far / ids_BP.shape[1]}

    @torch.no_grad()
    def follow(self, z_NK: Tensor, ids_N: Tensor) -> None:
        """Update the averages, and reset rarely used tokens to vectors of the batch."""
        uses = torch.bincount(ids_N, minlength=self.codebook_size).to(self.uses_N.dtype)
        self.uses_N.lerp_(uses, 1 - DECAY)
        self.sums_NK.lerp_(torch.zeros_like(self.sums_NK).index_add_(0, ids_N, z_NK), 1 - DECAY)
        dead_N = self.uses_N < DEAD
        if bool(dead_N.any()):
            picked_N = torch.randint(len(z_NK), (int(dead_N.sum()),), device=z_NK.device)
            self.sums_NK[dead_N], self.uses_N[dead_N] = z_NK[picked_N], 1.0
        self.book_NK.copy_(F.normalize(self.sums_NK, dim=-1))


class GumbelQuantiser(Quantiser):
    """A distribution over tokens, sampled softly in training; otherwise its most probable token."""

    terms = ("divergence",)
    steps: Tensor

    def __init__(self, config: VQConfig):
        super().__init__()
        c = config
        self.codebook_size, self.asked, self.width = c.codebook_size, c.codebook_size, c.code_width
        self.book = nn.Embedding(c.codebook_size, c.code_width)
        self.weight, self.cooling = c.divergence, c.cooling
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @property
    def temperature(self) -> float:
        return max(COLDEST, COLDEST ** (int(self.steps) / max(1, self.cooling)))

    def ids(self, latent_BPA: Tensor) -> Tensor:
        return latent_BPA.argmax(-1)

    def vectors(self, ids_BP: Tensor) -> Tensor:
        return self.book(ids_BP)

    def forward(self, latent_BPA: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits = latent_BPA.to(self.book.weight.dtype)
        if not self.training:
            return self.vectors(self.ids(logits)), {}
        share_BPN = relaxed(logits, gumbel_like(logits), self.temperature)
        self.steps += 1
        return share_BPN @ self.book.weight, {"divergence": self.weight * divergence(logits).sum()}


def gumbel_like(x: Tensor) -> Tensor:
    """Gumbel noise."""
    return -torch.empty_like(x).exponential_().log()


def relaxed(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Return softmax((logits + noise) / t): with Gumbel noise and t -> 0 a sample (Jang et al. 2017; Maddison et al.
    2017).

    Args:
        logits: B x P x N.
        noise: Gumbel noise of the same shape.
        temperature: t.
    """
    return ((logits + noise) / temperature).softmax(-1)


def divergence(logits: Tensor) -> Tensor:
    """Return KL(q || uniform) in nats: log N minus the entropy of q.

    >>> divergence(torch.zeros(4)).item()
    0.0
    """
    log_q = logits.log_softmax(-1)
    return math.log(logits.shape[-1]) + (log_q.exp() * log_q).sum(-1)
