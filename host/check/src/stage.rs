//! The real core with a policy, and names for what scenarios name.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proffer_core::{
    Action, Allocation, ConnectionId, Core, CoreConfig, Event, Outbox, Play, PolicyIdentity, Reply,
    Ticket,
};
use proffer_model::agent::{Registration, ToAgent};
use proffer_model::policy::{Changes, Cycle, Feeds, Place, Proposal};
use proffer_model::{
    AgentId, AgentInfo, Attribute, Bundle, Duration, OfferId, Resources, RoleName, Timestamp,
};

use crate::scenario::Pool;
use crate::seat::{Seat, Seats};
use crate::values::Quantities;

/// Longer than any scenario: leases, heartbeats and timeouts that never come.
const NEVER: Duration = Duration(1 << 50);

/// An offer as scenarios see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) cycle: u64,
    pub(crate) framework: String,
    pub(crate) role: RoleName,
    pub(crate) agent: String,
    pub(crate) resources: Resources,
}

/// Whether cycles are decided, or only tell the policy what has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cycles {
    Decided,
    Fed,
}

/// The core, a policy, and the clock.
pub(crate) struct Stage<'s> {
    pub(crate) core: Core,
    seat: Box<dyn Seat + 's>,
    pub(crate) now: Timestamp,
    /// When the core wants to be told the time.
    wake: Option<Timestamp>,
    cycles: Cycles,
    /// The next cycle only feeds.
    flushing: bool,
    /// Since the scenario began.
    pub(crate) cycles_run: u64,
    /// Offers since the last look.
    pub(crate) made: Vec<Made>,
    last_offer: u64,
    agents: BTreeMap<String, AgentId>,
    connections: BTreeMap<String, ConnectionId>,
    tickets: u64,
    reply: Option<Reply>,
    /// Cycles that are held back, fed but not decided.
    held: Option<Vec<Cycle>>,
}

impl<'s> Stage<'s> {
    pub(crate) fn new(
        pool: &Pool,
        rescinds: bool,
        cycles: Cycles,
        seats: &'s mut dyn Seats,
    ) -> Result<Self, String> {
        let (seat, feeds) = seats
            .make(&config_of(pool)?)
            .map_err(|why| format!("the policy refuses its configuration: {why}"))?;
        let least = pool.min_offer.as_ref().map(|least| minimum(least));
        let defaults = CoreConfig::default();
        let config = CoreConfig {
            region: pool.home_region.clone(),
            allocation: Allocation::Interval(duration(pool.interval)?.max(Duration(1))),
            lease: NEVER,
            heartbeat: NEVER,
            agent_timeout: NEVER,
            min_offer: least.transpose()?.unwrap_or(defaults.min_offer),
            gpu_guard: pool.gpu_guard,
            nested_quota: pool.nested_quota,
            rescinds,
            ..CoreConfig::default()
        };
        let now = Timestamp(0);
        let mut stage = Self {
            core: Core::new(config, now),
            seat,
            now,
            wake: None,
            cycles,
            flushing: false,
            cycles_run: 0,
            made: Vec::new(),
            last_offer: 0,
            agents: BTreeMap::new(),
            connections: BTreeMap::new(),
            tickets: 0,
            reply: None,
            held: None,
        };
        stage.load(feeds)?;
        Ok(stage)
    }

    /// The policy takes its seat, and the first snapshot.
    fn load(&mut self, feeds: Feeds) -> Result<(), String> {
        let identity = PolicyIdentity {
            name: "checked".to_owned(),
            version: String::new(),
            digest: String::new(),
            config: String::new(),
        };
        self.event(Event::PolicyLoaded {
            identity: Arc::new(identity),
            feeds,
        })?;
        self.cycles_run = 0;
        Ok(())
    }

    /// Handles an event and all that comes of it.
    pub(crate) fn event(&mut self, event: Event) -> Result<(), String> {
        let (first, rest) = self.begin(event)?;
        self.finish(first, rest)
    }

    /// Handles an event; what comes of it is for [`Stage::finish`].
    pub(crate) fn begin(&mut self, event: Event) -> Result<(VecDeque<Action>, ()), String> {
        let mut outbox = Outbox::new();
        self.core.handle(self.now, event, &mut outbox);
        self.core
            .check_invariants()
            .map_err(|broken| format!("an invariant of the core broke: {broken}"))?;
        Ok((outbox.drain().collect(), ()))
    }

    pub(crate) fn finish(&mut self, mut actions: VecDeque<Action>, (): ()) -> Result<(), String> {
        while let Some(action) = actions.pop_front() {
            let event = match action {
                Action::Persist { seq, .. } => Event::Persisted(seq),
                Action::RunPolicy { changes, cycle, .. } => self.ask(changes, cycle)?,
                Action::Reply { reply, .. } => {
                    self.reply = Some(reply);
                    continue;
                }
                Action::Send {
                    message,
                    connection,
                } => {
                    self.sent(connection, &message);
                    continue;
                }
                Action::Wake(at) => {
                    self.wake = Some(at);
                    continue;
                }
                _ => continue,
            };
            let proposed = matches!(event, Event::PolicyProposed { .. });
            let (more, ()) = self.begin(event)?;
            actions.extend(more);
            if proposed {
                self.collect();
                self.look_for_faults()?;
            }
        }
        Ok(())
    }

    fn ask(&mut self, changes: Vec<Changes>, cycle: Cycle) -> Result<Event, String> {
        let number = cycle.number;
        if let Some(held) = &mut self.held {
            held.push(cycle.clone());
        }
        let proposal = if self.held.is_some() || self.flushing || self.cycles == Cycles::Fed {
            self.seat.apply(changes)?;
            Proposal::default()
        } else {
            self.cycles_run += 1;
            self.seat.cycle(changes, cycle)?
        };
        Ok(Event::PolicyProposed {
            cycle: number,
            proposal: Box::new(proposal),
        })
    }

    fn look_for_faults(&self) -> Result<(), String> {
        let policy = self.core.policy();
        match policy.last_fault {
            Some(fault) => Err(format!(
                "the core refused what the policy proposed: {fault}"
            )),
            None if policy.grants_stale > 0 => {
                Err("the core called a grant stale, and nothing happened meanwhile".to_owned())
            }
            None => Ok(()),
        }
    }

    fn collect(&mut self) {
        let offers: Vec<_> = self.core.offers(Some(OfferId(self.last_offer))).collect();
        for offer in offers {
            self.last_offer = self.last_offer.max(offer.id.0);
            self.made.push(Made {
                cycle: self.cycles_run,
                framework: offer.framework.to_string(),
                role: offer.role,
                agent: self.agent_name(offer.agent),
                resources: offer.resources,
            });
        }
    }

    fn sent(&mut self, connection: ConnectionId, message: &ToAgent) {
        if let ToAgent::Registered { agent, .. } = message {
            let named = self.connections.iter().find(|(_, own)| **own == connection);
            if let Some((name, _)) = named {
                self.agents.insert(name.clone(), *agent);
            }
        }
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// An operator's event, which the core must grant.
    pub(crate) fn order(&mut self, event: impl FnOnce(Ticket) -> Event) -> Result<(), String> {
        let ticket = self.ticket();
        self.reply = None;
        self.event(event(ticket))?;
        match self.reply.take() {
            Some(Reply::Refused(why)) => Err(why.text),
            _ => Ok(()),
        }
    }

    pub(crate) fn play(&mut self, play: Play) -> Result<(), String> {
        let reports = matches!(play, Play::Report { .. });
        if reports {
            self.flush()?;
        }
        self.order(|ticket| Event::Played {
            ticket,
            play: Box::new(play),
        })?;
        // Reports count one by one, so the policy is told one by one.
        if reports { self.flush() } else { Ok(()) }
    }

    /// No cycles until [`Stage::let_cycles`]: several events are one step.
    pub(crate) fn hold_cycles(&mut self) {
        self.held = Some(Vec::new());
    }

    /// The cycle that was held back, with all that has happened since.
    pub(crate) fn let_cycles(&mut self) -> Result<(), String> {
        let held = self.held.take().unwrap_or_default();
        let agents: std::collections::BTreeSet<AgentId> = held
            .into_iter()
            .flat_map(|cycle| cycle.agents.unwrap_or_default())
            .map(AgentId)
            .collect();
        self.play(Play::Cycle {
            agents: Some(agents),
        })
    }

    /// Whether the last order was granted; for those who handle its actions themselves.
    pub(crate) fn granted(&mut self) -> Result<(), String> {
        match self.reply.take() {
            Some(Reply::Refused(why)) => Err(why.text),
            _ => Ok(()),
        }
    }

    pub(crate) fn agent(&self, name: &str) -> Result<AgentId, String> {
        self.agents
            .get(name)
            .copied()
            .ok_or_else(|| format!("there is no agent {name}"))
    }

    pub(crate) fn agent_name(&self, id: AgentId) -> String {
        let found = self.core.agent_named(&id.to_string());
        found.map_or_else(|| id.to_string(), |agent| agent.info.hostname.to_string())
    }

    pub(crate) fn agent_names(&self) -> Vec<String> {
        self.agents.keys().cloned().collect()
    }

    /// Its connection ends: only then an operator may say that it is gone.
    pub(crate) fn disconnect(&mut self, name: &str) -> Result<(), String> {
        match self.connections.remove(name) {
            Some(connection) => self.event(Event::AgentDisconnected { connection }),
            None => Ok(()),
        }
    }

    pub(crate) fn forget_agent(&mut self, name: &str) {
        self.agents.remove(name);
    }

    /// An agent registers. Nothing is decided before `then` was played, in one cycle with it.
    pub(crate) fn register(
        &mut self,
        name: &str,
        resources: &Resources,
        region: &str,
        attributes: Vec<Attribute>,
    ) -> Registering {
        let connection = ConnectionId(self.ticket().0);
        self.connections.insert(name.to_owned(), connection);
        let plain = resources.get(&proffer_model::Terms::default());
        Registering {
            event: Event::AgentRegistered {
                connection,
                registration: Box::new(Registration {
                    agent: None,
                    key: format!("{name} on {}", connection.0),
                    boot: "boot".to_owned(),
                    info: Arc::new(AgentInfo {
                        hostname: name.into(),
                        region: region.into(),
                        zone: "".into(),
                        attributes,
                    }),
                    total: plain.cloned().unwrap_or_default(),
                    special: resources.only(|terms| !terms.is_plain()),
                    data_address: String::new(),
                    launches: Vec::new(),
                }),
            },
        }
    }

    /// Lets time pass: all that becomes due on the way happens at its instant.
    pub(crate) fn advance(&mut self, span: Duration) -> Result<(), String> {
        let until = self.now + span;
        while let Some(at) = self.wake.take_if(|at| *at <= until) {
            self.now = self.now.max(at);
            self.event(Event::Ticked)?;
        }
        self.now = until;
        Ok(())
    }

    /// Feeds the policy what it has not been told, without asking it anything.
    pub(crate) fn flush(&mut self) -> Result<(), String> {
        self.flushing = true;
        let done = self.play(Play::Cycle {
            agents: Some(std::collections::BTreeSet::new()),
        });
        self.flushing = false;
        done
    }

    pub(crate) fn places(&mut self) -> Result<Vec<Place>, String> {
        self.flush()?;
        self.seat.places()
    }

    /// A role by the handle that the policy knows.
    pub(crate) fn role_name(&self, handle: u32) -> String {
        let name = self.core.roles().nth(handle as usize);
        name.map_or_else(|| format!("role {handle}"), |(name, _)| name.to_string())
    }
}

/// An agent about to be known.
pub(crate) struct Registering {
    pub(crate) event: Event,
}

/// A span in seconds, to the millisecond.
pub(crate) fn duration(seconds: f64) -> Result<Duration, String> {
    let ms = (seconds * 1_000.0).round();
    if !(0.0..1e15).contains(&ms) {
        return Err(format!("{seconds} seconds: wanted a span from 0 up"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "looked at above"
    )]
    Ok(Duration(ms as u64))
}

/// How long a refusal is meant: none is the default.
pub(crate) fn refusal(seconds: f64) -> Result<Option<Duration>, String> {
    if seconds < 0.0 {
        return Ok(None);
    }
    // Whatever is longer is cut by the core.
    duration(seconds.min(1e9)).map(Some)
}

pub(crate) fn minimum(alternatives: &[Quantities]) -> Result<Vec<Bundle>, String> {
    let all: Vec<Bundle> = alternatives
        .iter()
        .map(Quantities::least)
        .collect::<Result<_, _>>()?;
    // An alternative that asks for nothing is always reached.
    let always = all.iter().any(Bundle::is_empty);
    Ok(if always { Vec::new() } else { all })
}

/// The policy's configuration: what differs from its defaults, and Mesos's whole agents.
fn config_of(pool: &Pool) -> Result<String, String> {
    let mut config = serde_json::Map::new();
    config.insert("demand".to_owned(), "ignore".into());
    if let Some(least) = &pool.min_offer {
        let least = minimum(least)?
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        config.insert("minimum".to_owned(), least.into());
    }
    if !pool.gpu_guard {
        config.insert("gpu-guard".to_owned(), false.into());
    }
    if !pool.home_region.is_empty() {
        config.insert("region".to_owned(), pool.home_region.clone().into());
    }
    if !pool.fair_exclude.is_empty() {
        config.insert("fair-exclude".to_owned(), pool.fair_exclude.clone().into());
    }
    config.insert("nested-quota".to_owned(), pool.nested_quota.into());
    Ok(serde_json::Value::Object(config).to_string())
}
