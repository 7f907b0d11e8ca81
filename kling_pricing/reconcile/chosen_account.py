"""Chooses the account at a provider that a command is about, because a statement belongs to one account."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing

from kling_pricing.display import did_you_mean, reportable
from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger import Ledger, connect
from kling_pricing.ledger.books import Books
from kling_pricing.ledger.provider_accounts import ProviderAccount
from kling_pricing.windows import FOREVER, utc_clock


def choose_account(ledgers: Iterable[Ledger], provider: str, account: str | None) -> ProviderAccount:
    """Returns the account at a provider that a command is about.

    Args:
        ledgers: the ledgers.
        provider: the provider.
        account: the name of the account; None: the only one that the ledgers have, or else the one with the
            provider's name.

    Raises:
        KlingPricingError: the account is unknown; or the ledgers have several accounts, and none was chosen.
    """
    known = _accounts_at(provider, ledgers)
    if account is None:
        if len(known) > 1:
            raise KlingPricingError(
                f"the ledger has {len(known)} accounts at {provider}, each with statements of its own: "
                f"{', '.join(known)}; choose one with `account`"
            )
        return ProviderAccount(provider, known[0] if known else provider)
    if account not in {*known, provider}:
        raise _unknown(account, known or [provider], f" at {provider}")
    return ProviderAccount(provider, account)


def account_or_all(ledgers: Sequence[Ledger], provider: str, account: str | None) -> ProviderAccount | None:
    """Returns the account at a provider that a command is about.

    Args:
        ledgers: the ledgers.
        provider: the provider.
        account: the name of the account; None: the only one that the ledgers have.

    Returns:
        The account; None if none was chosen and the ledgers have several.

    Raises:
        KlingPricingError: the account is unknown.
    """
    several = account is None and len(_accounts_at(provider, ledgers)) > 1
    return None if several else choose_account(ledgers, provider, account)


def books_of_all(ledgers: Iterable[Ledger], provider: str) -> list[Books]:
    """Returns the books of every account at a provider, without the facts."""
    return [
        ledger.books(each.books)
        for ledger in ledgers
        for each in ledger.accounts()
        if each.provider == provider
    ]


def provider_of(ledgers: str | Sequence[str], account: str, providers: Iterable[str]) -> str:
    """Returns the only provider at which ledgers have an account.

    Args:
        ledgers: URL of a ledger, or of several.
        account: the name of the account.
        providers: all providers, each of which has an account of its own name.

    Raises:
        LedgerUnavailableError: a ledger cannot be read.
        KlingPricingError: no provider has such an account, or several do.
    """
    known = accounts_in(ledgers)
    matching = sorted({each.provider for each in known if each.account == account} | ({account} & {*providers}))
    if not matching:
        raise _unknown(account, sorted({each.account for each in known}), "")
    if len(matching) > 1:
        raise KlingPricingError(
            f"several providers have an account {account}: {', '.join(matching)}; choose one with `provider`"
        )
    return matching[0]


def accounts_in(ledgers: str | Sequence[str]) -> list[ProviderAccount]:
    """Returns the accounts that ledgers know by name, or that have books.

    Raises:
        LedgerUnavailableError: a ledger cannot be read.
    """
    with ExitStack() as stack:
        urls = [ledgers] if isinstance(ledgers, str) else ledgers
        return _known([stack.enter_context(closing(connect(url, clock=utc_clock(None)))) for url in urls])


def _accounts_at(provider: str, ledgers: Iterable[Ledger]) -> list[str]:
    """Returns the accounts at a provider; empty: none was named, and none has books."""
    by_ledger = {
        ledger: {each.account for each in ledger.accounts() if each.provider == provider} for ledger in ledgers
    }
    if not any(by_ledger.values()):
        return []
    unnamed = [ledger for ledger, accounts in by_ledger.items() if not accounts]
    own = {provider} if any(_has_jobs(ledger, provider) for ledger in unnamed) else set()
    return sorted(own.union(*by_ledger.values()))


def _has_jobs(ledger: Ledger, provider: str) -> bool:
    """Returns whether any job was sent to a provider."""
    return any(ledger.sent(provider, FOREVER.end))


def _known(ledgers: Iterable[Ledger]) -> list[ProviderAccount]:
    return sorted({account for ledger in ledgers for account in ledger.accounts()})


def _unknown(account: str, known: Sequence[str], where: str) -> KlingPricingError:
    remedy = did_you_mean(account, known) if known else "no job in the ledger was sent from a named account"
    return KlingPricingError(f"unknown account {reportable(account)!a}{where}; {remedy}")
