"""What can go wrong with the database, each as one sentence for the user."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from robustness_core.errors import StrataError


class StoreError(StrataError):
    """The database cannot do what was asked; its text is one sentence for the user."""


class Fenced(StoreError):
    """The audit was cancelled, removed or given to another worker: this worker's results are no longer wanted."""


# What a driver says -> what a user reads. The first phrase found in the driver's text wins.
_SENTENCES = (
    ("readonly database", "The database {name} is read-only; make the file and its folder writable."),
    ("read-only transaction", "The database {name} is read-only; ask its owner for the right to write."),
    ("disk is full", "The disk that holds the database {name} is full; free some space and try again."),
    ("no space left", "The disk that holds the database {name} is full; free some space and try again."),
    ("file is not a database", "The file {name} is not a Strata database or is damaged; restore a backup."),
    ("malformed", "The database {name} is damaged; restore a backup (see docs/OPERATIONS.md)."),
    ("database is locked", "The database {name} stayed locked by another program; close that program and try again."),
    ("unable to open database", "The database {name} cannot be opened; check its folder and permissions."),
    ("password authentication", "The database server refused the user name or password of {name}."),
    ("permission denied", "The database {name} refused permission; check the rights of its user."),
)


def sentence_for(error: DBAPIError, name: str) -> str:
    """One sentence for an error of the driver; `name` is the database without its password."""
    text = str(error.orig).strip()
    for phrase, sentence in _SENTENCES:
        if phrase in text.lower():
            return sentence.format(name=name)
    first_line = text.splitlines()[0] if text else type(error.orig).__name__
    return f"The database {name} reported an error: {first_line.rstrip('.')}."
