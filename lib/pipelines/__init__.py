"""What only a pipeline knows: a module of its name, three functions, see `lib.registry.rows`."""
