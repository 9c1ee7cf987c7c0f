"""SQLite: connections, meta tables, capture, guards, applying changesets. Knows no network."""
