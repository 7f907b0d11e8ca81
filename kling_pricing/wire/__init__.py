"""Payloads and answers: reading them in the wire format of an API, and amending payloads."""
