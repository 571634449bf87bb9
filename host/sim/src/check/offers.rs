//! Refusals and leases: what was declined, by frameworks' own words, against what is offered.

use std::collections::{BTreeMap, BTreeSet};

use proffer_core::{Core, OfferView};
use proffer_model::framework::{Answer, Command};
use proffer_model::{
    AgentId, Bundle, Duration, FrameworkId, OfferId, Resources, RoleName, Timestamp,
};

use super::{Checked, Invariant, Tally};

/// A decline without a time (the contract's).
const REFUSE_DEFAULT: Duration = Duration(5_000);

/// Refusals of one framework and role on one agent: past it the host forgets the oldest, and the
/// check all of them.
const REFUSALS_MAX: usize = 8;

type Pair = (FrameworkId, RoleName, AgentId);

/// What is known of offers.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    seen: Option<OfferId>,
    refusals: BTreeMap<Pair, Vec<Refusal>>,
    /// Frameworks that suppressed all of their roles.
    suppressed: BTreeSet<FrameworkId>,
    /// Offers that are out or were, by the end of their lease.
    leases: BTreeSet<(Timestamp, OfferId)>,
    names: BTreeMap<String, FrameworkId>,
}

#[derive(Debug)]
struct Refusal {
    what: Resources,
    until: Timestamp,
}

impl Offers {
    /// A host begins anew: refusals and offers are not durable.
    pub(crate) fn host_began(&mut self) {
        *self = Self::default();
    }

    /// A framework's life began or ended.
    pub(crate) fn framework_changed(&mut self, framework: FrameworkId) {
        self.refusals.retain(|(owner, _, _), _| *owner != framework);
        self.suppressed.remove(&framework);
        self.names.retain(|_, id| *id != framework);
    }

    /// A step is about to be committed with this answer.
    pub(crate) fn answered(
        &mut self,
        framework: FrameworkId,
        answer: &Answer,
        core: &Core,
        now: Timestamp,
    ) {
        let lifts = |command: &Command| {
            matches!(
                command,
                Command::Revive(_) | Command::SetDemand(_) | Command::ClearDemand(_)
            )
        };
        let lifted = answer.commands.iter().any(lifts);
        if lifted {
            self.refusals.retain(|(owner, _, _), _| *owner != framework);
        }
        let mut named = BTreeSet::new();
        for command in &answer.commands {
            match command {
                Command::Decline(decline) => {
                    for id in &decline.offers {
                        if named.insert(*id) && !lifted {
                            self.refuse(framework, core, *id, now, decline.refuse);
                        }
                    }
                }
                Command::Accept(accept) => {
                    named.extend(accept.parts.iter().flat_map(|part| &part.offers));
                }
                Command::Keep(ids) => named.extend(ids),
                Command::Suppress(roles) if roles.is_empty() => {
                    self.suppressed.insert(framework);
                }
                Command::Revive(_) => {
                    self.suppressed.remove(&framework);
                }
                _ => {}
            }
        }
    }

    fn refuse(
        &mut self,
        framework: FrameworkId,
        core: &Core,
        id: OfferId,
        now: Timestamp,
        refuse: Option<Duration>,
    ) {
        let Some(offer) = open_offer(core, id) else {
            return;
        };
        let key = (framework, offer.role, offer.agent);
        let refusals = self.refusals.entry(key).or_default();
        refusals.retain(|refusal| refusal.until > now);
        if refusals.len() >= REFUSALS_MAX {
            refusals.clear();
        }
        refusals.push(Refusal {
            what: offer.resources,
            until: now + refuse.unwrap_or(REFUSE_DEFAULT),
        });
    }

    /// Looks at the offers that are new, and at those whose lease is over.
    pub(crate) fn look(&mut self, core: &Core, now: Timestamp, tally: &mut Tally) -> Checked {
        for offer in core.offers(self.seen) {
            self.seen = Some(offer.id);
            self.leases.insert((offer.expires, offer.id));
            self.check_offer(core, &offer, now, tally)?;
        }
        while let Some(&(until, id)) = self.leases.first()
            && until < now
        {
            self.leases.pop_first();
            tally.holds(Invariant::LeasesEnd, open_offer(core, id).is_none(), || {
                format!(
                    "{id} stands at {}, and its lease ended at {}",
                    now.0, until.0
                )
            })?;
        }
        Ok(())
    }

    fn check_offer(
        &mut self,
        core: &Core,
        offer: &OfferView,
        now: Timestamp,
        tally: &mut Tally,
    ) -> Checked {
        let framework = match self.names.get(&*offer.framework) {
            Some(id) => *id,
            None => {
                let Some(view) = core.framework_named(&offer.framework) else {
                    return Ok(());
                };
                self.names.insert(offer.framework.to_string(), view.id);
                view.id
            }
        };
        tally.holds(
            Invariant::FiltersHonoured,
            !self.suppressed.contains(&framework),
            || {
                format!(
                    "{} is made to {}, which suppressed its roles",
                    offer.id, offer.framework
                )
            },
        )?;
        let key = (framework, offer.role.clone(), offer.agent);
        let Some(refusals) = self.refusals.get(&key) else {
            return Ok(());
        };
        // Of counted kinds more than what was refused may have come free; amounts compare.
        let scalars = scalars_only(&offer.resources);
        for refusal in refusals {
            let refused = scalars && refusal.until > now && refusal.what.contains(&offer.resources);
            tally.holds(Invariant::FiltersHonoured, !refused, || {
                format!(
                    "{} offers {} {} of {}, which was refused until {}, at {}",
                    offer.id, offer.framework, offer.resources, offer.agent, refusal.until.0, now.0
                )
            })?;
        }
        Ok(())
    }
}

fn scalars_only(resources: &Resources) -> bool {
    let scalar = |bundle: &Bundle| bundle.ports.is_empty() && bundle.other.is_empty();
    resources.piles().all(|(_, bundle)| scalar(bundle))
}

fn open_offer(core: &Core, id: OfferId) -> Option<OfferView> {
    let before = id.0.checked_sub(1).map(OfferId);
    core.offers(before).next().filter(|offer| offer.id == id)
}
