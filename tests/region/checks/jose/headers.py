"""What a JOSE header says: algorithms, what the token is, keys that it brings."""

import base64
import datetime
import json

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from .parties import GONE, b64, compact, new_rsa, public, public_jwk, shown, sign


def algorithms(parties, case):
    home, reason = parties.home, "algorithm_not_allowed"
    for alg in ("none", "None", "NONE", "nOnE", "none ", " none", "", "null"):
        for name, signature in (("no", b""), ("the good", None), ("a garbage", b"garbage")):
            forged = home.token({"alg": alg}, signature=lambda good, s=signature: good if s is None else s)
            case(f"alg {alg!r} with {name} signature", reason, forged)
    for alg in ("rs256", "Rs256", "RS256 ", " RS256", "RS256\0", "RS-256", "RS256\u200b", "SHA256withRSA", "RSA1_5"):
        case(f"alg {alg!r} over an RS256 signature", reason, home.token({"alg": alg}))
    for alg in (GONE, None, 1, True, ["RS256"], {"RS256": 1}):
        case(f"alg {shown(alg)}", "malformed_token", home.token({"alg": alg}))

    numbers = parties.rsa.public_key().public_numbers()
    secrets = {
        "the PEM": parties.pem,
        "the PEM without its last newline": parties.pem.rstrip(b"\n"),
        "the PEM with CRLF": parties.pem.replace(b"\n", b"\r\n"),
        "the PEM after a space": b" " + parties.pem,
        "the PEM's base64": b"".join(parties.pem.splitlines()[1:-1]),
        "the DER": public(parties.rsa, serialization.Encoding.DER),
        "the PKCS#1 PEM": parties.rsa.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.PKCS1
        ),
        "the modulus": numbers.n.to_bytes(256, "big"),
        "the JWK": json.dumps(public_jwk(parties.rsa)).encode(),
        "nothing": b"",
    }
    for alg in ("HS256", "HS384", "HS512"):
        for name, secret in secrets.items():
            case(f"{alg} with {name} as its key", reason, home.token({"alg": alg}, alg=alg, key=secret))
    case("HS256 over an RS256 signature", reason, home.token({"alg": "HS256"}))
    for alg in ("RS384", "RS512", "PS256", "PS384", "PS512"):
        case(f"{alg} by the issuer's own key, which may RS256", reason, home.token({"alg": alg}, alg=alg))
    for alg, key in (("ES256", parties.ec), ("EdDSA", parties.ed)):
        case(f"{alg} where RS256 is allowed", reason, home.token({"alg": alg}, alg=alg, key=key))
    for alg in ("ES512", "ES256K", "Ed25519", "Ed448", "HS1", "RS1", "dir", "A256GCMKW", "ML-DSA-65"):
        case(f"alg {alg}", reason, home.token({"alg": alg}))
    for alg in ("RS512", "PS256"):
        forged = parties.wide.token({"alg": alg}, alg=alg)
        case(f"{alg} by a key whose JWK says RS256", reason, forged, party=parties.wide)
    forged = parties.wide.token({"alg": "RS384"}, alg="RS384")
    case("RS384 where RS256 and RS512 are allowed", reason, forged, party=parties.wide)
    forged = parties.wide.token({"alg": "ES256"}, alg="ES256", key=parties.ec)
    case("ES256 by the name of an RSA key", reason, forged, party=parties.wide)
    forged = parties.wide.token({"alg": "ES256", "kid": GONE}, alg="ES256", key=parties.ec)
    twin = parties.wide.token({"kid": GONE})
    case("ES256, allowed, where no key is for it", "unknown_key", forged, twin, parties.wide)
    forged = parties.east.token({"alg": "ES384"})
    case("ES384 by a P-256 key", reason, forged, party=parties.east)


def members(parties, case):
    home = parties.home
    for crit in (["x"], ["b64"], ["exp"], ["alg"], [], "b64", None, {}, 1, [1]):
        more = {"crit": crit, "x": 1, "b64": False} if crit in (["x"], ["b64"]) else {"crit": crit}
        without = {name: value for name, value in more.items() if name == "x"}
        twin = home.token(without, {"jti": f"crit {crit}"})
        case(f"crit {crit}", "unsupported_critical_header", home.token(more), twin)
    unencoded = json.dumps(home.header(b64=False, crit=["b64"])).encode()
    payload = json.dumps(home.claims()).encode()
    signed = sign("RS256", home.key, b64(unencoded).encode() + b"." + payload)
    case("b64 false, signed as RFC 7797 has it", "unsupported_critical_header", compact(unencoded, payload, signed))
    for typ in ("dpop+jwt", "logout+jwt", "secevent+jwt", "JWE", "JOSE", "JOSE+JSON", "kb+jwt", "refresh+jwt"):
        case(f"typ {typ}", "wrong_token_type", home.token({"typ": typ}))
    for typ in ("", "at+jwt ", "at+jwt2", "at jwt", "x/at+jwt", "application/at+jwt+x", "oauth-authz-req+jwt"):
        case(f"typ {typ!r}", "wrong_token_type", home.token({"typ": typ}))
    for typ in (None, 1, True, ["at+jwt"], {}):
        case(f"typ {shown(typ)}", "malformed_token", home.token({"typ": typ}))
    for name, values in {"cty": ("JWT", "json", "", None), "zip": ("DEF", None), "enc": ("A256GCM", None)}.items():
        for value in values:
            case(f"{name} {shown(value)}", "wrong_token_type", home.token({name: value}))
    for kid in (1, None, True, [], ["es-1"], {}):
        case(f"kid {shown(kid)}", "malformed_token", home.token({"kid": kid}))
    unknown = ("../../etc/passwd", "/dev/null", "' OR 1=1 --", "es-1\r\nx: y", "es-1\0", "es-1 ", "ES-1", "es", "es-11")
    unknown += (
        "",
        "*",
        "%s%n",
        "\u202ees-1",
        "\N{PILE OF POO}",
        f"http://127.0.0.1:{parties.canary_port}/k",
        "k" * 8000,
    )
    for at, kid in enumerate(unknown):
        forged = parties.east.token({"kid": kid})
        case(f"kid no. {at} {kid[:20]!r}", "unknown_key", forged, party=parties.east)
    forged = parties.east.token({"kid": "es-2"})
    case("the kid of the issuer's other key", "bad_signature", forged, party=parties.east)
    forged = parties.east.token({"kid": "ed-1"})
    case("the kid of another issuer's key", "unknown_key", forged, party=parties.east)


def chain(key):
    """A certificate of this key and that of its authority, as `x5c` has them (RFC 7515 section 4.1.6)."""
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("iss.home.test", "An authority")]
    authority, now = new_rsa(), datetime.datetime.now(datetime.UTC)
    certificates = (
        x509.CertificateBuilder(
            subject_name=subject,
            issuer_name=names[1],
            public_key=of.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(days=1),
            not_valid_after=now + datetime.timedelta(days=30),
        ).sign(authority, hashes.SHA256())
        for subject, of in zip(names, (key, authority))
    )
    return [base64.b64encode(one.public_bytes(serialization.Encoding.DER)).decode() for one in certificates]


def own_keys(parties, case):
    """A token that brings its own key, or tells where to get it: its twin brings it too, and is good."""
    home, attacker = parties.home, parties.attacker
    mine = public_jwk(attacker, kid="mine")
    canary = f"127.0.0.1:{parties.canary_port}"
    brought = {
        "jwk": {"jwk": mine},
        "jwk with its kid": {"jwk": mine, "kid": "mine"},
        "x5c": {"x5c": chain(attacker)},
        "x5c of a bare key": {"x5c": [base64.b64encode(public(attacker, serialization.Encoding.DER)).decode()]},
        "x5t": {"x5t": "AAAA", "x5t#S256": "AAAA"},
    }
    for name in ("jku", "x5u"):
        for url in (
            f"http://{canary}/jwks",
            f"https://{canary}/jwks",
            f"https://es.example.com@{canary}/",
            "file:///etc/passwd",
        ):
            brought[f"{name} {url}"] = {name: url, "kid": "mine"}
    for name, header in brought.items():
        twin = home.token(header, {"jti": name})
        case(f"its own key by {name}", "bad_signature", home.token(header, key=attacker), twin)
    east, ec = parties.east, parties.ec_other
    forged = east.token({"jwk": public_jwk(ec), "jku": f"http://{canary}/", "kid": "mine"}, key=ec)
    twin = east.token({"jwk": public_jwk(ec), "jku": f"http://{canary}/"}, {"jti": "jwk"})
    case("its own EC key, and an unknown kid", "unknown_key", forged, twin, east)
    for url in (f"http://{canary}", f"http://{canary}/.well-known/openid-configuration"):
        case(
            f"an unknown iss that would answer, {url}", "unknown_issuer", home.token(claims={"iss": url}, key=attacker)
        )


TOPICS = (algorithms, members, own_keys)
