"""Clock, ids, errors, JSON and task helpers: standard library and orjson only."""
