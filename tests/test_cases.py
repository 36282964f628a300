"""The catalogue of cases (docs/cases.md) and the table of promises name tests that exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GROUPS = {  # how many cases each group of the design has
    "A": 9, "B": 11, "C": 5, "D": 6, "E": 7, "F": 7, "G": 8, "H": 6, "I": 5, "J": 9, "K": 4, "L": 4, "M": 14, "N": 6,
    "O": 10, "P": 8, "Q": 10, "R": 7, "S": 5, "T": 15, "U": 6,
}  # fmt: skip
PROMISES = [f"P-{number}" for number in range(1, 19)]


def rows(name: str) -> Iterator[list[str]]:
    """The cells of each row of the tables in a document."""
    for line in (ROOT / "docs" / name).read_text(encoding="utf-8").splitlines():
        if re.match(r"\| (?:[A-U]\d\d|P-\d+) \|", line):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


@pytest.fixture(scope="module")
def tests() -> set[str]:
    """The names of all test functions."""
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found |= set(re.findall(r"(?m)^\s*(?:async )?def (test_\w+)", path.read_text(encoding="utf-8")))
    return found


def named(cell: str) -> list[str]:
    return re.findall(r"`(test_\w+)`", cell)


def test_every_case_of_the_design_is_there_once() -> None:
    cases = [row[0] for row in rows("cases.md")]
    assert cases == sorted(set(cases))
    assert {group: sum(case[0] == group for case in cases) for group in GROUPS} == GROUPS


def test_every_case_has_a_proof_that_exists(tests: set[str]) -> None:
    for case, _, proof in rows("cases.md"):
        assert named(proof) or proof == "pending" or re.fullmatch(r"(?:later|reason): .{5,}", proof), (case, proof)
        assert set(named(proof)) <= tests, (case, set(named(proof)) - tests)


def test_every_promise_is_there_with_tests_that_exist(tests: set[str]) -> None:
    promises = {row[0]: row for row in rows("promises.md")}
    assert list(promises) == PROMISES
    for number, _, proof, _ in promises.values():
        assert named(proof) or proof.startswith(("pending", "later: ")), number
        assert set(named(proof)) <= tests, (number, set(named(proof)) - tests)
