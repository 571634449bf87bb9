//! What frameworks say that they could use.

use proffer_model::fact::Effect;
use proffer_model::framework::{CONSTRAINTS_MAX, constraint_count};
use proffer_model::{Demand, FrameworkId, Reason, Remedy, code};

use crate::accept::unsound;
use crate::agenda::Deadline;
use crate::commands::{ID_LEN_MAX, StepRun};
use crate::constraint::Constraints;
use crate::feed::is_everywhere;
use crate::framework::StandingDemand;
use crate::machine::Core;

impl Core {
    pub(crate) fn set_demand(&mut self, run: &mut StepRun, demand: Demand) {
        if let Err(why) = self.check_demand(run.framework, &demand) {
            let subject: String = demand.key.chars().take(64).collect();
            return self.reject_with(run, "set-demand", subject, why);
        }
        if demand.count == 0 {
            return self.clear_demands(run, vec![demand.key]);
        }
        let standing = self
            .frameworks
            .get(&run.framework)
            .and_then(|fw| fw.demands.get(&demand.key));
        let since = match standing {
            Some(standing) if standing.demand == demand => return,
            Some(standing) if same_shape(&standing.demand, &demand) => standing.since,
            _ => self.now,
        };
        let effect = Effect::DemandSet {
            demand: Box::new(demand),
            since,
        };
        self.apply_now(run.framework, effect, &mut run.effects);
    }

    fn check_demand(&self, framework: FrameworkId, demand: &Demand) -> Result<(), Reason> {
        let mend = |text: String| Err(Reason::new(code::INVALID, Remedy::Mend, text));
        let Some(fw) = self.frameworks.get(&framework) else {
            return mend("the framework is gone".to_owned());
        };
        if demand.key.is_empty() || demand.key.len() > ID_LEN_MAX {
            return mend("a demand's key is 1 to 255 bytes".to_owned());
        }
        if !fw.clients.contains_key(&demand.role) {
            let text = format!("the framework does not have the role {}", demand.role);
            return Err(Reason::new(code::ROLE_DENIED, Remedy::Denied, text));
        }
        if fw.demands.len() >= self.config.demands_max && !fw.demands.contains_key(&demand.key) {
            return Err(Reason::new(code::LIMIT, Remedy::Denied, "too many demands"));
        }
        if constraint_count(&demand.constraints) > CONSTRAINTS_MAX {
            let text = format!("a demand has at most {CONSTRAINTS_MAX} constraints");
            return Err(Reason::new(code::LIMIT, Remedy::Denied, text));
        }
        if let Some(problem) = unsound(&demand.shape.resources) {
            return mend(problem.to_owned());
        }
        if !demand.shape.label.is_empty() || !demand.shape.volume.is_empty() {
            let text = "this host has no reservations and volumes yet";
            return Err(Reason::new(code::UNSUPPORTED, Remedy::Unsupported, text));
        }
        match Constraints::new(&demand.constraints) {
            Ok(_) => Ok(()),
            Err(problem) => mend(problem),
        }
    }

    pub(crate) fn clear_demands(&mut self, run: &mut StepRun, keys: Vec<String>) {
        for key in keys {
            let known = self
                .frameworks
                .get(&run.framework)
                .is_some_and(|fw| fw.demands.contains_key(&key));
            if known {
                self.apply_now(
                    run.framework,
                    Effect::DemandCleared { key },
                    &mut run.effects,
                );
            }
        }
    }

    /// Applies what a fact says of a demand; live and in recovery alike.
    pub(crate) fn apply_demand_effect(&mut self, framework: FrameworkId, effect: &Effect) {
        match effect {
            Effect::DemandSet { demand, since } => self.demand_set(framework, demand, *since),
            Effect::DemandCleared { key } => self.demand_cleared(framework, key),
            Effect::TimerSet { .. } => self.schedule_timer(framework, effect),
            _ => {}
        }
    }

    fn demand_set(
        &mut self,
        framework: FrameworkId,
        demand: &Demand,
        since: proffer_model::Timestamp,
    ) {
        // Checked when it was set; facts from a store that compiled it before compile again.
        let constraints = Constraints::new(&demand.constraints).unwrap_or_default();
        let client = self.client_of(framework, &demand.role);
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        let before = fw.demands.remove(&demand.key);
        if let Some(until) = before.as_ref().and_then(|old| old.demand.until) {
            self.agenda
                .remove(until, Deadline::DemandEnds(framework, demand.key.clone()));
        }
        let grown = before
            .as_ref()
            .is_none_or(|old| demand.count > old.demand.count || !same_shape(&old.demand, demand));
        let on_offer = fw
            .offers
            .iter()
            .filter_map(|id| self.offers.get(id))
            .filter(|open| open.offer.demand == demand.key)
            .map(|open| open.units)
            .sum();
        let handle = match &before {
            Some(old) if old.demand.role == demand.role => old.handle,
            _ => self.feed.next_demand_handle(),
        };
        if let Some(old) = before.filter(|old| old.handle != handle) {
            self.feed.forget_demand(old.handle);
        }
        let standing = StandingDemand {
            demand: demand.clone(),
            since,
            constraints,
            handle,
            offered: on_offer,
        };
        if is_everywhere(&standing) {
            self.feed.masked.remove(&handle);
        } else {
            self.feed.masked.insert(handle);
        }
        fw.demands.insert(demand.key.clone(), standing);
        if let Some(until) = demand.until {
            self.agenda
                .add(until, Deadline::DemandEnds(framework, demand.key.clone()));
        }
        self.feed
            .demand_owners
            .insert(handle, (framework, demand.key.clone()));
        self.feed.masks_dirty.insert(handle);
        self.demand_changed(framework, &demand.key);
        if grown {
            self.release_client_filters(client);
            self.everything_wanted_in_events();
        }
    }

    fn demand_cleared(&mut self, framework: FrameworkId, key: &str) {
        let Some(standing) = self
            .frameworks
            .get_mut(&framework)
            .and_then(|fw| fw.demands.remove(key))
        else {
            return;
        };
        if let Some(until) = standing.demand.until {
            self.agenda
                .remove(until, Deadline::DemandEnds(framework, key.to_owned()));
        }
        self.feed.forget_demand(standing.handle);
    }

    pub(crate) fn demand_ends(&mut self, framework: FrameworkId, key: &str) {
        let now = self.now;
        let due = self
            .frameworks
            .get(&framework)
            .and_then(|fw| fw.demands.get(key))
            .is_some_and(|standing| standing.demand.until.is_some_and(|until| until <= now));
        if due {
            let effect = Effect::DemandCleared {
                key: key.to_owned(),
            };
            self.apply_effect(framework, &effect);
            self.facts
                .push(proffer_model::fact::Fact::Changed { framework, effect });
        }
    }

    /// The framework's standing changed, and with it whether anything is wanted.
    pub(crate) fn demands_changed(&mut self, framework: FrameworkId) {
        let keys: Vec<String> = self
            .frameworks
            .get(&framework)
            .map(|fw| fw.demands.keys().cloned().collect())
            .unwrap_or_default();
        for key in keys {
            self.demand_changed(framework, &key);
        }
    }

    /// Its row for the policy is stale.
    pub(crate) fn demand_changed(&mut self, framework: FrameworkId, key: &str) {
        let Some(fw) = self.frameworks.get_mut(&framework) else {
            return;
        };
        let active = fw.takes_offers();
        let Some(standing) = fw.demands.get_mut(key) else {
            return;
        };
        let takes_part = active && !fw.suppressed.contains(&standing.demand.role);
        let wants = takes_part && standing.demand.count > standing.offered;
        self.feed.demands.insert(standing.handle);
        if wants {
            self.feed.wanting.insert(standing.handle);
        } else {
            self.feed.wanting.remove(&standing.handle);
        }
    }
}

/// Whether only numbers that may move freely differ.
fn same_shape(before: &Demand, after: &Demand) -> bool {
    before.role == after.role
        && before.shape == after.shape
        && before.gang == after.gang
        && before.per_agent == after.per_agent
        && before.constraints == after.constraints
}
