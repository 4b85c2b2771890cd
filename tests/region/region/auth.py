"""Login by email, and simplejwt's own bearer check, which here also knows revoked access tokens."""

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import InvalidToken
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer

from . import observed


class ByEmail(ModelBackend):
    def authenticate(self, request, email=None, password=None, **_):
        user = User.objects.filter(email=email).first()
        return user if user and user.check_password(password) else None


class Login(TokenObtainPairSerializer):
    username_field = "email"

    @classmethod
    def get_token(cls, user):
        token = super().get_token(user)
        token["username"], token["email"] = user.username, user.email
        return token

    def validate(self, attrs):
        # The SDK's login wants the name beside the tokens.
        return super().validate(attrs) | {"username": self.user.username}


class Bearer(JWTAuthentication):
    def get_validated_token(self, raw_token):
        if observed.refused(observed.peek(raw_token.decode())):
            raise InvalidToken({"detail": "Token is revoked"})
        return super().get_validated_token(raw_token)
