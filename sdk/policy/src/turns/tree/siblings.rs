//! Children of one node: which come first, and moving one among them.

use std::cmp::Ordering;

use super::{Node, Queue, order};

impl Queue {
    pub(super) fn siblings(&self, parent: u32) -> &[u32] {
        let node = &self.nodes[parent as usize];
        &self.children[node.first as usize..][..node.children as usize]
    }

    pub(super) fn siblings_mut(&mut self, parent: u32) -> &mut [u32] {
        let node = &self.nodes[parent as usize];
        &mut self.children[node.first as usize..][..node.children as usize]
    }

    /// The siblings that are in order.
    pub(super) fn sorted(&self, parent: u32) -> &[u32] {
        let node = &self.nodes[parent as usize];
        &self.children[node.first as usize..][..node.sorted as usize]
    }

    /// Puts more of a node's children into order, so many at least.
    pub(super) fn sort_more(&mut self, parent: u32, count: usize) {
        let node = &self.nodes[parent as usize];
        let rest = (node.first + node.sorted) as usize..(node.first + node.children) as usize;
        let sorted = sort_first(&self.nodes, &mut self.children[rest.clone()], count);
        self.nodes[parent as usize].sorted += sorted as u32;
        if sorted < rest.len() {
            self.ahead = self.ahead.saturating_mul(2);
        }
    }

    /// Where a node is among its siblings; past them if it was removed.
    pub(super) fn position(&self, at: u32) -> usize {
        let parent = &self.nodes[self.nodes[at as usize].parent as usize];
        let siblings = self.siblings(self.nodes[at as usize].parent);
        // Whoever is served is the first that is not done, so it stands at the cursor.
        let cursor = parent.cursor as usize;
        if siblings.get(cursor) == Some(&at) {
            return cursor;
        }
        let found = siblings.iter().position(|&other| other == at);
        found.unwrap_or(siblings.len())
    }

    /// Moves a child behind so many of those that come after it.
    pub(super) fn move_behind(&mut self, parent: u32, position: usize, passed: usize) {
        let node = &self.nodes[parent as usize];
        let behind = node.children as usize - 1 - position - passed;
        // Mostly the first goes to the end. It is taken off at the front then, and those behind its
        // new place, who are fewer, make room for it.
        if position > 0 || behind >= passed || !self.has_room_behind(parent) {
            self.siblings_mut(parent)[position..=position + passed].rotate_left(1);
            return;
        }
        let node = &mut self.nodes[parent as usize];
        let first = node.first as usize;
        let end = first + node.children as usize;
        node.first += 1;
        let moved = self.children[first];
        let place = first + 1 + passed;
        self.children.copy_within(place..end, place + 1);
        self.children[place] = moved;
    }

    /// Whether one more place follows a node's children in its part: all of them move to the front of
    /// it, if that makes one.
    fn has_room_behind(&mut self, parent: u32) -> bool {
        let node = &mut self.nodes[parent as usize];
        let (begin, end) = node.part;
        if node.first + node.children < end {
            return true;
        }
        let children = node.first as usize..(node.first + node.children) as usize;
        let moves = node.first > begin;
        node.first = begin;
        if moves {
            self.children.copy_within(children, begin as usize);
        }
        moves
    }
}

/// Puts those of some siblings that come first into the order of service, so many at least, and answers
/// how many. Nearly always they differ in amounts of one kind alone, which are compared without the
/// nodes.
fn sort_first(nodes: &[Node], siblings: &mut [u32], count: usize) -> usize {
    let node = |at: &u32| &nodes[*at as usize];
    let first = match siblings {
        [] | [_] => return siblings.len(),
        [first, ..] => node(first),
    };
    let mut shares = siblings.iter().map(|at| &node(at).share);
    let holder = shares.clone().find(|share| share.held() > 0);
    let one_kind = holder.is_none_or(|holder| shares.all(|share| share.is_like(holder)));
    if one_kind
        && siblings
            .iter()
            .all(|at| node(at).priority == first.priority)
    {
        let key = |at: &u32| (node(at).share.held(), node(at).count, node(at).rank, *at);
        let mut keys: Vec<_> = siblings.iter().map(key).collect();
        let sorted = sort_first_by(&mut keys, count, Ord::cmp);
        for (place, (.., at)) in siblings.iter_mut().zip(keys) {
            *place = at;
        }
        sorted
    } else {
        sort_first_by(siblings, count, |one, other| order(node(one), node(other)))
    }
}

/// Sorts the first of a list, so many at least, and answers how many; the rest are behind them.
fn sort_first_by<T>(list: &mut [T], count: usize, order: impl Fn(&T, &T) -> Ordering) -> usize {
    // Of so few more the sorting costs less than to tell them from the rest.
    let sorted = if count < list.len() / 2 {
        count
    } else {
        list.len()
    };
    if sorted < list.len() {
        list.select_nth_unstable_by(sorted, &order);
    }
    if let Some(first) = list.get_mut(..sorted) {
        first.sort_unstable_by(&order);
    }
    sorted
}
