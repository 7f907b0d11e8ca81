"""The kinds of problems that the API knows."""

from __future__ import annotations

from fastapi import APIRouter

from kling_pricing.server.api.dependencies import API_PREFIX, route_name
from kling_pricing.server.api.exact_fields import View
from kling_pricing.server.problem_documents import problem_types, problem_uri, problems

router = APIRouter(
    prefix=API_PREFIX, tags=["problems"], responses=problems(400, 500), generate_unique_id_function=route_name
)
"""Routes that need no access key."""


class ProblemTypeView(View):
    """One kind of problem."""

    code: str
    type: str
    status: int
    title: str


class ProblemTypeList(View):
    """Every kind of problem of this API."""

    problems: list[ProblemTypeView]


@router.get("/problems", summary="List the kinds of problems")
def list_problems() -> ProblemTypeList:
    """Returns every kind of problem with its code and its status. Needs no access key."""
    return ProblemTypeList(
        problems=[
            ProblemTypeView(code=code, type=problem_uri(code), status=kind.status, title=kind.title)
            for code, kind in problem_types().items()
        ]
    )
