"""Single instructions of a processor that Python has no words for, as numba inlines them into loops.

numba's cache of a loop does not notice a change here: after one, touch the file of the loops.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LINE = 64  # bytes that a processor fetches at once


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
    """Begin to read element `at` (uint64, within the array) into the second cache; changes nothing."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        own = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        place = builder.bitcast(builder.gep(own.data, [arguments[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        fetching = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        to_read, second_cache, data = number(0), number(2), number(1)
        builder.call(fetching, [place, to_read, second_cache, data])
        return context.get_dummy_value()

    return types.void(array, types.uint64), generate
