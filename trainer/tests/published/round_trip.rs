//! Export and import again; files with faults; the imported model's numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use shards::graph::GraphBatch;
use tch::{Device, Kind, Tensor};
use trainer::batch::Batch;
use trainer::checkpoint::{self, tensors};
use trainer::config::sections::Precision;
use trainer::heads::Pooling;
use trainer::network::{HeadLayout, Network};
use trainer::published::{Imported, KnownPooling, NameStyle, Options, Weights, export, import};

use crate::case::Case;
use crate::{filled, fixture, goldens, imported};

/// The fixture as a checkpoint in `folder`.
fn written(folder: &Path) -> PathBuf {
    let mut imported = import(&fixture("published.pt"), &Options::default()).unwrap();
    let dir = folder.join("checkpoint");
    checkpoint::write(&dir, &mut imported.info, &imported.state).unwrap();
    dir
}

fn equal(one: &BTreeMap<String, Tensor>, other: &BTreeMap<String, Tensor>) {
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (name, tensor) in one {
        assert_eq!(tensor.size(), other[name].size(), "{name}");
        assert!(tensor.equal(&other[name]), "{name}");
    }
}

#[test]
fn an_export_comes_back_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let dir = written(folder.path());
    let want = imported(Weights::Ema);
    for (file, aliases, count) in [("a.pt", true, 268), ("b.pt", false, 255), ("c.safetensors", false, 255)] {
        let out = folder.path().join(file);
        let names = export(&dir, &out, None, None, aliases).unwrap();
        assert_eq!(names.len(), count, "{file}");
        let again = import(&out, &Options::default()).unwrap();
        assert_eq!(again.report.weights, Weights::Model);
        equal(&again.state.model, &want);
        // The same checkpoint gives the same bytes.
        let second = folder.path().join("again").with_extension(out.extension().unwrap());
        export(&dir, &second, None, None, aliases).unwrap();
        assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(&second).unwrap(), "{file}");
    }
    let names = export(&dir, &folder.path().join("f.pt"), None, Some(NameStyle::Finetune), true).unwrap();
    assert!(names.contains(&"embedding.weight".to_owned()));
    assert!(names.iter().all(|n| n == "embedding.weight" || n.starts_with("backbone.")), "{names:?}");
    let backbone = import(&folder.path().join("f.pt"), &Options::default()).unwrap();
    let first = "backbone.int_blocks.0.dense_ca.linear.weight";
    assert!(backbone.state.model[first].equal(&want[first]));
    let none = export(&dir, &folder.path().join("g.pt"), Some(Weights::Ema), None, true).unwrap_err();
    assert!(none.to_string().contains("no averaged weights"), "{none}");
}

/// Imports the fixture's tensors after a change and returns the refusal.
fn after(change: impl Fn(&mut BTreeMap<String, Tensor>)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut model = imported(Weights::Model);
    change(&mut model);
    let file = folder.path().join("x.safetensors");
    tensors::write(&file, &model).unwrap();
    match import(&file, &Options::default()) {
        Ok(imported) => format!("taken: {:?}", imported.report),
        Err(error) => error.to_string(),
    }
}

#[test]
fn faults_are_told_by_tensor_expected_and_found() {
    let name = "backbone.int_blocks.1.concat_layer.dense.linear.weight";
    let text = after(|m| drop(m.insert(name.into(), Tensor::zeros([8, 21], (Kind::Float, Device::Cpu)))));
    assert!(text.contains(&format!("`{name}`: expected shape [8, 20], found [8, 21]")), "{text}");
    let text = after(|m| drop(m.remove(name)));
    assert!(text.contains(&format!("`{name}` is missing")), "{text}");
    let text = after(|m| drop(m.remove("output.out_forces.2.4.bias")));
    assert!(text.contains("`output.out_forces.2.4.bias` is missing"), "{text}");
    let text = after(|m| drop(m.remove("embedding.atom_embedding.weight")));
    assert!(text.contains("`embedding.atom_embedding.weight` (or `embedding.weight`) is missing"), "{text}");
    let text =
        after(|m| drop(m.insert("backbone.more".into(), Tensor::zeros([1], (Kind::Float, Device::Cpu)))));
    assert!(text.contains("`backbone.more`; --ignore-unknown"), "{text}");
    let text = after(|m| drop(m.insert(name.into(), Tensor::zeros([8, 20], (Kind::Int64, Device::Cpu)))));
    assert!(text.contains("expected floating-point numbers, found Int64"), "{text}");
    let text =
        after(|m| drop(m.insert(name.into(), Tensor::full([8, 20], f64::NAN, (Kind::Float, Device::Cpu)))));
    assert!(text.contains("NaN"), "{text}");
    let second = "backbone.out_blocks.0.seq_energy_pre.0.linear.weight";
    let text = after(|m| drop(m.insert(second.into(), Tensor::zeros([6, 8], (Kind::Float, Device::Cpu)))));
    assert!(text.contains(second) && text.contains("should be the same as"), "{text}");
    let elements = "embedding.atom_embedding.weight";
    let text =
        after(|m| drop(m.insert(elements.into(), Tensor::zeros([100, 6], (Kind::Float, Device::Cpu)))));
    assert!(text.contains("100 elements, expected 120"), "{text}");
}

#[test]
fn constants_may_be_missing_and_counters_are_left_out() {
    let text = after(|m| {
        m.retain(|name, _| !name.contains(".rbf."));
        m.insert("task_steps".into(), Tensor::from_slice(&[1_i64, 2, 3, 4]));
    });
    assert!(text.contains("missing: 12") && text.contains("counters of training steps"), "{text}");
}

/// Writes a property's model and imports it, `pooling` being all that is known of how its atoms are pooled.
fn property(layout: Pooling, pooling: KnownPooling) -> Result<Imported, String> {
    let folder = tempfile::tempdir().unwrap();
    let network = Network::new(&tiny(), HeadLayout::Scalar(layout), 0, Precision::F32, Device::Cpu);
    let file = folder.path().join("property.safetensors");
    tensors::write(&file, &network.store().variables().into_iter().collect()).unwrap();
    let options = Options { pooling, tasks: vec!["band_gap".into()], ..Options::default() };
    let imported = import(&file, &options).map_err(|error| error.to_string())?;
    equal(&imported.state.model, &network.store().variables().into_iter().collect());
    Ok(imported)
}

#[test]
fn a_property_comes_back_with_the_pooling_that_is_named() {
    let unknown = property(Pooling::Mean, KnownPooling::No).unwrap_err();
    assert!(unknown.contains("--pooling sum, mean or max"), "{unknown}");
    for pooling in [Pooling::Sum, Pooling::Mean, Pooling::Max, Pooling::SquaredRadius] {
        let imported = property(pooling, KnownPooling::Named(pooling)).unwrap();
        let task = &imported.info.tasks[0];
        let scalar = task.scalar.as_ref().unwrap();
        assert_eq!((scalar.pooling, scalar.name.as_str()), (pooling, "band_gap"));
        assert_eq!(task.transform.label, "band_gap");
        let heads = HeadLayout::of_records(imported.info.kind, &imported.info.tasks);
        assert_eq!(heads, HeadLayout::Scalar(pooling));
    }
    // The squared radius alone shows in the shapes; a head that is dropped need not be known.
    let radius = property(Pooling::SquaredRadius, KnownPooling::No).unwrap();
    assert_eq!(radius.info.tasks[0].scalar.as_ref().unwrap().pooling, Pooling::SquaredRadius);
    property(Pooling::Max, KnownPooling::NotNeeded).unwrap();
    let other = property(Pooling::SquaredRadius, KnownPooling::Named(Pooling::Mean)).unwrap_err();
    assert!(other.contains("without biases"), "{other}");
    let other = property(Pooling::Mean, KnownPooling::Named(Pooling::SquaredRadius)).unwrap_err();
    assert!(other.contains("with biases"), "{other}");
    let energies = import(
        &fixture("published.pt"),
        &Options { pooling: KnownPooling::Named(Pooling::Sum), ..Options::default() },
    );
    assert!(energies.unwrap_err().to_string().contains("for models of a property"));
}

/// The reference's energies, from weights that went through a file.
#[test]
fn golden_energies_of_an_imported_model() {
    let folder = tempfile::tempdir().unwrap();
    let empty = Network::new(&tiny(), HeadLayout::Joint(4), 0, Precision::F32, Device::Cpu);
    let model: BTreeMap<String, Tensor> = empty
        .store()
        .variables()
        .into_iter()
        .map(|(name, tensor)| (name.clone(), filled(&name, &tensor.size(), "")))
        .collect();
    let file = folder.path().join("tiny.safetensors");
    tensors::write(&file, &model).unwrap();
    let imported = import(&file, &Options::default()).unwrap();
    assert_eq!(imported.report.size(), "tiny");
    // Small matrices: threads would mostly wait for one another.
    tch::set_num_threads(1);
    for name in ["tiny_pt_mols.npz", "tiny_pt_slab.npz"] {
        let case = Case::read(&goldens().join(name));
        let network =
            Network::new(&imported.report.model, HeadLayout::Joint(4), 1, Precision::F32, Device::Cpu);
        network.load(&imported.state.model).unwrap();
        let graph = GraphBatch::collate(&case.graphs);
        let want = &case.arrays["energy"].data;
        let largest = want.iter().fold(0.0, |max: f64, v| max.max(v.abs()));
        for task in 0..4 {
            let tasks = vec![task; case.graphs.len()];
            let batch =
                Batch::unlabelled(&case.positions, &case.numbers, &tasks, &graph, (Kind::Float, Device::Cpu));
            let energy =
                Vec::<f64>::try_from(network.forward(&batch, false).energy.to_kind(Kind::Double)).unwrap();
            for (g, got) in energy.iter().enumerate() {
                let error = (got - want[4 * g + task]).abs() / largest;
                assert!(error < 1e-5, "{name}, structure {g}, task {task}: off by {error:.1e}");
            }
        }
    }
}

fn tiny() -> trainer::config::model::ModelSection {
    trainer::config::model::ModelSection::of(&trainer::gemnet::GemNetConfig::tiny()).unwrap()
}
