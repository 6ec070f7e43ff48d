"""Compiled loops over the bytes of texts. Import this module inside functions only: it loads the compiler."""

from __future__ import annotations

import functools

import numpy as np
from numpy import ndarray

from chainrule.counting.kernels import compiled

FACTOR = np.uint64(0x9E3779B97F4A7C15)
inlined = functools.partial(compiled, inline="always")
"""Without a call, which would count references to every array."""


@inlined
def may_be_space(content: ndarray, start: int, end: int) -> bool:
    """Return True if the character beyond ASCII that ends at a place may be white space to another library."""
    last = content[end - 1]
    if end - start < 2:
        return False
    second = content[end - 2]
    if second == 0xC2:  # U+0085, U+00A0
        return last == 0x85 or last == 0xA0
    if end - start < 3:
        return False
    third = content[end - 3]
    if third == 0xE2:  # U+2000 to U+200A, U+2028, U+2029, U+202F, U+205F
        return second == 0x80 or second == 0x81
    return (third == 0xE3 and second == 0x80) or (third == 0xE1 and second == 0x9A)  # U+3000, U+1680


@compiled
def cut(content: ndarray, starts: ndarray, ends: ndarray, first: ndarray, pieces: ndarray, many: ndarray) -> int:
    """Cut records into pieces: begin, end, whether a record begins with it, and hash of each. Write how many each
    record has; return how many all have."""
    total = 0
    for r in range(len(starts)):
        start, stop, before = starts[r], ends[r], total
        begin, flag = start, np.int64(first[r])
        while begin < stop:
            h, last, spaces, end = np.uint64(flag + 1), np.uint8(0), True, begin
            while end < stop:
                here = content[end]
                if here <= 32 and (here == 32 or (here >= 9 and here <= 13)):
                    if not spaces and last != 0 and (last < 0x80 or not may_be_space(content, start, end)):
                        break
                    spaces = True
                else:
                    spaces = False
                h = (h ^ np.uint64(here)) * FACTOR
                last = here
                end += 1
            pieces[total, 0], pieces[total, 1], pieces[total, 2] = begin, end, flag
            pieces[total, 3] = np.int64(h ^ (h >> np.uint64(32)))
            total += 1
            begin, flag = end, np.int64(0)
        many[r] = total - before
    return total


@inlined
def slot_of(content: ndarray, pieces: ndarray, p: int, table: ndarray, known: ndarray) -> int:
    """The slot of piece p in a table: where it is, or the free one where it belongs."""
    begin, size, mask = pieces[p, 0], pieces[p, 1] - pieces[p, 0], len(table) - 1
    slot = pieces[p, 3] & mask
    while table[slot] >= 0:
        k = table[slot]
        if pieces[p, 3] == known[k, 3] and size == known[k, 1] - known[k, 0] and pieces[p, 2] == known[k, 2]:
            same = True
            for i in range(size):
                if content[known[k, 0] + i] != content[begin + i]:
                    same = False
                    break
            if same:
                break
        slot = (slot + 1) & mask
    return slot


@compiled
def number(
    content: ndarray, pieces: ndarray, found: ndarray, begin: int, table: ndarray, known: ndarray, count: int
) -> tuple[int, int]:
    """Number pieces from ``begin`` on, new ones too, as far as the table of slots and that of known pieces have room.

    Returns:
        The first piece without a number, and how many are known.
    """
    for p in range(begin, len(pieces)):
        slot = slot_of(content, pieces, p, table, known)
        if table[slot] < 0:
            if count == len(known):
                return p, count
            for i in range(4):
                known[count, i] = pieces[p, i]
            table[slot] = count
            count += 1
        found[p] = table[slot]
    return len(pieces), count


@compiled
def fill(content: ndarray, table: ndarray, known: ndarray, count: int) -> None:
    """Put known pieces into an empty table."""
    for k in range(count):
        table[slot_of(content, known, k, table, known)] = k


@compiled
def write(found: ndarray, many: ndarray, bounds: ndarray, ids: ndarray, written: ndarray, lengths: ndarray) -> None:
    """Write the ids of every piece that occurs, and their number in each record."""
    total = place = 0
    for r in range(len(many)):
        before = total
        for _ in range(many[r]):
            for k in range(bounds[found[place]], bounds[found[place] + 1]):
                written[total] = ids[k]
                total += 1
            place += 1
        lengths[r] = total - before
