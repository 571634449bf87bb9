//! Policies that are about to be put in: configured instances, each fed by a task of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use proffer_core::Event;
use proffer_model::Reason;
use proffer_model::policy::{Changes, ChangesPart, Cycle, Question};
use tokio::sync::{mpsc, oneshot};

use crate::handle::{Input, LoopHandle};
use crate::instance::Instance;
use crate::policy_seat::{Answer, LoadedPolicy, fault};

/// Cycles that a candidate may be behind the running policy. One that is further behind would not
/// keep up in the seat either.
const FEEDS_WAITING_MAX: usize = 256;

/// Candidates by the number that the core knows them by. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Candidates {
    numbers: Arc<AtomicU64>,
    all: Arc<Mutex<HashMap<u64, Candidate>>>,
    handle: LoopHandle,
}

#[derive(Debug)]
struct Candidate {
    policy: LoadedPolicy,
    feeds: mpsc::Sender<Feed>,
}

#[derive(Debug)]
enum Feed {
    Changes(Vec<Changes>, Option<Cycle>),
    /// Why it does not grant something.
    Explain(Question, Answer),
    /// It takes the seat: whoever asks gets the instance as it is then.
    HandOver(oneshot::Sender<Result<Instance, Reason>>),
}

/// A candidate on its way to the seat.
#[derive(Debug)]
pub(crate) struct Handover {
    pub(crate) policy: LoadedPolicy,
    instance: oneshot::Receiver<Result<Instance, Reason>>,
}

impl Handover {
    /// The instance, once it has taken in all that it was fed.
    pub(crate) async fn instance(self) -> Result<Instance, Reason> {
        let gone = |_| fault("the policy's task ended before it took the seat");
        self.instance.await.map_err(gone)?
    }
}

impl Candidates {
    pub(crate) fn new(handle: LoopHandle) -> Self {
        Self {
            numbers: Arc::new(AtomicU64::new(1)),
            all: Arc::default(),
            handle,
        }
    }

    /// Keeps a configured instance until the core wants it; answers its number.
    pub(crate) fn keep(&self, policy: LoadedPolicy, instance: Instance) -> u64 {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (feeds, queue) = mpsc::channel(FEEDS_WAITING_MAX);
        // Ends when the candidate is handed over or forgotten.
        tokio::spawn(feed(number, instance, queue, self.handle.clone()));
        self.lock().insert(number, Candidate { policy, feeds });
        number
    }

    pub(crate) fn feed(&self, number: u64, changes: Vec<Changes>, cycle: Option<Cycle>) {
        let all = self.lock();
        let Some(candidate) = all.get(&number) else {
            return;
        };
        if candidate
            .feeds
            .try_send(Feed::Changes(changes, cycle))
            .is_err()
        {
            let text = format!("it is {FEEDS_WAITING_MAX} cycles behind");
            drop(all);
            self.fail(number, fault(text));
        }
    }

    /// Asks one that decides for some why it does not grant something. One that is far behind, or gone, is
    /// not asked, which whoever waits sees.
    pub(crate) fn explain(&self, number: u64, question: Question, answer: Answer) {
        if let Some(candidate) = self.lock().get(&number) {
            let sent = candidate.feeds.try_send(Feed::Explain(question, answer));
            tracing::debug!(sent = sent.is_ok(), "a canary is asked why");
        }
    }

    /// None: the host's own, or one that is gone; then its policy is not known either.
    pub(crate) fn hand_over(&self, number: u64) -> Option<Handover> {
        let candidate = self.lock().remove(&number)?;
        let (send, instance) = oneshot::channel();
        let policy = candidate.policy;
        if candidate.feeds.try_send(Feed::HandOver(send)).is_err() {
            tracing::warn!(number, "a policy that is far behind is to take the seat");
        }
        Some(Handover { policy, instance })
    }

    pub(crate) fn forget(&self, number: u64) {
        self.lock().remove(&number);
    }

    /// The core is told by whoever has time to wait for it.
    fn fail(&self, candidate: u64, fault: Reason) {
        let handle = self.handle.clone();
        tokio::spawn(async move {
            let failed = Event::CandidateFailed { candidate, fault };
            let _gone = handle.send(Input::Event(failed)).await.is_err();
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Candidate>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn feed(
    candidate: u64,
    instance: Instance,
    mut queue: mpsc::Receiver<Feed>,
    handle: LoopHandle,
) {
    let mut broken: Option<Reason> = None;
    while let Some(feed) = queue.recv().await {
        let (changes, cycle) = match feed {
            Feed::Changes(changes, cycle) => (changes, cycle),
            Feed::Explain(question, answer) => {
                let found = match &broken {
                    Some(why) => Err(why.clone()),
                    None => instance.explain(question).await,
                };
                let failed = found.as_ref().err().filter(|_| broken.is_none()).cloned();
                // Whoever asked does not wait any more.
                let _gone = answer.send(found).is_err();
                if let Some(fault) = failed {
                    broken = Some(fault.clone());
                    let failed = Event::CandidateFailed { candidate, fault };
                    if handle.send(Input::Event(failed)).await.is_err() {
                        return;
                    }
                }
                continue;
            }
            Feed::HandOver(seat) => {
                let result = broken.map_or(Ok(instance), Err);
                // Whoever asked has gone with the host.
                let _gone = seat.send(result).is_err();
                return;
            }
        };
        if broken.is_some() {
            continue;
        }
        let last = |part: &Changes| part.part == ChangesPart::SnapshotLast;
        let whole = changes.iter().any(last);
        let took = match cycle {
            None => instance.apply(changes).await.map(|()| None),
            Some(cycle) => {
                let number = cycle.number;
                let decided = instance.cycle(changes, cycle).await;
                decided.map(|proposal| Some((number, proposal)))
            }
        };
        let event = match took {
            Ok(Some((cycle, proposal))) => Event::CandidateProposed {
                candidate,
                cycle,
                proposal: Box::new(proposal),
            },
            Ok(None) if whole => Event::CandidateReady { candidate },
            Ok(None) => continue,
            Err(fault) => {
                broken = Some(fault.clone());
                Event::CandidateFailed { candidate, fault }
            }
        };
        if handle.send(Input::Event(event)).await.is_err() {
            return;
        }
    }
}
