//! A host that speaks to its etcd over TLS: with the right certificates, and with each that is wrong.
//!
//! Real: etcd, which wants a certificate of whoever calls, two host processes of the built command.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

#[path = "../../store/testing/certificates.rs"]
mod certificates;
#[path = "../../store/testing/etcd_server.rs"]
mod etcd_server;

use certificates::{Authority, Identity};
use etcd_server::EtcdServer;

/// Whatever is waited for comes within this, on a busy machine too.
const WITHIN: Duration = Duration::from_secs(120);

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.0.kill().is_err();
        let _reaped = self.0.wait().is_err();
    }
}

fn proffer(dir: &Path, data: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proffer"));
    command.args(["--data", data]).current_dir(dir);
    command.env_clear().env("HOME", dir).stdin(Stdio::null());
    command
}

fn host(dir: &Path, data: &str, etcd: &EtcdServer, files: &[(&str, &Path)]) -> Command {
    let mut command = proffer(dir, data);
    let store = format!("etcd://{}", etcd.member());
    command.args(["host", "--http", "off", "--listen", "127.0.0.1:0"]);
    command.args(["--store", &store, "--set", "host.leader-lease=2s"]);
    for (setting, file) in files {
        let file = file.display();
        command.args(["--set", &format!("host.store-{setting}={file}")]);
    }
    command
}

fn wait_for_address(dir: &Path, data: &str, host: &mut Process) -> String {
    let begun = Instant::now();
    loop {
        let text = std::fs::read_to_string(dir.join(data).join("address")).unwrap_or_default();
        if text.ends_with('\n') {
            return text.trim().to_owned();
        }
        assert!(host.0.try_wait().unwrap().is_none(), "the host has ended");
        assert!(begun.elapsed() < WITHIN, "the host does not start");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[track_caller]
fn refused(mut host: Command, status: i32, message: &str) {
    let Output {
        status: ended,
        stderr,
        ..
    } = host.output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(ended.code(), Some(status), "{said}");
    assert!(said.contains(message), "{said}");
}

#[test]
fn hosts_share_an_etcd_that_wants_their_certificates_and_wrong_ones_are_named() {
    let Some(authority) = Authority::make() else {
        return;
    };
    let (trusted, server, own) = (
        authority.certificate(),
        authority.sign("etcd"),
        authority.sign("host"),
    );
    let Some(etcd) = EtcdServer::start_with_tls([&trusted, &server.certificate, &server.key])
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let files = |authority: &'_ Path, own: &'_ Identity| {
        let of = |file: &Path| file.to_owned();
        [
            ("authority", of(authority)),
            ("certificate", of(&own.certificate)),
            ("key", of(&own.key)),
        ]
    };
    let as_given = |files: &'_ [(&'static str, std::path::PathBuf)], count: usize| {
        let files = files.iter().take(count);
        files.cloned().collect::<Vec<_>>()
    };
    let host_with = |data: &str, files: &[(&'static str, std::path::PathBuf)]| {
        let files: Vec<(&str, &Path)> = files.iter().map(|(s, f)| (*s, f.as_path())).collect();
        host(dir, data, &etcd, &files)
    };
    let right = files(&trusted, &own);
    let mut addresses = Vec::new();
    let mut hosts = Vec::new();
    for data in ["one", "two"] {
        let started = host_with(data, &right).stdout(Stdio::null()).spawn();
        hosts.push(Process(started.unwrap()));
        addresses.extend(
            hosts
                .last_mut()
                .map(|host| wait_for_address(dir, data, host)),
        );
    }
    // One leads, the other sends to it: both are asked.
    let all = addresses.join(",");
    let begun = Instant::now();
    loop {
        let mut status = proffer(dir, "one");
        let asked = status.args(["--connect", &all, "status"]).output().unwrap();
        if asked.status.success() {
            break;
        }
        let said = String::from_utf8_lossy(&asked.stderr);
        assert!(begun.elapsed() < WITHIN, "{said}");
    }
    // In the clear, without a certificate of its own, and with an authority that did not sign etcd's.
    refused(host_with("clear", &[]), 6, "no etcd answers at");
    refused(
        host_with("nobody", &as_given(&right, 1)),
        6,
        "no etcd answers at",
    );
    let Some(other) = Authority::make() else {
        return;
    };
    let stranger = files(&other.certificate(), &own);
    refused(
        host_with("stranger", &stranger),
        6,
        "invalid peer certificate",
    );
    // What is no certificate, a file that is not there, and half of what is wanted.
    let no_key = Identity {
        certificate: own.certificate.clone(),
        key: own.certificate.clone(),
    };
    refused(
        host_with("no-key", &files(&trusted, &no_key)),
        2,
        "TLS with etcd at",
    );
    let missing = files(&dir.join("missing.pem"), &own);
    refused(host_with("missing", &missing), 2, "missing.pem");
    let half = as_given(&right, 2);
    refused(host_with("half", &half), 2, "its key is wanted too");
}
