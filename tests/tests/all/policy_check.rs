//! Scenarios replayed through the real core: the reference policy passes, natively and as a
//! component; and what is wrong, in a scenario or in a policy, is said with its place.

use std::path::{Path, PathBuf};

use proffer_check::{Component, Native, Seats, Verdict, offers, read, replay};
use proffer_model::policy::{Changes, Cycle, Feeds, Finding, Place, Proposal, Question, Section};
use proffer_policy::{Drf, Policy};
use proffer_tests::guests;

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// What failed, in words.
fn failures(path: &Path, seats: &mut dyn Seats) -> Vec<String> {
    let mut failures = Vec::new();
    for (_, scenario) in read(path).unwrap() {
        match replay(&scenario, seats) {
            Verdict::Passed => {}
            Verdict::Failed(failed) => failures.push(format!("{}: {failed}", scenario.name)),
            Verdict::Unsupported(what) => failures.push(format!("{}: {what}", scenario.name)),
        }
    }
    failures
}

#[test]
fn the_reference_policy_passes_natively() {
    let mut drf = Native::named("drf").unwrap();
    assert_eq!(failures(&scenarios(), &mut drf), Vec::<String>::new());
}

#[test]
fn the_reference_policy_passes_as_a_component() {
    let Some(component) = guests::component("plugins/policies/drf") else {
        return;
    };
    let mut drf = Component::load(&component).unwrap();
    assert_eq!(failures(&scenarios(), &mut drf), Vec::<String>::new());
}

/// Writes one scenario and replays it.
fn replayed(text: &str, seats: &mut dyn Seats) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("one.json");
    std::fs::write(&file, text).unwrap();
    failures(&file, seats)
}

const ONE_AGENT: &str = r#"[{"name": "one/agent", "kind": "allocator", "source": "s", "checks": "c", "steps": [
  {"op": "add_framework", "id": "f", "roles": ["r"]},
  {"op": "add_agent", "id": "a", "resources": {"cpus": 2, "mem": 64}}EXPECT
]}]"#;

#[test]
fn what_differs_is_told_with_its_step() {
    let mut drf = Native::named("drf").unwrap();
    let expect = r#",
  {"op": "expect", "offers": [{"framework": "f", "role": "r", "agent": "a", "resources": {"cpus": 1.5}}]}"#;
    assert_eq!(
        replayed(&ONE_AGENT.replace("EXPECT", expect), &mut drf),
        [
            "one/agent: step 2 (expect): expected f under r on a: cpus:1.5, got f under r on a: cpus:2;mem:64"
        ]
    );
    assert_eq!(
        replayed(&ONE_AGENT.replace("EXPECT", ""), &mut drf),
        [
            "one/agent: the end: expected no offer that no step looked at, got f under r on a: cpus:2;mem:64"
        ]
    );
    let more = r#",
  {"op": "finish", "framework": "f", "role": "r", "agent": "a", "resources": {"cpus": 1}}"#;
    let failed = replayed(&ONE_AGENT.replace("EXPECT", more), &mut drf);
    assert!(
        failed[0].contains("cpus:1 of it is not in use for f"),
        "{failed:?}"
    );
}

#[test]
fn malformed_scenarios_are_refused_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.json");
    for (from, to, line, problem) in [
        (
            "\"op\": \"add_agent\"",
            "\"op\": \"ad_agent\"",
            3,
            "unknown variant `ad_agent`",
        ),
        ("\"id\": \"a\"", "\"idd\": \"a\"", 3, "unknown field `idd`"),
        (
            "{\"cpus\": 2, \"mem\": 64}",
            "7",
            3,
            "amounts by kind, or a list of piles",
        ),
        ("2, \"mem\"", "2.0001, \"mem\"", 3, "at most three decimals"),
        (
            "\"mem\": 64",
            "\"mem\": [[1, 2]]",
            3,
            "mem: wanted a number",
        ),
        (
            "allocator",
            "sorter",
            1,
            "step 0: add_framework is of the other kind",
        ),
        ("\"checks\": \"c\", ", "", 4, "missing field `checks`"),
        ("]}]", "]}", 4, "EOF"),
    ] {
        let text = ONE_AGENT.replace("EXPECT", "").replace(from, to);
        std::fs::write(&file, text).unwrap();
        let error = read(&file).unwrap_err().to_string();
        let place = format!("bad.json:{line}: ");
        assert!(
            error.contains(&place) && error.contains(problem),
            "{to}: {error}"
        );
    }
    assert!(read(&dir.path().join("none")).is_err());
}

#[test]
fn a_scenario_that_needs_what_is_not_offered_is_none_that_passed() {
    let mut drf = Native::named("drf").unwrap();
    let needs = ONE_AGENT
        .replace("\"steps\"", "\"needs\": [\"teleportation\"], \"steps\"")
        .replace("EXPECT", "");
    assert_eq!(replayed(&needs, &mut drf), ["one/agent: teleportation"]);
}

/// The reference policy, which grants everything twice.
#[derive(Default)]
struct Doubled(Drf);

impl Policy for Doubled {
    fn configure(&mut self, config: &str) -> Result<Feeds, String> {
        self.0.configure(config)
    }
    fn apply(&mut self, changes: &Changes) {
        self.0.apply(changes);
    }
    fn decide(&mut self, cycle: &Cycle) -> Proposal {
        let mut proposal = self.0.decide(cycle);
        let grants = &mut proposal.grants;
        for column in [
            &mut grants.agent,
            &mut grants.client,
            &mut grants.demand,
            &mut grants.gang,
            &mut grants.lease,
            &mut grants.pieces,
            &mut grants.terms,
            &mut grants.kind,
        ] {
            column.extend_from_within(..);
        }
        grants.amount.extend_from_within(..);
        proposal
    }
    fn explain(&self, question: &Question) -> Vec<Finding> {
        self.0.explain(question)
    }
    fn places(&self) -> Vec<Place> {
        self.0.places()
    }
    fn carry(&self) -> Vec<Section> {
        self.0.carry()
    }
    fn adopt(&mut self, sections: &[Section]) -> Result<Vec<String>, String> {
        self.0.adopt(sections)
    }
}

#[test]
fn a_policy_that_grants_what_is_taken_fails_by_the_core() {
    let mut doubled = Native::new(|| Box::new(Doubled::default()));
    let failed = replayed(&ONE_AGENT.replace("EXPECT", ""), &mut doubled);
    assert_eq!(failed.len(), 1);
    assert!(
        failed[0].contains("the core refused what the policy proposed"),
        "{failed:?}"
    );
}

#[test]
fn what_policies_offer_is_compared_step_by_step_whatever_is_expected() {
    let file = scenarios().join("pool.json");
    let (mut drf, mut again) = (Native::named("drf").unwrap(), Native::named("drf").unwrap());
    let mut doubled = Native::new(|| Box::new(Doubled::default()));
    let (mut offered, mut stopped) = (0, 0);
    for (_, scenario) in read(&file).unwrap() {
        let one = offers(&scenario, &mut drf);
        assert_eq!(one, offers(&scenario, &mut again), "{}", scenario.name);
        let Some((steps, None)) = one else { continue };
        offered += steps.len();
        let (others, ended) = offers(&scenario, &mut doubled).unwrap();
        // What is granted twice is refused in the step in which there is something to grant.
        if let (Some(first), Some(ended)) = (steps.first(), ended) {
            stopped += 1;
            assert!(ended.step >= Some(first.step), "{}: {ended}", scenario.name);
            assert!(others.len() < steps.len(), "{}", scenario.name);
        }
    }
    assert!(offered > 20 && stopped > 10, "{offered} {stopped}");
}
