//! The built command, as scripts meet it: statuses, streams, messages. No host is started.

use std::path::Path;
use std::process::{Command, Output};

struct Run {
    status: i32,
    out: String,
    err: String,
}

/// Runs the command in a directory of its own, without settings from outside.
fn proffer(dir: &Path, line: &str) -> Run {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_proffer"))
        .args(line.split_whitespace())
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir)
        .output()
        .unwrap();
    Run {
        status: status.code().unwrap_or(-1),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

/// A command that fails: nothing on standard output, one message, this status.
#[track_caller]
fn fails(dir: &Path, line: &str, status: i32, message: &str) {
    let run = proffer(dir, line);
    assert_eq!(run.status, status, "{line}: {}", run.err);
    assert_eq!(run.out, "", "{line}");
    assert!(run.err.contains(message), "{line}: {}", run.err);
    assert!(!run.err.contains("panicked"), "{line}: {}", run.err);
}

#[test]
fn failures_have_the_documented_statuses_and_say_what_may_help() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir(dir.join("empty")).unwrap();
    std::fs::write(dir.join("text.wasm"), "not wasm").unwrap();
    fails(dir, "frobnicate", 2, "unrecognized subcommand");
    fails(
        dir,
        "demo --input none",
        2,
        "input none: there is no such directory",
    );
    fails(dir, "demo --input empty", 2, "there is no file in it");
    fails(
        dir,
        "demo --input text.wasm",
        2,
        "it is a file; give the directory",
    );
    fails(
        dir,
        "demo --input . --out empty",
        2,
        "it is a directory; name a file in it",
    );
    fails(dir, "demo --input . --out none/x", 2, "make it first");
    fails(dir, "status", 6, "start one with `proffer up`");
    fails(
        dir,
        "framework run none.wasm",
        4,
        "cannot read the component none.wasm",
    );
    fails(
        dir,
        "plugin inspect text.wasm",
        2,
        "text.wasm is not a component",
    );
    fails(dir, "plugin build none", 2, "none");
    fails(dir, "host --listen 0.0.0.0:0", 2, "--insecure-network");
    fails(dir, "host --lease soon", 2, "--lease: host.lease = 'soon'");
    fails(
        dir,
        "host --set host.laese=1s",
        2,
        "did you mean 'host.lease'?",
    );
    let endless = "--settings /dev/zero status";
    fails(dir, endless, 2, "cannot read the configuration /dev/zero");
    let endless = "plugin inspect /dev/zero";
    fails(dir, endless, 2, "it has more than 32 MiB");
    fails(dir, "agent --join nowhere", 4, "there is no token");
    fails(dir, "request f GET jobs", 2, "begins with a slash");
    fails(
        dir,
        "--settings none.toml status",
        2,
        "no settings file none.toml",
    );
}

#[test]
fn a_host_that_does_not_answer_is_told_from_one_that_never_was() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join(".local/share/proffer");
    std::fs::create_dir_all(&data).unwrap();
    let token = data.join("token");
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    fails(dir.path(), "status", 5, "chmod 600");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&token, mode).unwrap();
    // A port of the loopback interface that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    fails(
        dir.path(),
        &format!("status --connect 127.0.0.1:{port}"),
        6,
        "cannot reach 127.0.0.1",
    );
    fails(
        dir.path(),
        "status --connect nowhere",
        2,
        "wanted HOST:PORT",
    );
}

#[test]
fn config_check_shows_each_setting_with_its_source() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("proffer.toml"), "[host]\nlease = '10s'\n").unwrap();
    let run = proffer(dir.path(), "config check --set host.cluster=test");
    assert_eq!(run.status, 0, "{}", run.err);
    let line = |key: &str| -> Vec<String> {
        let line = run.out.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().take(3).map(str::to_owned).collect()
    };
    assert_eq!(line("host.lease"), ["host.lease", "10s", "proffer.toml:2"]);
    assert_eq!(line("host.cluster"), ["host.cluster", "test", "--set"]);
    assert_eq!(line("host.sweep"), ["host.sweep", "10s", "default"]);
    let run = proffer(dir.path(), "config check --json");
    assert!(
        run.out.contains("\"variable\": \"PROFFER_HOST_LEASE\""),
        "{}",
        run.out
    );

    let wrong = "[host]\nlease = '10'\nlisen = ''\n";
    std::fs::write(dir.path().join("proffer.toml"), wrong).unwrap();
    fails(
        dir.path(),
        "config check",
        2,
        "proffer.toml:3: unknown setting 'host.lisen'",
    );
    std::fs::write(dir.path().join("proffer.toml"), "[host]\nlease = '10'\n").unwrap();
    let run = proffer(dir.path(), "config check");
    assert_eq!(run.status, 2);
    assert!(
        run.err
            .contains("proffer.toml:2: host.lease = '10': wanted"),
        "{}",
        run.err
    );
}

#[test]
fn config_check_looks_at_the_files_and_ports_that_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = |flags: &str, message: &str| {
        let run = proffer(dir.path(), &format!("config check {flags}"));
        assert_eq!(run.status, 2, "{flags}: {}", run.err);
        assert!(run.err.contains(message), "{flags}: {}", run.err);
    };
    let tls = "--set host.tls-certificate=none.pem --set host.tls-key=none.key";
    wrong(tls, "host.tls-certificate = 'none.pem': No such file");
    let tls = "--set agent.tls-authority=none.pem";
    wrong(
        tls,
        "agent.tls-authority = 'none.pem': cannot read none.pem",
    );
    let policy = "--set host.policy=none.wasm";
    wrong(policy, "cannot read the component none.wasm");
    let unknown = "host.policy = 'none': there is no policy 'none'; there are binpack, drf, fragmentation, \
                   native, priority, spread, static, weighted-round-robin, or give a component's file";
    wrong("--set host.policy=none", unknown);
    fails(dir.path(), "host --policy none", 2, unknown);
    wrong(
        "--set agent.task-user=noone",
        "'noone' is not in /etc/passwd",
    );
    let port = "--set host.http=127.0.0.1:5050";
    wrong(port, "host.listen has that port already");
    let port = "--set host.http=127.0.0.1:7 --set agent.listen=127.0.0.1:7";
    wrong(
        port,
        "--set: agent.listen = '127.0.0.1:7': host.http has that port already",
    );
    std::fs::write(dir.path().join("file"), "").unwrap();
    wrong("--data file", "data: ");
    std::fs::create_dir(dir.path().join("data")).unwrap();
    std::fs::write(dir.path().join("data/token"), "short").unwrap();
    wrong("--data data", "data/token");
    // A shipped policy is named, and built when a host starts with it.
    for (name, words) in [
        ("", "policy: the host's own drf policy"),
        ("native", "policy: the host's own drf policy"),
        ("binpack", "policy: the component binpack, built from "),
    ] {
        let run = proffer(
            dir.path(),
            &format!("config check --set host.policy={name}"),
        );
        assert_eq!(run.status, 0, "{name}: {}", run.err);
        assert!(run.out.contains(words), "{name}: {}", run.out);
    }
    // An agent's machine need not be the host's.
    let run = proffer(dir.path(), "config check --set agent.listen=127.0.0.1:5050");
    assert_eq!(run.status, 0, "{}", run.err);
}

#[test]
fn a_data_directory_of_somebody_elses_is_named_as_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let set_mode = |path: &Path, mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path, mode).unwrap();
    };
    set_mode(dir.path(), 0o755);
    set_mode(&data, 0);
    for line in ["up", "host", "demo", "status", "task list"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_proffer"));
        command
            .args(line.split_whitespace())
            .arg("--data")
            .arg(&data)
            .current_dir(dir.path())
            .env_clear()
            .env("HOME", dir.path());
        if rustix::process::geteuid().is_root() {
            // Nobody keeps root out.
            std::os::unix::process::CommandExt::uid(&mut command, 65_534);
        }
        let ended = command.output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains(data.to_str().unwrap()), "{line}: {said}");
        assert!(said.contains("data directory"), "{line}: {said}");
    }
}

#[test]
fn a_mistyped_variable_is_told_once_by_whatever_reads_settings() {
    let dir = tempfile::tempdir().unwrap();
    for line in ["status", "config check", "agent list"] {
        let ended = Command::new(env!("CARGO_BIN_EXE_proffer"))
            .args(line.split_whitespace())
            .current_dir(dir.path())
            .env_clear()
            .env("HOME", dir.path())
            .env("PROFFER_HOTS_LEASE", "2s")
            .output()
            .unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        let warning = "warning: PROFFER_HOTS_LEASE is set and is no setting; did you mean PROFFER_HOST_LEASE?\n";
        assert_eq!(said.matches(warning).count(), 1, "{line}: {said}");
    }
}

#[test]
fn commands_that_print_no_json_refuse_to_be_asked_for_it() {
    let dir = tempfile::tempdir().unwrap();
    for line in [
        "demo",
        "up",
        "host",
        "agent",
        "task logs f t",
        "task fetch f t x",
    ] {
        let line = format!("{line} --json");
        fails(dir.path(), &line, 2, "--json: this command prints");
    }
    let run = proffer(dir.path(), "plugin new mine --kind policy --json");
    assert_eq!(run.out, "{\n  \"path\": \"./mine\"\n}\n", "{}", run.err);
}

#[test]
fn help_goes_to_standard_output_and_lists_statuses() {
    let dir = tempfile::tempdir().unwrap();
    let run = proffer(dir.path(), "--help");
    assert_eq!(run.status, 0);
    assert!(
        run.out.contains("Exit status:") && run.out.contains("no toolchain"),
        "{}",
        run.out
    );
}

/// As in `proffer … 2>&1 | head`.
#[test]
fn a_reader_of_messages_that_went_away_does_not_change_the_status() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = Command::new(env!("CARGO_BIN_EXE_proffer"))
        .arg("status")
        .env_clear()
        .env("HOME", dir.path())
        .stderr(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(6));
}
