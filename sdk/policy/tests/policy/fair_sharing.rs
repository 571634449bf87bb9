//! What an author writes: fair sharing of processors in under a hundred lines, tests included.
//!
//! Who holds the fewest cpus comes next. The cluster, demand, filters, reservations, gangs and
//! `explain` come with [`Modelled`].

use proffer_model::policy::{NONE, Place, kind};
use proffer_policy::{Cluster, Decision, Draft, Modelled};

use crate::case::Case;
use crate::scene::Scene;
use crate::starvation::nobody_starves;

/// Whoever holds the fewest cpus comes next.
#[derive(Default)]
struct FewestCpus;

impl Decision for FewestCpus {
    fn decide(&mut self, draft: &mut Draft<'_>) {
        let mut held: Vec<(i64, u32)> = in_order(draft.cluster());
        while draft.next_agent().is_some() {
            let mut passed = Vec::new();
            while !draft.is_exhausted()
                && let Some(next) = (held.iter_mut())
                    .filter(|(_, client)| !passed.contains(client))
                    .min()
            {
                match draft.serve(next.1, 0) {
                    Ok(_) => {
                        let cpus = draft.gained().iter().find(|gained| gained.0 == kind::CPUS);
                        next.0 += cpus.map_or(0, |cpus| cpus.1);
                    }
                    Err(_) => passed.push(next.1),
                }
            }
        }
    }

    fn places(&self, cluster: &Cluster) -> Vec<Place> {
        let place = |(held, client): (i64, u32)| Place {
            role: cluster.client(client).map_or(NONE, |row| row.client.role),
            client,
            active: true,
            share_micro: held.unsigned_abs(),
            count: 0,
        };
        in_order(cluster).into_iter().map(place).collect()
    }
}

/// Cpus held, and by whom: fewest first.
fn in_order(cluster: &Cluster) -> Vec<(i64, u32)> {
    let clients = cluster.clients();
    let mut held: Vec<(i64, u32)> = clients
        .map(|row| (row.held(kind::CPUS), row.client.handle))
        .collect();
    held.sort_unstable();
    held
}

#[test]
fn whoever_holds_less_catches_up() {
    let mut case = Case::with(Modelled::new(FewestCpus), "");
    let (rich, poor) = (case.client("*", "rich"), case.client("*", "poor"));
    let a = case.agent("a", "cpus:4;mem:1024");
    case.agent("b", "cpus:4;mem:1024");
    case.hold(a, rich, 0, kind::CPUS, (0, 2_000, 0));
    case.wants(rich, "r", "cpus:1", 9);
    case.wants(poor, "p", "cpus:1", 9);
    let words = case.step();
    let of = |name: &str| -> u32 {
        let own = words.iter().filter(|line| line.contains(name));
        own.map(|line| line[line.len() - 1..].parse::<u32>().unwrap())
            .sum()
    };
    // Six were free, two were held: four each.
    assert_eq!((of("rich"), of("poor")), (2, 4), "{words:?}");
    assert_eq!(case.explain(rich)[0].why.code, "no-fit");
}

#[test]
fn a_setting_that_nobody_knows_is_refused() {
    use proffer_policy::Policy;
    let error = Modelled::new(FewestCpus)
        .configure(r#"{"weights":[]}"#)
        .unwrap_err();
    assert!(
        error.starts_with("there is no setting 'weights'"),
        "{error}"
    );
}

/// Random pools in which nobody starves.
const SEEDS: u64 = 150;

#[test]
fn fair_policies_starve_nobody() {
    for name in ["drf", "binpack", "spread", "fragmentation"] {
        let served: usize = (0..SEEDS)
            .map(|seed| {
                let case = Case::named(name, "");
                nobody_starves(case, seed, Scene::Plain)
                    .unwrap_or_else(|why| panic!("{name}, seed {seed}: {why}"))
            })
            .sum();
        assert!(
            served > SEEDS as usize,
            "{name}: only {served} were to be served"
        );
    }
}
