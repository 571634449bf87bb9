//! Finding the host that a command talks to.
//!
//! A host that runs writes its address to `address` in its data directory, beside the `token`; it
//! takes the file away when it ends. A command therefore needs no more than the same data directory.

use std::path::{Path, PathBuf};

use anyhow::Context;
use proffer_rpc::operator::OperatorClient;
use proffer_rpc::{PeerAddress, Token};

use crate::failure::Failure;
use crate::settings::Settings;
use crate::settings::agent::client_tls;

/// Where a host listens if nobody says otherwise.
const DEFAULT_ADDRESS: &str = "127.0.0.1:5050";

/// The file of a running host's address.
pub(crate) fn address_file(data: &Path) -> PathBuf {
    data.join("address")
}

/// The file of the cluster's token.
pub(crate) fn token_file(data: &Path) -> PathBuf {
    data.join("token")
}

/// Connects to the host that the settings name, or that runs on the data directory.
pub(crate) async fn connect(settings: &Settings) -> anyhow::Result<OperatorClient> {
    let data = settings.data_dir()?;
    let address = match settings.get("connect").text.as_str() {
        "" => recorded(&data).unwrap_or_else(|| DEFAULT_ADDRESS.to_owned()),
        given => given.to_owned(),
    };
    let path = token_file(&data);
    let exists = path.try_exists().with_context(|| {
        let problem = format!("cannot look into the data directory {}", data.display());
        Failure::Usage(problem)
    })?;
    if !exists {
        return Err(Failure::Unreachable(format!(
            "no host has run on {}: there is no token; start one with `proffer up`, or give the --data \
             directory of the one that runs",
            data.display()
        ))
        .into());
    }
    let token = Token::read(&path)?;
    let hosts = PeerAddress::parse_list(&address)?;
    let tls = client_tls(settings)
        .map_err(|(key, problem)| Failure::Usage(format!("{key}: {problem}")))?;
    OperatorClient::connect_to_leader(&hosts, &token, &tls)
        .await
        .context("no host answers; start one with `proffer up`, or say where it is with --connect HOST:PORT")
}

/// What the host on this directory wrote; a file that is damaged is as good as none.
fn recorded(data: &Path) -> Option<String> {
    let text = std::fs::read_to_string(address_file(data)).ok()?;
    let address = text.lines().next()?.trim();
    (!address.is_empty()).then(|| address.to_owned())
}
