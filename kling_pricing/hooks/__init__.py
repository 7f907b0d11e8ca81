"""Hooks: real HTTP clients, guarded without a change to the code that calls them; one client in each file.

One line where the client is made, and every submission is priced, checked, reserved, perhaps rewritten, bound
to its task and settled.
"""
