"""Household power: the reader of its files, its features, its search and its model."""
