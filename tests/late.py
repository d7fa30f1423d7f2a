"""Modules that take seconds to import, such as Airflow: only where a test needs them.

Every process of tests imports every module of tests, to know which tests there are.
"""

from importlib import import_module


class Late:
    """A module that is imported when something of it is first asked for."""

    __slots__ = ("_name",)  # so that `__dict__`, which monkeypatch looks at, is the module's, too

    def __init__(self, name):
        object.__setattr__(self, "_name", name)

    def __getattr__(self, name):
        if name == "__test__":  # pytest asks it of everything that it finds in a module of tests
            raise AttributeError(name)
        return getattr(import_module(self._name), name)

    def __setattr__(self, name, value):
        setattr(import_module(self._name), name, value)

    def __delattr__(self, name):
        delattr(import_module(self._name), name)
