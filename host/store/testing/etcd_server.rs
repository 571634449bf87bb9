//! A real etcd for tests and benchmarks: one member or several, on free ports, each in a directory that goes
//! with it.
//!
//! Included by path where it is needed. Without an `etcd` on the machine, tests that want one say so
//! and end, unless `PROFFER_REQUIRE_ALL=1`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A busy machine takes its time.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Somebody else may take a port between the moment it was found and the moment it is used.
const PORTS_TRIED: usize = 5;

/// One member.
pub(crate) struct EtcdServer {
    dir: tempfile::TempDir,
    child: Child,
    arguments: Arguments,
}

/// How a member is called, where it is, and who belongs to it.
#[derive(Clone)]
struct Arguments {
    name: String,
    /// For clients and for other members.
    ports: (u16, u16),
    /// Where a member that speaks TLS to its clients says in the clear how it is.
    health: Option<u16>,
    /// All members, as etcd wants them named.
    cluster: String,
    more: Vec<String>,
}

impl EtcdServer {
    /// Starts one, or says why not.
    #[allow(dead_code, reason = "not every includer does")]
    pub(crate) fn start(more: &[&str]) -> Option<Self> {
        Self::start_cluster(1, more)?.pop()
    }

    /// Starts one that speaks TLS alone, to clients whose certificate that authority has signed; the
    /// files are the authority's certificate, the member's own, and its key.
    #[allow(dead_code, reason = "not every includer does")]
    pub(crate) fn start_with_tls(files: [&std::path::Path; 3]) -> Option<Self> {
        let [authority, certificate, key] = files.map(|file| file.display().to_string());
        let more = [
            "--client-cert-auth",
            "--trusted-ca-file",
            &authority,
            "--cert-file",
            &certificate,
            "--key-file",
            &key,
        ];
        Self::start_members(1, &more, true)?.pop()
    }

    /// Starts members of one cluster, or says why not.
    pub(crate) fn start_cluster(count: usize, more: &[&str]) -> Option<Vec<Self>> {
        Self::start_members(count, more, false)
    }

    fn start_members(count: usize, more: &[&str], tls: bool) -> Option<Vec<Self>> {
        let there = Command::new("etcd")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if there.is_err() {
            let required = std::env::var("PROFFER_REQUIRE_ALL").is_ok_and(|value| value == "1");
            assert!(!required, "there is no etcd: apt-get install etcd-server");
            println!("skipped: there is no etcd (apt-get install etcd-server)");
            return None;
        }
        for _ in 0..PORTS_TRIED {
            // A member answers when most are there.
            let mut members: Vec<Self> = arguments_of(count, more, tls).map(Self::spawn).collect();
            if members.iter_mut().all(Self::is_ready) {
                return Some(members);
            }
        }
        panic!("etcd does not start");
    }

    fn spawn(arguments: Arguments) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            child: spawn(&dir, &arguments),
            dir,
            arguments,
        }
    }

    /// `HOST:PORT`.
    pub(crate) fn member(&self) -> String {
        format!("127.0.0.1:{}", self.arguments.ports.0)
    }

    /// Pulls the plug.
    #[allow(dead_code, reason = "not every includer does")]
    pub(crate) fn kill_9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends its process a signal, as `kill` names it.
    #[allow(dead_code, reason = "not every includer does")]
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
    }

    /// Starts it again, with what it has on disk.
    #[allow(dead_code, reason = "not every includer does")]
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.dir, &self.arguments);
        assert!(self.is_ready(), "etcd does not start again");
    }

    /// Waits until it answers; false: it has ended.
    fn is_ready(&mut self) -> bool {
        let begun = Instant::now();
        while !self.is_healthy() {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(begun.elapsed() < READY_WITHIN, "etcd is not ready in time");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        true
    }

    fn is_healthy(&self) -> bool {
        let asked = || -> std::io::Result<String> {
            let health = self.arguments.health.unwrap_or(self.arguments.ports.0);
            let mut stream = TcpStream::connect(("127.0.0.1", health))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        asked().is_ok_and(|answer| answer.contains("\"health\":\"true\""))
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.child.kill().is_err();
        let _reaped = self.child.wait().is_err();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn arguments_of(count: usize, more: &[&str], tls: bool) -> impl Iterator<Item = Arguments> {
    let more: Vec<String> = more.iter().map(|word| (*word).to_owned()).collect();
    let ports: Vec<(u16, u16)> = (0..count).map(|_| (free_port(), free_port())).collect();
    let name = |number: usize| format!("member{number}");
    let peer = |(number, (_, port)): (usize, &(u16, u16))| {
        format!("{}=http://127.0.0.1:{port}", name(number))
    };
    let cluster: Vec<String> = ports.iter().enumerate().map(peer).collect();
    let cluster = cluster.join(",");
    let member = move |(number, ports)| Arguments {
        name: name(number),
        ports,
        health: tls.then(free_port),
        cluster: cluster.clone(),
        more: more.clone(),
    };
    ports.into_iter().enumerate().map(member)
}

fn spawn(dir: &tempfile::TempDir, arguments: &Arguments) -> Child {
    let (client, peer) = arguments.ports;
    let scheme = match arguments.health {
        Some(_) => "https",
        None => "http",
    };
    let client = format!("{scheme}://127.0.0.1:{client}");
    let health = arguments
        .health
        .map(|port| format!("http://127.0.0.1:{port}"));
    let health = health.map(|url| ["--listen-metrics-urls".to_owned(), url]);
    let peer = format!("http://127.0.0.1:{peer}");
    Command::new("etcd")
        .args(["--name", &arguments.name])
        .args(["--log-level", "error", "--data-dir"])
        .arg(dir.path().join("etcd"))
        .args(["--listen-client-urls", &client])
        .args(["--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer])
        .args(["--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &arguments.cluster])
        .args(health.into_iter().flatten())
        .args(&arguments.more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
