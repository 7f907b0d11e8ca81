"""The settings of the server: from a YAML file, from the environment, and from the command line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from kling_pricing.display import did_you_mean
from kling_pricing.errors import SettingsError, TableError
from kling_pricing.strict_yaml import FileModel, Name, Text, UrlPath, YamlDocument, checked, load

VARIABLE_PREFIX = "KLING_PRICING_SERVER_"
"""The beginning of the names of all environment variables with settings."""

_NESTED = "__"
_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,99}|file:[^\x00-\x1f\x7f]{1,500}")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?")


def _reference(value: Any) -> str:
    if isinstance(value, str) and _REFERENCE.fullmatch(value):
        return value
    raise ValueError(  # the message does not repeat the value, which may be the secret itself
        "must be env:NAME or file:PATH, the environment variable or the file that contains the secret; store "
        "the secret there, and never write it into this file"
    )


def _base_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        port_is_valid = False
    if not port_is_valid or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an http or https URL such as https://api.example.com")
    if parts.username is not None or parts.query or parts.fragment or "\\" in value:
        raise ValueError("must not contain a user, query or fragment; give the secret as `credential`")
    return value.rstrip("/")


def _header(value: str) -> str:
    if not _HEADER.fullmatch(value):
        raise ValueError("must be the name of a header, such as X-API-Key")
    return value


def _host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError("must be a host in lower case, such as hooks.example.com, or *.example.com")
    return value


def _network(value: str) -> str:
    try:
        return str(ip_network(value))
    except ValueError:
        raise ValueError("must be an IP address, or a network such as 10.1.0.0/16 or fd00::/8") from None


SecretReference = Annotated[str, BeforeValidator(_reference)]
"""The place of a secret: `env:NAME` or `file:PATH`."""

BaseUrl = Annotated[Text, AfterValidator(_base_url)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
SessionSeconds = Annotated[int, Field(ge=60, le=31 * 86_400)]
MemorySize = Annotated[str, Field(pattern="^[1-9][0-9]{0,5} ?(MB|GB|MiB|GiB)$", examples=["1GB"])]


class UpstreamSettings(FileModel):
    """One account at a provider, to which the server passes requests on."""

    provider: Name | None = None
    """The provider that bills, as the price tables name it. Default: the name of the upstream."""
    url: BaseUrl
    """The base URL of the provider's API."""
    credential: SecretReference | None = None
    """The place of the provider's API key. Default: the server sends no credential."""
    header: Annotated[Text, AfterValidator(_header)] = "Authorization"
    """The header in which the provider takes its key."""
    scheme: Text | None = "Bearer"
    """The word before the key in this header; null: the header has the key alone."""
    connect_timeout_s: Seconds = 10
    """The seconds to wait for a connection."""
    submit_timeout_s: Seconds = 120
    """The seconds to wait for the response to a submission. After that, the job is in doubt."""
    read_timeout_s: Seconds = 300
    """The seconds to wait for the next bytes of any other response."""
    keeps_keys: bool = False
    """Whether this API honours idempotency keys although the price tables do not list its host."""
    send_reservation_id: bool = False
    """Whether to send the reservation's id as the caller's own id of the task, where the API takes one."""
    trust_media: bool = False
    """Whether callers may state facts about files, such as lengths of videos, that lower the price of a job."""
    allow_paths: list[UrlPath] = []
    """Paths at and below which requests pass without a price although the API bills for jobs there."""
    open_paths: list[UrlPath] = []
    """Paths, besides those of their own tasks, that callers with a key for one project may use."""
    webhook_secret: SecretReference | None = None
    """The place of the secret with which the provider signs callbacks. Default: callbacks are not signed."""
    callbacks: Literal["leave", "relay"] = "leave"
    """Whether a caller's URL for callbacks stays as it is, or the server relays the callbacks to it."""


class ServerLimits(FileModel):
    """Limits that protect the server from callers."""

    submission_mb: int = Field(128, ge=1, le=4096)
    """The largest body of a submission, in MiB. The server holds it in memory."""
    submissions_in_memory_mb: int = Field(1024, ge=1, le=65_536)
    """The largest sum of the bodies of the submissions in progress, in MiB."""
    upload_mb: int = Field(512, ge=1, le=65_536)
    """The largest body of any other request, in MiB. The server passes it on in parts."""
    answer_mb: int = Field(32, ge=1, le=4096)
    """The largest response that the server reads, such as a list of tasks, in MiB. Videos are not read."""
    connections: int = Field(4096, ge=1, le=1_000_000)
    """The largest number of open connections of callers. Further connections are closed at once."""
    header_timeout_s: Seconds = 20
    """The seconds in which a caller must send the headers of a request."""
    body_timeout_s: Seconds = 60
    """The seconds in which a caller must send the next part of a body, and read the next part of a response."""
    callbacks_per_s: int = Field(100, ge=1, le=100_000)
    """The largest number of callbacks per second that anybody may send, for each upstream."""
    callback_timeout_s: Seconds = 5
    """The seconds in which a caller's server must accept a relayed callback."""
    live_streams: int = Field(64, ge=0, le=4096)
    """The largest number of open pages that a process updates live."""
    live_streams_per_key: int = Field(16, ge=0, le=4096)
    """The largest number of these pages that are signed in with the same access key."""
    statement_mb: int = Field(256, ge=1, le=65_536)
    """The largest upload of statements, in MiB. The server writes it to disk in parts."""


class ServerSettings(FileModel):
    """All settings of the server."""

    ledger: Text = "sqlite:///kling-pricing.db"
    """The ledger's URL. The variable KLING_PRICING_LEDGER and the option --ledger replace it."""
    host: Text = "127.0.0.1"
    """The address on which to listen. Any other than a loopback address needs `behind_proxy` or TLS files."""
    port: int = Field(8080, ge=0, le=65_535)
    """The port on which to listen; 0 chooses a free port."""
    behind_proxy: bool = False
    """Whether a proxy in front of the server terminates TLS."""
    tls_cert: Text | None = None
    """The file with the TLS certificate and its chain."""
    tls_key: Text | None = None
    """The file with the private key of the certificate."""
    workers: int = Field(1, ge=1, le=64)
    """The number of processes that answer requests."""
    stop_timeout_s: Seconds = 150
    """The seconds that a stopping server waits for the responses to submissions that it has sent."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important messages to log. The log has one JSON object per line, on standard error."""
    ask_after_s: Seconds = 10
    """The seconds after which the server first asks an upstream about a job; it then asks less often."""
    lease_s: int = Field(60, ge=1, le=3600)
    """The seconds after which another process takes over the background work of one that died."""
    session_idle_s: SessionSeconds = 3600
    """The seconds without use after which a person must sign in again."""
    session_lasts_s: SessionSeconds = 43_200
    """The seconds after which a person must sign in again in any case."""
    trust_header: Annotated[Text, AfterValidator(_header)] | None = None
    """The header in which a proxy in front names the access key of a person who signed in there."""
    trusted_proxies: list[Annotated[Text, AfterValidator(_network)]] = []
    """The addresses of the proxies whose `trust_header` and `X-Forwarded-For` the pages believe."""
    work_folder: Text | None = None
    """The folder for uploaded statements and their reports. Default: a folder beside the ledger."""
    work_kept_s: SessionSeconds = 604_800
    """The seconds for which an uploaded statement and its reports are kept."""
    reconcile_timeout_s: Seconds = 3600
    """The seconds after which a reconciliation is ended."""
    reconcile_memory: MemorySize = "1GB"
    """The memory that the database of a reconciliation may use. Other data is stored on disk."""
    upstreams: dict[Name, UpstreamSettings] = {}
    """Name of an account -> the account."""
    public_url: BaseUrl | None = None
    """The URL at which providers reach this server. Needed to relay callbacks."""
    callback_key: SecretReference | None = None
    """The place of the key that seals callers' URLs for callbacks; the same for all servers of a ledger."""
    callback_old_keys: list[SecretReference] = []
    """The places of earlier keys, which still open URLs that were sealed with them."""
    callback_hosts: list[Annotated[Text, AfterValidator(_host)]] = []
    """The hosts to which callbacks may be relayed; `*.example.com` stands for all hosts below a domain."""
    callback_networks: list[Annotated[Text, AfterValidator(_network)]] = []
    """Networks that are not public but to which callbacks may be relayed, such as 10.1.0.0/16."""
    limits: ServerLimits = ServerLimits()
    """Limits that protect the server from callers."""

    @model_validator(mode="after")
    def _may_listen(self) -> ServerSettings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("`tls_cert` and `tls_key` belong together; give both files, or neither")
        if not (is_loopback(self.host) or self.behind_proxy or self.tls_cert):
            raise ValueError(
                f"`host: {self.host}` would accept access keys without encryption; give `tls_cert` and "
                "`tls_key`, or set `behind_proxy` if a proxy in front of the server terminates TLS"
            )
        if self.trust_header is not None and not (self.behind_proxy and self.trusted_proxies):
            raise ValueError(
                "`trust_header` needs `behind_proxy` and `trusted_proxies`, because otherwise anybody could "
                "send the header; list the addresses of the proxies in `trusted_proxies`"
            )
        return self

    @model_validator(mode="after")
    def _may_relay(self) -> ServerSettings:
        relaying = [name for name, upstream in self.upstreams.items() if upstream.callbacks == "relay"]
        needed = ("public_url", "callback_key", "callback_hosts")
        if relaying and (missing := [name for name in needed if not getattr(self, name)]):
            raise ValueError(
                f"the upstream {relaying[0]} has `callbacks: relay`, which needs {', '.join(needed)}; set "
                f"{' and '.join(missing)}"
            )
        if self.callback_old_keys and self.callback_key is None:
            raise ValueError("`callback_old_keys` needs a `callback_key`; set it to the newest key")
        return self

    @property
    def is_encrypted(self) -> bool:
        """Whether callers' connections are encrypted, by this server or by a proxy in front of it."""
        return self.behind_proxy or self.tls_cert is not None


def is_loopback(host: str) -> bool:
    """Returns whether only programs on this machine can reach an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load_settings(
    path: str | Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> ServerSettings:
    """Reads the settings. The environment replaces those of the file, and `overrides` replace both.

    A variable has the name of its setting in capitals after `KLING_PRICING_SERVER_`, such as
    `KLING_PRICING_SERVER_PORT`. Two underscores lead into a map: `KLING_PRICING_SERVER_LIMITS__UPLOAD_MB`, or
    `KLING_PRICING_SERVER_UPSTREAMS__STUDIO_A__URL` for the upstream `studio-a`. Its value is YAML.

    Args:
        path: the YAML file; None: there is none.
        environment: the environment variables; None: those of this process.
        overrides: the top-level settings of the command line.

    Raises:
        SettingsError: the file cannot be read, or a setting is invalid; the error names the place and the key.
    """
    try:
        document = _document(path)
        variables = os.environ if environment is None else environment
        tree = deepcopy(document.tree) or {}
        for name in sorted(variables):
            if name.startswith(VARIABLE_PREFIX):
                _put(tree, name, variables[name])
        given = {name: value for name, value in (overrides or {}).items() if value is not None}
        if isinstance(tree, dict):
            tree |= given
        return checked(YamlDocument(document.name, tree, document.lines), ServerSettings)
    except TableError as error:
        raise SettingsError(error.problem, file=error.file, line=error.line, key_path=error.key_path) from None


def settings_schema() -> dict[str, Any]:
    """Returns the JSON Schema of the file with the settings."""
    return ServerSettings.model_json_schema()


def _document(path: str | Path | None) -> YamlDocument:
    if path is None:
        return YamlDocument("the settings", {}, {(): 1})
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}", file=str(path)) from None
    return load(data, name=str(path))


def _put(tree: Any, variable: str, text: str) -> None:
    """Puts the value of an environment variable into the tree of the settings."""
    path = [part.lower() for part in variable.removeprefix(VARIABLE_PREFIX).split(_NESTED)]
    if path[0] not in ServerSettings.model_fields:
        remedy = did_you_mean(path[0], [*ServerSettings.model_fields])
        raise SettingsError(f"no setting has this name; {remedy}", file=variable)
    node = tree
    for depth, part in enumerate(path):
        if not isinstance(node, dict):
            raise SettingsError(
                f"{path[depth - 1]} is a single value; give it by a shorter name", file=variable
            )
        name = _upstream_name(part, node) if path[0] == "upstreams" and depth == 1 else part
        if depth == len(path) - 1:
            node[name] = load(text.encode(), name=variable).tree
        node = node.setdefault(name, {})


def _upstream_name(part: str, known: Iterable[Any]) -> str:
    """Returns the name of an upstream from the name of a variable, which has neither dots nor hyphens."""
    spelled = {re.sub("[.-]", "_", name): name for name in known if isinstance(name, str)}
    return spelled.get(part, part.replace("_", "-"))
