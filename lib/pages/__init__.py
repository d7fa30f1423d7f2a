"""What people read of a run: its pages, the index of all runs, two runs side by side."""
