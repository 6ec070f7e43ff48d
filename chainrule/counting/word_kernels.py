"""Compiled loops over bytes that split, encode and score words. Import inside functions only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from chainrule.counting.kernels import MISSING, child, compiled

_ODD, _ONE, _HALF, _WIDTH = np.uint64(0x9E3779B97F4A7C15), np.uint64(1), np.uint64(32), np.uint64(64)
_BLANKS, _HIGH = np.uint64(0x2121212121212121), np.uint64(0x8080808080808080)
_PLACES, _LONG = np.uint64(0x0001020304050607), np.uint64(0xFF00000000000000)
_FNV, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
GROUP = 32
"""Number of sentences that are scored together."""


# --------------------------------------------------------------------------------------------------------------- words


@compiled
def blank(byte: int) -> bool:
    """Return True for ASCII white space: tab, line feed, vertical tab, form feed, carriage return, space."""
    return byte == 32 or 9 <= byte <= 13


@compiled
def word_at(text: ndarray, place: int, limit: int) -> tuple[Any, Any]:
    """Return where the word that begins at ``place`` stops, and its key: its bytes and their number for less than 8
    bytes, a hash (FNV-1a) for longer words.
    """
    start, value, chunk = place, _FNV, np.uint64(0)
    while place < limit and not blank(text[place]):
        value = (value ^ np.uint64(text[place])) * _PRIME
        if place - start < 8:
            chunk |= np.uint64(text[place]) << np.uint64((place - start) << 3)
        place += 1
    if place - start < 8:
        return place, np.int64(chunk | (np.uint64(place - start) << np.uint64(56)))
    return place, np.int64((value ^ (value >> _HALF)) | _LONG)


@compiled
def same(text: ndarray, start: int, stop: int, pool: ndarray, first: int) -> bool:
    i = 0
    while i < stop - start and pool[first + i] == text[start + i]:
        i += 1
    return i == stop - start


@compiled
def find(
    text: ndarray, start: int, stop: int, key: int, pool: ndarray, starts: ndarray, slots: ndarray, shift: int
) -> Any:
    """Return the slot of a word (a pair of key and id), or the empty slot where it belongs. Words are compared by
    bytes.
    """
    mask, slot = len(slots) // 2 - 1, np.int64((np.uint64(key) * _ODD) >> np.uint64(shift))
    while slots[2 * slot] != 0:
        word = slots[2 * slot + 1]
        if slots[2 * slot] == key and (
            stop - start < 8
            or (starts[word + 1] - starts[word] == stop - start and same(text, start, stop, pool, starts[word]))
        ):
            break
        slot = (slot + 1) & mask
    return slot


@compiled
def fill(pool: ndarray, starts: ndarray, slots: ndarray, shift: int, unknown: int) -> None:
    """Enter all words of ``pool`` (all different) into ``slots`` (zeros); empty slots get the id ``unknown``."""
    for slot in range(len(slots) // 2):
        slots[2 * slot + 1] = unknown
    for word in range(len(starts) - 1):
        _, key = word_at(pool, starts[word], starts[word + 1])
        slot = find(pool, starts[word], starts[word + 1], key, pool, starts, slots, shift)
        slots[2 * slot], slots[2 * slot + 1] = key, word


@compiled
def encode(
    text: ndarray,
    wide: ndarray,
    place: Any,
    ends: ndarray,
    pool: ndarray,
    starts: ndarray,
    slots: ndarray,
    shift: int,
    end: int,
    ids: ndarray,
    stops: ndarray,
) -> int:
    """Set ``ids`` of all words, with ``end`` (unless MISSING) after each sentence, and ``stops`` of the sentences;
    return the number of ids.

    The first sentence begins at ``place``, each other one byte after the end of the one before. ``wide`` is ``text`` in
    units of 8 bytes, with 8 more behind it. Eight bytes are tested at once: in x - 0x21.. the lowest byte that
    borrowed, and had no high bit, is the first below 0x21 (Mycroft's test for zero bytes). Short words, most of them,
    are found without leaving the loop: measured, calls make it half as slow again.
    """
    size, mask, turn = 0, len(slots) // 2 - 1, np.uint64(shift)
    for s in range(len(ends)):
        limit = ends[s]
        while place < limit:
            bits = np.uint64((place & 7) << 3)
            chunk = wide[place >> 3] >> bits
            if bits:
                chunk |= wide[(place >> 3) + 1] << (_WIDTH - bits)
            small = (chunk - _BLANKS) & ~chunk & _HIGH
            unit = (small & (~small + _ONE)) >> np.uint64(7)  # 256 to the power of the place of the small byte, 0: none
            length = np.int64((unit * _PLACES) >> np.uint64(56))
            stop = place + length
            if length > 0 and (stop == limit or (stop < limit and blank(text[stop]))):
                key = np.int64((chunk & (unit - _ONE)) | (np.uint64(length) << np.uint64(56)))
                slot = np.int64((np.uint64(key) * _ODD) >> turn)
                while slots[2 * slot] != key and slots[2 * slot] != 0:
                    slot = (slot + 1) & mask
            elif blank(text[place]):
                place += 1
                continue
            else:
                stop, key = word_at(text, place, limit)
                slot = find(text, place, stop, key, pool, starts, slots, shift)
            ids[size] = slots[2 * slot + 1]
            size += 1
            place = stop + 1  # where a word stops, there is a blank or the end
        if end != MISSING:
            ids[size] = end
            size += 1
        stops[s] = size
        place = ends[s] + 1
    return size


# ------------------------------------------------------------------------------------------------------------- scoring


@compiled
def locate(slots: ndarray, base: int, key: int) -> Any:
    """Return the slot that holds the ``key`` of a window of several words, or the empty slot where it belongs."""
    size = len(slots) // 2
    slot = base + np.int64((((np.uint64(key) * _ODD) >> _HALF) * np.uint64(size - base)) >> _HALF)
    while slots[2 * slot] != key and slots[2 * slot] != MISSING:
        slot += 1
        if slot == size:
            slot = base
    return slot


@compiled
def fill_index(
    keys: ndarray, log_prob: ndarray, log_backoff: ndarray, base: int, slots: ndarray, values: ndarray
) -> None:
    """Enter all windows of a table, and every single word (unseen ones with p = g / V).

    A slot is 16 bytes, within one cache line: its key (slot of the window without the last word * base + that word),
        and in ``values``, the same memory, log p and log g as float32. A single word has the slot of its id. Where log
        g is 0 it is stored as -0 if the window has no children: then they need not be looked up (as in KenLM).
    """
    size, contexts = len(slots) // 2, len(log_backoff)
    at = np.empty(contexts, np.int64)
    for slot in range(size):
        slots[2 * slot] = MISSING
    for word in range(base):
        slots[2 * word] = size * base + word
        values[4 * word + 2], values[4 * word + 3] = log_backoff[0] - np.log(base - 1), -0.0
    at[0] = size
    for i in range(1, len(keys)):
        parent = keys[i] // base
        word = keys[i] - parent * base
        slot = word
        if parent > 0:
            above = at[parent]
            slot = locate(slots, base, above * base + word)
            slots[2 * slot] = above * base + word
            if values[4 * above + 3] == 0:
                values[4 * above + 3] = 0.0
        weight = log_backoff[i] if i < contexts else 0.0
        values[4 * slot + 2], values[4 * slot + 3] = log_prob[i], weight if weight != 0 else -0.0
        if i < contexts:
            at[i] = slot


@compiled
def score_ids(
    ids: ndarray,
    stops: ndarray,
    slots: ndarray,
    values: ndarray,
    base: int,
    longest: int,
    bos: bool,
    out: ndarray,
    lengths: ndarray,
) -> None:
    """Set ``out`` to log p of each word, and ``lengths`` to the length of its window. Sentences stop at ``stops`` and
    begin with the start symbol (``bos``) or with nothing known. ``longest``: n - 1.

    ``path[now, m]`` and ``weight[now, m]``: slot and log g of the window of the last m words, m = 1 .. ``depth``. In a
    table closed under dropping the first symbol, where a window is missing, no longer one is there.
    """
    path, weight = np.zeros((2, longest + 2), np.int64), np.zeros((2, longest + 2))
    place, now = 0, 0
    for s in range(len(stops)):
        depth = min(longest, int(bos))
        path[now, 1], weight[now, 1] = base - 1, values[4 * base - 1]
        while place < stops[s]:
            word, found, after = ids[place], 1, 1 - now
            value = np.float64(values[4 * word + 2])
            path[after, 1], weight[after, 1] = word, values[4 * word + 3]
            while found <= depth:
                slot = locate(slots, base, path[now, found] * base + word)
                if slots[2 * slot] == MISSING:
                    break
                found += 1
                value = np.float64(values[4 * slot + 2])
                path[after, found], weight[after, found] = slot, values[4 * slot + 3]
            lengths[place] = found
            for m in range(found, depth + 1):
                value += weight[now, m]
            out[place] = value
            depth, now = min(found, longest), after
            while depth > 0 and weight[now, depth] == 0 and np.signbit(weight[now, depth]):
                depth -= 1
            place += 1


@compiled
def score_sentences(
    text: ndarray,
    wide: ndarray,
    place: int,
    ends: ndarray,
    pool: ndarray,
    starts: ndarray,
    words: ndarray,
    shift: int,
    end: int,
    slots: ndarray,
    values: ndarray,
    longest: int,
    bos: bool,
    totals: ndarray,
) -> None:
    """Set ``totals`` to log p of whole sentences: ``encode`` and ``score_ids``, a few sentences at a time to save
    memory.
    """
    for low in range(0, len(ends), GROUP):
        high = min(low + GROUP, len(ends))
        room = (ends[high - 1] - place) // 2 + 2 * (high - low) + 1
        ids, stops = np.empty(room, np.int64), np.empty(high - low, np.int64)
        size = encode(text, wide, place, ends[low:high], pool, starts, words, shift, end, ids, stops)
        out, lengths = np.empty(size), np.empty(size, np.int64)
        score_ids(ids[:size], stops, slots, values, len(starts), longest, bos, out, lengths)
        first = 0
        for s in range(high - low):
            total = 0.0
            for t in range(first, stops[s]):
                total += out[t]
            totals[low + s], first = total, stops[s]
        place = ends[high - 1] + 1


# ---------------------------------------------------------------------------------------------------------------- ARPA

NUMBER, POSITIVE, WORDS, FEW = 1, 2, 3, 4
"""Defects of a line of an ARPA file: no finite number, a probability above 1, not as many words as its
section says, the section ends too early.
"""


@compiled
def decimal(text: ndarray, start: int, stop: int) -> float:
    """Parse a decimal number, with or without an exponent; NaN if it is none."""
    sign = 1.0
    if start < stop and (text[start] == 45 or text[start] == 43):
        sign = -1.0 if text[start] == 45 else 1.0
        start += 1
    value, digits, scale, point = 0.0, 0, 0, False
    while start < stop and (48 <= text[start] <= 57 or (text[start] == 46 and not point)):
        if text[start] == 46:
            point = True
        else:
            value = value * 10.0 + (text[start] - 48)
            digits += 1
            scale -= point
        start += 1
    if digits and stop - start >= 2 and (text[start] == 101 or text[start] == 69):
        start += 1
        down = text[start] == 45
        start += text[start] == 45 or text[start] == 43
        exponent = 0
        digits = 0
        while start < stop and 48 <= text[start] <= 57 and exponent < 1000:
            exponent = exponent * 10 + (text[start] - 48)
            digits += 1
            start += 1
        scale += -exponent if down else exponent
    if start != stop or digits == 0:
        return np.nan
    return sign * (value / 10.0**-scale if scale < 0 else value * 10.0**scale)


@compiled
def entries(text: ndarray, place: int, order: int, numbers: ndarray, words: ndarray) -> tuple[int, int, int]:
    """Read ``len(numbers)`` lines: probability and back-off weight (log10), where each word begins and ends.

    Returns (place after them, how many were read, what is wrong with the next one or 0).
    """
    spans = np.empty((order + 2, 2), np.int64)
    for i in range(len(numbers)):
        found, at = 0, place
        while at < len(text) and text[at] != 10:
            if blank(text[at]):
                at += 1
                continue
            stop, _ = word_at(text, at, len(text))
            if found < order + 2:
                spans[found, 0], spans[found, 1] = at, stop
            found += 1
            at = stop
        if found == 0 or (text[spans[0, 0]] == 92 and found == 1):
            return place, i, FEW
        numbers[i, 0] = decimal(text, spans[0, 0], spans[0, 1])
        if not np.isfinite(numbers[i, 0]):
            return place, i, NUMBER
        if numbers[i, 0] > 0:
            return place, i, POSITIVE
        if found != order + 1 and found != order + 2:
            return place, i, WORDS
        numbers[i, 1] = 0.0
        if found == order + 2:
            numbers[i, 1] = decimal(text, spans[order + 1, 0], spans[order + 1, 1])
            if not np.isfinite(numbers[i, 1]):
                return place, i, NUMBER
        for w in range(order):
            words[i, w, 0], words[i, w, 1] = spans[w + 1, 0], spans[w + 1, 1]
        place = at + 1
    return place, len(numbers), 0


@compiled
def numbered(
    text: ndarray,
    words: ndarray,
    pool: ndarray,
    starts: ndarray,
    slots: ndarray,
    shift: int,
    ids: ndarray,
) -> int:
    """Set ``ids`` of words given by place; return the first row with a word that is not in the vocabulary, or
    MISSING.
    """
    for i in range(len(words)):
        for w in range(words.shape[1]):
            stop, key = word_at(text, words[i, w, 0], words[i, w, 1])
            ids[i, w] = slots[2 * find(text, words[i, w, 0], stop, key, pool, starts, slots, shift) + 1]
            if ids[i, w] == MISSING:
                return i
    return MISSING


@compiled
def parents(ids: ndarray, keys: ndarray, bounds: ndarray, base: int, parent: ndarray) -> int:
    """Set ``parent``, the window of all symbols but the last of each row; return the first row without one, or MISSING.

    ``bounds[m]``: where the windows of m symbols begin. Neighbours mostly share their first symbols.
    """
    order = ids.shape[1]
    path = np.zeros(order, np.int64)
    for i in range(len(ids)):
        m = 0
        while i > 0 and m < order - 1 and ids[i, m] == ids[i - 1, m]:
            m += 1
        while m < order - 1:
            path[m + 1] = child(keys, bounds[m + 1], bounds[m + 2], path[m] * base + ids[i, m])
            if path[m + 1] == MISSING:
                return i
            m += 1
        parent[i] = path[order - 1]
    return MISSING
