//! Several hosts on one etcd, as the daemon runs them: each campaigns, follows what the leader commits,
//! leads in terms, and follows again. What decides is the leadership machine and the core's replica;
//! etcd, the way to it and the clocks are simulated: requests and answers are late, lost and sent twice.

use proffer_core::Replica;
use proffer_model::Timestamp;
use proffer_store::leadership::{Action, Event, Fence, Leadership, Timings};

use crate::check::{Invariant, Violation};
use crate::etcd::{Asked, Heard, SteadyClock};

use super::log::Write;
use super::{Checked, Occurrence, World, delay};

/// Clocks differ by a hundredth at most: far less than the margin covers.
const RATE_PER_MILLE: u64 = 10;

/// A call to etcd that is not answered is made again.
const CALL_WITHIN: u64 = 1_500;

/// Between two tries to read while etcd does not answer.
const READ_AGAIN: u64 = 500;

/// A host's part in finding a leader.
pub(super) struct Candidate {
    machine: Leadership,
    clock: SteadyClock,
    wakes: u64,
    /// Which host leads, as far as this one knows.
    pub(super) followed: Option<usize>,
    /// It was told of a commit and has not looked yet.
    noticed: bool,
}

/// What a host knows that follows.
pub(super) struct Standby {
    pub(super) replica: Replica,
    /// Facts read, of all that were ever committed.
    read: u64,
}

impl World {
    /// What only happens where there are several hosts.
    pub(super) fn happen_to_leaders(&mut self, what: Occurrence) -> Checked {
        match what {
            Occurrence::ElectionWakes {
                host,
                process,
                wake,
            } => self.election_wakes(host, process, wake),
            Occurrence::ElectionHears {
                host,
                process,
                heard,
            } => self.election_hears(host, process, heard),
            Occurrence::EtcdAsked {
                host,
                process,
                asked,
            } => {
                self.etcd_asked(host, process, &asked);
                Ok(())
            }
            Occurrence::LeaseEnds { lease } => {
                self.lease_ends(lease);
                Ok(())
            }
            Occurrence::TakesOver {
                host,
                process,
                fence,
            } => self.takes_over(host, process, fence),
            Occurrence::Reloads { host, process } => self.reloads(host, process),
            Occurrence::Follows { host, process } => self.follows(host, process),
            Occurrence::EtcdWritten { host, life, write } => self.etcd_written(host, life, &write),
            Occurrence::WritesAgain { life, after } => self.writes_again(life, after),
            Occurrence::Refused { host, life } => self.refused(host, life),
            // All else is the world's.
            _ => Ok(()),
        }
    }

    /// Reads all that is committed.
    pub(super) fn load(&self, host: usize) -> Result<Standby, Violation> {
        let now = self.host_now(host);
        let mut standby = Standby {
            replica: Replica::new(self.scenario.core.clone(), now),
            read: self.log.committed(),
        };
        for fact in self.log.facts() {
            standby.replica.apply(fact).map_err(|error| Violation {
                invariant: Invariant::RecoveryTrue,
                text: error.to_string(),
            })?;
        }
        Ok(standby)
    }

    /// A host of several begins.
    pub(super) fn host_joins(&mut self, host: usize, standby: Standby) -> Checked {
        let dice = &mut self.dice.etcd;
        let clock = SteadyClock {
            offset: dice.below(1_000_000),
            per_mille: dice.between(1_000 - RATE_PER_MILLE, 1_000 + RATE_PER_MILLE),
        };
        let Some(process) = self.hosts[host].process.as_mut() else {
            return Ok(());
        };
        process.standby = Some(standby);
        process.candidate = Some(Candidate {
            machine: Leadership::new(Timings::of_lease(self.scenario.leader_lease), Timestamp(0)),
            clock,
            wakes: 0,
            followed: None,
            noticed: false,
        });
        let life = process.life;
        self.elect(host, life, Event::Ticked)
    }

    /// Whether effects may leave a host now.
    pub(super) fn authority_holds(&self, host: usize) -> bool {
        let process = self.hosts[host].process.as_ref();
        process.is_some_and(|process| match &process.candidate {
            Some(own) => own.machine.leads(own.clock.at(self.now)).is_some(),
            None => true,
        })
    }

    /// Whether this host believes to lead under this fence.
    fn leads(&self, host: usize, fence: Fence) -> bool {
        let process = self.hosts[host].process.as_ref();
        let candidate = process.and_then(|process| process.candidate.as_ref());
        candidate.is_some_and(|own| own.machine.leads(own.clock.at(self.now)) == Some(fence))
    }

    fn candidate_mut(&mut self, host: usize, process: u64) -> Option<&mut Candidate> {
        let own = self.hosts[host].process.as_mut();
        own.filter(|own| own.life == process)?.candidate.as_mut()
    }

    fn election_wakes(&mut self, host: usize, process: u64, wake: u64) -> Checked {
        let own = self.candidate_mut(host, process);
        if own.is_some_and(|own| own.wakes == wake) {
            return self.elect(host, process, Event::Ticked);
        }
        Ok(())
    }

    fn election_hears(&mut self, host: usize, process: u64, heard: Heard) -> Checked {
        let node = &self.hosts[host];
        let until = node.stalled_until.max(node.cut_until);
        if until > self.now {
            let heard = Occurrence::ElectionHears {
                host,
                process,
                heard,
            };
            self.at(until, heard);
            return Ok(());
        }
        self.elect(host, process, heard.into_event())
    }

    /// The machine hears of something, and does what comes of it.
    fn elect(&mut self, host: usize, process: u64, event: Event) -> Checked {
        let (now, stalled) = (self.now, self.hosts[host].stalled_until);
        if stalled > now {
            // Only time itself: whatever else comes waits before.
            let wake = self.candidate_mut(host, process).map_or(0, |own| own.wakes);
            let wakes = Occurrence::ElectionWakes {
                host,
                process,
                wake,
            };
            self.at(stalled, wakes);
            return Ok(());
        }
        let Some(own) = self.candidate_mut(host, process) else {
            return Ok(());
        };
        let actions = own.machine.handle(own.clock.at(now), event);
        for action in actions {
            self.note_election(host, &action);
            match action {
                Action::Wake(at) => {
                    let Some(own) = self.candidate_mut(host, process) else {
                        return Ok(());
                    };
                    own.wakes += 1;
                    let (wake, at) = (own.wakes, own.clock.when(at));
                    let wakes = Occurrence::ElectionWakes {
                        host,
                        process,
                        wake,
                    };
                    self.at(at, wakes);
                }
                Action::Follow(leader) => {
                    let place = leader.and_then(|leader| leader.place.parse().ok());
                    if let Some(own) = self.candidate_mut(host, process) {
                        own.followed = place;
                    }
                }
                Action::Lead { fence } => self.takes_over_later(host, process, fence),
                Action::StepDown { .. } => self.steps_down(host),
                request => {
                    if let Some(asked) = Asked::of(&request) {
                        self.ask_etcd(host, process, asked);
                    }
                }
            }
        }
        Ok(())
    }

    fn note_election(&mut self, host: usize, action: &Action) {
        self.note(|| format!("   h{host} {action:?}"));
    }

    /// How long a message between a host and etcd takes; none: it is lost.
    fn way(&mut self, host: usize) -> Option<u64> {
        let cut = self.hosts[host].cut_until > self.now;
        let dice = &mut self.dice.etcd;
        match dice.below(60) {
            _ if cut => None,
            0 if !self.calm => None,
            1..3 if !self.calm => Some(dice.below(4_000)),
            _ => Some(delay(dice, 20)),
        }
    }

    fn ask_etcd(&mut self, host: usize, process: u64, asked: Asked) {
        if let Some(wait) = self.way(host) {
            let asked = Occurrence::EtcdAsked {
                host,
                process,
                asked,
            };
            self.after(wait, asked);
        }
    }

    fn etcd_asked(&mut self, host: usize, process: u64, asked: &Asked) {
        let (place, ttl) = (host.to_string(), self.scenario.leader_lease.0);
        let answered = self.etcd.answer(self.now, &place, ttl, asked);
        if let Some((lease, end)) = answered.lease {
            self.at(end, Occurrence::LeaseEnds { lease });
        }
        if let Some(heard) = answered.all {
            self.watchers_hear(&heard);
        }
        if let Some(heard) = answered.one {
            self.etcd_answers(host, process, heard);
        }
    }

    fn lease_ends(&mut self, lease: i64) {
        if let Some(heard) = self.etcd.lease_due(self.now, lease) {
            self.watchers_hear(&heard);
        }
    }

    fn watchers_hear(&mut self, heard: &Heard) {
        for host in 0..self.hosts.len() {
            let Some(process) = self.hosts[host].process.as_ref().map(|own| own.life) else {
                continue;
            };
            // What is watched may be seen twice.
            let times = 1 + u64::from(!self.calm && self.dice.etcd.one_in(10));
            for _ in 0..times {
                self.etcd_answers(host, process, heard.clone());
            }
        }
    }

    fn etcd_answers(&mut self, host: usize, process: u64, heard: Heard) {
        if let Some(wait) = self.way(host) {
            let hears = Occurrence::ElectionHears {
                host,
                process,
                heard,
            };
            self.after(wait, hears);
        }
    }

    fn takes_over_later(&mut self, host: usize, process: u64, fence: Fence) {
        let wait = delay(&mut self.dice.etcd, 100);
        let takes = Occurrence::TakesOver {
            host,
            process,
            fence,
        };
        self.after(wait, takes);
    }

    /// A host that has won the key reads what is left, claims the log, and goes on where it ends.
    fn takes_over(&mut self, host: usize, process: u64, fence: Fence) -> Checked {
        let node = &self.hosts[host];
        let lives = node.process.as_ref().is_some_and(|own| own.life == process);
        let until = node.stalled_until.max(node.cut_until);
        if !lives || (until <= self.now && !self.leads(host, fence)) {
            return Ok(());
        }
        let waits = until > self.now || self.follower(host).is_none();
        if waits {
            let takes = Occurrence::TakesOver {
                host,
                process,
                fence,
            };
            self.at(until.max(self.now + READ_AGAIN), takes);
            return Ok(());
        }
        self.catch_up(host)?;
        // The log is its own in a transaction under its fence, or not at all.
        if self.etcd.leads() != Some(fence) {
            return self.elect(host, process, Event::FencedOff);
        }
        let own = self.hosts[host].process.as_mut();
        let Some(standby) = own.and_then(|own| own.standby.take()) else {
            return Ok(());
        };
        self.log.taken_over();
        self.term_begins(host, standby, Some(fence))
    }

    fn follower(&self, host: usize) -> Option<&Standby> {
        self.hosts[host].process.as_ref()?.standby.as_ref()
    }

    /// The loop's own look found that this host leads no more.
    pub(super) fn deposed(&mut self, host: usize) -> Checked {
        let Some(process) = self.hosts[host].process.as_ref().map(|own| own.life) else {
            return Ok(());
        };
        self.steps_down(host);
        self.elect(host, process, Event::Ticked)
    }

    /// The time of leading is over, if there is one; all is read anew.
    fn steps_down(&mut self, host: usize) {
        let Some(own) = self.hosts[host].process.as_mut() else {
            return;
        };
        let (process, term) = (own.life, own.term.take());
        if let Some(term) = term {
            self.term_is_over(term);
            let wait = 1 + delay(&mut self.dice.etcd, 200);
            self.after(wait, Occurrence::Reloads { host, process });
        }
    }

    fn reloads(&mut self, host: usize, process: u64) -> Checked {
        let node = &self.hosts[host];
        let until = node.stalled_until.max(node.cut_until);
        if until > self.now {
            self.at(until, Occurrence::Reloads { host, process });
            return Ok(());
        }
        if node.process.as_ref().is_none_or(|own| own.life != process) {
            return Ok(());
        }
        let standby = self.load(host)?;
        let own = self.hosts[host].process.as_mut();
        if let Some(own) = own.filter(|own| own.term.is_none()) {
            own.standby = Some(standby);
        }
        Ok(())
    }

    /// Standbys are told of a commit, and look once for several.
    fn followers_notice(&mut self) {
        for host in 0..self.hosts.len() {
            let Some(wait) = self.way(host) else {
                continue;
            };
            let Some(own) = self.hosts[host].process.as_mut() else {
                continue;
            };
            let process = own.life;
            if let Some(candidate) = own.candidate.as_mut()
                && own.standby.is_some()
                && !std::mem::replace(&mut candidate.noticed, true)
            {
                self.after(wait, Occurrence::Follows { host, process });
            }
        }
    }

    fn follows(&mut self, host: usize, process: u64) -> Checked {
        let node = &self.hosts[host];
        let until = node.stalled_until.max(node.cut_until);
        if until > self.now {
            self.at(until, Occurrence::Follows { host, process });
            return Ok(());
        }
        if let Some(own) = self.candidate_mut(host, process) {
            own.noticed = false;
            return self.catch_up(host);
        }
        Ok(())
    }

    /// Reads what was committed and not read yet.
    fn catch_up(&mut self, host: usize) -> Checked {
        let own = self.hosts[host].process.as_mut();
        let Some(mut standby) = own.and_then(|own| own.standby.take()) else {
            return Ok(());
        };
        match self.log.after(standby.read) {
            Some(facts) => {
                for fact in facts {
                    let applied = standby.replica.apply(fact.clone());
                    let known = applied.is_ok();
                    self.check.tally.holds(Invariant::RecoveryTrue, known, || {
                        applied.err().map_or_else(String::new, |e| e.to_string())
                    })?;
                }
                standby.read = self.log.committed();
            }
            None => standby = self.load(host)?,
        }
        if let Some(own) = self.hosts[host].process.as_mut() {
            own.standby = Some(standby);
        }
        Ok(())
    }

    /// Sends a write, and again until it is answered.
    pub(super) fn write_to_etcd(&mut self, life: u64, write: Write) {
        let Some(host) = self.host_of(life) else {
            return;
        };
        let after = write.after;
        if let Some(way) = self.way(host) {
            let wait = way + delay(&mut self.dice.disk, self.scenario.delays.commit);
            let write = Box::new(write);
            self.after(wait, Occurrence::EtcdWritten { host, life, write });
        }
        self.after(CALL_WITHIN, Occurrence::WritesAgain { life, after });
    }

    fn writes_again(&mut self, life: u64, after: u64) -> Checked {
        let until = self.stalled_until(life);
        if until > self.now {
            self.at(until, Occurrence::WritesAgain { life, after });
            return Ok(());
        }
        let (Some(write), Some(host)) = (self.writing(life, after), self.host_of(life)) else {
            return Ok(());
        };
        if !self.authority_holds(host) {
            return self.deposed(host);
        }
        self.write_to_etcd(life, write);
        Ok(())
    }

    /// A write arrives: of the leader, and after the head that it knows, or not at all. A copy of one
    /// that was done is answered as the first was.
    fn etcd_written(&mut self, host: usize, life: u64, write: &Write) -> Checked {
        let after = write.after;
        let head = self.log.head();
        if self.etcd.leads() != write.fence {
            let Some(way) = self.way(host) else {
                return Ok(());
            };
            self.after(way, Occurrence::Refused { host, life });
            return Ok(());
        }
        if head == after {
            self.commit(write)?;
            self.followers_notice();
        } else if head != after + 1 {
            // So late that nobody waits for it.
            return Ok(());
        }
        if let Some(way) = self.way(host) {
            self.after(way, Occurrence::Stored { life, after });
        }
        Ok(())
    }

    /// A term hears that the store has refused its write.
    fn refused(&mut self, host: usize, life: u64) -> Checked {
        let node = &self.hosts[host];
        let until = node.stalled_until.max(node.cut_until);
        if until > self.now {
            self.at(until, Occurrence::Refused { host, life });
            return Ok(());
        }
        if self.host_of(life) != Some(host) {
            return Ok(());
        }
        let process = self.hosts[host].process.as_ref().map_or(0, |own| own.life);
        self.steps_down(host);
        self.elect(host, process, Event::FencedOff)
    }

    /// Hosts that lead, by their own clocks.
    pub(super) fn leaders(&self) -> usize {
        (0..self.hosts.len())
            .filter(|host| self.hosts[*host].term().is_some() && self.authority_holds(*host))
            .count()
    }
}
