"""Spectra and lengths: what is recorded comes back in the order asked for, once, and goes with its network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robustness_core.engine.tasks import Norms
from store import Database, StoreError, maintenance, networks, spectra
from store.database import count_rows
from testing import world


def record(db: Database, network_id: int, left: list[int], right: list[int], **changes: object) -> None:
    lengths = np.array([[100.0 * a + b for b in right] for a in left])
    norms = replace(Norms(3.0, 7.0, True, lengths), **changes)  # type: ignore[arg-type]
    spectra.record(db, network_id, "conv1.pre", norms, left, right)


def test_lengths_come_back_in_the_order_asked_for_and_unknown_ones_are_nan(db: Database) -> None:
    network = world.network(db)
    left, right = world.some_images(db, 3), world.some_images(db, 3, start=10, label=7)
    record(db, network.id, left[:2], right[:2])
    found = spectra.find(db, network.id, "conv1.pre")
    assert found is not None
    assert (found.frobenius, found.r4, found.exact) == (3.0, 7.0, True)
    asked = [left[2], left[1]], [right[1], right[2], right[0]]
    expected = [[np.nan] * 3, [100 * left[1] + right[1], np.nan, 100 * left[1] + right[0]]]
    np.testing.assert_array_equal(spectra.lengths(db, found.id, *asked), expected)
    assert spectra.find(db, network.id, "conv1") is None


def test_what_is_known_stays(db: Database) -> None:
    network = world.network(db)
    left, right = world.some_images(db, 2), world.some_images(db, 2, start=10, label=7)
    record(db, network.id, left, right)
    record(db, network.id, left, right, frobenius=9.0, lengths=np.zeros((2, 2)))
    found = spectra.find(db, network.id, "conv1.pre")
    assert found is not None
    assert found.frobenius == 3.0
    assert spectra.lengths(db, found.id, left, right).min() > 0


def test_they_go_with_their_network(db: Database) -> None:
    network, stays = world.network(db), world.network(db, "stays")
    left, right = world.some_images(db, 2), world.some_images(db, 2, start=10, label=7)
    for one in (network, stays):
        record(db, one.id, left, right)
    networks.remove(db, network.id)
    with db.read() as connection:
        rows = count_rows(connection)
    assert (rows["spectra"], rows["lengths"]) == (1, 4)
    assert maintenance.check(db) == []
    with pytest.raises(StoreError, match="was removed"):
        record(db, network.id, left, right)


@pytest.mark.parametrize("changes", [{"r4": np.inf}, {"lengths": np.full((1, 1), np.nan)}])
def test_what_is_no_number_is_refused(db: Database, changes: dict[str, object]) -> None:
    network = world.network(db)
    left, right = world.some_images(db, 1), world.some_images(db, 1, start=10, label=7)
    with pytest.raises(StoreError, match="not finite"):
        record(db, network.id, left, right, **changes)
    assert spectra.find(db, network.id, "conv1.pre") is None
