"""Writers and readers of `engines.py`."""
