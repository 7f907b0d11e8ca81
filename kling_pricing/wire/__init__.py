"""Payloads and responses in the wire formats of the APIs: reading both, and amending payloads."""
