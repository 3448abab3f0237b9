//! The floor: a server that does the same exchange as the one under load with nothing around it.
//!
//! One thread (`deliver`) accepts, answers the opening of a connection with ready-made bytes, and gives each publication
//! to each subscriber with one `send()`, in the order in which they were accepted. It is what the kernel alone costs, and
//! its CPU time is what a result is compared with. Another thread (`front`) takes publications over HTTP, so that the
//! same publisher drives it; its time does not count.
//!
//! It runs as a process of its own, without a limit, a timer, a log or a metric. Loopback only.

mod deliver;
pub mod endpoint;
mod exchange;
mod front;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context;
use jsonwebtoken::DecodingKey;
use serde::{Deserialize, Serialize};

use deliver::{Deliverer, Queue};

/// The environment variable with the secret that tokens are signed with. Not a flag: those are for all to read.
pub const SECRET: &str = "FANWAY_SECRET";

/// Where the floor is, told as one line of JSON on its standard output.
#[derive(Debug, Serialize, Deserialize)]
pub struct Place {
    /// For clients.
    pub door: SocketAddr,
    /// For publishers.
    pub front: SocketAddr,
    /// The delivering thread.
    pub thread: u32,
}

/// The process's whole life: until its standard input ends, which is when its parent does.
pub fn serve() -> anyhow::Result<()> {
    let secret = std::env::var(SECRET).context(SECRET)?;
    let queue = Arc::new(Queue::default());
    let mut deliverer = Deliverer::bind(DecodingKey::from_secret(secret.as_bytes()), queue.clone())?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (door, front) = (deliverer.address()?, listener.local_addr()?);
    let waker = deliverer.waker()?;
    // Both threads end with the process: what they have is of no use to anybody then.
    std::thread::Builder::new().name("front".to_owned()).spawn(move || front::serve(&listener, &queue, &waker))?;
    let (sender, thread) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("deliver".to_owned()).spawn(move || {
        let _ = sender.send(rustix::thread::gettid());
        if let Err(error) = deliverer.run() {
            eprintln!("the floor gave way: {error}");
            std::process::exit(2);
        }
    })?;
    let thread = thread.recv()?.as_raw_nonzero().get().unsigned_abs();
    println!("{}", serde_json::to_string(&Place { door, front, thread })?);
    std::io::stdout().flush()?;
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}
