//! What holds of every proposal, on random pools.

use std::collections::BTreeMap;

use proffer_model::RevocableUse;
use proffer_model::policy::{Changes, ChangesPart, Proposal, TERMS_PLAIN};
use proffer_policy::{Drf, Policy, Random, native_names};

use crate::case::{Case, CellKey};
use crate::scene::Scene;

/// Seeds that are tried; a failure names its own.
const SEEDS: u64 = 3_000;

#[test]
fn proposals_keep_to_what_is_free_and_demanded() {
    for name in native_names() {
        let seeds = if name == "drf" { SEEDS } else { SEEDS / 4 };
        let mut granted = 0;
        for seed in 0..seeds {
            let mut random = Random::new(seed);
            let mut case = Case::named(name, CONFIGS[(seed % 3) as usize](name));
            case.seed = seed;
            Scene::Rich.describe(&mut case, &mut random);
            let pool = case.pending.clone();
            let proposal = case.decide();
            granted += proposal.grants.len();
            check(&case, &pool, &proposal)
                .unwrap_or_else(|why| panic!("{name}, seed {seed}: {why}"));
            // Every grant committed, the next proposal must keep to what is left.
            case.commit(&proposal);
            let next = case.decide();
            check(&case, &pool, &next)
                .unwrap_or_else(|why| panic!("{name}, seed {seed}, then: {why}"));
        }
        assert!(
            granted > seeds as usize / 2,
            "{name}: only {granted} grants in all"
        );
    }
}

/// Configurations that are tried in turn.
const CONFIGS: [fn(&str) -> &str; 3] = [
    |_| "",
    |_| r#"{"fair-exclude":["mem"]}"#,
    |name| match name {
        "priority" => r#"{"priorities":["eng:2","eng/b:7","*:-3"]}"#,
        "static" => r#"{"partitions":["eng:3","ops:1","eng/b=agent4"]}"#,
        "fragmentation" => r#"{"kind":"mem"}"#,
        _ => "",
    },
];

#[test]
fn one_history_gives_one_proposal_however_it_is_fed() {
    for seed in 0..SEEDS / 10 {
        let mut random = Random::new(seed);
        let mut case = Case::new();
        Scene::Rich.describe(&mut case, &mut random);
        let whole = case.pending.clone();
        let wanted = case.decide();
        // The same in parts, with rows that come twice and the columns backwards.
        let mut parts = Drf::default();
        parts.configure("").unwrap();
        let mut first = whole.clone();
        first.part = ChangesPart::Snapshot;
        first.totals.agent.reverse();
        first.totals.terms.reverse();
        first.totals.kind.reverse();
        first.totals.total.reverse();
        first.demands.reverse();
        parts.apply(&first);
        parts.apply(&whole);
        let mut other = Case::with(parts, "");
        other.pending = Changes::default();
        assert_eq!(other.decide(), wanted, "seed {seed}");
    }
}

#[test]
fn after_another_snapshot_nothing_of_the_first_is_left() {
    for name in native_names() {
        let config = CONFIGS[2](name);
        for seed in 0..SEEDS / 40 {
            let mut random = Random::new(seed);
            let mut old = Case::named(name, config);
            Scene::Rich.describe(&mut old, &mut random);
            old.decide();
            let mut new = Case::named(name, config);
            Scene::Rich.describe(&mut new, &mut random);
            let snapshot = new.pending.clone();
            let wanted = new.decide();
            let mut again = Case::with(old.policy, config);
            again.pending = snapshot;
            assert_eq!(again.decide(), wanted, "{name}, seed {seed}");
        }
    }
}

#[test]
fn malformed_changes_are_left_out_and_counted() {
    let names: Vec<&str> = native_names().collect();
    for seed in 0..SEEDS / 2 {
        let mut random = Random::new(seed);
        let name = names[random.below(6) as usize];
        let mut case = Case::named(name, CONFIGS[2](name));
        Scene::Rich.describe(&mut case, &mut random);
        spoil(&mut case.pending, &mut random);
        let proposal = case.decide();
        case.policy.explain(&proffer_model::policy::Question {
            client: random.below(8),
            demand: random.below(8),
            agents: (0..9).collect(),
        });
        case.policy.places();
        drop(proposal);
    }
    let mut case = Case::new();
    case.agent("a", "cpus:1");
    case.pending.cells.agent.push(0);
    case.decide();
    assert_eq!(case.policy.cluster().ignored(), 1);
}

/// Handles that nobody knows, columns of unequal length, amounts below nothing.
fn spoil(changes: &mut Changes, random: &mut Random) {
    let wild = |random: &mut Random| [7, 77, 70_000, u32::MAX][random.below(4) as usize];
    for column in [
        &mut changes.cells.agent,
        &mut changes.cells.client,
        &mut changes.cells.terms,
        &mut changes.cells.kind,
        &mut changes.totals.terms,
        &mut changes.totals.kind,
        &mut changes.masks.mask,
        &mut changes.filters.client,
        &mut changes.filters.agent,
        &mut changes.filters.pieces,
        &mut changes.filters.kind,
    ] {
        match random.below(12) {
            0 => column.push(0),
            1 if !column.is_empty() => {
                let index = random.below(u32::try_from(column.len()).unwrap());
                column[index as usize] = wild(random);
            }
            _ => {}
        }
    }
    for role in &mut changes.roles {
        if random.below(4) == 0 {
            role.parent = [role.handle, wild(random), random.below(6)][random.below(3) as usize];
            role.weight = proffer_model::Amount::from_milli(-1);
        }
    }
    for client in &mut changes.clients {
        if random.below(6) == 0 {
            client.role = wild(random);
        }
    }
    for demand in &mut changes.demands {
        if random.below(4) == 0 {
            demand.client = wild(random);
            demand.mask = wild(random);
            demand.near.push((wild(random), u32::MAX));
        }
        for piece in &mut demand.pieces {
            match random.below(8) {
                0 => piece.kind = wild(random),
                1 => piece.terms = wild(random),
                2 => piece.amount = proffer_model::Amount::from_milli(i64::MAX),
                _ => {}
            }
        }
    }
    for total in &mut changes.totals.total {
        match random.below(20) {
            0 => *total = i64::MAX,
            1 => *total = -5,
            _ => {}
        }
    }
    for offered in &mut changes.cells.offered {
        if random.below(10) == 0 {
            *offered = i64::MAX;
        }
    }
}

fn check<P: Policy>(case: &Case<P>, pool: &Changes, proposal: &Proposal) -> Result<(), String> {
    let rows = case.amounts(proposal);
    let mut taken: BTreeMap<(u32, u32, u32), i64> = BTreeMap::new();
    let mut units: BTreeMap<u32, u32> = BTreeMap::new();
    let mut here: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    let mut gangs: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
    for (row, amounts) in rows.iter().enumerate() {
        check_row(case, pool, proposal, (row, amounts), &mut taken)?;
        let (agent, demand) = (proposal.grants.agent[row], proposal.grants.demand[row]);
        let granted = case.units_of(proposal, row);
        if granted == 0 {
            return Err(format!("row {row} grants less than a unit"));
        }
        *units.entry(demand).or_default() += granted;
        *here.entry((demand, agent)).or_default() += granted;
        if proposal.grants.gang[row] > 0 {
            let gang = gangs.entry(proposal.grants.gang[row]).or_default();
            *gang = (demand, gang.1 + granted);
        }
    }
    for demand in &case.demands() {
        let granted = units.get(&demand.handle).copied().unwrap_or(0);
        if granted > demand.count.saturating_sub(demand.offered) {
            return Err(format!("{granted} units of demand {}", demand.handle));
        }
        let most = here.iter().filter(|((of, _), _)| *of == demand.handle);
        let most = most.map(|(_, units)| *units).max().unwrap_or(0);
        if demand.per_agent > 0 && most > demand.per_agent {
            return Err(format!("{most} units of demand {} here", demand.handle));
        }
        if demand.gang > 1 && granted % demand.gang != 0 {
            return Err(format!("{granted} units of a gang of {}", demand.gang));
        }
    }
    for (gang, (demand, granted)) in gangs {
        let demand = case.demand(demand).ok_or("a gang without demand")?;
        if granted != demand.gang {
            return Err(format!("gang {gang} has {granted} of {}", demand.gang));
        }
    }
    Ok(())
}

fn check_row<P: Policy>(
    case: &Case<P>,
    pool: &Changes,
    proposal: &Proposal,
    (row, amounts): (usize, &Vec<(CellKey, i64)>),
    taken: &mut BTreeMap<(u32, u32, u32), i64>,
) -> Result<(), String> {
    let grants = &proposal.grants;
    let (agent, client) = (
        grants.agent[row],
        &pool.clients[grants.client[row] as usize],
    );
    let demand = case.demand(grants.demand[row]).ok_or("no demand")?;
    let marks = client.marks;
    if !pool.agents[agent as usize].active || !marks.active || marks.suppressed {
        return Err(format!("row {row} is for whom or where it may not be"));
    }
    if demand.client != client.handle {
        return Err(format!("row {row} names another client's demand"));
    }
    for mask in [client.mask, demand.mask] {
        let mut rows = pool.masks.mask.iter().zip(&pool.masks.agent);
        if mask != 0 && !rows.any(|row| row == (&mask, &agent)) {
            return Err(format!("row {row} is outside of mask {mask}"));
        }
    }
    if case.now < demand.near_until.0
        && !demand.near.is_empty()
        && demand.near.iter().all(|near| near.0 != agent)
    {
        return Err(format!("row {row} is not where the demand would rather be"));
    }
    for &((_, _, terms, kind), amount) in amounts {
        let free = case.free(agent, client.handle, terms, kind);
        let sum = taken.entry((agent, terms, kind)).or_default();
        *sum += amount;
        // What is kept is kept for somebody, so all together may have it.
        if amount <= 0 || amount > free || *sum > case.unheld(agent, terms, kind) {
            return Err(format!("row {row} takes {amount} of {free}, {sum} in all"));
        }
        let revocable = terms == 3;
        if (revocable && (!marks.revocable || demand.revocable == RevocableUse::Never))
            || (!revocable && demand.revocable == RevocableUse::Only)
        {
            return Err(format!("row {row}: revocable is {revocable}"));
        }
        if !case.may(client.handle, terms) {
            return Err(format!("row {row} takes what is reserved to others"));
        }
    }
    check_filters(pool, (row, agent, client.handle), amounts)
}

fn check_filters(
    pool: &Changes,
    (row, agent, client): (usize, u32, u32),
    amounts: &[(CellKey, i64)],
) -> Result<(), String> {
    let filters = &pool.filters;
    let mut next = 0;
    for filter in 0..filters.handle.len() {
        let end = next + filters.pieces[filter] as usize;
        let refused: BTreeMap<(u32, u32), i64> = (next..end)
            .map(|at| ((filters.terms[at], filters.kind[at]), filters.amount[at]))
            .collect();
        next = end;
        let within = amounts.iter().all(|((_, _, terms, kind), amount)| {
            refused
                .get(&(*terms, *kind))
                .is_some_and(|refused| amount <= refused)
        });
        if within && (filters.agent[filter], filters.client[filter]) == (agent, client) {
            return Err(format!("row {row} was refused"));
        }
    }
    Ok(())
}

#[test]
fn what_a_policy_carries_its_successor_goes_on_with() {
    let mut case = Case::configured(r#"{"demand":"ignore"}"#);
    for name in ["a\tb", "b\\", "c\n"] {
        case.client("eng/x", name);
    }
    case.client("eng", "own");
    case.agent("a", "cpus:4");
    let snapshot = case.pending.clone();
    let mut last = Vec::new();
    for _ in 0..5 {
        last = case.step();
        case.release_all();
    }
    case.decide();
    let sections = case.policy.carry();
    let mut successor = Case::with(Drf::default(), r#"{"demand":"ignore"}"#);
    successor.policy.apply(&snapshot);
    assert_eq!(
        successor.policy.adopt(&sections),
        Ok(vec!["usage".to_owned()])
    );
    let counts = |policy: &Drf| -> Vec<(u32, u64)> {
        let places = policy.places();
        let clients = places.iter().filter(|place| place.client < 4);
        let mut counts: Vec<_> = clients.map(|place| (place.client, place.count)).collect();
        counts.sort_unstable();
        counts
    };
    assert_eq!(counts(&successor.policy), counts(&case.policy));
    assert_eq!(last.len(), 1);
    let mut broken = sections;
    broken[0].data = b"client\teng".to_vec();
    successor.policy.adopt(&broken).unwrap_err();
    broken[0].version = 2;
    successor.policy.adopt(&broken).unwrap_err();
    assert_eq!(successor.policy.adopt(&[]), Ok(vec![]));
    assert_eq!(counts(&successor.policy), counts(&case.policy));
}

#[test]
fn settings_are_checked_by_name() {
    let mut policy = Drf::default();
    for good in [
        "",
        "{}",
        r#"{"demand":"honour","minimum":["cpus:1;mem:64"],"gpu-guard":false,"region":"r","fair-exclude":["gpus"]}"#,
    ] {
        let feeds = policy.configure(good).unwrap();
        assert!(feeds.filters && feeds.demands && !feeds.tasks);
    }
    for (bad, part) in [
        (
            r#"{"demands":"ignore"}"#,
            "no setting 'demands'; there are demand, fair-exclude",
        ),
        (r#"{"demand":true}"#, "\"honour\" or \"ignore\""),
        (r#"{"minimum":["cpus"]}"#, "there is no ':'"),
        (r#"{"gpu-guard":"no"}"#, "true or false"),
        (r#"{"fair-exclude":"gpus"}"#, "list of kinds"),
        (r#"{"region":["x"]}"#, "is a text"),
    ] {
        let error = policy.configure(bad).unwrap_err();
        assert!(error.contains(part), "{bad}: {error}");
    }
    // The last good config stands.
    assert_eq!(policy.rules().region, "r");
}

#[test]
fn a_proposal_of_whole_agents_names_no_pieces() {
    let mut case = Case::configured(r#"{"demand":"ignore"}"#);
    case.client("*", "f");
    let a = case.agent("a", "cpus:4");
    let proposal = case.decide();
    assert_eq!(proposal.grants.pieces, [0]);
    assert_eq!(case.free(a, 0, TERMS_PLAIN, 0), 4_000);
}
