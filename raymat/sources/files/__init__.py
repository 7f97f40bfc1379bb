"""Imports: any source that `raymat.data.files` opens, once, as one Parquet file."""
