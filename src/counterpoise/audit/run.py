"""An audit, run: every arm's missing batches drawn, read and stored; killed at any moment, resumed by
calling it again, by as many processes at once as one likes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, final

from counterpoise.audit.analysis import analyse
from counterpoise.audit.check import check_spec
from counterpoise.audit.drawing import Desk, Enter, draw_missing
from counterpoise.audit.evidence import Evidence
from counterpoise.audit.folder import work_on
from counterpoise.audit.results import Findings
from counterpoise.audit.rounds import Wanted
from counterpoise.audit.spec import AuditSpec
from counterpoise.audit.stop import stop_requests
from counterpoise.audit.stopping import undecided
from counterpoise.audit.watch import time_limit
from counterpoise.diffusion.arm import Arm
from counterpoise.errors import IncompleteError, StateError
from counterpoise.measure.reading import Measurer

_here = threading.local()


class Progress(Protocol):
    """Told of pictures stored and planned over all the given arms, and of the arm being drawn."""

    def __call__(self, done: int, total: int, arm: str) -> None: ...


@final
@dataclass(frozen=True, slots=True)
class Limits:
    """What a run puts up with.

    measurer_seconds: for its answer about one batch. waiting_seconds: for other workers of the same run while
    none of them finishes a batch. failures: the share of an arm's pictures on which the measurer may break.
    """

    measurer_seconds: float = 600.0
    waiting_seconds: float = 3600.0
    failures: float = 0.1


USUAL = Limits()


def run_audit(
    spec: AuditSpec,
    arms: Sequence[tuple[Arm, Enter]],
    *,
    measurer: Measurer,
    folder: Path | str,
    progress: Progress | None = None,
    wanted: Wanted | None = None,
    allow_env_change: bool = False,
    environment: Mapping[str, object] | None = None,
    limits: Limits = USUAL,
) -> Findings:
    """Draw what each arm lacks, in order, and answer the spec from everything that the folder then holds.

    arms: each with a function that makes a context manager, entered (it may mount or fold an adapter) only
    if there is a batch of the arm for this process, and left before another arm's is entered. The drawer is
    called with exactly arm.batch_size cells; a last short batch repeats its last cell, and the surplus is
    thrown away. progress(done, total, arm) is called when an arm begins and after each batch.

    wanted: a stop rule. Asked whenever all that is planned is drawn, it says from the evidence alone how many
    pictures each (arm, prompt) should have by its next look; the run ends when that is nothing new. Without
    it, a spec whose stopping is "sequential" stops by `stopping.undecided`, and else the spec's n is drawn in
    one round. allow_env_change, environment: as `work_on`'s.

    Several processes may call this on one folder with the same arguments at once: each batch is drawn by one
    of them, and all return the same findings.

    Ctrl-C ends it after the batch in hand with KeyboardInterrupt, SIGTERM and SIGHUP with IncompleteError;
    a second signal at once. IncompleteError also when the measurer hangs, when other workers do, and, once
    all is drawn, when the measurer broke on more than limits.failures of an arm's pictures. In every case
    what is stored stays and the next call goes on from it. Other errors: those of `check_spec` and `work_on`;
    what a drawer raises passes through.
    """
    spec = check_spec(spec, measurer)
    given = [arm for arm, _ in arms]
    if wanted is None and spec.stopping == "sequential":
        wanted = partial(undecided, spec=spec, arms=[arm.name for arm in given])
    with (
        _once(Path(folder)),
        work_on(
            folder,
            spec=spec,
            arms=given,
            measurer=measurer,
            fixed=wanted is None,
            environment=environment,
            allow_env_change=allow_env_change,
        ) as writer,
        stop_requests() as stop,
        time_limit(limits.measurer_seconds) as in_time,
    ):
        evidence = writer.evidence

        def tell(arm: str) -> None:
            if progress:
                progress(*evidence.counts([arm.name for arm in given]), arm)

        desk = Desk(writer, measurer, in_time, stop, tell, limits.waiting_seconds)
        while True:
            draw_missing(desk, arms)
            rounds = writer.rounds()
            if wanted is None or not writer.plan_round(spec, given, wanted(evidence), after=rounds):
                break
        writer.seal()
        _check_failures(evidence, given, limits.failures)
        return analyse(evidence, spec)


def _check_failures(evidence: Evidence, arms: Sequence[Arm], limit: float) -> None:
    """IncompleteError for the first arm of which too many pictures have no reading since the measurer broke.

    They are no class and no zero, so the answers are sound; but they stand for the pictures that could be
    read, and what breaks a measurer is seldom chance.
    """
    for arm in arms:
        failed, reason = evidence.failures(arm.name)
        drawn, _ = evidence.counts([arm.name])
        if failed > limit * drawn:
            raise IncompleteError(
                f"the measurer broke on {failed} of {drawn} pictures of arm {arm.name} "
                f"({failed / drawn:.1%}; at most {limit:.0%} are put up with; first: {reason:.120}). All "
                "rows are kept: correct the measurer and use a new folder, or allow more failures",
                code="E_FAILURE_RATE",
                file=str(evidence.folder),
            )


@contextmanager
def _once(folder: Path) -> Iterator[None]:
    """StateError if this very thread works on the run already: it would wait for its own batch."""
    key = folder.resolve()
    working: set[Path] = _here.__dict__.setdefault("folders", set())
    if key in working:
        raise StateError(
            f"{folder} is being drawn by this very call; a drawer or measurer cannot run its own run",
            code="E_RUN_BUSY",
            file=str(folder),
        )
    working.add(key)
    try:
        yield
    finally:
        working.discard(key)
