"""Compiled loops over bytes: splitting, numbering and scoring words. Imported where it is used, never at the top of a file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from chainrule.layers.kernels import MISSING, child, compiled

_ODD, _OTHER, _HALF = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93), np.uint64(32)
_ONE, _WIDTH, _PLACES = np.uint64(1), np.uint64(64), np.uint64(0x0001020304050607)
_BLANKS, _HIGH = np.uint64(0x2121212121212121), np.uint64(0x8080808080808080)
BLOCK = 64
"""Words whose places in a table are worked out, and asked for in memory, before the first of them is needed."""


# --------------------------------------------------------------------------------------------------------------- words


@compiled
def blank(byte: int) -> bool:
    """ASCII white space: tab, line feed, vertical tab, form feed, carriage return, space."""
    return byte == 32 or 9 <= byte <= 13


@compiled
def word_at(text: ndarray, wide: ndarray, place: int, limit: int) -> tuple[Any, Any]:
    """(where the word that begins at ``place`` stops, its key). The key of less than 8 bytes is these bytes themselves.

    ``wide`` is ``text`` in units of 8 bytes, with 8 more behind it. Eight bytes are looked at once: in x - 0x21.. the
    lowest byte that borrowed, and had no high bit, is the first below 0x21 (Mycroft's test for zero bytes).
    """
    folded, at = np.uint64(0), place
    while True:
        shift = np.uint64((at & 7) << 3)
        chunk = wide[at >> 3] >> shift
        if shift:
            chunk |= wide[(at >> 3) + 1] << (_WIDTH - shift)
        small = (chunk - _BLANKS) & ~chunk & _HIGH
        size = 8
        if small:
            unit = (small & (~small + _ONE)) >> np.uint64(7)  # 256 to the power of the place of the small byte
            chunk &= unit - _ONE
            size = np.int64((unit * _PLACES) >> np.uint64(56))
        if at + size > limit:
            size = limit - at
            chunk &= (_ONE << np.uint64(size << 3)) - _ONE
        at += size
        if size < 8:
            if at < limit and not blank(text[at]):
                return slow_word_at(text, place, limit)
            return at, np.int64(folded ^ chunk)
        folded = (folded ^ chunk) * _ODD
        folded ^= folded >> _HALF


@compiled
def slow_word_at(text: ndarray, place: int, limit: int) -> tuple[Any, Any]:
    """The same byte by byte, for words with control characters."""
    folded, chunk, shift = np.uint64(0), np.uint64(0), np.uint64(0)
    while place < limit and not blank(text[place]):
        chunk |= np.uint64(text[place]) << shift
        shift += np.uint64(8)
        if shift == _WIDTH:
            folded = (folded ^ chunk) * _ODD
            folded ^= folded >> _HALF
            chunk, shift = np.uint64(0), np.uint64(0)
        place += 1
    return place, np.int64(folded ^ chunk)


@compiled
def same(text: ndarray, start: int, stop: int, pool: ndarray, first: int) -> bool:
    i = 0
    while i < stop - start and pool[first + i] == text[start + i]:
        i += 1
    return i == stop - start


@compiled
def hashed(key: int) -> Any:
    return np.int64((np.uint64(key) * _ODD) >> _HALF)


@compiled
def find(text: ndarray, start: int, stop: int, key: int, pool: ndarray, starts: ndarray, slots: ndarray) -> Any:
    """The slot of a word, or the empty one where it belongs: a pair of key and (length, id + 1). The bytes decide; what is
    made of them only says where to look.
    """
    mask, length = len(slots) // 2 - 1, stop - start
    slot = hashed(key) & mask
    while slots[2 * slot + 1] != 0:
        entry = slots[2 * slot + 1]
        if (
            slots[2 * slot] == key
            and entry >> 32 == length
            and (length < 8 or same(text, start, stop, pool, starts[(entry & 0xFFFFFFFF) - 1]))
        ):
            break
        slot = (slot + 1) & mask
    return slot


@compiled
def number(slots: ndarray, slot: int) -> int:
    """The id of the word in a slot, MISSING in an empty one."""
    return (slots[2 * slot + 1] & 0xFFFFFFFF) - 1


@compiled
def fill(pool: ndarray, wide: ndarray, starts: ndarray, slots: ndarray) -> None:
    """Enter all words of ``pool``, which are different, into empty ``slots``."""
    for word in range(len(starts) - 1):
        _, key = word_at(pool, wide, starts[word], starts[word + 1])
        slot = find(pool, starts[word], starts[word + 1], key, pool, starts, slots)
        slots[2 * slot], slots[2 * slot + 1] = key, (starts[word + 1] - starts[word]) << 32 | (word + 1)


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
def take(
    text: ndarray,
    wide: ndarray,
    place: int,
    limit: int,
    pool: ndarray,
    starts: ndarray,
    slots: ndarray,
    unknown: int,
    ids: ndarray,
    spans: ndarray,
) -> tuple[Any, Any, Any]:
    """Ids of the next words before ``limit``, as many as ``ids`` and ``spans`` have room for; their slots are all asked for
    in memory before the first is needed. Returns (how many, the place after them, something made of what was read ahead).
    """
    mask, many, read = len(slots) // 2 - 1, 0, 0
    while place < limit and many < len(ids):
        if blank(text[place]):
            place += 1
            continue
        stop, key = word_at(text, wide, place, limit)
        spans[many, 0], spans[many, 1], spans[many, 2] = place, stop, key
        read ^= slots[2 * (hashed(key) & mask)]
        many += 1
        place = stop
    for w in range(many):
        word = number(slots, find(text, spans[w, 0], spans[w, 1], spans[w, 2], pool, starts, slots))
        ids[w] = unknown if word == MISSING else word
    return many, place, read


@compiled
def encode(
    text: ndarray,
    wide: ndarray,
    place: int,
    ends: ndarray,
    pool: ndarray,
    starts: ndarray,
    slots: ndarray,
    unknown: int,
    end: int,
    ids: ndarray,
    stops: ndarray,
) -> tuple[int, int]:
    """Ids of all words, and ``end`` (unless MISSING) after each sentence; where the sentences stop among them. Returns how
    many ids there are, and something made of what was read ahead.

    The first sentence begins at ``place``, each other one byte after the end of the one before.
    """
    size, read, spans = 0, 0, np.empty((BLOCK, 3), np.int64)
    for s in range(len(ends)):
        while place < ends[s]:
            room = ids[size : size + BLOCK]
            many, place, more = take(text, wide, place, ends[s], pool, starts, slots, unknown, room, spans)
            size, read = size + many, read ^ more
        if end != MISSING:
            ids[size] = end
            size += 1
        stops[s] = size
        place = ends[s] + 1
    return size, read


# ------------------------------------------------------------------------------------------------------------- scoring


@compiled
def mixed(history: int, word: int) -> Any:
    """The hash of a window, from that of the window without its last word."""
    value = (np.uint64(history) + np.uint64(word) + _ONE) * _ODD
    return value ^ (value >> _HALF)


@compiled
def spot(history: int, base: int, size: int) -> Any:
    """Where in an index of so many slots to look first for a window of several words."""
    return base + np.int64((((np.uint64(history) * _OTHER) >> _HALF) * np.uint64(size - base)) >> _HALF)


@compiled
def locate(slots: ndarray, slot: int, base: int, key: int) -> int:
    """The slot that holds ``key``, or the empty one where it belongs."""
    size = len(slots) // 2
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

    A slot is 16 bytes, within one cache line: its key (slot of the window without the last word * base + that word), and
    in ``values``, the same memory, log p and log g as float32. Single words have slots of their own, ``base`` of them.
    Where to look for a longer window follows from its words alone, so that memory can be asked early; the key decides.
    Where log g is 0 it is stored as -0 if the window has no children: then nobody need ask for them (as in KenLM).
    """
    size, contexts = len(slots) // 2, len(log_backoff)
    history, at = np.zeros(contexts, np.uint64), np.empty(contexts, np.int64)
    for slot in range(size):
        slots[2 * slot] = MISSING
    for word in range(base):
        slots[2 * word] = size * base + word
        values[4 * word + 2], values[4 * word + 3] = log_backoff[0] - np.log(base - 1), -0.0
    at[0] = size
    for i in range(1, len(keys)):
        parent = keys[i] // base
        word = keys[i] - parent * base
        mine, slot = mixed(history[parent], word), word
        if parent > 0:
            key, above = at[parent] * base + word, at[parent]
            slot = locate(slots, spot(mine, base, size), base, key)
            slots[2 * slot] = key
            if values[4 * above + 3] == 0:
                values[4 * above + 3] = 0.0
        weight = log_backoff[i] if i < contexts else 0.0
        values[4 * slot + 2], values[4 * slot + 3] = log_prob[i], weight if weight != 0 else -0.0
        if i < contexts:
            history[i], at[i] = mine, slot


@compiled
def aim(ids: ndarray, slots: ndarray, base: int, history: ndarray, known: int, spots: ndarray) -> Any:
    """Where each word of a block is looked for behind 0, 1, .. words of context; asks for these places in memory, all
    before the first answer is needed. ``known``: words before the block that its first word may look back to. Returns
    something made of what was read, so that reading is not left out.
    """
    size, longest, read = len(slots) // 2, spots.shape[1] - 1, 0
    for t in range(len(ids)):
        for m in range(min(known + t, longest), 0, -1):
            value = mixed(history[m], ids[t])
            spots[t, m] = spot(value, base, size)
            read ^= slots[2 * spots[t, m]]
            if m < longest:
                history[m + 1] = value
        spots[t, 0] = ids[t]
        read ^= slots[2 * ids[t]]
        if longest > 0:
            history[1] = mixed(np.uint64(0), ids[t])
    return read


@compiled
def look_up(
    ids: ndarray,
    slots: ndarray,
    values: ndarray,
    base: int,
    spots: ndarray,
    path: ndarray,
    weight: ndarray,
    depth: int,
    out: ndarray,
    lengths: ndarray,
) -> int:
    """log p of each word of a block and the length of the window that gave it.

    ``path[0, m]`` and ``weight[0, m]``: slot and log g of the window of the last m words, m = 0 .. ``depth``; they are
    those after the block at the end, and so is the depth that is returned. In a table closed under dropping the first
    symbol, where a window is missing, no longer one is there.
    """
    now, longest = 0, spots.shape[1] - 1
    for t in range(len(ids)):
        found, value, after = 0, 0.0, 1 - now
        while found <= depth:
            slot = locate(slots, spots[t, found], base, path[now, found] * base + ids[t])
            if slots[2 * slot] == MISSING:
                break
            found += 1
            value, path[after, found] = np.float64(values[4 * slot + 2]), slot
            weight[after, found] = values[4 * slot + 3]
        lengths[t] = found
        for m in range(found, depth + 1):
            value += weight[now, m]
        out[t] = value
        depth, now = min(found, longest), after
        while depth > 0 and weight[now, depth] == 0 and np.signbit(weight[now, depth]):
            depth -= 1
    if now == 1:
        path[0], weight[0] = path[1], weight[1]
    return depth


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
) -> int:
    """``look_up`` of sentences that stop at ``stops`` and begin with the start symbol (``bos``) or with nothing known.
    ``longest``: n - 1.
    """
    place, read = 0, 0
    path, weight = np.full((2, longest + 2), len(slots) // 2), np.zeros((2, longest + 2))
    history, spots = np.zeros(longest + 2, np.uint64), np.empty((BLOCK, longest + 1), np.int64)
    for s in range(len(stops)):
        depth = known = min(longest, int(bos))
        history[1], path[0, 1], weight[0, 1] = mixed(np.uint64(0), base - 1), base - 1, values[4 * base - 1]
        while place < stops[s]:
            stop = min(stops[s], place + BLOCK)
            read ^= aim(ids[place:stop], slots, base, history, known, spots)
            depth = look_up(
                ids[place:stop], slots, values, base, spots, path, weight, depth, out[place:stop], lengths[place:stop]
            )
            known += stop - place
            place = stop
    return read


@compiled
def score_sentences(
    text: ndarray,
    wide: ndarray,
    place: int,
    ends: ndarray,
    pool: ndarray,
    starts: ndarray,
    words: ndarray,
    unknown: int,
    end: int,
    slots: ndarray,
    values: ndarray,
    longest: int,
    bos: bool,
    totals: ndarray,
) -> int:
    """log p of whole sentences: ``encode`` and ``score_ids`` block by block, so that nothing is held but sums."""
    base, read = len(starts), 0
    path, weight = np.full((2, longest + 2), len(slots) // 2), np.zeros((2, longest + 2))
    history, spots = np.zeros(longest + 2, np.uint64), np.empty((BLOCK, longest + 1), np.int64)
    ids, spans = np.empty(BLOCK, np.int64), np.empty((BLOCK, 3), np.int64)
    out, lengths = np.empty(BLOCK), np.empty(BLOCK, np.int64)
    for s in range(len(ends)):
        depth = known = min(longest, int(bos))
        history[1], path[0, 1], weight[0, 1] = mixed(np.uint64(0), base - 1), base - 1, values[4 * base - 1]
        total, going = 0.0, True
        while going:
            many, place, more = take(text, wide, place, ends[s], pool, starts, words, unknown, ids[: BLOCK - 1], spans)
            going = place < ends[s]
            if not going and end != MISSING:
                ids[many] = end
                many += 1
            read ^= more ^ aim(ids[:many], slots, base, history, known, spots)
            depth = look_up(ids[:many], slots, values, base, spots, path, weight, depth, out, lengths)
            known += many
            for t in range(many):
                total += out[t]
        totals[s] = total
        place = ends[s] + 1
    return read


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
def entries(
    text: ndarray, wide: ndarray, place: int, order: int, numbers: ndarray, words: ndarray
) -> tuple[int, int, int]:
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
            stop, _ = word_at(text, wide, at, len(text))
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
    text: ndarray, wide: ndarray, words: ndarray, pool: ndarray, starts: ndarray, slots: ndarray, ids: ndarray
) -> int:
    """Ids of words given by place; returns the first row with a word that is not in the vocabulary, or MISSING."""
    for i in range(len(words)):
        for w in range(words.shape[1]):
            stop, key = word_at(text, wide, words[i, w, 0], words[i, w, 1])
            ids[i, w] = number(slots, find(text, words[i, w, 0], stop, key, pool, starts, slots))
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
