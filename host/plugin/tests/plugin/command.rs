//! Tasks have what they are given, and nothing else.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use proffer_plugin::command::{
    CommandComponent, CommandConfig, CommandEnd, CommandRunner, DirectoryAccess, KillSwitch,
    OpenedDirectory, RunCommandError, TaskFiles,
};
use tempfile::TempDir;

use crate::guests;

fn runner() -> &'static CommandRunner {
    static RUNNER: OnceLock<CommandRunner> = OnceLock::new();
    RUNNER.get_or_init(|| CommandRunner::new(None).unwrap())
}

/// A task with a sandbox directory, an input directory that it may only read, and a secret outside.
struct Case {
    component: PathBuf,
    root: TempDir,
}

impl Case {
    fn new() -> Option<Self> {
        let component = guests::task()?;
        let root = tempfile::tempdir().unwrap();
        for dir in ["sandbox", "in"] {
            std::fs::create_dir(root.path().join(dir)).unwrap();
        }
        std::fs::write(root.path().join("secret"), "secret").unwrap();
        std::fs::write(root.path().join("in/data"), "data").unwrap();
        Some(Self { component, root })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn config(&self, args: &[&str]) -> CommandConfig {
        let open = |host: &str, guest: &str, access| OpenedDirectory {
            host: self.path(host),
            guest: guest.to_owned(),
            access,
        };
        CommandConfig {
            component: CommandComponent::File(self.component.clone()),
            args: [&["task"], args]
                .concat()
                .iter()
                .map(ToString::to_string)
                .collect(),
            env: vec![("NAME".to_owned(), "value".to_owned())],
            files: TaskFiles {
                made_first: None,
                directories: vec![
                    open("sandbox", ".", DirectoryAccess::ReadWrite),
                    open("in", "/in", DirectoryAccess::ReadOnly),
                ],
                stdout: Some(self.path("stdout")),
                stderr: Some(self.path("stderr")),
            },
            memory_bytes_max: 32 << 20,
        }
    }

    async fn run(&self, args: &[&str]) -> CommandEnd {
        let kill = KillSwitch::new();
        runner().run(self.config(args), kill).await.unwrap()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

#[tokio::test]
async fn a_task_ends_with_its_status() {
    let Some(case) = Case::new() else { return };
    for (status, told) in [("0", 0), ("1", 1), ("7", 7)] {
        assert_eq!(case.run(&["exit", status]).await, CommandEnd::Exited(told));
    }
}

#[tokio::test]
async fn a_task_sees_its_arguments_and_its_environment_and_no_other() {
    let Some(case) = Case::new() else { return };
    assert_eq!(case.run(&["echo", "a b"]).await, CommandEnd::Exited(0));
    assert_eq!(case.read("stdout"), "NAME=value\ntask echo a b\n");
    assert_eq!(case.read("stderr"), "to the error stream\n");
}

#[tokio::test]
async fn files_are_those_of_the_opened_directories() {
    let Some(case) = Case::new() else { return };
    assert_eq!(
        case.run(&["write", "own", "mine"]).await,
        CommandEnd::Exited(0)
    );
    assert_eq!(case.read("sandbox/own"), "mine");
    assert_eq!(case.run(&["read", "/in/data"]).await, CommandEnd::Exited(0));
    assert_eq!(case.read("stdout"), "data");
    assert_eq!(
        case.run(&["write", "/in/data", "x"]).await,
        CommandEnd::Exited(1)
    );
    assert_eq!(
        case.run(&["write", "/in/new", "x"]).await,
        CommandEnd::Exited(1)
    );
    assert_eq!(case.read("in/data"), "data");
}

#[cfg(unix)]
#[tokio::test]
async fn nothing_outside_is_reachable() {
    let Some(case) = Case::new() else { return };
    let secret = case.path("secret");
    std::os::unix::fs::symlink(&secret, case.path("sandbox/absolute")).unwrap();
    std::os::unix::fs::symlink("../secret", case.path("sandbox/relative")).unwrap();
    std::os::unix::fs::symlink("..", case.path("sandbox/up")).unwrap();
    for path in [
        secret.to_str().unwrap(),
        "../secret",
        "/in/../secret",
        "./../../etc/passwd",
        "/etc/passwd",
        "absolute",
        "relative",
        "up/secret",
    ] {
        assert_eq!(
            case.run(&["read", path]).await,
            CommandEnd::Exited(1),
            "{path}"
        );
        assert!(case.read("stdout").starts_with("refused"), "{path}");
        assert_eq!(
            case.run(&["write", path, "x"]).await,
            CommandEnd::Exited(1),
            "{path}"
        );
        assert!(case.read("stdout").starts_with("refused"), "{path}");
    }
    assert_eq!(case.read("secret"), "secret");
}

#[tokio::test]
async fn what_a_task_does_not_touch_is_not_made() {
    let Some(case) = Case::new() else { return };
    let late = case.path("late");
    let run = async |args: &[&str]| {
        let mut config = case.config(args);
        config.files = TaskFiles {
            made_first: Some(late.clone()),
            directories: vec![OpenedDirectory {
                host: late.clone(),
                guest: ".".to_owned(),
                access: DirectoryAccess::ReadWrite,
            }],
            stdout: Some(late.join("stdout")),
            stderr: Some(late.join("stderr")),
        };
        runner().run(config, KillSwitch::new()).await.unwrap()
    };
    assert_eq!(run(&["nothing"]).await, CommandEnd::Exited(0));
    assert!(!late.exists());
    assert_eq!(run(&["echo", "words"]).await, CommandEnd::Exited(0));
    assert_eq!(case.read("late/stderr"), "to the error stream\n");
    // It is one task's own: the next that wants it gets nothing.
    let end = run(&["write", "own", "mine"]).await;
    assert!(matches!(end, CommandEnd::Trapped { .. }), "{end:?}");
    std::fs::remove_dir_all(&late).unwrap();
    assert_eq!(run(&["write", "own", "mine"]).await, CommandEnd::Exited(0));
    assert_eq!(case.read("late/own"), "mine");
    assert!(!late.join("stdout").exists());
}

#[tokio::test]
async fn a_link_that_a_task_left_in_the_place_of_its_log_is_not_followed() {
    let Some(case) = Case::new() else { return };
    let log = case.path("sandbox/stdout");
    std::os::unix::fs::symlink("../secret", &log).unwrap();
    let mut config = case.config(&["echo"]);
    config.files.stdout = Some(log);
    runner().run(config, KillSwitch::new()).await.unwrap();
    assert_eq!(case.read("secret"), "secret");
}

#[tokio::test]
async fn there_is_no_network() {
    let Some(case) = Case::new() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    assert_eq!(
        case.run(&["connect", &address]).await,
        CommandEnd::Exited(1)
    );
    assert!(case.read("stdout").starts_with("refused"));
}

#[tokio::test]
async fn memory_is_limited() {
    let Some(case) = Case::new() else { return };
    assert_eq!(
        case.run(&["memory"]).await,
        CommandEnd::OutOfMemory {
            bytes_max: 32 << 20
        }
    );
}

#[tokio::test]
async fn a_panic_is_a_trap_with_its_words_in_the_error_stream() {
    let Some(case) = Case::new() else { return };
    let end = case.run(&["panic"]).await;
    assert!(matches!(end, CommandEnd::Trapped { .. }), "{end:?}");
    assert!(case.read("stderr").contains("as ordered"));
}

#[tokio::test]
async fn the_switch_ends_a_task_wherever_it_is() {
    let Some(case) = Case::new() else { return };
    // In its own code, in a call of ours, and before it begins.
    for order in ["spin", "sleep"] {
        let kill = KillSwitch::new();
        let (end, ()) = tokio::join!(runner().run(case.config(&[order]), kill.clone()), async {
            tokio::task::yield_now().await;
            kill.kill();
        });
        assert_eq!(end.unwrap(), CommandEnd::Killed, "{order}");
    }
    let kill = KillSwitch::new();
    kill.kill();
    let end = runner().run(case.config(&["spin"]), kill).await.unwrap();
    assert_eq!(end, CommandEnd::Killed);
}

#[tokio::test]
async fn what_is_no_command_is_not_run() {
    let Some(case) = Case::new() else { return };
    let mut config = case.config(&[]);
    config.component = CommandComponent::Bytes(guests::framework().unwrap().into());
    let error = runner().run(config, KillSwitch::new()).await.unwrap_err();
    assert!(
        matches!(error, RunCommandError::NotACommand { .. }),
        "{error}"
    );
    let mut config = case.config(&[]);
    config.component = CommandComponent::File(Path::new("/nonexistent.wasm").to_owned());
    let error = runner().run(config, KillSwitch::new()).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent.wasm"), "{error}");
}

#[tokio::test]
async fn compiled_code_is_kept_on_disk_for_its_owner_only() {
    let Some(case) = Case::new() else { return };
    let cache = case.path("cache");
    for _ in 0..2 {
        let runner = CommandRunner::new(Some(cache.clone())).unwrap();
        let component = CommandComponent::File(case.component.clone());
        runner.prepare(component).await.unwrap();
    }
    assert!(std::fs::read_dir(&cache).unwrap().next().is_some());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;

        std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = CommandRunner::new(Some(cache)).unwrap_err();
        assert!(error.to_string().contains("chmod 700"), "{error}");
    }
}
