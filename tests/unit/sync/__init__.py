"""Tests of octodb.sync, one file per source file."""
