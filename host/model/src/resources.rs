//! Resources: amounts of kinds, in piles that differ in their terms.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use crate::{Amount, Ranges, RoleName};

mod parse;

pub use parse::ParseResourcesError;

/// What one pile holds: the five well-known kinds in fields, any other by name.
///
/// Amounts here are never negative; operations keep it so.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bundle {
    /// Processors.
    pub cpus: Amount,
    /// Memory, in MiB.
    pub mem: Amount,
    /// Disk, in MiB.
    pub disk: Amount,
    /// Accelerators.
    pub gpus: Amount,
    /// Ports.
    pub ports: Ranges,
    /// Kinds that the host does not know itself. No empty quantities.
    pub other: BTreeMap<Arc<str>, Quantity>,
}

/// An amount of a kind: a scalar, a set of numbers, or a set of names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantity {
    /// Divisible.
    Scalar(Amount),
    /// Numbers, each at most once.
    Ranges(Ranges),
    /// Names, each at most once.
    Items(BTreeSet<Arc<str>>),
}

/// What sets a pile apart from plain resources. The default is plain.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Terms {
    /// Roles that it is reserved to, outermost first; the last is the one that it belongs to.
    pub reserved: Vec<RoleName>,
    /// The author's label of the reservation.
    pub label: String,
    /// The persistent volume that it is, or empty.
    pub volume: String,
    /// The indivisible disk that it is on, or empty.
    pub disk: String,
    /// See [`Marks`].
    pub marks: Marks,
}

/// Yes-or-no terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Marks {
    /// The reservation was made at run time.
    pub dynamic: bool,
    /// May be taken back at any time.
    pub revocable: bool,
    /// A volume that several may hold at once.
    pub shared: bool,
    /// Taken whole or not at all.
    pub indivisible: bool,
}

/// Piles by their terms; piles that differ in anything but amounts never merge. No empty piles.
///
/// In the order of their terms. A ledger holds these by the million, and most are copies of each other
/// (what was free is what is offered is what is held is what the framework is told), so copies share
/// their piles until one of them changes. None is no piles.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resources(Option<Arc<Piles>>);

/// Nearly always there is one, which then lies with the count of its copies: two lines of a cache.
type Piles = SmallVec<[Pile; 1]>;

/// The terms of a pile that has none.
static PLAIN: Terms = Terms {
    reserved: Vec::new(),
    label: String::new(),
    volume: String::new(),
    disk: String::new(),
    marks: Marks {
        dynamic: false,
        revocable: false,
        shared: false,
        indivisible: false,
    },
};

/// What is under the same terms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Pile {
    /// None if they are plain, as most are, and as none that are here.
    terms: Option<Arc<Terms>>,
    bundle: Bundle,
}

impl Pile {
    fn new(terms: Terms, bundle: Bundle) -> Self {
        Self {
            terms: (!terms.is_plain()).then(|| Arc::new(terms)),
            bundle,
        }
    }

    fn terms(&self) -> &Terms {
        self.terms.as_deref().unwrap_or(&PLAIN)
    }
}

/// What was missing when something did not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourcesShortfall {
    /// Wanted and not there, per terms.
    pub short: Resources,
}

impl fmt::Display for ResourcesShortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "short of {}", self.short)
    }
}

impl std::error::Error for ResourcesShortfall {}

impl Terms {
    /// Whether these are plain, unreserved resources.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.reserved.is_empty()
            && self.label.is_empty()
            && self.volume.is_empty()
            && self.disk.is_empty()
            && self.marks == Marks::default()
    }

    /// Whether quota counts what is held of it: neither reserved nor revocable.
    #[must_use]
    pub fn counts_in_quota(&self) -> bool {
        self.reserved.is_empty() && !self.marks.revocable
    }

    /// Whether it is had whole or not at all.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.marks.indivisible || !self.volume.is_empty()
    }

    /// Whether a framework under a role may have it, going by the reservation alone: those of the
    /// last role that it is reserved to, and of the roles below that one.
    #[must_use]
    pub fn is_open_to(&self, role: &RoleName) -> bool {
        self.reserved
            .last()
            .is_none_or(|owner| owner == role || role.is_strictly_below(owner))
    }
}

impl Quantity {
    /// Whether there is none of it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Scalar(amount) => amount.is_zero(),
            Self::Ranges(ranges) => ranges.is_empty(),
            Self::Items(items) => items.is_empty(),
        }
    }

    /// The amount, items counted.
    #[must_use]
    pub fn amount(&self) -> Amount {
        match self {
            Self::Scalar(amount) => *amount,
            Self::Ranges(ranges) => ranges.amount(),
            Self::Items(items) => {
                Amount::from_units(i64::try_from(items.len()).unwrap_or(i64::MAX))
            }
        }
    }

    fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => a >= b,
            (Self::Ranges(a), Self::Ranges(b)) => a.contains(b),
            (Self::Items(a), Self::Items(b)) => a.is_superset(b),
            _ => other.is_empty(),
        }
    }

    /// Sum; a kind that is a scalar here and a set there stays what it was (the set is refused by
    /// whoever checks inputs, never met in the ledger).
    fn plus(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => Self::Scalar(*a + *b),
            (Self::Ranges(a), Self::Ranges(b)) => Self::Ranges(a.union(b)),
            (Self::Items(a), Self::Items(b)) => Self::Items(a | b),
            _ => self.clone(),
        }
    }

    fn minus_down_to_zero(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => Self::Scalar((*a - *b).max(Amount::ZERO)),
            (Self::Ranges(a), Self::Ranges(b)) => Self::Ranges(a.difference(b)),
            (Self::Items(a), Self::Items(b)) => Self::Items(a - b),
            _ => self.clone(),
        }
    }
}

impl Bundle {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cpus.is_zero()
            && self.mem.is_zero()
            && self.disk.is_zero()
            && self.gpus.is_zero()
            && self.ports.is_empty()
            && self.other.is_empty()
    }

    /// Whether `other` is all in `self`.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.cpus >= other.cpus
            && self.mem >= other.mem
            && self.disk >= other.disk
            && self.gpus >= other.gpus
            && self.ports.contains(&other.ports)
            && other.other.iter().all(|(kind, wanted)| {
                wanted.is_empty() || self.other.get(kind).is_some_and(|own| own.contains(wanted))
            })
    }

    /// Adds `other`. Sets are united: an item counts once.
    pub fn add(&mut self, other: &Self) {
        self.cpus += other.cpus;
        self.mem += other.mem;
        self.disk += other.disk;
        self.gpus += other.gpus;
        if !other.ports.is_empty() {
            self.ports = self.ports.union(&other.ports);
        }
        for (kind, quantity) in &other.other {
            match self.other.get_mut(kind) {
                Some(own) => *own = own.plus(quantity),
                None => {
                    self.other.insert(Arc::clone(kind), quantity.clone());
                }
            }
        }
    }

    /// `self` without `other`, each kind at least nothing.
    #[must_use]
    pub fn minus_down_to_zero(&self, other: &Self) -> Self {
        let mut left = self.clone();
        left.take_down_to_zero(other);
        left
    }

    /// Takes `other` away, each kind at least nothing.
    fn take_down_to_zero(&mut self, other: &Self) {
        let floor = |a: Amount, b: Amount| (a - b).max(Amount::ZERO);
        self.cpus = floor(self.cpus, other.cpus);
        self.mem = floor(self.mem, other.mem);
        self.disk = floor(self.disk, other.disk);
        self.gpus = floor(self.gpus, other.gpus);
        if !other.ports.is_empty() {
            self.ports = self.ports.difference(&other.ports);
        }
        for (kind, quantity) in &other.other {
            if let Some(own) = self.other.get_mut(kind) {
                *own = own.minus_down_to_zero(quantity);
                if own.is_empty() {
                    self.other.remove(kind);
                }
            }
        }
    }

    /// Every kind with its amount, items of sets counted, in the order cpus, mem, disk, gpus, ports,
    /// then by name. Kinds of which there is nothing are left out.
    pub fn amounts(&self) -> impl Iterator<Item = (&str, Amount)> {
        [
            ("cpus", self.cpus),
            ("mem", self.mem),
            ("disk", self.disk),
            ("gpus", self.gpus),
            ("ports", self.ports.amount()),
        ]
        .into_iter()
        .chain(
            self.other
                .iter()
                .map(|(kind, quantity)| (&**kind, quantity.amount())),
        )
        .filter(|(_, amount)| !amount.is_zero())
    }
}

impl Resources {
    /// Nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// One plain, unreserved pile.
    #[must_use]
    pub fn plain(bundle: Bundle) -> Self {
        Self::pile(Terms::default(), bundle)
    }

    /// One pile.
    #[must_use]
    pub fn pile(terms: Terms, bundle: Bundle) -> Self {
        if bundle.is_empty() {
            return Self::none();
        }
        Self::of(smallvec![Pile::new(terms, bundle)])
    }

    fn of(piles: Piles) -> Self {
        Self((!piles.is_empty()).then(|| Arc::new(piles)))
    }

    fn as_slice(&self) -> &[Pile] {
        self.0.as_ref().map_or(&[], |piles| piles)
    }

    /// To be changed; the copies keep what they have.
    fn to_mut(&mut self) -> &mut Piles {
        Arc::make_mut(self.0.get_or_insert_default())
    }

    /// Whether both are the same piles in memory; equal ones may not be.
    fn is_shared_with(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(own), Some(others)) => Arc::ptr_eq(own, others),
            (None, None) => true,
            _ => false,
        }
    }

    /// The piles, by terms.
    pub fn piles(&self) -> impl Iterator<Item = (&Terms, &Bundle)> {
        self.as_slice()
            .iter()
            .map(|pile| (pile.terms(), &pile.bundle))
    }

    /// Where the pile under these terms is, or would be.
    fn place(&self, terms: &Terms) -> Result<usize, usize> {
        self.as_slice()
            .binary_search_by(|pile| pile.terms().cmp(terms))
    }

    /// The pile under these terms, if there is anything in it.
    #[must_use]
    pub fn get(&self, terms: &Terms) -> Option<&Bundle> {
        let place = self.place(terms).ok()?;
        self.as_slice().get(place).map(|pile| &pile.bundle)
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether `other` is all in `self`, pile by pile.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.is_shared_with(other)
            || other
                .piles()
                .all(|(terms, wanted)| self.get(terms).is_some_and(|own| own.contains(wanted)))
    }

    /// Adds a pile.
    pub fn add_pile(&mut self, terms: &Terms, bundle: &Bundle) {
        self.add_to(terms, bundle, || Pile::new(terms.clone(), bundle.clone()));
    }

    /// `new` makes the pile, if there is none under these terms.
    fn add_to(&mut self, terms: &Terms, bundle: &Bundle, new: impl FnOnce() -> Pile) {
        if bundle.is_empty() {
            return;
        }
        let place = self.place(terms);
        let piles = self.to_mut();
        match place {
            Ok(place) => {
                if let Some(own) = piles.get_mut(place) {
                    own.bundle.add(bundle);
                }
            }
            Err(place) => {
                // Few are ever added to.
                piles.reserve_exact(1);
                piles.insert(place, new());
            }
        }
    }

    /// Adds `other`, pile by pile.
    pub fn add(&mut self, other: &Self) {
        if self.is_empty() {
            *self = other.clone();
            return;
        }
        for pile in other.as_slice() {
            self.add_to(pile.terms(), &pile.bundle, || pile.clone());
        }
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        sum.add(other);
        sum
    }

    /// Takes `other` away if it is all there, and does nothing if not.
    ///
    /// # Errors
    /// What is missing.
    pub fn take(&mut self, other: &Self) -> Result<(), ResourcesShortfall> {
        if !self.contains(other) {
            return Err(ResourcesShortfall {
                short: other.minus_down_to_zero(self),
            });
        }
        self.take_down_to_zero(other);
        Ok(())
    }

    /// `self` without `other`, each kind of each pile at least nothing.
    #[must_use]
    pub fn minus_down_to_zero(&self, other: &Self) -> Self {
        let mut left = self.clone();
        left.take_down_to_zero(other);
        left
    }

    fn take_down_to_zero(&mut self, other: &Self) {
        if self.is_shared_with(other) {
            *self = Self::none();
            return;
        }
        let places = other.piles().filter_map(|(terms, taken)| {
            let place = self.place(terms).ok()?;
            Some((place, taken))
        });
        let places: Vec<_> = places.collect();
        if places.is_empty() {
            return;
        }
        let piles = self.to_mut();
        for (place, taken) in places {
            if let Some(own) = piles.get_mut(place) {
                own.bundle.take_down_to_zero(taken);
            }
        }
        piles.retain(|pile| !pile.bundle.is_empty());
        if piles.is_empty() {
            *self = Self::none();
        }
    }

    /// Whether any pile is a volume that several may hold at once.
    #[must_use]
    pub fn has_shared(&self) -> bool {
        self.piles().any(|(terms, _)| terms.marks.shared)
    }

    /// The piles whose terms pass.
    #[must_use]
    pub fn only(&self, passes: impl Fn(&Terms) -> bool) -> Self {
        if self.piles().all(|(terms, _)| passes(terms)) {
            return self.clone();
        }
        let piles = self.as_slice().iter();
        Self::of(piles.filter(|pile| passes(pile.terms())).cloned().collect())
    }

    /// All piles' amounts together, whatever their terms.
    #[must_use]
    pub fn total(&self) -> Bundle {
        let mut total = Bundle::default();
        for (_, bundle) in self.piles() {
            total.add(bundle);
        }
        total
    }
}

impl fmt::Display for Bundle {
    /// `cpus:4;mem:8192;ports:[31000-32000]`; nothing is `nothing`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing");
        }
        let mut separator = "";
        for (kind, amount) in self.amounts() {
            write!(f, "{separator}{kind}:")?;
            separator = ";";
            match (kind, self.other.get(kind)) {
                (_, Some(Quantity::Items(items))) => {
                    let names: Vec<&str> = items.iter().map(|item| &**item).collect();
                    write!(f, "{{{}}}", names.join(","))?;
                }
                (_, Some(Quantity::Ranges(ranges))) => write!(f, "{ranges}")?,
                ("ports", None) => write!(f, "{}", self.ports)?,
                _ => write!(f, "{amount}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing");
        }
        let mut separator = "";
        for (terms, bundle) in self.piles() {
            write!(f, "{separator}{bundle}")?;
            separator = " + ";
            if let Some(role) = terms.reserved.last() {
                write!(f, " reserved to {role}")?;
            }
            if terms.marks.revocable {
                f.write_str(" revocable")?;
            }
            if !terms.volume.is_empty() {
                write!(f, " volume {}", terms.volume)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Resources {
        Resources::plain(text.parse().unwrap())
    }

    #[test]
    fn piles_of_other_terms_never_merge() {
        let reserved = Terms {
            reserved: vec![RoleName::new("eng").unwrap()],
            ..Terms::default()
        };
        let mut all = plain("cpus:1");
        all.add_pile(&reserved, &"cpus:2".parse().unwrap());
        assert_eq!(all.to_string(), "cpus:1 + cpus:2 reserved to eng");
        assert!(!all.contains(&plain("cpus:2")));
        assert_eq!(all.total(), "cpus:3".parse().unwrap());
    }

    #[test]
    fn take_is_all_or_nothing_and_names_what_is_short() {
        let mut have = plain("cpus:4;mem:100;ports:[1-10]");
        let short = have.take(&plain("cpus:5;ports:[10-11]")).unwrap_err();
        assert_eq!(short.to_string(), "short of cpus:1;ports:[11-11]");
        assert_eq!(have, plain("cpus:4;mem:100;ports:[1-10]"));
        have.take(&plain("cpus:4;mem:100;ports:[1-10]")).unwrap();
        assert!(have.is_empty());
    }

    #[test]
    fn custom_kinds_behave_like_the_known_ones() {
        let mut have = plain("licenses:{a,b};tokens:3;slots:[1-4]");
        have.take(&plain("licenses:{a};tokens:1.5;slots:[2-3]"))
            .unwrap();
        assert_eq!(have.to_string(), "licenses:{b};slots:[1-1,4-4];tokens:1.5");
        have.take(&plain("licenses:{a}")).unwrap_err();
    }
}
