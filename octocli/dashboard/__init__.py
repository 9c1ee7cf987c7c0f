"""``octodb status --watch``: what a node is doing, live."""
