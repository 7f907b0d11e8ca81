"""The output formats of reports, one per file: each writes the same document."""
