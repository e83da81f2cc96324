//! The Parquet columns: names, types, units, encodings. Only this file names a column.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use crate::layout::{Layout, NeighborStorage};
use crate::structure::FloatWidth;

/// Version of the on-disk format. Readers accept their own and all earlier ones.
pub const SCHEMA_VERSION: u32 = 2;

/// Footer key of the row groups' checksums.
pub(crate) const CHECKSUM_KEY: &str = "jmp.row_group_blake3";

pub(crate) const ID: &str = "id";
pub(crate) const GROUP: &str = "group";
pub(crate) const NATOMS: &str = "natoms";
pub(crate) const ATOMIC_NUMBERS: &str = "atomic_numbers";
pub(crate) const POSITIONS: &str = "positions";
pub(crate) const CELL: &str = "cell";
pub(crate) const PBC: &str = "pbc";
pub(crate) const TAGS: &str = "tags";
pub(crate) const FIXED: &str = "fixed";
pub(crate) const CHARGE: &str = "charge";
pub(crate) const SPIN: &str = "spin";
pub(crate) const ENERGY: &str = "energy";
pub(crate) const FORCES: &str = "forces";
pub(crate) const STRESS: &str = "stress";
pub(crate) const NEIGHBOR_COUNT: &str = "neighbor_count";
pub(crate) const NEIGHBOR_INDEX: &str = "neighbor_index";
pub(crate) const NEIGHBOR_SHIFT: &str = "neighbor_shift";

/// The count columns, in the order of [`crate::graph::GraphCounts`].
pub(crate) const COUNTS: [&str; 8] = [
    "edges_main",
    "edges_atom_edge",
    "edges_quadruplet",
    "edges_atom_atom",
    "triplets",
    "triplets_atom_edge",
    "triplets_edge_atom",
    "quadruplets",
];

/// Names a scalar target may not take.
pub fn is_reserved(name: &str) -> bool {
    let fixed = [
        ID,
        GROUP,
        NATOMS,
        ATOMIC_NUMBERS,
        POSITIONS,
        CELL,
        PBC,
        TAGS,
        FIXED,
        CHARGE,
        SPIN,
        ENERGY,
        FORCES,
        STRESS,
        NEIGHBOR_COUNT,
        NEIGHBOR_INDEX,
        NEIGHBOR_SHIFT,
    ];
    fixed.contains(&name) || COUNTS.contains(&name)
}

/// The Arrow schema of a layout; each field's metadata tells unit and meaning.
pub(crate) fn arrow_schema(layout: &Layout) -> Arc<Schema> {
    let float = match layout.float {
        FloatWidth::F32 => DataType::Float32,
        FloatWidth::F64 => DataType::Float64,
    };
    let mut fields = vec![
        field(ID, DataType::Utf8, false, "", "identity at the source, unique within the dataset"),
        field(
            GROUP,
            DataType::Utf8,
            false,
            "",
            "what must not be split apart: formula, reaction, relaxation",
        ),
        field(NATOMS, DataType::UInt32, false, "", "number of atoms N"),
        field(ATOMIC_NUMBERS, list(DataType::UInt8), false, "", "atomic numbers, [N]"),
        field(POSITIONS, list(float.clone()), false, "Å", "positions, flat [3N]: x1 y1 z1 x2 …"),
        field(
            CELL,
            fixed(DataType::Float64, 9),
            true,
            "Å",
            "cell vectors as rows: ax ay az bx by bz cx cy cz",
        ),
        field(PBC, fixed(DataType::Boolean, 3), false, "", "which cell vectors are periodic"),
        field(
            TAGS,
            list(DataType::UInt8),
            true,
            "",
            "0 sub-surface, 1 surface, 2 adsorbate, [N]; null acts as 2",
        ),
        field(
            FIXED,
            list(DataType::Boolean),
            true,
            "",
            "atoms held in place by the calculation, [N]; null: none",
        ),
        field(CHARGE, DataType::Float64, true, "e", "total charge"),
        field(SPIN, DataType::Float64, true, "", "spin multiplicity 2S + 1"),
        field(ENERGY, DataType::Float64, true, "eV", "total energy as the source defines its zero"),
        field(FORCES, list(float), true, "eV/Å", "forces −∂E/∂r, flat [3N]"),
        field(STRESS, fixed(DataType::Float64, 6), true, "eV/Å³", "stress, Voigt order xx yy zz yz xz xy"),
    ];
    for target in &layout.targets {
        fields.push(field(&target.name, DataType::Float64, true, &target.unit, &target.meaning));
    }
    for name in COUNTS {
        let kind = if name.starts_with("edges") { DataType::UInt32 } else { DataType::UInt64 };
        fields.push(field(name, kind, false, "", "count in the graphs that the manifest's layout specifies"));
    }
    if layout.neighbors != NeighborStorage::None {
        let index = list(DataType::UInt16);
        fields.push(field(NEIGHBOR_COUNT, index.clone(), false, "", "stored neighbours of each atom, [N]"));
        fields.push(field(
            NEIGHBOR_INDEX,
            index,
            false,
            "",
            "neighbouring atom s of each atom t in turn, sorted by (s, shift) for each t",
        ));
        fields.push(field(
            NEIGHBOR_SHIFT,
            list(DataType::Int32),
            true,
            "",
            "cell shift o of each neighbour, displacement = r_s − r_t + o·cell, packed as ox + 1024·oy + 1048576·oz; null: all 0",
        ));
    }
    Arc::new(Schema::new(fields))
}

fn field(name: &str, kind: DataType, nullable: bool, unit: &str, meaning: &str) -> Field {
    let told = [("meaning", meaning), ("unit", unit)].into_iter().filter(|(_, text)| !text.is_empty());
    let metadata: arrow::datatypes::Metadata =
        told.map(|(key, text)| (key.to_string(), text.to_string())).collect();
    Field::new(name, kind, nullable).with_metadata(metadata)
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, false)))
}

fn fixed(item: DataType, size: i32) -> DataType {
    DataType::FixedSizeList(Arc::new(Field::new_list_field(item, false)), size)
}

/// Encodings measured to be smallest and fastest to read: floats split by byte without dictionary, zstd, no statistics on lists.
pub(crate) fn writer_properties(schema: &Schema) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by("jmp shards".to_string())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        // Row groups are cut by hand, so that each one's bytes can be hashed.
        .set_max_row_group_row_count(Some(usize::MAX));
    for field in schema.fields() {
        let path = leaf(field);
        properties = match leaf_type(field.data_type()) {
            DataType::Float32 | DataType::Float64 => {
                properties.set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT)
            }
            DataType::Utf8 if field.name() == ID => {
                properties.set_column_encoding(path, Encoding::DELTA_BYTE_ARRAY)
            }
            DataType::Utf8 => properties.set_column_dictionary_enabled(path, true),
            DataType::UInt32 | DataType::UInt64 => {
                properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
            }
            _ => properties.set_column_encoding(path, Encoding::PLAIN),
        };
    }
    properties.build()
}

fn leaf_type(kind: &DataType) -> &DataType {
    match kind {
        DataType::List(item) | DataType::FixedSizeList(item, _) => item.data_type(),
        other => other,
    }
}

fn leaf(field: &Field) -> ColumnPath {
    let mut parts = vec![field.name().clone()];
    if let DataType::List(item) | DataType::FixedSizeList(item, _) = field.data_type() {
        parts.extend(["list".to_string(), item.name().clone()]);
    }
    ColumnPath::new(parts)
}

/// Packs a cell shift into one integer; `None` outside ±511.
pub(crate) fn pack_shift(shift: [i16; 3]) -> Option<i32> {
    if shift.iter().any(|s| s.abs() > 511) {
        return None;
    }
    let [x, y, z] = shift.map(i32::from);
    Some(x + 1024 * y + 1_048_576 * z)
}

/// Undoes [`pack_shift`].
pub(crate) fn unpack_shift(packed: i32) -> [i16; 3] {
    let digit = |value: i32| (value + 512).rem_euclid(1024) - 512;
    let x = digit(packed);
    let rest = (packed - x) / 1024;
    let y = digit(rest);
    [x as i16, y as i16, ((rest - y) / 1024) as i16]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packed_shifts_come_back(x in -511i16..=511, y in -511i16..=511, z in -511i16..=511) {
            let packed = pack_shift([x, y, z]).unwrap();
            prop_assert_eq!(unpack_shift(packed), [x, y, z]);
        }
    }

    #[test]
    fn too_far_shifts_are_refused() {
        assert_eq!(pack_shift([0, 512, 0]), None);
    }
}
