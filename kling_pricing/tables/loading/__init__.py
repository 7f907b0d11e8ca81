"""From YAML files to tables: reading them, checking them, and holding them against each other."""
