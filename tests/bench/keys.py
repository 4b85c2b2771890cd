"""Keys, tokens and certificates. What takes long is kept under target/bench/ for some hours."""

import base64
import datetime
import ipaddress
import json
import multiprocessing
import os
import sys
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from needs import HOME

ISSUER = "iss.bench"
LIFETIME = 23 * 3600  # Regent's default takes up to 24 hours
LEFT = 3 * 3600  # kept tokens live at least so long


def b64(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Key:
    """An RSA key of 2,048 bits."""

    def __init__(self, private=None, kid=None):
        self._private = private or rsa.generate_private_key(65537, 2048)
        self.kid = kid

    def pem(self):
        kind = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._private.public_key().public_bytes(serialization.Encoding.PEM, kind).decode()

    def private_pem(self):
        return pem_of(self._private)

    def jwk(self):
        numbers = self._private.public_key().public_numbers()
        whole = {"kty": "RSA", "alg": "RS256", "use": "sig", "n": b64(numbers.n.to_bytes(256, "big"))}
        return whole | {"e": b64(numbers.e.to_bytes(3, "big"))} | ({"kid": self.kid} if self.kid else {})

    def sign(self, **claims):
        header = {"alg": "RS256", "typ": "JWT"} | ({"kid": self.kid} if self.kid else {})
        signed = b64(compact(header)) + "." + b64(compact(claims))
        signature = self._private.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return signed + "." + b64(signature)

    def token(self, user, now, lifetime):
        """An access token as a region makes it."""
        claims = {"iss": ISSUER, "token_type": "access", "iat": now, "exp": now + lifetime, "jti": f"{user:032}"}
        return self.sign(**claims, user_id=user, username=f"user-{user}", email=f"user-{user}@example.com")


class Tokens:
    """A key and very many tokens of it, no two alike."""

    def __init__(self, count):
        folder = HOME / "tokens"
        folder.mkdir(exist_ok=True)
        self.file, private, about = folder / "tokens", folder / "key.pem", folder / "about.json"
        known = json.loads(about.read_text()) if about.exists() else {"count": 0, "until": 0}
        if known["count"] < count or known["until"] < time.time() + LEFT:
            self._make(count, private)
            known = {"count": count, "until": int(time.time()) + LIFETIME - 3600}
            about.write_text(json.dumps(known))
        self.count = known["count"]
        self.key = Key(serialization.load_pem_private_key(private.read_bytes(), None))

    def _make(self, count, private):
        print(f"signing {count:,} tokens, which are kept", file=sys.stderr)
        key = Key()
        private.write_text(key.private_pem())
        private.chmod(0o600)
        now, step = int(time.time()), 2000
        parts = [(key.private_pem(), now, range(at, min(at + step, count))) for at in range(0, count, step)]
        with multiprocessing.Pool() as pool, open(self.file, "w") as out:
            for some in pool.imap(_sign, parts):
                out.write("\n".join(some) + "\n")

    def first(self, count, path):
        """The first of them, in a file of their own."""
        with open(self.file) as lines, open(path, "w") as out:
            out.writelines(line for line, _ in zip(lines, range(count)))
        return path


def _sign(part):
    private, now, users = part
    key = Key(serialization.load_pem_private_key(private.encode(), None))
    return [key.token(user, now, LIFETIME) for user in users]


def forged_token():
    """An access token as a region makes it, but for its signature, which nobody on outbound's path checks."""
    now = int(time.time())
    claims = {"token_type": "access", "iat": now, "exp": now + LIFETIME, "jti": "0" * 32, "user_id": 1}
    parts = compact({"alg": "RS256", "typ": "JWT"}), compact(claims), os.urandom(256)
    return ".".join(b64(part) for part in parts)


def certificate(folder):
    """For localhost, signed by itself: its file, and its key's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=2))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    made = builder.sign(key, hashes.SHA256())
    cert_file, key_file = folder / "cert.pem", folder / "cert.key"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_text(pem_of(key))
    key_file.chmod(0o600)
    return cert_file, key_file


def pem_of(private):
    encoding, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return private.private_bytes(encoding, kind, serialization.NoEncryption()).decode()


def compact(value):
    return json.dumps(value, separators=(",", ":")).encode()
