//! An API server with its etcd on loopback, without nodes and controllers.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::{Client, Config};
use selvage_crds::{NodePolicy, NodePolicyStatus};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use xtask::tools;

/// How long the API server may take until it is ready.
const READY: Duration = Duration::from_secs(120);

/// A running API server; it ends, and its files go, with this value.
pub struct Server {
    folder: PathBuf,
    children: Vec<Child>,
    url: String,
    /// The administrator's connection.
    asking: OnceCell<(Runtime, Client)>,
}

/// What a command printed.
pub struct Answer {
    /// Whether it ended with 0.
    pub success: bool,
    /// What it printed, errors after the rest.
    pub text: String,
}

impl Server {
    /// Starts one and waits until it is ready.
    pub fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("slv-api-server-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let mut server = Self { folder, children: Vec::new(), url: String::new(), asking: OnceCell::new() };
        let [client, peer, secure] = free_ports();
        let etcd_url = format!("http://127.0.0.1:{client}");
        let peer_url = format!("http://127.0.0.1:{peer}");
        server.spawn(
            "etcd",
            &[
                format!("--data-dir={}", server.folder.join("etcd").display()),
                format!("--listen-client-urls={etcd_url}"),
                format!("--advertise-client-urls={etcd_url}"),
                format!("--listen-peer-urls={peer_url}"),
                format!("--initial-advertise-peer-urls={peer_url}"),
                format!("--initial-cluster=default={peer_url}"),
                "--unsafe-no-fsync".to_owned(),
            ],
        );
        let (key, tokens) = (server.write("sa.key", &service_account_key()), server.write("tokens", TOKENS));
        server.spawn(
            "kube-apiserver",
            &[
                format!("--etcd-servers={etcd_url}"),
                "--bind-address=127.0.0.1".to_owned(),
                "--advertise-address=127.0.0.1".to_owned(),
                format!("--secure-port={secure}"),
                format!("--cert-dir={}", server.folder.join("certificates").display()),
                format!("--token-auth-file={}", tokens.display()),
                "--authorization-mode=RBAC".to_owned(),
                format!("--service-account-key-file={}", key.display()),
                format!("--service-account-signing-key-file={}", key.display()),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
                // Nobody makes the default accounts here.
                "--disable-admission-plugins=ServiceAccount".to_owned(),
            ],
        );
        server.url = format!("https://127.0.0.1:{secure}");
        server.write("kubeconfig", &kubeconfig(&server.url, "admin"));
        let start = Instant::now();
        while !server.kubectl(&["get", "--raw=/readyz"]).success {
            assert!(start.elapsed() < READY, "the API server is not ready: {}", server.log("kube-apiserver"));
            let log = server.log("kube-apiserver") + &server.log("etcd");
            for child in &mut server.children {
                assert!(child.try_wait().expect("a child").is_none(), "ended: {log}");
            }
            thread::sleep(Duration::from_millis(200));
        }
        server
    }

    /// Where the server's files are; it goes with the server.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Asks as the administrator whether an object would be taken, without keeping it: many times faster than kubectl.
    pub fn try_out(&self, path: &str, object: &Value) -> Answer {
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let request = Request::new(path).create(&params, object.to_string().into_bytes()).expect("a request");
        let (runtime, client) = self.asking.get_or_init(|| {
            let runtime = runtime();
            let client = runtime.block_on(async { self.client("admin") });
            (runtime, client)
        });
        let answer = runtime.block_on(client.request::<Value>(request));
        match answer {
            Ok(object) => Answer { success: true, text: object.to_string() },
            Err(error) => Answer { success: false, text: error.to_string() },
        }
    }

    fn client(&self, token: &str) -> Client {
        let mut config = Config::new(self.url.parse().expect("a URL"));
        config.accept_invalid_certs = true;
        config.auth_info.token = Some(token.to_owned().into());
        Client::try_from(config).expect("a client")
    }

    /// Patches a node's report as its agent does, with a token.
    pub fn report(&self, token: &str, node: &str, status: &NodePolicyStatus) -> Result<(), String> {
        runtime().block_on(async {
            let client = self.client(token);
            let api = Api::<NodePolicy>::namespaced(client, crate::NAMESPACE);
            let patch = Patch::Merge(serde_json::json!({ "status": status }));
            let answer = api.patch_status(node, &PatchParams::default(), &patch).await;
            answer.map(|_| ()).map_err(|error| error.to_string())
        })
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl(&self, args: &[&str]) -> Answer {
        self.run("kubectl", args, None)
    }

    /// Runs kubectl with an object on its standard input.
    pub fn kubectl_with(&self, args: &[&str], object: &Value) -> Answer {
        self.run("kubectl", args, Some(object.to_string()))
    }

    /// Runs kubectl with another token.
    pub fn kubectl_as(&self, token: &str, args: &[&str]) -> Answer {
        let config = self.write("kubeconfig-other", &kubeconfig(&self.url, token));
        let config = format!("--kubeconfig={}", config.display());
        self.run("kubectl", &[&[config.as_str()], args].concat(), None)
    }

    /// Runs helm as the administrator.
    pub fn helm(&self, args: &[&str]) -> Answer {
        self.run("helm", args, None)
    }

    fn run(&self, program: &str, args: &[&str], input: Option<String>) -> Answer {
        let mut command = Command::new(tools::find(program, None).expect("a program that these tests need"));
        command.env("KUBECONFIG", self.folder.join("kubeconfig")).env("HOME", &self.folder).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let mut stdin = child.stdin.take().expect("standard input");
        stdin.write_all(input.unwrap_or_default().as_bytes()).expect("reads");
        drop(stdin);
        let output = child.wait_with_output().expect("ends");
        let text =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        Answer { success: output.status.success(), text }
    }

    fn spawn(&mut self, program: &str, args: &[String]) {
        let path = tools::find(program, None).expect("a program that these tests need");
        let log = File::create(self.folder.join(format!("{program}.log"))).expect("a log");
        let mut command = Command::new(path);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.children.push(command.spawn().expect("starts"));
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, text).expect("writes");
        path
    }

    fn log(&self, program: &str) -> String {
        let log = fs::read_to_string(self.folder.join(format!("{program}.log"))).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The API server first: it would complain of an etcd that is gone.
        for child in self.children.iter_mut().rev() {
            child.kill().ok();
            child.wait().ok();
        }
        fs::remove_dir_all(&self.folder).ok();
    }
}

impl Answer {
    /// What it printed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.success, "{}", self.text);
        self.text
    }

    /// Asserts that it was refused, with these words.
    #[track_caller]
    pub fn refused(self, words: &str) {
        assert!(!self.success, "was taken: {}", self.text);
        assert!(self.text.contains(words), "without {words:?}: {}", self.text);
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Token, user, uid, group.
const TOKENS: &str = "admin,admin,1,system:masters\n";

fn kubeconfig(url: &str, token: &str) -> String {
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        // The server makes its own certificate, and it is on loopback.
        "clusters": [{"name": "c", "cluster": {"server": url, "insecure-skip-tls-verify": true}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    });
    config.to_string()
}

fn service_account_key() -> String {
    let output = Command::new("openssl").args(["genrsa", "2048"]).output().expect("openssl");
    String::from_utf8(output.stdout).expect("a key")
}

/// Ports that nobody listens on now.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}
