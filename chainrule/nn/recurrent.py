"""Recurrent layers with a fused and an explicit implementation of the same weights.

The fused path calls the kernel of torch. The explicit path computes the equation of the cell one step at a time, and
every gate passes through a named probe. They agree to rounding; the explicit path runs only while a probe is observed,
or where torch has no kernel (the sigmoid RNN).

``RNN``, ``LSTM`` and ``GRU`` load the state dict of their namesakes in ``torch.nn``. ``batch_first`` holds for inputs,
outputs and states (in torch it does not hold for states): True, the default, is (B, T, width) with states (B, layers,
width); False is (T, B, width) with states (layers, B, width).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core.compiled import compiled
from chainrule.core.errors import ConfigError
from chainrule.nn.probes import Probe, observed

Skip = Literal["none", "residual", "dense"]
HiddenState = tuple[Tensor, ...]
"""The hidden state of one layer: (h,) or (h, c), each B x H."""


class Recurrent(nn.Module):
    """A stack of recurrent layers. Subclasses define the number of gates, the parts of the state, the kernel and the
    cell.

    Args:
        input_size: width of the inputs.
        hidden_size: width H of the hidden state.
        num_layers: number of layers.
        bias: add the two biases of torch.
        batch_first: True: inputs, outputs and states have the batch first.
        dropout: dropout between layers, never on the recurrence (Zaremba et al. 2014).
        skip: none; residual: the input of a layer is added to its output, from the second layer on (He et al. 2016);
            dense: every layer reads the inputs and the outputs of all layers below, and the output is all of them side
            by side (Huang et al. 2017).

    >>> layer = GRU(input_size=3, hidden_size=5, num_layers=2)
    >>> output, state = layer(torch.zeros(4, 7, 3))
    >>> tuple(output.shape), tuple(state.shape)
    ((4, 7, 5), (4, 2, 5))
    """

    gates: int
    parts: int
    forget_index: int | None = None
    """Index of the forget gate among the gates; None: the cell has none."""
    kernel: Callable[..., Any] | None
    """The kernel of torch for this cell, if there is one."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        skip: Skip = "none",
    ):
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.skip = bias, batch_first, dropout, skip
        self.names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if bias else 2]
        rows = self.gates * hidden_size
        for k in range(num_layers):
            columns = input_size if k == 0 else input_size + k * hidden_size if skip == "dense" else hidden_size
            shapes = [(rows, columns), (rows, hidden_size), (rows,), (rows,)]
            for name, shape in zip(self.names, shapes):
                self.register_parameter(f"{name}_l{k}", nn.Parameter(torch.empty(shape)))
        self.hidden = Probe()
        self.reset_parameters()

    @property
    def output_size(self) -> int:
        return self.input_size + self.num_layers * self.hidden_size if self.skip == "dense" else self.hidden_size

    def reset_parameters(self) -> None:
        """U(-1/sqrt(H), 1/sqrt(H)), as torch.nn does."""
        bound = 1 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            nn.init.uniform_(weight, -bound, bound)

    def weights(self, layer: int) -> list[Tensor]:
        """Return the weights of a layer: W_ih, W_hh and, where there are biases, b_ih, b_hh.

        Args:
            layer: index of the layer.
        """
        return [getattr(self, f"{name}_l{layer}") for name in self.names]

    def initial(self, batch: int, like: Tensor) -> HiddenState:
        """Return zero states, B x L x H for each part.

        Args:
            batch: number of rows.
            like: a tensor whose device and dtype the states have.
        """
        return tuple(like.new_zeros(batch, self.num_layers, self.hidden_size) for _ in range(self.parts))

    def forward(self, inputs: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Run all layers over all steps: ``output, state = layer(inputs, state)``.

        Args:
            inputs: B x T x input_size (T x B x input_size where ``batch_first`` is False).
            state: h, or the pair (h, c) of the LSTM, B x L x H each; None: zeros.

        Returns:
            Outputs of the last layer, B x T x output_size, and the state after the last step.

        Raises:
            ValueError: a tensor has another shape.
        """
        x_BTD = inputs if self.batch_first else inputs.transpose(0, 1)
        if x_BTD.dim() != 3 or x_BTD.shape[-1] != self.input_size:
            axes = "(batch, time, width)" if self.batch_first else "(time, batch, width)"
            raise ValueError(f"expected {axes} with width {self.input_size}, got {tuple(inputs.shape)}")
        x_BTD, layers = self._run(x_BTD, self._unpack(state, x_BTD), lambda _layer, _x, _begin, _out, last: last)
        stacked = tuple(torch.stack(parts, 1 if self.batch_first else 0) for parts in zip(*layers))
        return x_BTD if self.batch_first else x_BTD.transpose(0, 1), stacked if self.parts > 1 else stacked[0]

    def trace(self, x_BTD: Tensor, state: HiddenState) -> tuple[Tensor, HiddenState]:
        """Run all layers over all steps, and return the outputs and the state after every step.

        Args:
            x_BTD: inputs.
            state: the parts of the state before them, B x L x H each.

        Returns:
            Outputs of the last layer, B x T x output_size, and the parts of the states, B x T x L x H each.
        """
        out_BTH, layers = self._run(x_BTD, state, lambda *layer: self.states(*layer[:4]))
        return out_BTH, tuple(torch.stack(parts, 2) for parts in zip(*layers))

    def states(self, layer: int, x_BTD: Tensor, begin: HiddenState, out_BTH: Tensor) -> HiddenState:
        """Return the state of a layer after every step, B x T x H for each part.

        Args:
            layer: index of the layer.
            x_BTD: its inputs.
            begin: its state before them, B x H each.
            out_BTH: its outputs.
        """
        return (out_BTH,)

    def _run(
        self, x_BTD: Tensor, state: HiddenState, wanted: Callable[..., HiddenState]
    ) -> tuple[Tensor, list[HiddenState]]:
        """Run all layers; return the outputs of the last one, and what is wanted of each layer: a function of its
        index, inputs, state before them, outputs and state after them.
        """
        explicit, found = self.kernel is None or observed(self), []
        for k in range(self.num_layers):
            begin = tuple(part[:, k] for part in state)
            out_BTH, last = (self._explicit if explicit else self._kernel)(k, x_BTD, begin)
            found.append(wanted(k, x_BTD, begin, out_BTH, last))
            x_BTD = self._join(x_BTD, out_BTH, k)
        return x_BTD, found

    def _unpack(self, state: Any, like: Tensor) -> HiddenState:
        if state is None:
            return self.initial(len(like), like)
        parts = state if isinstance(state, tuple) else (state,)
        B, L, H = len(like), self.num_layers, self.hidden_size
        axes, shape = (
            ("(batch, layers, width)", (B, L, H)) if self.batch_first else ("(layers, batch, width)", (L, B, H))
        )
        if len(parts) != self.parts or any(tuple(p.shape) != shape for p in parts):
            found = ", ".join(str(tuple(p.shape)) for p in parts)
            raise ValueError(f"expected {self.parts} state tensor(s) {axes} = {shape}, got {found}")
        return parts if self.batch_first else tuple(p.transpose(0, 1) for p in parts)

    def _join(self, x_BTD: Tensor, out_BTH: Tensor, layer: int) -> Tensor:
        if layer < self.num_layers - 1 and self.dropout and self.skip == "dense":
            out_BTH = F.dropout(out_BTH, self.dropout, self.training)
        if self.skip == "dense":
            return torch.cat([x_BTD, out_BTH], -1)
        if self.skip == "residual" and layer > 0:
            out_BTH = x_BTD + out_BTH
        last = layer == self.num_layers - 1
        return out_BTH if last or not self.dropout else F.dropout(out_BTH, self.dropout, self.training)

    def _kernel(self, layer: int, x_BTD: Tensor, hidden_state: HiddenState) -> tuple[Tensor, HiddenState]:
        """Run one layer by the kernel of torch, unless a compiled one applies."""
        if (found := compiled("scan", self, layer, x_BTD, hidden_state)) is not None:
            return found
        parts = tuple(part.unsqueeze(0).contiguous() for part in hidden_state)
        begin = parts if self.parts > 1 else parts[0]
        assert self.kernel is not None
        out, *last = self.kernel(x_BTD, begin, self.weights(layer), self.bias, 1, 0.0, self.training, False, True)
        return out, tuple(part[0] for part in last)

    def _explicit(self, layer: int, x_BTD: Tensor, hidden_state: HiddenState) -> tuple[Tensor, HiddenState]:
        """Run one layer step by step."""
        w_ih, w_hh, *biases = self.weights(layer)
        b_ih, b_hh = biases or (None, None)
        input_gates_BTG = F.linear(x_BTD, w_ih, b_ih)
        outputs = []
        for t in range(x_BTD.shape[1]):
            hidden_state = self.cell(input_gates_BTG[:, t], F.linear(hidden_state[0], w_hh, b_hh), hidden_state)
            outputs.append(self.hidden(hidden_state[0]))
        return torch.stack(outputs, 1), hidden_state

    def cell(self, input_gates_BG: Tensor, hidden_gates_BG: Tensor, hidden_state: HiddenState) -> HiddenState:
        """Compute one step.

        Args:
            input_gates_BG: W_ih x_t + b_ih of all gates.
            hidden_gates_BG: W_hh h_{t-1} + b_hh of all gates.
            hidden_state: the state before the step.

        Returns:
            The state after the step.
        """
        raise NotImplementedError


class RNN(Recurrent):
    """Elman's network: h_t = f(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), f one of tanh, relu, sigmoid.

    Args:
        input_size: width of the inputs.
        hidden_size: width of the hidden state.
        num_layers: layers on top of each other.
        nonlinearity: ``tanh``, ``relu`` or ``sigmoid``.
        options: the keywords of ``Recurrent``: ``bias``, ``batch_first``, ``dropout``, ``skip``.

    Raises:
        ConfigError: another nonlinearity.
    """

    gates, parts = 1, 1

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, *, nonlinearity: str = "tanh", **options: Any
    ):
        kernels = {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu, "sigmoid": None}
        if nonlinearity not in kernels:
            raise ConfigError(f"nonlinearity '{nonlinearity}': allowed are {', '.join(kernels)}")
        self.nonlinearity, self.kernel = nonlinearity, kernels[nonlinearity]
        super().__init__(input_size, hidden_size, num_layers, **options)

    def cell(self, input_gates_BG: Tensor, hidden_gates_BG: Tensor, hidden_state: HiddenState) -> HiddenState:
        return (getattr(torch, self.nonlinearity)(input_gates_BG + hidden_gates_BG),)


class LSTM(Recurrent):
    """Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000; gates stacked i, f, g, o as in torch.

    i, f, o = sigma(.), g = tanh(.); c_t = f * c_{t-1} + i * g; h_t = o * tanh(c_t). The state is the pair (h, c).

    Args:
        sizes: ``input_size``, ``hidden_size`` and, if it is not 1, ``num_layers``.
        options: the keywords of ``Recurrent``: ``bias``, ``batch_first``, ``dropout``, ``skip``.
    """

    gates, parts, forget_index = 4, 2, 1
    kernel = staticmethod(torch.lstm)

    def __init__(self, *sizes: int, **options: Any):
        super().__init__(*sizes, **options)
        self.input_gate, self.forget_gate, self.update, self.output_gate = Probe(), Probe(), Probe(), Probe()
        self.memory = Probe()

    def cell(self, input_gates_BG: Tensor, hidden_gates_BG: Tensor, hidden_state: HiddenState) -> HiddenState:
        i, f, g, o = (input_gates_BG + hidden_gates_BG).chunk(4, -1)
        i, f, o = self.input_gate(i.sigmoid()), self.forget_gate(f.sigmoid()), self.output_gate(o.sigmoid())
        c_BH = self.memory(f * hidden_state[1] + i * self.update(g.tanh()))
        return o * c_BH.tanh(), c_BH

    def states(self, layer: int, x_BTD: Tensor, begin: HiddenState, out_BTH: Tensor) -> HiddenState:
        """Return h and c after every step; the kernel returns only the last c, so that gates are computed again."""
        w_ih, w_hh, *biases = self.weights(layer)
        b_ih, b_hh = biases or (None, None)
        before_BTH = torch.cat([begin[0][:, None], out_BTH[:, :-1]], 1)
        i, f, g, _ = (F.linear(x_BTD, w_ih, b_ih) + F.linear(before_BTH, w_hh, b_hh)).chunk(4, -1)
        new_BTH, keep_BTH, memory = i.sigmoid() * g.tanh(), f.sigmoid(), [begin[1]]
        for t in range(x_BTD.shape[1]):
            memory.append(keep_BTH[:, t] * memory[-1] + new_BTH[:, t])
        return out_BTH, torch.stack(memory[1:], 1)


class GRU(Recurrent):
    """Cho et al. 2014 in torch's form (reset after the product); gates stacked r, z, n.

    r, z = sigma(.); n = tanh(W_in x + b_in + r * (W_hn h + b_hn)); h_t = (1 - z) * n + z * h_{t-1}.

    Args:
        sizes: ``input_size``, ``hidden_size`` and, if it is not 1, ``num_layers``.
        options: the keywords of ``Recurrent``: ``bias``, ``batch_first``, ``dropout``, ``skip``.
    """

    gates, parts = 3, 1
    kernel = staticmethod(torch.gru)

    def __init__(self, *sizes: int, **options: Any):
        super().__init__(*sizes, **options)
        self.reset_gate, self.update_gate, self.candidate = Probe(), Probe(), Probe()

    def cell(self, input_gates_BG: Tensor, hidden_gates_BG: Tensor, hidden_state: HiddenState) -> HiddenState:
        (r_x, z_x, n_x), (r_h, z_h, n_h) = input_gates_BG.chunk(3, -1), hidden_gates_BG.chunk(3, -1)
        r, z = self.reset_gate((r_x + r_h).sigmoid()), self.update_gate((z_x + z_h).sigmoid())
        n = self.candidate((n_x + r * n_h).tanh())
        return ((1 - z) * n + z * hidden_state[0],)


@torch.no_grad()
def initialise(layer: Recurrent, kind: str, *, reach: int = 0) -> None:
    """Initialise the recurrent weights in place.

    Args:
        layer: the stack.
        kind: ``torch``: weights stay as they are. ``orthogonal``: W_hh of each gate is orthogonal (Saxe et al. 2014).
            ``identity``: W_hh = I, biases 0 (IRNN, Le et al. 2015). ``forget``: orthogonal, total forget bias 1
            (Jozefowicz et al. 2015; b_ih = 1, b_hh = 0). ``chrono``: orthogonal, b_f = log U[1, reach - 1], b_i = -b_f
            (Tallec & Ollivier 2018).
        reach: chrono: the longest dependency, in steps.

    Raises:
        ConfigError: forget and chrono need biases and a forget gate.

    >>> layer = RNN(3, 2, nonlinearity="relu")
    >>> initialise(layer, "identity")
    >>> layer.weight_hh_l0.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if kind == "torch":
        return
    H = layer.hidden_size
    for k in range(layer.num_layers):
        for block in layer.weights(k)[1].split(H):
            (nn.init.eye_ if kind == "identity" else nn.init.orthogonal_)(block)
        if not layer.bias:
            if kind in ("forget", "chrono"):
                raise ConfigError(f"init '{kind}' sets biases, and this layer has none: use orthogonal or torch")
            continue
        bias_ih, bias_hh = layer.weights(k)[2:]
        if kind == "identity":
            bias_ih.zero_()
            bias_hh.zero_()
        elif kind in ("forget", "chrono"):
            if layer.forget_index is None:
                raise ConfigError(f"init '{kind}' sets a forget gate, and this cell has none: use orthogonal or torch")
            forget = slice(layer.forget_index * H, (layer.forget_index + 1) * H)
            bias_hh.zero_()
            bias_ih[forget] = 1.0
            if kind == "chrono":
                bias_ih[forget] = torch.empty(H).uniform_(1, max(reach - 1, 2)).log()
                bias_ih[0:H] = -bias_ih[forget]
