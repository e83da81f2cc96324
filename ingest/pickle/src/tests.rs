//! Fixtures of every known writer, and hostile bytes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;

fn fixture(name: &str) -> Vec<u8> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../tests/fixtures/pickle", name].iter().collect();
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn truth() -> Json {
    serde_json::from_slice(&fixture("truth.json")).unwrap()
}

fn names(truth: &Json, key: &str) -> Vec<String> {
    truth[key].as_array().unwrap().iter().map(|n| n.as_str().unwrap().to_owned()).collect()
}

/// A decoded value in the form in which truth.json writes it.
fn plain(decoded: &Decoded<'_>, value: Value) -> Json {
    match decoded.item(value) {
        Item::None => Json::Null,
        Item::Bool(b) => Json::from(b),
        Item::Int(i) => Json::from(i),
        Item::Float(f) => Json::from(f),
        Item::Str(s) => Json::from(s),
        Item::Sequence(items) => items.iter().map(|&v| plain(decoded, v)).collect(),
        Item::Dict(entries) => {
            let named = entries.iter().map(|(k, v)| {
                let Item::Str(key) = decoded.item(*k) else { panic!("a key that is no text") };
                (key.to_owned(), plain(decoded, *v))
            });
            Json::Object(named.collect())
        }
        Item::Array(a) => serde_json::json!({
            "dtype": dtype_name(a.dtype()), "shape": a.shape(), "data": a.to_f64(),
        }),
        Item::Bytes(_) | Item::Object(_) | Item::Tensor(_) | Item::Opaque => panic!("no plain value"),
    }
}

fn dtype_name(dtype: crate::array::Dtype) -> &'static str {
    use crate::array::Dtype;
    match dtype {
        Dtype::F16 => "float16",
        Dtype::Bf16 => "bfloat16",
        Dtype::F32 => "float32",
        Dtype::F64 => "float64",
        Dtype::I32 => "int32",
        Dtype::I64 => "int64",
        Dtype::U8 => "uint8",
        Dtype::Bool => "bool",
        other => panic!("not in the fixtures: {other:?}"),
    }
}

/// Equal, reading `torch.float32` as `float32` and 1 as 1.0.
#[track_caller]
fn check(got: &Json, want: &Json, at: &str) {
    match (got, want) {
        (Json::Object(g), Json::Object(w)) => {
            assert_eq!(g.keys().collect::<Vec<_>>(), w.keys().collect::<Vec<_>>(), "{at}");
            for (key, value) in w {
                check(&g[key], value, &format!("{at}.{key}"));
            }
        }
        (Json::Array(g), Json::Array(w)) => {
            assert_eq!(g.len(), w.len(), "{at}");
            for (i, (g, w)) in g.iter().zip(w).enumerate() {
                check(g, w, &format!("{at}[{i}]"));
            }
        }
        (Json::Number(g), Json::Number(w)) => assert_eq!(g.as_f64(), w.as_f64(), "{at}"),
        (Json::String(g), Json::String(w)) => {
            assert_eq!(g, w.strip_prefix("torch.").unwrap_or(w), "{at}");
        }
        _ => assert_eq!(got, want, "{at}"),
    }
}

/// The attributes of a PyG record, as dicts of plain values.
fn attributes(decoded: &Decoded<'_>, value: Value) -> BTreeMap<String, Json> {
    let Item::Object(state) = decoded.item(value) else { panic!("no record") };
    let mapping = match decoded.entry(state, "_store") {
        Some(store) => {
            let Item::Object(inner) = decoded.item(store) else { panic!("no store") };
            decoded.entry(inner, "_mapping").unwrap()
        }
        None => state,
    };
    let Item::Dict(entries) = decoded.item(mapping) else { panic!("no mapping") };
    entries
        .iter()
        .map(|(k, v)| {
            let Item::Str(key) = decoded.item(*k) else { panic!("no text") };
            (key.to_owned(), plain(decoded, *v))
        })
        .collect()
}

#[test]
fn every_good_fixture_decodes_to_its_truth() {
    let truth = truth();
    let mut records = 0;
    for name in names(&truth, "ok") {
        let bytes = fixture(&name);
        let decoded = decode(&bytes, Limits::RECORD).unwrap_or_else(|e| panic!("{name}: {e}"));
        if let Some(value) = truth["values"].get(&name) {
            check(&plain(&decoded, decoded.root()), value, &name);
            continue;
        }
        let got = match decoded.item(decoded.root()) {
            Item::Sequence(items) => {
                let Json::Object(map) = plain(&decoded, items[0]) else { panic!("{name}: no dict") };
                map.into_iter().collect()
            }
            _ => attributes(&decoded, decoded.root()),
        };
        for (key, want) in truth["fields"].as_object().unwrap() {
            // The .pt fixtures hold the tensors only.
            let is_tensor = want["dtype"].as_str().is_some_and(|d| d.starts_with("torch."));
            if std::path::Path::new(&name).extension().is_none_or(|e| e != "pt") || is_tensor {
                check(got.get(key).unwrap_or(&Json::Null), want, &format!("{name}: {key}"));
            }
        }
        records += 1;
    }
    assert_eq!(records, 9);
}

#[test]
fn every_bad_fixture_is_refused() {
    for name in names(&truth(), "bad") {
        let error = decode(&fixture(&name), Limits::RECORD).expect_err(&name).to_string();
        assert!(error.starts_with("byte "), "{name}: {error}");
    }
}

#[test]
fn a_hostile_call_is_named_with_its_place() {
    let error = decode(&fixture("bad_os_system.pkl"), Limits::RECORD).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("posix.system") && text.contains("nothing was executed"), "{text}");
    assert!(error.offset > 10);
}

#[test]
fn records_of_both_generations_give_the_same_attributes() {
    for name in ["ok_pyg1_p4_numpy1.pkl", "ok_pyg2_p5.pkl", "ok_pyg2_p2.pkl"] {
        let bytes = fixture(name);
        let decoded = decode(&bytes, Limits::RECORD).unwrap();
        let record = Record::of(&decoded, decoded.root()).unwrap();
        assert!(matches!(record.get("sid"), Some(Attribute::Int(2_147_483_653))), "{name}");
        assert!(matches!(record.get("y"), Some(Attribute::Float(y)) if y == -1.25), "{name}");
        assert!(record.get("nothing").is_none() && record.get("x").is_none(), "{name}");
        let (found, forces) = record.first(&["forces", "force"]).unwrap();
        let Attribute::Array(forces) = forces else { panic!("{name}: no array") };
        assert_eq!((found, forces.to_f64()), ("force", vec![-0.0, -1.0, -2.0, -3.0, -4.0, -5.0]));
    }
}

/// A pickle by hand, refused for the given reason.
#[track_caller]
fn refused(pickle: &[u8], why: &str) {
    let error = decode(pickle, Limits::RECORD).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn hostile_pickles_are_refused_for_the_right_reason() {
    refused(b"\x80\x06N.", "protocol 6");
    refused(b"cos\nsystem\n.", "os.system");
    refused(b"c__builtin__\neval\n.", "__builtin__.eval");
    refused(b"cnumpy.core.multiarray\nfromstring\n.", "numpy.core.multiarray.fromstring");
    refused(b"ctorch\nload\n.", "torch.load");
    refused(b"(.", "expected a value on the stack");
    refused(b"K\x01K\x02\x86R.", "expected a value on the stack");
    refused(b"K\x01)R.", "expected a known function to call, found 1");
    refused(b"K\x01(K\x02u.", "expected a dict");
    refused(b"N\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.", "a string needs");
    refused(b"Nr\xff\xff\xff\xff.", "memo entries");
    refused(b"\x8a\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.", "bytes in an integer");
    refused(b"X\x02\x00\x00\x00\xff\xfe.", "UTF-8");
    refused(b"I1\n.", "opcode 0x49");
    refused(b"ccollections\nOrderedDict\n)\x81.", "inert record");
    refused(b"K\x01Q.", "persistent id");
}

#[test]
fn a_bomb_of_repeated_copies_or_loads_runs_out() {
    // One long latin-1 string, encoded again and again.
    let mut copies = b"\x80\x02c_codecs\nencode\nq\x00X\x00\x40\x00\x00".to_vec();
    copies.extend(vec![b'a'; 0x4000]);
    copies.extend(b"q\x01X\x06\x00\x00\x00latin1q\x02\x86q\x03");
    for _ in 0..2000 {
        copies.extend(b"h\x00h\x03R");
    }
    copies.push(b'.');
    refused(&copies, "copied bytes");
    // One long list of empty opcodes inside a bytes object, loaded again and again.
    let mut loads = b"\x80\x02ctorch.storage\n_load_from_bytes\nq\x00B\x00\x40\x00\x00".to_vec();
    loads.extend(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.");
    loads.extend(b"N0".repeat((0x4000 - 15) / 2));
    loads.push(b'.');
    loads.extend(b"\x85q\x01");
    loads.extend(b"h\x00h\x01R0".repeat(100));
    loads.push(b'.');
    assert!(decode(&loads, Limits::RECORD).is_err());
    let nodes = [b"(".as_slice(), &b"]".repeat(1 << 17), b"t."].concat();
    refused(&nodes, "values");
}

#[test]
fn cycles_and_deep_nesting_need_no_stack() {
    // A list that holds itself.
    let decoded = decode(b"\x80\x02]q\x00h\x00a.", Limits::RECORD).unwrap();
    let Item::Sequence(items) = decoded.item(decoded.root()) else { panic!("no list") };
    assert_eq!(items[0], decoded.root());
    // A tuple of a tuple of a tuple …
    let deep = [b"N".as_slice(), &b"\x85".repeat(60_000), b"."].concat();
    assert!(decode(&deep, Limits::RECORD).is_ok());
}

#[test]
fn no_truncation_of_a_record_decodes_or_panics() {
    for name in ["ok_pyg2_p5.pkl", "ok_pyg1_p2.pkl", "ok_list_legacy.pt"] {
        let bytes = fixture(name);
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end], Limits::RECORD).is_err(), "{name} cut at {end}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn flipped_bytes_never_panic(file in 0usize..4, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let name = ["ok_pyg2_p5.pkl", "ok_pyg1_p2.pkl", "ok_list_legacy.pt", "ok_list_zip.pt"][file];
        let mut bytes = fixture(name);
        for (index, value) in flips {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(decoded) = decode(&bytes, Limits::RECORD) && let Some(record) = Record::of(&decoded, decoded.root()) {
            for name in record.names() {
                if let Some(Attribute::Array(a)) = record.get(name) {
                    let _ = (a.to_f64(), a.to_i64());
                }
            }
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes, Limits::RECORD);
        let _ = outline(&bytes, Limits::RECORD);
    }

    #[test]
    fn flipped_bytes_of_a_checkpoint_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = fixture("../checkpoint/ema_short.pt");
        // Half of the file is the pickle and the archive's directories: these are hit often enough.
        for (index, value) in flips {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        let Ok(mut archive) = archive::TorchArchive::open(std::io::Cursor::new(bytes)) else { return Ok(()) };
        let Ok(pickle) = archive.pickle() else { return Ok(()) };
        let Ok(decoded) = outline(&pickle, Limits::RECORD) else { return Ok(()) };
        let Some(state) = decoded.entry(decoded.root(), "state_dict") else { return Ok(()) };
        let Item::Dict(entries) = decoded.item(state) else { return Ok(()) };
        for (_, value) in entries {
            if let Item::Tensor(head) = decoded.item(*value) {
                let _ = archive.tensor(head);
            }
        }
    }

    /// The pickle alone, past the archive's checksums.
    #[test]
    fn flipped_bytes_of_a_checkpoints_pickle_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let file = fixture("../checkpoint/ema_short.pt");
        let mut pickle = archive::TorchArchive::open(std::io::Cursor::new(file)).unwrap().pickle().unwrap();
        for (index, value) in flips {
            let at = index.index(pickle.len());
            pickle[at] = value;
        }
        let _ = outline(&pickle, Limits::RECORD);
    }
}

/// What a checkpoint may hold besides tensors: unknown classes with keyword arguments, sets, calls, items on objects.
#[test]
fn an_outline_passes_foreign_parts_and_reads_single_tensors() {
    use crate::archive::TorchArchive;
    use crate::array::Dtype;
    use std::io::Cursor;

    let values: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let entries = [("a", 0, vec![2, 3]), ("alias", 0, vec![2, 3]), ("scalar", 1, vec![])].map(
        |(name, storage, shape)| state_dict::Entry {
            name: name.to_owned(),
            storage,
            dtype: Dtype::F32,
            shape,
        },
    );
    let bytes =
        |storage: usize| Ok(if storage == 0 { values.clone() } else { 2.5f32.to_le_bytes().to_vec() });
    let file = state_dict::write(Cursor::new(Vec::new()), &entries, bytes).unwrap().into_inner();
    let again = state_dict::write(Cursor::new(Vec::new()), &entries, bytes).unwrap().into_inner();
    assert_eq!(file, again);

    let mut archive = TorchArchive::open(Cursor::new(file.as_slice())).unwrap();
    let pickle = archive.pickle().unwrap();
    let decoded = outline(&pickle, Limits::FILE).unwrap();
    let head = |name: &str| match decoded.item(decoded.entry(decoded.root(), name).unwrap()) {
        Item::Tensor(head) => head.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(archive.tensor(&head("a")).unwrap(), values);
    assert_eq!(head("alias"), head("a"));
    assert_eq!(archive.tensor(&head("scalar")).unwrap(), 2.5f32.to_le_bytes());
    let column = TensorHead { shape: vec![2], strides: vec![3], offset: 1, ..head("a") };
    let want: Vec<u8> = [1.0f32, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(archive.tensor(&column).unwrap(), want);
    // Read whole, the same file gives the same values.
    let whole = decode(&file, Limits::FILE).unwrap();
    let Item::Array(array) = whole.item(whole.entry(whole.root(), "a").unwrap()) else { panic!("no array") };
    assert_eq!(array.to_f64(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    // One flipped bit in a storage is found.
    let mut damaged = file.clone();
    let at = file.windows(24).position(|w| w == values.as_slice()).unwrap();
    damaged[at + 5] ^= 1;
    assert!(TorchArchive::open(Cursor::new(damaged)).unwrap().tensor(&head("a")).is_err());
}

#[test]
fn an_outline_calls_nothing_and_a_strict_reader_refuses() {
    // {"evil": os.system("true"), "object": C.__new__(C, **{}) with items, "set": {1}, "next": 7}
    let pickle = b"\x80\x04}(X\x04\x00\x00\x00evilcos\nsystem\nX\x04\x00\x00\x00true\x85RX\x06\x00\x00\x00objectcmine\nC\n)}\x92(K\x01K\x02uX\x03\x00\x00\x00set\x8f(K\x01\x90X\x04\x00\x00\x00nextK\x07u.";
    let decoded = outline(pickle, Limits::RECORD).unwrap();
    let item = |name: &str| decoded.item(decoded.entry(decoded.root(), name).unwrap());
    for name in ["evil", "object", "set"] {
        assert!(matches!(item(name), Item::Object(Value::None)), "{name}: {:?}", item(name));
    }
    assert!(matches!(item("next"), Item::Int(7)));
    assert!(decode(pickle, Limits::RECORD).is_err());
    let long = [b"\x80\x02\x8a\x11".as_slice(), &[0xff; 16], b"\x00."].concat();
    assert!(outline(&long, Limits::RECORD).is_ok() && decode(&long, Limits::RECORD).is_err());
    // What is no pickle at all, or a tensor outside its storage, is refused here too.
    assert!(outline(b"I1\n.", Limits::RECORD).unwrap_err().to_string().contains("opcode 0x49"));
    let outside = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x03tQK\x00(K\x04t(K\x01t\x89NtR.";
    let error = outline(outside, Limits::RECORD).unwrap_err().to_string();
    assert!(error.contains("outside the 3 elements"), "{error}");
}

#[test]
fn a_legacy_file_is_named_as_such() {
    let error = archive::TorchArchive::open(std::io::Cursor::new(fixture("ok_list_legacy.pt"))).unwrap_err();
    assert!(error.to_string().contains("legacy form") && error.to_string().contains("torch.save"), "{error}");
    let error = archive::TorchArchive::open(std::io::Cursor::new(b"hello")).unwrap_err().to_string();
    assert!(error.contains("nor a torch file"), "{error}");
}
