"""Steps of recurrent cells on rows of float32: from the products of all gates to the next hidden state, in place.

Gates lie side by side, as ``nn.recurrent`` has them. Sizes count vectors of 16 numbers of a hidden state.
"""

from __future__ import annotations

from functools import partial

from chainrule.kernels.cell_kinds import CELLS
from chainrule.kernels.elementwise import activated, sigmoid
from chainrule.kernels.vectors import LANES, Emitter, Value, micro_kernel


def tanh(emit: Emitter, x: Value) -> Value:
    """Return tanh x = 2 sigmoid(2x) - 1, to 2e-7.

    Args:
        emit: writes the instructions.
        x: a vector of floats.
    """
    two = emit.constant(2.0)
    return emit.fma(sigmoid(emit, emit.times(x, two)), two, emit.constant(-1.0))


def _rnn(kind: str, emit: Emitter, *arguments: Value) -> None:
    """h = f(x + y): addresses of x and y, the products with the input and with h; address of h; vectors."""
    x, y, h, vectors = arguments
    with emit.loop(vectors) as turn:
        shift = emit.mul(turn.index, 4 * LANES)
        total = emit.plus(emit.load(emit.add(x, shift)), emit.load(emit.add(y, shift)))
        function = {"tanh": tanh, "sigmoid": sigmoid}.get(kind) or partial(activated, kind="relu")
        emit.store(function(emit, total), emit.add(h, shift))


rnn_tanh, rnn_relu, rnn_sigmoid = (micro_kernel(4)(partial(_rnn, kind)) for kind in CELLS[:3])


@micro_kernel(5)
def lstm(emit: Emitter, x: Value, y: Value, h: Value, c: Value, vectors: Value) -> None:
    """c = f c + i g and h = o tanh c: addresses of the products with the input and with h; of h and c; vectors."""
    with emit.loop(vectors) as turn:
        shift = emit.mul(turn.index, 4 * LANES)
        i, f, g, o = (emit.plus(emit.load(a), emit.load(b)) for a, b in _gates(emit, 4, (x, y), shift, vectors))
        at = emit.add(c, shift)
        new = emit.times(sigmoid(emit, i), tanh(emit, g))
        kept = emit.fma(sigmoid(emit, f), emit.load(at), new)
        emit.store(kept, at)
        emit.store(emit.times(sigmoid(emit, o), tanh(emit, kept)), emit.add(h, shift))


@micro_kernel(4)
def gru(emit: Emitter, x: Value, y: Value, h: Value, vectors: Value) -> None:
    """h = n + z (h - n): addresses of the products with the input and with h; address of h; vectors."""
    with emit.loop(vectors) as turn:
        shift = emit.mul(turn.index, 4 * LANES)
        (r_x, r_h), (z_x, z_h), (n_x, n_h) = (
            (emit.load(a), emit.load(b)) for a, b in _gates(emit, 3, (x, y), shift, vectors)
        )
        r, z = sigmoid(emit, emit.plus(r_x, r_h)), sigmoid(emit, emit.plus(z_x, z_h))
        n, at = tanh(emit, emit.fma(r, n_h, n_x)), emit.add(h, shift)
        emit.store(emit.fma(z, emit.builder.fsub(emit.load(at), n), n), at)


def _gates(
    emit: Emitter, gates: int, products: tuple[Value, Value], shift: Value, vectors: Value
) -> list[tuple[Value, Value]]:
    """Addresses of each gate in both products."""
    apart = emit.mul(vectors, 4 * LANES)
    places = [emit.add(shift, emit.mul(apart, k)) for k in range(gates)]
    return [(emit.add(products[0], place), emit.add(products[1], place)) for place in places]
