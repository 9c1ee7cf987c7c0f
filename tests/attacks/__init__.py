"""A list of attacks, each with the check that it aims at.

``python -m tests.attacks`` runs them against a primary in a process of its own and prints a table; test_attacks.py runs
them in-process, and each once more with its check switched off: it must succeed then, or it is blind.

Attacks by somebody on the line (TLS, relays) are in tests/integration/test_tls.py.
"""
