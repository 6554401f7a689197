//! The test bed itself: that it leaves nothing behind whenever it ends, and what can be done to a cluster.
//!
//! Needs root and what `selvage-bed setup` installs. The tests share one bed's name, and run one at a time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod traces;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use selvage_e2e::{Bed, Cluster, SERVICE_NETWORKS, down, wait_for};
use serde_json::json;
use traces::{BED, Host, assert_nothing_left, machines, namespaces};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Keeps other tests away, and takes the bed down also when the test fails.
struct Turn<'a>(#[expect(dead_code, reason = "held")] MutexGuard<'a, ()>);

impl Turn<'_> {
    fn take() -> Self {
        let turn = Self(ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner));
        down(BED).unwrap();
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Err(error) = down(BED) {
            eprintln!("{error}");
        }
    }
}

#[test]
fn an_up_that_is_killed_leaves_nothing_after_down_or_another_up() {
    let _turn = Turn::take();
    let host = Host::now();
    for moment in ["control plane started", "machines of", "API server is ready", "images are imported"] {
        let mut up = Up::start(&["--nodes", "1"]);
        up.until(moment);
        let inside = namespaces();
        assert!(!inside.is_empty(), "nothing was running at {moment:?}");
        up.child.kill().unwrap();
        up.child.wait().unwrap();
        assert!(!namespaces().is_empty(), "everything ended with `up` by itself at {moment:?}");
        down(BED).unwrap();
        assert_nothing_left(&host, &inside);
    }

    let mut up = Up::start(&["--nodes", "2"]);
    up.until("images are imported");
    up.child.kill().unwrap();
    up.child.wait().unwrap();
    let second = Up::start(&["--nodes", "1"]).end();
    assert!(second.status.success(), "{}", String::from_utf8_lossy(&second.stderr));
    assert_eq!(machines(), ["cp", "n1"], "the second `up` left machines of the first");
    assert_eq!(Cluster::of_bed(BED).unwrap().nodes().unwrap().len(), 1);
    let inside = namespaces();
    down(BED).unwrap();
    assert_nothing_left(&host, &inside);
}

#[test]
fn ctrl_c_takes_everything_down_and_keeps_the_logs() {
    let _turn = Turn::take();
    let host = Host::now();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut up = Up::start(&["--nodes", "1"]);
        up.until("machines of");
        let inside = namespaces();
        kill(Pid::from_raw(up.child.id().cast_signed()), signal).unwrap();
        up.until("taking everything down again");
        // An impatient second time must not leave the rest undone.
        kill(Pid::from_raw(up.child.id().cast_signed()), signal).unwrap();
        let output = up.end();
        assert!(!output.status.success());
        assert_nothing_left(&host, &inside);
        let etcd = selvage_e2e::cache::root().join("logs").join(BED).join("cp.etcd.log");
        assert!(etcd.is_file(), "{} is gone", etcd.display());
    }
}

#[test]
fn a_failure_takes_everything_down_and_shows_why() {
    let _turn = Turn::take();
    let host = Host::now();
    let mut up = Up::start(&["--nodes", "1"]);
    up.until("control plane started");
    let inside = namespaces();
    end_component("etcd");
    let output = up.end();
    assert!(!output.status.success());
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(printed.contains("etcd of cp ended: SIGKILL"), "{printed}");
    // Which logs hold something by then is chance: etcd may have been killed before its first line.
    assert!(printed.contains("--- ") && printed.contains("/cp."), "no log is shown: {printed}");
    assert_nothing_left(&host, &inside);
}

#[test]
fn a_second_up_at_the_same_time_is_refused() {
    let _turn = Turn::take();
    let mut first = Up::start(&["--nodes", "1"]);
    first.until("control plane started");
    let second = Up::start(&["--nodes", "1"]).end();
    assert!(!second.status.success());
    let printed = String::from_utf8_lossy(&second.stderr);
    assert!(printed.contains("another selvage-bed is working on trace-test"), "{printed}");
    assert!(!namespaces().is_empty(), "the second took the first's machines down");
    first.child.kill().unwrap();
    first.child.wait().unwrap();
}

#[test]
fn nodes_components_and_the_api_server_can_be_stopped_cut_off_and_restarted() {
    let _turn = Turn::take();
    let host = Host::now();
    let up = Up::start(&["--nodes", "2", "--backend", "host-gw"]).end();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let cluster = Cluster::of_bed(BED).unwrap();
    let bed = cluster.require_bed().unwrap();
    let inside = namespaces();

    for node in bed.spec().node_names() {
        cluster.apply("default", &pod(&node)).unwrap();
    }
    let addresses = pod_addresses(&cluster, "n2");
    assert_eq!(addresses.len(), 2, "one address of each family: {addresses:?}");
    addresses.iter().for_each(|address| reaches(&cluster, address));
    let kubernetes = SERVICE_NETWORKS[0].replace(".0.0/16", ".0.1");
    reaches(&cluster, &format!("{kubernetes}:443"));

    bed.cut_node("n2").unwrap();
    addresses.iter().for_each(|address| never_reaches(&cluster, address));
    bed.heal_node("n2").unwrap();
    addresses.iter().for_each(|address| reaches(&cluster, address));

    bed.stop_api_server().unwrap();
    assert!(!cluster.kubectl(&["get", "--raw", "/readyz"]).unwrap().success());
    bed.start_api_server().unwrap();
    cluster.kubectl_ok(&["get", "--raw", "/readyz"]).unwrap();

    for component in ["containerd", "kubelet", "kube-proxy"] {
        let before = pid_of(bed, "n1", component);
        bed.restart("n1", component).unwrap();
        wait_for(component, 20, || match pid_of(bed, "n1", component) {
            after if !after.is_empty() && after != before => Ok(()),
            same => Err(format!("pid {same:?}")),
        })
        .unwrap();
    }
    let before = flannel_pod(&cluster, "n1");
    bed.restart("n1", "flanneld").unwrap();
    assert_ne!(flannel_pod(&cluster, "n1"), before);
    assert!(bed.restart("n1", "nonsense").unwrap_err().to_string().contains("nonsense"));

    bed.stop_node("n2").unwrap();
    assert!(bed.node_exec("n2", &["true"]).is_err(), "a stopped node runs nothing");
    let groups = std::fs::read_dir("/sys/fs/cgroup/pids").unwrap().flatten();
    let names: Vec<_> = groups.map(|group| group.file_name().to_string_lossy().into_owned()).collect();
    assert!(!names.contains(&format!("selvage-{BED}-n2")), "{names:?}");
    bed.start_node("n2").unwrap();
    // The pod is started anew, with other addresses perhaps.
    wait_for("the pod of n2 to have addresses again", 60, || {
        let pod = cluster.kubectl_json(&["get", "pod", "n2"]).map_err(|error| error.to_string())?;
        let statuses = &pod["status"]["containerStatuses"][0];
        if statuses["restartCount"] == 1 && statuses["ready"] == true {
            Ok(())
        } else {
            Err(statuses.to_string())
        }
    })
    .unwrap();
    pod_addresses(&cluster, "n2").iter().for_each(|address| reaches(&cluster, address));
    let inside = &inside | &namespaces();

    down(BED).unwrap();
    assert_nothing_left(&host, &inside);
}

/// A `selvage-bed up` that runs.
struct Up {
    child: Child,
    stderr: BufReader<ChildStderr>,
    printed: Vec<u8>,
}

impl Up {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_selvage-bed"));
        command.args(["--name", BED, "up"]).args(args).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr, printed: Vec::new() }
    }

    /// Waits for the step whose line holds `step`.
    fn until(&mut self, step: &str) {
        loop {
            let start = self.printed.len();
            let read = self.stderr.read_until(b'\n', &mut self.printed).unwrap();
            assert!(read > 0, "no {step:?} in:\n{}", String::from_utf8_lossy(&self.printed));
            if String::from_utf8_lossy(&self.printed[start..]).contains(step) {
                return;
            }
        }
    }

    fn end(mut self) -> Output {
        while self.stderr.read_until(b'\n', &mut self.printed).unwrap() > 0 {}
        Output { status: self.child.wait().unwrap(), stdout: Vec::new(), stderr: self.printed }
    }
}

/// Kills a component of the control plane from outside, as if it crashed.
fn end_component(name: &str) {
    let pid = pid_of(&Bed::open(BED).unwrap(), "cp", name);
    let pid = pid.split_whitespace().next().unwrap().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// The pids, in this host's numbering, of a machine's component.
fn pid_of(bed: &Bed, machine: &str, component: &str) -> String {
    let init = bed.status().into_iter().find(|state| state.name == machine).unwrap().pid.unwrap();
    let found =
        Command::new("pgrep").args(["--exact", "--parent", &init.to_string(), component]).output().unwrap();
    String::from_utf8(found.stdout).unwrap()
}

fn flannel_pod(cluster: &Cluster, node: &str) -> String {
    let selector = format!("--field-selector=spec.nodeName={node},status.phase=Running");
    cluster.kubectl_ok(&["-n", "kube-flannel", "get", "pods", "-o", "name", &selector]).unwrap()
}

/// A pod on a node, of the node's name, that answers on port 80.
fn pod(node: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": node },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "web", "image": selvage_e2e::setup::WEB_SERVER }],
        },
    })
    .to_string()
}

/// The addresses of a node's pod once it is Ready, in the form that connect takes with the port 80.
fn pod_addresses(cluster: &Cluster, node: &str) -> Vec<String> {
    cluster
        .kubectl_ok(&["wait", "--for=condition=Ready", "--timeout=60s", "pod/n1", &format!("pod/{node}")])
        .unwrap();
    let pod = cluster.kubectl_json(&["get", "pod", node]).unwrap();
    let addresses = pod["status"]["podIPs"].as_array().unwrap().iter().map(|ip| ip["ip"].as_str().unwrap());
    addresses.map(|ip| if ip.contains(':') { format!("[{ip}]:80") } else { format!("{ip}:80") }).collect()
}

/// Waits until the pod of n1 can connect.
fn reaches(cluster: &Cluster, address: &str) {
    wait_for(&format!("an answer of {address}"), 30, || {
        let probe =
            cluster.pod_exec("default", "n1", &connect(address)).map_err(|error| error.to_string())?;
        if probe.success() { Ok(()) } else { Err(probe.stderr) }
    })
    .unwrap();
}

fn never_reaches(cluster: &Cluster, address: &str) {
    let probe = cluster.pod_exec("default", "n1", &connect(address)).unwrap();
    assert!(probe.stderr.contains("TIMEOUT"), "{address}: {probe:?}");
}

fn connect(address: &str) -> [&str; 4] {
    ["/agnhost", "connect", "--timeout=2s", address]
}
