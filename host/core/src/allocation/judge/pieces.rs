//! From the columns of a proposal to resources: which items a grant's counts come to.

use proffer_model::policy::Grants;
use proffer_model::{
    AgentId, Amount, Bundle, Duration, Quantity, Ranges, Reason, Remedy, Resources, Shape, code,
};

use super::{Grant, Pieces};
use crate::handles::ClientId;
use crate::machine::Core;

impl Core {
    /// Pieces as resources: of counted kinds the lowest free items, or those that the demand names.
    pub(super) fn materialize(
        &self,
        grant: &Grant<'_>,
        free: &Resources,
        shape: Option<&Shape>,
    ) -> Result<Resources, String> {
        let Pieces {
            terms,
            kind,
            amount,
        } = grant.pieces;
        if terms.is_empty() {
            let may = free.only(|terms| self.may_have(grant.client, terms));
            return if may.is_empty() {
                Err(format!("nothing is free on {}", grant.agent))
            } else {
                Ok(may)
            };
        }
        let mut what = Resources::none();
        for ((terms, kind), amount) in terms.iter().zip(kind).zip(amount) {
            let terms = self
                .handles
                .terms
                .get(*terms)
                .ok_or_else(|| format!("there are no terms {terms}"))?;
            let name = self
                .handles
                .kinds
                .name(*kind)
                .ok_or_else(|| format!("there is no kind {kind}"))?;
            if *amount <= 0 {
                return Err(format!("{amount} thousandths of {name} is no amount"));
            }
            let nothing = Bundle::default();
            let there = free.get(terms).unwrap_or(&nothing);
            let fixed = shape
                .map(|shape| &shape.fixed_ports)
                .filter(|fixed| !fixed.is_empty());
            let bundle = bundle_of(name, Amount::from_milli(*amount), there, fixed)?;
            what.add_pile(terms, &bundle);
        }
        Ok(what)
    }

    /// Units of a shape in a grant, by the pieces that it names.
    pub(super) fn units_in(&self, grant: &Grant<'_>, shape: &Shape) -> u32 {
        if grant.pieces.terms.is_empty() {
            let agent = self.agents.get(&grant.agent);
            return agent.map_or(0, |agent| units_of(shape, agent.account.free()));
        }
        if shape.is_anything() {
            return 1;
        }
        let named = |kind: &str| -> i64 {
            let pieces = grant.pieces.kind.iter().zip(grant.pieces.amount);
            pieces
                .filter(|(handle, _)| self.handles.kinds.name(**handle) == Some(kind))
                .map(|(_, amount)| *amount)
                .fold(0, i64::saturating_add)
        };
        let units = shape
            .amounts()
            .into_iter()
            .map(|(kind, one)| named(&kind) / one.milli().max(1))
            .min();
        u32::try_from(units.unwrap_or(0).max(0)).unwrap_or(u32::MAX)
    }
}

pub(super) fn has_counted(what: &Resources) -> bool {
    let total = what.total();
    let scalar = |quantity: &Quantity| matches!(quantity, Quantity::Scalar(_));
    !total.ports.is_empty() || !total.other.values().all(scalar)
}

/// How many units of a shape are in these resources.
pub(in crate::allocation) fn units_of(shape: &Shape, what: &Resources) -> u32 {
    if shape.is_anything() {
        return 1;
    }
    let total = what.total();
    let amount_of = |kind: &str| {
        total
            .amounts()
            .find(|(name, _)| *name == kind)
            .map_or(Amount::ZERO, |(_, amount)| amount)
    };
    let units = shape
        .amounts()
        .into_iter()
        .map(|(kind, one)| amount_of(&kind).milli() / one.milli().max(1))
        .min();
    u32::try_from(units.unwrap_or(0)).unwrap_or(u32::MAX)
}

fn bundle_of(
    kind: &str,
    amount: Amount,
    there: &Bundle,
    fixed_ports: Option<&Ranges>,
) -> Result<Bundle, String> {
    let mut bundle = Bundle::default();
    let count = || {
        let whole = amount.is_whole().then(|| amount.milli() / 1_000);
        whole
            .and_then(|n| u64::try_from(n).ok())
            .ok_or_else(|| format!("{amount} of {kind} is not a count"))
    };
    match kind {
        "cpus" => bundle.cpus = amount,
        "mem" => bundle.mem = amount,
        "disk" => bundle.disk = amount,
        "gpus" => {
            bundle.gpus =
                Amount::from_milli(count()?.try_into().unwrap_or(i64::MAX / 1_000) * 1_000)
        }
        "ports" => {
            let ports = fixed_ports.cloned().unwrap_or(there.ports.lowest(count()?));
            if ports.count() != count()? {
                return Err(format!("{amount} ports are not free"));
            }
            bundle.ports = ports;
        }
        _ => {
            let quantity = match there.other.get(kind) {
                None => return Err(format!("there is no {kind}")),
                Some(Quantity::Scalar(_)) => Quantity::Scalar(amount),
                Some(Quantity::Ranges(ranges)) => Quantity::Ranges(ranges.lowest(count()?)),
                Some(Quantity::Items(items)) => {
                    let wanted = usize::try_from(count()?).unwrap_or(usize::MAX);
                    Quantity::Items(items.iter().take(wanted).cloned().collect())
                }
            };
            if quantity.amount() != amount {
                return Err(format!("{amount} of {kind} is not free"));
            }
            bundle.other.insert(kind.into(), quantity);
        }
    }
    Ok(bundle)
}

/// The columns as rows. Untrusted: lengths are looked at first.
pub(super) fn rows(grants: &Grants) -> Result<Vec<Grant<'_>>, Reason> {
    let rows = grants.agent.len();
    let heads = [
        grants.client.len(),
        grants.demand.len(),
        grants.gang.len(),
        grants.lease.len(),
        grants.pieces.len(),
    ];
    let pieces: usize = grants.pieces.iter().map(|count| *count as usize).sum();
    let tails = [grants.terms.len(), grants.kind.len(), grants.amount.len()];
    if heads.iter().any(|len| *len != rows) || tails.iter().any(|len| *len != pieces) {
        return Err(Reason::new(
            code::INVALID_GRANT,
            Remedy::Mend,
            "the columns of the grants differ in length",
        ));
    }
    let mut start = 0;
    let mut all = Vec::with_capacity(rows);
    for row in 0..rows {
        let end = start + grants.pieces[row] as usize;
        all.push(Grant {
            index: u32::try_from(row).unwrap_or(u32::MAX),
            agent: AgentId(grants.agent[row]),
            client: ClientId(grants.client[row]),
            demand: grants.demand[row],
            gang: grants.gang[row],
            lease: Duration(u64::from(grants.lease[row])),
            pieces: Pieces {
                terms: &grants.terms[start..end],
                kind: &grants.kind[start..end],
                amount: &grants.amount[start..end],
            },
        });
        start = end;
    }
    Ok(all)
}
