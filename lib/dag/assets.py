"""What ties DAGs together: every asset is named after its pipeline, for who updates and who waits.

Whoever updates one and whoever waits for it agree without knowing each other.
"""

from airflow.sdk import Asset, AssetAlias

ARRIVED = AssetAlias("arrived")
"""Stands for the data of whichever pipelines a stage has found new, which only its run knows."""


def data_asset(pipeline: str) -> Asset:
    """Return what is updated when new data for `pipeline` has arrived: by whoever brings it."""
    return Asset(name=f"data/{pipeline}", group="data")


def model_asset(pipeline: str) -> Asset:
    """Return what is updated when a version of the model of `pipeline` enters production."""
    return Asset(name=f"models/{pipeline}", group="models")


def drift_asset(pipeline: str) -> Asset:
    """Return what is updated when new data no longer looks like what the model has learned."""
    return Asset(name=f"drift/{pipeline}", group="drift")
