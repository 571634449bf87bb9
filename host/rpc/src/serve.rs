//! A listening port with services on it, all of them behind the token.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tonic::service::{InterceptorLayer, Routes};
use tonic::transport::server::TcpIncoming;

use crate::agent::{AgentConnectionEvent, agent_service};
use crate::data::{SandboxStore, data_service};
use crate::listen::Bound;
use crate::operator::{Operator, operator_service};
use crate::token::{Token, TokenCheck};
use crate::transport::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, Tls};

/// How long open calls may take to end after a shutdown was asked for.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(5);

/// Streams at once on one connection: an agent holds one, a command-line tool a few.
const STREAMS_MAX: u32 = 256;

/// The services of one port, being put together.
#[derive(Debug)]
pub struct Server {
    token: Token,
    tls: Tls,
    routes: Routes,
    closing: watch::Sender<bool>,
}

/// Why a server ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[error("the server ended")]
pub struct ServeError(#[from] tonic::transport::Error);

impl Server {
    /// No services yet. `tls` is [`Tls::Off`] or [`Tls::Server`].
    #[must_use]
    pub fn new(token: Token, tls: Tls) -> Self {
        Self {
            token,
            tls,
            routes: Routes::default(),
            closing: watch::Sender::new(false),
        }
    }

    /// Takes agents' connections; what they say comes out of the channel. Whoever holds the other end
    /// must keep up: an event that waits longer than a limit closes its connection.
    #[must_use]
    pub fn agents(mut self, events: mpsc::Sender<AgentConnectionEvent>) -> Self {
        let service = agent_service(events, self.closing.subscribe());
        self.routes = self.routes.add_service(service);
        self
    }

    /// Serves files of sandboxes.
    #[must_use]
    pub fn data<S: SandboxStore>(mut self, store: S) -> Self {
        self.routes = self.routes.add_service(data_service(store));
        self
    }

    /// Answers operators' calls.
    #[must_use]
    pub fn operators<O: Operator>(mut self, operator: O) -> Self {
        self.routes = self.routes.add_service(operator_service(operator));
        self
    }

    /// Answers calls until `shutdown`; then closes what is open, within a limit.
    ///
    /// # Errors
    /// If the certificates are unusable or the port fails.
    pub async fn serve(
        self,
        bound: Bound,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let Self {
            token,
            tls,
            routes,
            closing,
        } = self;
        let mut server = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(STREAMS_MAX);
        if let Some(config) = tls.server_config() {
            server = server.tls_config(config)?;
        }
        let mut drained = closing.subscribe();
        let mut server = server.layer(InterceptorLayer::new(TokenCheck(token)));
        let serving = server.add_routes(routes).serve_with_incoming_shutdown(
            // Messages are small and somebody waits for each: no delay to fill a packet.
            TcpIncoming::from(bound.listener).with_nodelay(Some(true)),
            async move {
                // An error means that the sender is gone, which is a shutdown too.
                let _closed = drained.wait_for(|closing| *closing).await.is_ok();
            },
        );
        tokio::pin!(serving);
        tokio::select! {
            ended = &mut serving => return Ok(ended?),
            () = shutdown => {}
        }
        closing.send_replace(true);
        match tokio::time::timeout(SHUTDOWN_WITHIN, serving).await {
            Ok(ended) => Ok(ended?),
            Err(_) => {
                tracing::debug!("calls still open at shutdown were cut");
                Ok(())
            }
        }
    }
}
