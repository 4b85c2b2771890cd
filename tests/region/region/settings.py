"""From the environment: REGION_DIR, REGION_ACCESS_SECONDS, REGION_REFRESH_SECONDS, REGION_ROTATE, REGION_ISSUER."""

import os
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

DIR = Path(os.environ["REGION_DIR"])
DIR.mkdir(parents=True, exist_ok=True)
KEY_FILE = DIR / "key.pem"
if not KEY_FILE.exists():
    KEY_FILE.write_bytes(
        rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
signing_key = serialization.load_pem_private_key(KEY_FILE.read_bytes(), None)
public_key = signing_key.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
(DIR / "public.pem").write_bytes(public_key)

SECRET_KEY = os.urandom(32).hex()
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "region.urls"
USE_TZ = True
LOGGING_CONFIG = None
DATA_UPLOAD_MAX_MEMORY_SIZE = None
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "rest_framework_simplejwt.token_blacklist",
]
AUTHENTICATION_BACKENDS = ["region.auth.ByEmail"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DIR / "region.sqlite3",
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            "transaction_mode": "IMMEDIATE",
            "timeout": 60,
        },
    }
}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["region.auth.Bearer"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
}
SIMPLE_JWT = {
    "ALGORITHM": "RS256",
    "SIGNING_KEY": KEY_FILE.read_text(),
    "VERIFYING_KEY": public_key.decode(),
    # Empty: none, as in simplejwt's own defaults.
    "ISSUER": os.environ.get("REGION_ISSUER", "iss.region.test") or None,
    "ACCESS_TOKEN_LIFETIME": timedelta(seconds=float(os.environ.get("REGION_ACCESS_SECONDS", "300"))),
    "REFRESH_TOKEN_LIFETIME": timedelta(seconds=float(os.environ.get("REGION_REFRESH_SECONDS", "86400"))),
    "ROTATE_REFRESH_TOKENS": os.environ.get("REGION_ROTATE", "1") == "1",
    "BLACKLIST_AFTER_ROTATION": True,
}
