"""Decisions of sync as sans-IO state machines: messages and results in, effects out."""
