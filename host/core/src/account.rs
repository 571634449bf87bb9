//! One agent's ledger: who holds how much of what, exactly.

use proffer_codec::codec_struct;
use proffer_model::{Resources, ResourcesShortfall};

use crate::handles::ClientId;

/// Invariant: total + deficit = free + Σ (offered + used), per terms and kind. A shared volume is
/// free for all of the total, however many hold it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    total: Resources,
    free: Resources,
    /// What is held beyond a total that fell. While there is any, nothing of it is free.
    deficit: Resources,
    /// By client. A handful; the room for them stays when they leave.
    held: Vec<(ClientId, Held)>,
}

codec_struct!(Account {
    total,
    free,
    deficit,
    held
});

/// What one client holds on one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) offered: Resources,
    pub(crate) used: Resources,
    /// The generation of the feed in which it came to hold anything, if that was noted: until the next
    /// one no policy knows of it.
    since: Option<u64>,
}

codec_struct!(Held {
    offered,
    used,
    since
});

impl Held {
    fn is_empty(&self) -> bool {
        self.offered.is_empty() && self.used.is_empty()
    }

    /// Whether that it came to hold anything was noted in this generation of the feed.
    pub(crate) fn is_new_in(&self, generation: u64) -> bool {
        self.since == Some(generation)
    }
}

impl Account {
    pub(crate) fn new(total: Resources) -> Self {
        Self {
            free: total.clone(),
            total,
            ..Self::default()
        }
    }

    pub(crate) fn total(&self) -> &Resources {
        &self.total
    }

    pub(crate) fn free(&self) -> &Resources {
        &self.free
    }

    pub(crate) fn deficit(&self) -> &Resources {
        &self.deficit
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = (ClientId, &Held)> {
        self.held.iter().map(|(client, held)| (*client, held))
    }

    fn place(&self, client: ClientId) -> Result<usize, usize> {
        self.held
            .binary_search_by_key(&client, |(holder, _)| *holder)
    }

    fn held_mut(&mut self, client: ClientId) -> &mut Held {
        let place = match self.place(client) {
            Ok(place) => place,
            Err(place) => {
                self.held.insert(place, (client, Held::default()));
                place
            }
        };
        &mut self.held[place].1
    }

    pub(crate) fn held_by(&self, client: ClientId) -> Option<&Held> {
        let place = self.place(client).ok()?;
        self.held.get(place).map(|(_, held)| held)
    }

    /// Who held nothing before holds something now, in a generation of the feed.
    pub(crate) fn note_since(&mut self, client: ClientId, generation: u64) {
        if let Ok(place) = self.place(client) {
            self.held[place].1.since = Some(generation);
        }
    }

    /// A new total; may fall below what is held.
    pub(crate) fn set_total(&mut self, total: Resources) {
        self.total = total;
        self.rebalance();
    }

    /// Free → offered.
    pub(crate) fn offer(
        &mut self,
        client: ClientId,
        what: &Resources,
    ) -> Result<(), ResourcesShortfall> {
        if what.has_shared() {
            if !self.free.contains(what) {
                return self.free.clone().take(what);
            }
            self.free.take(&exclusive(what))?;
        } else {
            self.free.take(what)?;
        }
        self.held_mut(client).offered.add(what);
        Ok(())
    }

    /// What a client holds becomes something else, and so does the total.
    pub(crate) fn convert(&mut self, client: ClientId, of: Part, from: &Resources, to: &Resources) {
        let held = self.held_mut(client);
        let part = match of {
            Part::Offered => &mut held.offered,
            Part::Used => &mut held.used,
        };
        take_held(part, from);
        part.add(to);
        self.forget_if_empty(client);
        self.retotal(from, to);
    }

    /// The total becomes something else; the caller has looked that it is free.
    pub(crate) fn retotal(&mut self, from: &Resources, to: &Resources) {
        self.total = self.total.minus_down_to_zero(from).plus(to);
        self.rebalance();
    }

    /// Offered → free.
    pub(crate) fn withdraw(&mut self, client: ClientId, what: &Resources) {
        let held = self.held_mut(client);
        take_held(&mut held.offered, what);
        self.came_back(client, what);
    }

    /// Offered → used.
    pub(crate) fn use_offered(&mut self, client: ClientId, what: &Resources) {
        let held = self.held_mut(client);
        take_held(&mut held.offered, what);
        held.used.add(what);
    }

    /// Used as told by facts or by the agent, free or not.
    pub(crate) fn occupy(&mut self, client: ClientId, what: &Resources) {
        self.held_mut(client).used.add(what);
        self.rebalance();
    }

    /// Used → free.
    pub(crate) fn release(&mut self, client: ClientId, what: &Resources) {
        let held = self.held_mut(client);
        take_held(&mut held.used, what);
        self.came_back(client, what);
    }

    /// A planted bug's.
    #[cfg(feature = "planted")]
    pub(crate) fn free_again(&mut self, what: &Resources) {
        self.free.add(what);
    }

    fn came_back(&mut self, client: ClientId, what: &Resources) {
        self.forget_if_empty(client);
        if self.deficit.is_empty() && !what.has_shared() {
            self.free.add(what);
        } else {
            self.rebalance();
        }
    }

    fn forget_if_empty(&mut self, client: ClientId) {
        if let Ok(place) = self.place(client)
            && self.held[place].1.is_empty()
        {
            self.held.remove(place);
        }
    }

    fn rebalance(&mut self) {
        let mut sum = Resources::none();
        for (_, held) in &self.held {
            sum.add(&held.offered);
            sum.add(&held.used);
        }
        if sum.has_shared() {
            sum = exclusive(&sum);
        }
        self.free = self.total.minus_down_to_zero(&sum);
        self.deficit = sum.minus_down_to_zero(&self.total);
    }

    /// Recounts everything.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut sum = self.free.clone();
        for (_, held) in &self.held {
            sum.add(&exclusive(&held.offered));
            sum.add(&exclusive(&held.used));
        }
        let owned = self.total.plus(&self.deficit);
        if sum == owned {
            Ok(())
        } else {
            Err(format!(
                "total + deficit is {owned}, but free + offered + used is {sum}"
            ))
        }
    }
}

/// Which half of what a client holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Offered,
    Used,
}

/// Without volumes that several may hold.
fn exclusive(what: &Resources) -> Resources {
    what.only(|terms| !terms.marks.shared)
}

/// The book of offers and tasks is the only caller, and gives back what it took.
fn take_held(held: &mut Resources, what: &Resources) {
    let taken = held.take(what);
    assert!(
        taken.is_ok(),
        "ledger: {what} is given back, but only {held} is held"
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(text: &str) -> Resources {
        Resources::plain(text.parse().unwrap())
    }

    const ONE: ClientId = ClientId(1);
    const TWO: ClientId = ClientId(2);

    #[test]
    fn offered_counts_as_taken_and_comes_back_whole() {
        let mut account = Account::new(plain("cpus:4;ports:[1-4]"));
        account.offer(ONE, &plain("cpus:3;ports:[1-2]")).unwrap();
        account.offer(TWO, &plain("cpus:2")).unwrap_err();
        account.use_offered(ONE, &plain("cpus:1;ports:[2-2]"));
        account.withdraw(ONE, &plain("cpus:2;ports:[1-1]"));
        assert_eq!(account.free(), &plain("cpus:3;ports:[1-1,3-4]"));
        account.release(ONE, &plain("cpus:1;ports:[2-2]"));
        assert_eq!(account.free(), account.total());
        assert_eq!(account.held().count(), 0);
    }

    #[test]
    fn a_total_that_falls_below_use_leaves_a_deficit_until_enough_is_back() {
        let mut account = Account::new(plain("cpus:4"));
        account.offer(ONE, &plain("cpus:4")).unwrap();
        account.use_offered(ONE, &plain("cpus:4"));
        account.set_total(plain("cpus:2"));
        assert_eq!(account.deficit(), &plain("cpus:2"));
        account.release(ONE, &plain("cpus:3"));
        assert_eq!(
            (account.free(), account.deficit()),
            (&plain("cpus:1"), &Resources::none())
        );
        account.check().unwrap();
    }

    proptest! {
        #[test]
        fn the_books_balance_after_any_sequence(moves in prop::collection::vec((0_u8..5, 1_i64..4_000, 0_u32..3), 1..60)) {
            let mut account = Account::new(plain("cpus:8;mem:64"));
            for (kind, milli, client) in moves {
                let client = ClientId(client);
                let bundle = proffer_model::Bundle {
                    cpus: proffer_model::Amount::from_milli(milli),
                    ..proffer_model::Bundle::default()
                };
                let what = Resources::plain(bundle);
                let held = account.held_by(client).cloned().unwrap_or_default();
                match kind {
                    0 => { let _refused = account.offer(client, &what).is_err(); }
                    1 if held.offered.contains(&what) => account.withdraw(client, &what),
                    2 if held.offered.contains(&what) => account.use_offered(client, &what),
                    3 if held.used.contains(&what) => account.release(client, &what),
                    4 => account.set_total(what),
                    _ => {}
                }
                prop_assert_eq!(account.check(), Ok(()));
            }
        }
    }
}
