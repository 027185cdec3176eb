"""The worker's loop: claim the most urgent audit, work on it, look for the next."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from robustness_core.engine.audit import ExecutorError, Stopped
from robustness_core.errors import StrataError
from store import Database, Fenced, StoreError, audits, networks, supervisor, workers
from store.records import AuditRecord, WorkerRecord
from worker.executors import Executor
from worker.keeper import Keeper
from worker.running import AuditRun, Settings

log = logging.getLogger("worker")
_LONGEST_PAUSE = 30.0


class Worker:
    """One worker on one database. `stop()` may be called from a signal handler or another thread."""

    def __init__(self, db: Database, executor: Executor, record: WorkerRecord, settings: Settings):
        self._db = db
        self._executor = executor
        self._record = record
        self._settings = settings
        self._keeper = Keeper(db, record.id, lease_seconds=settings.lease_seconds, every=settings.lease_seconds / 6)
        self._asked = 0.0

    def stop(self) -> None:
        self._keeper.stop.set()

    def run(self, *, first: Callable[[], object] = lambda: None, wanted: Callable[[], bool] = lambda: True) -> None:
        """Work until asked to stop, or until nothing is queued and `wanted` says no. Raises ExecutorError if nothing
        computes. `first` is done before any audit, while signs of life are given already.

        While the database cannot be used the worker waits, ever longer up to half a minute, and tries again.
        """
        self._keeper.start()
        if count := supervisor.bury(self._db, but=self._record.id):
            log.info("%d audits of killed workers go back into the queue", count)
        networks.remove_old(self._db)
        pause = self._settings.poll_seconds
        try:
            first()
            while not self._keeper.stop.is_set():
                try:
                    worked = self.serve()
                    pause = self._settings.poll_seconds
                except StoreError as error:
                    log.error("%s Trying again in %.0f s.", error, pause)
                    pause = min(max(1.0, 2 * pause), _LONGEST_PAUSE)
                    worked = False
                if not worked:
                    if not wanted():
                        return
                    self._executor.warm()
                    self._keeper.stop.wait(pause)
        finally:
            self._keeper.close()

    def serve(self, above_priority: int | None = None) -> bool:
        """Claim one audit and work on it to its end; False if there was none to claim."""
        audit = audits.claim(
            self._db, self._record.id, lease_seconds=self._settings.lease_seconds, above_priority=above_priority
        )
        if audit is None:
            return False
        log.info("audit=%d attempt=%d kind=%s begins", audit.id, audit.attempt, audit.kind)
        start = time.monotonic()
        self._keeper.hold(audit)
        try:
            self._work(audit)
        except Fenced:
            log.info("audit=%d was cancelled or taken", audit.id)
        except Stopped:
            audits.release(self._db, audit)
            log.info("audit=%d goes back into the queue", audit.id)
        finally:
            self._keeper.let_go(audit)
        log.info("audit=%d attempt=%d ends after %.1f s", audit.id, audit.attempt, time.monotonic() - start)
        return True

    def _work(self, audit: AuditRecord) -> None:
        try:
            AuditRun(self._db, audit, self._executor, self._keeper, self._settings, self._serve_urgent).run()
        except (StoreError, Stopped):
            raise
        except ExecutorError:
            audits.release(self._db, audit)
            raise
        except StrataError as error:
            log.error("audit=%d failed: %s", audit.id, error)
            audits.fail(self._db, audit, str(error))
            return
        except Exception as error:
            log.exception("audit=%d failed", audit.id)
            audits.fail(self._db, audit, f"The worker met an unexpected error ({type(error).__name__}); see its log.")
            return
        audits.finish(self._db, audit)

    def _serve_urgent(self, priority: int) -> None:
        """Between two blocks: work on anything more urgent first."""
        now = time.monotonic()
        if now - self._asked < self._settings.poll_seconds:
            return
        self._asked = now
        while not self._keeper.stop.is_set() and self.serve(above_priority=priority):
            pass


def register(db: Database, executor: Executor, *, log_path: str = "") -> tuple[WorkerRecord, int]:
    """Enter this worker into the database; also the device's batch. Raises StrataError."""
    description = executor.describe()
    return workers.register(db, description.device, description.versions, log_path=log_path), description.batch
