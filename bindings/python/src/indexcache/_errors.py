# SPDX-License-Identifier: Apache-2.0
"""Statuses as exceptions: one class for each way in which a caller can react."""

from __future__ import annotations

import contextlib

from ._types import Status


class Error(Exception):
    """A call that failed. Nothing has been changed by it.

    status: the Status (a plain int when this package does not know the number).
    message: the argument, the value, and what is allowed.
    """

    def __init__(self, status: int, message: str) -> None:
        with contextlib.suppress(ValueError):  # a status of a newer library
            status = Status(status)
        super().__init__(status, message)
        self.status = status
        self.message = message

    def __str__(self) -> str:
        name = self.status.name if isinstance(self.status, Status) else str(self.status)
        return f"{name}: {self.message}"


class ArgumentError(Error, ValueError):
    """A wrong argument."""


class ArrayError(ArgumentError):
    """An array that cannot be used as it is: its device, element type, shape, strides or protection. Found before the
    library is called; copy it into one that fits."""


class ScheduleError(ArgumentError):
    """A schedule that cannot run, or whose fields disagree."""


class UnsupportedError(Error, NotImplementedError):
    """A meaningful request that this version, backend or model kind does not have."""


class StaleError(Error):
    """The indices asked for are not there: run (or import) the source layer first."""


class StateError(Error):
    """Not now: no batch is open, rows are covered twice, or a block is of another schedule or arithmetic."""


class CudaError(Error):
    """No CUDA here, or a CUDA call failed."""


class OutOfMemoryError(Error, MemoryError):
    """Memory could not be allocated."""


class InternalError(Error):
    """A defect of the library."""


_CLASSES: dict[int, type[Error]] = {
    Status.UNSUPPORTED: UnsupportedError,
    Status.MODEL_UNSUPPORTED: UnsupportedError,
    Status.SCHEDULE_CONFLICT: ScheduleError,
    Status.SCHEDULE_INVALID: ScheduleError,
    Status.OUT_OF_MEMORY: OutOfMemoryError,
}
_GROUPS = ((20, ArgumentError), (30, StaleError), (40, StateError), (60, CudaError))  # up to this number, as in C


def error_of(status: int, message: str) -> Error:
    """The exception for a status, also for one of a newer library."""
    group = next((group for end, group in _GROUPS if status < end), InternalError)
    return _CLASSES.get(status, group)(status, message)
