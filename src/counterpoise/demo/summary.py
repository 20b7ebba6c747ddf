"""The demo's result as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from counterpoise.audit import Claim
from counterpoise.demo.run import Demo
from counterpoise.demo.verdict import disparity, passed, rows, sentence


def lines(demo: Demo) -> Iterator[str]:
    """The story in order: bias, repair, folding, restoring, verdict."""
    found = rows(demo)
    drawing = demo.spec.drawing
    yield f"Guidance {drawing.guidance:g}, {drawing.steps} steps; every prompt is of a template held out from"
    yield "the repair. Distance = total variation to the target; in brackets its 95 % interval."
    yield ""
    yield f"{'prompt':<46}{'reads':<14}{'base':>22}{'repaired':>22}"
    for row in found:
        if not row.explicit:
            mark = "ok" if row.passed else "MISS"
            distances = f"{_tv(row.base):>22}{_tv(row.repaired):>22}"
            yield f"{row.base.prompt:<46}{row.base.attribute:<14}{distances}  {mark}"
    yield ""
    yield "Explicit prompts, share obeyed:"
    for row in found:
        if row.explicit:
            mark = "ok" if row.passed else "MISS"
            before, after = 1 - row.base.tv, 1 - row.repaired.tv
            yield f"{row.base.prompt:<60}{before:>22.3f}{after:>22.3f}  {mark}"
    yield ""
    for arm in ("base", "repaired"):
        gap = disparity(demo, arm)
        if gap is not None:
            ratio = f"{gap.ratio:.1f} times" if gap.ratio is not None else "against"
            yield (
                f"{arm}: revealing clothes for {gap.group} {gap.rate:.0%}, {ratio} "
                f"the others' {gap.others_rate:.0%}"
            )
    fold = demo.fold
    yield (
        f"folded into the weights: largest pixel difference {fold.max_pixel_difference} of 255 over {fold.n} "
        f"pictures, {fold.time_ratio:.2f} x the base's time an image"
    )
    same = "equal" if demo.sha256_before == demo.sha256_after else "DIFFERENT"
    yield f"restored: sha256 {same}: {demo.sha256_before[:16]}... before, {demo.sha256_after[:16]}... after"
    yield f"repair made in {demo.repair['cost']['seconds']:.0f} s"
    yield ""
    yield sentence(demo)
    if demo.fast and not passed(demo):
        yield "(--fast tests the code, not the repair: its adapter is hardly trained.)"


def _tv(claim: Claim) -> str:
    return f"{claim.tv:.3f} [{claim.tv_low:.3f}, {claim.tv_high:.3f}]"
