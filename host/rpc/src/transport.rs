//! Reaching a server: its address, its certificate, how long to try.

use std::fmt;
use std::net::IpAddr;
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

/// A server's address: `HOST:PORT` (with TLS if whoever connects has an authority for it),
/// `http://HOST:PORT` or `https://HOST:PORT`.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerAddress {
    uri: Uri,
    /// Whether the text named a scheme.
    has_scheme: bool,
}

/// Certificates in PEM.
#[derive(Clone, Default)]
pub enum Tls {
    /// None, for loopback only.
    #[default]
    Off,
    /// A client's, who trusts the network: the token goes to any address in the clear.
    Trusted,
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
    /// The token would be readable on the network.
    #[error(
        "connecting to {address} without TLS would send the token over the network in the clear; set agent.tls-authority, or agent.insecure-network = true if the network is trusted"
    )]
    Exposed {
        /// Which server.
        address: String,
    },
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
        let has_scheme = text.contains("://");
        let with_scheme = if has_scheme {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let uri: Uri = with_scheme.parse().map_err(|_| fail())?;
        let scheme_fits = matches!(uri.scheme_str(), Some("http" | "https"));
        if !scheme_fits || uri.port_u16().is_none() || uri.path() != "/" || uri.query().is_some() {
            return Err(fail());
        }
        Ok(Self { uri, has_scheme })
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
            self.uri
                .authority()
                .map_or("", |authority| authority.as_str()),
        )
    }
}

impl fmt::Debug for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.uri)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "Off",
            Self::Trusted => "Trusted",
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
            Self::Off | Self::Trusted | Self::Client { .. } => None,
        }
    }

    /// Whether a server can use this.
    ///
    /// # Errors
    /// What is wrong with the certificate or its key.
    pub fn check_server(&self) -> Result<(), String> {
        let Some(config) = self.server_config() else {
            return Ok(());
        };
        let served = tonic::transport::Server::builder().tls_config(config);
        served
            .map(drop)
            .map_err(|error| proffer_model::with_causes(&error))
    }
}

impl PeerAddress {
    /// Where to connect, if the token may go there like that.
    fn uri(&self, tls: &Tls) -> Result<Uri, ConnectError> {
        let plain = self.uri.scheme_str() == Some("http");
        if plain && !self.has_scheme && matches!(tls, Tls::Client { .. }) {
            return format!("https://{self}")
                .parse()
                .map_err(|_| ConnectError::Address(self.to_string()));
        }
        if plain && !matches!(tls, Tls::Trusted) && !self.is_loopback() {
            let address = self.to_string();
            return Err(ConnectError::Exposed { address });
        }
        Ok(self.uri.clone())
    }

    fn is_loopback(&self) -> bool {
        let host = self.uri.host().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || address
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

/// A host that may lead.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) address: PeerAddress,
    /// The leader that its followers name and that cannot be reached; or empty.
    pub(crate) lost: String,
}

impl From<&PeerAddress> for Candidate {
    fn from(address: &PeerAddress) -> Self {
        Self {
            address: address.clone(),
            lost: String::new(),
        }
    }
}

/// Opens a channel; fails if the server cannot be reached now.
pub(crate) async fn connect(
    to: &Candidate,
    token: &Token,
    tls: &Tls,
) -> Result<TokenChannel, ConnectError> {
    let address = &to.address;
    let mut endpoint = Endpoint::from(address.uri(tls)?)
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
                problem: proffer_model::with_causes(&error),
            })?;
    }
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| ConnectError::Unreachable {
            address: address.to_string(),
            problem: proffer_model::with_causes(&error),
        })?;
    let carrier = TokenCarrier::new(token, &to.lost);
    Ok(InterceptedService::new(channel, carrier))
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

    #[test]
    fn the_token_leaves_the_machine_only_as_it_was_allowed_to() {
        let authority = || Tls::Client {
            authority: Vec::new(),
        };
        let uri = |address: &str, tls: Tls| {
            let address: PeerAddress = address.parse().unwrap();
            address.uri(&tls).map(|uri| uri.to_string())
        };
        for here in [
            "127.0.0.1:1",
            "[::1]:1",
            "localhost:1",
            "http://127.9.9.9:1",
        ] {
            assert!(uri(here, Tls::Off).is_ok(), "{here}");
        }
        for away in ["10.0.0.1:1", "http://host:1", "[::2]:1", "0.0.0.0:1"] {
            let refused = uri(away, Tls::Off).unwrap_err();
            assert!(matches!(refused, ConnectError::Exposed { .. }), "{away}");
            assert!(uri(away, Tls::Trusted).is_ok(), "{away}");
        }
        assert_eq!(uri("host:1", authority()).unwrap(), "https://host:1/");
        assert_eq!(uri("https://host:1", Tls::Off).unwrap(), "https://host:1/");
        let named = uri("http://host:1", authority()).unwrap_err();
        assert!(matches!(named, ConnectError::Exposed { .. }));
    }

    #[test]
    fn a_key_that_is_none_is_found_before_anything_is_served() {
        let tls = Tls::Server {
            certificate: b"no certificate".to_vec(),
            key: b"no key".to_vec(),
        };
        tls.check_server().unwrap_err();
        Tls::Off.check_server().unwrap();
    }
}
