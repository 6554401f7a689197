//! `selvage-bed`: brings a cluster up and down, and does to it what tests need.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand, ValueEnum};
use selvage_e2e::{
    Backend, Bed, Cluster, Progress, Spec, cache, down, interrupt, machine, raise_limits, run_here, setup, up,
};

/// A real Kubernetes with real flannel in network namespaces of this machine.
#[derive(Parser)]
#[command(name = "selvage-bed", version)]
struct Cli {
    /// The bed.
    #[arg(long, global = true, default_value = "demo", env = "SELVAGE_BED")]
    name: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install packages and build programs and images, as far as they are missing.
    Setup,
    /// Bring the cluster up; what an earlier one of that name left is cleared away first.
    Up {
        /// How many nodes.
        #[arg(long, default_value_t = 3)]
        nodes: u8,
        /// How flannel moves packets between nodes.
        #[arg(long, value_enum, default_value = "vxlan")]
        backend: Backend,
    },
    /// Take the cluster down, whatever state it is in; its logs stay.
    Down,
    /// Show every machine and component, or the names of all beds.
    Status {
        /// Only the names of the beds, one a line.
        #[arg(long)]
        names: bool,
    },
    /// Cut a node's power, boot it, or part it from the network.
    Node {
        /// What to do.
        action: NodeAction,
        /// n1, n2, ...
        node: String,
    },
    /// Stop or start the API server.
    Apiserver {
        /// What to do.
        action: Action,
    },
    /// Restart one component of a node (containerd, kubelet, kube-proxy, flanneld) or of the control plane (cp).
    Restart {
        /// n1, n2, ... or cp.
        machine: String,
        /// The component.
        component: String,
    },
    /// Import docker- or OCI archives into every node.
    LoadImage {
        /// The archives.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Run kubectl as the cluster's administrator.
    #[command(disable_help_flag = true)]
    Kubectl(Words),
    /// Run helm as the cluster's administrator.
    #[command(disable_help_flag = true)]
    Helm(Words),
    /// Run a command in a node's namespaces.
    Exec {
        /// n1, n2, ...
        node: String,
        #[command(flatten)]
        words: Words,
    },
    /// Run a command in the nodes' network, as a client outside of the cluster.
    Outside(Words),
    /// Print where the kubeconfig is: `export KUBECONFIG=$(selvage-bed kubeconfig)`.
    Kubeconfig,
    /// List the logs, or print one.
    Logs {
        /// Such as n1.kubelet.
        log: Option<String>,
    },
    /// A machine's own processes.
    #[command(hide = true)]
    Machine { action: MachineAction, bed: String, machine: String },
}

#[derive(clap::Args)]
struct Words {
    /// The command.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    words: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum NodeAction {
    Stop,
    Start,
    Restart,
    Cut,
    Heal,
}

#[derive(Clone, Copy, ValueEnum)]
enum Action {
    Stop,
    Start,
    Restart,
}

#[derive(Clone, Copy, ValueEnum)]
enum MachineAction {
    Start,
    Init,
}

fn main() -> ExitCode {
    carry_out(Cli::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn carry_out(cli: Cli) -> anyhow::Result<ExitCode> {
    let name = cli.name.as_str();
    match cli.command {
        Command::Setup => {
            raise_limits(&Progress::default())?;
            end_well_on_signals()?;
            let tools = setup::tools(&Progress::default())?;
            println!("{}\n{}", tools.kubernetes.display(), tools.helm.display());
        }
        Command::Up { nodes, backend } => bring_up(&Spec { name: name.to_owned(), nodes, backend })?,
        Command::Down => down(name)?,
        Command::Status { names: true } => Bed::names()?.iter().for_each(|name| println!("{name}")),
        Command::Status { names: false } => print_status(&Bed::open(name)?),
        Command::Node { action, node } => {
            let bed = Bed::open(name)?;
            match action {
                NodeAction::Stop => bed.stop_node(&node)?,
                NodeAction::Start => bed.start_node(&node)?,
                NodeAction::Restart => bed.restart_node(&node)?,
                NodeAction::Cut => bed.cut_node(&node)?,
                NodeAction::Heal => bed.heal_node(&node)?,
            }
        }
        Command::Apiserver { action } => {
            let bed = Bed::open(name)?;
            match action {
                Action::Stop => bed.stop_api_server()?,
                Action::Start => bed.start_api_server()?,
                Action::Restart => bed.restart_api_server()?,
            }
        }
        Command::Restart { machine, component } => Bed::open(name)?.restart(&machine, &component)?,
        Command::LoadImage { files } => {
            let bed = Bed::open(name)?;
            files.iter().try_for_each(|file| bed.load_image(file))?;
        }
        Command::Kubectl(Words { words }) => return pass(Cluster::of_bed(name)?.kubectl_command(&words)),
        Command::Helm(Words { words }) => return pass(Cluster::of_bed(name)?.helm_command(&words)),
        Command::Exec { node, words } => return pass(Bed::open(name)?.node_command(&node, &words.words)?),
        Command::Outside(Words { words }) => return pass(Bed::open(name)?.outside_command(&words)?),
        Command::Kubeconfig => println!("{}", Bed::open(name)?.kubeconfig().display()),
        Command::Logs { log } => show_logs(&cache::root().join("logs").join(name), log.as_deref())?,
        Command::Machine { action: MachineAction::Start, bed, machine } => machine::start(&bed, &machine)?,
        Command::Machine { action: MachineAction::Init, bed, machine } => machine::init(&bed, &machine)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn bring_up(spec: &Spec) -> anyhow::Result<()> {
    end_well_on_signals()?;
    let progress = Progress::default();
    let bed = up(spec, &progress)?;
    progress.step(format_args!("{} is up; logs are in {}", spec.name, bed.logs().display()));
    println!("export KUBECONFIG={}", bed.kubeconfig().display());
    Ok(())
}

/// Ctrl-C, SIGTERM and SIGHUP end what is waited for with an error, and so with a clean-up.
fn end_well_on_signals() -> anyhow::Result<()> {
    ctrlc::set_handler(interrupt).context("signal handler")
}

fn pass(mut command: std::process::Command) -> anyhow::Result<ExitCode> {
    let status = run_here(&mut command)?;
    // As a shell does: 128 and the signal's number are not told apart here.
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(128)))
}

fn print_status(bed: &Bed) {
    for machine in bed.status() {
        let pid = machine.pid.map_or_else(|| "stopped".to_owned(), |pid| format!("pid {pid}"));
        println!("{:<3} {:<15} {:<22} {pid}", machine.name, machine.addresses.0, machine.addresses.1);
        for component in machine.components {
            println!("    {:<24} {}", component.name, component.ended.as_deref().unwrap_or("running"));
        }
    }
}

fn show_logs(folder: &std::path::Path, log: Option<&str>) -> anyhow::Result<()> {
    if let Some(log) = log {
        if log.contains('/') {
            bail!("{log:?} is not the name of a log");
        }
        let path = folder.join(format!("{log}.log"));
        print!("{}", String::from_utf8_lossy(&fs::read(&path).with_context(|| path.display().to_string())?));
        return Ok(());
    }
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        println!("{}", entry?.path().display());
    }
    Ok(())
}
