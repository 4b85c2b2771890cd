"""What the claims say: each with other types, at its limits and beyond."""

import json
import time

from .parties import GONE, shown


def times(parties, case):
    home, now = parties.home, int(time.time())

    def exp(text):
        plain = json.dumps(home.claims(exp="@", iat=GONE))
        return home.token(raw_claims=plain.replace('"@"', text).encode())

    twin = home.token(claims={"iat": GONE, "jti": "times"})
    case("no exp", "missing_claim", home.token(claims={"exp": GONE}))
    kinds = (f"{now + 3600}", "", None, True, [], [now + 3600], {}, "never")
    for name in ("exp", "nbf", "iat"):
        for value in kinds:
            case(f"{name} {shown(value)[:12]}", "malformed_claim", home.token(claims={name: value}))
        case(f"{name} below zero", "malformed_claim", home.token(claims={name: -1}))
    for text in ("0", "-0", "1", "0.5", str(now - 3600), str(now - 90), f"{now - 90}.5", "1e9"):
        case(f"exp {text.replace(str(now)[:-5], 'now')}", "expired", exp(text), exp(f"{now + 600}.9"))
    far = (now + 86400 + 600, now + 50 * 365 * 86400, now * 1000, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30)
    for value in far:
        case(f"exp {value}", "lifetime_too_long", exp(str(value)), twin)
    case("exp 1e30", "lifetime_too_long", exp("1e30"), twin)
    for value in (now + 3600, now + 600.5, now * 1000, 2**63, 2**64 - 1, 10**30):
        forged = home.token(claims={"nbf": value})
        case(f"nbf {value}", "not_yet_valid", forged, home.token(claims={"nbf": now - 10, "jti": f"nbf {value}"}))
    case("iat in future", "issued_in_future", home.token(claims={"iat": now + 3000}))
    case("iat after exp", "malformed_claim", home.token(claims={"iat": now + 4000}))
    case("iat in milliseconds", "malformed_claim", home.token(claims={"iat": now * 1000}))
    case("iat more than a day before exp", "lifetime_too_long", home.token(claims={"iat": now - 86400}))
    case(
        "expired and forged is forged",
        "bad_signature",
        home.token(claims={"exp": now - 900, "iat": GONE}, key=parties.attacker),
    )


def issuer_claims(parties, case):
    home, east = parties.home, parties.east
    case("no iss", "missing_claim", home.token(claims={"iss": GONE}))
    for iss in (1, None, True, [home.iss], ["https://evil.example", home.iss], {home.iss: 1}):
        case(f"iss {shown(iss)}", "malformed_claim", home.token(claims={"iss": iss}))
    others = (
        "",
        " ",
        home.iss.upper(),
        home.iss + "/",
        home.iss + ".",
        " " + home.iss,
        home.iss + "\0",
        home.iss + "\n",
    )
    others += ("iss.home.test,iss.home.test", "iss.h\N{CYRILLIC SMALL LETTER O}me.test", "iss.home", "home", "null")
    for iss in others:
        case(f"iss {shown(iss)}", "unknown_issuer", home.token(claims={"iss": iss}))
    others = (
        "https://es.example.com/",
        "https://ES.example.com",
        "HTTPS://es.example.com",
        "https://es.example.com:443",
    )
    others += (
        "http://es.example.com",
        "https://es%2Eexample.com",
        "es.example.com",
        "https://es.example.com?x",
        "https://es.example.com#",
    )
    for iss in others:
        case(f"iss {iss}", "unknown_issuer", east.token(claims={"iss": iss}), party=east)


def audiences(parties, case):
    east = parties.east
    case("no aud", "missing_claim", east.token(claims={"aud": GONE}), party=east)
    for at, aud in enumerate(
        (
            "api://order",
            "api://orders2",
            "api://orders/",
            "API://orders",
            " api://orders",
            "",
            "*",
            "api://orders api://stock",
            "api://orders,api://stock",
            ["other"],
            [],
            ["api://order", "s"],
        )
    ):
        twin = east.token(
            claims={"aud": "api://orders" if isinstance(aud, str) else ["x", "api://stock"], "jti": f"aud {at}"}
        )
        case(f"aud {shown(aud)}", "wrong_audience", east.token(claims={"aud": aud}), twin, east)
    for aud in (
        5,
        None,
        True,
        {},
        {"api://orders": 1},
        [1, "api://orders"],
        ["api://orders", None],
        [["api://orders"]],
    ):
        case(f"aud {shown(aud)}", "malformed_claim", east.token(claims={"aud": aud}), party=east)


def kinds(parties, case):
    home = parties.home
    for kind in (
        "refresh",
        "sliding",
        "ACCESS",
        "Access",
        "access ",
        " access",
        "",
        "id",
        "session",
        "bearer",
        "access\0",
    ):
        case(f"token_type {kind!r}", "wrong_token_type", home.token(claims={"token_type": kind}))
    for kind in (None, 1, True, ["access"], {"access": 1}):
        case(f"token_type {shown(kind)}", "malformed_claim", home.token(claims={"token_type": kind}))
    for typ in ("JWT", "jwt", GONE):
        for good in ("at+jwt", "application/at+jwt", "AT+JWT"):
            forged = home.token({"typ": typ}, {"token_type": GONE})
            twin = home.token({"typ": good}, {"token_type": GONE, "jti": f"{good} {shown(typ)}"})
            case(f"no token_type, typ {shown(typ)} in place of {good}", "missing_claim", forged, twin)
    twin = home.token({"typ": "at+jwt"}, {"jti": "at+jwt"})
    case(
        "typ at+jwt of a refresh token",
        "wrong_token_type",
        home.token({"typ": "at+jwt"}, {"token_type": "refresh"}),
        twin,
    )
    for name, value in {
        "at_hash": "AAAA",
        "c_hash": "AAAA",
        "events": {"http://schemas.openid.net/event/x": {}},
    }.items():
        case(f"{name} in it", "wrong_token_type", home.token(claims={name: value}), home.token(claims={"nonce": name}))
    for cnf in ({"jkt": "AAAA"}, {"x5t#S256": "AAAA"}, {}, None, "x", []):
        case(f"cnf {shown(cnf)}", "bound_token", home.token(claims={"cnf": cnf}))


def required(parties, case):
    west = parties.west
    case("a required claim is missing", "missing_claim", west.token(claims={"role": GONE}), party=west)
    for role in (
        "user",
        "ADMIN",
        "admin ",
        "admin operator",
        "admin,operator",
        "",
        None,
        True,
        1,
        ["user"],
        [],
        [["admin"]],
        {"admin": 1},
    ):
        twin = west.token(
            claims={"role": ["user", "operator"] if isinstance(role, list) else "operator", "jti": f"role {role}"}
        )
        case(f"role {shown(role)}", "wrong_claim", west.token(claims={"role": role}), twin, west)
    for realm in (GONE, None, 3, [3], {}, {"Level": 3}):
        case(f"realm {shown(realm)}", "missing_claim", west.token(claims={"realm": realm}), party=west)
    case(
        "a name that looks like the pointer",
        "missing_claim",
        west.token(claims={"realm": GONE, "/realm/level": 3}),
        party=west,
    )
    for level in ("3", 4, 3.5, True, None, [], {"3": 3}):
        twin = west.token(claims={"realm": {"level": 3.0}, "jti": f"level {level}"})
        case(f"realm level {shown(level)}", "wrong_claim", west.token(claims={"realm": {"level": level}}), twin, west)


def identities(parties, case):
    """What cannot be a header in full, and what would pose as another issuer's user."""
    home = parties.home
    names = (
        "a\r\nx-regent-user: root",
        "a\nb",
        "a\0b",
        "a\tb",
        "\x7f",
        " alice",
        "alice ",
        "\u202eecila",
        "a\u200bb",
        "a\ufeff",
    )
    names += (
        "east:alice",
        "west:alice",
        "home:alice",
        "x" * 5000,
        {"a": 1},
        [["a"]],
        ["a,b"],
        ["a", None],
        ["a", "b\n"],
    )
    for name in names:
        case(f"username {shown(name)[:40]}", "unsafe_claim", home.token(claims={"username": name}))
    for user in ({}, {"id": 7}, "7\n", ["7", {}], "wide:7"):
        case(f"user_id {shown(user)}", "unsafe_claim", home.token(claims={"user_id": user}))


TOPICS = (times, issuer_claims, audiences, kinds, required, identities)
