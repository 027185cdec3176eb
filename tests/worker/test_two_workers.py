"""Two workers on one database, SQLite or PostgreSQL: every audit is worked once, no pair is lost or doubled."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from store import audits, connect
from testing import fakes
from testing.fakes import Inline, expected, matrix, series
from testing.world import audit, network


def work(url: str) -> int:
    own = connect(url)
    inline = Inline()
    fakes.worker(own, inline).run(wanted=lambda: False)
    own.close()
    return inline.pairs


def test_they_share_the_queue_and_what_is_known(url: str) -> None:
    shared = connect(url)
    network(shared)
    specs = [audit(samples=samples, seed=seed) for seed in (0, 1) for samples in (3, 5, 7, 9, 11, 13)]
    asked = [audits.submit(shared, spec) for spec in specs]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        pairs = list(pool.map(work, [url, url]))
    over = [audits.get(shared, one.id) for one in asked]
    assert [(one.state, one.attempt, one.done) for one in over] == [("done", 1, one.total) for one in over]
    assert min(pairs) > 0
    for spec in specs:
        for one in series(shared, spec):
            np.testing.assert_array_equal(matrix(shared, spec, one).distance, expected(spec, one.layer))
    shared.close()
