//! What goes wrong, and when.

use super::network::Cut;
use super::{Checked, Occurrence, World, delay};

/// Longest stand-still of a host.
const STALL_MAX: u64 = 40_000;
/// Longest time that an agent is cut off.
const CUT_MAX: u64 = 60_000;
/// Longest time that a host does not reach etcd.
const ETCD_CUT_MAX: u64 = 20_000;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    HostDies,
    HostStalls,
    AgentDies,
    MachineDies,
    RunnerDies,
    LinkBreaks,
    Cut,
    EtcdCut,
    FrameworkIll,
}

const ALL: [FaultKind; 9] = [
    FaultKind::HostDies,
    FaultKind::HostStalls,
    FaultKind::AgentDies,
    FaultKind::MachineDies,
    FaultKind::RunnerDies,
    FaultKind::LinkBreaks,
    FaultKind::Cut,
    FaultKind::EtcdCut,
    FaultKind::FrameworkIll,
];

impl World {
    pub(super) fn begin_faults(&mut self) {
        for kind in ALL {
            self.strikes_later(kind);
        }
    }

    fn mean(&self, kind: FaultKind) -> u64 {
        let faults = self.scenario.faults;
        match kind {
            FaultKind::HostDies => faults.host_dies,
            FaultKind::HostStalls => faults.host_stalls,
            FaultKind::AgentDies => faults.agent_dies,
            FaultKind::MachineDies => faults.machine_dies,
            FaultKind::RunnerDies => faults.runner_dies,
            FaultKind::LinkBreaks => faults.link_breaks,
            FaultKind::Cut => faults.cut,
            FaultKind::EtcdCut => faults.etcd_cut,
            FaultKind::FrameworkIll => faults.framework_ill,
        }
    }

    fn strikes_later(&mut self, kind: FaultKind) {
        let mean = self.mean(kind);
        if mean > 0 {
            let wait = self.dice.fault.between(1, 2 * mean);
            self.after(wait, Occurrence::Strikes(kind));
        }
    }

    pub(super) fn strikes(&mut self, kind: FaultKind) -> Checked {
        if self.calm {
            return Ok(());
        }
        self.strikes_later(kind);
        let now = self.now;
        let agent = self.dice.fault.index(self.agents.len());
        let host = self.dice.fault.index(self.hosts.len());
        match kind {
            FaultKind::HostDies => return self.host_dies(host),
            FaultKind::HostStalls => {
                self.hosts[host].stalled_until = now + delay(&mut self.dice.fault, STALL_MAX);
            }
            FaultKind::EtcdCut => {
                let until = now + self.dice.fault.between(100, ETCD_CUT_MAX);
                let all = self.dice.fault.one_in(4);
                let hosts = self.hosts.iter_mut().enumerate();
                for (_, node) in hosts.filter(|(number, _)| all || *number == host) {
                    node.cut_until = until;
                }
            }
            FaultKind::AgentDies => self.agent_dies(agent, false),
            FaultKind::MachineDies => self.agent_dies(agent, true),
            FaultKind::RunnerDies => {
                let running = self.agents[agent].machine.running();
                if let Some(framework) = self.dice.fault.pick(&running).copied() {
                    self.runner_dies(agent, framework);
                }
            }
            FaultKind::LinkBreaks => {
                let links = self.open_links();
                if let Some(link) = self.dice.fault.pick(&links).copied() {
                    self.break_link(link);
                }
            }
            FaultKind::Cut => {
                let until = now + delay(&mut self.dice.fault, CUT_MAX);
                let which = self.dice.fault.below(3);
                self.agents[agent].cut = Cut {
                    up: if which == 1 { now } else { until },
                    down: if which == 2 { now } else { until },
                };
            }
            FaultKind::FrameworkIll => {
                let ill = self.dice.fault.between(1_000, 30_000);
                self.client.make_ill(agent, now + ill);
            }
        }
        Ok(())
    }

    /// No faults from here on.
    pub(super) fn calm_begins(&mut self) -> Checked {
        self.calm = true;
        self.note(|| "calm".to_owned());
        for node in &mut self.hosts {
            node.stalled_until = self.now;
            node.cut_until = self.now;
        }
        for node in &mut self.agents {
            node.cut = Cut::default();
        }
        self.client.calm_begins(self.now);
        self.host_recounts()
    }
}
