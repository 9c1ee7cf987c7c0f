"""Pure text: tokens, statement kinds, INSERT defaults, DDL facts. Never touches SQLite."""
