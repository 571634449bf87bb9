//! The host's side of agents' connections.
//!
//! Each connection is a task that reads what the agent says and hands it on; what goes to the agent
//! waits in a bounded queue that the network empties. Both ends when the connection is told to close.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use proffer_model::agent::{FromAgent, ToAgent};
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tonic::{Request, Response, Status, Streaming};

use super::{AgentConnectionEvent, ConnectionId};
use crate::proto::agent::v0 as wire;
use crate::proto::agent::v0::agent_service_server::{AgentService, AgentServiceServer};
use crate::transport::MESSAGE_MAX;

/// Messages that wait for one agent. A burst of launches to one agent fits; an agent that lets so
/// many pile up does not read, and a kibibyte each is what a host with many such can bear.
const TO_AGENT_QUEUE: usize = 4_096;

/// A connection that does not register is not an agent's.
const REGISTER_WITHIN: Duration = Duration::from_secs(10);

/// A host that does not take an event for so long is stuck; its agents may as well try another.
const EVENT_TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// The way to one agent. Cheap to clone; never blocks.
#[derive(Clone, Debug)]
pub struct ToAgentSender {
    queue: mpsc::Sender<ToAgent>,
    closing: Arc<watch::Sender<Option<String>>>,
}

/// Why a message was not queued. The connection is over in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The agent reads too slowly; its connection is closed.
    #[error("the queue to the agent is full; its connection is closed")]
    Overflow,
    /// The connection is over.
    #[error("the connection is over")]
    Closed,
}

impl ToAgentSender {
    /// Queues a message.
    ///
    /// # Errors
    /// If the connection is over, or its queue is full: then it is closed.
    pub fn send(&self, message: ToAgent) -> Result<(), NotSent> {
        if self.closing.borrow().is_some() {
            return Err(NotSent::Closed);
        }
        self.queue.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                self.close(format!("{TO_AGENT_QUEUE} messages wait for the agent"));
                NotSent::Overflow
            }
            mpsc::error::TrySendError::Closed(_) => NotSent::Closed,
        })
    }

    /// Ends the connection; what is queued is lost. The first reason given counts.
    pub fn close(&self, why: impl Into<String>) {
        let why = why.into();
        self.closing.send_if_modified(|closing| {
            let first = closing.is_none();
            if first {
                *closing = Some(why);
            }
            first
        });
    }
}

/// The service, for [`crate::serve::Server`].
pub(crate) fn agent_service(
    events: mpsc::Sender<AgentConnectionEvent>,
    shutdown: watch::Receiver<bool>,
) -> AgentServiceServer<impl AgentService> {
    AgentServiceServer::new(Connections {
        events,
        shutdown,
        next: AtomicU64::new(1),
    })
    .max_decoding_message_size(MESSAGE_MAX)
    .max_encoding_message_size(MESSAGE_MAX)
}

struct Connections {
    events: mpsc::Sender<AgentConnectionEvent>,
    shutdown: watch::Receiver<bool>,
    next: AtomicU64,
}

#[tonic::async_trait]
impl AgentService for Connections {
    type ConnectStream = Outgoing;

    async fn connect(
        &self,
        request: Request<Streaming<wire::FromAgent>>,
    ) -> Result<Response<Outgoing>, Status> {
        let peer = request
            .remote_addr()
            .map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        let (closing, closed) = watch::channel(None);
        let (queue, messages) = mpsc::channel(TO_AGENT_QUEUE);
        let closing = Arc::new(closing);
        let connection = Connection {
            id: ConnectionId(self.next.fetch_add(1, Ordering::Relaxed)),
            events: self.events.clone(),
            closed: closed.clone(),
            shutdown: self.shutdown.clone(),
            incoming: request.into_inner(),
        };
        let to_agent = ToAgentSender { queue, closing };
        // The task ends with its connection, which the server's shutdown closes.
        tokio::spawn(connection.run(peer, to_agent));
        Ok(Response::new(Outgoing {
            messages: ReceiverStream::new(messages),
            closed: Some(WatchStream::new(closed)),
        }))
    }
}

/// What goes to the agent: queued messages, and one status when the connection is told to close.
pub(crate) struct Outgoing {
    messages: ReceiverStream<ToAgent>,
    /// None once the end was said.
    closed: Option<WatchStream<Option<String>>>,
}

impl Stream for Outgoing {
    type Item = Result<wire::ToAgent, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Some(closed) = this.closed.as_mut() else {
            return Poll::Ready(None);
        };
        // The watch ends when all senders are gone; then the queue ends as well.
        while let Poll::Ready(Some(state)) = Pin::new(&mut *closed).poll_next(context) {
            if let Some(why) = state {
                this.closed = None;
                return Poll::Ready(Some(Err(Status::unavailable(why))));
            }
        }
        let message = ready!(Pin::new(&mut this.messages).poll_next(context));
        Poll::Ready(message.map(|message| Ok(wire::ToAgent::from(&message))))
    }
}

struct Connection {
    id: ConnectionId,
    events: mpsc::Sender<AgentConnectionEvent>,
    closed: watch::Receiver<Option<String>>,
    shutdown: watch::Receiver<bool>,
    incoming: Streaming<wire::FromAgent>,
}

impl Connection {
    async fn run(mut self, peer: String, to_agent: ToAgentSender) {
        let connection = self.id;
        // Weak, so that the connection ends when the host drops its last sender.
        let closing = Arc::downgrade(&to_agent.closing);
        let first = tokio::time::timeout(REGISTER_WITHIN, self.next()).await;
        let first = match first.unwrap_or_else(|_| Err("it did not register in time".to_owned())) {
            Ok(message @ FromAgent::Register(_)) => message,
            Ok(_) => return to_agent.close("the first message was no registration"),
            Err(why) => {
                tracing::debug!(peer, why, "a connection that was no agent's ended");
                return to_agent.close(why);
            }
        };
        let opened = AgentConnectionEvent::Opened {
            connection,
            peer,
            to_agent,
        };
        if self.events.send(opened).await.is_err() {
            return;
        }
        let why = self.hand_on(first).await;
        if let Some(closing) = closing.upgrade() {
            closing.send_if_modified(|closing| {
                let first = closing.is_none();
                if first {
                    *closing = Some(why.clone());
                }
                first
            });
        }
        // Waits for as long as the host takes: it must hear of the end, or it would count on the
        // connection. An error means that there is no host any more.
        let _told = self
            .events
            .send(AgentConnectionEvent::Closed { connection, why })
            .await
            .is_ok();
    }

    /// Hands messages on until the connection ends; says why it did.
    async fn hand_on(&mut self, first: FromAgent) -> String {
        let mut message = first;
        loop {
            let event = AgentConnectionEvent::Message {
                connection: self.id,
                message,
            };
            let sent = self.events.send_timeout(event, EVENT_TAKEN_WITHIN).await;
            match sent {
                Ok(()) => {}
                Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                    return "the host is too busy to listen".to_owned();
                }
                Err(mpsc::error::SendTimeoutError::Closed(_)) => {
                    return "the host is shutting down".to_owned();
                }
            }
            message = match self.next().await {
                Ok(message) => message,
                Err(why) => return why,
            };
        }
    }

    /// The next message, or why there is none.
    async fn next(&mut self) -> Result<FromAgent, String> {
        let Self {
            closed,
            shutdown,
            incoming,
            ..
        } = self;
        tokio::select! {
            closing = closed.wait_for(Option::is_some) => Err(match closing {
                Ok(why) => why.clone().unwrap_or_default(),
                Err(_) => "the host let the agent go".to_owned(),
            }),
            _ = shutdown.wait_for(|closing| *closing) => {
                Err("the host is shutting down".to_owned())
            }
            message = incoming.message() => match message {
                Ok(Some(message)) => FromAgent::try_from(message)
                    .map_err(|error| format!("the agent sent a malformed message: {error}")),
                Ok(None) => Err("the agent closed the connection".to_owned()),
                Err(status) => Err(format!("the connection broke: {}", status.message())),
            },
        }
    }
}
