//! The reference policy as a component decides as it does natively: both are driven with the same
//! random changes and cycles, and must answer alike, to the last grant.

#[path = "../../../sdk/policy/tests/policy/case.rs"]
#[expect(dead_code, reason = "the policy's own tests use the rest of it")]
mod case;
#[path = "../../../sdk/policy/tests/policy/scene.rs"]
mod scene;

use std::cell::RefCell;

use proffer_model::policy::{
    Changes, Cycle, Feeds, Finding, Noun, Place, Proposal, Question, Section, TERMS_PLAIN,
};
use proffer_plugin::{
    Kind, PluginHost, PluginHostConfig, PolicyHandle, PolicyLimits, PolicyOutcome,
};
use proffer_policy::{Drf, Policy, Random};
use proffer_tests::guests;
use tokio::runtime::Runtime;

use case::Case;
use scene::Scene;

/// Histories, and cycles in each. An instance is made for every history.
const HISTORIES: u64 = 60;
const CYCLES: u32 = 8;

#[test]
fn the_component_decides_as_the_native_policy_does() {
    let Some(component) = guests::component("plugins/policies/drf") else {
        return;
    };
    let bytes = std::fs::read(component).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let host = PluginHost::new(PluginHostConfig::default()).unwrap();
    let loaded = runtime.block_on(host.load(bytes, Kind::Policy)).unwrap();
    let mut granted = 0;
    for seed in 0..HISTORIES {
        let config = ["", r#"{"demand":"ignore"}"#][(seed % 2) as usize];
        let spawned = host.spawn_policy(loaded.clone(), PolicyLimits::default(), config);
        let (handle, _) = runtime.block_on(spawned).unwrap();
        let pair = Pair {
            native: Drf::default(),
            component: handle,
            runtime: &runtime,
            fed: RefCell::default(),
        };
        granted += run_history(Case::with(pair, config), seed);
    }
    assert!(granted > 500, "only {granted} grants in all");
}

/// A random pool, and a random life of it. Answers how many grants there were.
fn run_history(mut case: Case<Pair<'_>>, seed: u64) -> usize {
    let mut random = Random::new(seed);
    let scene = [Scene::Rich, Scene::Plain][usize::from(seed.is_multiple_of(3))];
    scene.describe(&mut case, &mut random);
    let mut granted = 0;
    for cycle in 0..CYCLES {
        case.seed = random.number();
        case.now += 1_000;
        let proposal = case.decide_over(None, [u32::MAX, 3][random.below(2) as usize]);
        granted += proposal.grants.len();
        let clients = u32::try_from(case.clients.len()).unwrap();
        let agents = u32::try_from(case.agents.len()).unwrap();
        if random.below(4) > 0 {
            case.commit(&proposal);
        }
        match random.below(6) {
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
            _ => {}
        }
        case.explain(random.below(clients + 1));
        case.policy.places();
    }
    let sections = case.policy.carry();
    case.policy.adopt(&sections).unwrap();
    case.policy.places();
    granted
}

/// Two policies that must answer alike.
struct Pair<'a> {
    native: Drf,
    component: PolicyHandle,
    runtime: &'a Runtime,
    /// Not yet fed to the component, which is fed with the next cycle.
    fed: RefCell<Vec<Changes>>,
}

impl Policy for Pair<'_> {
    fn configure(&mut self, config: &str) -> Result<Feeds, String> {
        self.native.configure(config)
    }

    fn apply(&mut self, changes: &Changes) {
        self.native.apply(changes);
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
