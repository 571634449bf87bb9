//! Reaching a server: its address, its certificate, how long to try.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tonic::service::interceptor::InterceptedService;
use tonic::transport::{
    Certificate, Channel, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig, Uri,
};
use tonic::{Code, Status};

use crate::leader::LEADER_KEY;
use crate::token::{Token, TokenCarrier};

/// A server that does not answer the connection attempt is down or cut off.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A connection without traffic is probed, so that a machine that vanished is noticed.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// How long a probe may take.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Largest message either way: a registration with 100,000 launches of 100 bytes fits.
pub(crate) const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// A channel that carries the token.
pub(crate) type TokenChannel = InterceptedService<Channel, TokenCarrier>;

/// A server's address: `HOST:PORT`, `http://HOST:PORT` or `https://HOST:PORT` (with TLS).
#[derive(Clone, PartialEq, Eq)]
pub struct PeerAddress(Uri);

/// Certificates in PEM.
#[derive(Clone, Default)]
pub enum Tls {
    /// None: loopback, or a network that is trusted.
    #[default]
    Off,
    /// A client's: the authority that signs servers.
    Client {
        /// Its certificate.
        authority: Vec<u8>,
    },
    /// A server's own.
    Server {
        /// The certificate chain.
        certificate: Vec<u8>,
        /// Its private key.
        key: Vec<u8>,
    },
}

/// Why a call failed before it began or as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The text is not an address.
    #[error("'{0}' is not an address; wanted HOST:PORT, as in 127.0.0.1:5050")]
    Address(String),
    /// The certificates are unusable.
    #[error("TLS certificates for {address}: {problem}")]
    Tls {
        /// For which server.
        address: String,
        /// What is wrong.
        problem: String,
    },
    /// Nobody answers, or the connection broke.
    #[error("cannot reach {address}: {problem}")]
    Unreachable {
        /// Which server.
        address: String,
        /// What was seen.
        problem: String,
    },
    /// It is there, and does not lead.
    #[error("{address} does not lead: {}", if leader.is_empty() { "nobody does now" } else { leader })]
    NotLeader {
        /// Which server.
        address: String,
        /// Who does, as far as it knows; or empty.
        leader: String,
    },
    /// The token is wrong.
    #[error("{address} refused the token: {problem}")]
    Unauthenticated {
        /// Which server.
        address: String,
        /// In its words.
        problem: String,
    },
}

impl FromStr for PeerAddress {
    type Err = ConnectError;

    fn from_str(text: &str) -> Result<Self, ConnectError> {
        let fail = || ConnectError::Address(text.chars().take(100).collect());
        let with_scheme = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let uri: Uri = with_scheme.parse().map_err(|_| fail())?;
        let scheme_fits = matches!(uri.scheme_str(), Some("http" | "https"));
        if !scheme_fits || uri.port_u16().is_none() || uri.path() != "/" || uri.query().is_some() {
            return Err(fail());
        }
        Ok(Self(uri))
    }
}

impl PeerAddress {
    /// Reads one or several, with commas between them.
    ///
    /// # Errors
    /// The first that is none.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, ConnectError> {
        text.split(',').map(|one| one.trim().parse()).collect()
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            self.0
                .authority()
                .map_or("", |authority| authority.as_str()),
        )
    }
}

impl fmt::Debug for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "Off",
            Self::Client { .. } => "Client",
            Self::Server { .. } => "Server",
        })
    }
}

impl Tls {
    pub(crate) fn server_config(&self) -> Option<ServerTlsConfig> {
        match self {
            Self::Server { certificate, key } => {
                Some(ServerTlsConfig::new().identity(Identity::from_pem(certificate, key)))
            }
            Self::Off | Self::Client { .. } => None,
        }
    }
}

/// Opens a channel; fails if the server cannot be reached now.
pub(crate) async fn connect(
    address: &PeerAddress,
    token: &Token,
    tls: &Tls,
) -> Result<TokenChannel, ConnectError> {
    let mut endpoint = Endpoint::from(address.0.clone())
        .connect_timeout(CONNECT_WITHIN)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    if let Tls::Client { authority } = tls {
        let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
        endpoint = endpoint
            .tls_config(config)
            .map_err(|error| ConnectError::Tls {
                address: address.to_string(),
                problem: chain(&error),
            })?;
    }
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| ConnectError::Unreachable {
            address: address.to_string(),
            problem: chain(&error),
        })?;
    Ok(InterceptedService::new(channel, TokenCarrier::new(token)))
}

/// A call's failure, in this crate's words.
pub(crate) fn failure(address: &PeerAddress, status: &Status) -> ConnectError {
    let address = address.to_string();
    let problem = status.message().to_owned();
    if let Some(leader) = status.metadata().get(LEADER_KEY) {
        let leader = leader.to_str().unwrap_or_default().to_owned();
        return ConnectError::NotLeader { address, leader };
    }
    if status.code() == Code::Unauthenticated {
        ConnectError::Unauthenticated { address, problem }
    } else {
        ConnectError::Unreachable { address, problem }
    }
}

/// tonic's own texts say "transport error" and leave the reason to the sources.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_a_host_and_a_port() {
        for (text, shown) in [
            ("127.0.0.1:5050", "127.0.0.1:5050"),
            ("http://node-1:7", "node-1:7"),
            ("https://[::1]:7", "[::1]:7"),
        ] {
            assert_eq!(text.parse::<PeerAddress>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "node",
            "node:x",
            "ftp://node:1",
            "http://node:1/path",
            "a b:1",
        ] {
            let error = bad.parse::<PeerAddress>().unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
    }
}
