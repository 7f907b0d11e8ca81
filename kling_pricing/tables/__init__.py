"""Price tables, capability matrices, and the rules that both are written in."""
