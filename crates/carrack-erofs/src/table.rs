//! A set of numbers of nodes, found by parent and name.
//!
//! Invariant: open addressing with linear probing and no tombstones: between a number and the slot that its hash names
//! there is no empty slot. The hash has a key of its own in every process, so that no archive can choose collisions.

use std::hash::{BuildHasher, Hasher, RandomState};

const EMPTY: u32 = u32::MAX;

pub(crate) struct Table {
    slots: Vec<u32>,
    count: usize,
    state: RandomState,
}

impl Table {
    pub fn new() -> Self {
        Self { slots: vec![EMPTY; 64], count: 0, state: RandomState::new() }
    }

    pub fn hash(&self, parent: u32, name: &[u8]) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write_u32(parent);
        hasher.write(name);
        hasher.finish()
    }

    /// The number with this hash that is the right one.
    pub fn find(&self, hash: u64, mut is_right: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut slot = self.home(hash);
        loop {
            match self.slots[slot] {
                EMPTY => return None,
                node if is_right(node) => return Some(node),
                _ => slot = self.after(slot),
            }
        }
    }

    /// Adds a number that is not there; `hash_of` gives the hashes of those that are, because the table may grow.
    pub fn insert(&mut self, hash: u64, node: u32, hash_of: impl Fn(&Self, u32) -> u64) {
        if (self.count + 1) * 4 > self.slots.len() * 3 {
            let doubled = vec![EMPTY; self.slots.len() * 2];
            let old = std::mem::replace(&mut self.slots, doubled);
            for node in old.into_iter().filter(|node| *node != EMPTY) {
                let hash = hash_of(self, node);
                self.place(hash, node);
            }
        }
        self.place(hash, node);
        self.count += 1;
    }

    /// Takes a number out, and moves those back that had to make room for it.
    pub fn remove(&mut self, hash: u64, node: u32, hash_of: impl Fn(&Self, u32) -> u64) {
        let mut hole = self.home(hash);
        while self.slots[hole] != node {
            if self.slots[hole] == EMPTY {
                return;
            }
            hole = self.after(hole);
        }
        self.count -= 1;
        let mut slot = hole;
        loop {
            slot = self.after(slot);
            let moved = self.slots[slot];
            if moved == EMPTY {
                break;
            }
            let home = self.home(hash_of(self, moved));
            let distance = |from: usize, to: usize| to.wrapping_sub(from) & (self.slots.len() - 1);
            if distance(home, slot) >= distance(hole, slot) {
                self.slots[hole] = moved;
                hole = slot;
            }
        }
        self.slots[hole] = EMPTY;
    }

    fn place(&mut self, hash: u64, node: u32) {
        let mut slot = self.home(hash);
        while self.slots[slot] != EMPTY {
            slot = self.after(slot);
        }
        self.slots[slot] = node;
    }

    #[allow(clippy::cast_possible_truncation)] // the low bits are what is asked for
    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_is_gone_and_nothing_else() {
        let mut table = Table::new();
        let hash = |table: &Table, node: u32| table.hash(node / 7, &node.to_le_bytes());
        for node in 0..5000 {
            table.insert(hash(&table, node), node, hash);
        }
        for node in (0..5000).filter(|node| node % 3 != 0) {
            table.remove(hash(&table, node), node, hash);
        }
        for node in 0..5000 {
            let found = table.find(hash(&table, node), |found| found == node);
            assert_eq!(found, (node % 3 == 0).then_some(node));
        }
    }
}
