"""RSA signatures whose PKCS#1 v1.5 padding was altered, made with the private key itself.

RFC 8017 section 8.2.2 has the verifier make the one encoding that is right and compare it byte for
byte. Who parses instead takes some of these, and the laxer ones let a key with the exponent 3 be forged
without its private half (Bleichenbacher, 2006; CVE-2006-4339 and its many heirs).
"""

import hashlib

from .parties import b64

# DigestInfo (RFC 8017 section 9.2, note 1) up to the hash.
OIDS = {
    "SHA-1": bytes.fromhex("06052b0e03021a"),
    "MD5": bytes.fromhex("06082a864886f70d0205"),
    "SHA-224": bytes.fromhex("0609608648016503040204"),
    "SHA-256": bytes.fromhex("0609608648016503040201"),
    "SHA-384": bytes.fromhex("0609608648016503040202"),
    "SHA-512": bytes.fromhex("0609608648016503040203"),
}
NULL = b"\x05\x00"


def der(tag, *parts, length=None):
    """An element of a short form length, or with these bytes as its length."""
    content = b"".join(parts)
    return bytes([tag]) + (bytes([len(content)]) if length is None else length) + content


def info(digest, oid=OIDS["SHA-256"], null=NULL):
    return der(0x30, der(0x30, oid, null), der(0x04, digest))


def encoded(size, content, *, first=b"\0", kind=b"\1", fill=b"\xff", end=b"\0", behind=b""):
    """EMSA-PKCS1-v1_5, filled up to the size of the modulus."""
    rest = size - len(first + kind + end + content + behind)
    return first + kind + (fill * rest)[:rest] + end + content + behind


def lengths(digest):
    """Every length of the DigestInfo, written in each way that DER forbids or that is not true."""
    oid = OIDS["SHA-256"]
    algorithm, octets = der(0x30, oid, NULL), der(0x04, digest)
    value = oid[2:]

    def of(name):
        def outer(length, more=b""):
            return der(0x30, algorithm, octets, more, length=length)

        def inner(length, more=b""):
            return der(0x30, der(0x30, oid, NULL, more, length=length), octets)

        def of_oid(length, more=b""):
            return der(0x30, der(0x30, der(0x06, value, more, length=length), NULL), octets)

        def of_null(length, more=b""):
            return der(0x30, der(0x30, oid, der(0x05, more, length=length)), octets)

        def of_hash(length, more=b""):
            return der(0x30, algorithm, der(0x04, digest, more, length=length))

        return {
            "the sequence": (outer, len(algorithm + octets)),
            "the algorithm": (inner, len(oid + NULL)),
            "the OID": (of_oid, len(value)),
            "the NULL": (of_null, 0),
            "the hash": (of_hash, len(digest)),
        }[name]

    for name in ("the sequence", "the algorithm", "the OID", "the NULL", "the hash"):
        made, right = of(name)
        yield f"a long form length of {name}", made(bytes([0x81, right]))
        yield f"a longer length of {name}", made(bytes([0x82, 0, right]))
        yield f"a length of {name} of five bytes", made(bytes([0x84, 0, 0, 0, right]))
        yield f"a length of {name} beyond 32 bits", made(bytes([0x85, 1, 0, 0, 0, right]))
        yield f"a length of {name} beyond 64 bits", made(bytes([0x89, 1, 0, 0, 0, 0, 0, 0, 0, right]))
        yield f"an endless length of {name}", made(b"\x80", b"\0\0")
        yield f"a length of {name} of one too many", made(bytes([right + 1]))
        yield f"a length of {name} of one too few", made(bytes([(right - 1) % 128]))
        yield f"a length of {name} of 2^31 - 1", made(b"\x84\x7f\xff\xff\xff")
        yield f"a length of {name} of 2^32 - 1", made(b"\x84\xff\xff\xff\xff")
        yield f"no length of {name}", made(b"")
        yield f"a zero more in {name}", made(bytes([right + 1]), b"\0")
        yield f"a NULL more in {name}", made(bytes([right + 2]), NULL)


def contents(digest):
    """What stands behind the padding, in the place of the DigestInfo."""
    oid, octets = OIDS["SHA-256"], der(0x04, digest)
    algorithm = der(0x30, oid, NULL)
    good = info(digest)
    yield from lengths(digest)
    for name, other in OIDS.items():
        if name != "SHA-256":
            yield f"the OID of {name}", info(digest, oid=other)
    yield "no NULL", info(digest, null=b"")
    yield "two NULLs", info(digest, null=NULL + NULL)
    yield "an empty sequence for the NULL", info(digest, null=b"\x30\x00")
    yield "an empty text for the NULL", info(digest, null=b"\x04\x00")
    yield "a parameter of garbage", info(digest, null=der(0x04, b"garbage!"))
    yield "a large parameter of garbage", info(digest, null=der(0x04, b"g" * 40))
    yield "no OID", info(digest, oid=b"")
    yield "an OID that goes on", info(digest, oid=der(0x06, oid[2:], b"\1"))
    yield "an OID that is cut", info(digest, oid=der(0x06, oid[2:-1]))
    yield "an OID with a zero before its last arc", info(digest, oid=der(0x06, oid[2:-1], b"\x80\1"))
    yield "no algorithm", der(0x30, octets)
    yield "no hash", der(0x30, algorithm)
    yield "an empty hash", der(0x30, algorithm, b"\x04\0")
    yield "the hash first", der(0x30, octets, algorithm)
    yield "two hashes", der(0x30, algorithm, octets, octets)
    yield "another hash before it", der(0x30, algorithm, der(0x04, bytes(32)), octets)
    yield "the hash cut by a byte", info(digest[:-1])
    yield "the hash and a zero", info(digest + b"\0")
    yield "the hash as a bit string", der(0x30, algorithm, der(0x03, b"\0", digest))
    yield "the hash as an integer", der(0x30, algorithm, der(0x02, digest))
    yield "the hash in pieces", der(0x30, algorithm, der(0x24, der(0x04, digest[:16]), der(0x04, digest[16:])))
    yield "the hash in hexadecimal", info(digest.hex().encode())
    yield "a set for the sequence", der(0x31, algorithm, octets)
    yield "a set for the algorithm", der(0x30, der(0x31, oid, NULL), octets)
    yield "a tag of the application", der(0x70, algorithm, octets)
    yield "a tag of two bytes", b"\x3f\x10" + good[1:]
    yield "a sequence in a sequence", der(0x30, good)
    yield "NULL alone", NULL
    yield "nothing", b""
    yield "the hash alone", digest
    yield "the hash in its octets alone", octets
    yield "the DigestInfo twice", good + good
    yield "the DigestInfo cut by a byte", good[:-1]
    for at in range(len(good) - len(digest)):
        yield f"bit 0 of byte {at} flipped", good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]


def paddings(size, digest):
    """What stands around the DigestInfo."""
    good = info(digest)
    yield "a first byte of 1", encoded(size, good, first=b"\1")
    yield "no first byte", encoded(size, good, first=b"")
    yield "two first bytes", encoded(size, good, first=b"\0\0")
    yield "a kind of 0", encoded(size, good, kind=b"\0")
    yield "a kind of 0, filled with zeros", encoded(size, good, kind=b"\0", fill=b"\0")
    yield "the kind of encryption", encoded(size, good, kind=b"\2")
    yield "the kind of encryption, filled with other bytes", encoded(size, good, kind=b"\2", fill=b"\x5a\xa5")
    yield "no kind", encoded(size, good, kind=b"")
    yield "no end of the fill", encoded(size, good, end=b"")
    yield "an end of the fill of 1", encoded(size, good, end=b"\1")
    yield "an end of the fill of 255", encoded(size, good, end=b"\xff")
    yield "two ends of the fill", encoded(size, good, end=b"\0\0")
    yield "a fill of zeros", encoded(size, good, fill=b"\0")
    yield "a fill of 254", encoded(size, good, fill=b"\xfe")
    yield "a fill of many bytes", encoded(size, good, fill=b"\xff\xff\xfe")
    right = encoded(size, good)
    for name, at in {"first": 2, "eighth": 9, "ninth": 10, "last": size - len(good) - 2}.items():
        for value in (0x00, 0x7F, 0xFE):
            yield f"{value} as the {name} byte of the fill", right[:at] + bytes([value]) + right[at + 1 :]
    room = size - len(good) - 3
    for short in (0, 1, 7, 8, room - 8, room - 1):
        head = b"\0\1" + b"\xff" * short + b"\0"
        rest = size - len(head + good)
        yield f"a fill of {short}, garbage behind the hash", head + good + b"\x5a" * rest
        yield f"a fill of {short}, zeros behind the hash", head + good + bytes(rest)
        yield f"a fill of {short}, zeros before the hash", head + bytes(rest) + good
        yield f"a fill of {short}, the hash again", (head + good * 5)[:size].ljust(size, b"\0")
    yield "no padding", good.rjust(size, b"\0")
    yield "no padding, the hash alone", digest.rjust(size, b"\0")
    yield "no padding, the hash first", (b"\0" + digest).ljust(size, b"\0")
    yield "a zero behind it all", encoded(size, good, behind=b"\0")
    yield "the number 1", b"\1".rjust(size, b"\0")
    yield "the number 0", bytes(size)


def altered(parties, case):
    home, numbers = parties.home, parties.rsa.private_numbers()
    header, payload, signature = home.token(claims={"jti": "padding"}).split(".")
    content = f"{header}.{payload}"
    digest = hashlib.sha256(content.encode()).digest()
    modulus = numbers.public_numbers.n
    size = (modulus.bit_length() + 7) // 8

    def token(block):
        number = int.from_bytes(block, "big")
        assert len(block) == size and number < modulus, "no signature comes to it"
        made = pow(number, numbers.d, modulus)
        return f"{content}.{b64(made.to_bytes(size, 'big'))}"

    twin = f"{content}.{signature}"
    right = encoded(size, info(digest))
    assert token(right) == twin, "this is how the right one is made"
    for name, number in {"n": modulus, "n - 1": modulus - 1, "2": 2, "2^2047": 1 << 2047}.items():
        forged = f"{content}.{b64(number.to_bytes(size, 'big'))}"
        case(f"RS256 signature: the number {name}", "bad_signature", forged, twin)
    seen = {right}
    blocks = [(name, encoded(size, content)) for name, content in contents(digest)]
    for name, block in blocks + list(paddings(size, digest)):
        if block in seen:
            continue
        seen.add(block)
        case(f"RS256 padding: {name}", "bad_signature", token(block), twin)


def cube_root(number):
    """The least number whose cube is not below it."""
    low, high = 0, 1 << (number.bit_length() // 3 + 1)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle**3 < number else (low, middle)
    return low


def exponent_three(parties, case):
    """Forged with the public key alone: a cube below the modulus that begins, or ends, as it should."""
    cube = parties.cube
    header, payload, signature = cube.token(claims={"jti": "cube"}).split(".")
    content = f"{header}.{payload}"
    digest = hashlib.sha256(content.encode()).digest()
    size = 256
    begins = {
        "garbage behind the hash": b"\0\1" + b"\xff" * 8 + b"\0" + info(digest),
        "garbage behind the hash, no fill": b"\0\1\0" + info(digest),
        "garbage behind the hash, no NULL": b"\0\1" + b"\xff" * 8 + b"\0" + info(digest, null=b""),
        "garbage behind the hash alone": b"\0\1" + b"\xff" * 8 + b"\0" + digest,
    }
    for name, begin in begins.items():
        root = cube_root(int.from_bytes(begin.ljust(size, b"\0"), "big"))
        assert (root**3).to_bytes(size, "big").startswith(begin), name
        forged = f"{content}.{b64(root.to_bytes(size, 'big'))}"
        case(f"a cube: {name}", "bad_signature", forged, f"{content}.{signature}", cube)
    # An odd number is the cube of one number below any power of two.
    for at in range(64):
        header, payload, signature = cube.token(claims={"jti": f"cube {at}"}).split(".")
        content = f"{header}.{payload}"
        digest = hashlib.sha256(content.encode()).digest()
        if digest[-1] % 2:
            break
    end = b"\0" + info(digest)
    power = 1 << 8 * len(end)
    root = pow(int.from_bytes(end, "big"), pow(3, -1, power // 2), power)
    assert (root**3).to_bytes(size, "big").endswith(end), "the end of a cube"
    forged = f"{content}.{b64(root.to_bytes(size, 'big'))}"
    case("a cube: garbage before the hash", "bad_signature", forged, f"{content}.{signature}", cube)


TOPICS = (altered, exponent_three)
