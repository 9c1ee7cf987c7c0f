"""Bytes to messages and back, and the handshake's signed text. No IO."""
