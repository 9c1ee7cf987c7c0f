"""Tests of octodb.log, one file per source file."""
