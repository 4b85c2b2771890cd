"""A region to test against: Django with djangorestframework-simplejwt, served by waitress.

RS256, an issuer that is no URL, rotation and blacklist on, no grace: the old refresh token is dead
when the answer is written. All it keeps (key, SQLite database) is made at run time in REGION_DIR;
two processes on one REGION_DIR are one region, so that a check can stop the one that logs in and
keep the one that serves. Below /_test/ it tells what it saw and is told how to misbehave.
"""
