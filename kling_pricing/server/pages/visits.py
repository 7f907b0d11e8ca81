"""What a page gets and what it returns: a visit, and content or the place to go next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from kling_pricing.ledger.access_keys import Role
from kling_pricing.server.access import Caller
from kling_pricing.server.pages.form_fields import Form
from kling_pricing.server.pages.sign_ins import SignedIn
from kling_pricing.server.problem_documents import ProblemDocument
from kling_pricing.server.server_state import ServerState


@dataclass(frozen=True)
class Visit:
    """One request of a signed-in person for a page.

    Attributes:
        server: the state of the server.
        person: the person, with the token that every form must send back.
        request: the request, for pages that read its body themselves.
        path: the parameters of the path.
        query: the parameters of the URL.
        form: the fields of the form; empty if the request has none.
        problem: the reason why the form was refused, which the page shows beside the form.
    """

    server: ServerState
    person: SignedIn
    request: Request
    path: Mapping[str, str]
    query: Form
    form: Form = field(default_factory=Form)
    problem: ProblemDocument | None = None

    @property
    def caller(self) -> Caller:
        """The access key with which the person signed in, and its rights."""
        return self.person.caller

    def typed(self, which: str, name: str) -> str:
        """Returns what the person typed into a field of a form that was refused.

        Args:
            which: the value of the form's hidden field `which`, because a page may have several forms.
            name: the name of the field.
        """
        return self.form.text(name) if self.form["which"] == which else ""

    def may(self, role: Role, *, all_projects: bool = False) -> bool:
        """Returns whether the person may do what a role may do."""
        return self.caller.may(role) and not (all_projects and self.caller.project is not None)


class Content(NamedTuple):
    """The content of a page.

    Attributes:
        template: the name of the template, without `.html.j2`.
        facts: the variables of the template.
        status: the HTTP status.
        cookies: further `Set-Cookie` headers.
    """

    template: str
    facts: Mapping[str, Any]
    status: int = 200
    cookies: tuple[str, ...] = ()


class SeeOther(NamedTuple):
    """The place to which a browser goes after a form.

    Attributes:
        path: a path on this server.
        done: the name of the sentence to show there, see `notices`; None: no sentence.
        cookies: further `Set-Cookie` headers.
    """

    path: str
    done: str | None = None
    cookies: tuple[str, ...] = ()

    @property
    def location(self) -> str:
        """The path, with the name of the sentence."""
        if self.done is None:
            return self.path
        return f"{self.path}{'&' if '?' in self.path else '?'}{urlencode({'done': self.done})}"


Answer: TypeAlias = Content | SeeOther | Response
Handler: TypeAlias = Callable[[Visit], Answer | Awaitable[Answer]]
"""Answers a visit. It runs in a thread, so it may use the ledger; a coroutine that it returns does not."""


class PageRoute(NamedTuple):
    """One path and method of a page.

    Attributes:
        method: `GET` or `POST`. A POST needs the token of the session, see `reads_form`.
        path: the path; parameters are in braces.
        handler: answers a visit.
        role: the weakest role that may use it.
        all_projects: whether it needs an access key of all projects.
        back: of a POST: shows the page again, with the problem and the typed values.
        reads_form: whether the body is read as a form, and its token checked. If not, the handler reads the
            body itself, from `Visit.request`, and must call `Visit.person.require_token` before it acts.
    """

    method: str
    path: str
    handler: Handler
    role: Role = "view"
    all_projects: bool = False
    back: Callable[[Visit], Answer] | None = None
    reads_form: bool = True


class Page(NamedTuple):
    """One page, or several about one subject, with their place in the navigation.

    Attributes:
        title: its name in the navigation.
        path: the path to which the navigation leads; None: it is not in the navigation.
        routes: its paths.
        role: the weakest role that sees it in the navigation.
        all_projects: whether only access keys of all projects see it there.
    """

    title: str
    path: str | None
    routes: tuple[PageRoute, ...]
    role: Role = "view"
    all_projects: bool = False
