"""What a client's log says of a race of paths; ``dwcloud trace`` reads it."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

__all__ = ["RaceLog"]


class RaceLog:
    """Tells of each attempt when it began, and how and after how long it ended.

    :param about: what the race leads to, for one without a connect session.
    :param connect_session_id: as logs have it; None without one.
    """

    _log = Logger(namespace="dwcloud.peer.race")

    def __init__(
        self, clock: IReactorTime, about: str, connect_session_id: str | None
    ) -> None:
        self._clock = clock
        self._fields = {"connect_session_id": connect_session_id, "about": about}
        self._start = "{about}: "
        if connect_session_id is not None:
            self._start = "session {connect_session_id}: "
        self._began: dict[str, float] = {}

    def begun(self, attempt: str) -> None:
        """An attempt begins."""
        self._began[attempt] = self._clock.seconds()
        self._tell("trying {attempt}", attempt)

    def failed(self, attempt: str, reason: str) -> None:
        """An attempt came to nothing, or was not begun in time."""
        self._tell("{attempt} failed after {seconds:.3f} s: {reason}", attempt, reason)

    def verified(self, attempt: str) -> None:
        """An attempt led to the server."""
        self._tell("{attempt} verified after {seconds:.3f} s", attempt)

    def selected(self, attempt: str) -> None:
        """The race is won by an attempt."""
        self._tell("{attempt} selected", attempt)

    def _tell(self, text: str, attempt: str, reason: str = "") -> None:
        now = self._clock.seconds()
        self._log.info(
            self._start + text,
            attempt=attempt,
            seconds=now - self._began.get(attempt, now),
            reason=reason,
            **self._fields,
        )
