"""Parts of neural networks: attention, positions, recurrent layers, probes, and backbones made of them."""

from chainrule.nn.attention import Attention
from chainrule.nn.positions import alibi_slopes, rotate, rotation, sinusoidal
from chainrule.nn.probes import Probe
from chainrule.nn.recurrent import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN", "Attention", "Probe", "alibi_slopes", "rotate", "rotation", "sinusoidal"]
