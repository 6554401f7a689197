//! What is in etcd, saved and set back, as the documentation of etcd and Kubernetes describes it for a disaster.

use std::fs;

use super::layout::CONTROL_PLANE;
use super::{Bed, control_plane, up};
use crate::cache::remove_if_there;
use crate::command::run;
use crate::error::{At, Result};

const ETCD: &str = "etcd";
const SECONDS: u64 = 10;

impl Bed {
    /// Saves what etcd holds; an earlier save is replaced.
    pub fn save_etcd(&self) -> Result<()> {
        let file = self.snapshot();
        self.etcdctl(&["snapshot", "save", &file.display().to_string()])
    }

    /// Sets etcd back to what was saved: revisions go back too. API server and etcd are away for that. What else caches
    /// what it has seen is started again, as the documentation of Kubernetes recommends: controller manager, scheduler,
    /// kubelets, kube-proxies.
    pub fn restore_etcd(&self) -> Result<()> {
        let machine = self.machine(CONTROL_PLANE);
        let (file, data) = (self.snapshot(), control_plane::data(&machine));
        self.stop_api_server()?;
        machine.stop_component(ETCD, SECONDS)?;
        remove_if_there(&data)?;
        let peer = "http://localhost:2380";
        self.etcdctl(&[
            "snapshot",
            "restore",
            &file.display().to_string(),
            &format!("--data-dir={}", data.display()),
            &format!("--name={}", self.layout.name),
            &format!("--initial-cluster={}={peer}", self.layout.name),
            &format!("--initial-advertise-peer-urls={peer}"),
        ])?;
        machine.start_component_again(ETCD)?;
        machine.start_component_again(control_plane::API_SERVER)?;
        up::wait_for_api_server(&machine, &self.tools)?;
        for component in ["kube-controller-manager", "kube-scheduler"] {
            self.restart(CONTROL_PLANE, component)?;
        }
        for node in self.spec.node_names() {
            if self.machine(&node).pid().is_some() {
                self.restart(&node, "kubelet")?;
                self.restart(&node, "kube-proxy")?;
            }
        }
        fs::remove_file(&file).at(&file)
    }

    fn snapshot(&self) -> std::path::PathBuf {
        self.layout.machine(CONTROL_PLANE).join("etcd.snapshot")
    }

    fn etcdctl(&self, words: &[&str]) -> Result<()> {
        let mut all = vec!["etcdctl", control_plane::ETCD_FLAG];
        all.extend(words);
        let mut command = self.machine(CONTROL_PLANE).network_command(&all)?;
        run(command.env("ETCDCTL_API", "3")).map(drop)
    }
}
