"""What numba cannot be told in Python: single instructions, and a row of a weight written in registers alone.

A loop in Python stores every sum and reads it again, asks each time whether arrays overlap, and cannot fetch
what comes next in between: bursts of fetches keep a core waiting. The vectors here are sixteen floats wide;
LLVM makes of them what a processor has. numba's cache of a loop does not notice a change here: after one,
touch the file of the loops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

TILE = 512  # columns of `down` worked on at a time, so that they stay in a core's first cache
STEP = 64  # weights of one turn: four vectors, whose chains of sums a processor works on together
LINE = 64  # bytes that a processor fetches at once
_LANES, _RANKS = 16, 8
_LONG, _INT, _FLOAT, _BYTES = ir.IntType(64), ir.IntType(32), ir.FloatType(), ir.IntType(8).as_pointer()
_FLOATS, _INTS, _SHORTS = (ir.VectorType(kind, _LANES) for kind in (_FLOAT, _INT, ir.IntType(16)))


@intrinsic
def fused(context: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c in float32, rounded once, whatever the processor."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


@intrinsic
def pointer(context: Any, address: Any, like: Any) -> Any:
    """`address` (int64) as a pointer to what the array `like` holds."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(address, like), generate


@intrinsic
def fetch(context: Any, array: Any, at: Any) -> Any:
    """Begin to read element `at` into the second cache; changes nothing, wherever it is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        own = context.make_array(signature.args[0])(context, builder, arguments[0])
        _fetch(builder, builder.bitcast(builder.gep(own.data, [arguments[1]]), _BYTES))
        return context.get_dummy_value()

    return types.void(array, types.uint64), generate


@intrinsic
def write_steps(  # noqa: PLR0913, PLR0917
    context: Any, source: Any, target: Any, at: Any, ahead: Any, steps: Any, u: Any, downs: Any, place: Any,
    low: Any,
) -> Any:  # fmt: skip
    """target = round(source + (low + the products of eight ranks)) in `steps` times STEP words from `at` on.

    source, target: words of four bytes, float32, or of two, bfloat16; they may be one memory. low: None for
    zeros. The words from `ahead` on are fetched. The same bits as the loops in Python give. Returns the sums
    of the words of `source` and of `target` as int64, and the target's largest bits, the sign aside.
    """
    own = types.Tuple((types.int64, types.int64, types.int32))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def base(i: int, first: Any) -> Any:
            array = context.make_array(signature.args[i])(context, builder, arguments[i])
            return builder.bitcast(builder.gep(array.data, [first]), _BYTES)

        here, there, later, later_there = (base(i, arguments[k]) for k in (2, 3) for i in (0, 1))
        begun = None if signature.args[8] == types.none else base(8, _LONG(0))
        pair = [_everywhere(builder, builder.extract_value(arguments[5], k)) for k in range(_RANKS)]
        words = _INTS if signature.args[0].dtype == types.int32 else _SHORTS
        size = words.element.width // 8
        found = _Found(builder, size)
        with cgutils.for_range(builder, arguments[4], intp=_LONG) as loop:
            start = builder.mul(loop.index, _LONG(STEP))
            for line in range(0, STEP * size, LINE):
                for side in (later, later_there):
                    _fetch(builder, builder.gep(side, [_bytes(builder, start, size, line)]))
            sums = _products(builder, start, pair, downs=base(6, arguments[7]), begun=begun)
            for i, add in enumerate(sums):
                offset = _bytes(builder, start, size, i * _LANES * size)
                old = _load(builder, here, offset, words)
                new = _narrow(builder, builder.fadd(_wide(builder, old), add), words)
                place = builder.bitcast(builder.gep(there, [offset]), words.as_pointer())
                builder.store(new, place, align=size)
                found.add(old, new)
        return context.make_tuple(builder, own, found.ended())

    return own(source, target, at, ahead, steps, u, downs, place, low), generate


@final
class _Found:
    """What `write_steps` returns, gathered in vectors."""

    def __init__(self, builder: Any, size: int) -> None:
        self._builder, self._size = builder, size
        self._longs = ir.VectorType(_LONG, size * _LANES // 8)
        nothing = ir.Constant(self._longs, None)
        self._sums = [cgutils.alloca_once_value(builder, nothing) for _ in range(2)]
        self._largest = cgutils.alloca_once_value(builder, ir.Constant(_INTS, None))

    def add(self, old: Any, new: Any) -> None:
        """A vector of words before and after."""
        builder = self._builder
        for known, words in zip(self._sums, (old, new), strict=True):
            builder.store(builder.add(builder.load(known), builder.bitcast(words, self._longs)), known)
        bits = builder.and_(_ints(builder, new), _all(0x7FFFFFFF if self._size == 4 else 0x7FFF))
        builder.store(self._larger(bits, builder.load(self._largest)), self._largest)

    def ended(self) -> list[Any]:
        """The sums and the largest as numbers."""
        sums = [self._over(known, self._builder.add) for known in self._sums]
        return [*sums, self._over(self._largest, self._larger)]

    def _larger(self, a: Any, b: Any) -> Any:
        return self._builder.select(self._builder.icmp_unsigned(">", a, b), a, b)

    def _over(self, known: Any, join: Callable[[Any, Any], Any]) -> Any:
        vector = self._builder.load(known)
        found = self._builder.extract_element(vector, _INT(0))
        for i in range(1, vector.type.count):
            found = join(found, self._builder.extract_element(vector, _INT(i)))
        return found


def _products(builder: Any, start: Any, pair: list[Any], *, downs: Any, begun: Any) -> list[Any]:
    """The sums of one turn's vectors, each in the order of ranks, side by side: none waits for another."""
    columns = [_bytes(builder, start, 4, 4 * i) for i in range(0, STEP, _LANES)]
    sums = [
        ir.Constant(_FLOATS, None) if begun is None else _load(builder, begun, c, _FLOATS) for c in columns
    ]
    kind = ir.FunctionType(_FLOATS, [_FLOATS] * 3)
    fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{_LANES}f32")
    for k, u in enumerate(pair):
        for i, column in enumerate(columns):
            own = _load(builder, downs, builder.add(column, _LONG(4 * TILE * k)), _FLOATS)
            sums[i] = builder.call(fma, [u, own, sums[i]])
    return sums


def _bytes(builder: Any, start: Any, size: int, more: int) -> Any:
    return builder.add(builder.mul(start, _LONG(size)), _LONG(more))


def _all(number: int) -> Any:
    return ir.Constant(_INTS, [number] * _LANES)


def _everywhere(builder: Any, number: Any) -> Any:
    one = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), number, _INT(0))
    return builder.shuffle_vector(one, one, _all(0))


def _load(builder: Any, base: Any, offset: Any, kind: Any) -> Any:
    place = builder.bitcast(builder.gep(base, [offset]), kind.as_pointer())
    return builder.load(place, align=2 if kind == _SHORTS else 4)


def _fetch(builder: Any, place: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [_BYTES, _INT, _INT, _INT])
    to_read, second_cache, data = _INT(0), _INT(2), _INT(1)
    builder.call(
        builder.module.declare_intrinsic("llvm.prefetch", [_BYTES], kind),
        [place, to_read, second_cache, data],
    )


def _ints(builder: Any, words: Any) -> Any:
    return builder.zext(words, _INTS) if words.type == _SHORTS else words


def _wide(builder: Any, words: Any) -> Any:
    bits = builder.shl(_ints(builder, words), _all(16)) if words.type == _SHORTS else words
    return builder.bitcast(bits, _FLOATS)


def _narrow(builder: Any, floats: Any, kind: Any) -> Any:
    """Floats as words, rounded to nearest, ties to even."""
    bits = builder.bitcast(floats, _INTS)
    if kind == _INTS:
        return bits
    high = builder.lshr(bits, _all(16))
    half = builder.add(builder.and_(high, _all(1)), _all(0x7FFF))
    rounded = builder.lshr(builder.add(bits, half), _all(16))
    missing = builder.or_(high, _all(0x40))  # NaN: rounding could carry it into infinity
    size = builder.and_(bits, _all(0x7FFFFFFF))
    found = builder.select(builder.icmp_unsigned(">", size, _all(0x7F800000)), missing, rounded)
    return builder.trunc(found, _SHORTS)
