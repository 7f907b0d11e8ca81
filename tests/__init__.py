"""Tests of kling_pricing, one file a room; every test says in one sentence what it shows."""
