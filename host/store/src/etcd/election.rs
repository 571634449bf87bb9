//! The leadership machine, driven: etcd's leases, a watch on the key, a clock.
//!
//! It runs on a thread of its own, with a runtime and connections to etcd of its own: whatever keeps
//! the host's other threads busy, be it for seconds, a lease is renewed in its time. So a host steps
//! down when it could not reach etcd, and not because it had much to do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use proffer_model::{Duration, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};

use super::client::EtcdError;
use super::cluster::{Cluster, first_of};
use super::ops::{get, get_op, made_at, put_leased, txn};
use super::proto;
use crate::leadership::{Action, Counts, Event, Fence, Leader, Leadership, LeaseId, Timings};

/// What requests and the watch have to say; one of each is under way at a time.
const EVENTS_QUEUE: usize = 64;

/// After a watch broke; leadership itself does not depend on it.
const WATCH_AGAIN: std::time::Duration = std::time::Duration::from_millis(500);

/// Whether effects may leave this host. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Authority(Arc<Held>);

#[derive(Debug)]
struct Held {
    /// By [`clock`]; `u64::MAX` of a host that shares its store with nobody.
    until: AtomicU64,
    /// The election was given up: it says no more until when.
    ended: AtomicBool,
    counts: Mutex<Counts>,
}

/// What this host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It follows a leader, or waits for one.
    Following(Option<Leader>),
    /// It leads.
    Leading(Fence),
}

/// This host's part in finding a leader. Ends when dropped; [`Election::resign`] ends it well.
#[derive(Debug)]
pub struct Election {
    role: watch::Receiver<Role>,
    authority: Authority,
    /// The thread ends when this does.
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
enum Order {
    FencedOff,
    Resign(oneshot::Sender<()>),
}

impl Authority {
    /// A host that shares its store with nobody.
    #[must_use]
    pub fn unshared() -> Self {
        Self::held_until(u64::MAX)
    }

    fn held_until(until: u64) -> Self {
        Self(Arc::new(Held {
            until: AtomicU64::new(until),
            ended: AtomicBool::new(false),
            counts: Mutex::default(),
        }))
    }

    /// How leading has gone so far; none: this host shares its store with nobody.
    #[must_use]
    pub fn counts(&self) -> Option<Counts> {
        if self.0.until.load(Ordering::Acquire) == u64::MAX {
            return None;
        }
        // Whole values are put there: a panic elsewhere leaves nothing broken.
        let counts = self.0.counts.lock();
        Some(*counts.unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether effects may leave at this moment.
    #[must_use]
    pub fn holds(&self) -> bool {
        if self.0.ended.load(Ordering::Acquire) {
            return false;
        }
        match self.0.until.load(Ordering::Acquire) {
            u64::MAX => true,
            until => clock().0 < until,
        }
    }

    fn until(&self, until: Option<Timestamp>) {
        let until = until.map_or(0, |at| at.0);
        self.0.until.store(until, Ordering::Release);
    }

    fn end(&self) {
        self.0.ended.store(true, Ordering::Release);
    }

    fn count(&self, counts: Counts) {
        let own = self.0.counts.lock();
        *own.unwrap_or_else(PoisonError::into_inner) = counts;
    }
}

/// Milliseconds that go on while the machine sleeps, and do not jump.
fn clock() -> Timestamp {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(now.tv_nsec).unwrap_or_default();
    Timestamp(seconds * 1_000 + nanos / 1_000_000)
}

impl Election {
    /// Begins to campaign. `place` is what others learn of a leader.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(cluster: &Cluster, lease: Duration, place: String) -> std::io::Result<Self> {
        let (role_sender, role) = watch::channel(Role::Following(None));
        let authority = Authority::held_until(0);
        let (orders, taken) = mpsc::channel(4);
        let (events, incoming) = mpsc::channel(EVENTS_QUEUE);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let cluster = cluster.connected_anew(runtime.handle().clone());
        let driver = Driver {
            machine: Leadership::new(Timings::of_lease(lease), clock()),
            requests: Requests {
                cluster: cluster.clone(),
                place,
                events: events.clone(),
            },
            role: role_sender,
            authority: authority.clone(),
            wake: None,
        };
        // It ends with the election; nobody waits for it.
        let _thread = std::thread::Builder::new()
            .name("proffer-leader".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = driver.run(taken, incoming) => {}
                        () = watch_key(cluster, events) => {}
                    }
                });
                // What is still asked of etcd is not waited for.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            role,
            authority,
            orders,
        })
    }

    /// What this host is, now and later.
    #[must_use]
    pub fn role(&self) -> watch::Receiver<Role> {
        self.role.clone()
    }

    /// Whether effects may leave this host.
    #[must_use]
    pub fn authority(&self) -> Authority {
        self.authority.clone()
    }

    /// A write was refused: somebody else leads.
    pub async fn fenced_off(&self) {
        // An error means that the thread is gone, and with it any claim to lead.
        let _gone = self.orders.send(Order::FencedOff).await.is_err();
    }

    /// Gives the key back, so that another host leads at once.
    pub async fn resign(self) {
        let (done, resigned) = oneshot::channel();
        if self.orders.send(Order::Resign(done)).await.is_ok() {
            // An error means that the thread is gone.
            let _gone = resigned.await.is_err();
        }
    }
}

impl Drop for Election {
    fn drop(&mut self) {
        self.authority.end();
    }
}

struct Driver {
    machine: Leadership,
    requests: Requests,
    role: watch::Sender<Role>,
    authority: Authority,
    wake: Option<Timestamp>,
}

/// Makes requests; each answer is an event.
#[derive(Clone)]
struct Requests {
    cluster: Cluster,
    place: String,
    events: mpsc::Sender<Event>,
}

impl Driver {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>, mut events: mpsc::Receiver<Event>) {
        self.handle(Event::Ticked);
        loop {
            let wake = self.wake.map_or(std::time::Duration::MAX, |at| {
                std::time::Duration::from_millis(at.since(clock()).0)
            });
            // Every branch is cancel-safe: channels and a timer.
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::FencedOff) => {
                        self.handle(Event::FencedOff);
                    }
                    Some(Order::Resign(done)) => {
                        let lease = self.handle(Event::Resigned);
                        if let Some(lease) = lease {
                            self.requests.revoke(lease).await;
                        }
                        // Whoever asked may have gone.
                        let _gone = done.send(()).is_err();
                        return;
                    }
                    None => return,
                },
                Some(event) = events.recv() => {
                    self.handle(event);
                }
                () = tokio::time::sleep(wake) => {
                    self.wake = None;
                    self.handle(Event::Ticked);
                }
            };
        }
    }

    /// Performs what the machine wants; a lease to be given back is also told, for whoever waits.
    fn handle(&mut self, event: Event) -> Option<LeaseId> {
        let mut revoked = None;
        let actions = self.machine.handle(clock(), event);
        // First of all: what may leave the host is decided here.
        self.authority.until(self.machine.until());
        self.authority.count(self.machine.counts());
        for action in actions {
            match action {
                Action::Wake(at) => self.wake = Some(at),
                Action::Follow(leader) => {
                    self.role.send_replace(Role::Following(leader));
                }
                Action::Lead { fence } => {
                    tracing::info!(fence = fence.0, "this host leads");
                    self.role.send_replace(Role::Leading(fence));
                }
                Action::StepDown { why } => {
                    tracing::warn!(why, "this host leads no more");
                    self.role.send_replace(Role::Following(None));
                }
                Action::Revoke { lease } => {
                    revoked = Some(lease);
                    let requests = self.requests.clone();
                    tokio::spawn(async move { requests.revoke(lease).await });
                }
                request => {
                    let requests = self.requests.clone();
                    // Ends by itself: every call to etcd has a deadline.
                    tokio::spawn(async move { requests.perform(request).await });
                }
            }
        }
        revoked
    }
}

impl Requests {
    async fn perform(self, action: Action) {
        let (request, answered) = match action {
            Action::GrantLease { request, ttl } => {
                // etcd counts in seconds, and grants more if that is below its own minimum.
                let seconds = i64::try_from(ttl.0.div_ceil(1_000)).unwrap_or(i64::MAX);
                let granted = self.cluster.client.grant(seconds).await;
                let event = granted.map(|(lease, ttl)| Event::LeaseGranted {
                    request,
                    lease: LeaseId(lease),
                    ttl: seconds_of(ttl),
                });
                (request, event)
            }
            Action::Campaign { request, lease } => {
                let outcome = self.campaign(lease).await;
                let event = outcome.map(|outcome| match outcome {
                    Ok(fence) => Event::Won { request, fence },
                    Err(leader) => Event::Lost { request, leader },
                });
                (request, event)
            }
            Action::KeepAlive { request, lease } => {
                let kept = self.cluster.client.keep_alive(lease.0).await;
                let event = kept.map(|ttl| Event::KeptAlive {
                    request,
                    ttl: seconds_of(ttl),
                });
                (request, event)
            }
            _ => return,
        };
        let event = answered.unwrap_or_else(|error| Event::Failed {
            request,
            why: error.to_string(),
        });
        // An error means that the election is over.
        let _over = self.events.send(event).await.is_err();
    }

    /// The fence, or who leads instead.
    async fn campaign(&self, lease: LeaseId) -> Result<Result<Fence, Leader>, EtcdError> {
        let key = self.cluster.keys.leader();
        let request = txn(
            vec![made_at(key.clone(), 0)],
            vec![put_leased(
                key.clone(),
                self.place.clone().into_bytes(),
                lease.0,
            )],
            vec![get_op(key)],
        );
        let answer = self.cluster.client.txn(request).await?;
        if answer.succeeded {
            let revision = answer.header.map_or(0, |header| header.revision);
            return Ok(Ok(Fence(revision)));
        }
        match first_of(&answer) {
            // Its own: the first answer was lost, and the call was made again.
            Some(kv) if kv.lease == lease.0 => Ok(Ok(Fence(kv.create_revision))),
            Some(kv) => Ok(Err(leader_of(kv))),
            None => Err(EtcdError::Refused {
                call: "a campaign",
                why: "the key is there and is not".to_owned(),
            }),
        }
    }

    async fn revoke(&self, lease: LeaseId) {
        if let Err(error) = self.cluster.client.revoke(lease.0).await {
            // It ends by itself.
            tracing::debug!(%error, "a lease was not given back");
        }
    }
}

fn seconds_of(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or_default())
}

fn leader_of(kv: &proto::KeyValue) -> Leader {
    Leader {
        fence: Fence(kv.create_revision),
        place: String::from_utf8_lossy(&kv.value).into_owned(),
    }
}

/// Tells who has the key, for ever.
async fn watch_key(cluster: Cluster, events: mpsc::Sender<Event>) {
    loop {
        if let Err(error) = watch_once(&cluster, &events).await {
            tracing::debug!(%error, "the leadership key is not watched");
        }
        tokio::time::sleep(WATCH_AGAIN).await;
    }
}

async fn watch_once(cluster: &Cluster, events: &mpsc::Sender<Event>) -> Result<(), EtcdError> {
    let key = cluster.keys.leader();
    let now = cluster.client.range(get(key.clone())).await?;
    let revision = now.header.map_or(0, |header| header.revision);
    let mut held = now.kvs.first().map(leader_of);
    let event = match held.clone() {
        Some(leader) => Event::LeaderSeen(leader),
        // Whoever had it before this was looked at.
        None => Event::LeaderGone {
            fence: Fence(revision),
        },
    };
    // An error means that the election is over.
    let _over = events.send(event).await.is_err();
    let mut watching = cluster
        .client
        .watch((key, Vec::new()), revision.saturating_add(1))
        .await?;
    loop {
        for change in watching.next().await? {
            let deleted = change.r#type() == proto::event::EventType::Delete;
            let event = match (deleted, change.kv) {
                (true, _) => held.take().map(|leader| Event::LeaderGone {
                    fence: leader.fence,
                }),
                (false, Some(kv)) => {
                    held = Some(leader_of(&kv));
                    held.clone().map(Event::LeaderSeen)
                }
                (false, None) => None,
            };
            if let Some(event) = event {
                // As above.
                let _over = events.send(event).await.is_err();
            }
        }
    }
}
