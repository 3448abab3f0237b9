//! Other products to compare with: what they are, and what of theirs is kept in `loadtest/peers`.
//!
//! A further peer is a variant of [`Peer`], its files, and an arm in [`install`] and in `subject::peer`.

pub mod install;

use std::fmt;

use crate::transport::Transport;

/// The products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    /// nchan, a module of nginx, from Debian
    Nchan,
    /// uWebSockets through its Python binding socketify, from PyPI
    Uwebsockets,
    /// ws for Node.js, from npm
    Ws,
    /// Socket.IO for Node.js, from npm
    Socketio,
    /// Sockudo, built by cargo: that takes long, so only if it is asked for
    Sockudo,
}

impl Peer {
    /// All that are quickly had.
    pub const QUICK: [Self; 4] = [Self::Nchan, Self::Uwebsockets, Self::Ws, Self::Socketio];
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Nchan, Self::Uwebsockets, Self::Ws, Self::Socketio, Self::Sockudo];

    /// The name of its folder, here and in the cache.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Nchan => "nchan",
            Self::Uwebsockets => "uwebsockets",
            Self::Ws => "ws",
            Self::Socketio => "socketio",
            Self::Sockudo => "sockudo",
        }
    }

    /// What clients speak with it.
    pub fn transport(self) -> Transport {
        match self {
            Self::Nchan | Self::Uwebsockets | Self::Ws => Transport::Plain,
            Self::Socketio => Transport::Socketio,
            Self::Sockudo => Transport::Pusher,
        }
    }

    /// Its configuration and programs: names and contents.
    fn files(self) -> &'static [(&'static str, &'static str)] {
        macro_rules! files {
            ($folder:literal: $($name:literal),*) => {
                &[$(($name, include_str!(concat!("../../peers/", $folder, "/", $name)))),*]
            };
        }
        match self {
            Self::Nchan => files!("nchan": "nginx.conf"),
            Self::Uwebsockets => files!("uwebsockets": "requirements.txt", "server.py"),
            Self::Ws => files!("ws": "package.json", "package-lock.json", "server.js"),
            Self::Socketio => files!("socketio": "package.json", "package-lock.json", "server.js"),
            Self::Sockudo => files!("sockudo": "config.json"),
        }
    }

    /// One of its files.
    pub(crate) fn file(self, name: &str) -> &'static str {
        self.files().iter().find(|(other, _)| *other == name).map_or("", |(_, content)| content)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nchan => "nchan",
            Self::Uwebsockets => "uWebSockets",
            Self::Ws => "ws",
            Self::Socketio => "Socket.IO",
            Self::Sockudo => "Sockudo",
        })
    }
}

/// A peer that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Which.
    pub peer: Peer,
    /// Its version, and what it runs on, for people.
    pub version: String,
    /// Where it is.
    pub folder: std::path::PathBuf,
}
