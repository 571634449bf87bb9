//! Every policy as a component decides as it does natively: both are driven with the same random
//! changes and cycles, and must answer alike, to the last grant.

use std::cell::RefCell;
use std::time::Duration;

use proffer_model::policy::{
    Changes, Cycle, Feeds, Finding, Noun, Place, Proposal, Question, Section, TERMS_PLAIN,
};
use proffer_plugin::{
    Kind, LoadedPlugin, PluginHost, PluginHostConfig, PolicyHandle, PolicyLimits, PolicyOutcome,
};
use proffer_policy::{NativePolicy, Policy, Random, native};
use proffer_tests::guests;
use proffer_weighted_round_robin::WeightedRoundRobin;
use tokio::runtime::Runtime;

use crate::case::Case;
use crate::scene::Scene;

/// Rows of changes that each policy is fed, unless this variable names another number: enough for
/// everything that a scene has to come up. A million takes two minutes each.
const CHANGES: u64 = 4_000;
const CHANGES_VARIABLE: &str = "PROFFER_DIFFERENTIAL_CHANGES";
/// In each history. An instance is made for every history.
const CYCLES: u32 = 8;

/// Policies, and the configurations that histories alternate between.
const POLICIES: [(&str, &[&str]); 7] = [
    ("binpack", &["", WHOLE]),
    ("drf", &["", WHOLE, r#"{"fair-exclude":["mem"]}"#]),
    ("fragmentation", &["", WHOLE, r#"{"kind":"mem"}"#]),
    (
        "priority",
        &[
            r#"{"priorities":["eng:2","eng/b:7","*:-3"]}"#,
            r#"{"priorities":["ops:1"],"demand":"ignore"}"#,
        ],
    ),
    ("spread", &["", WHOLE]),
    (
        "static",
        &["", r#"{"partitions":["eng:3","ops:1","*=agent1"]}"#, WHOLE],
    ),
    ("weighted-round-robin", &["", WHOLE]),
];
const WHOLE: &str = r#"{"demand":"ignore"}"#;

fn made(name: &str) -> NativePolicy {
    match name {
        "weighted-round-robin" => Box::new(WeightedRoundRobin::default()),
        name => native(name).unwrap(),
    }
}

#[test]
fn every_shipped_policy_is_compared() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/policies");
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let shipped = entries.filter(|entry| entry.path().join("Cargo.toml").is_file());
    let mut shipped: Vec<_> = shipped
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    shipped.sort_unstable();
    assert_eq!(POLICIES.map(|(name, _)| name).to_vec(), shipped);
}

#[test]
fn components_decide_as_native_policies_do() {
    let changes = match std::env::var(CHANGES_VARIABLE) {
        Ok(number) => number.parse().expect("a number of changes"),
        Err(_) => CHANGES,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let host = PluginHost::new(PluginHostConfig::default()).unwrap();
    for (name, configs) in POLICIES {
        let Some(component) = guests::component(&format!("plugins/policies/{name}")) else {
            return;
        };
        let bytes = std::fs::read(component).unwrap();
        let loaded = runtime.block_on(host.load(bytes, Kind::Policy)).unwrap();
        let (mut fed, mut granted, mut histories) = (0, 0, 0);
        while fed < changes {
            let config = configs[histories as usize % configs.len()];
            let pair = Pair::new((&host, &loaded, &runtime), name, config);
            let (rows, grants) = run_history(Case::with(pair, config), histories);
            fed += rows;
            granted += grants;
            histories += 1;
        }
        println!("{name}: {fed} changes in {histories} histories, {granted} grants alike");
        assert!(
            granted as u64 > fed / 20,
            "{name}: only {granted} grants in all"
        );
    }
}

/// A random pool, and a random life of it. Answers how many rows of changes and grants there were.
fn run_history(mut case: Case<Pair<'_>>, seed: u64) -> (u64, usize) {
    let mut random = Random::new(seed);
    let scene = [Scene::Rich, Scene::Plain][usize::from(seed.is_multiple_of(3))];
    scene.describe(&mut case, &mut random);
    let mut granted = 0;
    for cycle in 0..CYCLES {
        case.seed = random.number();
        case.now += 1_000;
        let proposal = case.decide_over(None, [u32::MAX, 3][random.below(2) as usize]);
        granted += proposal.grants.len();
        if random.below(4) > 0 {
            case.commit(&proposal);
        }
        change(&mut case, &mut random, cycle);
        let clients = u32::try_from(case.clients.len()).unwrap();
        case.explain(random.below(clients + 1));
        case.policy.places();
    }
    let sections = case.policy.carry();
    case.policy.adopt(&sections).unwrap();
    case.policy.places();
    (case.policy.rows, granted)
}

/// Something happens to the pool.
fn change(case: &mut Case<Pair<'_>>, random: &mut Random, cycle: u32) {
    let clients = u32::try_from(case.clients.len()).unwrap();
    let agents = u32::try_from(case.agents.len()).unwrap();
    match random.below(8) {
        0 => case.release_all(),
        1 => {
            case.agent(&format!("late{cycle}"), "cpus:4;mem:2048;ports:[1-9]");
        }
        2 => {
            let client = random.below(clients);
            case.wants(client, &format!("late{cycle}"), "cpus:1;mem:64", 9);
        }
        3 => {
            let filter = case.refuse(
                random.below(clients),
                random.below(agents),
                TERMS_PLAIN,
                "cpus:6;mem:4096",
            );
            if random.below(2) == 0 {
                case.remove(Noun::Filter, filter);
            }
        }
        4 => {
            let name = case.clients[random.below(clients) as usize].clone();
            case.client_with("eng/b", &name, |client| {
                client.marks.suppressed = random.below(2) == 0;
            });
        }
        5 => {
            let role = ["eng", "eng/b", "ops"][random.below(3) as usize];
            let limit = ["cpus:9;mem:9000", "cpus:3"][random.below(2) as usize];
            case.quota(role, "cpus:2;mem:128", Some(limit));
        }
        6 => {
            case.client(
                ["ops", "new/role"][random.below(2) as usize],
                &format!("late{cycle}"),
            );
        }
        _ => {
            let place = (random.below(agents), random.below(clients));
            let held = (
                TERMS_PLAIN,
                ["cpus:1;mem:128", "cpus:3"][random.below(2) as usize],
            );
            let task = case.task(place, held, (random.below(3) as i32, case.now));
            if random.below(3) == 0 {
                case.remove(Noun::Task, random.below(task + 1));
            }
        }
    }
}

/// Two policies that must answer alike.
struct Pair<'a> {
    native: NativePolicy,
    component: PolicyHandle,
    runtime: &'a Runtime,
    /// Not yet fed to the component, which is fed with the next cycle.
    fed: RefCell<Vec<Changes>>,
    /// Of changes that both were fed.
    rows: u64,
}

impl<'a> Pair<'a> {
    fn new(
        (host, loaded, runtime): (&PluginHost, &LoadedPlugin, &'a Runtime),
        name: &str,
        config: &str,
    ) -> Self {
        let mut limits = PolicyLimits::default();
        // What a busy machine takes away counts as the policy's: here only the answers matter.
        limits.cycle.cpu = Duration::from_secs(10);
        let spawned = host.spawn_policy(loaded.clone(), limits, config);
        let (component, _) = runtime.block_on(spawned).unwrap();
        Self {
            native: made(name),
            component,
            runtime,
            fed: RefCell::default(),
            rows: 0,
        }
    }
}

impl Policy for Pair<'_> {
    fn configure(&mut self, config: &str) -> Result<Feeds, String> {
        self.native.configure(config)
    }

    fn apply(&mut self, changes: &Changes) {
        self.native.apply(changes);
        self.rows += rows(changes);
        self.fed.get_mut().push(changes.clone());
    }

    fn decide(&mut self, cycle: &Cycle) -> Proposal {
        let native = self.native.decide(cycle);
        let changes = self.fed.take();
        let PolicyOutcome { result, .. } = self
            .runtime
            .block_on(self.component.cycle(changes, cycle.clone()));
        assert_eq!(result.unwrap(), native);
        native
    }

    fn explain(&self, question: &Question) -> Vec<Finding> {
        let native = self.native.explain(question);
        let changes = self.fed.take();
        self.runtime
            .block_on(self.component.apply(changes))
            .unwrap();
        let component = self.component.explain(question.clone());
        assert_eq!(self.runtime.block_on(component).unwrap(), native);
        native
    }

    fn places(&self) -> Vec<Place> {
        let native = self.native.places();
        let component = self.runtime.block_on(self.component.places());
        assert_eq!(component.unwrap(), native);
        native
    }

    fn carry(&self) -> Vec<Section> {
        let native = self.native.carry();
        let component = self.runtime.block_on(self.component.carry());
        assert_eq!(component.unwrap(), native);
        native
    }

    fn adopt(&mut self, sections: &[Section]) -> Result<Vec<String>, String> {
        let native = self.native.adopt(sections);
        let component = self.component.adopt(sections.to_vec());
        assert_eq!(Ok(self.runtime.block_on(component).unwrap()), native);
        native
    }
}

fn rows(changes: &Changes) -> u64 {
    let rows = changes.removed.len()
        + changes.agents.len()
        + changes.roles.len()
        + changes.clients.len()
        + changes.masks.mask.len()
        + changes.totals.agent.len()
        + changes.cells.agent.len()
        + changes.demands.len()
        + changes.filters.handle.len()
        + changes.tasks.handle.len();
    rows as u64
}
