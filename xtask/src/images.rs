//! The images of operator and agent: a root folder with one program and what it loads, built by a Containerfile that
//! starts from nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::sbom::Crates;

/// The images, by the folder of their crate, which is their name too.
const IMAGES: [(&str, &str); 2] = [("operator", "selvage-operator"), ("node-agent", "selvage-node-agent")];
const REGISTRY: &str = "ghcr.io/selvage";
const VERSION: &str = env!("CARGO_PKG_VERSION");
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Small files that programs and the C library expect in a root folder.
const FILES: [(&str, &str); 3] = [
    ("etc/passwd", "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"),
    ("etc/group", "root:x:0:\nnonroot:x:65532:\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
];

/// What to build the images from.
#[derive(clap::Args)]
pub struct Args {
    /// The folder with the two programs; the target folder's `release` if not given
    #[arg(long)]
    programs: Option<PathBuf>,
}

/// Builds every image that is not there yet with the same content, as docker-archives `out/images/NAME.tar`, each with
/// the bill of what is in it beside it, `NAME.sbom.json`.
pub fn build(root: &Path, args: &Args) -> Result<()> {
    let programs = args.programs.clone().unwrap_or_else(|| target(root).join("release"));
    let out = root.join("out/images");
    let crates = Crates::read(root)?;
    for (name, program) in IMAGES {
        let context = out.join(name);
        let rootfs = context.join("rootfs");
        let content = fill(&rootfs, &programs.join(program))?;
        let containerfile = root.join(name).join("Containerfile");
        let bill = crates.bill(program, &libraries(&programs.join(program))?)?;
        write(&out.join(format!("{name}.sbom.json")), &format!("{bill:#}\n"))?;
        let key = key(&containerfile, &rootfs, &content)?;
        let (archive, stamp) = (out.join(format!("{name}.tar")), out.join(format!("{name}.key")));
        if archive.is_file() && fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == key) {
            println!("{} is up to date", archive.display());
            continue;
        }
        let reference = format!("{REGISTRY}/{name}:{VERSION}");
        bud(&reference, &containerfile, &context, &archive)?;
        write(&stamp, &key)?;
        println!("{} holds {reference}", archive.display());
    }
    Ok(())
}

/// Fills a root folder anew and returns what is in it: paths inside it, sorted.
fn fill(rootfs: &Path, program: &Path) -> Result<Vec<PathBuf>> {
    if !program.is_file() {
        bail!("{} is missing: run `make images`, or cargo build --release first", program.display());
    }
    if rootfs.exists() {
        fs::remove_dir_all(rootfs).with_context(|| format!("removing {}", rootfs.display()))?;
    }
    let mut content = BTreeSet::new();
    let mut place = |path: &Path, from: &Path, mode: u32| -> Result<()> {
        let to = rootfs.join(path);
        make_folder(to.parent().unwrap_or(rootfs), 0o755)?;
        fs::copy(from, &to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
        set_mode(&to, mode)?;
        content.insert(path.to_owned());
        Ok(())
    };
    let name = program.file_name().context("the program has no name")?;
    place(&Path::new("usr/bin").join(name), program, 0o755)?;
    for library in libraries(program)? {
        place(library.strip_prefix("/").unwrap_or(&library), &library, 0o755)?;
    }
    place(Path::new(CERTIFICATES.trim_start_matches('/')), Path::new(CERTIFICATES), 0o644)?;
    for (path, text) in FILES {
        write(&rootfs.join(path), text)?;
        set_mode(&rootfs.join(path), 0o644)?;
        content.insert(path.into());
    }
    make_folder(&rootfs.join("tmp"), 0o1777)?;
    Ok(content.into_iter().collect())
}

/// The shared libraries that a program loads and the loader itself, by the paths it looks for them at.
pub(crate) fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let listed = command::output(Command::new("ldd").arg(program))?;
    // "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)", or the loader's path alone; "not found" names no path.
    if let Some(missing) = listed.lines().find(|line| line.contains("not found")) {
        bail!("{}: {}", program.display(), missing.trim());
    }
    Ok(listed
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect())
}

/// A hash over all that an image is made from.
fn key(containerfile: &Path, rootfs: &Path, content: &[PathBuf]) -> Result<String> {
    let context = |path: &Path| format!("reading {}", path.display());
    let mut hasher = blake3::Hasher::new();
    let mut add = |name: &str, bytes: &[u8]| {
        for part in [name.as_bytes(), bytes] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
    };
    add("version", VERSION.as_bytes());
    add("Containerfile", &fs::read(containerfile).with_context(|| context(containerfile))?);
    for path in content {
        let full = rootfs.join(path);
        add(&path.to_string_lossy(), &fs::read(&full).with_context(|| context(&full))?);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Builds with buildah, in a store of our own that is empty again afterwards.
fn bud(reference: &str, containerfile: &Path, context: &Path, archive: &Path) -> Result<()> {
    let cache = crate::cache();
    let buildah = || {
        let mut buildah = Command::new("buildah");
        buildah.arg("--storage-driver=vfs");
        buildah.arg("--root").arg(cache.join("buildah/root"));
        buildah.arg("--runroot").arg(cache.join("buildah/run"));
        buildah
    };
    let unfinished = archive.with_extension("tar.unfinished");
    if unfinished.exists() {
        fs::remove_file(&unfinished).with_context(|| format!("removing {}", unfinished.display()))?;
    }
    // The time stamp keeps equal content equal down to the image's id.
    command::output(
        buildah()
            .args(["bud", "--isolation=chroot", "--timestamp=0", "--quiet"])
            .arg(format!("--build-arg=VERSION={VERSION}"))
            .arg(format!("--tag={reference}"))
            .arg("--file")
            .arg(containerfile)
            .arg(context),
    )?;
    let destination = format!("docker-archive:{}:{reference}", unfinished.display());
    command::output(buildah().args(["push", "--quiet", reference]).arg(destination))?;
    command::output(buildah().args(["rmi", "--force", reference]))?;
    fs::rename(&unfinished, archive).with_context(|| format!("writing {}", archive.display()))
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

fn write(path: &Path, text: &str) -> Result<()> {
    make_folder(path.parent().unwrap_or(path), 0o755)?;
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Makes a folder and those above it, with a mode whatever this process' umask is.
fn make_folder(path: &Path, mode: u32) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_folder(parent, 0o755)?;
    }
    fs::create_dir(path).with_context(|| format!("making {}", path.display()))?;
    set_mode(path, mode)
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", path.display()))
}
