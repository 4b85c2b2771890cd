"""The issuers of the table, their keys, an attacker's, and tokens made by hand from any of them."""

import base64
import hashlib
import hmac
import json
import time

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwcrypto import jwk
from jwt.algorithms import get_default_algorithms

GONE = object()
ALGORITHMS = get_default_algorithms()
HMAC = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


def b64(content):
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def sign(algorithm, key, content):
    if algorithm in HMAC:
        return hmac.new(key, content, HMAC[algorithm]).digest()
    return ALGORITHMS[algorithm].sign(content, key)


def compact(header, payload, signature):
    return f"{b64(header)}.{b64(payload)}.{b64(signature)}"


def shown(value):
    return json.dumps(value) if value is not GONE else "absent"


def changed(base, changes):
    return {name: value for name, value in (base | changes).items() if value is not GONE}


def new_rsa(exponent=65537):
    return rsa.generate_private_key(public_exponent=exponent, key_size=2048)


def new_ec():
    return ec.generate_private_key(ec.SECP256R1())


def new_ed():
    return ed25519.Ed25519PrivateKey.generate()


def public(key, kind=serialization.Encoding.PEM):
    return key.public_key().public_bytes(kind, serialization.PublicFormat.SubjectPublicKeyInfo)


def public_jwk(key, **members):
    return json.loads(jwk.JWK.from_pyca(key.public_key()).export_public()) | members


class Party:
    """One issuer: what its good tokens look like, and any other that its key can sign."""

    def __init__(self, name, iss, algorithm, key, header=None, claims=None):
        self.name, self.iss, self.algorithm, self.key = name, iss, algorithm, key
        self._header = {"alg": algorithm, "typ": "JWT"} | (header or {})
        now = int(time.time())
        self._claims = {
            "token_type": "access",
            "exp": now + 3600,
            "iat": now - 60,
            "jti": "none",
            "user_id": 7,
            "iss": iss,
            "username": "alice",
        } | (claims or {})

    def header(self, **changes):
        return changed(self._header, changes)

    def claims(self, **changes):
        return changed(self._claims, changes)

    def token(self, header=None, claims=None, *, alg=None, key=None, raw_header=None, raw_claims=None, signature=None):
        """Changed members; other bytes altogether; another key or algorithm than the header says;
        another signature, made from the good one."""
        header = raw_header or json.dumps(self.header(**(header or {}))).encode()
        payload = raw_claims if raw_claims is not None else json.dumps(self.claims(**(claims or {}))).encode()
        content = f"{b64(header)}.{b64(payload)}".encode()
        good = sign(alg or self.algorithm, self.key if key is None else key, content)
        return compact(header, payload, signature(good) if signature else good)


class Parties:
    def __init__(self, place, canary_port):
        self.folder = place.folder
        self.canary_port = canary_port
        self.rsa, self.attacker = new_rsa(), new_rsa()
        self.ec, self.ec_other = new_ec(), new_ec()
        self.ed = new_ed()
        self.wide_key, self.wide_other, self.cube_key = new_rsa(), new_rsa(), new_rsa(3)
        # As a region: a PEM, no `kid`, an `iss` that is no URL.
        self.home = Party("home", "iss.home.test", "RS256", self.rsa)
        self.east = Party(
            "east", "https://es.example.com", "ES256", self.ec, {"kid": "es-1"}, {"aud": ["api://orders", "other"]}
        )
        self.west = Party(
            "west",
            "https://ed.example.com/realm",
            "EdDSA",
            self.ed,
            {"kid": "ed-1"},
            {"role": "admin", "realm": {"level": 3}},
        )
        # Several algorithms; one key that is for RS256 alone, one that is for all of them, and one
        # with the exponent 3.
        self.wide = Party("wide", "https://wide.example.com", "RS256", self.wide_key, {"kid": "rs256-only"})
        self.pss = Party("wide", "https://wide.example.com", "PS256", self.wide_other, {"kid": "any"})
        self.cube = Party("wide", "https://wide.example.com", "RS256", self.cube_key, {"kid": "cube"})
        self._write_keys()

    def _write_keys(self):
        for at, key in enumerate(
            (
                self.rsa,
                self.attacker,
                self.ec,
                self.ec_other,
                self.ed,
                self.wide_key,
                self.wide_other,
                self.cube_key,
            )
        ):
            # For the canaries.
            folder = self.folder / f"key-{at}"
            folder.mkdir()
            private = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            (folder / "key.pem").write_bytes(private)
        self.pem = public(self.rsa)
        (self.folder / "home.pem").write_bytes(self.pem)
        sets = {
            "east": [public_jwk(self.ec, kid="es-1"), public_jwk(self.ec_other, kid="es-2", use="sig", alg="ES256")],
            "west": [public_jwk(self.ed, kid="ed-1")],
            "wide": [
                public_jwk(self.wide_key, kid="rs256-only", alg="RS256"),
                public_jwk(self.wide_other, kid="any"),
                public_jwk(self.cube_key, kid="cube"),
            ],
        }
        for name, keys in sets.items():
            (self.folder / f"{name}.jwks").write_text(json.dumps({"keys": keys}))

    def config(self):
        def at(party, **entries):
            entries = {"issuer": party.iss, "allow_unqualified_identity": True} | entries
            if "public_key_file" not in entries:
                entries["jwks_file"] = self.folder / f"{party.name}.jwks"
            if party.name == "home":
                del entries["allow_unqualified_identity"]
            return {f"inbound.issuers.{party.name}.{name}": value for name, value in entries.items()}

        required = {"role": ["admin", "operator"], "/realm/level": [3]}
        return (
            at(self.home, algorithms=["RS256"], public_key_file=self.folder / "home.pem")
            | at(self.east, algorithms=["ES256"], audiences=["api://orders", "api://stock"])
            | at(self.west, algorithms=["EdDSA"], required_claims=required)
            | at(self.wide, algorithms=["RS256", "RS512", "PS256", "ES256"])
        )
