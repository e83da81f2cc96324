//! Initialisation, scale factors, dropout, switches.

use tch::{Device, Kind, nn};
use trainer::gemnet::{
    Backbone, EdgeDropoutScaling, Embeddings, GemNetConfig, Stage, fit_scale_factors, gradient_divisors,
};
use trainer::heads::{Pooling, ScalarHead};

use crate::model::{Model, assert_close, crystal, line, molecule, numbers, seeded};

#[test]
fn divisors_name_existing_parameters() {
    let model = Model::new(Kind::Float);
    let table = gradient_divisors(model.backbone.config());
    let variables = model.store.variables();
    assert_eq!(table.len(), 12);
    for (name, divisor) in table {
        assert!(variables.contains_key(&format!("backbone.{name}")), "{name}");
        assert_eq!(divisor, if name.contains("mlp_rbf_out") { 3.0 } else { 2.0 });
    }
}

#[test]
fn he_orthogonal_weights_are_standardised() {
    let store = nn::VarStore::new(Device::Cpu);
    for size in [&[64i64, 32][..], &[32, 64], &[16, 7, 24]] {
        let weight = seeded(3, || trainer::gemnet::he_orthogonal(&store.root(), size));
        assert_eq!(weight.size(), size);
        let (over, fan_in): (&[i64], i64) =
            if size.len() == 3 { (&[0, 1], size[0] * size[1]) } else { (&[1], size[1]) };
        let variance = numbers(&weight.var_dim(over, true, false));
        let mean = numbers(&weight.mean_dim(over, false, None::<Kind>));
        // ε = 1e-6 beside variances of about 1/200 leaves some parts in ten thousand.
        assert_close(&variance, &vec![1.0 / fan_in as f64; variance.len()], 1e-3);
        assert!(mean.iter().all(|m| m.abs() < 1e-6));
    }
}

/// After fitting, no factor is left and each scaled output has its reference's variance; a second call changes nothing.
#[test]
fn fitted_scale_factors_keep_variance() {
    let model = Model::new(Kind::Double);
    let batch = model.batch(&[molecule(), crystal()], &[0, 0]);
    let forward = |backbone: &Backbone| -> Result<(), String> {
        backbone.forward(&model.embedding.forward(&batch.atomic_numbers), &batch, false);
        Ok(())
    };
    let fitted = fit_scale_factors(&model.backbone, forward).unwrap();
    assert_eq!(fitted.len(), 3 * 2 + 2 * 11);
    assert!(fitted.iter().all(|factor| factor.value.is_some_and(|value| value > 0.0 && value.is_finite())));
    assert!(fit_scale_factors(&model.backbone, forward).unwrap().is_empty());
    for factor in model.backbone.scale_factors() {
        factor.observe();
        forward(&model.backbone).unwrap();
        let again = factor.fitted().unwrap();
        assert!((again - 1.0).abs() < 1e-9, "{}: off by {again}", factor.name);
    }
}

/// Three atoms have no quadruplet: the factor of their sum stays unfitted, and says so.
#[test]
fn scale_factors_of_absent_messages_stay_unfitted() {
    let model = Model::new(Kind::Double);
    let batch = model.batch(&[line(3), line(3)], &[0, 0]);
    let fitted = fit_scale_factors(&model.backbone, |backbone| -> Result<(), String> {
        backbone.forward(&model.embedding.forward(&batch.atomic_numbers), &batch, false);
        Ok(())
    });
    for factor in fitted.unwrap() {
        assert_eq!(factor.value.is_none(), factor.name.contains("scale_sbf_sum"), "{}", factor.name);
    }
}

/// Edge dropout scales the output blocks' sums, or all edge embeddings, and only in training.
#[test]
fn edge_dropout_is_scaled_where_the_config_says() {
    let first = |scaling, train| {
        let config =
            GemNetConfig { edge_dropout: 0.5, edge_dropout_scaling: scaling, ..GemNetConfig::tiny() };
        let model = Model::of(&config, Kind::Double);
        let batch = model.batch(&[molecule()], &[0]);
        let h = model.embedding.forward(&batch.atomic_numbers);
        let mut embedded = Vec::new();
        let out = model.backbone.forward_watched(&h, &batch, train, |stage, _, m| {
            if stage == Stage::Embedded {
                embedded = numbers(m);
            }
        });
        (embedded, numbers(&out.atoms))
    };
    let (plain, plain_out) = first(EdgeDropoutScaling::Outputs, false);
    let (outputs, outputs_out) = first(EdgeDropoutScaling::Outputs, true);
    let (embeddings, embeddings_out) = first(EdgeDropoutScaling::Embeddings, true);
    assert_eq!(plain, outputs);
    assert_close(&embeddings, &plain.iter().map(|m| 2.0 * m).collect::<Vec<_>>(), 1e-12);
    assert!(plain_out != outputs_out && outputs_out != embeddings_out);
}

/// Each interaction can be left out, and its parameters with it.
#[test]
fn interactions_can_be_switched_off() {
    let all = Model::new(Kind::Float).store.len();
    let tiny = GemNetConfig::tiny;
    for config in [
        GemNetConfig { quad_interaction: false, ..tiny() },
        GemNetConfig { atom_edge_interaction: false, ..tiny() },
        GemNetConfig { edge_atom_interaction: false, ..tiny() },
        GemNetConfig { atom_interaction: false, ..tiny() },
    ] {
        let model = Model::of(&config, Kind::Float);
        assert!(model.store.len() < all);
        let (energy, _) = model.direct(&[molecule(), crystal()], &[0, 1]);
        assert!(energy.iter().all(|e| e.is_finite()));
    }
}

#[test]
fn dropout_acts_in_training_only() {
    let model = Model::of(&GemNetConfig { dropout: 0.3, ..GemNetConfig::tiny() }, Kind::Float);
    let batch = model.batch(&[molecule()], &[0]);
    let atoms = |train| {
        let h = model.embedding.forward(&batch.atomic_numbers);
        numbers(&model.backbone.forward(&h, &batch, train).atoms)
    };
    assert_eq!(atoms(false), atoms(false));
    let (first, second) = seeded(1, || (atoms(true), atoms(true)));
    assert_ne!(first, second);
}

#[test]
fn sizes_that_cannot_be_built_are_named() {
    let problem = |config: GemNetConfig| config.problem().unwrap();
    assert_eq!(GemNetConfig::large().problem(), None);
    let tiny = GemNetConfig::tiny;
    assert!(problem(GemNetConfig { emb_size_cbf: 0, ..tiny() }).starts_with("emb_size_cbf = 0"));
    assert!(problem(GemNetConfig { num_radial: 1, ..tiny() }).starts_with("num_radial = 1"));
    assert!(problem(GemNetConfig { dropout: 1.0, ..tiny() }).starts_with("dropout = 1"));
    assert!(problem(GemNetConfig { absolute_rbf_cutoff: f64::NAN, ..tiny() }).contains("NaN"));
}

/// Dropout before a head: of what enters it, in training alone.
#[test]
fn a_head_drops_numbers_of_the_embeddings() {
    let model = Model::new(Kind::Double);
    let batch = model.batch(&[molecule(), crystal()], &[0, 0]);
    let embeddings = model.backbone.forward(&model.embedding.forward(&batch.atomic_numbers), &batch, false);
    let mut store = nn::VarStore::new(Device::Cpu);
    store.set_kind(Kind::Double);
    let mut head = seeded(5, || ScalarHead::new(&store.root(), &GemNetConfig::tiny(), Pooling::Mean));
    let of =
        |head: &ScalarHead, train| seeded(6, || numbers(&head.forward(&embeddings, &batch, None, train)));
    let plain = of(&head, false);
    assert_eq!(of(&head, true), plain);
    head.drop_out(0.5);
    assert_eq!(of(&head, false), plain);
    let dropped = of(&head, true);
    // The same draw, made here: half of the numbers are 0, the others twice what they were.
    let atoms = &embeddings.atoms;
    let mask = seeded(6, || atoms.ones_like().dropout(0.5, true));
    let kept = mask.ne(0.0).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
    assert!((0.3..0.7).contains(&kept) && mask.max().double_value(&[]) == 2.0);
    let by_hand =
        Embeddings { atoms: atoms * mask, edges: None, vectors: embeddings.vectors.shallow_clone() };
    assert_close(&dropped, &numbers(&head.forward(&by_hand, &batch, None, false)), 1e-12);
    assert_ne!(dropped, plain);
}
