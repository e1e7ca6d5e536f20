"""What a check found, and the report of all checks on one subject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from calcarine.errors import InputError

__all__ = ["Check", "CheckError", "Report", "judge"]


@dataclass(frozen=True)
class Check:
    """Outcome of one check.

    Args:
        name: What was checked.
        passed: Whether it holds.
        detail: What was found, and what to change if it does not hold.
    """

    name: str
    passed: bool
    detail: str = ""

    def __str__(self) -> str:
        return f"{'ok    ' if self.passed else 'FAILED'}  {self.name}  {self.detail}".rstrip()


@dataclass(frozen=True)
class Report:
    """Outcome of all checks on one subject."""

    subject: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that do not hold."""
        return tuple(check for check in self.checks if not check.passed)

    def raise_if_failed(self) -> Report:
        """Raise an error that lists every failure, or return the report.

        Raises:
            InputError: If a check failed.
        """
        if not self.passed:
            listed = "\n".join(f"  {check.name}: {check.detail}" for check in self.failures)
            raise InputError(f"{self.subject} fails {len(self.failures)} check(s):\n{listed}")
        return self

    def __str__(self) -> str:
        return "\n".join([self.subject, *(f"  {check}" for check in self.checks)])


class CheckError(Exception):
    """A check that does not hold; the message is its detail."""


def judge(name: str, check: Callable[[], str | None]) -> Check:
    """Carry out a check: it passes unless it raises."""
    try:
        return Check(name, True, check() or "")
    except CheckError as failure:
        return Check(name, False, str(failure))
    except Exception as error:  # a check must report whatever a stranger's stage raises
        return Check(name, False, f"raised {type(error).__name__}: {error}")
