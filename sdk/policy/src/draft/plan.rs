//! What a client may have of an agent, and what of it a grant would take.

use proffer_model::RevocableUse;
use proffer_model::policy::{Demand, NONE, TERMS_PLAIN};

use super::room::{Site, Spot};
use super::{DemandUse, Draft, Round, Verdict, add_amount, total};
use crate::cluster::{ClientRow, Cluster, Refusal};

/// What is about to be granted on one agent.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// Pile's index and amount.
    pub(super) takes: Vec<(usize, i64)>,
    /// It is all that the client may have there.
    pub(super) everything: bool,
    /// By kind: what of it quota counts.
    of_quota: Vec<(u32, i64)>,
}

/// In which order the piles of a kind are used up: what nobody else can have first, what may be
/// taken back at any time last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Reserved,
    Plain,
    Revocable,
}

impl Draft<'_> {
    /// Plans all that a client may have on an agent.
    pub(super) fn plan_whole(
        &mut self,
        row: &ClientRow,
        site: Site,
        demand: u32,
    ) -> Result<(), Verdict> {
        let client = row.client.handle;
        let revocable = self.cluster.demand(demand).map(|demand| demand.revocable);
        self.plan.takes.clear();
        // Several visits' pieces are added up: each then says what it is.
        self.plan.everything = self.round == Round::Only && !self.roams;
        let mut counted = false;
        for (index, spot) in self.room.spots(site).iter().enumerate() {
            let available = (self.room).available(self.cluster, site, client, (index, spot));
            if available <= 0 {
                continue;
            }
            let Some(class) = class_for(self.cluster, row, spot.terms) else {
                continue;
            };
            let wanted = match revocable {
                None | Some(RevocableUse::Also) => true,
                Some(RevocableUse::Never) => class != Class::Revocable,
                Some(RevocableUse::Only) => class == Class::Revocable,
            };
            if wanted {
                self.plan.takes.push((index, available));
                counted |= class == Class::Plain;
            } else {
                self.plan.everything = false;
            }
        }
        if self.plan.takes.is_empty() {
            return Err(Verdict::NoFit);
        }
        if self.round == Round::First && !counted {
            // What is reserved or revocable meets no guarantee by itself.
            return Err(Verdict::NoFit);
        }
        let cut = counted && self.quotas.binds() && self.cut_to_quota(row, site)?;
        // A grant that names no piece would be one of all that is there.
        if self.plan.takes.is_empty() || !self.is_worth_an_offer(row, site) {
            return Err(match cut {
                true => self.kept_by_quota(row),
                false => Verdict::BelowMinimum,
            });
        }
        if site.refused && self.is_refused(row, site) {
            return Err(Verdict::Filtered);
        }
        Ok(())
    }

    /// Cuts what is planned to what quota allows; answers whether anything was left out.
    ///
    /// # Errors
    /// In the round for guarantees: nothing of it is what the role lacks.
    fn cut_to_quota(&mut self, row: &ClientRow, site: Site) -> Result<bool, Verdict> {
        let role = row.client.role;
        self.sum_up_quota(site);
        let first_round = self.round == Round::First;
        let mut lacked = 0_i64;
        let mut cut = false;
        for at in 0..self.plan.of_quota.len() {
            let (kind, planned) = self.plan.of_quota[at];
            let lacking = match first_round {
                true => self.quotas.unmet(role, kind).min(planned),
                false => 0,
            };
            let allowed = match (first_round, self.rules.demand) {
                (true, _) => {
                    let limit = self.quotas.limit_left(role, kind).saturating_sub(lacking);
                    let extra = self.quotas.surplus(kind).min(limit.max(0));
                    lacking.saturating_add(extra)
                }
                (false, DemandUse::Ignore) => self.quotas.rest_allowance(role, kind),
                (false, DemandUse::Honour) => self.quotas.allowance(role, kind),
            };
            if planned <= allowed {
                lacked = lacked.saturating_add(lacking);
                continue;
            }
            cut = true;
            self.plan.everything = false;
            // What is had whole must fit what is lacked, or what is spare beyond it.
            let targets = [lacking, allowed - lacking];
            lacked = lacked.saturating_add(self.cut_kind(site, kind, targets));
        }
        if first_round && lacked == 0 {
            return Err(Verdict::NoFit);
        }
        if cut {
            self.plan.takes.retain(|take| take.1 > 0);
        }
        Ok(cut)
    }

    /// Cuts the pieces of a kind, in random order, to two targets one after the other; answers what
    /// went to the first.
    fn cut_kind(&mut self, site: Site, kind: u32, targets: [i64; 2]) -> i64 {
        let mut pieces: Vec<usize> = (0..self.plan.takes.len())
            .filter(|&take| {
                let spot = self.room.spots(site)[self.plan.takes[take].0];
                spot.kind == kind && is_quota_of(self.cluster, spot)
            })
            .collect();
        self.random.shuffle(&mut pieces);
        let mut given: Vec<i64> = vec![0; pieces.len()];
        let mut to_first = 0;
        for (round, mut target) in targets.into_iter().enumerate() {
            for (given, &piece) in given.iter_mut().zip(&pieces) {
                let (index, whole) = self.plan.takes[piece];
                let rest = whole - *given;
                let amount = match rest <= target {
                    true => rest,
                    false if self.is_indivisible(site, index) => 0,
                    false => target,
                };
                *given += amount;
                target -= amount;
                if round == 0 {
                    to_first += amount;
                }
            }
        }
        for (given, piece) in given.into_iter().zip(pieces) {
            self.plan.takes[piece].1 = given;
        }
        to_first
    }

    /// Sums up by kind what is planned that quota counts.
    fn sum_up_quota(&mut self, site: Site) {
        let Plan {
            takes, of_quota, ..
        } = &mut self.plan;
        of_quota.clear();
        let spots = self.room.spots(site);
        for &(index, amount) in takes.iter() {
            let spot = spots[index];
            if !is_quota_of(self.cluster, spot) {
                continue;
            }
            add_amount(of_quota, spot.kind, amount);
        }
    }

    fn is_indivisible(&self, site: Site, index: usize) -> bool {
        let terms = self.room.spots(site)[index].terms;
        let marks = self.cluster.terms(terms).map(|terms| terms.marks);
        marks.is_some_and(|marks| marks.indivisible || marks.volume)
    }

    /// Why quota keeps something from a client.
    pub(super) fn kept_by_quota(&self, row: &ClientRow) -> Verdict {
        match self.quotas.is_at_limit(row.client.role) {
            true => Verdict::OverLimit,
            false => Verdict::HeldBack,
        }
    }

    /// How many units of a demand are free for a client on an agent, at most `most`.
    pub(super) fn fit(&mut self, row: &ClientRow, site: Site, demand: &Demand, most: u32) -> u32 {
        let mut units = i64::from(most);
        let at_hand = self.room.at_hand == site.agent;
        for piece in &demand.pieces {
            // What is not there for anybody need not be looked at closer.
            if at_hand && self.room.rest(piece.kind) < piece.amount.milli() {
                return 0;
            }
            let free = self.free_for(row, site, demand, (piece.terms, piece.kind));
            units = units.min(free / piece.amount.milli().max(1));
            if units <= 0 {
                return 0;
            }
        }
        let mut units = u32::try_from(units).unwrap_or(0);
        // Pieces of one kind, under given terms and under any, may want the same pile.
        if demand.pieces.iter().any(|piece| piece.terms != NONE) {
            while units > 0 && !self.plan_units(row, site, demand, units) {
                units /= 2;
            }
        }
        units
    }

    /// What of a kind a client may have for a demand on an agent; `what`: terms and kind.
    pub(super) fn free_for(
        &self,
        row: &ClientRow,
        site: Site,
        demand: &Demand,
        what: (u32, u32),
    ) -> i64 {
        let (mut plain, mut other) = (0_i64, 0_i64);
        for (index, spot) in self.room.spots(site).iter().enumerate() {
            if spot.kind != what.1 {
                continue;
            }
            let client = row.client.handle;
            let available = (self.room).available(self.cluster, site, client, (index, spot));
            if available <= 0 {
                continue;
            }
            match self.class_in(row, demand, what.0, spot.terms) {
                Some(Class::Plain) => plain = plain.saturating_add(available),
                Some(_) => other = other.saturating_add(available),
                None => {}
            }
        }
        if self.quotas.binds() && plain > 0 {
            plain = plain.min(self.quotas.allowance(row.client.role, what.1));
        }
        plain.saturating_add(other)
    }

    /// Plans so many units; false if they are not free.
    pub(super) fn plan_units(
        &mut self,
        row: &ClientRow,
        site: Site,
        demand: &Demand,
        units: u32,
    ) -> bool {
        self.plan.takes.clear();
        self.plan.everything = false;
        // Given terms first: what any terms will do for must not use them up.
        for any in [false, true] {
            for piece in &demand.pieces {
                if (piece.terms == NONE) == any {
                    let amount = piece.amount.milli().saturating_mul(i64::from(units));
                    let what = (piece.terms, piece.kind, amount);
                    if !self.plan_piece(row, site, demand, what) {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// `what`: terms, kind, amount.
    fn plan_piece(
        &mut self,
        row: &ClientRow,
        site: Site,
        demand: &Demand,
        what: (u32, u32, i64),
    ) -> bool {
        let (terms, kind, mut wanted) = what;
        for class in [Class::Reserved, Class::Plain, Class::Revocable] {
            let mut bound = match class {
                Class::Plain if self.quotas.binds() => self.plain_left(row, site, kind),
                _ => i64::MAX,
            };
            for index in 0..self.room.spots(site).len() {
                let pile = self.room.spots(site)[index];
                if wanted == 0 {
                    return true;
                }
                if pile.kind != kind || self.class_in(row, demand, terms, pile.terms) != Some(class)
                {
                    continue;
                }
                let planned = |take: &&mut (usize, i64)| take.0 == index;
                let already = self.plan.takes.iter_mut().find(planned);
                let taken = already.as_ref().map_or(0, |take| take.1);
                let client = row.client.handle;
                let available = (self.room).available(self.cluster, site, client, (index, &pile));
                let amount = available.saturating_sub(taken).min(wanted).min(bound);
                if amount <= 0 {
                    continue;
                }
                wanted -= amount;
                bound -= amount;
                match already {
                    Some(take) => take.1 += amount,
                    None => self.plan.takes.push((index, amount)),
                }
            }
        }
        wanted == 0
    }

    /// What quota leaves of a kind beside what is planned already, of what is neither reserved nor
    /// revocable.
    fn plain_left(&self, row: &ClientRow, site: Site, kind: u32) -> i64 {
        let spots = self.room.spots(site);
        let of_plain = self.plan.takes.iter().filter(|take| {
            let spot = spots[take.0];
            spot.kind == kind && class_for(self.cluster, row, spot.terms) == Some(Class::Plain)
        });
        let planned = total(of_plain.map(|take| take.1));
        let allowed = self.quotas.allowance(row.client.role, kind);
        allowed.saturating_sub(planned)
    }

    /// Plans so many units; false if they are not free, or what they come to was refused.
    pub(super) fn plan_unrefused(
        &mut self,
        row: &ClientRow,
        site: Site,
        demand: &Demand,
        units: u32,
    ) -> bool {
        self.plan_units(row, site, demand, units) && !self.is_refused(row, site)
    }

    /// Whether a pile will do for a piece of a demand under `wanted` terms, and when it is used.
    pub(super) fn class_in(
        &self,
        row: &ClientRow,
        demand: &Demand,
        wanted: u32,
        terms: u32,
    ) -> Option<Class> {
        if wanted != NONE && wanted != terms {
            return None;
        }
        let class = class_for(self.cluster, row, terms)?;
        if wanted == NONE && terms != TERMS_PLAIN {
            // Volumes and whole disks are asked for by name.
            let marks = self.cluster.terms(terms)?.marks;
            if marks.volume || marks.shared || marks.indivisible {
                return None;
            }
        }
        let wanted = match demand.revocable {
            RevocableUse::Also => true,
            RevocableUse::Never => class != Class::Revocable,
            RevocableUse::Only => class == Class::Revocable,
        };
        wanted.then_some(class)
    }

    /// Whether what is planned reaches one of the smallest amounts that are worth an offer.
    fn is_worth_an_offer(&self, row: &ClientRow, site: Site) -> bool {
        let spots = self.room.spots(site);
        let reaches = |kind: u32, amount: i64| -> bool {
            let mut takes = self.plan.takes.iter();
            let mut left = amount;
            while left > 0
                && let Some(&(index, amount)) = takes.next()
            {
                if spots[index].kind == kind {
                    left = left.saturating_sub(amount);
                }
            }
            left <= 0
        };
        match &row.client.least {
            None => {
                self.minimum.is_empty()
                    || self.minimum.iter().any(|alternative| {
                        let mut pieces = alternative.iter();
                        pieces.all(|&(kind, amount)| reaches(kind, amount))
                    })
            }
            Some(least) => {
                least.is_empty()
                    || least.iter().any(|alternative| {
                        let mut pieces = alternative.iter();
                        pieces.all(|piece| reaches(piece.kind, piece.amount.milli()))
                    })
            }
        }
    }

    /// Whether what is planned is contained in what the client refused on this agent.
    fn is_refused(&self, row: &ClientRow, site: Site) -> bool {
        if !site.refused {
            return false;
        }
        let Some(place) = self.cluster.agent(site.agent) else {
            return false;
        };
        let spots = self.room.spots(site);
        place.refusals_of(row.client.handle).iter().any(|refusal| {
            let mut takes = self.plan.takes.iter();
            takes.all(|&(index, amount)| self.contains(refusal, spots[index], amount))
        })
    }

    fn contains(&self, refusal: &Refusal, pile: Spot, amount: i64) -> bool {
        // Which items the host would pick is not known here: they are among the refused for
        // certain only if all that could be picked are.
        if self
            .cluster
            .kind(pile.kind)
            .is_some_and(|kind| kind.counted)
        {
            return refusal.inside;
        }
        let key = (pile.terms, pile.kind);
        let found = refusal
            .pieces
            .binary_search_by(|piece| (piece.0, piece.1).cmp(&key));
        found.is_ok_and(|index| amount <= refusal.pieces[index].2)
    }
}

/// Whether quota counts a pile: neither reserved, nor revocable, nor counted by items.
fn is_quota_of(cluster: &Cluster, spot: Spot) -> bool {
    let counted = cluster.kind(spot.kind).is_some_and(|kind| kind.counted);
    !counted && cluster.counts_in_quota(spot.terms)
}

/// Whether a client may have a pile under these terms at all, and when it is used.
fn class_for(cluster: &Cluster, row: &ClientRow, terms: u32) -> Option<Class> {
    if terms == TERMS_PLAIN {
        return Some(Class::Plain);
    }
    let terms = cluster.terms(terms)?;
    let (marks, may) = (terms.marks, row.client.marks);
    if (marks.revocable && !may.revocable)
        || (marks.shared && !may.shared)
        || (terms.reserved.len() > 1 && !may.refined)
    {
        return None;
    }
    if let Some(&role) = terms.reserved.last()
        && !cluster.is_at_or_below(row.client.role, role)
    {
        return None;
    }
    Some(match (marks.revocable, terms.reserved.is_empty()) {
        (true, _) => Class::Revocable,
        (false, true) => Class::Plain,
        (false, false) => Class::Reserved,
    })
}
