"""The proxy below `/p/UPSTREAM/`: passes requests on to a provider, and guards every submission.

A caller sends its access key and gets the provider's own answers. The provider's credential never leaves the
server, and nothing of the caller's credentials reaches the provider.
"""
