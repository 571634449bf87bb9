//! Quotas: set by operators, and what open offers give way for.

use proffer_model::fact::Fact;
use proffer_model::{
    Admission, Amount, Amounts, KindQuota, OfferId, Reason, Remedy, RoleName, admit, code,
};

use crate::action::Reply;
use crate::book::Ending;
use crate::event::Ticket;
use crate::holdings::add;
use crate::machine::Core;
use crate::operators::{no_weight, weight_is_valid};

impl Core {
    pub(crate) fn quota_set(
        &mut self,
        ticket: Ticket,
        role: &RoleName,
        (quotas, weight): (Vec<KindQuota>, Option<Amount>),
        force: bool,
    ) {
        let checked = match weight {
            Some(weight) if !weight_is_valid(weight) => Err(no_weight()),
            _ => self.check_quota(role, &quotas, force),
        };
        if let Err(why) = checked {
            return self.reply(ticket, Reply::Refused(why));
        }
        if let Some(weight) = weight {
            self.put_weight(role, weight);
        }
        let handle = self.handles.roles.set_quota(role, quotas.clone());
        self.feed.roles.insert(handle);
        self.facts.push(Fact::QuotaSet {
            role: role.clone(),
            quotas: quotas.clone(),
        });
        if self.config.rescinds && !quotas.is_empty() {
            self.make_room_under(role, &quotas);
            self.make_room_for(role, &quotas);
        }
        self.everything_wanted_in_events();
        self.reply(ticket, Reply::Done);
    }

    fn check_quota(
        &self,
        role: &RoleName,
        quotas: &[KindQuota],
        force: bool,
    ) -> Result<(), Reason> {
        let known = self.handles.roles.with_quota();
        let others = known.map(|(role, quotas)| (role.clone(), guarantees(quotas)));
        let mut all: std::collections::BTreeMap<RoleName, Amounts> = if force {
            // To insist is to have the family's sums wrong too.
            Default::default()
        } else {
            others.collect()
        };
        all.insert(role.clone(), guarantees(quotas));
        let capacity = self.capacity();
        let asked = Admission {
            guarantees: all,
            limits: limits(quotas),
            capacity: Some(&capacity),
            consumed: if force {
                Amounts::new()
            } else {
                self.role_sums(role).consumed
            },
            force,
        };
        admit(role, &asked).map_err(|refused| {
            let hint = if refused.may_force {
                "; --force sets it all the same"
            } else {
                ""
            };
            Reason::new(
                code::INVALID,
                Remedy::Mend,
                format!("{}{hint}", refused.problem),
            )
        })
    }

    /// Offers of the role and below go until what it consumes fits its limits.
    fn make_room_under(&mut self, role: &RoleName, quotas: &[KindQuota]) {
        let own: Vec<OfferId> =
            self.offers_where(|other| other == role || other.is_strictly_below(role));
        let mut consumed = self.role_sums(role).consumed;
        for id in own {
            let over = |kind: &str| {
                let limit = quotas.iter().find(|quota| quota.kind == kind)?.limit?;
                Some(consumed.get(kind).copied().unwrap_or_default() > limit)
            };
            let plain = self.plain_in(id);
            if !plain.keys().any(|kind| over(kind) == Some(true)) {
                continue;
            }
            consumed = proffer_model::difference(&consumed, &plain);
            self.rescind_for_quota(id);
        }
    }

    /// Offers of others go until they and what the role consumes cover its guarantee.
    fn make_room_for(&mut self, role: &RoleName, quotas: &[KindQuota]) {
        let mut missing =
            proffer_model::difference(&guarantees(quotas), &self.role_sums(role).consumed);
        let others = self.offers_where(|other| other != role && !other.is_strictly_below(role));
        for id in others {
            if missing.is_empty() {
                return;
            }
            let plain = self.plain_in(id);
            if plain.keys().any(|kind| missing.contains_key(kind)) {
                missing = proffer_model::difference(&missing, &plain);
                self.rescind_for_quota(id);
            }
        }
    }

    fn offers_where(&self, role: impl Fn(&RoleName) -> bool) -> Vec<OfferId> {
        let open = self
            .offers
            .iter()
            .filter(|(_, open)| role(&open.offer.role));
        open.map(|(id, _)| *id).collect()
    }

    /// What quota counts of an open offer.
    fn plain_in(&self, id: OfferId) -> Amounts {
        let mut plain = Amounts::new();
        if let Some(open) = self.offers.get(&id) {
            let counted = open.offer.resources.only(|terms| terms.counts_in_quota());
            add(&mut plain, &counted.total());
        }
        plain
    }

    fn rescind_for_quota(&mut self, id: OfferId) {
        let why = Reason::new(code::OPERATOR, Remedy::ChooseAnew, "a role's quota changed");
        self.end_offer(id, &Ending::Rescinded(why));
    }
}

/// What of quotas is guaranteed, by kind.
fn guarantees(quotas: &[KindQuota]) -> Amounts {
    let rows = quotas.iter().filter(|quota| quota.guarantee > Amount::ZERO);
    rows.map(|quota| (quota.kind.clone(), quota.guarantee))
        .collect()
}

/// What of quotas is limited, by kind.
pub(crate) fn limits(quotas: &[KindQuota]) -> Amounts {
    let limit = |quota: &KindQuota| Some((quota.kind.clone(), quota.limit?));
    quotas.iter().filter_map(limit).collect()
}
