"""The parts that model types are built from; the ones that are useful by themselves are named here."""

from chainrule.nn.attention import Attention
from chainrule.nn.positions import alibi_slopes, rotate, rotation, sinusoidal
from chainrule.nn.probes import Probe
from chainrule.nn.recurrent import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN", "Attention", "Probe", "alibi_slopes", "rotate", "rotation", "sinusoidal"]
