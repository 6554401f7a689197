//! Running helm, and what it renders.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// The workspace's root.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The objects of a release that installs the chart, hooks included.
pub struct Render {
    objects: Vec<Value>,
    /// NOTES.txt.
    pub notes: String,
}

impl Render {
    /// A release named `some-release` in `some-namespace`, with values as for `--set`.
    pub fn of(values: &[&str]) -> Self {
        let output = try_render(values);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let stdout = String::from_utf8(output.stdout).expect("text");
        let (hooks_and_manifest, notes) = stdout.split_once("\nNOTES:\n").expect("notes");
        let (_, objects) = hooks_and_manifest.split_once("\n---\n").expect("objects");
        Self::parse(&objects.replace("\nMANIFEST:\n", "\n"), notes.to_owned())
    }

    /// The objects of a manifest.
    pub fn parse(manifest: &str, notes: String) -> Self {
        let documents: Vec<Value> = serde_saphyr::from_multiple(manifest).expect("YAML");
        Self { objects: documents.into_iter().filter(|object| object["kind"].is_string()).collect(), notes }
    }

    /// All of them.
    pub fn objects(&self) -> impl Iterator<Item = &Value> {
        self.objects.iter()
    }

    /// Those of a kind.
    pub fn all(&self, kind: &str) -> Vec<&Value> {
        self.objects.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// The one of that kind and name.
    pub fn named(&self, kind: &str, name: &str) -> &Value {
        let found: Vec<&Value> =
            self.all(kind).into_iter().filter(|object| object["metadata"]["name"] == name).collect();
        assert_eq!(found.len(), 1, "{kind} {name}");
        found[0]
    }

    /// The pods of operator, agent and teardown: (name of the workload, spec of its pods).
    pub fn pods(&self) -> Vec<(&str, &Value)> {
        let workloads =
            [("Deployment", "selvage-operator"), ("DaemonSet", "selvage-agent"), ("Job", "selvage-teardown")];
        workloads.map(|(kind, name)| (name, &self.named(kind, name)["spec"]["template"]["spec"])).to_vec()
    }

    /// The one container of a workload's pods.
    pub fn container(&self, workload: &str) -> &Value {
        let pods = self.pods();
        let (_, pod) = pods.iter().find(|(name, _)| *name == workload).expect("a workload");
        assert_eq!(pod["containers"].as_array().map(Vec::len), Some(1), "{workload}");
        assert!(pod["initContainers"].is_null() && pod["ephemeralContainers"].is_null(), "{workload}");
        &pod["containers"][0]
    }

    /// The arguments of a workload's container.
    pub fn args(&self, workload: &str) -> Vec<String> {
        let args = self.container(workload)["args"].as_array().expect("arguments");
        args.iter().map(|arg| arg.as_str().expect("text").to_owned()).collect()
    }
}

/// Runs helm with a dry run of an install on the client alone.
pub fn try_render(values: &[&str]) -> Output {
    let chart = format!("{ROOT}/charts/selvage");
    let mut command = command(&[
        "install",
        "some-release",
        &chart,
        "--dry-run=client",
        "--create-namespace",
        "--namespace=some-namespace",
    ]);
    command.args(values.iter().flat_map(|value| ["--set", value]));
    command.output().expect("helm starts")
}

/// Runs helm and returns what it printed.
pub fn helm(args: &[&str]) -> String {
    let output = command(args).output().expect("helm starts");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("text")).concat();
    assert!(output.status.success(), "{text}");
    text
}

fn command(args: &[&str]) -> Command {
    let named = env::var_os("HELM").map(PathBuf::from);
    let helm = xtask::tools::find("helm", named.as_deref()).expect("helm, which these tests need");
    let mut command = Command::new(helm);
    // No cluster is asked, whatever this machine knows of one.
    command.env_remove("KUBECONFIG").args(args);
    command
}
