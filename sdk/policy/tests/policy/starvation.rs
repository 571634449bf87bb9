//! Nobody who wants what fits waits for ever: with every offer declined, and not made to the same
//! framework there again for a while, each with demand that fits somewhere is offered within two
//! cycles per framework and agent.

use std::collections::{BTreeSet, VecDeque};

use proffer_model::policy::Noun;
use proffer_policy::{Policy, Random};

use crate::case::Case;
use crate::scene::Scene;

/// Runs as many cycles as bring everybody's turn; answers how many clients had one coming.
pub(crate) fn nobody_starves<P: Policy>(
    mut case: Case<P>,
    seed: u64,
    scene: Scene,
) -> Result<usize, String> {
    let mut random = Random::new(seed);
    scene.describe(&mut case, &mut random);
    case.release_all();
    let clients = u32::try_from(case.clients.len()).unwrap();
    // What fits when nobody else is there: asked of explain, with the policy's own predicates.
    let fits = |case: &mut Case<P>, client: u32| {
        let findings = case.explain(client);
        let codes = findings.iter().map(|found| found.why.code.as_ref());
        let mut codes = codes.filter(|code| ["offerable", "turn"].contains(code));
        codes.next().is_some()
    };
    let expected: BTreeSet<u32> = (0..clients).filter(|&one| fits(&mut case, one)).collect();
    let mut served = BTreeSet::new();
    // A filter is of one agent: everybody may be asked everywhere before somebody's turn comes.
    let places = u64::from(clients) * case.agents.len() as u64;
    let cycles = places * 2;
    let mut filters: VecDeque<(u64, u32)> = VecDeque::new();
    for cycle in 0..cycles {
        while let Some(&(_, filter)) = filters.front().filter(|filter| filter.0 <= cycle) {
            filters.pop_front();
            case.remove(Noun::Filter, filter);
        }
        case.seed = seed ^ cycle;
        case.now += 1_000;
        let proposal = case.decide();
        served.extend(proposal.grants.client.iter().copied());
        let declined = case.decline(&proposal);
        filters.extend(declined.map(|filter| (cycle + places, filter)));
        case.commit(&proposal);
        case.release_all();
    }
    let starved: Vec<&u32> = expected.difference(&served).collect();
    match starved.is_empty() {
        true => Ok(expected.len()),
        false => Err(format!("in {cycles} cycles {starved:?} got nothing")),
    }
}
