"""What is asked and what is known, in one database. Open it with `connect`, then use the modules of this package."""

from store.database import Database, connect
from store.errors import Fenced, StoreError

__all__ = ["Database", "Fenced", "StoreError", "connect"]
