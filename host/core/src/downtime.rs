//! Time in which no host ran: it is not counted against anybody.
//!
//! A framework's timer that is to fire after so long, and the time that an unreachable agent has left,
//! run while a host runs. So the host says durably every [`ALIVE_EVERY`] that it does, and one that
//! goes on where another ended puts what waits off by the time between. After a crash such a timer
//! is late by less than that; it is never early. Each step's fact says the time too ([`Effect::TimeTold`]):
//! a host that goes on begins no earlier than that, whatever its clock shows.
//!
//! [`Effect::TimeTold`]: proffer_model::fact::Effect::TimeTold

use proffer_codec::codec_struct;
use proffer_model::fact::Fact;
use proffer_model::framework::{Due, Standing};
use proffer_model::{Duration, FrameworkId, Reason, Remedy, Timestamp};

use crate::agenda::Deadline;
use crate::machine::Core;

/// How often the host says that it runs: a fact every ten seconds is nothing for the store, and ten
/// seconds are little for what outlives a host.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
/// Clocks that are looked after differ by less, and nobody needs to hear of it.
const CLOCKS_DIFFER: Duration = Duration(1_000);
/// After a restart, what depends on knowing who holds what waits until so many agents are back ...
const BACK_PERCENT: usize = 80;
/// ... or until so long has passed (Mesos's numbers).
const BACK_WITHIN: Duration = Duration::from_secs(600);

/// Which agents must be back before what is held can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentsAwaited {
    /// Known from before.
    pub expected: usize,
    /// Back so far.
    pub back: usize,
    /// Not waited for any longer than this.
    pub until: Timestamp,
}

codec_struct!(AgentsAwaited {
    expected,
    back,
    until
});

impl Core {
    /// Says durably that the host runs, if it was not said lately.
    pub(crate) fn say_alive(&mut self) {
        let now = self.now;
        if now.since(self.alive_at) >= ALIVE_EVERY {
            self.alive_at = now;
            self.facts.push(Fact::HostAlive { at: now });
        }
    }

    /// No time before this is told.
    pub(crate) fn told_until(&self) -> Timestamp {
        #[cfg(feature = "planted")]
        if crate::planted::Planted::ClockBelieved.is_planted() {
            return Timestamp(0);
        }
        self.alive_at
    }

    /// This host goes on where another ended.
    pub(crate) fn resume(&mut self) {
        let now = self.now;
        let away = match self.alive_at {
            Timestamp(0) => Duration::ZERO,
            before => now.since(before),
        };
        self.put_off(away);
        self.alive_at = now;
        self.facts.push(Fact::HostResumed { at: now, away });
        self.reserve_ids();
        let expected = self
            .agents
            .values()
            .filter(|agent| agent.standing != Standing::Unreachable)
            .count();
        if expected > 0 {
            let until = now + BACK_WITHIN;
            self.awaiting = Some(AgentsAwaited {
                expected,
                back: 0,
                until,
            });
            self.agenda.add(until, Deadline::AgentsBack);
        }
    }

    /// Says that this host's clock is behind what a former host's has shown, if it is.
    pub(crate) fn note_clock(&mut self, clock: Timestamp) {
        let ahead = self.pace.ahead(clock);
        if ahead >= CLOCKS_DIFFER {
            let text = format!(
                "this host's clock is {ahead} behind the time that is in the facts: time runs at three \
                 quarters of its speed until the clock has caught up; look after the clocks of the hosts"
            );
            self.note(None, Reason::new("clock-behind", Remedy::Mend, text));
        }
    }

    /// Timers and absences run on from where they stood; live and in recovery alike.
    pub(crate) fn put_off(&mut self, away: Duration) {
        if away == Duration::ZERO {
            return;
        }
        let frameworks: Vec<FrameworkId> = self.frameworks.keys().copied().collect();
        for framework in frameworks {
            let Some(fw) = self.frameworks.get_mut(&framework) else {
                continue;
            };
            for (id, timer) in &mut fw.timers {
                if timer.fired || !matches!(timer.due, Due::After(_)) {
                    continue;
                }
                let deadline = Deadline::TimerFires(framework, id.clone());
                self.agenda.remove(timer.at, deadline.clone());
                timer.at = timer.at + away;
                self.agenda.add(timer.at, deadline);
            }
        }
        for agent in self.agents.values_mut() {
            if agent.standing == Standing::Unreachable {
                agent.since = agent.since + away;
            }
        }
    }

    /// Whether nothing is offered yet: with a quota, what roles hold is known when enough agents are
    /// back, and a limit could be broken before.
    pub(crate) fn waits_for_agents(&self) -> bool {
        self.awaiting.is_some() && self.handles.roles.with_quota().next().is_some()
    }

    /// One of the agents known from facts has registered.
    pub(crate) fn agent_is_back(&mut self) {
        let Some(awaiting) = &mut self.awaiting else {
            return;
        };
        awaiting.back += 1;
        if awaiting.back * 100 >= awaiting.expected * BACK_PERCENT {
            self.agents_are_back();
        }
    }

    /// Enough agents are back, or nobody waits for the others any more.
    pub(crate) fn agents_are_back(&mut self) {
        if self.awaiting.take().is_some() {
            self.everything_wanted();
        }
    }

    /// Agents that a restarted host still waits for: fewer than 80 % of those known are back, and
    /// ten minutes have not passed.
    #[must_use]
    pub fn agents_awaited(&self) -> Option<AgentsAwaited> {
        self.awaiting
    }
}
