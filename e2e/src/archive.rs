//! Writes container images as a docker-archive, the format that both `ctr images import` and docker read.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::{At, Result};

/// An archive that is being written.
pub(crate) struct Archive {
    file: tar::Builder<BufWriter<File>>,
    images: Vec<Value>,
}

/// A finished layer, in the archive.
pub(crate) struct Layer {
    /// The sha256 of the uncompressed tar, which is the layer's name.
    digest: String,
}

/// A layer that is being written.
pub(crate) struct LayerBuilder(tar::Builder<Vec<u8>>);

impl Archive {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = BufWriter::new(File::create(path).at(path)?);
        Ok(Self { file: tar::Builder::new(file), images: Vec::new() })
    }

    /// Adds a layer; images then refer to it.
    pub(crate) fn layer(&mut self, layer: LayerBuilder) -> io::Result<Layer> {
        let bytes = layer.0.into_inner()?;
        let digest = hex(&Sha256::digest(&bytes));
        self.put(&format!("{digest}/layer.tar"), &bytes)?;
        Ok(Layer { digest })
    }

    /// Adds an image: `command` replaces what follows the entrypoint when a pod says nothing.
    pub(crate) fn image(
        &mut self,
        name: &str,
        layer: &Layer,
        entrypoint: &[&str],
        command: &[&str],
    ) -> io::Result<()> {
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": entrypoint,
                "Cmd": command,
                "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                "WorkingDir": "/",
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", layer.digest)] },
        });
        let config = config.to_string();
        let path = format!("{}.json", hex(&Sha256::digest(&config)));
        self.put(&path, config.as_bytes())?;
        let layers = [format!("{}/layer.tar", layer.digest)];
        self.images.push(json!({ "Config": path, "RepoTags": [name], "Layers": layers }));
        Ok(())
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        let manifest = Value::Array(std::mem::take(&mut self.images)).to_string();
        self.put("manifest.json", manifest.as_bytes())?;
        self.file.into_inner()?.flush()
    }

    fn put(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        append(&mut self.file, path, 0o644, content)
    }
}

impl LayerBuilder {
    /// A layer with the folders that programs expect, and with names for root and nobody.
    pub(crate) fn new() -> io::Result<Self> {
        let mut layer = Self(tar::Builder::new(Vec::new()));
        for folder in
            ["bin", "dev", "etc", "opt", "opt/bin", "proc", "sys", "usr", "usr/bin", "usr/sbin", "var"]
        {
            layer.folder(folder, 0o755)?;
        }
        layer.folder("tmp", 0o1777)?;
        layer.file(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
        )?;
        layer.file("etc/group", 0o644, b"root:x:0:\nnobody:x:65534:\n")?;
        Ok(layer)
    }

    pub(crate) fn folder(&mut self, path: &str, mode: u32) -> io::Result<()> {
        let mut header = header(mode, tar::EntryType::Directory, 0);
        self.0.append_data(&mut header, path, io::empty())
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        append(&mut self.0, path, mode, content)
    }

    /// A program of this machine, at `path` of the image.
    pub(crate) fn program(&mut self, from: &Path, path: &str) -> Result<()> {
        let mut content = Vec::new();
        File::open(from).and_then(|mut file| file.read_to_end(&mut content)).at(from)?;
        self.file(path.trim_start_matches('/'), 0o755, &content).at(from)
    }

    pub(crate) fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        let mut header = header(0o777, tar::EntryType::Symlink, 0);
        self.0.append_link(&mut header, path, target)
    }
}

/// The machine's architecture by its name in images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn append(tar: &mut tar::Builder<impl Write>, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut header = header(mode, tar::EntryType::Regular, content.len() as u64);
    tar.append_data(&mut header, path, content)
}

/// Without times and owners: the same input gives the same bytes.
fn header(mode: u32, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_entry_type(kind);
    header.set_size(size);
    header
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
