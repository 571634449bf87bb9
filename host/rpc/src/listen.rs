//! Where a server may listen: on loopback always, elsewhere only with TLS or when told so.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use tokio::net::TcpListener;

/// An address that was checked: loopback, or protected, or knowingly open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddress(SocketAddr);

/// Why an address may not be listened on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "listening on {address} would send the token over the network in the clear; listen on 127.0.0.1, give a TLS certificate and key, or pass --insecure-network"
)]
pub struct RefusedAddress {
    /// The address as given.
    pub address: SocketAddr,
}

/// Why an address could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error("{0} is in use; stop the other program or choose another port (0: any free one)")]
    InUse(SocketAddr),
    /// Anything else.
    #[error("cannot listen on {address}")]
    Other {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// How a port is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Nothing but the token.
    TokenOnly,
    /// TLS.
    Tls,
    /// Nothing but the token, and the operator said that the network may see it.
    InsecureNetwork,
}

/// A listening socket.
#[derive(Debug)]
pub struct Bound {
    pub(crate) listener: TcpListener,
    address: SocketAddr,
}

impl ListenAddress {
    /// Checks an address against its protection.
    ///
    /// # Errors
    /// If others could read the token off the network.
    pub fn check(address: SocketAddr, protection: Protection) -> Result<Self, RefusedAddress> {
        if address.ip().is_loopback() || protection != Protection::TokenOnly {
            Ok(Self(address))
        } else {
            Err(RefusedAddress { address })
        }
    }

    /// Any free port of the loopback interface.
    #[must_use]
    pub fn loopback() -> Self {
        Self(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// The address.
    #[must_use]
    pub fn address(self) -> SocketAddr {
        self.0
    }

    /// Whether one that listens here takes the other's port. Port 0 is any that is free.
    #[must_use]
    pub fn is_in_the_way_of(self, other: Self) -> bool {
        let (one, two) = (self.0, other.0);
        let share_machine =
            one.ip() == two.ip() || one.ip().is_unspecified() || two.ip().is_unspecified();
        one.port() != 0 && one.port() == two.port() && share_machine
    }

    /// Listens there; calls are answered once the socket is given to a server.
    ///
    /// # Errors
    /// If the port is in use or the system refuses.
    pub async fn bind(self) -> Result<Bound, BindError> {
        let address = self.0;
        let fail = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(address),
            _ => BindError::Other { address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        Ok(Bound { listener, address })
    }
}

impl Bound {
    /// Where it listens; the port is the one that was found.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same socket for one more server, one after the other: what waits to be taken is taken by
    /// the next.
    ///
    /// # Errors
    /// If the system has no more descriptors.
    pub fn share(&self) -> io::Result<Self> {
        let socket = self.listener.as_fd().try_clone_to_owned()?;
        let listener = TcpListener::from_std(std::net::TcpListener::from(socket))?;
        Ok(Self {
            listener,
            address: self.address,
        })
    }

    /// The socket itself, for servers of another protocol.
    #[must_use]
    pub fn into_listener(self) -> TcpListener {
        self.listener
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_needs_no_protection() {
        let open: SocketAddr = "0.0.0.0:5050".parse().unwrap();
        let local: SocketAddr = "[::1]:5050".parse().unwrap();
        let refused = ListenAddress::check(open, Protection::TokenOnly).unwrap_err();
        assert!(refused.to_string().contains("--insecure-network"));
        ListenAddress::check(local, Protection::TokenOnly).unwrap();
        ListenAddress::check(open, Protection::Tls).unwrap();
        ListenAddress::check(open, Protection::InsecureNetwork).unwrap();
    }

    #[test]
    fn a_port_is_one_servers_on_each_address() {
        let meet = |one: &str, two: &str| {
            let [one, two] = [one, two].map(|text| ListenAddress(text.parse().unwrap()));
            (one.is_in_the_way_of(two), two.is_in_the_way_of(one))
        };
        assert_eq!(meet("127.0.0.1:1", "127.0.0.1:1"), (true, true));
        assert_eq!(meet("127.0.0.1:1", "0.0.0.0:1"), (true, true));
        assert_eq!(meet("127.0.0.1:1", "127.0.0.1:2"), (false, false));
        assert_eq!(meet("127.0.0.1:1", "127.0.0.2:1"), (false, false));
        assert_eq!(meet("127.0.0.1:0", "127.0.0.1:0"), (false, false));
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_the_mend() {
        let first = ListenAddress::loopback().bind().await.unwrap();
        let second = ListenAddress::check(first.address(), Protection::TokenOnly).unwrap();
        let error = second.bind().await.unwrap_err().to_string();
        assert!(error.contains(&first.address().to_string()), "{error}");
        assert!(error.contains("in use"), "{error}");
    }
}
