//! Why somebody gets nothing: whoever removes what is named gets the offer.

use std::collections::{BTreeMap, BTreeSet};

use proffer_core::{Event, FrameworkChange};
use proffer_model::framework::Command;
use proffer_model::policy::Question;
use proffer_model::{
    AgentId, Amount, Constraint, ConstraintTest, KindQuota, Reason, Resources, RoleName, code,
};
use proffer_policy::Policy;

use super::cluster::{Cluster, Decider};
use super::random::Dice;
use super::words::{accept, decline, task, want_as};

/// Whose demand it is about.
const WHO: &str = "f0";
/// Causes on one agent: each of the kinds that there are, and a few for luck.
const CAUSES_MAX: usize = 8;
/// Longer than the sweep: a cycle over everything has been.
const A_SWEEP: u64 = 11_000;

struct State {
    cluster: Cluster,
    dice: Dice,
    agents: usize,
}

impl State {
    /// Agents with and without gpus, some of them away; frameworks that hold, refuse, suppress and want
    /// more than there is; quotas.
    fn random(seed: u64) -> Self {
        let mut state = Self {
            cluster: Cluster::new(),
            dice: Dice(seed),
            agents: 0,
        };
        state.agents = 1 + usize::try_from(state.dice.below(4)).unwrap();
        for agent in 0..state.agents {
            let gpus = if state.dice.one_in(4) { ";gpus:1" } else { "" };
            let cpus = 1 + state.dice.below(6);
            state
                .cluster
                .agent(&format!("a{agent}"), &format!("cpus:{cpus};mem:500{gpus}"));
        }
        for number in 0..3 {
            state
                .cluster
                .framework(&format!("f{number}"), &format!("r{number}"));
        }
        for _ in 0..4 + state.dice.below(10) {
            state.something();
        }
        let cpus = 1 + state.dice.below(6);
        state.want(WHO, 50, cpus);
        if state.dice.one_in(2) {
            let ids = state.offers_of(WHO);
            let refuse = vec![decline(&ids, 3_600_000)];
            state.cluster.command(WHO, refuse);
        }
        state
    }

    fn want(&mut self, name: &str, count: u32, cpus: u64) {
        let host = self
            .dice
            .one_in(6)
            .then(|| format!("a{}", self.dice.below(4)));
        let role = name.replace('f', "r");
        let want = want_as(
            "d",
            &role,
            &format!("cpus:{cpus};mem:10"),
            count,
            |demand| {
                demand.constraints = host
                    .into_iter()
                    .map(|host| {
                        vec![Constraint {
                            attribute: "hostname".to_owned(),
                            test: ConstraintTest::Equals,
                            values: vec![host],
                        }]
                    })
                    .collect();
            },
        );
        self.cluster.command(name, vec![want]);
    }

    fn something(&mut self) {
        let number = self.dice.below(3);
        let name = format!("f{number}");
        match self.dice.below(7) {
            0 | 1 => {
                let cpus = 1 + self.dice.below(3);
                let count = 1 + u32::try_from(self.dice.below(8)).unwrap();
                self.want(&name, count, cpus);
            }
            2 => {
                let ids = self.offers_of(&name);
                self.cluster.command(&name, vec![decline(&ids, 3_600_000)]);
            }
            3 => {
                let Some(id) = self.offers_of(&name).first().copied() else {
                    return;
                };
                let id_of_task = format!("t{}", self.dice.next());
                let tasks = vec![task(&id_of_task, "cpus:1;mem:10")];
                self.cluster.command(&name, vec![accept(&[id], tasks, 0)]);
            }
            4 if self.dice.one_in(3) => self
                .cluster
                .command(&name, vec![Command::Suppress(Vec::new())]),
            5 if self.dice.one_in(3) => {
                let agent = format!("a{}", self.dice.below(self.agents as u64));
                self.cluster.disconnect(&agent);
            }
            _ => {
                let bound =
                    |dice: &mut Dice| Amount::from_units(i64::try_from(dice.below(6)).unwrap());
                let quota = KindQuota {
                    kind: "cpus".to_owned(),
                    guarantee: if self.dice.one_in(2) {
                        bound(&mut self.dice)
                    } else {
                        Amount::ZERO
                    },
                    limit: self.dice.one_in(2).then(|| bound(&mut self.dice)),
                };
                self.quota(number, vec![quota]);
            }
        }
    }

    fn quota(&mut self, role: u64, quotas: Vec<KindQuota>) {
        let ticket = self.cluster.ticket();
        self.cluster.event(Event::QuotaSet {
            ticket,
            role: RoleName::new(format!("r{role}")).unwrap(),
            quotas,
            weight: None,
            force: true,
        });
    }

    fn offers_of(&self, name: &str) -> Vec<u64> {
        let offers = self.cluster.core.offers(None);
        offers
            .filter(|offer| *offer.framework == *name)
            .map(|offer| offer.id.0)
            .collect()
    }

    fn is_offered(&self, agent: AgentId) -> bool {
        let mut offers = self.cluster.core.offers(None);
        offers.any(|offer| *offer.framework == *WHO && offer.agent == agent)
    }

    /// As an operator is told: the core's word, or where it has nothing against the agent the policy's.
    fn why(&self, agent: AgentId) -> (Reason, Resources) {
        let core = &self.cluster.core;
        let said = core.explain_on(WHO, "d", agent).unwrap();
        let questions = core.policy_questions(WHO);
        let asked = questions.iter().find(|asked| {
            let question = &asked.question;
            asked.key == "d" && question.agents.contains(&agent.0)
        });
        let (Some(asked), Decider::Drf(drf)) = (asked, &self.cluster.fallback) else {
            return said;
        };
        let found = drf.explain(&Question {
            agents: vec![agent.0],
            ..asked.question.clone()
        });
        assert_eq!(found.len(), 1);
        (found[0].why.clone(), core.short_of(&found[0]))
    }

    /// Does away with a cause.
    fn remove(&mut self, agent: AgentId, why: &Reason, short: &Resources) {
        let name = format!("a{}", agent.0);
        let ticket = self.cluster.ticket();
        match why.code.as_ref() {
            code::FILTERED | code::SUPPRESSED => {
                self.cluster.command(WHO, vec![Command::Revive(Vec::new())]);
            }
            code::NO_FIT => {
                assert!(!short.is_empty(), "it does not say by how much: {why}");
                // What comes is for nobody else.
                self.forget_others();
                let view = self.cluster.core.agent_named(&name).unwrap();
                self.cluster.event(Event::Played {
                    ticket,
                    play: Box::new(proffer_core::Play::Tell {
                        agent,
                        total: Some(view.total.plus(short)),
                        attributes: None,
                    }),
                });
            }
            code::CONSTRAINT => {
                let fw = self.cluster.core.framework_named(WHO).unwrap();
                let mut demand = fw.demands[0].0.clone();
                demand.constraints = Vec::new();
                let restated = Command::SetDemand(Box::new(demand));
                self.cluster.command(WHO, vec![restated]);
            }
            code::GPU_GUARD => self.cluster.event(Event::FrameworkChangeAsked {
                ticket,
                name: WHO.to_owned(),
                change: Box::new(FrameworkChange {
                    gpus: Some(true),
                    ..FrameworkChange::default()
                }),
            }),
            code::AGENT_INACTIVE => self.cluster.reconnect(&name, &[]),
            code::OVER_LIMIT => self.quota(0, Vec::new()),
            code::HELD_BACK => {
                // Its own too: what is held ready for it in smaller pieces is not for a larger unit.
                for role in 0..3 {
                    self.quota(role, Vec::new());
                }
            }
            code::TURN => self.forget_others(),
            code::OFFERABLE => {}
            other => panic!("nobody can do anything about '{other}': {why}"),
        }
        self.cluster.advance(A_SWEEP);
    }
}

impl State {
    /// The others want nothing any more, and keep what they use.
    fn forget_others(&mut self) {
        for other in ["f1", "f2"] {
            let gone = Command::ClearDemand(vec!["d".to_owned()]);
            self.cluster.command(other, vec![gone]);
        }
    }
}

#[test]
fn whoever_removes_the_named_cause_gets_the_offer() {
    let mut named: BTreeMap<String, u32> = BTreeMap::new();
    let (mut states, mut at_once) = (0, 0);
    let mut seed = 0;
    while states < 100 {
        seed += 1;
        let mut state = State::random(seed);
        state.cluster.advance(A_SWEEP);
        let agent = AgentId(u32::try_from(state.dice.below(state.agents as u64)).unwrap());
        if state.is_offered(agent) {
            continue;
        }
        states += 1;
        let mut causes = BTreeSet::new();
        while !state.is_offered(agent) {
            let (why, short) = state.why(agent);
            assert!(
                causes.insert(why.code.to_string()) && causes.len() <= CAUSES_MAX,
                "seed {seed}, {agent}: {why} is named again, after {causes:?}"
            );
            *named.entry(why.code.to_string()).or_default() += 1;
            state.remove(agent, &why, &short);
        }
        at_once += u32::from(causes.len() == 1);
    }
    super::words::say(&format!(
        "100 states, {at_once} with one cause, the others with several; named: {named:?}\n"
    ));
    assert!(at_once > 40, "only {at_once} of 100");
    for code in [
        code::FILTERED,
        code::SUPPRESSED,
        code::NO_FIT,
        code::CONSTRAINT,
        code::GPU_GUARD,
        code::AGENT_INACTIVE,
        code::OVER_LIMIT,
        code::HELD_BACK,
    ] {
        assert!(
            named.contains_key(code),
            "'{code}' was never named: {named:?}"
        );
    }
}
