"""What the notebooks of every pipeline share: run folders, data, features, metrics, tracking."""
