//! The layer for authors: write who comes next, get a policy.

mod explain;
mod settings;

use std::sync::Arc;

use proffer_model::Timestamp;
use proffer_model::policy::{Changes, Cycle, Feeds, Finding, Place, Proposal, Question, Section};

use crate::cluster::Cluster;
use crate::draft::{DemandUse, Draft, Fence, Rules};
pub use crate::json::Setting;
use crate::policy::Policy;
pub use settings::refuse_unknown;

/// Who comes next.
pub trait Decision {
    /// Settings of its own, checked by itself; those of the pool's [`Rules`] are not among them.
    ///
    /// # Errors
    /// Refuses the config, in words for whoever wrote it; the old one must then stand.
    fn configure(&mut self, settings: Vec<(String, Setting)>) -> Result<(), String> {
        refuse_unknown(&settings, &[])
    }

    /// Whether it is to be told of tasks ([`Cluster::task`]): asked once it is configured.
    fn wants_tasks(&self) -> bool {
        false
    }

    /// The cluster has changed.
    fn changed(&mut self, cluster: &Cluster, changes: &Changes) {
        let (_, _) = (cluster, changes);
    }

    /// Makes grants: visits the agents of the draft and serves clients there.
    fn decide(&mut self, draft: &mut Draft<'_>);

    /// Which agents are for which clients at all; none: all for all.
    fn fence(&self) -> Option<Arc<Fence>> {
        None
    }

    /// Roles and clients in the order in which they would be served.
    fn places(&self, cluster: &Cluster) -> Vec<Place>;

    /// What a successor can start from.
    fn carry(&self, cluster: &Cluster) -> Vec<Section> {
        let _ = cluster;
        Vec::new()
    }

    /// A predecessor's memory; answers the names of the sections that were used.
    ///
    /// # Errors
    /// Nothing could be used.
    fn adopt(&mut self, cluster: &Cluster, sections: &[Section]) -> Result<Vec<String>, String> {
        let (_, _) = (cluster, sections);
        Ok(Vec::new())
    }
}

/// A policy made of a decision: it keeps the cluster and the pool's rules for it.
#[derive(Clone, Debug, Default)]
pub struct Modelled<D> {
    cluster: Cluster,
    rules: Rules,
    decision: D,
    /// Of the last cycle; a question has no time of its own.
    now: Timestamp,
}

impl<D: Decision> Modelled<D> {
    /// With an empty cluster and the default rules.
    pub fn new(decision: D) -> Self {
        Self {
            cluster: Cluster::default(),
            rules: Rules::default(),
            decision,
            now: Timestamp::default(),
        }
    }

    /// The cluster as it is known.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The rules in force.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }
}

impl<D: Decision> Policy for Modelled<D> {
    fn configure(&mut self, config: &str) -> Result<Feeds, String> {
        let mut settings = crate::json::parse(config)?;
        let rules = settings::take_rules(&mut settings)?;
        self.decision.configure(settings)?;
        self.rules = rules;
        Ok(Feeds {
            tasks: self.decision.wants_tasks(),
            filters: true,
            demands: self.rules.demand == DemandUse::Honour,
        })
    }

    fn apply(&mut self, changes: &Changes) {
        self.cluster.apply(changes);
        self.decision.changed(&self.cluster, changes);
    }

    fn decide(&mut self, cycle: &Cycle) -> Proposal {
        self.now = cycle.now;
        let fence = self.decision.fence();
        let mut draft = Draft::new(&self.cluster, &self.rules, cycle).fenced(fence);
        self.decision.decide(&mut draft);
        draft.finish()
    }

    fn explain(&self, question: &Question) -> Vec<Finding> {
        let fence = self.decision.fence();
        let question = (question, fence.as_ref());
        explain::explain(&self.cluster, &self.rules, self.now, question, || {
            self.places()
        })
    }

    fn places(&self) -> Vec<Place> {
        self.decision.places(&self.cluster)
    }

    fn carry(&self) -> Vec<Section> {
        self.decision.carry(&self.cluster)
    }

    fn adopt(&mut self, sections: &[Section]) -> Result<Vec<String>, String> {
        self.decision.adopt(&self.cluster, sections)
    }
}
