"""
Real servers: object stores, databases and model servers, each started by the tests where it is not running yet.

One module a service (``s3.py``, ``azure.py``, …) with a context manager that yields its address; ``conftest.py`` has a
fixture of each. ``make parts`` installs what they need; they are left out of all other runs.
"""
