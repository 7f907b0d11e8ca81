"""The API below `/api/v1`. Each module has the routes of one subject."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

from kling_pricing.server.server_state import ServerState

router = APIRouter(prefix="/api/v1")


def api_application(state: ServerState) -> FastAPI:
    """Returns the application for every path that is neither the proxy's nor the callbacks'.

    Its `state.server` is the server's state.
    """
    application = FastAPI(title="kling-pricing", docs_url=None, redoc_url=None)
    application.state.server = state
    application.include_router(router)
    return application
