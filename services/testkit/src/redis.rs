//! A real `redis-server` of one's own: free port, temporary folder, gone when dropped.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Value};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::wait::PATIENCE;

/// The user by which the kit itself talks to the server, over a unix socket, whatever the tested users may do.
const ADMIN: (&str, &str) = ("testkit", "testkit-admin");

/// How the server is to be.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    /// Password of the default user.
    password: Option<String>,
    /// Further lines of the configuration file.
    config: Vec<String>,
    /// Serve TLS instead of plain TCP.
    tls: bool,
    /// Be a Sentinel instead of a server that keeps data.
    sentinel: bool,
}

impl RedisOptions {
    /// Requires a password from the default user.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Adds a user: the text after `user` in an ACL file, such as `fanway on >secret ~fw:* &fw:* +@all`.
    pub fn user(self, rule: &str) -> Self {
        self.config(&format!("user {rule}"))
    }

    /// Adds a line of configuration.
    pub fn config(mut self, line: &str) -> Self {
        self.config.push(line.to_owned());
        self
    }

    /// Serves TLS with a certificate for `localhost` and `127.0.0.1` of an authority made for the occasion, see
    /// [`RedisServer::ca_file`].
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Makes it a Sentinel.
    pub fn sentinel(mut self) -> Self {
        self.sentinel = true;
        self
    }

    /// Starts the server and waits until it answers.
    pub async fn start(self) -> RedisServer {
        let dir = TempDir::new().unwrap();
        if self.tls {
            write_certificates(&dir);
        }
        // A free port can be taken by somebody else before the server binds it: then another.
        loop {
            let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
            fs::write(dir.path().join("redis.conf"), self.config_file(&dir, port)).unwrap();
            let mut child = spawn(&dir, self.sentinel);
            if wait_until_ready(&dir, &mut child).await {
                return RedisServer { child, dir, port, tls: self.tls, sentinel: self.sentinel };
            }
            let log = fs::read_to_string(dir.path().join("redis.log")).unwrap_or_default();
            assert!(log.contains("Address already in use"), "redis-server does not start: {log}");
            fs::remove_file(dir.path().join("redis.log")).unwrap();
        }
    }

    fn config_file(&self, dir: &TempDir, port: u16) -> String {
        let path = |name| dir.path().join(name).display().to_string();
        let mut lines = vec![
            format!("dir {}", dir.path().display()),
            format!("logfile {}", path("redis.log")),
            format!("unixsocket {}", path("redis.sock")),
            "bind 127.0.0.1".into(),
            "save \"\"".into(),
            "enable-debug-command yes".into(),
            format!("user {} on >{} ~* &* +@all", ADMIN.0, ADMIN.1),
        ];
        if self.tls {
            lines.extend([
                "port 0".into(),
                format!("tls-port {port}"),
                format!("tls-cert-file {}", path("server.pem")),
                format!("tls-key-file {}", path("server.key")),
                format!("tls-ca-cert-file {}", path("ca.pem")),
                "tls-auth-clients no".into(),
            ]);
        } else {
            lines.push(format!("port {port}"));
        }
        lines.extend(self.password.iter().map(|password| format!("requirepass \"{password}\"")));
        lines.extend(self.config.iter().cloned());
        lines.join("\n")
    }
}

/// A running `redis-server`.
pub struct RedisServer {
    child: Child,
    dir: TempDir,
    port: u16,
    tls: bool,
    sentinel: bool,
}

impl RedisServer {
    /// A server without password or TLS.
    pub async fn start() -> Self {
        RedisOptions::default().start().await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Its URL, without credentials.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.tls { "rediss" } else { "redis" }, self.port)
    }

    /// The certificate of the authority that signed the server's, with [`RedisOptions::tls`].
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A connection with all rights.
    pub async fn admin(&self) -> MultiplexedConnection {
        connect(&self.dir).await.unwrap()
    }

    /// Runs a command with all rights: `server.command("CONFIG SET maxmemory 1mb")`. Words are parted by spaces.
    pub async fn command(&self, command: &str) -> Value {
        let mut words = command.split_whitespace();
        let mut cmd = redis::cmd(words.next().unwrap());
        for word in words {
            cmd.arg(word);
        }
        cmd.query_async(&mut self.admin().await).await.unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Deletes everything it keeps, and the scripts it knows.
    pub async fn flush(&self) {
        self.command("FLUSHALL").await;
        self.command("SCRIPT FLUSH").await;
    }

    /// Ends it in an orderly way.
    pub async fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.wait_until_gone().await;
    }

    /// Ends it at once, as a crash does.
    pub async fn kill(&mut self) {
        self.child.kill().unwrap();
        self.wait_until_gone().await;
    }

    /// Ends it if it runs, and starts it again on the same port, with what it had persisted.
    pub async fn restart(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.stop().await;
        }
        self.child = spawn(&self.dir, self.sentinel);
        assert!(wait_until_ready(&self.dir, &mut self.child).await, "redis-server does not start again");
    }

    /// Freezes it: the kernel goes on accepting connections and bytes, nothing answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    async fn wait_until_gone(&mut self) {
        crate::wait::until("the end of redis-server", || self.child.try_wait().unwrap()).await;
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &TempDir, sentinel: bool) -> Child {
    Command::new("redis-server")
        .arg(dir.path().join("redis.conf"))
        .args(sentinel.then_some("--sentinel"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server must be installed for these tests")
}

/// A connection with all rights.
async fn connect(dir: &TempDir) -> redis::RedisResult<MultiplexedConnection> {
    let socket = dir.path().join("redis.sock");
    let url = format!("redis+unix://{}?user={}&pass={}", socket.display(), ADMIN.0, ADMIN.1);
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(5)))
        .set_response_timeout(Some(PATIENCE));
    redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

/// Whether the server answers; `false` if it ended instead.
async fn wait_until_ready(dir: &TempDir, child: &mut Child) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if let Ok(mut connection) = connect(dir).await
            && redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok()
        {
            return true;
        }
        assert!(Instant::now() < deadline, "redis-server does not answer");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

/// An authority, and the server's certificate and key signed by it.
fn write_certificates(dir: &TempDir) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(authority, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    for (name, text) in
        [("ca.pem", authority.pem()), ("server.pem", certificate.pem()), ("server.key", key.serialize_pem())]
    {
        fs::write(dir.path().join(name), text).unwrap();
    }
}
