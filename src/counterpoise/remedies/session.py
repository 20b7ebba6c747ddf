"""A whole repair session: audit the plain model, repair it, audit it again, keep what proves it.

Comes in: a `Request`, a judge. Goes out: an `Outcome`, from which `card.py` writes. Everything lies in one
folder and is found again there: a killed session is gone on with by asking for it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar, final

from counterpoise.audit import AuditSpec, Claim, Finding, Findings, run_audit
from counterpoise.audit.arms import Ways
from counterpoise.audit.spec import Drawing
from counterpoise.audit.treatment import Treatment, join
from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.memory import free_memory, out_of_memory
from counterpoise.diffusion.precision import resolved
from counterpoise.errors import EnvironmentLackError, IncompleteError
from counterpoise.files import write_whole
from counterpoise.lora import DivergedError, Host
from counterpoise.measure.reading import Measurer
from counterpoise.remedies import table
from counterpoise.remedies.contradictions import contradictions
from counterpoise.remedies.estimate import Estimate, estimate
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.making import Made, make
from counterpoise.remedies.negative import require_guidance
from counterpoise.remedies.own import BASE_KEY, fitting
from counterpoise.remedies.questions import brief, questions_of
from counterpoise.remedies.reachable import check_reached, reachability
from counterpoise.remedies.repair import check_goal
from counterpoise.remedies.treatment import Bench
from counterpoise.world import model_folder

AUTO = ("closed-form", "distil")
Verdict = Literal["repaired", "not shown", "got worse", "nothing to repair"]
StageProgress = Callable[[str, int, int, float], None]
T = TypeVar("T")


@final
@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks for. judges: as an audit spec names them. n: pictures of each neutral prompt in each
    held-out template. own: the user's own adapters: the repair is made for the plain model and audited with
    them on, in every arm. dtype: as `Ways`'."""

    model: str
    goal: Goal
    out: Path
    judges: tuple[str, ...]
    method: str = "auto"
    own: tuple[tuple[Path, float], ...] = ()
    drawing: Drawing = field(default_factory=lambda: Drawing(guidance=2.0))
    n: int = 400
    seed: int = 9_000_000
    tolerance: float = 0.1
    dtype: str = "auto"
    fast: bool = False
    device: str = "cpu"


@final
@dataclass(frozen=True, slots=True)
class Tried:
    """One method of a session and whether the audit certifies it on every held-out prompt."""

    method: str
    made: Made
    certified: bool


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """What a session found. tried: methods in order, the last one is the repair; none where the plain model
    was certified. drawing: as it was drawn in the end, batches halved where memory lacked."""

    request: Request
    spec: AuditSpec
    findings: Findings
    tried: tuple[Tried, ...]
    verdict: Verdict
    base_sha256: str
    own: tuple[tuple[str, str, float], ...]
    drawing: Drawing
    notes: tuple[str, ...]
    estimate: Estimate | None


@dataclass(slots=True)
@final
class _Session:
    """What all steps of one session share; drawing and parts change where memory lacks."""

    request: Request
    judge: Measurer
    host: Host
    own: Treatment
    say: Callable[[str], None]
    progress: StageProgress
    drawing: Drawing
    parts: int
    base_sha256: str
    notes: list[str] = field(default_factory=list)
    estimate: Estimate | None = None

    @property
    def spec(self) -> AuditSpec:
        return _spec(self.request, self.drawing)

    @property
    def ways(self) -> Ways:
        return Ways(self.host, self.drawing, model=self.request.model, dtype=self.request.dtype)

    def bench(self, work: str) -> Bench:
        asked = self.request
        return Bench(
            self.ways.painter(),
            self.judge,
            asked.out / work,
            seed=asked.seed,
            progress=self.progress,
            fast=asked.fast,
            parts=self.parts,
        )

    def note(self, line: str) -> None:
        if line not in self.notes:
            self.notes.append(line)
            self.say(line)


def run_session(
    request: Request,
    judge: Measurer,
    *,
    say: Callable[[str], None] = lambda line: None,
    progress: StageProgress = lambda stage, step, total, loss: None,
    only_estimate: bool = False,
) -> Outcome:
    """Audits, repairs and audits again; `say` is told, line by line, what a user should know at once.

    Before anything is drawn: UsageError for a goal, method, judge or drawing that cannot be,
    RefusedInputError for an adapter that is not for this model. RefusedInputError E_UNREACHED, before any
    training, where the model cannot draw a variant. IncompleteError E_DIVERGED where training diverged (its
    last good state is kept). EnvironmentLackError E_MEMORY where not even one picture at a time fits.
    """
    goal = request.goal
    request = replace(request, dtype=resolved(request.dtype, request.device))
    contradictions(goal)
    check_goal(goal, judge)
    methods = methods_of(request.method)
    _spec(request, request.drawing)  # refused here, before seconds go into loading
    host = Host(load_pipeline(model_folder(request.model), device=request.device))
    drawing, parts = _kept_sizes(request)
    own = Treatment(tuple(fitting(host, path, strength) for path, strength in request.own))
    session = _Session(request, judge, host, own, say, progress, drawing, parts, host.fingerprint())
    for method in methods:
        if any(table.REMEDIES[name].guided for name in table.names_of(method) if name in table.REMEDIES):
            require_guidance(session.ways.painter())
    return _run(session, methods, only_estimate=only_estimate)


def _spec(request: Request, drawing: Drawing) -> AuditSpec:
    return questions_of(
        request.goal,
        judges=request.judges,
        attributes={},
        drawing=drawing,
        extent=brief(request.n, request.tolerance),
        seed=request.seed,
        name="repair",
    )


def methods_of(method: str) -> tuple[str, ...]:
    """The methods to try in order: for "auto" the quick one, then distillation; UsageError for an unknown."""
    if method != "auto":
        table.names_of(method)
        return (method,)
    return tuple(name for name in AUTO if name in table.REMEDIES)


def certified(findings: Findings, arm: str) -> bool:
    """Whether every claim about a held-out prompt is decided "fair within tolerance" for an arm."""
    held = [found for found in _held_out(findings) if found.arm == arm]
    return bool(held) and all(found.decision == "fair within tolerance" for found in held)


def verdict_of(findings: Findings, arm: str) -> Verdict:
    """repaired: certified on all held-out prompts. got worse: a held-out prompt, or one that asks for its
    variant, is off by more than the base was, beyond both intervals. Else not shown."""
    claims = {
        (claim.arm, claim.prompt, claim.attribute): claim for claim in findings.claims if claim.held_out
    }
    worse = any(
        _farther(claim, claims.get(("base", prompt, attribute)))
        for (name, prompt, attribute), claim in claims.items()
        if name == arm
    )
    rates = {(row.arm, row.prompt, row.attribute, row.value): row.rate for row in findings.reached}
    for (name, prompt, attribute, value), rate in rates.items():
        base = rates.get(("base", prompt, attribute, value))
        if name == arm and base is not None and rate.high is not None:
            worse = worse or rate.high < base.low
    if worse:
        return "got worse"
    return "repaired" if certified(findings, arm) else "not shown"


def _farther(claim: Claim, base: Claim | None) -> bool:
    return base is not None and claim.tv_low > base.tv_high


def _held_out(findings: Findings) -> Iterator[Finding]:
    yield from (found for found in findings.findings if found.kind == "claim" and found.held_out)


def _run(session: _Session, methods: Sequence[str], *, only_estimate: bool) -> Outcome:
    goal = session.request.goal
    session.estimate = _within_memory(
        session, lambda: estimate(session.bench("work"), goal, session.spec, methods)
    )
    for line in session.estimate.lines():
        session.say(line)
    if only_estimate:
        return _outcome(session, Findings((), (), (), ()), (), "not shown")
    rows = _within_memory(session, lambda: reachability(session.bench("work"), goal))
    for note in check_reached(rows):
        session.note(note)
    findings = _audited(session, {})
    if certified(findings, "base"):
        session.note("the plain model is within tolerance on all held-out prompts: nothing is to be repaired")
        return _outcome(session, findings, (), "nothing to repair")
    tried: list[Tried] = []
    for method in methods:
        made = _within_memory(session, partial(_made, session, method))
        for note in made.prepared.notes:
            session.note(f"{method}: {note}")
        treatments = {arm_name(one.method): one.made.prepared.treatment for one in tried}
        findings = _audited(session, {**treatments, arm_name(method): made.prepared.treatment})
        tried.append(Tried(method, made, certified(findings, arm_name(method))))
        if tried[-1].certified:
            break
        if method != methods[-1]:
            session.note(f"{method} is not certified on held-out prompts; {methods[len(tried)]} is tried")
    return _outcome(session, findings, tuple(tried), verdict_of(findings, arm_name(tried[-1].method)))


def _outcome(session: _Session, findings: Findings, tried: tuple[Tried, ...], verdict: Verdict) -> Outcome:
    own = tuple(
        (path.name, adapter.fingerprint(), strength)
        for (path, _), (adapter, strength) in zip(session.request.own, session.own.adapters, strict=True)
    )
    return Outcome(
        session.request,
        session.spec,
        findings,
        tried,
        verdict,
        session.base_sha256,
        own,
        session.drawing,
        tuple(session.notes),
        session.estimate,
    )


def arm_name(method: str) -> str:
    """A method as an arm is named."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in method)[:48]


def _made(session: _Session, method: str) -> Made:
    metadata = {BASE_KEY: session.base_sha256, "title": f"repair by {method}"}
    bench = session.bench(f"made/{arm_name(method)}")
    try:
        return make(method, bench, session.request.goal, metadata=metadata)
    except DivergedError as error:
        raise IncompleteError(
            f"the training of {method} diverged: {error}. The last good state is in {bench.work}; a model in "
            "whose weights or pictures a NaN is already diverges at once: draw with it first",
            code="E_DIVERGED",
            file=str(bench.work),
        ) from error


def _audited(session: _Session, treatments: Mapping[str, Treatment]) -> Findings:
    def audit() -> Findings:
        ways = session.ways
        return run_audit(
            session.spec,
            [
                ways.treated(join(session.own, treatment), name=name)
                for name, treatment in {"base": Treatment(), **treatments}.items()
            ],
            measurer=session.judge,
            folder=session.request.out / "audit",
            progress=lambda done, total, arm: session.progress(f"audit {arm}", done, total, float("nan")),
            # A batch that was halved is another one than the run was begun with; its rows say so.
            allow_env_change=session.drawing != session.request.drawing,
        )

    return _within_memory(session, audit)


def _within_memory(session: _Session, work: Callable[[], T]) -> T:
    """What `work` gives; where memory lacks, its batches are halved, said, kept, and it is done again."""
    while True:
        try:
            return work()
        except Exception as error:
            if not out_of_memory(error):
                raise
            size = session.drawing.batch_size
            if size == 1:
                raise EnvironmentLackError(
                    "out of memory with one picture at a time; close other programs, or use a smaller model",
                    code="E_MEMORY",
                ) from error
        free_memory()
        session.drawing = session.drawing.model_copy(update={"batch_size": size // 2})
        session.parts *= 2
        _keep_sizes(session)
        session.note(
            f"out of memory: batches are halved to {size // 2} pictures, training batches are cut in "
            f"{session.parts} parts; the arms say so, since float sums depend on it"
        )


def _kept_sizes(request: Request) -> tuple[Drawing, int]:
    """The drawing and parts that an interrupted session had come down to."""
    file = request.out / "memory.json"
    if not file.exists():
        return request.drawing, 1
    kept = json.loads(file.read_text("utf-8"))
    size = min(request.drawing.batch_size, int(kept["batch_size"]))
    return request.drawing.model_copy(update={"batch_size": size}), int(kept["parts"])


def _keep_sizes(session: _Session) -> None:
    kept = {"batch_size": session.drawing.batch_size, "parts": session.parts}
    write_whole(session.request.out / "memory.json", json.dumps(kept))
