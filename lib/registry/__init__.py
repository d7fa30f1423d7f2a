"""Which version of a model is better, which one is in production, and what it predicts since."""
