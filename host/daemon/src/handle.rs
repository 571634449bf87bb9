//! The way into the event loop, for everybody else in the process.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proffer_core::{Core, Event, Reply, Ticket};
use proffer_rpc::agent::AgentConnectionEvent;
use tokio::sync::{mpsc, oneshot};

/// Inputs that may wait for the loop. An input costs it microseconds: this is a fraction of a second
/// of work, and whoever is faster than the loop waits.
pub(crate) const INPUTS_WAITING_MAX: usize = 8_192;

/// How long a caller waits for the loop itself (not for frameworks): past it, the host is stuck.
const LOOP_ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// A look at the core, made between two events.
pub(crate) type Query = Box<dyn FnOnce(&Core) + Send>;

/// What can wake the loop.
pub(crate) enum Input {
    /// For the core.
    Event(Event),
    /// An operator's call that waits for a reply.
    Call {
        event: Event,
        ticket: Ticket,
        reply: oneshot::Sender<Reply>,
    },
    /// A look at the core.
    Query(Query),
    /// Something happened on an agent's connection.
    Connection(AgentConnectionEvent),
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Event(_) => "Event",
            Self::Call { .. } => "Call",
            Self::Query(_) => "Query",
            Self::Connection(_) => "Connection",
        })
    }
}

/// The loop is gone: the host is shutting down, or its store failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host is shutting down")]
pub struct HostGone;

/// Talks to the event loop. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct LoopHandle {
    inputs: mpsc::Sender<Input>,
    tickets: Arc<AtomicU64>,
}

impl LoopHandle {
    pub(crate) fn new(inputs: mpsc::Sender<Input>) -> Self {
        Self {
            inputs,
            tickets: Arc::new(AtomicU64::new(1)),
        }
    }

    pub(crate) async fn send(&self, input: Input) -> Result<(), HostGone> {
        self.inputs.send(input).await.map_err(|_| HostGone)
    }

    /// Looks at the core between two events.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Result<T, HostGone> {
        let (send, receive) = oneshot::channel();
        let query: Query = Box::new(move |core| {
            // Nobody waits any more: the answer is of no use to anyone.
            let _unwanted = send.send(look(core)).is_err();
        });
        self.send(Input::Query(query)).await?;
        let answer = tokio::time::timeout(LOOP_ANSWERS_WITHIN, receive).await;
        answer.map_err(|_| HostGone)?.map_err(|_| HostGone)
    }

    /// An operator's call; the core answers it, now or when a framework has.
    pub(crate) async fn call(
        &self,
        event: impl FnOnce(Ticket) -> Event,
        within: Duration,
    ) -> Result<Reply, HostGone> {
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        let (reply, receive) = oneshot::channel();
        let input = Input::Call {
            event: event(ticket),
            ticket,
            reply,
        };
        self.send(input).await?;
        let guard = TicketGuard {
            handle: self.clone(),
            ticket,
            open: true,
        };
        let answer = tokio::time::timeout(within, receive).await;
        guard.answered();
        answer.map_err(|_| HostGone)?.map_err(|_| HostGone)
    }
}

/// Tells the core when a caller goes away before its answer.
struct TicketGuard {
    handle: LoopHandle,
    ticket: Ticket,
    open: bool,
}

impl TicketGuard {
    fn answered(mut self) {
        self.open = false;
    }
}

impl Drop for TicketGuard {
    fn drop(&mut self) {
        if self.open {
            let dropped = Event::TicketDropped {
                ticket: self.ticket,
            };
            // Best effort: the request's own deadline ends it otherwise.
            let _full = self.handle.inputs.try_send(Input::Event(dropped)).is_err();
        }
    }
}
