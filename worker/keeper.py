"""Signs of life while blocks run: the worker's heartbeat and the leases of its audits, from a thread of their own."""

from __future__ import annotations

import logging
import threading

from store import Database, StoreError, audits, workers
from store.records import AuditRecord

log = logging.getLogger("worker")


class Keeper:
    """Beats and renews every `every` seconds; tells which audits were taken away and whether to stop.

    A database that cannot be reached for a while is no reason to stop: the fence decides what still counts.
    """

    def __init__(self, db: Database, worker_id: int, *, lease_seconds: float, every: float):
        self._db = db
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds
        self._every = every
        self._held: dict[int, AuditRecord] = {}
        self._lost: set[int] = set()
        self._lock = threading.Lock()
        self._end = threading.Event()
        self.stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()

    def hold(self, audit: AuditRecord) -> None:
        with self._lock:
            self._held[audit.id] = audit
            self._lost.discard(audit.id)

    def let_go(self, audit: AuditRecord) -> None:
        with self._lock:
            self._held.pop(audit.id, None)

    def lost(self, audit: AuditRecord) -> bool:
        """Whether the audit was cancelled, removed or given to another worker."""
        return audit.id in self._lost

    def beat(self) -> None:
        """One round of signs of life."""
        if workers.beat(self._db, self._worker_id) != "running":
            self.stop.set()
        with self._lock:
            held = list(self._held.values())
        for audit in held:
            if not audits.renew(self._db, audit, lease_seconds=self._lease_seconds):
                self._lost.add(audit.id)

    def _run(self) -> None:
        while not self._end.wait(self._every):
            try:
                self.beat()
            except StoreError as error:
                log.warning("no sign of life: %s", error)
