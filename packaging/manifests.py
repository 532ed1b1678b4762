"""Checks what deploy/kubernetes says of its pods: what a schema does not ask for, and the documentation promises.

Usage: python manifests.py base|remove MANIFESTS      (MANIFESTS: what kubectl kustomize prints)
"""

import sys
from pathlib import Path
from typing import Any

import yaml

# What each part has, and what its first init container is told.
DAEMON_SETS = {
    "base": {"corefilt-node": "install", "corefilt-collect": None},
    "remove": {"corefilt-remove": "uninstall"},
}


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Every container of a pod, those that run first included."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def complaints_about_pod(name: str, told: str | None, pod: dict[str, Any]) -> list[str]:
    """What is wrong with the pods of a DaemonSet."""
    wrong = []
    if pod.get("automountServiceAccountToken") is not False:
        wrong.append("has a token of the cluster")
    if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        wrong.append("shares a namespace of the node")
    for each in containers(pod):
        rights = each["securityContext"]
        first = told is not None and each in pod.get("initContainers", [])
        if first != bool(rights.get("privileged")):
            wrong.append(f"{each['name']} is privileged, or has to be")
        dropped = rights.get("capabilities", {}).get("drop", [])
        if not first and (rights.get("allowPrivilegeEscalation") is not False or "ALL" not in dropped):
            wrong.append(f"{each['name']} keeps capabilities")
        if rights.get("readOnlyRootFilesystem") is not True:
            wrong.append(f"{each['name']} may write to its image")
        if not {"cpu", "memory"} <= set(each["resources"]["requests"]) or "memory" not in each["resources"]["limits"]:
            wrong.append(f"{each['name']} does not say what it needs")
    if told is not None and pod["initContainers"][0]["command"][-1] != told:
        wrong.append(f"does not {told}")
    return [f"{name}: {complaint}" for complaint in wrong]


def selects(policy: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a NetworkPolicy is for pods with ``labels``."""
    return policy["spec"]["podSelector"].get("matchLabels", {}).items() <= labels.items()


def main(part: str, path: Path) -> int:
    """Check them; returns 1 when something is wrong or missing."""
    objects = list(yaml.safe_load_all(path.read_text()))
    of_kind: dict[str, dict[str, Any]] = {}
    for each in objects:
        of_kind.setdefault(each["kind"], {})[each["metadata"]["name"]] = each
    expected = DAEMON_SETS[part]
    wrong = [f"is a {kind}" for kind in set(of_kind) - {"Namespace", "ConfigMap", "DaemonSet", "NetworkPolicy"}]
    sets = of_kind["DaemonSet"]
    if set(sets) != set(expected):
        wrong.append(f"has the DaemonSets {', '.join(sorted(sets))}")
    for name, told in expected.items():
        spec = sets[name]["spec"]
        wrong += complaints_about_pod(name, told, spec["template"]["spec"])
        if told is not None and spec["updateStrategy"]["type"] != "OnDelete":
            wrong.append(f"{name}: reaches nodes by itself")
        labels = spec["template"]["metadata"]["labels"]
        policies = [policy for policy in of_kind["NetworkPolicy"].values() if selects(policy, labels)]
        if not any({"Ingress", "Egress"} <= set(policy["spec"]["policyTypes"]) for policy in policies):
            wrong.append(f"{name}: no NetworkPolicy is for it")
        settings = {volume.get("configMap", {}).get("name") for volume in spec["template"]["spec"]["volumes"]}
        if not settings & set(of_kind["ConfigMap"]):
            wrong.append(f"{name}: has no settings")
    (namespace,) = of_kind["Namespace"].values()
    if namespace["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "privileged":
        wrong.append("the namespace does not admit the privileged pods")
    print("\n".join(wrong) or f"{part}: {len(objects)} objects are as the documentation says")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
