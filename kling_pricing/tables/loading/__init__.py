"""Loads the YAML files of `pricing_tables/` into tables, and checks the files against each other."""
