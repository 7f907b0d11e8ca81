"""Hooks: guard HTTP clients without changing the code that calls them; each client has one module.

You add a hook with one line where you create the client. It then checks and prices every submission, reserves
the money, makes the request cheaper if a budget requires it, binds the reservation to the task and settles it.
"""
