//! Getting peers through their ordinary package managers, at pinned versions, into a cache folder and nowhere else.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::{Installed, Peer};
use crate::subject::Process;

/// How long a package manager may take.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// How long a build may take.
const BUILD: Duration = Duration::from_secs(60 * 60);
/// The file that says what is installed.
const STAMP: &str = ".installed";
/// The version of Sockudo.
const SOCKUDO: &str = "5.2.0";

/// Makes sure that a peer is in the cache. The error is the reason why it cannot be had.
pub fn install(peer: Peer, cache: &Path, interrupted: &AtomicBool) -> anyhow::Result<Installed> {
    let folder = cache.join(peer.folder());
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let folder = folder.canonicalize()?;
    // Once more when what is wanted has changed.
    let wanted = match peer {
        Peer::Nchan => "nginx libnginx-mod-nchan",
        Peer::Sockudo => SOCKUDO,
        Peer::Uwebsockets => peer.file("requirements.txt"),
        Peer::Ws | Peer::Socketio => peer.file("package-lock.json"),
    };
    let stamp = folder.join(STAMP);
    let is_there = std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted);
    for (name, content) in peer.files() {
        std::fs::write(folder.join(name), content)?;
    }
    if !is_there {
        // A half of an earlier attempt is not taken for the whole.
        let _ = std::fs::remove_file(&stamp);
        let run = |program: &str, arguments: &[&str], within| run(program, arguments, &folder, within, interrupted);
        match peer {
            Peer::Nchan => debian(&folder, &run)?,
            Peer::Uwebsockets => {
                run("python3", &["-m", "venv", "venv"], PATIENCE)?;
                let pip = folder.join("venv/bin/pip");
                run(&pip.to_string_lossy(), &["install", "--quiet", "-r", "requirements.txt"], PATIENCE)?;
            }
            Peer::Ws | Peer::Socketio => {
                run("npm", &["ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"], PATIENCE)?;
            }
            Peer::Sockudo => {
                let version = format!("sockudo@{SOCKUDO}");
                run("cargo", &["install", "--locked", "--features", "redis", "--root", ".", &version], BUILD)?;
            }
        }
        std::fs::write(&stamp, wanted)?;
    }
    Ok(Installed { peer, version: version(peer, &folder)?, folder })
}

/// What runs a program: its name, arguments, and how long it may take.
type Run<'a> = dyn Fn(&str, &[&str], Duration) -> anyhow::Result<()> + 'a;

/// nginx and nchan out of Debian's packages, unpacked here: nothing is installed or started on the machine.
fn debian(folder: &Path, run: &Run<'_>) -> anyhow::Result<()> {
    run("apt-get", &["download", "-qq", "nginx", "libnginx-mod-nchan"], PATIENCE)?;
    for package in packages(folder)? {
        run("dpkg-deb", &["-x", &package.to_string_lossy(), "."], PATIENCE)?;
    }
    Ok(())
}

fn packages(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let files = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    Ok(files.filter(|path| path.extension().is_some_and(|extension| extension == "deb")).collect())
}

fn run(
    program: &str,
    arguments: &[&str],
    folder: &Path,
    within: Duration,
    interrupted: &AtomicBool,
) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    let what = || format!("{program} {}", arguments.first().copied().unwrap_or_default());
    Process::start(&mut command, None)?.finish(within, interrupted).with_context(what)
}

/// What is installed, and what runs it.
fn version(peer: Peer, folder: &Path) -> anyhow::Result<String> {
    let locked = |name: &str| {
        let lock: Value = serde_json::from_str(peer.file("package-lock.json")).unwrap_or_default();
        lock["packages"][format!("node_modules/{name}")]["version"].as_str().unwrap_or("unknown").to_owned()
    };
    Ok(match peer {
        Peer::Nchan => {
            let package = packages(folder)?.into_iter().find(|path| path.to_string_lossy().contains("nchan"));
            let package = package.context("the package is gone")?;
            said("dpkg-deb", &["-f", &package.to_string_lossy(), "Version"])?
        }
        Peer::Uwebsockets => {
            let pinned = peer.file("requirements.txt").lines().find_map(|line| line.strip_prefix("socketify=="));
            format!("socketify {}", pinned.unwrap_or("unknown"))
        }
        Peer::Ws => format!("{}, Node.js {}", locked("ws"), said("node", &["--version"])?),
        Peer::Socketio => format!("{}, Node.js {}", locked("socket.io"), said("node", &["--version"])?),
        Peer::Sockudo => SOCKUDO.to_owned(),
    })
}

/// The first line that a program prints.
pub(crate) fn said(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program} ended with {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_pinned_and_no_lock_names_a_server() {
        for peer in [Peer::Ws, Peer::Socketio] {
            let lock: Value = serde_json::from_str(peer.file("package-lock.json")).unwrap();
            let wanted: Value = serde_json::from_str(peer.file("package.json")).unwrap();
            for (name, version) in wanted["dependencies"].as_object().unwrap() {
                assert_eq!(&lock["packages"][format!("node_modules/{name}")]["version"], version, "{peer}: {name}");
            }
            let others = lock["packages"].as_object().unwrap().iter().filter(|(path, _)| !path.is_empty());
            for (path, package) in others {
                assert!(package["integrity"].is_string() && package["resolved"].is_null(), "{peer}: {path}");
            }
        }
        assert!(Peer::Uwebsockets.file("requirements.txt").lines().all(|line| line.contains("==")));
    }

    #[test]
    fn what_fails_says_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let interrupted = AtomicBool::new(false);
        let fails = |program: &str, arguments: &[&str]| {
            format!("{:#}", run(program, arguments, folder.path(), PATIENCE, &interrupted).unwrap_err())
        };
        assert!(fails("no-such-program", &["x"]).contains("cannot start no-such-program"));
        let text = fails("sh", &["-c", "echo the reason >&2; exit 3"]);
        assert!(text.contains("sh -c") && text.contains("the reason"), "{text}");
    }
}
