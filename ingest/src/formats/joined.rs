//! Several sources of one dataset, one after the other: OC20's relaxations as LMDBs, its rattled and MD sets as archives.

use std::collections::BTreeSet;

use shards::FloatWidth;

use crate::error::IngestError;
use crate::source::{Description, Members, Sink, Source, SplitPlan};

/// Sources joined: their units follow one another, splits of one name are one split.
pub(super) struct Joined {
    description: Description,
    sources: Vec<Box<dyn Source>>,
    /// Source and unit in it, of every unit.
    places: Vec<(usize, usize)>,
}

impl Joined {
    /// Joins sources of one format; positions are as wide as the widest. `sources` must not be empty.
    pub(super) fn new(sources: Vec<Box<dyn Source>>) -> Self {
        let mut description = sources[0].description().clone();
        (description.units, description.splits) = (vec![], vec![]);
        let (mut places, mut names) = (Vec::new(), BTreeSet::new());
        for (at, source) in sources.iter().enumerate() {
            let first = description.units.len() as u32;
            let more = source.description();
            if more.layout.float == FloatWidth::F64 {
                description.layout.float = FloatWidth::F64;
            }
            places.extend((0..more.units.len()).map(|unit| (at, unit)));
            for unit in &more.units {
                let mut unit = unit.clone();
                if !names.insert(unit.name.clone()) {
                    unit.name = format!("{}#{at}", unit.name);
                }
                description.units.push(unit);
            }
            more.splits.iter().for_each(|split| add(&mut description.splits, split, first));
        }
        Self { description, sources, places }
    }
}

fn add(splits: &mut Vec<SplitPlan>, split: &SplitPlan, first: u32) {
    let mut split = split.clone();
    if let Members::Units(units) = &split.members {
        split.members = Members::Units(units.iter().map(|u| u + first).collect::<BTreeSet<u32>>());
    }
    let known = splits.iter_mut().find(|s| s.name == split.name);
    match (known.map(|k| &mut k.members), &split.members) {
        (Some(Members::Units(known)), Members::Units(more)) => known.extend(more),
        _ => splits.push(split),
    }
}

impl Source for Joined {
    fn description(&self) -> &Description {
        &self.description
    }

    fn read(&self, unit: usize, sink: &mut dyn Sink) -> Result<(), IngestError> {
        let (source, unit) = self.places[unit];
        self.sources[source].read(unit, sink)
    }

    fn warnings(&self) -> Vec<String> {
        self.sources.iter().flat_map(|s| s.warnings()).collect()
    }
}
