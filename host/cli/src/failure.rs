//! How a command ends: with a text for people and a status for scripts.

use std::fmt::Write as _;

use proffer_agent::AgentError;
use proffer_build::BuildError;
use proffer_daemon::{HostFailed, StartHostError};
use proffer_record::ReadRecordingError;
use proffer_rpc::operator::OperatorError;
use proffer_rpc::{BindError, ConnectError, TokenError};
use proffer_sim::workload::recorded::ReadDemandError;
use proffer_sim::workload::{InvalidTrace, TraceProblem, UnfitPolicy};
use proffer_store::etcd::{EtcdError, OpenClusterError};
use proffer_store::{OpenStoreError, WriteStoreError};

use crate::settings::InvalidSettings;

/// Exit statuses, as `proffer --help` and the README list them. Scripts depend on them: they never
/// change their meaning.
pub(crate) const EXIT_STATUSES: [(u8, &str); 10] = [
    (OK, "done"),
    (FAILED, "it failed; the message says why"),
    (USAGE, "the command line, a setting or an input is wrong"),
    (NO_TOOLCHAIN, "no toolchain that compiles to WebAssembly"),
    (NOT_FOUND, "no such framework, task, agent or file"),
    (DENIED, "not approved, or the token is wrong"),
    (UNREACHABLE, "no host, agent or framework answers"),
    (
        CONFLICT,
        "in use or in the way: a name, a port, a data directory",
    ),
    (
        STORE,
        "the store is full, damaged, newer than this proffer, or someone else's",
    ),
    (INTERRUPTED, "ended by a signal (Ctrl-C)"),
];

pub(crate) const OK: u8 = 0;
pub(crate) const FAILED: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const NO_TOOLCHAIN: u8 = 3;
pub(crate) const NOT_FOUND: u8 = 4;
pub(crate) const DENIED: u8 = 5;
pub(crate) const UNREACHABLE: u8 = 6;
pub(crate) const CONFLICT: u8 = 7;
pub(crate) const STORE: u8 = 8;
pub(crate) const INTERRUPTED: u8 = 130;

/// Failures of the command itself, by what a caller can do about them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line, a setting or an input is wrong.
    #[error("{0}")]
    Usage(String),
    /// What was named is not there.
    #[error("{0}")]
    NotFound(String),
    /// It was not approved.
    #[error("{0}")]
    Denied(String),
    /// Nobody answers.
    #[error("{0}")]
    Unreachable(String),
    /// It is in use or in the way.
    #[error("{0}")]
    Conflict(String),
    /// A signal ended it.
    #[error("interrupted")]
    Interrupted,
}

/// The exit status of an error: that of the first in its chain which says what it is.
pub(crate) fn status_of(error: &anyhow::Error) -> u8 {
    // A failure that was added as context is no link of its own.
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.status();
    }
    error.chain().find_map(status_of_link).unwrap_or(FAILED)
}

impl Failure {
    fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::NotFound(_) => NOT_FOUND,
            Self::Denied(_) => DENIED,
            Self::Unreachable(_) => UNREACHABLE,
            Self::Conflict(_) => CONFLICT,
            Self::Interrupted => INTERRUPTED,
        }
    }
}

fn status_of_link(error: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return Some(failure.status());
    }
    if let Some(failure) = error.downcast_ref::<OperatorError>() {
        return Some(match failure {
            OperatorError::NotFound(_) => NOT_FOUND,
            OperatorError::Invalid(_) => USAGE,
            OperatorError::Denied(_) => DENIED,
            OperatorError::Conflict(_) => CONFLICT,
            OperatorError::Unavailable(_) => UNREACHABLE,
            OperatorError::Unsupported(_) | OperatorError::Internal(_) => FAILED,
        });
    }
    if let Some(failure) = error.downcast_ref::<ConnectError>() {
        return Some(match failure {
            ConnectError::Address(_) | ConnectError::Tls { .. } | ConnectError::Exposed { .. } => {
                USAGE
            }
            ConnectError::Unreachable { .. } | ConnectError::NotLeader { .. } => UNREACHABLE,
            ConnectError::Unauthenticated { .. } => DENIED,
        });
    }
    if let Some(failure) = error.downcast_ref::<StartHostError>() {
        return match failure {
            StartHostError::Bind(BindError::InUse(_))
            | StartHostError::Store(OpenStoreError::InUse { .. }) => Some(CONFLICT),
            StartHostError::Shared(OpenClusterError::Etcd(error)) => Some(status_of_etcd(error)),
            StartHostError::Store(_) | StartHostError::Shared(_) | StartHostError::Recover(_) => {
                Some(STORE)
            }
            StartHostError::Token(_) | StartHostError::OtherToken { .. } => Some(DENIED),
            StartHostError::Read { .. }
            | StartHostError::Tls { .. }
            | StartHostError::EtcdTls(_)
            | StartHostError::LoadPolicy { .. }
            | StartHostError::StartPolicy { .. } => Some(USAGE),
            _ => None,
        };
    }
    if let Some(failure) = error.downcast_ref::<HostFailed>() {
        return match failure {
            HostFailed::Store(WriteStoreError::Etcd(error))
            | HostFailed::Follow(OpenClusterError::Etcd(error)) => Some(status_of_etcd(error)),
            HostFailed::Store(_) | HostFailed::Follow(_) | HostFailed::Recover(_) => Some(STORE),
            HostFailed::Start(_) | HostFailed::Panicked => None,
        };
    }
    if let Some(failure) = error.downcast_ref::<AgentError>() {
        return match failure {
            AgentError::Bind(BindError::InUse(_)) | AgentError::Taken(_) => Some(CONFLICT),
            AgentError::Refused(_) => Some(DENIED),
            _ => None,
        };
    }
    if let Some(failure) = error.downcast_ref::<ReadRecordingError>() {
        return match failure {
            ReadRecordingError::Read { .. } | ReadRecordingError::Empty { .. } => Some(NOT_FOUND),
            ReadRecordingError::Invalid(_) => Some(FAILED),
        };
    }
    if let Some(invalid) = error.downcast_ref::<InvalidTrace>() {
        return Some(match invalid.problem {
            TraceProblem::Read(_) => NOT_FOUND,
            _ => USAGE,
        });
    }
    if error.is::<UnfitPolicy>() || error.is::<ReadDemandError>() {
        return Some(USAGE);
    }
    if error.is::<InvalidSettings>() {
        return Some(USAGE);
    }
    if error.is::<TokenError>() {
        return Some(DENIED);
    }
    match error.downcast_ref::<BuildError>() {
        Some(BuildError::Toolchain(_)) => Some(NO_TOOLCHAIN),
        Some(BuildError::Package(_)) => Some(USAGE),
        _ => None,
    }
}

fn status_of_etcd(error: &EtcdError) -> u8 {
    match error {
        EtcdError::Unreachable { .. } => UNREACHABLE,
        _ => STORE,
    }
}

/// The list for `--help`.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit status:\n");
    for (status, meaning) in EXIT_STATUSES {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "  {status:>3}  {meaning}");
    }
    text.push_str(
        "\nSettings come from proffer.toml, PROFFER_* variables and flags, the later before the earlier; \
         `proffer config check` shows them all.",
    );
    text
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn statuses_come_from_the_first_link_that_has_one() {
        let of = |error: anyhow::Error| status_of(&error);
        assert_eq!(of(anyhow!("x")), FAILED);
        assert_eq!(of(Failure::Usage("x".into()).into()), USAGE);
        let named: Result<(), _> = Err(OperatorError::NotFound("x".into()));
        assert_eq!(of(named.context("looking").unwrap_err()), NOT_FOUND);
        assert_eq!(of(OperatorError::Denied("x".into()).into()), DENIED);
        assert_eq!(
            of(OperatorError::Unavailable("x".into()).into()),
            UNREACHABLE
        );
        let in_use = BindError::InUse(([127, 0, 0, 1], 5050).into());
        let started: Result<(), _> = Err(StartHostError::Bind(in_use));
        assert_eq!(of(started.context("cannot start").unwrap_err()), CONFLICT);
        let read: Result<(), _> = Err(std::io::Error::other("x"));
        let read = read.with_context(|| Failure::NotFound("no file".into()));
        assert_eq!(of(read.context("adding").unwrap_err()), NOT_FOUND);
    }

    #[test]
    fn every_status_has_one_meaning() {
        let mut seen = std::collections::BTreeSet::new();
        for (status, _) in EXIT_STATUSES {
            assert!(seen.insert(status), "{status} is listed twice");
        }
        for status in [
            OK,
            FAILED,
            USAGE,
            NO_TOOLCHAIN,
            NOT_FOUND,
            DENIED,
            UNREACHABLE,
            CONFLICT,
            STORE,
            INTERRUPTED,
        ] {
            assert!(seen.contains(&status), "{status} is not listed");
        }
    }
}
