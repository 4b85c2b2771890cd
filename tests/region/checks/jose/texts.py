"""What JSON is: members that stand twice, and what is none."""

import json
import time


def duplicates(parties, case):
    home, reason = parties.home, "duplicate_member"

    def twice(name, other, first):
        plain = json.dumps(home.claims(jti=f"twice {name}", role="user"))
        added = (
            f"{json.dumps(name)}: {json.dumps(other)}" if not name.startswith('"') else f"{name}: {json.dumps(other)}"
        )
        text = f"{{{added}, {plain[1:]}" if first else f"{plain[:-1]}, {added}}}"
        return home.token(raw_claims=text.encode()), home.token(raw_claims=plain.encode())

    names = {
        "iss": "iss.home.test",
        "exp": int(time.time()) + 3600,
        "token_type": "access",
        "jti": "x",
        "username": "root",
    }
    names |= {"role": "admin", "user_id": 1, '"\\u0069ss"': "iss.home.test", '"rol\\u0065"': "admin", '"\\u0065xp"': 1}
    for name, other in names.items():
        for first in (True, False):
            case(f"claim {name} twice, {'before' if first else 'behind'}", reason, *twice(name, other, first))
    plain = json.dumps(home.claims(jti="nested"))
    for name, nested in {
        "in an object": '{"a": 1, "a": 2}',
        "in a list": '[{"a": 1, "\\u0061": 1}]',
        "with an empty name": '{"": 1, "": 2}',
    }.items():
        forged = home.token(raw_claims=f'{plain[:-1]}, "x": {nested}}}'.encode())
        twin = home.token(raw_claims=f'{plain[:-1]}, "x": {{"a": 1, "b": 2}}}}'.encode())
        case(f"a member twice {name}", reason, forged, twin)
    for header in (
        '{"alg": "none", "alg": "RS256"}',
        '{"alg": "RS256", "alg": "none"}',
        '{"alg": "RS256", "\\u0061lg": "RS256"}',
        '{"alg": "RS256", "kid": "a", "kid": "b"}',
        '{"alg": "RS256", "typ": "JWT", "typ": "JWT"}',
        '{"alg": "RS256", "x": 1, "x": 1}',
        '{"alg": "RS256", "jwk": {"a": 1, "a": 1}}',
    ):
        case(f"header {header}", reason, home.token(raw_header=header.encode()))


def json_text(parties, case):
    home, reason = parties.home, "malformed_token"
    plain = json.dumps(home.claims(jti="text")).encode()
    twin = home.token(raw_claims=plain)
    payloads = {
        "an array": b"[" + plain + b"]",
        "an empty array": b"[]",
        "null": b"null",
        "a number": b"1",
        "true": b"true",
        "a string": json.dumps(plain.decode()).encode(),
        "white space": b"  ",
        "after a BOM": b"\xef\xbb\xbf" + plain,
        "in UTF-16": plain.decode().encode("utf-16"),
        "with a byte behind": plain + b"x",
        "with a NUL behind": plain + b"\0",
        "twice": plain + plain,
        "with a comma at its end": plain[:-1] + b",}",
        "without its end": plain[:-1],
        "with a comment": plain[:-1] + b"/* */}",
        "in single quotes": plain.replace(b'"', b"'"),
        "with NaN": plain[:-1] + b', "x": NaN}',
        "with Infinity": plain[:-1] + b', "x": -Infinity}',
        "with 1e400": plain[:-1] + b', "x": 1e400}',
        "with a hexadecimal number": plain[:-1] + b', "x": 0x10}',
        "with a leading zero": plain[:-1] + b', "x": 01}',
        "with a lone surrogate": plain[:-1] + b', "x": "\\ud800"}',
        "with bytes that are no UTF-8": plain[:-1] + b', "x": "\xff"}',
        "with overlong UTF-8": plain[:-1] + b', "x": "\xc0\xaf"}',
        "with a newline in a string": plain[:-1] + b', "x": "\n"}',
        "with a name that is no string": plain[:-1] + b", x: 1}",
        "five thousand levels deep": plain[:-1] + b', "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        "two hundred objects deep": plain[:-1] + b', "x": ' + b'{"a":' * 200 + b"1" + b"}" * 201,
    }
    for name, payload in payloads.items():
        case(f"payload {name}", reason, home.token(raw_claims=payload), twin)
    header = json.dumps(home.header()).encode()
    headers = {
        "an array": b"[" + header + b"]",
        "null": b"null",
        "a string": b'"RS256"',
        "after a BOM": b"\xef\xbb\xbf" + header,
        "with a byte behind": header + b"x",
        "twice": header + header,
        "with a comma at its end": header[:-1] + b",}",
        "with NaN": header[:-1] + b', "x": NaN}',
        "with a lone surrogate": header[:-1] + b', "x": "\\udfff"}',
        "five thousand levels deep": header[:-1] + b', "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    }
    for name, text in headers.items():
        case(f"header {name}", reason, home.token(raw_header=text))


TOPICS = (duplicates, json_text)
