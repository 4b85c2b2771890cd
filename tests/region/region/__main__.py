"""`python -m region PORT`; REGION_USERS is `{"alice": "<password>"}`."""

import json
import os
import sys

os.environ["DJANGO_SETTINGS_MODULE"] = "region.settings"

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()

from django.contrib.auth.models import User
from django.core.management import call_command
from waitress import serve

call_command("migrate", verbosity=0)
for name, password in json.loads(os.environ["REGION_USERS"]).items():
    if not User.objects.filter(username=name).exists():
        User.objects.create_user(name, f"{name}@example.com", password)
serve(application, host="127.0.0.1", port=int(sys.argv[1]), threads=24, channel_timeout=300, _quiet=True)
