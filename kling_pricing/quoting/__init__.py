"""Quoting: from a payload to its exact price, or to every reason why it has none. Pure."""
