"""The sqlite3-shaped face: Connection, Cursor, Row, Blob and the PRAGMA table. Owns no sync logic."""
