//! The upstream projects, each a Go module of its own under `e2e/kubernetes`, because their dependencies disagree.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::cache::{self, Key};
use crate::command::{command, run};
use crate::error::{At, Error, Result};
use crate::progress::Progress;

/// One module and how its programs are built.
pub(super) struct Project {
    /// Its folder under `e2e/kubernetes`.
    folder: &'static str,
    /// The module whose version in go.mod the programs must tell; none for a program of our own.
    versioned_by: Option<&'static str>,
    /// What to build.
    packages: &'static [&'static str],
    cgo: bool,
    /// Linker flags; `{version}`, `{major}` and `{minor}` are filled in.
    linker: &'static [&'static str],
}

pub(super) const KUBERNETES: Project = Project {
    folder: "kubernetes",
    versioned_by: Some("k8s.io/kubernetes"),
    packages: &["tool", "./netpol.test"],
    cgo: false,
    linker: &[
        "-X k8s.io/component-base/version.gitVersion={version}",
        "-X k8s.io/component-base/version.gitMajor={major}",
        "-X k8s.io/component-base/version.gitMinor={minor}",
        "-X k8s.io/component-base/version.gitTreeState=clean",
        "-X k8s.io/client-go/pkg/version.gitVersion={version}",
        "-X k8s.io/client-go/pkg/version.gitMajor={major}",
        "-X k8s.io/client-go/pkg/version.gitMinor={minor}",
        "-X k8s.io/client-go/pkg/version.gitTreeState=clean",
    ],
};

pub(super) const FLANNEL: Project = Project {
    folder: "flannel",
    versioned_by: Some("github.com/flannel-io/flannel"),
    packages: &["tool"],
    // Its udp backend is written in C.
    cgo: true,
    linker: &["-extldflags -static", "-X github.com/flannel-io/flannel/pkg/version.Version={version}"],
};

pub(super) const CNI_FLANNEL: Project = Project {
    folder: "cni-flannel",
    versioned_by: Some("github.com/containernetworking/plugins"),
    packages: &["tool"],
    cgo: false,
    linker: &["-X github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion={version}"],
};

pub(super) const HELM: Project = Project {
    folder: "helm",
    versioned_by: Some("helm.sh/helm/v4"),
    packages: &["tool"],
    cgo: false,
    linker: &["-X helm.sh/helm/v4/internal/version.version={version}"],
};

pub(super) const PAUSE: Project =
    Project { folder: "pause", versioned_by: None, packages: &["."], cgo: false, linker: &[] };

/// The folder of the project's programs, built if it is not in the cache.
pub(super) fn build(project: &Project, progress: &Progress) -> Result<PathBuf> {
    let folder = crate::crate_folder().join("kubernetes").join(project.folder);
    let linker = linker_flags(project, &folder)?;
    let compiler = compiler()?;

    let mut key = Key::default();
    key.add("compiler", compiler.as_bytes());
    key.add("linker", linker.as_bytes());
    key.add("packages", project.packages.join(" ").as_bytes());
    key.add("cgo", &[u8::from(project.cgo)]);
    for file in inputs(&folder)? {
        key.add_file(&file)?;
    }
    cache::entry("bin", project.folder, &key.finish(), |output| {
        progress.step(format_args!("building {} (minutes, once)", project.folder));
        let mut go = command("go", ["build", "-trimpath", "-buildvcs=false", "-ldflags", &linker, "-o"]);
        go.arg(output).args(project.packages).current_dir(&folder);
        go.env("CGO_ENABLED", if project.cgo { "1" } else { "0" }).env_remove("GOFLAGS");
        run(&mut go).map(drop)
    })
}

/// What `go version` says.
fn compiler() -> Result<&'static str> {
    static COMPILER: OnceLock<String> = OnceLock::new();
    if let Some(known) = COMPILER.get() {
        return Ok(known);
    }
    let found = run(&mut command("go", ["version"]))
        .map_err(|error| Error::other(format!("{error}\nGo 1.26 or newer is needed: go.dev/doc/install")))?;
    Ok(COMPILER.get_or_init(|| found))
}

fn linker_flags(project: &Project, folder: &Path) -> Result<String> {
    let mut flags = format!("-s -w {}", project.linker.join(" "));
    if let Some(module) = project.versioned_by {
        let version = required_version(&folder.join("go.mod"), module)?;
        let mut numbers = version.trim_start_matches('v').split('.');
        for (name, value) in
            [("{version}", Some(version.as_str())), ("{major}", numbers.next()), ("{minor}", numbers.next())]
        {
            flags = flags.replace(name, value.unwrap_or_default());
        }
    }
    Ok(flags)
}

/// The version of `module` in a go.mod: the one place where it is pinned.
fn required_version(file: &Path, module: &str) -> Result<String> {
    let text = fs::read_to_string(file).at(file)?;
    let found = text.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten()
    });
    found.map(str::to_owned).ok_or_else(|| Error::other(format!("{} requires no {module}", file.display())))
}

/// The files of a module, in a stable order.
fn inputs(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).at(folder)? {
        let path = entry.at(folder)?.path();
        if path.is_dir() {
            files.extend(inputs(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_tell_the_version_that_go_mod_pins() {
        let folder = crate::crate_folder().join("kubernetes/kubernetes");
        let version = required_version(&folder.join("go.mod"), "k8s.io/kubernetes").unwrap();
        let minor = version.split('.').nth(1).unwrap();
        let flags = linker_flags(&KUBERNETES, &folder).unwrap();
        assert!(flags.contains(&format!("component-base/version.gitVersion={version} ")), "{flags}");
        assert!(flags.contains(&format!("client-go/pkg/version.gitMinor={minor} ")), "{flags}");
        assert!(!flags.contains('{'), "{flags}");
    }

    #[test]
    fn a_module_that_is_not_required_is_named() {
        let file = crate::crate_folder().join("kubernetes/helm/go.mod");
        let error = required_version(&file, "k8s.io/kubernetes").unwrap_err();
        assert!(error.to_string().contains("k8s.io/kubernetes"), "{error}");
    }
}
