import os
import posixpath
import re
import sys
from urllib.parse import unquote

from django.conf import settings

settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY=os.urandom(32).hex(), ROOT_URLCONF=__name__, LOGGING_CONFIG=None)

from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import re_path
from waitress import serve

OPEN = re.compile("/(public|healthz)(/|$)")


def readings(raw, decoded):
    yield posixpath.normpath(decoded)
    yield posixpath.normpath(decoded.replace("\\", "/"))
    yield posixpath.normpath(re.sub(";[^/]*", "", decoded))
    yield posixpath.normpath(unquote(re.sub(";[^/]*", "", raw)))


def everything(request):
    found = {
        re.sub("^//+", "/", path) for path in readings(request.META["REQUEST_URI"].split("?")[0], request.path_info)
    }
    served = "open" if all(OPEN.match(path) for path in found) else "protected"
    return HttpResponse("\n".join(sorted(found)), content_type="text/plain", headers={"X-Served": served})


urlpatterns = [re_path("", everything)]
serve(get_wsgi_application(), host="127.0.0.1", port=int(sys.argv[1]), threads=8, channel_timeout=300, _quiet=True)
