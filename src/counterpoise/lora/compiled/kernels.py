"""Folding and unfolding blocks of rows of a weight where it lies.

A block is either W0's or folded, as `folded` says, and a call changes both together: it cannot be interrupted
in between, and any call can be made again. What subtracting the product again does not bring back is noted
first: two bits a weight (`codes`) of four-byte weights, and in `notes` what those cannot hold; of two-byte
weights every difference in `notes`.

Weights are seen as integers of their own width; `kind` says which floats those are. No fastmath: sums are
rounded in the order that is written here, so a block has the same bits on every machine and for every number
of threads, and a product can be subtracted again. All of it is one file, since numba's cache does not notice
that another file has changed. Loops are written so that a compiler makes vectors of them: slices rather than
offsets, flags rather than counts, different arrays for what is read and what is written.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from counterpoise.lora.compiled.instructions import LINE, STEP, TILE, fetch, fused, pointer, write_steps

FLOAT32, BFLOAT16, FLOAT16 = 0, 1, 2
BEFORE, AFTER, DONE, USED, OVERFLOW = 0, 1, 2, 3, 4
"""What a report holds: sums of the blocks' words before and after, blocks changed, notes used, overflows."""
REPORT = 5
ENDED, FULL, CHANGED = 0, 1, 2
"""How a call ended: whole; before a block that `notes` had no room for, or that others had changed."""
SOURCE, TARGET, UP, DOWN, FOLDED, SUMS, OLD, ROWS, WIDTH, RANK, BLOCK = range(11)
"""What `write` is told of a layer: addresses of its words, of both factors, of its blocks' flags and sums, of
the sums of the folded blocks that are overwritten, if others may have changed them, or 0; its sizes."""

_SKIP = 255  # a gap of so many weights without a note
_WORDS = LINE // 8
_BYTES = np.zeros(0, np.uint8)
_U = np.uint64  # what may be negative is asked whether it is, and then loops are no vectors

compiled = njit(nogil=True, cache=True)


@compiled
def packed(up, down):
    """A pair as the loops read it, up [rows, rank] and down [rank, width]: (flat up, ranks filled up with
    zeros to eights; flat down, the same, a tile of columns after the other; ranks in eights; its width)."""
    rows, rank = up.shape
    width = down.shape[1]
    eights = -(-rank // 8)
    downs = np.zeros(-(-width // TILE) * eights * 8 * TILE, np.float32)
    if rank == eights * 8:
        ups = up.reshape(rows * rank)
    else:
        ups = np.zeros(rows * eights * 8, np.float32)
        for i in range(rows):
            for k in range(rank):
                ups[i * eights * 8 + k] = up[i, k]
    for k in range(rank):
        own = down[k]
        for begin in range(0, width, TILE):
            part = own[begin : begin + TILE]
            at = begin * eights * 8 + k * TILE
            downs[at : at + part.size] = part
    return ups, downs, eights, width


@compiled
def _eight(ups, at):
    low = ups[at], ups[at + _U(1)], ups[at + _U(2)], ups[at + _U(3)]
    return (*low, ups[at + _U(4)], ups[at + _U(5)], ups[at + _U(6)], ups[at + _U(7)])


@compiled
def _chain(u, downs, at, low):
    """low + the products of eight ranks, in their order."""
    low = fused(u[0], downs[at], low)
    low = fused(u[1], downs[at + _U(TILE)], low)
    low = fused(u[2], downs[at + _U(2 * TILE)], low)
    low = fused(u[3], downs[at + _U(3 * TILE)], low)
    low = fused(u[4], downs[at + _U(4 * TILE)], low)
    low = fused(u[5], downs[at + _U(5 * TILE)], low)
    low = fused(u[6], downs[at + _U(6 * TILE)], low)
    return fused(u[7], downs[at + _U(7 * TILE)], low)


@compiled
def _begun(pair, i, begin, low):
    """low: the product's row `i` in the tile that begins at `begin`, all but its last eight ranks (zeros
    already, where there are no others); and what `_chain` needs for those."""
    ups, downs, eights, _ = pair
    at, place = _U(i * eights * 8), _U(begin * eights * 8)
    if eights > 1:
        low[:] = 0
        for _ in range(eights - 1):
            u = _eight(ups, at)
            for j in range(low.size):
                low[j] = _chain(u, downs, place + _U(j), low[j])
            at += _U(8)
            place += _U(8 * TILE)
    return _eight(ups, at), place


@compiled
def _ended(sums, at, count, downs, place, u, low):
    """sums = low + the last eight ranks' products, `count` of them from `at` on."""
    for j in range(count):
        sums[at + _U(j)] = _chain(u, downs, place + _U(j), low[j])


@compiled
def _product(pair, first, low, sums):
    """sums [n, width] = up[first : first + n] @ down."""
    rows, width = sums.shape
    flat = sums.reshape(sums.size)
    for begin in range(0, width, TILE):
        count = min(TILE, width - begin)
        for i in range(rows):
            u, place = _begun(pair, first + i, begin, low)
            _ended(flat, _U(i * width + begin), count, pair[1], place, u, low)


@compiled
def _float(bits):
    return np.int32(bits).view(np.float32)


@compiled
def _bits(number):
    return np.float32(number).view(np.int32)


@compiled
def _brain(number):
    """The bits of a float32 as bfloat16, rounded to nearest, ties to even."""
    bits = _bits(number)
    rounded = np.int32(bits + np.int32(0x7FFF + ((bits >> 16) & 1))) >> 16
    missing = np.int32((bits >> 16) | 0x40)  # NaN: rounding could carry it into infinity
    found = missing if np.int32(bits & 0x7FFFFFFF) > np.int32(0x7F800000) else np.int32(rounded)
    return np.int32(found & 0xFFFF)


@compiled
def _half(number):
    """The bits of a float32 as float16, rounded to nearest, ties to even."""
    bits = _bits(number)
    size = np.int32(bits & 0x7FFFFFFF)
    normal = np.int32(np.int32(size - 0x38000000 + 0xFFF + ((size >> 13) & 1)) >> 13)
    # Below 2^-14, adding a half leaves the fraction in the lowest bits, rounded by the adder.
    small = np.int32(_bits(_float(size) + np.float32(0.5)) - 0x3F000000)
    large = np.int32(0x7E00) if size > np.int32(0x7F800000) else np.int32(0x7C00)
    found = np.int32(large if size >= np.int32(0x47800000) else normal)
    found = small if size < np.int32(0x38800000) else found
    return np.int32(((bits >> 16) & 0x8000) | found)


@compiled
def _of_half(word):
    """The float32 that the bits of a float16 stand for."""
    # The product moves the exponent's bias; it is exact, for subnormals too.
    size = _bits(_float(np.int32(word & 0x7FFF) << 13) * np.float32(2.0**112))
    size |= np.int32(0x7F800000) if (word & 0x7C00) == 0x7C00 else np.int32(0)
    return _float(size | np.int32(word & 0x8000) << 16)


@compiled
def _write(words, out, at, count, kind, downs, place, u, low):
    """out = round(words + (low + the last eight ranks' products)), `count` of them from `at` on. Returns the
    largest bits, the sign aside."""
    largest = np.int32(0)
    if kind == FLOAT32:
        for j in range(count):
            new = _bits(_float(words[at + _U(j)]) + _chain(u, downs, place + _U(j), low[j]))
            out[at + _U(j)] = new
            largest = max(largest, np.int32(new & 0x7FFFFFFF))
    elif kind == BFLOAT16:
        for j in range(count):
            old = _float(np.int32(words[at + _U(j)]) << 16)
            new = _brain(old + _chain(u, downs, place + _U(j), low[j]))
            out[at + _U(j)] = new
            largest = max(largest, np.int32(new & 0x7FFF))
    else:
        for j in range(count):
            old = _of_half(np.int32(words[at + _U(j)]))
            new = _half(old + _chain(u, downs, place + _U(j), low[j]))
            out[at + _U(j)] = new
            largest = max(largest, np.int32(new & 0x7FFF))
    return largest


@compiled
def _subtract(words, kind, add, new):
    """new [width] int32 = round(words - add): of a sum, nearly what was added to."""
    if kind == FLOAT32:
        for j in range(new.size):
            new[j] = _bits(_float(words[j]) - add[j])
    elif kind == BFLOAT16:
        for j in range(new.size):
            new[j] = _brain(_float(np.int32(words[j]) << 16) - add[j])
    else:
        for j in range(new.size):
            new[j] = _half(_of_half(np.int32(words[j])) - add[j])


@compiled
def _add_and_miss(words, kind, add, new, off):
    """`_add`, and off [width or more] int32: by how much `_subtract` misses `words`, of four bytes at most 2
    either way. Returns whether any of it needs a note."""
    flag = np.int32(0)
    if kind == FLOAT32:
        for j in range(new.size):
            total = np.float32(_float(words[j]) + add[j])
            new[j] = _bits(total)
            missed = np.int32(words[j] - _bits(total - add[j]))
            step = min(max(missed, np.int32(-2)), np.int32(2))
            off[j] = step
            flag |= np.int32((step >> 1) & ~step & 1)
    elif kind == BFLOAT16:
        for j in range(new.size):
            word = np.int32(words[j])
            total = _brain(_float(word << 16) + add[j])
            new[j] = total
            step = np.int32(word - _brain(_float(total << 16) - add[j]))
            off[j] = step
            flag |= step
    else:
        for j in range(new.size):
            word = np.int32(words[j])
            total = _half(_of_half(word) + add[j])
            new[j] = total
            step = np.int32(word - _half(_of_half(total) - add[j]))
            off[j] = step
            flag |= step
    return flag != 0


@compiled
def total(words, at, count):
    """The sum of `count` int64 words from `at` on, modulo 2^64."""
    found = np.int64(0)
    for j in range(count):
        found += words[at + _U(j)]
    return found


@compiled
def _fetch(words, at, count):
    """Begin to read what comes next: a processor looks ahead to the end of a page alone."""
    end = min(at + count, words.size)
    for j in range(at, end, _WORDS):
        fetch(words, _U(j))


@compiled
def _code(off, codes):
    # A byte holds a weight of each quarter of the block, so that packing and unpacking are vector work.
    quarter = codes.size
    for j in range(quarter):
        low = (off[j] & 3) | (off[j + quarter] & 3) << 2
        codes[j] = low | (off[j + 2 * quarter] & 3) << 4 | (off[j + 3 * quarter] & 3) << 6


@compiled
def _decode(codes, off):
    quarter = codes.size
    for j in range(quarter):
        code = np.int32(codes[j])
        off[j] = ((code & 3) ^ 2) - 2
        off[j + quarter] = (((code >> 2) & 3) ^ 2) - 2
        off[j + 2 * quarter] = (((code >> 4) & 3) ^ 2) - 2
        off[j + 3 * quarter] = (((code >> 6) & 3) ^ 2) - 2


@compiled
def _need_notes(lanes, wide, found):
    """found[:n], n: the places that need a note. lanes: a block's codes or steps as uint64, looked over eight
    bytes at a time, and then without a branch that a processor could guess wrongly."""
    n = 0
    for i in range(lanes.size):
        lane = lanes[i]
        if wide:
            lane = (lane >> np.uint64(1)) & ~lane & np.uint64(0x5555555555555555)  # the code 2
            if lane:
                for place in range(32):
                    found[n] = 32 * i + place
                    n += np.int64((lane >> np.uint64(2 * place)) & np.uint64(1))
        elif lane:
            for place in range(8):
                found[n] = 8 * i + place
                n += np.int64(((lane >> np.uint64(8 * place)) & np.uint64(255)) != np.uint64(0))
    return n


@compiled
def _note(off, old, lanes, quarter, found, notes, used):
    """Append a note for each weight that needs one: a gap, then its words (where there are codes), or a step,
    or 0 and its words. Returns how much of `notes` is then used, or -1 where it has no room."""
    wide = quarter > 0
    many = _need_notes(lanes, wide, found)
    if used + 5 * many + old.size // _SKIP + 1 > notes.size:
        return -1
    last = -1
    for at in range(many):
        place = found[at]
        gap = place - last - 1
        while gap >= _SKIP:
            notes[used] = _SKIP
            used += 1
            gap -= _SKIP
        notes[used] = gap
        last = place
        j = (place >> 2) + (place & 3) * quarter if wide else np.int64(place)
        if wide:
            notes[used + 1] = old[j] & 255
            notes[used + 2] = (old[j] >> 8) & 255
            notes[used + 3] = (old[j] >> 16) & 255
            notes[used + 4] = (old[j] >> 24) & 255
            used += 5
        elif -128 < off[j] < 128:
            notes[used + 1] = off[j] & 255
            used += 2
        else:
            notes[used + 1] = 0
            notes[used + 2] = old[j] & 255
            notes[used + 3] = (old[j] >> 8) & 255
            used += 4
    return used


@compiled
def _obey(words, quarter, notes, begin, end):
    """Put right the words of a block that its notes name."""
    at, place = begin, -1
    while at < end:
        gap = np.int64(notes[at])
        at += 1
        if gap == _SKIP:
            place += _SKIP
            continue
        place += gap + 1
        if quarter:
            low = np.int32(notes[at]) | np.int32(notes[at + 1]) << 8
            high = np.int32(notes[at + 2]) << 16 | np.int32(notes[at + 3]) << 24
            words[(place >> 2) + (place & 3) * quarter] = low | high
            at += 4
        elif notes[at] != 0:
            words[place] += ((np.int32(notes[at]) & 255) ^ 128) - 128
            at += 1
        else:
            words[place] = np.int32(notes[at + 1]) | np.int32(notes[at + 2]) << 8
            at += 3


@compiled
def _squeeze(off, steps):
    """steps uint8: nonzero where `off` is."""
    for j in range(off.size):
        steps[j] = np.uint8(off[j] != 0)


@compiled
def _top(kind):
    """The bits of infinity."""
    return np.int32(0x7F800000 if kind == FLOAT32 else 0x7C00 if kind == FLOAT16 else 0x7F80)


@compiled
def _lost(new, old, top):
    """Whether a weight that was finite is not so any more."""
    lost = np.int64(0)
    for j in range(new.size):
        lost += np.int64((np.int32(new[j]) & top) == top) & np.int64((np.int32(old[j]) & top) != top)
    return lost > 0


@compiled
def _infinite(new, old, kind):
    """As `_lost`, of words whose signs are in their highest bits."""
    positive = np.int32(0x7FFFFFFF if kind == FLOAT32 else 0x7FFF)
    largest = np.int32(0)
    for j in range(new.size):
        largest = max(largest, np.int32(new[j] & positive))
    return largest >= _top(kind) and _lost(new, old, _top(kind))


@compiled
def work_memory(block, width):
    """What a block of rows is worked on in: its product [block, width], and flat its new words, how far off
    those are, the places that need notes, as bytes which are off, and a tile's unfinished product."""
    size = -(-block * width // 32) * 32
    new, off, found = np.empty(size, np.int32), np.zeros(size, np.int32), np.empty(size, np.int32)
    sums = np.empty((block, width), np.float32)
    return sums, new, off, found, np.zeros(size, np.uint8), np.zeros(TILE, np.float32)


@compiled
def _place(b, block, pair, target):
    """Where block `b` lies: (first row, rows, slice of words, first of them as int64, how many of these)."""
    ups, _, eights, width = pair
    first = b * block
    rows = min(block, ups.size // eights // 8 - first)
    begin, end = first * width, (first + rows) * width
    per = target[0].size // target[1].size  # weights in eight bytes
    return first, rows, slice(begin, end), _U(begin // per), (end - begin) // per


@compiled
def _fold_block(b, target, kind, pair, state, memory, report):
    """Fold block `b`; False, with nothing done, where there is no room for its notes."""
    folded, codes, counts, notes, sums_of = state
    sums, new, off, found, steps, low = memory
    first, rows, here, at8, count8 = _place(b, sums.shape[0], pair, target)
    words = target[0][here]
    size = words.size
    _product(pair, first, low, sums[:rows])
    quarter = -(-size // 32) * 8 if kind == FLOAT32 else 0
    padded = off[: -(-size // 32) * 32]
    padded[size:] = 0
    needed = _add_and_miss(words, kind, sums[:rows].reshape(size), new[:size], padded)
    if quarter:
        _code(padded, codes[b, :quarter])
    used = report[USED]
    if needed:
        if quarter:
            lanes = codes[b, :quarter].view(np.uint64)
        else:
            _squeeze(padded, steps[: padded.size])
            lanes = steps[: padded.size].view(np.uint64)
        used = _note(padded, words, lanes, quarter, found, notes, used)
        if used < 0:
            return False
    counts[b] = used - report[USED]
    report[USED] = used
    report[OVERFLOW] |= _infinite(new[:size], words, kind)
    report[BEFORE] += total(target[1], at8, count8)
    for j in range(size):
        words[j] = new[j]
    sums_of[b] = total(target[1], at8, count8)
    report[AFTER] += sums_of[b]
    report[DONE] += 1
    folded[b] = 1
    return True


@compiled
def _unfold_block(b, at, target, kind, pair, state, memory, report):
    """Give block `b` its W0 back, whose notes begin at `at`; False, with nothing done, if it was changed."""
    folded, codes, counts, notes, sums_of = state
    sums, new, off, _, _, low = memory
    first, rows, here, at8, count8 = _place(b, sums.shape[0], pair, target)
    words = target[0][here]
    size = words.size
    if total(target[1], at8, count8) != sums_of[b]:
        return False
    _product(pair, first, low, sums[:rows])
    fresh = new[:size]
    _subtract(words, kind, sums[:rows].reshape(size), fresh)
    quarter = -(-size // 32) * 8 if kind == FLOAT32 else 0
    if quarter:
        _decode(codes[b, :quarter], off)
        for j in range(size):
            fresh[j] += off[j]
    _obey(fresh, quarter, notes, at, at + counts[b])
    for j in range(size):
        words[j] = fresh[j]
    report[AFTER] += total(target[1], at8, count8)
    report[DONE] += 1
    folded[b] = 0
    return True


@compiled
def _write_block(b, block, source, target, kind, pair, low, report):
    """Write block `b` from the same block of `source`, which may be the same memory; the sum of its words."""
    first, rows, _, _, _ = _place(b, block, pair, target)
    words, words8, out, out8 = source[0], source[1], target[0], target[1]
    downs, width, per = pair[1], pair[3], words.size // words8.size
    before, after, none = np.int64(0), np.int64(0), np.int32(0)
    for begin in range(0, width, TILE):
        count = min(TILE, width - begin)
        steps = 0 if kind == FLOAT16 else count // STEP
        done, rest8 = steps * STEP, (count - steps * STEP) // per
        for i in range(first, first + rows):
            u, place = _begun(pair, i, begin, low)
            at = i * width + begin
            ahead = at + rows * width
            found = np.int64(0), np.int64(0), none
            if steps and pair[2] == 1:
                found = write_steps(words, out, at, ahead, steps, u, downs, place, None)
            elif steps:
                found = write_steps(words, out, at, ahead, steps, u, downs, place, low)
            largest = found[2]
            before += found[0]
            after += found[1]
            if rest8:
                at8 = _U((at + done) // per)
                _fetch(words8, (ahead + done) // per, rest8)
                _fetch(out8, (ahead + done) // per, rest8)
                before += total(words8, at8, rest8)
                rest = _write(
                    words, out, _U(at + done), count - done, kind, downs, place + _U(done), u, low[done:]
                )
                largest = max(largest, rest)
                after += total(out8, at8, rest8)
            if largest >= _top(kind):
                report[OVERFLOW] |= _lost(out[at : at + count], words[at : at + count], _top(kind))
    report[BEFORE] += before
    report[AFTER] += after
    report[DONE] += 1
    return after


@compiled
def _at(address, like, size):
    return carray(pointer(address, like), (size,))


@compiled
def _write_layer(layer, like, kind, low, report):
    rows, width, rank, block = layer[ROWS], layer[WIDTH], layer[RANK], layer[BLOCK]
    size, blocks = rows * width, -(-rows // block)
    size8 = size // (8 // like.itemsize)
    source = _at(layer[SOURCE], like, size), _at(layer[SOURCE], report, size8)
    target = _at(layer[TARGET], like, size), _at(layer[TARGET], report, size8)
    up = _at(layer[UP], low, rows * rank).reshape(rows, rank)
    pair = packed(up, _at(layer[DOWN], low, rank * width).reshape(rank, width))
    folded, sums = _at(layer[FOLDED], _BYTES, blocks), _at(layer[SUMS], report, blocks)
    old = _at(layer[OLD], report, blocks) if layer[OLD] else sums[:0]
    for b in range(blocks):
        if folded[b]:
            continue
        _, _, _, at8, count8 = _place(b, block, pair, target)
        if old.size and total(target[1], at8, count8) != old[b]:
            return CHANGED
        sums[b] = _write_block(b, block, source, target, kind, pair, low, report)
        folded[b] = 1
    return ENDED


@compiled
def write(layers, like, kind, reports):
    """target = round(source + up @ down) in each of `layers`, block by block, where they are not folded; the
    caller has all of W0.

    layers: int64 [layers, COLUMNS], addresses and sizes. like: an array of the words. reports: int64
    [layers, REPORT]. Returns how many layers were written before one that others had changed.
    """
    low = np.zeros(TILE, np.float32)
    for n in range(layers.shape[0]):
        if _write_layer(layers[n], like, kind, low, reports[n]) != ENDED:
            return n
    return layers.shape[0]


@compiled
def fold(target, kind, factors, state, memory, report):
    """target = round(target + up @ down), block by block, where they are not folded.

    target: (words [rows * width], the same as int64). factors: up [rows, rank], down [rank, width], float32.
    state: (folded uint8 [blocks], codes uint8 [blocks, a multiple of 8, or 0 for two-byte weights], counts
    int32 [blocks] (bytes of notes), notes uint8, sums int64 [blocks] of the folded words). memory: of
    `work_memory`. Returns how it ended.
    """
    pair = packed(*factors)
    for b in range(state[0].size):
        if not state[0][b] and not _fold_block(b, target, kind, pair, state, memory, report):
            return FULL
    return ENDED


@compiled
def unfold(target, kind, factors, state, memory, report):
    """Give the folded blocks their W0 back; arguments and returns as `fold`."""
    pair, at = packed(*factors), 0
    for b in range(state[0].size):
        if state[0][b] and not _unfold_block(b, at, target, kind, pair, state, memory, report):
            return CHANGED
        at += state[2][b]
    return ENDED


@compiled
def exchange(target, kind, old, new, memory, reports):
    """From one folding to another, block by block while they lie in a cache; returns as `fold`.

    old, new: (factors, state) of each; reports: one each.
    """
    before, after, at = packed(*old[0]), packed(*new[0]), 0
    for b in range(old[1][0].size):
        if old[1][0][b] and not _unfold_block(b, at, target, kind, before, old[1], memory, reports[0]):
            return CHANGED
        at += old[1][2][b]
        if not new[1][0][b] and not _fold_block(b, target, kind, after, new[1], memory, reports[1]):
            return FULL
    return ENDED
