//! Stores that cannot be used, as whoever starts a host meets them: what is said, with which status,
//! and that nothing was overwritten.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use proffer_rpc::operator::{OperatorClient, SetRole};
use proffer_rpc::{PeerAddress, Tls, Token};

/// Whatever is waited for comes within this, on a busy machine too.
const WITHIN: Duration = Duration::from_secs(120);

fn host(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proffer"));
    command.args(["--data", "data", "host", "--http", "off"]);
    command.args(["--listen", "127.0.0.1:0"]);
    command.current_dir(dir).env_clear().env("HOME", dir);
    command.stdin(Stdio::null());
    command
}

/// A store that a host has made.
fn made(dir: &Path) {
    let mut child = host(dir).stdout(Stdio::null()).spawn().unwrap();
    wait_for_address(dir, &mut child);
    stop(child);
}

fn stop(mut child: Child) {
    let id = child.id().to_string();
    assert!(Command::new("kill").arg(&id).status().unwrap().success());
    assert!(child.wait().unwrap().success());
}

fn wait_for_address(dir: &Path, child: &mut Child) -> String {
    let begun = Instant::now();
    loop {
        let text = std::fs::read_to_string(dir.join("data/address")).unwrap_or_default();
        if text.ends_with('\n') {
            return text.trim().to_owned();
        }
        assert!(child.try_wait().unwrap().is_none(), "the host has ended");
        assert!(begun.elapsed() < WITHIN, "the host does not start");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A host that does not start: this status, this message, and the store as it was.
#[track_caller]
fn refused(dir: &Path, status: i32, message: &str) {
    let store = dir.join("data/store");
    let before = contents(&store);
    let Output {
        status: ended,
        stderr,
        ..
    } = host(dir).output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(ended.code(), Some(status), "{said}");
    assert!(said.contains(message), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(contents(&store) == before, "the store was changed");
}

fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_file())
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_newer_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    std::fs::write(dir.path().join("data/store/FORMAT"), "proffer store 99\n").unwrap();
    refused(dir.path(), 8, "has format 99, and this proffer knows");
}

#[test]
fn a_damaged_file_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let facts = dir.path().join("data/store/facts.redb");
    let mut bytes = std::fs::read(&facts).unwrap();
    let len = bytes.len();
    for at in (4_096..len).step_by(64) {
        bytes[at] ^= 0x55;
    }
    std::fs::write(&facts, bytes).unwrap();
    refused(dir.path(), 8, "the store is damaged");
}

#[test]
fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = host(dir.path()).stdout(Stdio::null()).spawn().unwrap();
    wait_for_address(dir.path(), &mut first);
    let second = host(dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(7), "{said}");
    assert!(said.contains("in use"), "{said}");
    stop(first);
}

/// The disk is full when files may not grow: the host ends, and what it had acknowledged is there.
#[test]
fn a_host_whose_disk_is_full_ends_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let facts = dir.path().join("data/store/facts.redb");
    // In the shell's units of 512 bytes: a little more than it has.
    let blocks = std::fs::metadata(&facts).unwrap().len() / 512 + 128;
    // The signal that comes with the limit is ignored, so that the write fails instead.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\""),
    ]);
    let plain = host(dir.path());
    command
        .arg("sh")
        .arg(plain.get_program())
        .args(plain.get_args());
    command.current_dir(dir.path()).env_clear();
    command.env("HOME", dir.path()).env("PATH", "/usr/bin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let address = wait_for_address(dir.path(), &mut child);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let token = Token::read(&dir.path().join("data/token")).unwrap();
    let connect = |address: &str| {
        let address: PeerAddress = address.parse().unwrap();
        let token = token.clone();
        async move {
            OperatorClient::connect(&address, &token, &Tls::Off)
                .await
                .unwrap()
        }
    };
    let client = runtime.block_on(connect(&address));
    let name = |number: u32| format!("role-{number}-{}", "x".repeat(200));
    let mut acknowledged = 0;
    let refused = loop {
        let role = SetRole {
            name: proffer_model::RoleName::new(name(acknowledged)).unwrap(),
            weight: proffer_model::Amount::from_milli(2_000),
        };
        match runtime.block_on(client.set_role(role)) {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 100_000, "the limit is not there");
    };
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(8), "{refused}: {said}");
    assert!(said.contains("no space left on the disk of"), "{said}");

    // With room again, it goes on from what was acknowledged; the last may or may not be there.
    let mut child = host(dir.path()).stdout(Stdio::null()).spawn().unwrap();
    let address = wait_for_address(dir.path(), &mut child);
    let client = runtime.block_on(connect(&address));
    let roles = runtime.block_on(async {
        let mut all = Vec::new();
        let mut query = proffer_rpc::operator::RoleQuery::default();
        loop {
            let page = client.roles(query.clone()).await.unwrap();
            all.extend(page.rows);
            if page.next.is_empty() {
                return all;
            }
            query.page.token = page.next;
        }
    });
    let kept = roles
        .iter()
        .filter(|role| role.name.to_string().starts_with("role-"))
        .count() as u32;
    assert!(
        kept == acknowledged || kept == acknowledged + 1,
        "{kept} kept, {acknowledged} acknowledged"
    );
    stop(child);
}
