"""The region's endpoints, a protected API to call through Regent, and the controls of the tests."""

import hashlib
import json

from django.contrib.auth.models import User
from django.http import HttpResponse, JsonResponse
from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.decorators import api_view
from rest_framework.response import Response
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.tokens import AccessToken
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView, TokenVerifyView

from . import auth, observed


@api_view(["GET", "POST", "PUT", "PATCH", "DELETE"])
def whoami(request):
    claims = request.auth.payload
    return JsonResponse({name: claims.get(name) for name in ("username", "email", "user_id", "jti", "exp", "iat")})


@api_view(["POST", "PUT"])
def echo(request):
    body = request._request.body
    digest = hashlib.sha256(body).hexdigest()
    headers = {"X-Body-Sha256": digest, "X-User": request.auth.payload["username"]}
    return HttpResponse(body, content_type="application/octet-stream", headers=headers)


@api_view(["GET"])
def session_token(request):
    """A token for one model or app, asked for with a GET that has a body."""
    fields = request._request.body.decode()
    token = AccessToken.for_user(request.user)
    token["token_type"], token["for"] = "session", fields
    observed.issued(str(token))
    return Response({"token": str(token)})


@api_view(["GET"])
def cluster(request):
    """What the SDK asks for right after its login."""
    return Response({"NAME": "test", "REGION_NAME": "test"})


@api_view(["GET", "POST"])
def model(request):
    return Response({"user": request.auth.payload.get("username")}, headers={"x-prt-model-id": "7"})


@csrf_exempt
def behave(request):
    wanted = json.loads(request.body)
    with observed.lock:
        assert wanted.keys() <= observed.state.keys()
        observed.state.update(wanted)
    return JsonResponse({})


def seen(request):
    with observed.lock:
        return JsonResponse(observed.state)


@csrf_exempt
def mint(request):
    """A refresh token as a person hands it out."""
    refresh = auth.Login.get_token(User.objects.get(username=json.loads(request.body)["user"]))
    observed.issued(str(refresh))
    return JsonResponse({"refresh": str(refresh), "jti": refresh["jti"]})


@csrf_exempt
def blacklist(request):
    """Every refresh token of a user is dead from now on, and so is one that a call is about to rotate to."""
    with observed.one_at_a_time:
        for token in OutstandingToken.objects.filter(user__username=json.loads(request.body)["user"]):
            BlacklistedToken.objects.get_or_create(token=token)
    return JsonResponse({})


login = TokenObtainPairView.as_view(serializer_class=auth.Login)
urlpatterns = [
    path("console/api/auth/", observed.recorded("login", login)),
    path("console/api/auth/refresh/", observed.recorded("refresh", TokenRefreshView.as_view())),
    path("console/api/auth/verify/", observed.recorded("verify", TokenVerifyView.as_view())),
    path("console/api/modelhost/model-auth/", session_token),
    path("console/api/apphost/app-auth/", session_token),
    path("console/api/central/clusterdefinition/", cluster),
    re_path("^models/", model),
    path("api/echo", echo),
    re_path("^api/", whoami),
    path("_test/behave", behave),
    path("_test/seen", seen),
    path("_test/mint", mint),
    path("_test/blacklist", blacklist),
]
