//! Host processes of the built command.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use proffer_rpc::operator::OperatorClient;
use proffer_rpc::{PeerAddress, Tls, Token};

use crate::WITHIN;

/// A host process.
pub(crate) struct Host {
    pub(crate) child: Child,
    pub(crate) address: PeerAddress,
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have been killed already.
        let _gone = self.child.kill().is_err();
        let _reaped = self.child.wait().is_err();
    }
}

impl Host {
    pub(crate) fn start(dir: &Path, number: usize, more: &[&str]) -> anyhow::Result<Self> {
        let data = dir.join(format!("host{number}"));
        let recorded = data.join("address");
        if recorded.exists() {
            std::fs::remove_file(&recorded)?;
        }
        let child = Command::new(env!("CARGO_BIN_EXE_proffer"))
            .env_clear()
            .env("HOME", dir)
            .env("PROFFER_LOG", log_level())
            .arg("--data")
            .arg(&data)
            .args(["host", "--http", "off", "--listen", "127.0.0.1:0"])
            .args(["--set", "host.leader-lease=2s"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let begun = Instant::now();
        while begun.elapsed() < WITHIN {
            let text = std::fs::read_to_string(&recorded).unwrap_or_default();
            if text.ends_with('\n') {
                let address = text.trim().parse()?;
                return Ok(Self { child, address });
            }
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
        bail!("a host does not start")
    }

    pub(crate) async fn client(&self, dir: &Path) -> anyhow::Result<OperatorClient> {
        let token = Token::read(&dir.join("host0/token"))?;
        Ok(OperatorClient::connect(&self.address, &token, &Tls::Off).await?)
    }

    pub(crate) fn resident_mib(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(kib.context("no VmRSS")?.parse::<u64>()? / 1_024)
    }
}

/// What hosts say: errors, unless whoever runs this wants to know more.
fn log_level() -> String {
    std::env::var("PROFFER_LOG").unwrap_or_else(|_| "error".to_owned())
}
