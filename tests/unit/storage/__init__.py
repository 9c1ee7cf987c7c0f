"""Tests of octodb.storage, one file per source file."""
