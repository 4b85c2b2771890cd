"""Checks of the built `regent` against a real region (see ../region): `python -m checks --help`."""
