"""Compiled loops over n-gram tables. Import this module inside functions only: it loads the compiler.

Every function releases the interpreter lock, so that threads run in parallel, and is cached on disk once compiled.
The table is the trie of ``chainrule.counting.counts``: ``keys[i]`` = parent * base + last symbol, breadth-first,
increasing. The
functions call an n-gram a window and a token a symbol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy import ndarray

MISSING = -1


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile at the first call; cache the result beside the source, or only in memory if the folder is read-only."""
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(**options)(function)


# ------------------------------------------------------------------------------------------------------------ counting


@compiled
def segments(
    inputs: ndarray,
    targets: ndarray,
    lengths: ndarray,
    carried: bool,
    vocab_size: int,
    n: int,
    text: ndarray,
    event: ndarray,
) -> int:
    """Write a batch as chains of symbols + 1 with a 0 before each chain; ``event`` marks the places that are counted.

    A chain begins at the start of a row and at a start symbol. A target that is also the next input is that input. Any
    other is put at the end of its chain; where the chain goes on with another symbol, the target gets a chain of its
    own, behind the n - 1 symbols before it. Returns the length written; -1 for an id that is out of range. With empty
    ``text`` it only measures.
    """
    write, size = len(text) > 0, 0
    for row in range(inputs.shape[0]):
        length = lengths[row]
        begin = 0
        for t in range(length):
            x = inputs[row, t]
            y = targets[row, t]
            if x < 0 or x > vocab_size or y < -1 or y >= vocab_size:
                return -1
            if t == 0 or x == vocab_size:
                if write:
                    text[size] = 0
                size += 1
                begin = t
            if write:
                text[size] = x + 1
                if t == 0:
                    event[size] = not carried and y >= 0 and x != vocab_size
                else:
                    event[size] = targets[row, t - 1] == x
            size += 1
            if y >= 0 and (t + 1 == length or inputs[row, t + 1] == vocab_size):
                if write:
                    text[size] = y + 1
                    event[size] = True
                size += 1
        begin = 0
        for t in range(length):
            y = targets[row, t]
            if inputs[row, t] == vocab_size:
                begin = t
            if y < 0 or t + 1 == length or inputs[row, t + 1] == vocab_size or inputs[row, t + 1] == y:
                continue
            first = max(begin, t - n + 2)
            if write:
                text[size] = 0
                for s in range(first, t + 1):
                    text[size + 1 + s - first] = inputs[row, s] + 1
                text[size + 2 + t - first] = y + 1
                event[size + 2 + t - first] = True
            size += 3 + t - first
    return size


@compiled
def sorted_places(text: ndarray, n: int, size: int, bits: int) -> ndarray:
    """Return the places of ``text`` (without its zeros and its last n) in the order of the n symbols that begin there.

    Stable counting sorts, last symbol first, ``bits`` of it at a time: linear in the length. ``size`` exceeds every
    entry.
    """
    many = len(text) - n
    order = np.empty(many, np.int32)
    alive = 0
    for i in range(many):
        if text[i] > 0:
            order[alive] = i
            alive += 1
    order, other = order[:alive], np.empty(alive, np.int32)
    mask = (1 << bits) - 1
    bounds = np.empty(min(size, mask + 1) + 1, np.int64)
    for j in range(n - 1, -1, -1):
        shift = 0
        while shift == 0 or (size - 1) >> shift:
            bounds[:] = 0
            for i in range(many):
                if text[i] > 0:
                    bounds[((text[i + j] >> shift) & mask) + 1] += 1
            for c in range(1, len(bounds)):
                bounds[c] += bounds[c - 1]
            for r in range(alive):
                digit = (text[order[r] + j] >> shift) & mask
                other[bounds[digit]] = order[r]
                bounds[digit] += 1
            order, other = other, order
            shift += bits
    return order


@compiled
def shared_lengths(text: ndarray, order: ndarray, shared: ndarray, new: ndarray) -> None:
    """Set ``shared``, the number of first symbols that each window shares with the one sorted before it, and ``new``
    (zeros), the number of new windows of 1 .. n symbols.
    """
    n = len(new) - 1
    for r in range(len(order)):
        i, m = order[r], 0
        if r > 0:
            j = order[r - 1]
            while m < n and text[i + m] != 0 and text[i + m] == text[j + m]:
                m += 1
        shared[r] = m
        while m < n and text[i + m] != 0:
            m += 1
            new[m] += 1


@compiled
def trie(
    text: ndarray,
    event: ndarray,
    order: ndarray,
    shared: ndarray,
    new: ndarray,
    base: int,
    keys: ndarray,
    counts: ndarray,
) -> None:
    """Fill ``keys`` and ``counts`` (zeros) of all windows, from their sorted places."""
    n = len(new) - 1
    free, path = np.ones(n + 2, np.int64), np.zeros(n + 1, np.int64)
    for m in range(1, n + 1):
        free[m + 1] = free[m] + new[m]
    keys[0] = -1
    for r in range(len(order)):
        i, m = order[r], 0
        while m < n and text[i + m] != 0:
            if m >= shared[r]:
                path[m + 1] = free[m + 1]
                free[m + 1] += 1
                keys[path[m + 1]] = path[m] * base + text[i + m] - 1
            if event[i + m]:
                counts[path[m + 1]] += 1
            m += 1


@compiled
def keep_ancestors(keys: ndarray, keep: ndarray, base: int) -> None:
    """Mark all prefixes of marked windows."""
    for i in range(len(keys) - 1, 0, -1):
        if keep[i]:
            keep[keys[i] // base] = True


@compiled
def renumbered(keys: ndarray, keep: ndarray, base: int) -> ndarray:
    """Return the ``keys`` of the marked windows (closed under dropping the last symbol) with their new numbers."""
    number = np.empty(len(keys), np.int64)
    size = 0
    for i in range(len(keys)):
        if keep[i]:
            number[i] = size
            size += 1
    new = np.empty(size, np.int64)
    new[0] = -1
    for i in range(1, len(keys)):
        if keep[i]:
            parent = keys[i] // base
            new[number[i]] = number[parent] * base + keys[i] - parent * base
    return new


@compiled
def merged(
    keys_a: ndarray,
    counts_a: ndarray,
    number_a: ndarray,
    keys_b: ndarray,
    counts_b: ndarray,
    number_b: ndarray,
    base: int,
    keys: ndarray,
    counts: ndarray,
) -> int:
    """Merge two tables into ``keys`` and ``counts``; returns the size. All are read and written sequentially.

    The new number of a window grows with its old one, so that what was sorted stays sorted, and the number of a parent
    is known by the time that its children are read. ``number_a`` and ``number_b`` are buffers for the new numbers.
    """
    number_a[0] = number_b[0] = 0
    keys[0], counts[0] = -1, 0
    none = np.iinfo(np.int64).max
    size, i, j, parent_a, parent_b = 1, 1, 1, 0, 0
    a = keys_a[1] if len(keys_a) > 1 else none
    b = keys_b[1] if len(keys_b) > 1 else none
    while a != none or b != none:
        key, count = min(a, b), 0
        if a == key:
            count += counts_a[i]
            number_a[i] = size
            i += 1
            a = none
            if i < len(keys_a):
                while keys_a[i] >= (parent_a + 1) * base:
                    parent_a += 1
                a = number_a[parent_a] * base + keys_a[i] - parent_a * base
        if b == key:
            count += counts_b[j]
            number_b[j] = size
            j += 1
            b = none
            if j < len(keys_b):
                while keys_b[j] >= (parent_b + 1) * base:
                    parent_b += 1
                b = number_b[parent_b] * base + keys_b[j] - parent_b * base
        keys[size], counts[size] = key, count
        size += 1
    return size


# ---------------------------------------------------------------------------------------------------------- estimation


@compiled
def first_children(keys: ndarray, base: int, first: ndarray) -> None:
    """Set ``first``: the children of window i are ``first[i]`` to ``first[i + 1]``."""
    parent, size = 0, len(first) - 1
    for i in range(1, len(keys)):
        while parent <= size and keys[i] >= parent * base:
            first[parent] = i
            parent += 1
    while parent <= size:
        first[parent] = len(keys)
        parent += 1


@compiled
def child(keys: ndarray, low: int, high: int, key: int) -> int:
    """Return the index of ``key`` in the increasing ``keys[low:high]``, or MISSING."""
    stop = high
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low if low < stop and keys[low] == key else MISSING


@compiled
def suffixes(keys: ndarray, first: ndarray, base: int, second: int, suffix: ndarray) -> None:
    """Set ``suffix``, the window without its first symbol, for windows from ``second`` (the first of two symbols) on;
    MISSING if it is not in the table. Before ``second`` it is the root.
    """
    suffix[:second] = 0
    parent, low = -1, 0
    for i in range(second, len(keys)):
        above = keys[i] // base
        shorter = suffix[above]
        if shorter == MISSING:
            suffix[i] = MISSING
            continue
        if above != parent:
            parent, low = above, first[shorter]
        found = child(keys, low, first[shorter + 1], shorter * base + keys[i] - above * base)
        suffix[i] = found
        if found != MISSING:
            low = found + 1


@compiled
def continuations(keys: ndarray, counts: ndarray, suffix: ndarray, base: int, highest: int, many: ndarray) -> None:
    """Set ``many`` (zeros) to N1+(.g); to the count itself from ``highest`` on, and where g begins with the start
    symbol.
    """
    begins = np.zeros(highest, np.bool_)
    second = highest
    for i in range(1, len(keys)):
        if keys[i] >= base:
            second = min(second, i)
        parent = keys[i] // base
        if i < highest:
            begins[i] = begins[parent] if parent > 0 else keys[i] == base - 1
            if begins[i]:
                many[i] = counts[i]
        else:
            many[i] = counts[i]
        if i >= second and counts[i] > 0 and not begins[suffix[i]]:
            many[suffix[i]] += 1


@compiled
def estimates(
    many: ndarray,
    first: ndarray,
    suffix: ndarray,
    kept: ndarray,
    discount: ndarray,
    extra: float,
    per_type: float,
    contexts: tuple[int, int],
    interpolated: bool,
    vocab_size: int,
    p: ndarray,
    g: ndarray,
) -> None:
    """Set ``p`` of all children of the windows ``contexts[0]:contexts[1]`` and ``g`` of these, from the counts
    ``many``.

    ``discount`` is subtracted from a count of 0, 1, 2, 3+; where ``kept`` is false, the whole count. ``extra``, and
    ``per_type`` times the number of different children, are reserved in every context.
    """
    for h in range(contexts[0], contexts[1]):
        total, types, reserved = 0, 0, 0.0
        for i in range(first[h], first[h + 1]):
            c = many[i]
            total += c
            types += c > 0
            reserved += discount[min(c, 3)] if kept[i] else c
        aside = extra + per_type * types
        whole = total + aside if total > 0 else 1.0
        g[h] = (reserved + aside) / whole if total > 0 else 1.0
        for i in range(first[h], first[h + 1]):
            lower = p[suffix[i]] if interpolated else 1.0 / vocab_size
            left = many[i] - discount[min(many[i], 3)] if kept[i] else 0.0
            p[i] = left / whole + g[h] * lower


# ------------------------------------------------------------------------------------------------------------- look-up


@compiled
def best_children(first: ndarray, keys: ndarray, log_prob: ndarray, base: int, best: ndarray) -> None:
    """Set ``best``, the entry of the most probable symbol after each window; MISSING where nothing was seen."""
    for h in range(len(best)):
        best[h] = MISSING
        for i in range(first[h], first[h + 1]):
            if keys[i] - h * base != base - 1 and (best[h] == MISSING or log_prob[i] > log_prob[best[h]]):
                best[h] = i


@compiled
def seen(keys: ndarray, first: ndarray, contexts: ndarray, base: int, symbol: int) -> bool:
    """Return True if the symbol was seen after any of the contexts."""
    for h in contexts:  # noqa: SIM110 (the compiler knows no generators)
        if h >= 0 and child(keys, first[h], first[h + 1], h * base + symbol) != MISSING:
            return True
    return False


@compiled
def insert(values: ndarray, ids: ndarray, found: int, value: float, symbol: int) -> int:
    """Insert a symbol into the descending list of the best; return the new length."""
    place = found if found < len(values) else found - 1
    while place > 0 and values[place - 1] < value:
        values[place], ids[place] = values[place - 1], ids[place - 1]
        place -= 1
    values[place], ids[place] = value, symbol
    return min(found + 1, len(values))


@compiled
def top(
    keys: ndarray,
    first: ndarray,
    best: ndarray,
    log_prob: ndarray,
    log_backoff: ndarray,
    contexts: ndarray,
    base: int,
    values: ndarray,
    ids: ndarray,
) -> None:
    """Set ``values`` and ``ids`` to the most probable symbols, best first, for each row of contexts (longest first;
    MISSING: none).

    The best entry of a context bounds all of its entries, so that most contexts need one comparison.
    """
    k, symbols = values.shape[1], base - 1
    for r in range(len(contexts)):
        found, through = 0, 0.0
        for j in range(contexts.shape[1]):
            h = contexts[r, j]
            if h < 0:
                continue
            b = best[h]
            if b >= 0 and (found < k or through + log_prob[b] > values[r, k - 1]):
                low, high = first[h], first[h + 1]
                if k == 1 and not seen(keys, first, contexts[r, :j], base, keys[b] - h * base):
                    low, high = b, b + 1
                for i in range(low, high):
                    value, symbol = through + log_prob[i], keys[i] - h * base
                    if symbol == symbols or (found == k and value <= values[r, k - 1]):
                        continue
                    if not seen(keys, first, contexts[r, :j], base, symbol):
                        found = insert(values[r], ids[r], found, value, symbol)
            through += log_backoff[h]
        value, symbol = through - np.log(symbols), 0
        while symbol < symbols and (found < k or value > values[r, k - 1]):
            if not seen(keys, first, contexts[r], base, symbol):
                found = insert(values[r], ids[r], found, value, symbol)
            symbol += 1
