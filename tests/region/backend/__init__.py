"""A back end that reads paths generously: Django, served by waitress, as `python -m backend PORT`.

It decodes a path once and walks its `..`, as Django's own static files do. It takes a backslash for a
slash and drops `;parameters`, before or after decoding, as servers of other makes do. `X-Served` is
`open` only where each of these readings stays in /public or /healthz.
"""
