"""A lake of Iceberg tables: files as they came, checked rows, and what others learn from."""
