//! What is still free while grants are being made.

use proffer_model::policy::NONE;

use super::{Rules, total};
use crate::cluster::Cluster;

/// What is free on the agents looked at so far. An agent is copied in when it is first looked at:
/// all that a decision needs of it lies together then.
#[derive(Debug)]
pub(super) struct Room {
    /// Where an agent is in `sites`, or [`NONE`].
    at: Vec<u32>,
    sites: Vec<Site>,
    spots: Vec<Spot>,
    /// (agent, client, pile): taken of what was kept for that client. Hardly ever anything.
    kept_taken: Vec<(u32, u32, usize, i64)>,
    /// The agent at hand.
    pub(super) at_hand: u32,
    /// What is free there by kind, for whomever.
    rest: Vec<i64>,
}

/// An agent in a cycle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    pub(super) agent: u32,
    /// Its spots are `spots[from..to]`.
    from: u32,
    to: u32,
    pub(super) has_gpus: bool,
    /// Of another region.
    pub(super) foreign: bool,
    /// Somebody refused something there.
    pub(super) refused: bool,
    /// Something is kept there for somebody.
    kept: bool,
}

/// A pile in a cycle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub(super) terms: u32,
    pub(super) kind: u32,
    /// For anybody; below nothing if more is held or kept than there is.
    free: i64,
}

impl Spot {
    /// What is free of it, kept for nobody.
    pub(super) fn free_for_anybody(&self) -> i64 {
        self.free.max(0)
    }
}

impl Room {
    pub(super) fn new(cluster: &Cluster) -> Self {
        Self {
            at: vec![NONE; cluster.agents_bound()],
            sites: Vec::new(),
            spots: Vec::new(),
            kept_taken: Vec::new(),
            at_hand: NONE,
            rest: Vec::new(),
        }
    }

    /// Copies an agent in, unless it was.
    pub(super) fn enter(&mut self, cluster: &Cluster, rules: &Rules, agent: u32) {
        let Some(at) = self.at.get_mut(agent as usize) else {
            return;
        };
        let (NONE, Some(row)) = (*at, cluster.agent(agent)) else {
            return;
        };
        *at = self.sites.len() as u32;
        let from = self.spots.len() as u32;
        self.spots.extend(row.piles().iter().map(|pile| Spot {
            terms: pile.terms,
            kind: pile.kind,
            free: pile.spare(),
        }));
        self.sites.push(Site {
            agent,
            from,
            to: self.spots.len() as u32,
            has_gpus: row.agent.has_gpus,
            foreign: rules.is_foreign(&row.agent.region),
            refused: row.is_refused(),
            kept: row.has_kept(),
        });
    }

    /// Lays the agents in the order in which they will be visited: whoever goes from one to the next
    /// finds it in the cache. Each is named once.
    pub(super) fn lay_out(&mut self, order: &[u32]) {
        let mut sites = Vec::with_capacity(self.sites.len());
        let mut spots = Vec::with_capacity(self.spots.len());
        for &agent in order {
            let Some(site) = self.site(agent) else {
                continue;
            };
            let from = spots.len() as u32;
            spots.extend(self.spots(site).iter().copied());
            if let Some(at) = self.at.get_mut(agent as usize) {
                *at = sites.len() as u32;
            }
            sites.push(Site {
                from,
                to: spots.len() as u32,
                ..site
            });
        }
        self.sites = sites;
        self.spots = spots;
    }

    /// An agent that was copied in.
    pub(super) fn site(&self, agent: u32) -> Option<Site> {
        let at = self.at.get(agent as usize).copied()?;
        self.sites.get(at as usize).copied()
    }

    pub(super) fn spots(&self, site: Site) -> &[Spot] {
        self.spots
            .get(site.from as usize..site.to as usize)
            .unwrap_or_default()
    }

    /// Goes on to an agent.
    pub(super) fn go_to(&mut self, cluster: &Cluster, agent: u32) {
        self.at_hand = agent;
        self.rest.fill(0);
        let Some(site) = self.site(agent) else {
            return;
        };
        let row = cluster.agent(agent).filter(|_| site.kept);
        let piles = row.map_or(&[][..], |row| row.piles());
        for index in 0..(site.to - site.from) as usize {
            let spot = self.spots[site.from as usize + index];
            let kept = piles.get(index).map_or(0, |pile| pile.kept);
            // Of a pile of which more is held than there is nothing is free, and of the others no less.
            self.add_rest(spot.kind, spot.free.saturating_add(kept).max(0));
        }
    }

    fn add_rest(&mut self, kind: u32, amount: i64) {
        let index = kind as usize;
        if index >= self.rest.len() {
            self.rest.resize(index + 1, 0);
        }
        self.rest[index] = self.rest[index].saturating_add(amount);
    }

    /// What is free of a kind on the agent at hand, for whomever.
    pub(super) fn rest(&self, kind: u32) -> i64 {
        self.rest.get(kind as usize).copied().unwrap_or(0)
    }

    /// Whether nothing is free on the agent at hand.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.iter().all(|&rest| rest <= 0)
    }

    /// What a client may have of a pile by what is free and what is kept for it.
    pub(super) fn available(
        &self,
        cluster: &Cluster,
        site: Site,
        client: u32,
        (index, spot): (usize, &Spot),
    ) -> i64 {
        if !site.kept {
            return spot.free;
        }
        spot.free
            .saturating_add(self.kept(cluster, site, client, index))
    }

    /// What is still kept for a client of a pile.
    fn kept(&self, cluster: &Cluster, site: Site, client: u32, index: usize) -> i64 {
        let Some(row) = cluster.agent(site.agent) else {
            return 0;
        };
        let own =
            |row: &&(u32, u32, usize, i64)| (row.0, row.1, row.2) == (site.agent, client, index);
        let taken = total(self.kept_taken.iter().filter(own).map(|row| row.3));
        let kept = row.kept_for(client, &row.piles()[index]);
        kept.saturating_sub(taken).max(0)
    }

    /// Takes of a pile: first what is kept for the client.
    pub(super) fn take(
        &mut self,
        cluster: &Cluster,
        site: Site,
        client: u32,
        (index, amount): (usize, i64),
    ) {
        let mut of_kept = 0;
        if site.kept {
            of_kept = self.kept(cluster, site, client, index).min(amount);
            self.kept_taken.push((site.agent, client, index, of_kept));
        }
        let Some(spot) = self.spots.get_mut(site.from as usize + index) else {
            return;
        };
        spot.free = spot.free.saturating_sub(amount - of_kept);
        let kind = spot.kind;
        if site.agent == self.at_hand {
            self.add_rest(kind, amount.saturating_neg());
        }
    }
}
