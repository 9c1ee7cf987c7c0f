"""Tests of octodb.model, one file per source file."""
