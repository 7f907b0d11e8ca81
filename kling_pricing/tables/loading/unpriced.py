"""Loads the providers whose API is known, but not their prices."""

from __future__ import annotations

from collections.abc import Mapping

from kling_pricing.display import did_you_mean
from kling_pricing.strict_yaml import YamlDocument, read
from kling_pricing.tables.capabilities import CapabilityMatrix
from kling_pricing.tables.loading.files import ProviderFile
from kling_pricing.tables.loading.folders import TableFile
from kling_pricing.tables.loading.parts import table_sources
from kling_pricing.tables.providers import UnpricedProvider


def load_provider(
    file: TableFile, matrices: Mapping[str, CapabilityMatrix]
) -> tuple[UnpricedProvider, YamlDocument]:
    """Loads the provider in a file.

    Raises:
        TableError: the file is refused or cannot be read.
    """
    entry, document = read(file.data, ProviderFile, name=file.name)
    if entry.provider != file.stem:
        raise document.error(("provider",), f"differs from the file's name {file.stem!r}; make them the same")
    for place, wire_format in enumerate(entry.wire_formats):
        if wire_format not in matrices:
            raise document.error(
                ("wire_formats", place),
                f"no capabilities/{wire_format}.yaml; {did_you_mean(wire_format, sorted(matrices))}",
            )
    provider = UnpricedProvider(
        entry.provider,
        tuple(entry.hosts),
        tuple(entry.wire_formats),
        entry.why,
        table_sources(entry.sources),
    )
    return provider, document
