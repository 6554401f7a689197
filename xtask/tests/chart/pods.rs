//! What the pods may do on their node, and how they are kept running.

use rstest::rstest;
use serde_json::json;

use crate::render::Render;

/// Values that change as much as possible.
const MANY: &[&str] = &[
    "imagePullSecrets[0].name=registry",
    "apiServer.host=api.example.com",
    "apiServer.port=443",
    "log.level=debug",
    "log.format=json",
    "listenAddress=[::]",
    "podCidrs={10.244.0.0/16,fd00:10:244::/56}",
    "operator.image.repository=registry.example:5000/operator",
    "operator.image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "operator.image.pullPolicy=Always",
    "operator.replicas=3",
    "operator.port=19440",
    "operator.podAnnotations.note=one",
    "operator.podLabels.team=net",
    "agent.image.tag=v9",
    "agent.port=19441",
    "agent.podInterfaces={cni0,br-pods}",
    "agent.cniResultsDir=/var/lib/other/results",
    "agent.unknownPods=open",
    "agent.countAllowed=true",
    "agent.tableOwnership=plain",
    "agent.maxUnavailable=1",
    "agent.resources.limits.memory=1Gi",
    "agent.podAnnotations.note=one",
    "agent.podLabels.team=net",
    "teardown.timeout=2m",
];

#[rstest]
#[case::default(&[])]
#[case::many(MANY)]
#[case::no_cni_results(&["agent.cniResultsDir="])]
fn pods_have_no_right_that_they_do_not_need(#[case] values: &[&str]) {
    let render = Render::of(values);
    for (name, pod) in render.pods() {
        let container = render.container(name);
        let security = &container["securityContext"];
        assert_eq!(security["privileged"], false, "{name}");
        assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(pod["securityContext"], json!({"seccompProfile": {"type": "RuntimeDefault"}}), "{name}");
        for field in ["hostPID", "hostIPC", "shareProcessNamespace"] {
            assert!(pod[field].is_null(), "{name}: {field}");
        }
        assert!(security["seccompProfile"].is_null(), "{name}: the pod's profile counts");
        assert_eq!(pod["hostNetwork"], true, "{name}");
        let agent = name == "selvage-agent";
        let capabilities =
            if agent { json!({"drop": ["ALL"], "add": ["NET_ADMIN"]}) } else { json!({"drop": ["ALL"]}) };
        assert_eq!(security["capabilities"], capabilities, "{name}");
        let user = if agent { json!(0) } else { json!(65532) };
        assert_eq!(security["runAsUser"], user, "{name}");
        assert_eq!(security["runAsNonRoot"], if agent { json!(null) } else { json!(true) }, "{name}");
    }
}

#[rstest]
#[case(&[], false)]
#[case(MANY, true)]
fn what_is_allowed_is_counted_when_asked_for(#[case] values: &[&str], #[case] counted: bool) {
    let render = Render::of(values);
    let container = render.container("selvage-agent");
    let args = container["args"].as_array().unwrap();
    assert_eq!(args.contains(&json!("--count-allowed")), counted, "{args:?}");
}

#[rstest]
#[case(&[], Some("/var/lib/cni/results"))]
#[case(MANY, Some("/var/lib/other/results"))]
#[case(&["agent.cniResultsDir="], None)]
fn the_only_mount_is_the_folder_of_cni_results_read_only(
    #[case] values: &[&str],
    #[case] folder: Option<&str>,
) {
    let render = Render::of(values);
    for (name, pod) in render.pods() {
        let (volumes, mounts) = match folder.filter(|_| name == "selvage-agent") {
            Some(folder) => (
                json!([{"name": "cni-results", "hostPath": {"path": folder, "type": "DirectoryOrCreate"}}]),
                json!([{
                    "name": "cni-results", "mountPath": folder, "readOnly": true, "mountPropagation": "HostToContainer"
                }]),
            ),
            None => (json!(null), json!(null)),
        };
        assert_eq!(pod["volumes"], volumes, "{name}");
        assert_eq!(render.container(name)["volumeMounts"], mounts, "{name}");
    }
}

#[rstest]
#[case::default(&[], 9440, 9441)]
#[case::many(MANY, 19440, 19441)]
fn probes_ask_the_port_that_is_listened_on(
    #[case] values: &[&str],
    #[case] operator: u16,
    #[case] agent: u16,
) {
    let render = Render::of(values);
    for (name, port) in [("selvage-operator", operator), ("selvage-agent", agent)] {
        let container = render.container(name);
        assert_eq!(container["ports"][0]["containerPort"], port, "{name}");
        assert_eq!(container["ports"][0]["hostPort"], port, "{name}");
        for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
            assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": port}), "{name}");
        }
        let listen =
            render.args(name).into_iter().find_map(|arg| arg.strip_prefix("--listen=").map(str::to_owned));
        assert!(listen.is_some_and(|listen| listen.ends_with(&format!(":{port}"))), "{name}");
        for amount in ["requests", "limits"] {
            assert!(container["resources"][amount]["memory"].is_string(), "{name}: {amount}");
        }
    }
}

#[test]
fn pods_run_on_every_node_whatever_its_taints_and_go_last() {
    let render = Render::of(&[]);
    for (name, pod) in render.pods() {
        assert_eq!(pod["tolerations"], json!([{"operator": "Exists"}]), "{name}");
        let class = if name == "selvage-agent" { "system-node-critical" } else { "system-cluster-critical" };
        assert_eq!(pod["priorityClassName"], class, "{name}");
        assert_eq!(pod["nodeSelector"], json!({"kubernetes.io/os": "linux"}), "{name}");
        assert_eq!(pod["serviceAccountName"], name);
    }
}

#[test]
fn replicas_of_the_operator_keep_apart_and_one_stays() {
    let render = Render::of(&[]);
    let deployment = render.named("Deployment", "selvage-operator");
    assert_eq!(deployment["spec"]["replicas"], 2);
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}});
    assert_eq!(deployment["spec"]["strategy"], rolling);
    let selector = &deployment["spec"]["selector"]["matchLabels"];
    let term = &deployment["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        [0]["podAffinityTerm"];
    assert_eq!(term["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(&term["labelSelector"]["matchLabels"], selector);
    let budget = render.named("PodDisruptionBudget", "selvage-operator");
    assert_eq!(&budget["spec"], &json!({"maxUnavailable": 1, "selector": {"matchLabels": selector}}));
}

#[rstest]
#[case::default(&[])]
#[case::many(MANY)]
fn selectors_select_their_own_pods_alone(#[case] values: &[&str]) {
    let render = Render::of(values);
    let workloads = [("Deployment", "selvage-operator"), ("DaemonSet", "selvage-agent")];
    for (kind, name) in workloads {
        let selector =
            render.named(kind, name)["spec"]["selector"]["matchLabels"].as_object().expect("labels");
        for (other_kind, other) in workloads.into_iter().chain([("Job", "selvage-teardown")]) {
            let labels = &render.named(other_kind, other)["spec"]["template"]["metadata"]["labels"];
            let selected = selector.iter().all(|(key, value)| labels[key] == *value);
            assert_eq!(selected, name == other, "{name} and {other}");
        }
    }
}

#[rstest]
#[case::default(&[], "ghcr.io/selvage/operator:0.1.0", "ghcr.io/selvage/node-agent:0.1.0", "IfNotPresent")]
#[case::many(
    MANY,
    "registry.example:5000/operator@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "ghcr.io/selvage/node-agent:v9",
    "Always"
)]
fn images_are_those_named(
    #[case] values: &[&str],
    #[case] operator: &str,
    #[case] agent: &str,
    #[case] operator_policy: &str,
) {
    let render = Render::of(values);
    for (name, image) in
        [("selvage-operator", operator), ("selvage-teardown", operator), ("selvage-agent", agent)]
    {
        let expected = image.replace(":0.1.0", concat!(":", env!("CARGO_PKG_VERSION")));
        assert_eq!(render.container(name)["image"], expected, "{name}");
    }
    assert_eq!(render.container("selvage-operator")["imagePullPolicy"], operator_policy);
    assert_eq!(render.container("selvage-agent")["imagePullPolicy"], "IfNotPresent");
}

#[test]
fn the_api_server_is_reached_where_the_values_say() {
    let environment = |render: &Render, workload: &str, name: &str| {
        let variables = render.container(workload)["env"].as_array().cloned().unwrap_or_default();
        variables.iter().find(|variable| variable["name"] == name).map(|variable| variable["value"].clone())
    };
    let (default, many) = (Render::of(&[]), Render::of(MANY));
    for name in ["selvage-operator", "selvage-agent", "selvage-teardown"] {
        assert_eq!(environment(&default, name, "KUBERNETES_SERVICE_HOST"), None, "{name}");
        assert_eq!(
            environment(&many, name, "KUBERNETES_SERVICE_HOST"),
            Some(json!("api.example.com")),
            "{name}"
        );
        assert_eq!(environment(&many, name, "KUBERNETES_SERVICE_PORT"), Some(json!("443")), "{name}");
        assert_eq!(environment(&many, name, "SELVAGE_LOG_LEVEL"), Some(json!("debug")), "{name}");
        assert_eq!(environment(&many, name, "SELVAGE_LOG_FORMAT"), Some(json!("json")), "{name}");
        let (_, pod) = many.pods().into_iter().find(|(pod, _)| *pod == name).expect("a pod");
        assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry"}]), "{name}");
    }
}

/// The programs' own parsers take what the chart passes.
#[rstest]
#[case::default(&[])]
#[case::many(MANY)]
#[case::no_cni_results(&["agent.cniResultsDir="])]
fn arguments_are_those_that_the_programs_take(#[case] values: &[&str]) {
    use clap::Parser;
    let render = Render::of(values);
    let line = |program: &str, workload: &str| -> Vec<String> {
        let args = render.args(workload).into_iter().map(|arg| arg.replace("$(NODE_NAME)", "node-1"));
        [program.to_owned()].into_iter().chain(args).collect()
    };
    for workload in ["selvage-operator", "selvage-teardown"] {
        if let Err(error) = selvage_operator::args::Args::try_parse_from(line("selvage-operator", workload)) {
            panic!("{workload}: {error}");
        }
    }
    let agent = selvage_node_agent::args::Cli::try_parse_from(line("selvage-node-agent", "selvage-agent"));
    let selvage_node_agent::args::Command::Run(run) = agent.expect("an agent's arguments").command;
    assert_eq!(run.node_name, "node-1");
    assert_eq!(run.namespace, "some-namespace");
}
