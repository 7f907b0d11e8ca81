"""The server: a guard for callers in any language, who hold an access key instead of a provider's credential.

It has two faces. Below `/p/UPSTREAM/` it passes requests on to a provider and guards every submission. Below
`/api/v1` it offers the verbs of the guard. `application` puts the two together; `processes` runs them.
"""
