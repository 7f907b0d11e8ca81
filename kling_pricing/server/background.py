"""The work that the server does without a request: one process at a time does it, by a lease in the ledger."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from kling_pricing.server.server_state import ServerState

BACKGROUND_WORK: Sequence[Callable[[ServerState], Awaitable[None]]] = ()
"""The functions that run as long as a process of the server runs; they are cancelled when it stops."""
