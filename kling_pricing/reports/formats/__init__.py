"""The output formats of reports, one per file; all write the same document."""
