"""Tests of octodb.wire, one file per source file."""
