"""docs/reliability.md names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reliability.md"


def named_tests() -> list[list[str]]:
    """The tests of every row: ``file.py::test``, ``::test`` of the same file, or a make target."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [re.findall(r"`([^`]+)`", row[-1]) for row in rows if row[-1] != "test"]


def test_every_fault_has_a_test_that_exists():
    rows = named_tests()
    assert len(rows) > 20
    missing = []
    for names in rows:
        file = ""
        for name in names:
            if name == "make soak":
                continue
            path, _, test = name.partition("::")
            file = path or file
            source = ROOT / "tests" / file
            if not source.is_file() or not re.search(rf"def {test}\(", source.read_text()):
                missing.append(name)
        if not file:
            missing.append(f"no test in {names}")
    assert not missing
