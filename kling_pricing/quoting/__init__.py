"""Quoting: computes the exact price of a payload, or every reason why it has no price. Pure."""
