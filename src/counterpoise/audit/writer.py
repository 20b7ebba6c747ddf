"""Evidence in the making: what a worker of an open run can do. Made by `folder.work_on`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from sqlite3 import Connection
from typing import final

from counterpoise.audit import database, store
from counterpoise.audit.environment import write_environments
from counterpoise.audit.evidence import Drawn, Evidence, Planned
from counterpoise.audit.identity import check_same_environment
from counterpoise.audit.lease import Worker
from counterpoise.audit.pictures import picture_file
from counterpoise.audit.rounds import plan_wanted
from counterpoise.audit.spec import AuditSpec
from counterpoise.diffusion.arm import Arm


@final
@dataclass(frozen=True, slots=True)
class Writer:
    """evidence: the same run, to read. environment: this process's, as canonical JSON.

    kept: the batches that this worker has stored.
    """

    evidence: Evidence
    connection: Connection
    worker: Worker
    environment: str
    env_may_change: bool
    kept: list[int] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.evidence.folder

    def keep(self, batch: int, planned: Sequence[Planned], drawn: Sequence[Drawn]) -> None:
        """Store a batch that was claimed, for good."""
        store.store_batch(
            self.connection,
            planned,
            drawn,
            held=(self.folder, self.worker, batch),
            environment=self.environment_id(),
        )
        self.kept.append(batch)

    def finished(self, arms: Sequence[str]) -> bool:
        """Whether all that is planned of these arms is drawn."""
        return not any(self.evidence.missing(arm) for arm in arms)

    def plan_round(
        self, spec: AuditSpec, arms: Sequence[Arm], wanted: Mapping[tuple[str, str], int], *, after: int
    ) -> bool:
        """Plan a round in which the (arm, prompt)s reach these counts; whether there is anything to draw.

        after: the rounds there were when `wanted` was asked. If another process has planned since, its round
        stands and this call plans nothing.
        """
        with database.store_errors(self.folder), database.transaction(self.connection):
            if self.rounds() != after:
                return True
            if not plan_wanted(self.connection, spec, arms, wanted):
                return False
            self.admit()
        write_environments(self.folder, self.evidence.environments)
        return True

    def rounds(self) -> int:
        """How many rounds have been planned."""
        return int(self.connection.execute("SELECT count(*) FROM round").fetchone()[0])

    def seal(self) -> None:
        """Store the root if everything is drawn."""
        with database.store_errors(self.folder), database.transaction(self.connection):
            store.seal(self.connection)

    def admit(self) -> None:
        """Register this environment; UsageError if none like it drew before. In a transaction."""
        rows = self.connection.execute("SELECT description FROM environment ORDER BY id")
        known = [row[0] for row in rows]
        if not self.env_may_change:
            check_same_environment(known, self.environment, self.folder)
        if self.environment not in known:
            self.connection.execute("INSERT INTO environment(description) VALUES (?)", (self.environment,))

    def environment_id(self) -> int:
        """The row of this environment; it has been admitted."""
        row = self.connection.execute(
            "SELECT id FROM environment WHERE description = ?", (self.environment,)
        ).fetchone()
        return int(row[0])

    def longest_file(self) -> str:
        """The planned picture whose name is longest, relative to the folder; "" if nothing is planned."""
        rows = self.connection.execute(
            "SELECT arm.id, arm.name, prompt.id, prompt.text, max(seed) FROM cell"
            " JOIN arm ON arm.id = cell.arm JOIN prompt ON prompt.id = cell.prompt GROUP BY 1, 3"
        )
        files = [picture_file((a, arm), (p, text), seed) for a, arm, p, text, seed in rows]
        return max(files, key=len, default="")
