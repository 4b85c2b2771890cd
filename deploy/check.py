#!/usr/bin/env python3
"""Renders the pod example, validates it against the Kubernetes schemas, and asserts what the schemas do not say.

Needs kubectl, and from PyPI: kubernetes-validate (which brings PyYAML). Touches no cluster.
"""
import pathlib
import subprocess
import tomllib

import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).resolve().parent
RESTRICTED = {"runAsNonRoot": True, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
              "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}
faults = []


def expect(what, holds):
    if not holds:
        faults.append(what)


def seconds(text):
    return int(text.removesuffix("s"))


rendered = subprocess.run(["kubectl", "kustomize", HERE / "pod"], check=True, capture_output=True, text=True).stdout
documents = list(yaml.safe_load_all(rendered))
for version in ("1.29", "1.33", kubernetes_validate.latest_version()):
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)

kinds = {document["kind"]: document for document in documents}
expect("a Deployment and a ConfigMap, and no Secret with a value in it", sorted(kinds) == ["ConfigMap", "Deployment"])
config = tomllib.loads(kinds["ConfigMap"]["data"]["regent.toml"])
pod = kinds["Deployment"]["spec"]["template"]["spec"]
regent, workload = pod["initContainers"][0], pod["containers"][0]
volumes = {volume["name"]: volume for volume in pod["volumes"]}
mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in regent["volumeMounts"]}

expect("Regent is the first init container and a native sidecar",
       (regent["name"], regent["restartPolicy"]) == ("regent", "Always"))
for probe, word, period in (("startupProbe", "startup", 1), ("livenessProbe", "live", 10), ("readinessProbe", "ready", 10)):
    expect(f"{probe} runs `regent probe {word}`", regent[probe].get("exec") == {"command": ["/regent", "probe", word]})
    expect(f"{probe} runs at most once in {period} s", regent[probe]["periodSeconds"] >= period)
for container in pod["initContainers"] + pod["containers"]:
    context, name = container["securityContext"], container["name"]
    expect(f"{name} is restricted at container level", RESTRICTED.items() <= context.items())
    expect(f"{name} does not run as root", min(context["runAsUser"], context["runAsGroup"]) > 0)
    expect(f"{name} has a memory limit and no CPU limit", list(container["resources"]["limits"]) == ["memory"])
    expect(f"{name} mounts no subPath", not any("subPath" in m or "subPathExpr" in m for m in container.get("volumeMounts", [])))
expect("Regent runs as 65532", regent["securityContext"]["runAsUser"] == 65532 == pod["securityContext"]["fsGroup"])
expect("Regent's requests are small", regent["resources"]["requests"] == {"cpu": "10m", "memory": "16Mi"})
expect("no service account token, no service links",
       pod["automountServiceAccountToken"] is False is pod["enableServiceLinks"])
expect("no two pods share a refresh token",
       (kinds["Deployment"]["spec"]["replicas"], kinds["Deployment"]["spec"]["strategy"]) == (1, {"type": "Recreate"}))

expect("the config is where `regent run` looks", "configMap" in mounts["/etc/regent"])
credential = config["region"]["credential"]
token = mounts[str(pathlib.PurePath(credential["refresh_token_file"]).parent)]["secret"]
expect("the token file is 0440 and required", token["defaultMode"] == 0o440 and not token.get("optional"))
state = mounts[str(pathlib.PurePath(credential["state"].removeprefix("file:")).parent)]
expect("the state lies in an emptyDir", "emptyDir" in state)
expect("the region is reached over TLS", config["region"]["url"].startswith("https://"))
expect("outbound listens on loopback, where the workload calls",
       config["outbound"]["listen"] == "127.0.0.1:8080" and {"name": "REGION_URL", "value": "http://localhost:8080"} in workload["env"])
expect("the drain fits the grace period", seconds(config["drain"]["timeout"]) < pod["terminationGracePeriodSeconds"])

if faults:
    raise SystemExit("\n".join(f"deploy/pod: does not hold: {fault}" for fault in faults))
print(f"deploy/pod: {len(documents)} documents, valid and restricted")
