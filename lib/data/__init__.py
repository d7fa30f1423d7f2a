"""Loaders, one module for each data set, and what they share.

A loader takes a `source` and returns one canonical frame, checked; what breaks a rule is an error
that names the place, the value and the rule. Nothing is filled, dropped or guessed.
"""
