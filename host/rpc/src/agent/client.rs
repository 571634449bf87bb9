//! The agent's side of a connection.

use proffer_model::agent::{FromAgent, ToAgent};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use crate::leader::find;
use crate::proto::agent::v0 as wire;
use crate::proto::agent::v0::agent_service_client::AgentServiceClient;
use crate::token::Token;
use crate::transport::{
    self, Candidate, ConnectError, MESSAGE_MAX, PeerAddress, Tls, TokenChannel,
};

/// Messages that wait for the network. An agent has one update in flight per launch, so this is
/// many launches' worth; past it the connection is as good as dead.
const TO_HOST_QUEUE: usize = 4_096;

/// An agent's way to its host. Cheap to clone; when the last clone is dropped, the connection ends.
#[derive(Clone, Debug)]
pub struct HostSender(mpsc::Sender<FromAgent>);

/// What comes from the host.
#[derive(Debug)]
pub struct HostReceiver(Streaming<wire::ToAgent>);

/// Why a connection to the host is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostConnectionLost {
    /// The host or the network ended it.
    #[error("the host closed the connection: {0}")]
    Closed(String),
    /// The token is wrong.
    #[error("the host refused the token: {0}")]
    Unauthenticated(String),
    /// The host sent what is no message.
    #[error("the host sent a malformed message: {0}")]
    Malformed(String),
    /// The queue to the host is full.
    #[error("the host takes no more messages")]
    Overflow,
}

/// Connects to a host. Registering is the caller's first message.
///
/// # Errors
/// If the host cannot be reached or refuses the token.
pub async fn connect(
    address: &PeerAddress,
    token: &Token,
    tls: &Tls,
) -> Result<(HostSender, HostReceiver), ConnectError> {
    HostChannel::open(address, token, tls)
        .await?
        .connect()
        .await
}

/// A connection to a host that several agents share, in tests and benchmarks of many; a host takes
/// 256 on each. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HostChannel {
    channel: TokenChannel,
    address: PeerAddress,
}

impl HostChannel {
    /// Opens one.
    ///
    /// # Errors
    /// If the host cannot be reached.
    pub async fn open(
        address: &PeerAddress,
        token: &Token,
        tls: &Tls,
    ) -> Result<Self, ConnectError> {
        Self::open_as(address.into(), token, tls).await
    }

    async fn open_as(to: Candidate, token: &Token, tls: &Tls) -> Result<Self, ConnectError> {
        Ok(Self {
            channel: transport::connect(&to, token, tls).await?,
            address: to.address,
        })
    }

    /// Opens one to the host that leads, of several that may.
    ///
    /// # Errors
    /// As [`connect_to_leader`].
    pub async fn to_leader(
        hosts: &[PeerAddress],
        token: &Token,
        tls: &Tls,
    ) -> Result<Self, ConnectError> {
        find(hosts, |candidate| async move {
            let channel = Self::open_as(candidate, token, tls).await?;
            // A stream that says nothing: who does not lead refuses it.
            let _stream = channel.connect().await?;
            Ok(channel)
        })
        .await
    }

    /// An agent's stream on it. Registering is the caller's first message.
    ///
    /// # Errors
    /// As [`connect`].
    pub async fn connect(&self) -> Result<(HostSender, HostReceiver), ConnectError> {
        let mut client = AgentServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        let (to_host, queue) = mpsc::channel(TO_HOST_QUEUE);
        let messages = ReceiverStream::new(queue).map(|message| wire::FromAgent::from(&message));
        let response = client
            .connect(messages)
            .await
            .map_err(|status| transport::failure(&self.address, &status))?;
        Ok((HostSender(to_host), HostReceiver(response.into_inner())))
    }
}

/// Connects to the host that leads, of several that may. Asks again while hosts answer that nobody
/// leads now: the caller sets the end.
///
/// # Errors
/// As [`connect`].
pub async fn connect_to_leader(
    hosts: &[PeerAddress],
    token: &Token,
    tls: &Tls,
) -> Result<(HostSender, HostReceiver), ConnectError> {
    find(hosts, |candidate| async move {
        HostChannel::open_as(candidate, token, tls)
            .await?
            .connect()
            .await
    })
    .await
}

impl HostSender {
    /// Queues a message; never waits.
    ///
    /// # Errors
    /// If the connection is over or so slow that it must be taken for dead.
    pub fn send(&self, message: FromAgent) -> Result<(), HostConnectionLost> {
        self.0.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => HostConnectionLost::Overflow,
            mpsc::error::TrySendError::Closed(_) => {
                HostConnectionLost::Closed("nothing more can be sent".to_owned())
            }
        })
    }
}

impl HostReceiver {
    /// The next message. Waits as long as the connection lasts: the caller sets the deadline that the
    /// host told it. Cancel-safe: a message is taken whole or not at all.
    ///
    /// # Errors
    /// If the connection is over.
    pub async fn receive(&mut self) -> Result<ToAgent, HostConnectionLost> {
        match self.0.message().await {
            Ok(Some(message)) => message
                .try_into()
                .map_err(|error| HostConnectionLost::Malformed(format!("{error}"))),
            Ok(None) => Err(HostConnectionLost::Closed("it said no more".to_owned())),
            Err(status) if status.code() == Code::Unauthenticated => Err(
                HostConnectionLost::Unauthenticated(status.message().to_owned()),
            ),
            Err(status) => Err(HostConnectionLost::Closed(status.message().to_owned())),
        }
    }
}
