"""``octodb demo``: a primary and its devices on this machine, to try or to watch."""
