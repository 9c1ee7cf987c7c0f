"""Tests of octodb.runtime, one file per source file."""
