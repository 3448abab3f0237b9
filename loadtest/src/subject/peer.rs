//! A peer of a run: a process like ours, on the same core.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;

use super::process::Process;
use crate::peers::{Installed, Peer};
use crate::publisher::Api;

/// The application in `loadtest/peers/sockudo/config.json`, as `--api-key` would have it, and its key.
const APPLICATION: (&str, &str) = ("loadtest:loadtest-key:loadtest-secret", "loadtest-key");

/// A running peer.
pub(super) struct Running {
    process: Process,
    pub(super) address: SocketAddr,
    /// Where it may write.
    _directory: TempDir,
}

/// How it is published to, and the token of its clients.
pub(super) fn access(peer: Peer) -> anyhow::Result<(Api, String)> {
    let (key, token) = if peer == Peer::Sockudo { APPLICATION } else { ("", "") };
    Ok((Api::of(peer.transport(), key)?, token.to_owned()))
}

impl Running {
    pub(super) fn start(
        installed: &Installed,
        redis: Option<SocketAddr>,
        core: Option<usize>,
        interrupted: &AtomicBool,
    ) -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = command(installed, directory.path(), address)?;
        command.current_dir(&installed.folder).env("PORT", address.port().to_string());
        if let Some(redis) = redis {
            command.env("REDIS_URL", format!("redis://{redis}")).env("ADAPTER_DRIVER", "redis");
        }
        let mut process = Process::start(&mut command, core)?;
        process
            .wait_until(interrupted, || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
            .with_context(|| installed.peer.to_string())?;
        Ok(Self { process, address, _directory: directory })
    }

    /// Its processes: that which was started, and its workers.
    pub(super) fn ids(&self) -> Vec<u32> {
        let id = self.process.id();
        let folders = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let others = folders.filter_map(|folder| folder.file_name().to_string_lossy().parse().ok());
        std::iter::once(id).chain(others.filter(|other| parent(*other) == Some(id))).collect()
    }
}

/// A process's parent.
fn parent(id: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn command(installed: &Installed, directory: &Path, address: SocketAddr) -> anyhow::Result<Command> {
    let Installed { peer, folder, .. } = installed;
    Ok(match peer {
        Peer::Nchan => {
            // Compiled into Debian's nginx, for what no setting names.
            std::fs::create_dir_all("/var/lib/nginx")
                .context("nginx needs the folder /var/lib/nginx, which only root can make (or the package nginx)")?;
            let module = folder.join("usr/lib/nginx/modules/ngx_nchan_module.so");
            let settings = peer
                .file("nginx.conf")
                .replace("@MODULE@", &module.to_string_lossy())
                .replace("@DIRECTORY@", &directory.to_string_lossy())
                .replace("@PORT@", &address.port().to_string());
            let path = directory.join("nginx.conf");
            std::fs::write(&path, settings)?;
            let mut command = Command::new(folder.join("usr/sbin/nginx"));
            command.args(["-e", "stderr", "-p"]).arg(directory).arg("-c").arg(path);
            command
        }
        Peer::Uwebsockets => {
            let mut command = Command::new(folder.join("venv/bin/python"));
            command.arg("server.py");
            command
        }
        Peer::Ws | Peer::Socketio => {
            let mut command = Command::new("node");
            command.arg("server.js").env("NODE_ENV", "production");
            command
        }
        Peer::Sockudo => {
            let mut command = Command::new(folder.join("bin/sockudo"));
            command.arg("--config=config.json").env("RUST_LOG", "error");
            command
        }
    })
}
