"""Shot lists: tables of requests, one request per row, in CSV, TSV, XLSX or Parquet.

`table_files` reads the rows as text, `list_columns` finds the meaning of each column, `cell_values` and `shots`
turn a row into a payload, and `summaries` and `list_writers` arrange the results.
"""
