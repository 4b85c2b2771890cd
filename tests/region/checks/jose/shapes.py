"""What a token looks like: its parts, other serialisations, several in one request."""

import json

from jwcrypto import jwe, jwk, jws

from .parties import b64, compact, unb64

MOST_BYTES = 16 * 1024


def structure(parties, case):
    home, reason = parties.home, "malformed_token"
    good = home.token(claims={"jti": "structure"})
    header, payload, signature = good.split(".")
    broken = {
        "one part": header,
        "two parts": f"{header}.{payload}",
        "four parts": f"{good}.{signature}",
        "five parts": f"{good}.{signature}.{signature}",
        "a dot before": f".{good}",
        "a dot behind": f"{good}.",
        "two dots": f"{header}..{payload}.{signature}",
        "no header": f".{payload}.{signature}",
        "no payload": f"{header}..{signature}",
        "no signature": f"{header}.{payload}.",
        "dots alone": "..",
        "one dot": ".",
        "thousands of dots": "." * 16000,
        "the payload first": f"{payload}.{header}.{signature}",
        "in quotes": f'"{good}"',
        "Bearer twice": f"Bearer {good}",
        "something behind": f"{good} x",
        "a parameter behind": f"{good};x=1",
        "a tab inside": f"{header}.\t{payload}.{signature}",
        "a space inside": f"{header} .{payload}.{signature}",
        "an escaped dot": f"{header}%2E{payload}.{signature}",
        "letters beyond ASCII": f"{header}.{payload}é.{signature}",
    }
    for name, forged in broken.items():
        case(name, reason, forged, good)
    parts = [header, payload, signature]
    for at, name in enumerate(("header", "payload", "signature")):

        def replaced(text):
            return ".".join(text if at == place else part for place, part in enumerate(parts))

        for padded in ("=", "==", "%3D", "%3d%3d", "\\n"):
            case(f"{name} with {padded} behind", reason, replaced(parts[at] + padded), good)
        case(
            f"{name} one letter too long",
            reason,
            replaced(parts[at] + ("A" if len(parts[at]) % 4 == 0 else "AAA")),
            good,
        )
    # Parts whose last letter has bits to spare.
    for at, name in enumerate(("header", "payload", "signature")):
        spare = good
        for fill in range(1, 4):
            if len(spare.split(".")[at]) % 4:
                break
            changes = ({"x": "y" * fill}, {"jti": "spare"}) if at == 0 else ({}, {"jti": "spare", "x": "y" * fill})
            spare = home.token(*changes)
        letters = spare.split(".")
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        letters[at] = letters[at][:-1] + alphabet[alphabet.index(letters[at][-1]) + 1]
        assert unb64(letters[at]) == unb64(spare.split(".")[at]), "not the same bytes"
        case(f"{name} with bits to spare in its last letter", reason, ".".join(letters), spare)
    # Bytes that the two alphabets of base64 write differently.
    for at, name in enumerate(("header", "payload", "signature")):
        good = home.token(claims={"jti": "alphabet"})
        for attempt in range(64):
            if set(good.split(".")[at]) & set("-_"):
                break
            noise = "?>" * attempt + "~"
            good = home.token({"x": noise}, {"x": noise, "jti": f"alphabet {attempt}"})
        letters = good.split(".")
        letters[at] = letters[at].replace("-", "+").replace("_", "/")
        assert letters[at] != good.split(".")[at], "no letter that differs"
        case(f"{name} in the other alphabet", reason, ".".join(letters), good)

    def of_length(length):
        short = home.token(claims={"x": ""})
        fill = (length - len(short)) * 3 // 4
        for more in range(-4, 5):
            token = home.token(claims={"x": "y" * (fill + more)})
            if len(token) == length:
                return token
        return None

    longest = next(token for length in range(MOST_BYTES, MOST_BYTES - 4, -1) if (token := of_length(length)))
    longer = next(token for length in range(MOST_BYTES + 1, MOST_BYTES + 5) if (token := of_length(length)))
    case(f"{len(longer)} bytes, by the issuer's key", "token_too_large", longer, longest)
    case("a signature of 20 kB", "token_too_large", home.token(signature=lambda good: good * 60))


def fields(parties, case):
    """More than one credential, in whatever order: a request that two servers read as two."""
    home = parties.home
    good, bad = home.token(claims={"jti": "fields"}), home.token(key=parties.attacker)
    for name, values in {
        "good and bad": [f"Bearer {good}", f"Bearer {bad}"],
        "bad and good": [f"Bearer {bad}", f"Bearer {good}"],
        "the same twice": [f"Bearer {good}", f"Bearer {good}"],
        "Basic and good": ["Basic dTpw", f"Bearer {good}"],
        "good and Basic": [f"Bearer {good}", "Basic dTpw"],
        "good and an empty one": [f"Bearer {good}", ""],
        "in one field": [f"Bearer {good}, Bearer {bad}"],
        "in one field, no space": [f"Bearer {good},{bad}"],
        "a comma behind": [f"Bearer {good},"],
    }.items():
        case(f"two credentials: {name}", "multiple_tokens", values, good, status=400)


def serialisations(parties, case):
    home, reason = parties.home, "malformed_token"
    good = home.token(claims={"jti": "serialisations"})
    header, payload, signature = good.split(".")
    key = jwk.JWK.from_pyca(parties.rsa)
    signed = jws.JWS(unb64(payload))
    signed.add_signature(key, protected=json.dumps({"alg": "RS256", "typ": "JWT"}))
    flattened = signed.serialize()
    signed.add_signature(key, protected=json.dumps({"alg": "RS256", "typ": "JWT"}))
    general = signed.serialize()
    polyglot = json.dumps({good: "", "protected": header, "payload": payload, "signature": signature})
    for name, text in (("flattened JSON", flattened), ("general JSON", general), ("a polyglot", polyglot)):
        # A comma parts credentials (RFC 9110 section 11.4), before anybody looks for JSON.
        case(f"{name} as it is", "multiple_tokens", text, good, status=400)
        case(f"{name} in base64url", reason, b64(text.encode()), good)
        case(f"{name} in base64url as the header", reason, f"{b64(text.encode())}.{payload}.{signature}", good)
    case("JSON of one member", reason, json.dumps({good: ""}), good)

    public_key = jwk.JWK.from_pyca(parties.rsa.public_key())
    unsigned = compact(b'{"alg":"none"}', unb64(payload), b"")
    for alg in ("RSA-OAEP", "RSA-OAEP-256"):
        for name, inner in (("an unsigned token", unsigned), ("a good token", good)):
            sealed = jwe.JWE(inner, json.dumps({"alg": alg, "enc": "A256GCM", "cty": "JWT"}), recipient=public_key)
            case(f"{alg} of {name}", reason, sealed.serialize(compact=True), good)
    shared = jwk.JWK(kty="oct", k=b64(b"k" * 32))
    sealed = jwe.JWE(good, json.dumps({"alg": "dir", "enc": "A256GCM", "zip": "DEF"}), recipient=shared)
    case("a compressed JWE", reason, sealed.serialize(compact=True), good)
    nested = home.token({"cty": "JWT"}, raw_claims=good.encode())
    case("a token in a token", reason, nested, good)


TOPICS = (structure, fields, serialisations)
