"""The guard as tools for agents, in the Model Context Protocol (MCP).

`tools` lists the tools, and `protocol` offers them over any transport. `local_process` serves them over
standard input and output. The server serves the same tools at `/mcp`.

`hooks/mcp.py` is the opposite: it guards requests to the MCP endpoint of a provider.
"""
