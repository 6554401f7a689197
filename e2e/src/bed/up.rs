//! Bringing a bed up.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::Value;

use super::down::clear;
use super::layout::{CONTROL_PLANE, Layout, Spec};
use super::machine::Machine;
use super::{Bed, control_plane, flannel, limits, network, node, pki};
use crate::cache::{self, remove_if_there};
use crate::command::{self, check_interrupted, run, run_with_input, wait_for, wait_while};
use crate::error::{At, Error, Result};
use crate::progress::Progress;
use crate::setup::{self, Tools};

const PROGRAM: &str = "selvage-bed";
/// Folders that a node has for itself: what the bed needs from the host must not lie in them.
const OWN_FOLDERS: &[&str] = &["/var/lib", "/var/log", "/opt", "/run", "/proc"];

/// Brings a bed up, after clearing away what an earlier one of that name left.
///
/// On an error, or Ctrl-C, everything is taken down again; the logs stay.
pub fn up(spec: &Spec, progress: &Progress) -> Result<Bed> {
    spec.check()?;
    let layout = Layout::new(&spec.name)?;
    let cache = cache::root();
    if let Some(folder) = OWN_FOLDERS.iter().find(|folder| cache.starts_with(folder)) {
        return Err(Error::other(format!(
            "SELVAGE_CACHE={}: nodes have their own {folder}",
            cache.display()
        )));
    }
    let lock = layout.lock()?;
    command::mark(&spec.name);
    let made = make(spec, &layout, progress);
    if made.is_err() {
        layout.unlock(lock)?;
    }
    made
}

fn make(spec: &Spec, layout: &Layout, progress: &Progress) -> Result<Bed> {
    let program = program()?;
    let tools = setup::tools(progress)?;
    clear(layout)?;
    limits::check(spec.nodes)?;
    remove_if_there(&layout.logs())?;
    fs::create_dir_all(layout.logs()).at(layout.logs())?;
    let bed = Bed { layout: layout.clone(), spec: spec.clone(), tools };
    match bring_up(&bed, &program, progress) {
        Ok(()) => Ok(bed),
        Err(error) => {
            if !matches!(error, Error::Interrupted) {
                eprintln!("{}", bed.log_tails(8));
            }
            progress.step("taking everything down again");
            clear(layout)?;
            Err(error)
        }
    }
}

/// selvage-bed itself, also when a test calls [`up`]: it is built beside the tests.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe().at("/proc/self/exe")?;
    if own.file_name().is_some_and(|name| name == PROGRAM) {
        return Ok("/proc/self/exe".into());
    }
    let beside =
        own.ancestors().skip(1).take(2).map(|folder| folder.join(PROGRAM)).find(|path| path.is_file());
    beside.ok_or_else(|| {
        Error::other(format!("there is no {PROGRAM} beside {}: cargo build -p selvage-e2e", own.display()))
    })
}

fn bring_up(bed: &Bed, program: &Path, progress: &Progress) -> Result<()> {
    let (layout, tools) = (&bed.layout, &bed.tools);
    let names = bed.spec.node_names();
    let master = bed.machine(CONTROL_PLANE);
    let root = layout.machine(CONTROL_PLANE);
    fs::create_dir_all(&root).at(&root)?;
    layout.write(&layout.spec(), &bed.spec)?;
    layout.write(&layout.tools(), tools)?;
    fs::copy(program, layout.program()).at(layout.program())?;
    pki::write(layout, &names)?;

    master.start()?;
    network::control_plane(&master)?;
    control_plane::start_etcd(&master)?;
    control_plane::start_api_server(&master, &tools.kubernetes)?;
    let port = fs::read_to_string(layout.port_file()).at(layout.port_file())?;
    pki::write_kubeconfig(layout, "admin", "admin", &format!("https://127.0.0.1:{port}"))?;
    progress.step("control plane started");

    let nodes: Vec<Machine> = names.iter().map(|name| bed.machine(name)).collect();
    for node in &nodes {
        node::prepare(layout, &node.name)?;
        boot_node(&master, node)?;
    }
    progress.step(format_args!("machines of {} nodes started", nodes.len()));

    thread::scope(|scope| -> Result<()> {
        let imports: Vec<_> =
            nodes.iter().map(|node| scope.spawn(|| node::import(node, &tools.images))).collect();
        wait_for_api_server(&master, tools)?;
        progress.step("API server is ready");
        control_plane::start_controllers(&master, &tools.kubernetes)?;
        for node in &nodes {
            start_node_services(node, tools)?;
        }
        run_with_input(
            &mut bed.kubectl(&["apply", "-f", "-"]),
            flannel::manifest(bed.spec.backend).as_bytes(),
        )?;
        imports.into_iter().try_for_each(|import| {
            import.join().unwrap_or_else(|_| Err(Error::other("the import of images panicked")))
        })?;
        progress.step("images are imported");
        Ok(())
    })?;

    let machines: Vec<&Machine> = nodes.iter().chain([&master]).collect();
    let healthy = || machines.iter().try_for_each(|machine| machine.check_components());
    wait_while("the nodes to be Ready", 90, healthy, || all_ready(bed))?;
    progress.step("nodes are Ready");
    let rollout = ["-n", "kube-flannel", "rollout", "status", "daemonset/kube-flannel-ds", "--timeout=60s"];
    run(&mut bed.kubectl(&rollout))?;
    wait_for("the default ServiceAccount", 30, || {
        run(&mut bed.kubectl(&["-n", "default", "get", "serviceaccount", "default"]))
            .map_err(|error| error.to_string())
    })?;
    progress.step(format_args!("flannel is ready ({})", bed.spec.backend.flannel_name()));
    check_interrupted()
}

/// Makes a node's machine and starts containerd.
pub(super) fn boot_node(master: &Machine, node: &Machine) -> Result<()> {
    node.make_cgroups()?;
    node.start()?;
    network::connect(master, node)?;
    node::start_containerd(node)
}

/// Starts what needs the API server.
pub(super) fn start_node_services(node: &Machine, tools: &Tools) -> Result<()> {
    node::start_kubelet(node, &tools.kubernetes)?;
    node::start_kube_proxy(node, &tools.kubernetes)
}

pub(super) fn wait_for_api_server(master: &Machine, tools: &Tools) -> Result<()> {
    let healthy = || master.check_components();
    wait_while("the API server", 60, healthy, || {
        let mut kubectl = command::command(tools.kubernetes.join("kubectl"), ["get", "--raw", "/readyz"]);
        kubectl.env("KUBECONFIG", master.layout.kubeconfig("admin"));
        run(&mut kubectl).map_err(|error| error.to_string())
    })
    .map(drop)
}

fn all_ready(bed: &Bed) -> Result<(), String> {
    let text = run(&mut bed.kubectl(&["get", "nodes", "-o", "json"])).map_err(|error| error.to_string())?;
    let list: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let nodes = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ready = |node: &&Value| {
        let conditions = node["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    let count = nodes.iter().filter(ready).count();
    let wanted = usize::from(bed.spec.nodes);
    if count == wanted { Ok(()) } else { Err(format!("{count} of {wanted} are Ready")) }
}
