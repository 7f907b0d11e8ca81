"""Reconciliations that the server runs: an uploaded statement, a worker process, and a folder with the result.

Everything about one reconciliation is in files of its folder. So it outlives the process that took the upload,
and every process with the same work folder can show it.
"""
