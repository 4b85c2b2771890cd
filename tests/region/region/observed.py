"""What this region saw, and how it was told to behave.

Logins, refreshes and verifies go to REGION_DIR/calls.jsonl, every token that leaves to
REGION_DIR/issued, so that they outlast the process; the rest is this process's own.
"""

import json
import threading
import time

import jwt
from django.conf import settings
from django.http import HttpResponse

lock = threading.Lock()
state = {
    "access": {},  # jti of an access token: how often it came
    "expired": 0,  # requests that came with an expired access token
    "rejected": 0,  # requests that were refused because of `revoked` or `reject_all`
    "revoked": [],  # jti of access tokens
    "reject_all": False,
    "delay_before": 0.0,  # seconds, of a login, refresh or verify before it is carried out
    "delay_after": 0.0,  # seconds, after it was carried out and before it is answered
    "fail": None,  # answer logins, refreshes and verifies with this status
}
one_at_a_time = threading.Lock()  # who reads or changes which refresh tokens live


def peek(token):
    """The claims, unverified; none where it is no JWT."""
    try:
        return jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return {}


def issued(*tokens):
    _append("issued", *tokens)


def _append(name, *lines):
    with lock, open(settings.DIR / name, "a") as file:
        file.writelines(f"{line}\n" for line in lines)


def refused(claims):
    """Counts an access token that came; whether it is revoked."""
    with lock:
        jti = claims.get("jti")
        state["access"][jti] = state["access"].get(jti, 0) + 1
        state["expired"] += claims.get("exp", 0) <= time.time()
        refused = state["reject_all"] or jti in state["revoked"]
        state["rejected"] += refused
        return refused


def recorded(call, view):
    """The view, one call at a time (simplejwt itself has no lock), with an entry in `calls`."""

    def answer(request):
        fields = _fields(request)
        presented = fields.get("refresh") or fields.get("token") or ""
        time.sleep(state["delay_before"])
        made = {}
        if state["fail"]:
            response = HttpResponse("<html>not now</html>", status=state["fail"])
        else:
            with one_at_a_time:
                response = view(request)
            if response.status_code == 200:
                made = {kind: token for kind, token in response.data.items() if kind in ("refresh", "access")}
        issued(*made.values())
        entry = {"call": call, "at": time.time(), "status": response.status_code}
        entry |= {"presented": peek(presented).get("jti")}
        entry |= {kind: peek(token).get("jti") for kind, token in made.items()}
        _append("calls.jsonl", json.dumps(entry))
        time.sleep(state["delay_after"])
        return response

    answer.csrf_exempt = True
    return answer


def _fields(request):
    body = request.body
    if request.content_type != "application/json":
        return request.POST
    try:
        return json.loads(body)
    except ValueError:
        return {}
