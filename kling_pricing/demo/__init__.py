"""The demo: a made-up month of jobs, with crashes, retries and a faulty statement, on this machine alone.

`studio.DemoStudio` runs a ledger, a hook and a server beside a sandbox; the clock of all of them is the demo's
own. `telling` plays the month for `kling-pricing demo`, and `served_months` makes the ledger of
`kling-pricing serve --demo`. What happens is data: `script.yaml`, `budgets.yaml` and `served-budgets.yaml`.
"""

NEEDED_MODULES = ("aiohttp", "duckdb", "fastapi", "jinja2", "prometheus_client", "uvicorn")
"""The modules of the extras that the demo needs. The extra `all` has them all."""
