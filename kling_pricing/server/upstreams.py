"""The accounts at providers to which the server passes requests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from kling_pricing.errors import SettingsError
from kling_pricing.server.sealed_callbacks import CallbackSeal
from kling_pricing.server.secret_places import Secret, unset_variable
from kling_pricing.server.server_settings import ServerSettings, UpstreamSettings
from kling_pricing.tables.price_book import PriceBook

CALLBACK_PREFIX = "/callbacks/"
"""The beginning of the paths at which providers send callbacks; the name of the upstream follows."""


@dataclass(frozen=True)
class Upstream:
    """One account at a provider.

    Attributes:
        name: its name, the account that reservations keep.
        provider: the provider that bills.
        settings: its settings.
        credential: the provider's key; None: none is sent.
        webhook_secret: the secret with which the provider signs callbacks; None: they are not signed.
        seal: seals and opens callers' URLs for callbacks; None: the server has no key for this.
    """

    name: str
    provider: str
    settings: UpstreamSettings
    credential: Secret | None
    webhook_secret: Secret | None
    seal: CallbackSeal | None = None

    @property
    def url(self) -> str:
        """The base URL of the provider's API, without a slash at its end."""
        return self.settings.url

    @property
    def host(self) -> str:
        """The host of the URL, with its port if it has one."""
        return urlsplit(self.url).netloc

    def headers(self) -> dict[str, str]:
        """Returns the header with the provider's key.

        Raises:
            SettingsError: the file with the key was removed or emptied.
        """
        if self.credential is None:
            return {}
        scheme = f"{self.settings.scheme} " if self.settings.scheme else ""
        return {self.settings.header: scheme + self.credential.text()}


def upstreams(settings: ServerSettings, book: PriceBook) -> Mapping[str, Upstream]:
    """Returns the accounts of the settings by name.

    Raises:
        SettingsError: a provider is unknown, or secrets are missing; it names all of them.
    """
    found = {}
    _ensure_set(settings)
    for name, entry in settings.upstreams.items():
        provider = entry.provider or name
        if not book.knows(provider):
            place = f"upstreams.{name}" + (".provider" if entry.provider else "")
            remedy = (
                "" if entry.provider else f" (or name the provider in the setting upstreams.{name}.provider)"
            )
            raise SettingsError(f"{book.unknown_provider(provider)}{remedy}", key_path=place)
        found[name] = Upstream(
            name,
            provider,
            entry,
            _secret(entry.credential, f"upstreams.{name}.credential"),
            _secret(entry.webhook_secret, f"upstreams.{name}.webhook_secret"),
            _seal(settings, name),
        )
    return found


def _ensure_set(settings: ServerSettings) -> None:
    """Names all missing variables in one error, so that one look is enough.

    Raises:
        SettingsError: several variables are not set. One alone is refused by its `Secret`.
    """
    missing: dict[str, list[str]] = {}
    for setting, place in _places(settings):
        if (variable := unset_variable(place)) is not None:
            missing.setdefault(variable, []).append(setting)
    if len(missing) > 1:
        uses = ", ".join(f"{name} ({' and '.join(dict.fromkeys(where))})" for name, where in missing.items())
        raise SettingsError(
            f"{len(missing)} variables are not set: {uses}; set them, or name files with file:PATH"
        )


def _places(settings: ServerSettings) -> Iterator[tuple[str, str]]:
    """Yields each setting that names the place of a secret, with the place."""
    for name, entry in settings.upstreams.items():
        for field in ("credential", "webhook_secret"):
            if (place := getattr(entry, field)) is not None:
                yield f"upstreams.{name}.{field}", place
    if settings.upstreams and settings.callback_key is not None and settings.public_url is not None:
        yield "callback_key", settings.callback_key
        yield from (("callback_old_keys", place) for place in settings.callback_old_keys)


def _seal(settings: ServerSettings, name: str) -> CallbackSeal | None:
    if settings.callback_key is None or settings.public_url is None:
        return None
    keys = [Secret(settings.callback_key, "callback_key")]
    keys += [Secret(place, "callback_old_keys") for place in settings.callback_old_keys]
    return CallbackSeal(f"{settings.public_url}{CALLBACK_PREFIX}{name}", settings.callback_hosts, keys)


def _secret(place: str | None, setting: str) -> Secret | None:
    return None if place is None else Secret(place, setting)
