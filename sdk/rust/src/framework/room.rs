//! What is left of offers while tasks are fitted into them.

use crate::framework::{Amount, Marks, Other, Pile, Quantity, Range, RevocableUse, Shape};

/// The piles of one or several offers of one agent, to take tasks' resources from.
///
/// Reserved piles go before unreserved ones, so that what only this role can use is used first.
/// Volumes and indivisible disks are left alone unless the shape names the volume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Room {
    piles: Vec<Pile>,
}

impl Room {
    /// Of these piles.
    #[must_use]
    pub fn new(mut piles: Vec<Pile>) -> Self {
        piles.sort_by_key(|pile| pile.terms.is_none());
        Self { piles }
    }

    /// What is left.
    #[must_use]
    pub fn piles(&self) -> &[Pile] {
        &self.piles
    }

    /// Takes one unit of `shape`: the piles that a task of it will hold, from as few piles as the
    /// order allows. Nothing is taken if it does not fit.
    pub fn take(&mut self, shape: &Shape) -> Option<Vec<Pile>> {
        let mut left = self.piles.clone();
        let mut missing = Missing::of(shape);
        let mut taken = Vec::new();
        for pile in left.iter_mut().filter(|pile| serves(pile, shape)) {
            let part = missing.take_from(pile);
            if !part.is_empty() {
                taken.push(part);
            }
        }
        if !missing.is_nothing() {
            return None;
        }
        left.retain(|pile| !pile.is_empty());
        self.piles = left;
        Some(taken)
    }

    /// Takes exactly this pile, from what has the same terms. Nothing is taken if it is not all there.
    pub fn take_pile(&mut self, pile: &Pile) -> bool {
        let mut left = self.piles.clone();
        let mut missing = Missing {
            cpus: pile.cpus,
            mem: pile.mem,
            disk: pile.disk,
            gpus: pile.gpus,
            ports: 0,
            fixed_ports: pile.ports.clone(),
            other: pile.other.clone(),
        };
        for own in left.iter_mut().filter(|own| own.terms == pile.terms) {
            missing.take_from(own);
        }
        let enough = missing.is_nothing();
        if enough {
            left.retain(|pile| !pile.is_empty());
            self.piles = left;
        }
        enough
    }

    /// Puts a pile back.
    pub fn give(&mut self, pile: Pile) {
        if !pile.is_empty() {
            self.piles.push(pile);
            self.piles.sort_by_key(|pile| pile.terms.is_none());
        }
    }

    /// Whether one unit of `shape` fits.
    #[must_use]
    pub fn fits(&self, shape: &Shape) -> bool {
        self.clone().take(shape).is_some()
    }
}

/// Whether the pile's terms are among those that the shape takes.
fn serves(pile: &Pile, shape: &Shape) -> bool {
    let Some(terms) = &pile.terms else {
        return shape.label.is_empty()
            && shape.volume.is_empty()
            && shape.revocable != RevocableUse::Only;
    };
    let revocable = terms.marks.contains(Marks::REVOCABLE);
    let revocable_serves = match shape.revocable {
        RevocableUse::Never => !revocable,
        RevocableUse::Also => true,
        RevocableUse::Only => revocable,
    };
    let special = !terms.volume.is_empty() || !terms.disk.is_empty();
    revocable_serves
        && (shape.label.is_empty() || terms.label == shape.label)
        && (!special || (!shape.volume.is_empty() && terms.volume == shape.volume))
}

/// What of a shape has not been found yet.
struct Missing {
    cpus: Amount,
    mem: Amount,
    disk: Amount,
    gpus: Amount,
    ports: u64,
    fixed_ports: Vec<Range>,
    other: Vec<Other>,
}

impl Missing {
    fn of(shape: &Shape) -> Self {
        Self {
            cpus: shape.cpus,
            mem: shape.mem,
            disk: shape.disk,
            gpus: shape.gpus,
            ports: u64::from(shape.ports),
            fixed_ports: shape.fixed_ports.clone(),
            other: shape.other.clone(),
        }
    }

    fn is_nothing(&self) -> bool {
        [self.cpus, self.mem, self.disk, self.gpus]
            .iter()
            .all(|amount| *amount <= 0)
            && self.ports == 0
            && self.fixed_ports.is_empty()
            && self.other.iter().all(|other| is_none_of_it(&other.value))
    }

    /// Moves as much as there is from `pile` into the part that is returned.
    fn take_from(&mut self, pile: &mut Pile) -> Pile {
        let mut part = Pile {
            terms: pile.terms.clone(),
            cpus: move_amount(&mut self.cpus, &mut pile.cpus),
            mem: move_amount(&mut self.mem, &mut pile.mem),
            disk: move_amount(&mut self.disk, &mut pile.disk),
            gpus: move_amount(&mut self.gpus, &mut pile.gpus),
            ports: move_ranges(&mut self.fixed_ports, &mut pile.ports),
            other: Vec::new(),
        };
        let any = first_of(&pile.ports, self.ports);
        self.ports -= any.iter().map(length).sum::<u64>();
        move_ranges(&mut any.clone(), &mut pile.ports);
        part.ports.extend(any);
        for wanted in &mut self.other {
            let found = pile.other.iter_mut().find(|own| own.kind == wanted.kind);
            let Some(own) = found else { continue };
            let value = move_quantity(&mut wanted.value, &mut own.value);
            if !is_none_of_it(&value) {
                part.other.push(Other {
                    kind: wanted.kind.clone(),
                    value,
                });
            }
        }
        pile.other.retain(|own| !is_none_of_it(&own.value));
        part
    }
}

fn is_none_of_it(value: &Quantity) -> bool {
    match value {
        Quantity::Scalar(amount) => *amount <= 0,
        Quantity::Ranges(ranges) => ranges.is_empty(),
        Quantity::Items(items) => items.is_empty(),
    }
}

fn move_amount(wanted: &mut Amount, own: &mut Amount) -> Amount {
    let moved = (*wanted).min(*own).max(0);
    *wanted -= moved;
    *own -= moved;
    moved
}

fn move_quantity(wanted: &mut Quantity, own: &mut Quantity) -> Quantity {
    match (wanted, own) {
        (Quantity::Scalar(wanted), Quantity::Scalar(own)) => {
            Quantity::Scalar(move_amount(wanted, own))
        }
        (Quantity::Ranges(wanted), Quantity::Ranges(own)) => {
            Quantity::Ranges(move_ranges(wanted, own))
        }
        (Quantity::Items(wanted), Quantity::Items(own)) => {
            let moved: Vec<String> = wanted
                .iter()
                .filter(|item| own.contains(item))
                .cloned()
                .collect();
            wanted.retain(|item| !moved.contains(item));
            own.retain(|item| !moved.contains(item));
            Quantity::Items(moved)
        }
        // A kind that is a number here and a set there: no match.
        (_, _) => Quantity::Scalar(0),
    }
}

/// Takes what both have away from both.
fn move_ranges(wanted: &mut Vec<Range>, own: &mut Vec<Range>) -> Vec<Range> {
    let mut moved = Vec::new();
    for a in wanted.iter() {
        for b in own.iter() {
            let (begin, end) = (a.begin.max(b.begin), a.end.min(b.end));
            if begin <= end {
                moved.push(Range { begin, end });
            }
        }
    }
    for cut in &moved {
        *wanted = without(wanted, cut);
        *own = without(own, cut);
    }
    moved
}

fn without(ranges: &[Range], cut: &Range) -> Vec<Range> {
    let mut left = Vec::with_capacity(ranges.len() + 1);
    for range in ranges {
        if cut.end < range.begin || range.end < cut.begin {
            left.push(*range);
            continue;
        }
        if range.begin < cut.begin {
            left.push(Range {
                begin: range.begin,
                end: cut.begin - 1,
            });
        }
        if cut.end < range.end {
            left.push(Range {
                begin: cut.end + 1,
                end: range.end,
            });
        }
    }
    left
}

/// The lowest `count` items.
fn first_of(ranges: &[Range], mut count: u64) -> Vec<Range> {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.begin);
    let mut first = Vec::new();
    for range in sorted {
        if count == 0 {
            break;
        }
        let taken = length(&range).min(count);
        first.push(Range {
            begin: range.begin,
            end: range.begin + (taken - 1),
        });
        count -= taken;
    }
    first
}

fn length(range: &Range) -> u64 {
    (range.end - range.begin).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::Terms;

    fn shape(text: &str) -> Shape {
        text.parse().unwrap()
    }

    #[test]
    fn a_room_gives_until_it_is_empty_and_never_half_of_a_shape() {
        let mut room = Room::new(vec!["cpus:2;mem:100;ports:[5-7]".parse().unwrap()]);
        let one = shape("cpus:1;mem:40").ports(1);
        let first = room.take(&one).unwrap();
        assert_eq!(first, vec!["cpus:1;mem:40;ports:[5-5]".parse().unwrap()]);
        let second = room.take(&one).unwrap();
        assert_eq!(second, vec!["cpus:1;mem:40;ports:[6-6]".parse().unwrap()]);
        let left = room.clone();
        assert_eq!(room.take(&one), None);
        assert_eq!(room, left);
        assert_eq!(left.piles(), ["mem:20;ports:[7-7]".parse().unwrap()]);
    }

    #[test]
    fn reserved_piles_go_first_and_labels_and_volumes_are_kept_apart() {
        let reserved = |label: &str, volume: &str, text: &str| Pile {
            terms: Some(Terms {
                reserved: vec!["eng".to_owned()],
                label: label.to_owned(),
                volume: volume.to_owned(),
                ..Terms::default()
            }),
            ..text.parse().unwrap()
        };
        let mut room = Room::new(vec![
            "cpus:4;disk:10".parse().unwrap(),
            reserved("db", "", "cpus:1"),
            reserved("", "v", "disk:100"),
        ]);
        assert_eq!(room.take(&shape("disk:50")), None);
        let taken = room.take(&shape("cpus:2")).unwrap();
        assert_eq!(
            taken,
            vec![reserved("db", "", "cpus:1"), "cpus:1".parse().unwrap()]
        );
        assert_eq!(room.take(&shape("cpus:1").label("db")), None);
    }

    #[test]
    fn fixed_ports_and_named_items_are_taken_exactly() {
        let mut room = Room::new(vec![
            "ports:[80-90];licenses:{a,b};tokens:3".parse().unwrap(),
        ]);
        let wanted = shape("ports:[85-86];licenses:{b};tokens:1.5");
        let taken = room.take(&wanted).unwrap();
        assert_eq!(
            taken,
            vec!["ports:[85-86];licenses:{b};tokens:1.5".parse().unwrap()]
        );
        assert!(!room.fits(&wanted));
        assert_eq!(
            room.piles(),
            ["ports:[80-84,87-90];licenses:{a};tokens:1.5"
                .parse()
                .unwrap()]
        );
    }
}
