"""Compiled loops over bytes: splitting, numbering and scoring words. Imported where it is used, never at the top of a file."""

from __future__ import annotations

import numpy as np
from numpy import ndarray

from chainrule.layers.kernels import MISSING, child, compiled

_FNV, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


@compiled
def blank(byte: int) -> bool:
    """ASCII white space: tab, line feed, vertical tab, form feed, carriage return, space."""
    return byte == 32 or 9 <= byte <= 13


@compiled
def word_end(text: ndarray, place: int, stop: int) -> int:
    while place < stop and not blank(text[place]):
        place += 1
    return place


@compiled
def hashed(text: ndarray, start: int, stop: int) -> int:
    """FNV-1a with its high bits folded down (Fowler, Noll, Vo), below 2^63."""
    value = _FNV
    for i in range(start, stop):
        value = (value ^ np.uint64(text[i])) * _PRIME
    return int(np.int64((value ^ (value >> np.uint64(29))) & np.uint64(0x7FFFFFFFFFFFFFFF)))


@compiled
def find(text: ndarray, start: int, stop: int, pool: ndarray, starts: ndarray, slots: ndarray) -> tuple[int, int]:
    """(id of a word or MISSING, the slot where it is or belongs). The bytes decide; the hash only says where to look."""
    value = hashed(text, start, stop)
    mask = len(slots) - 1
    slot, tag = value & mask, value >> 32
    while slots[slot] != 0:
        if slots[slot] >> 32 == tag:
            word = (slots[slot] & 0xFFFFFFFF) - 1
            first = starts[word]
            if starts[word + 1] - first == stop - start:
                i = 0
                while i < stop - start and pool[first + i] == text[start + i]:
                    i += 1
                if i == stop - start:
                    return int(word), slot
        slot = (slot + 1) & mask
    return MISSING, slot


@compiled
def fill(pool: ndarray, starts: ndarray, slots: ndarray) -> None:
    """Enter all words of ``pool``, which are different, into empty ``slots``."""
    for word in range(len(starts) - 1):
        _, slot = find(pool, starts[word], starts[word + 1], pool, starts, slots)
        slots[slot] = ((hashed(pool, starts[word], starts[word + 1]) >> 32) << 32) | (word + 1)


@compiled
def lines(text: ndarray) -> ndarray:
    """Where each line ends: at its line feed, the last one perhaps without."""
    many = 0
    for byte in text:
        many += byte == 10
    many += len(text) > 0 and text[-1] != 10
    ends = np.full(many, len(text))
    line = 0
    for i in range(len(text)):
        if text[i] == 10:
            ends[line] = i
            line += 1
    return ends


@compiled
def encode(
    text: ndarray,
    ends: ndarray,
    pool: ndarray,
    starts: ndarray,
    slots: ndarray,
    unknown: int,
    end: int,
    ids: ndarray,
    stops: ndarray,
) -> int:
    """Ids of all words, and ``end`` (unless MISSING) after each sentence; where the sentences stop among them; how many.

    A sentence begins one byte after the end of the one before.
    """
    place, size = 0, 0
    for s in range(len(ends)):
        while place < ends[s]:
            if blank(text[place]):
                place += 1
                continue
            stop = word_end(text, place, ends[s])
            word, _ = find(text, place, stop, pool, starts, slots)
            ids[size] = unknown if word == MISSING else word
            size += 1
            place = stop
        if end != MISSING:
            ids[size] = end
            size += 1
        stops[s] = size
        place = ends[s] + 1
    return size


@compiled
def distinct(text: ndarray) -> tuple[ndarray, ndarray]:
    """(where each different word first stands, start and stop; how often it occurs), in the order of first occurrence."""
    slots = np.zeros(1 << 12, np.int64)
    places, counts = np.empty((1 << 11, 2), np.int64), np.empty(1 << 11, np.int64)
    size, place = 0, 0
    while place < len(text):
        if blank(text[place]):
            place += 1
            continue
        stop = word_end(text, place, len(text))
        value = hashed(text, place, stop)
        slot = value & (len(slots) - 1)
        word = MISSING
        while slots[slot] != 0 and word == MISSING:
            other = slots[slot] - 1
            if same(text, places[other, 0], places[other, 1], place, stop):
                word = other
            else:
                slot = (slot + 1) & (len(slots) - 1)
        if word == MISSING:
            if size == len(counts):
                places, counts, slots = grown(text, places, counts)
                slot = value & (len(slots) - 1)
                while slots[slot] != 0:
                    slot = (slot + 1) & (len(slots) - 1)
            word = size
            places[word, 0], places[word, 1], counts[word] = place, stop, 0
            slots[slot] = word + 1
            size += 1
        counts[word] += 1
        place = stop
    return places[:size], counts[:size]


@compiled
def same(text: ndarray, a: int, a_stop: int, b: int, b_stop: int) -> bool:
    if a_stop - a != b_stop - b:
        return False
    while a < a_stop and text[a] == text[b]:
        a += 1
        b += 1
    return a == a_stop


@compiled
def grown(text: ndarray, places: ndarray, counts: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """Twice the room for different words, the slots filled anew."""
    size = len(counts)
    more, many = np.empty((2 * size, 2), np.int64), np.empty(2 * size, np.int64)
    more[:size], many[:size] = places, counts
    slots = np.zeros(4 * size, np.int64)
    for word in range(size):
        slot = hashed(text, places[word, 0], places[word, 1]) & (len(slots) - 1)
        while slots[slot] != 0:
            slot = (slot + 1) & (len(slots) - 1)
        slots[slot] = word + 1
    return more, many, slots


# ------------------------------------------------------------------------------------------------------------- scoring


@compiled
def advance(
    word: int,
    keys: ndarray,
    first: ndarray,
    unigrams: ndarray,
    log_prob: ndarray,
    log_backoff: ndarray,
    base: int,
    path: ndarray,
    after: ndarray,
    depth: int,
) -> tuple[float, int]:
    """(log p of ``word``, length of the longest window found). ``path[m]``: the window of the last m symbols, m = 0 .. depth;
    ``after`` gets those that end with the word. In a table closed under dropping the first symbol, where a window is
    missing, no longer one is there.
    """
    found, entry = 0, unigrams[word]
    while entry != MISSING:
        found += 1
        after[found] = entry
        if found > depth:
            break
        h = path[found]
        entry = child(keys, first[h], first[h + 1], h * base + word)
    value = log_prob[after[found]] if found else -np.log(base - 1)
    for m in range(found, depth + 1):
        value += log_backoff[path[m]]
    return float(value), found


@compiled
def scores(
    ids: ndarray,
    stops: ndarray,
    keys: ndarray,
    first: ndarray,
    unigrams: ndarray,
    log_prob: ndarray,
    log_backoff: ndarray,
    begin: int,
    longest: int,
    values: ndarray,
    found: ndarray,
) -> None:
    """log p of each symbol and the length of the window that gave it. Sentences stop at ``stops``; each begins with
    the window ``begin``, or with nothing known where that is MISSING. ``longest``: n - 1.
    """
    base, place = len(unigrams), 0
    path, after = np.zeros(longest + 2, np.int64), np.zeros(longest + 2, np.int64)
    for s in range(len(stops)):
        depth = min(longest, int(begin != MISSING))
        path[1] = begin
        while place < stops[s]:
            values[place], found[place] = advance(
                ids[place], keys, first, unigrams, log_prob, log_backoff, base, path, after, depth
            )
            depth = min(found[place], longest)
            path, after = after, path
            place += 1


@compiled
def sums(values: ndarray, stops: ndarray, totals: ndarray) -> None:
    """Sum of each sentence."""
    place = 0
    for s in range(len(stops)):
        total = 0.0
        while place < stops[s]:
            total += values[place]
            place += 1
        totals[s] = total


# ---------------------------------------------------------------------------------------------------------------- ARPA

NUMBER, POSITIVE, WORDS, FEW = 1, 2, 3, 4
"""What can be wrong with a line of an ARPA file: no finite number, a probability above 1, not as many words as its section
says, the section ends too early."""


@compiled
def decimal(text: ndarray, start: int, stop: int) -> float:
    """A decimal number, with or without an exponent; NaN where it is none."""
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
            stop = word_end(text, at, len(text))
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
def numbered(text: ndarray, words: ndarray, pool: ndarray, starts: ndarray, slots: ndarray, ids: ndarray) -> int:
    """Ids of words given by place; returns the first row with a word that is not in the vocabulary, or MISSING."""
    for i in range(len(words)):
        for w in range(words.shape[1]):
            ids[i, w], _ = find(text, words[i, w, 0], words[i, w, 1], pool, starts, slots)
            if ids[i, w] == MISSING:
                return i
    return MISSING


@compiled
def parents(ids: ndarray, keys: ndarray, bounds: ndarray, base: int, parent: ndarray) -> int:
    """The window of all symbols but the last of each row; returns the first row without one, or MISSING.

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
