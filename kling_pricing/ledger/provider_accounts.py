"""Accounts at providers. No I/O."""

from __future__ import annotations

from typing import NamedTuple

_SEPARATOR = "/"


class ProviderAccount(NamedTuple):
    """An account at a provider, from which jobs are sent and for which the provider issues statements.

    Attributes:
        provider: the provider.
        account: the customer's name for the account; the provider's name if the customer has given none.
    """

    provider: str
    account: str

    @property
    def books(self) -> str:
        """The name of the account's books: the provider's name, or `PROVIDER/ACCOUNT` for any other account.

        Books that were written before accounts had names belong to the account with the provider's name.
        """
        return self.provider if self.account == self.provider else f"{self.provider}{_SEPARATOR}{self.account}"

    @classmethod
    def of_books(cls, name: str) -> ProviderAccount:
        """Returns the account whose books have a name. The name of a provider with books has no slash."""
        provider, _, account = name.partition(_SEPARATOR)
        return cls(provider, account or provider)
