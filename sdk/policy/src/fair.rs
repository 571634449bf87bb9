//! Fair sharing, and the policies that are made of it: each of them shares by the same order
//! ([`crate::turns`]) and differs in where units go, or in what comes before shares.

mod binpack;
mod fragmentation;
mod partitions;
mod priority;
mod spread;

use std::sync::Arc;

use proffer_model::policy::{Changes, Place, Section};

use crate::cluster::Cluster;
use crate::decision::{Decision, Modelled, Setting, refuse_unknown};
use crate::draft::{Draft, Fence};
use crate::turns::{FAIR_EXCLUDE, Turns, give_out, take_excluded};

pub use binpack::FullestFirst;
pub use fragmentation::LeastFragmenting;
pub use partitions::Partitioned;
pub use priority::StrictPriority;
pub use spread::EmptiestFirst;

/// Dominant resource fairness over roles and frameworks: who holds the smallest part of what it
/// holds most of comes next. Natively the host's last fallback, as a component the default.
///
/// What is granted is what was demanded, a turn's worth at a time, unless the pool's rules say that
/// demand is not looked at: then each agent goes whole to the first who can take it, as in Mesos.
pub type Drf = Modelled<Fair<Anywhere>>;

/// Best fit: the fullest agent that a demand fits on, so that whole agents stay free.
pub type Binpack = Modelled<Fair<FullestFirst>>;

/// Worst fit: the emptiest agent, unit by unit, so that a lost agent takes little with it.
pub type Spread = Modelled<Fair<EmptiestFirst>>;

/// Where what stays free on the agent remains of most use to the pool's demands.
pub type Fragmentation = Modelled<Fair<LeastFragmenting>>;

/// Strict priority between roles, and fair among equals; says from whom it would take back.
pub type Priority = Modelled<Fair<StrictPriority>>;

/// Fixed partitions: each agent is one role's, and idle if that role does not want it.
pub type Static = Modelled<Fair<Partitioned>>;

/// Where units go.
pub(crate) trait Placement {
    /// The settings that it takes.
    const SETTINGS: &'static [&'static str] = &[];

    /// Its own settings; what it refuses changes nothing.
    fn configure(
        &mut self,
        settings: Vec<(String, Setting)>,
        turns: &mut Turns,
    ) -> Result<(), String> {
        let (_, _) = (settings, turns);
        Ok(())
    }

    /// See [`Decision::wants_tasks`].
    fn wants_tasks(&self) -> bool {
        false
    }

    /// The cluster has changed; the turns know it already.
    fn changed(&mut self, cluster: &Cluster, changes: &Changes, turns: &Turns) {
        let (_, _, _) = (cluster, changes, turns);
    }

    /// See [`Decision::fence`].
    fn fence(&self) -> Option<Arc<Fence>> {
        None
    }

    /// Makes grants.
    fn place(&mut self, draft: &mut Draft<'_>, turns: &Turns);
}

/// Fair sharing with a placement.
#[derive(Clone, Debug, Default)]
pub struct Fair<P> {
    turns: Turns,
    placement: P,
}

impl<P: Placement> Decision for Fair<P> {
    fn configure(&mut self, mut settings: Vec<(String, Setting)>) -> Result<(), String> {
        refuse_unknown(&settings, &[&[FAIR_EXCLUDE], P::SETTINGS].concat())?;
        let excluded = take_excluded(&mut settings)?;
        self.placement.configure(settings, &mut self.turns)?;
        self.turns.exclude(excluded);
        Ok(())
    }

    fn wants_tasks(&self) -> bool {
        self.placement.wants_tasks()
    }

    fn changed(&mut self, cluster: &Cluster, changes: &Changes) {
        self.turns.changed(cluster, changes);
        self.placement.changed(cluster, changes, &self.turns);
    }

    fn decide(&mut self, draft: &mut Draft<'_>) {
        self.placement.place(draft, &self.turns);
        self.turns.note_proposed(draft);
    }

    fn fence(&self) -> Option<Arc<Fence>> {
        self.placement.fence()
    }

    fn places(&self, cluster: &Cluster) -> Vec<Place> {
        self.turns.places(cluster)
    }

    fn carry(&self, cluster: &Cluster) -> Vec<Section> {
        self.turns.carry(cluster)
    }

    fn adopt(&mut self, cluster: &Cluster, sections: &[Section]) -> Result<Vec<String>, String> {
        self.turns.adopt(cluster, sections)
    }
}

/// Agents in random order.
#[derive(Clone, Debug, Default)]
pub struct Anywhere;

impl Placement for Anywhere {
    fn place(&mut self, draft: &mut Draft<'_>, turns: &Turns) {
        let mut queue = [turns.queue(draft)];
        give_out(draft, &mut queue, |_| {}, |_| 0);
    }
}

/// The texts of a setting that is a list.
fn take_list(
    settings: &mut Vec<(String, Setting)>,
    name: &str,
    example: &str,
) -> Result<Vec<String>, String> {
    let Some(position) = settings.iter().position(|(other, _)| other == name) else {
        return Ok(Vec::new());
    };
    match settings.remove(position).1 {
        Setting::List(list) => Ok(list),
        Setting::Text(_) | Setting::Flag(_) => {
            Err(format!("the setting '{name}' is a list, as in {example}"))
        }
    }
}
