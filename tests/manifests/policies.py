"""Rules that every manifest keeps. Each takes the documents of an overlay and returns what breaks it, in words."""

import re
from collections.abc import Callable

from tests.manifests.pods import Pod, environment, is_ours, of_kind, pods, runs_agent_session, selects
from tests.manifests.rendering import Docs

Rule = Callable[[Docs], list[str]]
RULES: dict[str, Rule] = {}

#: The NFS server of the kind overlay: root with two capabilities, its provisioner speaks with the API.
PRIVILEGED = "StatefulSet storage/nfs"
SHELLS = ("sh", "bash", "ash", "dash", "busybox")
SHELL_TOOLS = {"shell", "shell_start", "shell_poll", "shell_stop"}
SECRET_NAME = re.compile(r"^(?!.*_FILE$).*(KEY$|TOKEN|PASSWORD|SECRET|_PWD$|LIVE__URL)", re.IGNORECASE)
HASHED = re.compile(r"-[2456789bcdfghkmt]{10}$")
#: read under the same name by builds that are no longer the newest (components/worker-controller)
STAYS = "temporal-worker-credentials"
MARGIN_S = 5  #: between the end of a drain and SIGKILL


def rule(check: Rule) -> Rule:
    RULES[check.__name__] = check
    return check


@rule
def images_are_pinned(docs: Docs) -> list[str]:
    found: list[str] = []
    for pod in pods(docs):
        for one in pod.containers:
            image, name = one["image"], one["image"].rpartition("/")[2]
            if "@sha256:" not in image and (":" not in name or name.endswith(":latest")):
                found.append(f"{pod.name}: {image} may be another image tomorrow")
    return found


@rule
def containers_say_what_they_need_and_may_take(docs: Docs) -> list[str]:
    return [
        f"{pod.name}: {one['name']} has no {part} for {what}"
        for pod in pods(docs)
        for one in pod.containers
        for part in ("requests", "limits")
        for what in ("cpu", "memory")
        if what not in one.get("resources", {}).get(part, {})
    ]


@rule
def servers_are_probed(docs: Docs) -> list[str]:
    """And a Temporal or a volume that is away restarts nothing: liveness asks for the process alone. A gateway takes
    messages without workers and without the volume."""
    found: list[str] = []
    for pod in pods(docs):
        if not pod.serves:
            continue
        for one in pod.spec["containers"]:
            missing = {"startupProbe", "livenessProbe", "readinessProbe"} - one.keys()
            found += [f"{pod.name}: {one['name']} has no {probe}" for probe in sorted(missing)]
            if runs_agent_session(one) and not missing:
                ready = "/readyz?for=gateway" if one["args"][0] == "gateway" else "/readyz"
                for probe, path in (("livenessProbe", "/healthz"), ("readinessProbe", ready)):
                    if one[probe]["httpGet"]["path"] != path:
                        found.append(f"{pod.name}: {probe} asks {one[probe]['httpGet']['path']}, not {path}")
    return found


@rule
def pods_are_restricted(docs: Docs) -> list[str]:
    """As Kubernetes' own level `restricted`, and a root file system that nobody writes."""
    found: list[str] = []
    for pod in pods(docs):
        if pod.name == PRIVILEGED:
            continue
        about = pod.spec.get("securityContext", {})
        if about.get("runAsNonRoot") is not True or not about.get("runAsUser"):
            found.append(f"{pod.name}: may run as root")
        if about.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            found.append(f"{pod.name}: no seccomp profile")
        for one in pod.containers:
            own = one.get("securityContext", {})
            wrong = {
                "may gain privileges": own.get("allowPrivilegeEscalation") is not False,
                "can write its root file system": own.get("readOnlyRootFilesystem") is not True,
                "keeps capabilities": own.get("capabilities") != {"drop": ["ALL"]},
                "is privileged": bool(own.get("privileged")),
                "says another user": "runAsUser" in own or own.get("runAsNonRoot") is False,
            }
            found += [f"{pod.name}: {one['name']} {what}" for what, so in wrong.items() if so]
    return found


@rule
def pods_share_nothing_of_their_host(docs: Docs) -> list[str]:
    found = [
        f"{pod.name}: {field}"
        for pod in pods(docs)
        for field in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")
        if pod.spec.get(field)
    ]
    for pod in pods(docs):
        found += [f"{pod.name}: hostPath {one['name']}" for one in pod.spec.get("volumes", []) if "hostPath" in one]
        ports = [port for one in pod.containers for port in one.get("ports", []) if "hostPort" in port]
        found += [f"{pod.name}: hostPort {port['hostPort']}" for port in ports]
    return found


@rule
def pods_have_an_account_of_their_own_and_no_token(docs: Docs) -> list[str]:
    accounts = {(one["metadata"].get("namespace", ""), one["metadata"]["name"]): one for one in docs_of_accounts(docs)}
    found: list[str] = []
    for pod in pods(docs):
        account = accounts.get((pod.namespace, pod.spec.get("serviceAccountName", "default")))
        if account is None:
            found.append(f"{pod.name}: its ServiceAccount is not among the manifests")
        elif pod.name != PRIVILEGED:
            if pod.spec.get("automountServiceAccountToken") is not False:
                found.append(f"{pod.name}: gets a token of the API")
            if account.get("automountServiceAccountToken") is not False:
                found.append(f"{pod.name}: its ServiceAccount mounts tokens")
    return found


def docs_of_accounts(docs: Docs) -> Docs:
    return of_kind(docs, "ServiceAccount")


@rule
def rights_in_the_api_are_few(docs: Docs) -> list[str]:
    found: list[str] = []
    for doc in of_kind(docs, "Role", "ClusterRole"):
        name = f"{doc['kind']} {doc['metadata']['name']}"
        if name not in ("ClusterRole agent-session-nfs", "Role nfs"):
            found.append(f"{name}: nothing of ours speaks with the API")
        for one in doc["rules"]:
            if "*" in (*one["verbs"], *one["resources"], *one["apiGroups"]):
                found.append(f"{name}: a wildcard")
            if {"secrets", "pods/exec"} & set(one["resources"]):
                found.append(f"{name}: {one['resources']}")
    return found


@rule
def nothing_is_a_bare_shell(docs: Docs) -> list[str]:
    """No container runs a shell script, and no agent has a shell outside of agent-sandbox."""
    found: list[str] = []
    for pod in pods(docs):
        for one in pod.containers:
            command = [*one.get("command", []), *one.get("args", [])]
            if command and command[0].rpartition("/")[2] in SHELLS:
                found.append(f"{pod.name}: {one['name']} is a shell")
            if runs_agent_session(one) and one["args"][0] == "worker":
                found += [f"{pod.name}: {problem}" for problem in _shell_of(pod, one, docs)]
    return found


def _shell_of(pod: Pod, container: dict[str, object], docs: Docs) -> list[str]:
    given = environment(container, pod.namespace, docs)
    off = set(given.get("AGENT_SESSION_TOOLS__OFF", "").split(","))
    problems: list[str] = []
    if given.get("AGENT_SESSION_TOOLS__SHELL__SANDBOX") != "bubblewrap":
        problems.append("commands may run unconfined: AGENT_SESSION_TOOLS__SHELL__SANDBOX is not bubblewrap")
    sandboxed = pod.kind == "SandboxTemplate" and pod.spec.get("runtimeClassName")
    if not sandboxed and not off >= SHELL_TOOLS:
        problems.append(f"offers {', '.join(sorted(SHELL_TOOLS - off))} outside of agent-sandbox")
    return problems


@rule
def no_secret_is_written_down(docs: Docs) -> list[str]:
    """Secrets come from generators (a hash in the name), and no plain value has the name of a secret."""
    found = [
        f"Secret {doc['metadata']['name']}: not made by a generator"
        for doc in of_kind(docs, "Secret")
        if not HASHED.search(doc["metadata"]["name"]) and doc["metadata"]["name"] != STAYS
    ]
    for pod in pods(docs):
        for container in pod.containers:
            plain = [one["name"] for one in container.get("env", []) if "value" in one]
            found += [f"{pod.name}: {name} as a plain value" for name in plain if SECRET_NAME.search(name)]
    for doc in of_kind(docs, "ConfigMap"):
        found += [f"ConfigMap {doc['metadata']['name']}: {key}" for key in doc["data"] if SECRET_NAME.search(key)]
    return found


@rule
def what_is_replicated_has_a_budget_that_lets_nodes_drain(docs: Docs) -> list[str]:
    found: list[str] = []
    for pod in pods(docs):
        if not pod.serves or pod.replicas < 2:
            continue
        budgets = [
            doc["spec"]
            for doc in of_kind(docs, "PodDisruptionBudget")
            if doc["metadata"].get("namespace", "") == pod.namespace and selects(doc["spec"]["selector"], pod.labels)
        ]
        if len(budgets) != 1:
            found.append(f"{pod.name}: {len(budgets)} PodDisruptionBudgets")
        elif budgets[0].get("maxUnavailable", 1) == 0 or budgets[0].get("minAvailable", 0) >= pod.replicas:
            found.append(f"{pod.name}: its budget never lets a node drain")
    return found


@rule
def what_is_replicated_is_spread(docs: Docs) -> list[str]:
    return [
        f"{pod.name}: its replicas may share a node"
        for pod in pods(docs)
        if pod.kind in ("Deployment", "WorkerDeployment") and pod.replicas > 1
        if not any(
            one["topologyKey"] == "kubernetes.io/hostname" and selects(one["labelSelector"], pod.labels)
            for one in pod.spec.get("topologySpreadConstraints", [])
        )
    ]


@rule
def a_drain_ends_before_the_pod_is_killed(docs: Docs) -> list[str]:
    found: list[str] = []
    for pod in pods(docs):
        for one in pod.spec["containers"]:
            if not (pod.serves and runs_agent_session(one)):
                continue
            before = one.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            if not before:
                found.append(f"{pod.name}: no preStop")
            given = environment(one, pod.namespace, docs)
            drain = float(given["AGENT_SESSION_WORKER__GRACEFUL_STOP_S"]) if one["args"][0] == "worker" else 20.0
            if pod.spec.get("terminationGracePeriodSeconds", 30) < before + drain + MARGIN_S:
                found.append(f"{pod.name}: killed {before + drain:g} s after it is told to stop is too early")
    return found


@rule
def servers_of_ours_say_where_their_metrics_are(docs: Docs) -> list[str]:
    found: list[str] = []
    for pod in pods(docs):
        ports = {
            str(port["containerPort"]): port.get("name")
            for one in filter(runs_agent_session, pod.containers)
            for port in one.get("ports", [])
        }
        said = pod.template.get("metadata", {}).get("annotations", {})
        if pod.serves and ports and said.get("prometheus.io/scrape") != "true":
            found.append(f"{pod.name}: no annotation prometheus.io/scrape")
        elif pod.serves and ports and said.get("prometheus.io/port") not in ports:
            found.append(f"{pod.name}: prometheus.io/port is none of its ports")
    return found


@rule
def no_service_puts_variables_into_a_pod(docs: Docs) -> list[str]:
    """TEMPORAL_PORT=tcp://… would be Temporal's own configuration, AGENT_SESSION_… a setting that is none."""
    return [f"{pod.name}: enableServiceLinks" for pod in pods(docs) if pod.spec.get("enableServiceLinks") is not False]


@rule
def our_processes_share_the_volume_and_the_key(docs: Docs) -> list[str]:
    """Same claim, same directory, same signing key: else a session has two worlds."""
    found: list[str] = []
    for pod in pods(docs):
        for one in filter(runs_agent_session, pod.containers):
            mounts = {mount["name"]: mount["mountPath"] for mount in one.get("volumeMounts", [])}
            volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
            given = environment(one, pod.namespace, docs)
            claim = volumes.get("data", {}).get("persistentVolumeClaim", {}).get("claimName")
            if mounts.get("data") != "/data" or claim != "data":
                found.append(f"{pod.name}: the volume is not at /data")
            if given.get("AGENT_SESSION_DATA_DIR") != "/data/agent-session":
                found.append(f"{pod.name}: its data directory is not the others'")
            if one["args"][0] in ("init", "doctor"):
                continue
            if given.get("AGENT_SESSION_MAC_KEY_FILE") != f"{mounts.get('signing')}/mac.key":
                found.append(f"{pod.name}: the signing key is not where it looks for it")
    return found


@rule
def what_is_named_is_there(docs: Docs) -> list[str]:
    """ConfigMaps, Secrets, claims, targets of autoscalers and Services; names that change carry their hash."""
    found: list[str] = []
    there = {(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]) for one in docs}
    for pod in pods(docs):
        for kind, name in _named_by(pod):
            if (kind, pod.namespace, name) not in there and not (kind == "PersistentVolumeClaim" and pod.kind == "Job"):
                found.append(f"{pod.name}: {kind} {name} is nowhere")
            if kind in ("ConfigMap", "Secret") and not HASHED.search(name):
                found.append(f"{pod.name}: a changed {kind} {name} would not roll out")
    for doc in of_kind(docs, "HorizontalPodAutoscaler", "ScaledObject"):
        target = doc["spec"]["scaleTargetRef"]
        if (target["kind"], doc["metadata"]["namespace"], target["name"]) not in there:
            found.append(f"{doc['kind']} {doc['metadata']['name']}: {target} is nowhere")
    for doc in of_kind(docs, "Service"):
        backed = [pod for pod in pods(docs) if selects({"matchLabels": doc["spec"]["selector"]}, pod.labels)]
        if not [pod for pod in backed if pod.namespace == doc["metadata"].get("namespace", "")]:
            found.append(f"Service {doc['metadata']['name']}: no Pod stands behind it")
    return found


def _named_by(pod: Pod) -> list[tuple[str, str]]:
    named: list[tuple[str, str]] = []
    for one in pod.containers:
        for source in one.get("envFrom", []):
            named += [("ConfigMap", source["configMapRef"]["name"])] if "configMapRef" in source else []
            named += [("Secret", source["secretRef"]["name"])] if "secretRef" in source else []
        for variable in one.get("env", []):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                named.append(("Secret", variable["valueFrom"]["secretKeyRef"]["name"]))
    for volume in pod.spec.get("volumes", []):
        if "secret" in volume:
            named.append(("Secret", volume["secret"]["secretName"]))
        if "configMap" in volume:
            named.append(("ConfigMap", volume["configMap"]["name"]))
        if "persistentVolumeClaim" in volume:
            named.append(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]))
    return named


@rule
def one_version_of_us_runs(docs: Docs) -> list[str]:
    images = {one["image"] for pod in pods(docs) for one in pod.containers if is_ours(one)}
    return [f"several: {', '.join(sorted(images))}"] if len(images) > 1 else []
