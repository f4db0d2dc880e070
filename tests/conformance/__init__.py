"""Conformance: files of commands and expected replies, and what runs them (README.md)."""
