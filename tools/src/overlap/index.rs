//! The smaller side in memory: what the structures of the checked sets are found by.

use super::composition::Key;
use super::fingerprint::{self, Fingerprint};

/// What a checked structure is: its key and, where structures are compared, its fingerprint.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    /// Key of composition, formula or content.
    pub key: Key,
    /// The fingerprint, if structures are compared by it.
    pub fingerprint: Option<Fingerprint>,
}

/// Slots: distinct keys, or where fingerprints are compared each structure its own.
#[derive(Debug, Default)]
pub struct Index {
    /// Distinct keys, ascending.
    keys: Vec<Key>,
    /// Where the slots of each key begin; one more entry ends the last.
    begins: Vec<u32>,
    /// Bits of the keys' low halves: most lookups end here.
    filter: Vec<u64>,
    /// Mean component of each slot's fingerprint, ascending within a key.
    means: Vec<f32>,
    /// All fingerprints one after another, and where each begins.
    components: Vec<u16>,
    starts: Vec<usize>,
}

impl Index {
    /// Builds the index and tells the slot of each of the given structures.
    pub fn build(signatures: &[Signature]) -> (Self, Vec<u32>) {
        let mut order: Vec<u32> = (0..signatures.len() as u32).collect();
        let mean = |s: &Signature| s.fingerprint.as_ref().map_or(0.0, Fingerprint::mean);
        let means: Vec<f32> = signatures.iter().map(mean).collect();
        order.sort_by(|&a, &b| {
            let (a, b) = (a as usize, b as usize);
            signatures[a].key.cmp(&signatures[b].key).then(means[a].total_cmp(&means[b]))
        });
        let mut index = Self { starts: vec![0], ..Self::default() };
        let mut slots = vec![0; signatures.len()];
        for structure in order {
            let signature = &signatures[structure as usize];
            let is_new = index.keys.last() != Some(&signature.key);
            if is_new {
                index.begins.push(index.means.len() as u32);
                index.keys.push(signature.key);
            }
            if is_new || signature.fingerprint.is_some() {
                index.means.push(means[structure as usize]);
                let components = signature.fingerprint.iter().flat_map(|f| &f.0);
                index.components.extend(components);
                index.starts.push(index.components.len());
            }
            slots[structure as usize] = index.means.len() as u32 - 1;
        }
        index.begins.push(index.means.len() as u32);
        index.filter = filter(&index.keys);
        (index, slots)
    }

    /// How many slots there are.
    pub fn slots(&self) -> usize {
        self.means.len()
    }

    /// The slots of a key; none if no checked structure has it.
    pub fn of_key(&self, key: Key) -> std::ops::Range<usize> {
        let bits = self.filter.len() as u64 * 64;
        let bit = if bits > 0 { key as u64 & (bits - 1) } else { return 0..0 };
        if self.filter[(bit / 64) as usize] >> (bit % 64) & 1 == 0 {
            return 0..0;
        }
        match self.keys.binary_search(&key) {
            Ok(place) => self.begins[place] as usize..self.begins[place + 1] as usize,
            Err(_) => 0..0,
        }
    }

    /// The slots of a key whose fingerprint is like the given one.
    pub fn alike<'a>(
        &'a self,
        key: Key,
        fingerprint: &'a Fingerprint,
        tolerance: u16,
    ) -> impl Iterator<Item = usize> + 'a {
        let slots = self.of_key(key);
        let mean = fingerprint.mean();
        // Rounding of the means must not lose a pair at the very edge.
        let reach = f32::from(tolerance) + 1.0;
        let first = slots.start + self.means[slots.clone()].partition_point(|&m| m < mean - reach);
        (first..slots.end).take_while(move |&slot| self.means[slot] <= mean + reach).filter(move |&slot| {
            let components = &self.components[self.starts[slot]..self.starts[slot + 1]];
            fingerprint::alike(components, &fingerprint.0, tolerance)
        })
    }
}

/// Sixteen bits or more for each key, a power of two together.
fn filter(keys: &[Key]) -> Vec<u64> {
    if keys.is_empty() {
        return vec![];
    }
    let words = (keys.len() / 4).next_power_of_two().max(1);
    let mut filter = vec![0; words];
    for &key in keys {
        let bit = key as u64 & (words as u64 * 64 - 1);
        filter[(bit / 64) as usize] |= 1 << (bit % 64);
    }
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(key: Key) -> Signature {
        Signature { key, fingerprint: None }
    }

    #[test]
    fn equal_keys_share_a_slot() {
        let keys: Vec<Key> =
            (0..1000).map(|k: u128| k * k % 701).map(|k| (k << 64) + k * 0x9e37_79b9).collect();
        let (index, slots) = Index::build(&keys.iter().copied().map(plain).collect::<Vec<_>>());
        let distinct: std::collections::BTreeSet<Key> = keys.iter().copied().collect();
        assert_eq!(index.slots(), distinct.len());
        for (key, &slot) in keys.iter().zip(&slots) {
            assert_eq!(index.of_key(*key), slot as usize..slot as usize + 1);
        }
        let absent = (0..5000u128).map(|k| k * 0x1234_5678_9abc).filter(|k| !distinct.contains(k));
        assert!(absent.clone().count() > 4000 && absent.into_iter().all(|k| index.of_key(k).is_empty()));
        assert!(Index::build(&[]).0.of_key(7).is_empty());
    }

    #[test]
    fn fingerprints_are_searched_as_by_brute_force() {
        let component = |i: usize, k: usize| (1000 + (i * 7919 + k * 31) % 400) as u16;
        let prints: Vec<Fingerprint> =
            (0..300).map(|i| Fingerprint((0..20).map(|k| component(i, k)).collect())).collect();
        let signatures = prints
            .iter()
            .enumerate()
            .map(|(i, f)| Signature { key: (i % 3) as Key, fingerprint: Some(f.clone()) });
        let (index, slots) = Index::build(&signatures.collect::<Vec<_>>());
        let mut matches = 0;
        for (i, wanted) in prints.iter().enumerate() {
            for tolerance in [0, 40, 150] {
                let mut found: Vec<usize> = index.alike((i % 3) as Key, wanted, tolerance).collect();
                let mut expected: Vec<usize> = (i % 3..300)
                    .step_by(3)
                    .filter(|&j| fingerprint::alike(&prints[j].0, &wanted.0, tolerance))
                    .map(|j| slots[j] as usize)
                    .collect();
                found.sort_unstable();
                expected.sort_unstable();
                matches += expected.len();
                assert_eq!(found, expected);
            }
        }
        assert!(matches > 1000, "{matches}");
    }
}
