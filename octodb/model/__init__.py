"""Frozen values and ports that every layer above shares. Holds no behaviour with effects."""
