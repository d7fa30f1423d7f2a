"""The machine that runs one notebook, truthfully."""
