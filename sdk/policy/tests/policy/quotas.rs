//! Ceilings and floors, under every policy, in random pools.

use std::collections::BTreeMap;

use proffer_model::RevocableUse;
use proffer_model::policy::TermsMarks;
use proffer_policy::{NativePolicy, Random, native_names};

use crate::case::Case;

const SEEDS: u64 = 400;
const ROLES: [&str; 5] = ["eng", "eng/a", "eng/b", "ops", "free"];

#[test]
fn what_a_limit_leaves_out_is_taken_from_what_it_does_not_count() {
    let mut case = Case::new();
    let marks = TermsMarks {
        revocable: true,
        ..TermsMarks::default()
    };
    let revocable = case.terms(&[], marks);
    let a = case.agent("a", "cpus:10");
    case.more(a, revocable, "cpus:10");
    case.quota("eng", "", Some("cpus:2"));
    let f1 = case.client_with("eng", "f1", |client| client.marks.revocable = true);
    case.demand_with(f1, "d", "cpus:1", 12, |demand| {
        demand.revocable = RevocableUse::Also;
    });
    assert_eq!(case.step(), ["a f1 cpus:2;cpus(1):10"]);
}

#[test]
fn a_parents_own_have_nothing_of_what_a_sub_role_is_guaranteed() {
    let mut case = Case::new();
    case.agent("a", "cpus:6");
    case.quota("eng", "cpus:5", None);
    case.quota("eng/a", "cpus:2", None);
    let own = case.client("eng", "own");
    case.wants(own, "w", "cpus:1", 9);
    // Three of eng's five, and the sixth, which is nobody's.
    assert_eq!(case.step(), ["a own cpus:4"]);
}

#[test]
fn a_gang_is_within_its_limit_as_a_whole() {
    for (shape, limit, expected) in [
        ("cpus:2", "cpus:2", 0),
        ("cpus:2", "cpus:3", 0),
        ("cpus:2", "cpus:4", 2),
        // Whole agents.
        ("", "cpus:2;mem:100", 0),
        ("", "cpus:4;mem:200", 2),
    ] {
        let mut case = Case::new();
        for name in ["a", "b"] {
            case.agent(name, "cpus:2;mem:100");
        }
        case.quota("eng", "", Some(limit));
        let f1 = case.client("eng", "f1");
        case.demand_with(f1, "d", shape, 2, |demand| demand.gang = 2);
        let words = case.step();
        assert_eq!(words.len(), expected, "{shape} of {limit}: {words:?}");
    }
}

/// A role's guarantee and limit, in processors.
type Quotas = BTreeMap<&'static str, (i64, Option<i64>)>;

#[test]
fn limits_hold_and_guarantees_are_kept_room_for() {
    for name in native_names() {
        let (mut granted, mut bound) = (0, 0);
        for seed in 0..SEEDS {
            let mut random = Random::new(seed);
            let mut case = Case::named(name, ["", r#"{"demand":"ignore"}"#][(seed % 2) as usize]);
            case.seed = seed;
            let quotas = describe(&mut case, &mut random);
            for cycle in 0..3 {
                let proposal = case.decide();
                case.commit(&proposal);
                granted += proposal.grants.len();
                bound += usize::from(free(&case) > 0);
                check(&case, &quotas)
                    .unwrap_or_else(|why| panic!("{name}, seed {seed}, cycle {cycle}: {why}"));
            }
        }
        assert!(granted > 400, "{name}: only {granted} grants");
        assert!(bound > 100, "{name}: quota kept hardly anything: {bound}");
    }
}

fn describe(case: &mut Case<NativePolicy>, random: &mut Random) -> Quotas {
    let agents = 2 + random.below(4);
    let mut cpus = 0;
    for index in 0..agents {
        let own = i64::from(2 + random.below(8));
        cpus += own;
        case.agent(&format!("agent{index}"), &format!("cpus:{own};mem:4000"));
    }
    let mut quotas = Quotas::new();
    // What all are guaranteed is there, and what the children are is within their parent's.
    let mut unpromised = cpus;
    for role in ["eng", "ops"] {
        let guarantee = i64::from(random.below(u32::try_from(unpromised / 2 + 1).unwrap()));
        unpromised -= guarantee;
        let limit = guarantee + 1 + i64::from(random.below(6));
        quotas.insert(role, (guarantee, (random.below(2) == 0).then_some(limit)));
    }
    let (eng, limit) = quotas["eng"];
    quotas.insert("eng/a", (eng / 2, limit.map(|limit| limit.max(1) / 2 + 1)));
    for (role, (guarantee, limit)) in &quotas {
        let limit = limit.map(|limit| format!("cpus:{limit}"));
        case.quota(role, &format!("cpus:{guarantee}"), limit.as_deref());
    }
    for (number, role) in ROLES.iter().enumerate() {
        let client = case.client(role, &format!("client{number}"));
        let shape = format!("cpus:{};mem:1", 1 + random.below(2));
        let gang = [0, 0, 2, 3][random.below(4) as usize];
        case.demand_with(client, role, &shape, random.below(12), |demand| {
            demand.gang = gang;
        });
    }
    quotas
}

/// Processors that nobody holds.
fn free(case: &Case<NativePolicy>) -> i64 {
    let agents = 0..u32::try_from(case.agents.len()).unwrap();
    agents.map(|agent| case.unheld(agent, 0, 0)).sum()
}

/// What a role and those below it hold.
fn consumed(case: &Case<NativePolicy>, role: &str) -> i64 {
    let within = |client: u32| {
        let own = ROLES[client as usize];
        own == role || own.starts_with(&format!("{role}/"))
    };
    let cells = case.held.iter();
    let own = cells.filter(|((_, client, _, kind), _)| *kind == 0 && within(*client));
    own.map(|(_, (offered, used, _))| offered + used).sum()
}

fn check(case: &Case<NativePolicy>, quotas: &Quotas) -> Result<(), String> {
    let mut unmet = 0;
    for (role, (guarantee, limit)) in quotas {
        let consumed = consumed(case, role);
        if let Some(limit) = limit
            && consumed > limit * 1_000
        {
            return Err(format!("{role} holds {consumed} of at most {limit}"));
        }
        if !role.contains('/') {
            unmet += (guarantee * 1_000 - consumed).max(0);
        }
    }
    match free(case) {
        free if free < unmet => Err(format!("{free} are free and {unmet} are guaranteed")),
        _ => Ok(()),
    }
}
