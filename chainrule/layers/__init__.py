"""The parts that families are built from; the ones that are useful by themselves are named here."""

from chainrule.layers.attention import Attention
from chainrule.layers.positions import alibi_slopes, rotate, rotation, sinusoidal
from chainrule.layers.probes import Probe
from chainrule.layers.recurrent import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN", "Attention", "Probe", "alibi_slopes", "rotate", "rotation", "sinusoidal"]
