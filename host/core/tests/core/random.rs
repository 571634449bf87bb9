//! Random runs: agents, frameworks, policies and stores do what they may and what they may not,
//! invariants are recounted after every event, and the host dies at any point.

use std::collections::{BTreeMap, BTreeSet};

use proffer_core::{Allocation, CoreConfig, Event};
use proffer_model::fact::ReservationFate;
use proffer_model::policy::{NONE, Piece, Proposal};
use proffer_model::{AgentId, Amount, Duration, LaunchNumber, OfferId, RoleName, TaskState};

use super::cluster::{Cluster, Decider};
use super::operators::{ROLES, check_policies};
use super::restart::{check_against_live, check_recovery, durable_view};
use super::swaps::drf;

/// SplitMix64: enough for tests, and the same everywhere.
#[derive(Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        (!all.is_empty())
            .then(|| all[usize::try_from(self.below(all.len() as u64)).unwrap()].clone())
    }
}

pub(crate) const AGENTS: u64 = 4;
const TOTALS: [&str; 5] = [
    "cpus:4;mem:100;ports:[1-10]",
    "cpus:2;mem:50;ports:[1-4]",
    "cpus:8;mem:64;disk:10;names:{a,b,c}",
    "cpus:4;mem:100;ports:[3-12];tokens:5",
    "cpus:0.5;mem:10;gpus:1",
];
/// What agents remember of their launches, by agent: number → (framework, task, sequence, state).
pub(crate) type Memory = BTreeMap<u64, BTreeMap<u64, (u32, String, u64, TaskState)>>;

pub(crate) struct Run {
    pub(crate) cluster: Cluster,
    pub(crate) dice: Dice,
    pub(crate) memory: Memory,
    pub(crate) tasks: u64,
    /// Ends that frameworks were told, by (framework, task, launch): once, and nothing after.
    pub(crate) ended: BTreeSet<(u32, String)>,
    pub(crate) launches: BTreeSet<u64>,
    /// What the shell calls policies is never used twice.
    pub(crate) policies: u64,
    /// Policies may be wrong.
    pub(crate) hostile: bool,
    /// Whose every offer was: a number is never used twice, also not after a restart.
    pub(crate) offers: BTreeMap<OfferId, (u32, AgentId)>,
}

impl Run {
    fn new(seed: u64, hostile: bool) -> Self {
        let mut dice = Dice(seed);
        let allocation = if dice.one_in(3) {
            Allocation::Interval(Duration(1_000))
        } else {
            CoreConfig::default().allocation
        };
        let mut cluster = Cluster::with(CoreConfig {
            allocation,
            seed,
            ended_tasks_max: 10,
            step_failures_max: 6,
            batch_rows_max: 16,
            ..CoreConfig::default()
        });
        cluster.trace = Some(Vec::new());
        cluster.late = dice.one_in(2).then(Default::default);
        cluster.tenant = drf();
        if hostile {
            let mut own = Dice(seed ^ 0xABCD);
            cluster.load_policy(Decider::Script(Box::new(move |_, _| {
                Ok(nonsense(&mut own))
            })));
        }
        Self {
            cluster,
            dice,
            memory: Memory::new(),
            tasks: 0,
            ended: BTreeSet::new(),
            launches: BTreeSet::new(),
            policies: 0,
            hostile,
            offers: BTreeMap::new(),
        }
    }

    fn go(&mut self, events: u64) {
        for _ in 0..events {
            self.act();
            self.policies_speak();
            self.read_mail();
        }
    }

    fn act(&mut self) {
        let cluster = &mut self.cluster;
        match self.dice.below(44) {
            0..=2 => self.agent_comes(),
            3 => {
                let name = format!("a{}", self.dice.below(AGENTS));
                if cluster.machines.contains_key(&name) {
                    cluster.disconnect(&name);
                }
            }
            4..=6 => {
                let name = format!("f{}", self.dice.below(4));
                if cluster.core.framework_named(&name).is_none() {
                    let role = self.dice.pick(&ROLES).unwrap();
                    cluster.add(&name, role);
                }
            }
            7 if self.dice.one_in(10) => {
                let name = format!("f{}", self.dice.below(4));
                let fates = [
                    ReservationFate::Keep,
                    ReservationFate::Release,
                    ReservationFate::Wipe,
                ];
                let fate = self.dice.pick(&fates).unwrap();
                self.remove_framework(&name, fate);
            }
            7 if self.dice.one_in(4) => {
                let name = format!("f{}", self.dice.below(4));
                let version = self.dice.below(9).to_string();
                cluster.upgrade(&name, &version);
            }
            8 => {
                let name = format!("f{}", self.dice.below(4));
                let blamed = cluster.core.framework_named(&name).and_then(|fw| fw.blamed);
                match blamed.filter(|_| self.dice.one_in(2)) {
                    Some(blamed) => {
                        cluster.skip(&name, &blamed.id);
                    }
                    None => {
                        let ticket = cluster.ticket();
                        cluster.event(Event::FrameworkResumeAsked { ticket, name });
                    }
                }
            }
            9 if self.dice.one_in(12) => {
                let name = format!("a{}", self.dice.below(AGENTS));
                cluster.declare_gone(&name);
            }
            9 => {
                let name = format!("f{}", self.dice.below(4));
                cluster.request(&name, "/x");
            }
            10 if self.dice.one_in(4) => {
                let ticket = cluster.ticket();
                let weight = Amount::from_units(i64::try_from(self.dice.below(4)).unwrap());
                let role = RoleName::new(self.dice.pick(&["r1", "r2", "r3/x"]).unwrap()).unwrap();
                cluster.event(Event::RoleSet {
                    ticket,
                    role,
                    weight,
                });
            }
            11..=14 => {
                let millis = self.dice.pick(&[1, 100, 1_000, 5_000, 31_000]).unwrap();
                cluster.advance(millis);
            }
            15..=16 => {
                cluster.prompt_store = !cluster.prompt_store;
                if cluster.prompt_store {
                    cluster.persist_all();
                }
            }
            17 => {
                let upto = cluster.persisted as u64;
                let upto = upto + self.dice.below(cluster.facts.len() as u64 - upto + 1);
                cluster.persist(usize::try_from(upto).unwrap());
            }
            18..=26 => self.agent_speaks(),
            27..=30 => self.operate(),
            _ => self.framework_steps(),
        }
    }

    /// Its own reservations go with it, or stay, as it was said.
    fn remove_framework(&mut self, name: &str, fate: ReservationFate) {
        if self.cluster.core.framework_named(name).is_some() {
            self.cluster.remove_with(name, fate);
        }
    }

    fn agent_comes(&mut self) {
        let number = self.dice.below(AGENTS);
        let name = format!("a{number}");
        let total = self.dice.pick(&TOTALS).unwrap();
        if !self.cluster.machines.contains_key(&name) {
            self.cluster.agent(&name, total);
            return;
        }
        let mut registration = self.cluster.machines[&name].registration.clone();
        if self.dice.one_in(3) {
            registration.total = total.parse().unwrap();
        }
        let remembered = self.memory.entry(number).or_default();
        registration.launches = remembered
            .iter()
            .filter(|_| !self.dice.one_in(5))
            .map(
                |(launch, (framework, id, _, state))| proffer_model::agent::KnownLaunch {
                    launch: LaunchNumber(*launch),
                    framework: proffer_model::FrameworkId(*framework),
                    task: super::words::task_id(id),
                    role: RoleName::star(),
                    latest: *state,
                },
            )
            .collect();
        if self.dice.one_in(4) {
            // Without a word of goodbye, on the same connection.
            let connection = self.cluster.machines[&name].connection;
            self.cluster.event(Event::AgentRegistered {
                connection,
                registration: Box::new(registration),
            });
        } else {
            self.cluster.register(&name, registration);
        }
    }

    /// Agents take what they were sent: a launch number runs once, whoever sends it how often.
    fn read_mail(&mut self) {
        use proffer_model::agent::ToAgent;
        for number in 0..AGENTS {
            let Some(machine) = self.cluster.machines.get_mut(&format!("a{number}")) else {
                continue;
            };
            let remembered = self.memory.entry(number).or_default();
            for message in std::mem::take(&mut machine.inbox) {
                match message {
                    ToAgent::Launch(launches) => {
                        for launch in launches {
                            let (id, owner) = (launch.task.id.to_string(), launch.framework.0);
                            if self.launches.insert(launch.number.0) {
                                let fresh = (owner, id, 0, TaskState::Staging);
                                remembered.insert(launch.number.0, fresh);
                            } else {
                                let same = remembered.get(&launch.number.0);
                                let same =
                                    same.is_none_or(|known| (known.0, &known.1) == (owner, &id));
                                assert!(same, "launch {} was another task", launch.number);
                            }
                        }
                    }
                    ToAgent::Acknowledge { launch, sequence } => {
                        let told = remembered.get(&launch.0).map(|known| (known.2, known.3));
                        if told.is_some_and(|(last, state)| state.is_final() && sequence >= last) {
                            remembered.remove(&launch.0);
                        }
                    }
                    ToAgent::Kill { launch, .. } => {
                        if let Some(known) =
                            remembered.get_mut(&launch.0).filter(|k| !k.3.is_final())
                        {
                            known.2 += 1;
                            known.3 = TaskState::Killed;
                        }
                    }
                    ToAgent::RemoveFramework { framework } => {
                        remembered.retain(|_, known| known.0 != framework.0);
                    }
                    // Declared gone: its machine begins anew.
                    ToAgent::Refused { .. } => {
                        machine.registration.key.push('+');
                        remembered.clear();
                    }
                    _ => {}
                }
            }
        }
    }

    /// What frameworks were told is told again if the step that took it was not durable.
    fn forget_untaken(&mut self) {
        self.ended.clear();
    }
}

/// Grants at random, now and then right ones.
pub(crate) fn nonsense(dice: &mut Dice) -> Proposal {
    let mut proposal = Proposal::default();
    for _ in 0..dice.below(6) {
        let small = |dice: &mut Dice, n: u64| u32::try_from(dice.below(n)).unwrap();
        let demand = if dice.one_in(2) { NONE } else { small(dice, 6) };
        let pieces: Vec<Piece> = (0..dice.below(4))
            .map(|_| Piece {
                terms: u32::from(dice.one_in(20)),
                kind: small(dice, 8),
                amount: Amount::from_milli(i64::try_from(dice.below(4_000)).unwrap() - 100),
            })
            .collect();
        proposal
            .grants
            .push(small(dice, 5), small(dice, 5), demand, &pieces);
        let last = proposal.grants.gang.last_mut().unwrap();
        *last = if dice.one_in(4) { 1 } else { 0 };
    }
    if dice.one_in(30) {
        proposal.grants.lease.pop();
    }
    proposal
}

#[test]
fn random_runs_keep_the_invariants_and_are_the_same_again() {
    let mut launched = 0;
    for seed in 0..24 {
        println!("seed {seed}");
        let run = || {
            let mut run = Run::new(seed, seed % 3 == 2);
            run.go(1_200);
            run.come_to_rest();
            let blames = |note: &&String| note.contains("granted") || note.contains("invalid");
            let blames: Vec<String> = run.cluster.notes.iter().filter(blames).cloned().collect();
            (
                run.cluster.trace.take().unwrap(),
                run.tasks,
                run.cluster.core.policy(),
                run.cluster
                    .core
                    .tenants()
                    .map(|one| one.tally.failures)
                    .sum::<u64>(),
                blames,
            )
        };
        let (first, tasks, policy, blamed, blames) = run();
        let (second, ..) = run();
        assert!(
            first == second,
            "seed {seed}: another run of the same events differs"
        );
        launched += tasks;
        if seed % 3 != 2 {
            assert_eq!(
                policy.grants_invalid, 0,
                "seed {seed}: the reference policy was blamed: {blames:?}"
            );
            assert_eq!(blamed, 0, "seed {seed}: it was blamed within a subtree");
        }
    }
    assert!(
        launched > 500,
        "only {launched} tasks: the runs do not do much"
    );
}

/// Sums over some agents after the others are those over all of them, frameworks' and roles' too.
fn check_sums(core: &proffer_core::Core) {
    let (all, mut sums, mut up_to) = (core.sums(), proffer_core::Sums::default(), None);
    loop {
        up_to = core.add_up(&mut sums, up_to, 2);
        if up_to.is_none() {
            break;
        }
    }
    assert_eq!(sums, all);
    for view in core.frameworks(None, &all) {
        let alone = core.framework_named(&view.name).unwrap();
        let alone = (alone.used, alone.offered);
        assert_eq!((view.used, view.offered), alone, "{}", view.name);
    }
    for view in core.role_views() {
        assert_eq!(view.sums, core.role_sums(&view.name), "{}", view.name);
    }
}

/// At any point: the host dies, and what was persisted makes a core that holds the invariants,
/// looks the same from facts and from a snapshot, and goes on with the same agents.
#[test]
fn the_host_may_die_at_any_point() {
    for seed in 100..124 {
        println!("seed {seed}");
        let mut run = Run::new(seed, false);
        run.cluster.keep_snapshots = true;
        for _ in 0..12 {
            let events = run.dice.below(120);
            run.go(events);
            check_against_live(&run.cluster);
            check_sums(&run.cluster.core);
            check_recovery(&run.cluster, run.cluster.durable_facts());
            let snapshot = if run.cluster.core.held_effects() == 0
                && run.cluster.persisted == run.cluster.facts.len()
            {
                Some(run.cluster.core.snapshot().into_facts())
            } else {
                None
            };
            if let Some(snapshot) = snapshot {
                let now = proffer_model::Timestamp(run.cluster.now);
                let config = run.cluster.config.clone();
                let again = proffer_core::Core::recover(config, snapshot.clone(), now).unwrap();
                let from_facts = check_recovery(&run.cluster, run.cluster.durable_facts());
                assert_eq!(
                    durable_view(&again),
                    durable_view(&from_facts),
                    "seed {seed}"
                );
                run.cluster.restart_from(snapshot);
            } else {
                run.cluster.restart();
            }
            check_policies(&run.cluster.base, &run.cluster.core);
            run.forget_untaken();
            run.host_begins();
        }
    }
}
