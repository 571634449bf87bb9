//! `etcd://HOST:PORT,HOST:PORT/PREFIX`, in the clear or over TLS.

use std::fmt;
use std::str::FromStr;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// Under which keys everything is if nobody says.
const DEFAULT_PREFIX: &str = "proffer/";

/// Where etcd is, and what of it is ours.
#[derive(Clone, Debug)]
pub struct EtcdAddress {
    members: String,
    endpoints: Vec<Endpoint>,
    prefix: String,
}

/// Why a text is no such address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "wanted etcd://HOST:PORT, with further members after commas and perhaps a prefix after a slash, as in etcd://10.0.0.1:2379,10.0.0.2:2379/proffer: {0}"
)]
pub struct InvalidEtcdAddress(String);

/// How etcd is spoken to over TLS: all in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdTls {
    /// Who signed the members' certificates.
    pub authority: Vec<u8>,
    /// This host's certificate chain and private key, if etcd wants to know who calls.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for EtcdTls {
    /// Without what is in it: a key is nobody else's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls")
            .field("identity", &self.identity.is_some())
            .finish_non_exhaustive()
    }
}

/// Why certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("TLS with etcd at {members}: {why}")]
pub struct UnusableEtcdTls {
    /// Where that is.
    pub members: String,
    /// What is wrong.
    pub why: String,
}

impl EtcdAddress {
    /// The same, spoken to over TLS alone.
    ///
    /// # Errors
    /// What is wrong with the certificates or the key.
    pub fn over_tls(&self, tls: &EtcdTls) -> Result<Self, UnusableEtcdTls> {
        let EtcdTls {
            authority,
            identity,
        } = tls;
        let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
        if let Some((certificate, key)) = identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        let unusable = |why: String| UnusableEtcdTls {
            members: self.members.clone(),
            why,
        };
        let secured = |member: &str| {
            Endpoint::from_shared(format!("https://{member}"))
                .and_then(|endpoint| endpoint.tls_config(config.clone()))
                .map_err(|error| unusable(proffer_model::with_causes(&error)))
        };
        let endpoints = self
            .members
            .split(',')
            .map(secured)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            endpoints,
            ..self.clone()
        })
    }

    /// The members as they were written.
    #[must_use]
    pub fn members(&self) -> &str {
        &self.members
    }

    /// What all keys begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }
}

impl FromStr for EtcdAddress {
    type Err = InvalidEtcdAddress;

    fn from_str(text: &str) -> Result<Self, InvalidEtcdAddress> {
        let fail = |why: &str| InvalidEtcdAddress(why.to_owned());
        let rest = text
            .strip_prefix("etcd://")
            .ok_or_else(|| fail("it does not begin with etcd://"))?;
        let (members, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = match prefix.trim_end_matches('/') {
            "" => DEFAULT_PREFIX.to_owned(),
            // Letters of the alphabet end a range of keys; anything else might be a typing error.
            name if name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b)) =>
            {
                format!("{name}/")
            }
            _ => return Err(fail("a prefix is letters, digits, '-', '_', '.' and '/'")),
        };
        let mut endpoints = Vec::new();
        for member in members.split(',') {
            let port = member.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            let endpoint = Endpoint::from_shared(format!("http://{member}"));
            match (port, endpoint) {
                (Some(Ok(_)), Ok(endpoint)) => endpoints.push(endpoint),
                _ => return Err(fail(&format!("'{member}' is no HOST:PORT"))),
            }
        }
        Ok(Self {
            members: members.to_owned(),
            endpoints,
            prefix,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_members_and_perhaps_a_prefix() {
        for (text, members, prefix) in [
            ("etcd://a:1", "a:1", "proffer/"),
            ("etcd://a:1,b:2/", "a:1,b:2", "proffer/"),
            ("etcd://[::1]:2379/x/y", "[::1]:2379", "x/y/"),
        ] {
            let address: EtcdAddress = text.parse().unwrap();
            assert_eq!((address.members(), address.prefix()), (members, prefix));
        }
        for (bad, why) in [
            ("a:1", "does not begin"),
            ("etcd://", "'' is no HOST:PORT"),
            ("etcd://a", "'a' is no HOST:PORT"),
            ("etcd://a:1,", "'' is no HOST:PORT"),
            ("etcd://a:x", "'a:x' is no HOST:PORT"),
            ("etcd://a:1/é", "a prefix is"),
        ] {
            let error = bad.parse::<EtcdAddress>().unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
