"""Asks the public advisories (OSV) about every package of the lock; `make audit-dependencies` and CI call it.

Exit 1 for a known weakness. Where the advisories cannot be reached, as without internet, it says so and passes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
LONGEST = 25.0  # seconds


def ask(lock: Path) -> str:
    """What pip-audit says of a lock file, as JSON; an empty text where it found no answer."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--require-hashes", "--disable-pip"]
    command += ["--vulnerability-service", "osv", "--format", "json", "--progress-spinner", "off", "--timeout", "5"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False).stdout
    except subprocess.TimeoutExpired:
        return ""


def verdict(answer: str) -> tuple[str, int]:
    """The sentences for the reader and the exit status."""
    try:
        packages = json.loads(answer)["dependencies"]
    except (ValueError, KeyError):
        return "skipped: the advisories could not be reached", 0
    known = [package for package in packages if "skip_reason" not in package]
    if not known:
        return "skipped: the advisories know none of these packages", 0
    weak = [
        f"{package['name']} {package['version']}: {weakness['id']}, fixed in "
        f"{', '.join(weakness['fix_versions']) or 'no version yet'}"
        for package in known
        for weakness in package["vulns"]
    ]
    return "\n".join(weak) or f"{len(known)} packages, no known weakness", int(bool(weak))


def main() -> int:
    sentences, status = verdict(ask(PROJECT / "requirements.lock"))
    print(sentences)
    return status


if __name__ == "__main__":
    sys.exit(main())
