"""Every kind of update against a float64 oracle of LyCORIS' and PEFT's formulas, written index by index."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from counterpoise.errors import UsageError
from counterpoise.lora import Adapter
from counterpoise.lora.kinds import (
    UPDATE_CLASSES,
    UPDATE_KINDS,
    Biased,
    DoRA,
    Embedding,
    Full,
    LoHa,
    LoKr,
    LowRank,
    Tucker,
)
from counterpoise.lora.update import Update

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
LINEAR, KERNELS = (6, 4), [(3,), (3, 2), (1, 3, 2)]
SHAPES = [LINEAR, *((6, 4, *kernel) for kernel in KERNELS)]
R, ALPHA = 3, 5.0


class Maker:
    """Random tensors of one dtype, the same for the same calls."""

    def __init__(self, dtype: torch.dtype = torch.float32, seed: int = 0) -> None:
        self.dtype = dtype
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int) -> Tensor:
        return (torch.randn(shape, generator=self.generator) / 2).to(self.dtype)


def lora(m: Maker, shape):
    ones = (1,) * len(shape[2:])
    return LowRank(m(R, *shape[1:]), m(shape[0], R, *ones), ALPHA)


def tucker(m: Maker, shape):
    ones = (1,) * len(shape[2:])
    return Tucker(m(R, shape[1], *ones), m(R, R, *shape[2:]), m(shape[0], R, *ones), ALPHA)


def loha(m: Maker, shape):
    flat = math.prod(shape[1:])
    return LoHa(m(shape[0], R), m(R, flat), m(shape[0], R), m(R, flat), ALPHA).shaped(shape)


def loha_tucker(m: Maker, shape):
    pairs = [m(R, shape[0]), m(R, shape[1]), m(R, shape[0]), m(R, shape[1])]
    return LoHa(*pairs, ALPHA, t1=m(R, R, *shape[2:]), t2=m(R, R, *shape[2:]))


def lokr(m: Maker, shape, first="whole", second="whole"):
    (a, b), (c, d) = (2, shape[0] // 2), (2, shape[1] // 2)
    tensors = {"w1": m(a, c)} if first == "whole" else {"w1_a": m(a, R), "w1_b": m(R, c)}
    if second == "whole":
        tensors["w2"] = m(b, d, *shape[2:])
    elif second == "product":
        tensors |= {"w2_a": m(b, R), "w2_b": m(R, d * math.prod(shape[2:]))}
    else:
        tensors |= {"w2_a": m(R, b), "w2_b": m(R, d), "t2": m(R, R, *shape[2:])}
    return LoKr(ALPHA, **tensors).shaped(shape)


def full(m: Maker, shape):
    return Full(m(*shape), m(shape[0]))


def embedding(m: Maker, shape):
    return Embedding(m(R, shape[0]), m(shape[1], R), ALPHA)


MAKERS = {"lora": (lora, SHAPES), "tucker": (tucker, SHAPES[1:]), "loha": (loha, SHAPES)}
MAKERS |= {
    "loha tucker": (loha_tucker, SHAPES[1:]),
    "full": (full, SHAPES),
    "embedding": (embedding, [LINEAR]),
}
for w1, w2 in itertools.product(("whole", "product"), ("whole", "product", "tucker")):
    shapes = SHAPES[1:] if w2 == "tucker" else SHAPES
    MAKERS[f"lokr {w1} {w2}"] = (lambda m, s, w1=w1, w2=w2: lokr(m, s, w1, w2), shapes)
CASES = [(name, shape) for name, (_, shapes) in MAKERS.items() for shape in shapes]


def made(name, shape, dtype=torch.float32, seed=0) -> Update:
    return MAKERS[name][0](Maker(dtype, seed), shape)


def tucker_oracle(up: Tensor, core: Tensor, down: Tensor) -> Tensor:
    """out[o, n, k] = sum over i and j of up[o, i] core[i, j, k] down[j, n], by loops."""
    out = torch.zeros(up.shape[0], down.shape[1], *core.shape[2:], dtype=torch.float64)
    for o, n, i, j in itertools.product(*map(range, (up.shape[0], down.shape[1], *core.shape[:2]))):
        out[o, n] += up[o, i] * core[i, j] * down[j, n]
    return out


def oracle(update: Update, shape) -> Tensor:
    """Delta W in float64 from the file's own tensors, as LyCORIS' get_weight and PEFT's get_delta_weight."""
    t = {role: tensor.double() for role, tensor in update.tensors().items()}
    if "mid" in t:
        product = tucker_oracle(t["up"].flatten(1), t["mid"], t["down"].flatten(1))
    elif "down" in t:
        product = t["up"].flatten(1) @ t["down"].flatten(1)
    elif "embedding_A" in t:
        product = (t["embedding_B"] @ t["embedding_A"]).T
    elif "hada_t1" in t:
        a, b = (tucker_oracle(t[f"hada_w{i}_a"].T, t[f"hada_t{i}"], t[f"hada_w{i}_b"]) for i in (1, 2))
        product = a * b
    elif "hada_w1_a" in t:
        product = (t["hada_w1_a"] @ t["hada_w1_b"]) * (t["hada_w2_a"] @ t["hada_w2_b"])
    else:
        product = t["diff"] if "diff" in t else lokr_oracle(t, shape)
    unscaled = "diff" in t or {"lokr_w1", "lokr_w2"} <= set(t)
    return product.reshape(shape) * (1.0 if unscaled else ALPHA / R)


def lokr_oracle(t: dict[str, Tensor], shape) -> Tensor:
    w1 = t["lokr_w1"] if "lokr_w1" in t else t["lokr_w1_a"] @ t["lokr_w1_b"]
    if "lokr_t2" in t:
        w2 = tucker_oracle(t["lokr_w2_a"].T, t["lokr_t2"], t["lokr_w2_b"])
    else:
        w2 = t["lokr_w2"] if "lokr_w2" in t else t["lokr_w2_a"] @ t["lokr_w2_b"]
    b, rest = w2.shape[0], w2[0].numel()
    out = torch.zeros(w1.shape[0] * b, w1.shape[1] * rest, dtype=torch.float64)
    for i, j in itertools.product(range(w1.shape[0]), range(w1.shape[1])):
        out[i * b : (i + 1) * b, j * rest : (j + 1) * rest] = w1[i, j] * w2.reshape(b, rest)
    return out.reshape(shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_dense_is_the_formula(name, shape, dtype):
    update = made(name, shape, dtype)
    expected = oracle(update, shape)
    assert update.weight_shape == shape
    assert update.fault() is None
    torch.testing.assert_close(update.dense(torch.float64), expected, rtol=1e-12, atol=1e-13)
    single = update.dense()
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(update.dense(), single, rtol=0, atol=0)
    with pytest.raises(UsageError, match="float32 or float64"):
        update.dense(torch.float16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "shape"), [case for case in CASES if case[0] != "full"])
def test_low_rank_is_exact(name, shape, dtype):
    update = made(name, shape, dtype)
    found, error = update.low_rank()
    assert error == 0.0
    assert isinstance(found, LowRank)
    assert found.weight_shape == shape
    tolerance = 1e-12 if dtype in (torch.float64, torch.float32) else 1e-6
    expected = oracle(update, shape)
    torch.testing.assert_close(found.dense(torch.float64), expected, rtol=tolerance, atol=tolerance)
    if name == "loha":
        assert found.rank == R * R
    if name in ("tucker", "lora", "embedding"):
        assert found.rank == R


@pytest.mark.parametrize(("name", "shape"), CASES)
@pytest.mark.parametrize("rank", [1, 2])
def test_low_rank_of_a_rank_is_the_best_and_tells_its_error(name, shape, rank):
    update = made(name, shape, torch.float64)
    if name == "full":
        update = Full(update.weight)
    dense = oracle(update, shape)
    values = torch.linalg.svdvals(dense.flatten(1))
    found, error = update.low_rank(rank)
    assert found.rank == rank
    best = float(values[rank:].norm() / values.norm())
    assert error == pytest.approx(best, abs=1e-10)
    true = float((found.dense(torch.float64) - dense).norm() / dense.norm())
    assert true == pytest.approx(error, abs=1e-10)


def dora_oracle(base, update: DoRA, shape):
    whole = base.double() + oracle(update.inner, shape)
    length = torch.zeros_like(update.magnitude, dtype=torch.float64)
    axis = 0 if update.magnitude.shape[0] == shape[0] else 1
    for i in range(shape[axis]):
        length.select(axis, i).fill_(whole.select(axis, i).pow(2).sum().sqrt())
    return update.magnitude.double() * whole / length - base.double()


@pytest.mark.parametrize("per_output", [True, False])
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_dora_rescales_rows_or_columns(name, shape, per_output):
    m = Maker(torch.float32, 7)
    inner = made(name, shape)
    inner = Full(inner.weight) if name == "full" else inner
    lengths = (shape[0], 1) if per_output else (1, shape[1])
    update = DoRA(inner, m(*lengths, *(1 for _ in shape[2:])).abs() + 0.5)
    assert update.per_output is per_output
    base = m(*shape)
    expected = dora_oracle(base, update, shape)
    torch.testing.assert_close(update.dense(torch.float64, base=base), expected, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(update.dense(base=base).double(), expected, rtol=1e-4, atol=1e-5)
    assert (update.rank, update.scale, update.weight_shape) == (inner.rank, inner.scale, shape)
    found, error = update.low_rank(2, base=base)
    true = float((found.dense(torch.float64) - expected).norm() / expected.norm())
    assert true == pytest.approx(error, abs=1e-9)
    with pytest.raises(UsageError, match="give a rank"):
        update.low_rank()
    with pytest.raises(UsageError, match="own weight"):
        update.dense()


def test_dora_of_a_row_of_zeros_is_no_division_by_zero():
    update = DoRA(LowRank(torch.zeros(1, 3), torch.zeros(2, 1), 1), torch.ones(2, 1))
    base = torch.tensor([[0.0, 0, 0], [3, 0, 4]])
    torch.testing.assert_close(update.dense(base=base), torch.tensor([[0.0, 0, 0], [-2.4, 0, -3.2]]))


def test_biases():
    m = Maker()
    inner, bias = lora(m, LINEAR), m(6)
    scaled, plain = Biased(inner, bias), Biased(inner, bias, scaled=False)
    torch.testing.assert_close(scaled.bias_delta, bias.double() * ALPHA / R)
    torch.testing.assert_close(plain.bias_delta, bias.double())
    torch.testing.assert_close(scaled.dense(), inner.dense())
    assert inner.bias_delta is None
    torch.testing.assert_close(Full(m(6, 4), bias).bias_delta, bias.double())
    assert scaled != plain
    for call in (scaled.low_rank, lambda: scaled.low_rank(1), Full(m(6, 4), bias).low_rank):
        with pytest.raises(UsageError) as caught:
            call()
        assert caught.value.code == "E_INEXACT"


def test_a_norms_full_difference():
    update = Full(torch.ones(4), torch.ones(4))
    assert (update.weight_shape, update.rank, update.scale) == ((4,), 1, 1.0)


def test_lokr_alpha_has_no_effect_when_both_factors_are_whole():
    t = {"w1": torch.ones(2, 2), "w2": torch.ones(3, 2)}
    assert torch.equal(LoKr(1e10, **t).dense(), LoKr(1.0, **t).dense())
    assert LoKr(1e10, **t).scale == 1.0
    assert LoKr(1e10, **t) != LoKr(1.0, **t)  # but the number is kept


def test_kernels_that_files_leave_open():
    m = Maker()
    flat = LoHa(m(6, R), m(R, 24), m(6, R), m(R, 24), ALPHA)
    assert flat.weight_shape == (6, 24)
    assert flat.shaped((6, 24)) is flat
    assert flat.shaped((6, 4, 3, 2)).weight_shape == (6, 4, 3, 2)
    assert flat.shaped((6, 12, 2)).weight_shape == (6, 12, 2)
    assert flat.shaped((6, 5, 5)) is flat  # does not fit: whoever checks shapes says so
    magnitude = torch.ones(1, 4, 1, 1)
    shaped = DoRA(flat, magnitude).shaped((6, 4, 3, 2))
    assert shaped.weight_shape == (6, 4, 3, 2)
    assert not shaped.per_output
    assert Biased(flat, m(6)).shaped((6, 4, 6)).weight_shape == (6, 4, 6)


@pytest.mark.parametrize("row", UPDATE_KINDS)
def test_every_row_of_the_table(row):
    """The contract: made from its roles, sound, equal to itself alone, refused when damaged."""
    shape = (6, 4, 3, 2)
    name = {"lokr": "lokr product tucker", "embedding": "embedding"}.get(row, row)
    shape = LINEAR if row == "embedding" else shape
    update, other = made(name, shape), made(name, shape, seed=1)
    kind = UPDATE_KINDS[row]
    tensors = update.tensors()
    assert kind.needs <= tensors.keys() <= kind.needs | kind.may
    assert type(update) is kind.cls
    assert type(update) in UPDATE_CLASSES
    again = kind.make(tensors, ALPHA).shaped(shape)
    assert again == update
    assert update != other
    assert update != 3
    assert kind.source
    assert Adapter({"a": update}) == Adapter({"a": again})
    assert Adapter({"a": update}).fingerprint() == Adapter({"a": again}).fingerprint()
    assert Adapter({"a": update}).fingerprint() != Adapter({"a": other}).fingerprint()
    for role, tensor in tensors.items():
        for value, code in ((math.nan, "E_NONFINITE"), (math.inf, "E_NONFINITE")):
            bad = tensor.clone()
            bad.flatten()[0] = value
            with pytest.raises(UsageError) as caught:
                kind.make(tensors | {role: bad}, ALPHA)
            assert caught.value.code == code
        with pytest.raises(UsageError) as caught:
            kind.make(tensors | {role: tensor.int()}, ALPHA)
        assert caught.value.code == "E_DTYPE"
        with pytest.raises(UsageError) as caught:
            kind.make(tensors | {role: tensor.new_ones(1, 2, 3, 4, 5, 6)}, ALPHA)
        assert caught.value.code == "E_SHAPE"
        if tensor.dim() > 1:
            with pytest.raises(UsageError) as caught:
                kind.make(tensors | {role: tensor.new_ones(0, *tensor.shape[1:])}, ALPHA)
            assert caught.value.code in {"E_RANK", "E_SHAPE"}
    if kind.cls is not Full:
        with pytest.raises(UsageError):
            kind.make(tensors, math.nan)


@pytest.mark.parametrize("rank", [0, -1, 1.5, True])
def test_ranks_that_are_none(rank):
    with pytest.raises(UsageError) as caught:
        Full(torch.ones(2, 3)).low_rank(rank)
    assert caught.value.code == "E_RANK"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: DoRA(lora(Maker(), LINEAR), torch.ones(6)), "E_SHAPE"),
        (lambda: DoRA(lora(Maker(), LINEAR), torch.ones(5, 1)), "E_SHAPE"),
        (lambda: DoRA(lora(Maker(), LINEAR), torch.full((6, 1), math.nan)), "E_NONFINITE"),
        (lambda: DoRA(lora(Maker(), LINEAR), torch.ones(6, 1).int()), "E_DTYPE"),
        (lambda: DoRA(DoRA(lora(Maker(), LINEAR), torch.ones(6, 1)), torch.ones(6, 1)), "E_UNSUPPORTED"),
        (lambda: DoRA(full(Maker(), LINEAR), torch.ones(6, 1)), "E_UNSUPPORTED"),
        (lambda: Biased(full(Maker(), LINEAR), torch.ones(6)), "E_UNSUPPORTED"),
        (lambda: Biased(lora(Maker(), LINEAR), torch.ones(5)), "E_SHAPE"),
        (lambda: Biased(lora(Maker(), LINEAR), torch.full((6,), math.inf)), "E_NONFINITE"),
        (lambda: LoKr(1.0, w1=torch.ones(2, 2)), "E_INCOMPLETE_PAIR"),
        (lambda: LoKr(1.0, w1=torch.ones(2, 2), w2=torch.ones(2, 2), w2_a=torch.ones(2, 2)), "E_INCOMPLETE_PAIR"),
        (lambda: Full(torch.ones(3, 2), torch.ones(2)), "E_SHAPE"),
    ],
)  # fmt: skip
def test_what_is_no_update(make, code):
    with pytest.raises(UsageError) as caught:
        make()
    assert caught.value.code == code
