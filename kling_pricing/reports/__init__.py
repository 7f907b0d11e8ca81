"""Reports: what a reconciliation or a ledger's spend looks like on paper; one output format in each file."""
