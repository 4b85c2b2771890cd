"""The table: what is done to a token, and the word that it is refused with."""

from dataclasses import dataclass

from . import claims, headers, padding, proofs, shapes, texts


@dataclass
class Case:
    """What is sent, what is answered, and the twin that passes."""

    name: str
    reason: str
    attacked: list  # the Authorization fields
    twin: list
    issuer: str
    status: int


def cases(parties):
    found = []

    def case(name, reason, attacked, twin=None, party=parties.home, status=401):
        twin = twin or party.token(claims={"jti": name})
        fields = [f"Bearer {one}" if isinstance(one, str) else one for one in (attacked, twin)]
        fields = [[one] if isinstance(one, str) else one for one in fields]
        found.append(Case(name, reason, *fields, party.name, status))

    for module in (headers, shapes, texts, claims, proofs, padding):
        for topic in module.TOPICS:
            topic(parties, case)
    return found
