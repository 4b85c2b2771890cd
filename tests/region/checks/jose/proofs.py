"""Who signed: other issuers' keys, and signatures that are none."""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from .parties import GONE, b64, new_ed, sign, unb64


def confusion(parties, case):
    """Every issuer's key is another issuer's nothing."""
    everyone = (parties.home, parties.east, parties.west, parties.wide)
    for said in everyone:
        for by in everyone:
            if said is by:
                continue
            same = said.algorithm == by.algorithm
            kid = by.header().get("kid", GONE)
            forged = said.token({"alg": by.algorithm, "kid": kid}, alg=by.algorithm, key=by.key)
            if said.name == "wide" and by.name == "home":
                reason = "bad_signature"
            elif same:
                reason = "bad_signature"
            elif said.name == "wide" and by.algorithm == "ES256":
                reason = "unknown_key"
            else:
                reason = "algorithm_not_allowed"
            case(f"{said.name}'s token by {by.name}'s key and kid", reason, forged, party=said)
            if same:
                forged = said.token(key=by.key)
                case(f"{said.name}'s token by {by.name}'s key", "bad_signature", forged, party=said)
            forged = by.token(claims={"iss": said.iss, "aud": "api://orders", "role": "admin", "realm": {"level": 3}})
            case(f"{by.name}'s token that names {said.name}", reason, forged, party=said)


def signatures(parties, case):
    reason = "bad_signature"
    for party in (parties.home, parties.east, parties.west, parties.pss):
        alg = party.algorithm
        other = unb64(party.token(claims={"jti": "other"}).split(".")[2])
        for name, made in {
            "one byte short": lambda good: good[:-1],
            "without its first byte": lambda good: good[1:],
            "one byte longer": lambda good: good + b"\0",
            "with a zero before": lambda good: b"\0" + good,
            "of zeros": lambda good: bytes(len(good)),
            "of ones": lambda good: b"\xff" * len(good),
            "of one zero": lambda good: b"\0",
            "twice": lambda good: good + good,
            "backwards": lambda good: good[::-1],
            "with its first bit flipped": lambda good: bytes([good[0] ^ 0x80]) + good[1:],
            "with its last bit flipped": lambda good: good[:-1] + bytes([good[-1] ^ 1]),
            "of another token": lambda good: other,
            "of zeros and its half": lambda good: bytes(len(good) // 2) + good[len(good) // 2 :],
            "of its half and zeros": lambda good: good[: len(good) // 2] + bytes(len(good) // 2),
        }.items():
            forged = party.token(claims={"jti": "signature"}, signature=made)
            case(f"{alg} signature {name}", reason, forged, party.token(claims={"jti": "signature"}), party)
        case(f"{alg} signature empty", "malformed_token", party.token(signature=lambda good: b""), party=party)
        header, payload, signature = party.token(claims={"jti": "payload"}).split(".")
        changed = b64(unb64(payload).replace(b'"alice"', b'"admin"'))
        case(
            f"{alg}, another payload",
            reason,
            f"{header}.{changed}.{signature}",
            f"{header}.{payload}.{signature}",
            party,
        )
        changed = b64(unb64(header)[:-1] + b" }")
        case(
            f"{alg}, another header",
            reason,
            f"{changed}.{payload}.{signature}",
            f"{header}.{payload}.{signature}",
            party,
        )
        alone = sign(alg, party.key, payload.encode())
        case(f"{alg} of the payload alone", reason, f"{header}.{payload}.{b64(alone)}", party=party)
        decoded = sign(alg, party.key, unb64(header) + b"." + unb64(payload))
        case(f"{alg} of the decoded parts", reason, f"{header}.{payload}.{b64(decoded)}", party=party)
    rsa_signatures(parties, case)
    east = parties.east
    n = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

    def der(good):
        return encode_dss_signature(int.from_bytes(good[:32], "big"), int.from_bytes(good[32:], "big"))

    assert decode_dss_signature(der(b"\1" * 64)), "this is how DER is made"
    numbers = {"0": 0, "1": 1, "n - 1": n - 1, "n": n, "n + 1": n + 1}
    case("ES256 signature in DER", reason, east.token(signature=der), party=east)
    for r_name, r in numbers.items():
        for s_name, s in numbers.items():
            forged = east.token(signature=lambda good: r.to_bytes(32, "big") + s.to_bytes(32, "big"))
            case(f"ES256, r = {r_name}, s = {s_name}", reason, forged, party=east)
    padded = east.token(signature=lambda good: b"\0" + good[:32] + b"\0" + good[32:])
    case("ES256, r and s with a zero before", reason, padded, party=east)
    west = parties.west
    order = 2**252 + 27742317777372353535851937790883648493

    def beyond(good):
        return good[:32] + (int.from_bytes(good[32:], "little") + order).to_bytes(32, "little")

    case("EdDSA, S beyond the order", reason, west.token(signature=beyond), party=west)
    case("EdDSA by another key", reason, west.token(key=new_ed()), party=west)


def rsa_signatures(parties, case):
    home, pss, reason = parties.home, parties.pss, "bad_signature"

    def by(key, pad, digest):
        def made(party):
            header, payload, _ = party.token(claims={"jti": "by"}).split(".")
            content = f"{header}.{payload}".encode()
            return f"{header}.{payload}.{b64(key.sign(content, pad, digest))}"

        return made

    mgf = padding.MGF1(hashes.SHA256())
    for name, digest in (("SHA-1", hashes.SHA1()), ("SHA-384", hashes.SHA384()), ("SHA-512", hashes.SHA512())):
        case(f"RS256 over {name}", reason, by(parties.rsa, padding.PKCS1v15(), digest)(home))
    case("RS256 in PSS", reason, by(parties.rsa, padding.PSS(mgf, 32), hashes.SHA256())(home))
    case("PS256 in PKCS#1", reason, by(parties.wide_other, padding.PKCS1v15(), hashes.SHA256())(pss), party=pss)
    for salt in (0, 20, padding.PSS.MAX_LENGTH):
        forged = by(parties.wide_other, padding.PSS(mgf, salt), hashes.SHA256())(pss)
        case(f"PS256 with a salt of {salt if isinstance(salt, int) else 'any length'}", reason, forged, party=pss)
    other = padding.MGF1(hashes.SHA512())
    case(
        "PS256 with another mask",
        reason,
        by(parties.wide_other, padding.PSS(other, 32), hashes.SHA256())(pss),
        party=pss,
    )

    modulus = parties.rsa.public_key().public_numbers().n

    def beyond(good):
        return (int.from_bytes(good, "big") + modulus).to_bytes(257, "big")

    case("RS256 signature plus the modulus", reason, home.token(signature=beyond))


TOPICS = (confusion, signatures)
