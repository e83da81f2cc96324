//! AdamW, both kinds of clipping and the average of the weights against plain arithmetic: the quick loop of
//! single precision on a CPU, and libtorch's operations in double precision.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

#[allow(dead_code, reason = "whole networks are filled by the golden tests")]
#[path = "golden/fill.rs"]
mod fill;

use tch::{Device, Kind, Tensor, nn, no_grad};
use trainer::clip::{Bound, Clip};
use trainer::ema::Ema;
use trainer::native::AdamWStep;
use trainer::optim::{AdamW, AdamWRule};
use trainer::parameters::{Parameters, norm};

const RULE: AdamWRule = AdamWRule { betas: (0.9, 0.95), eps: 1e-8, weight_decay: 0.1 };
/// Decay of the average.
const EMA: f64 = 0.9;

/// Half a unit in the last place of 1, the largest error of one rounding.
fn rounding(kind: Kind) -> f64 {
    if kind == Kind::Float { f64::from(f32::EPSILON) / 2.0 } else { f64::EPSILON / 2.0 }
}

/// A flat buffer of one tensor a size, each a parameter group of its own, filled with numbers in [−1, 1).
fn parameters(sizes: &[&[i64]], kind: Kind) -> Parameters {
    let mut store = nn::VarStore::new(Device::Cpu);
    store.set_kind(kind);
    for (group, size) in sizes.iter().enumerate() {
        let _ = store.root().zeros(&group.to_string(), size);
    }
    let parameters = Parameters::flatten(&store, sizes.len(), |name| name.parse().unwrap()).unwrap();
    put(parameters.values(), fill::centred("weights"));
    assert_eq!(AdamWStep::suits(parameters.values()), kind == Kind::Float, "the way that is to be tested");
    parameters
}

fn put(flat: &Tensor, values: impl Iterator<Item = f64>) {
    let values: Vec<f64> = values.take(flat.numel()).collect();
    no_grad(|| flat.shallow_clone().copy_(&Tensor::from_slice(&values)));
}

fn numbers(flat: &Tensor) -> Vec<f64> {
    Vec::try_from(flat).unwrap()
}

/// Weights, moments and average of every element as the papers write them.
struct ByHand {
    steps: i32,
    weights: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
    average: Vec<f64>,
}

impl ByHand {
    fn at(weights: Vec<f64>) -> Self {
        let zeros = vec![0.0; weights.len()];
        Self { steps: 0, first: zeros.clone(), second: zeros, average: weights.clone(), weights }
    }

    /// One step with gradients that are clipped already; `lrs` holds each element's rate.
    fn step(&mut self, gradients: &[f64], lrs: &[f64]) {
        self.steps += 1;
        let (b1, b2) = RULE.betas;
        for (i, (g, lr)) in gradients.iter().zip(lrs).enumerate() {
            self.first[i] = b1 * self.first[i] + (1.0 - b1) * g;
            self.second[i] = b2 * self.second[i] + (1.0 - b2) * g * g;
            let first = self.first[i] / (1.0 - b1.powi(self.steps));
            let second = self.second[i] / (1.0 - b2.powi(self.steps));
            let decay = lr * RULE.weight_decay * self.weights[i];
            self.weights[i] -= decay + lr * first / (second.sqrt() + RULE.eps);
            self.average[i] = EMA * self.average[i] + (1.0 - EMA) * self.weights[i];
        }
    }

    /// Compares after at most five steps. A step rounds a weight three times, and its change, a hundredth of
    /// it, some tens of times; so does the arithmetic here in double precision: 40 roundings of the largest.
    #[track_caller]
    fn check(&self, parameters: &Parameters, optimizer: &AdamW, ema: Option<&Ema>) {
        let tolerance = 40.0 * rounding(parameters.values().kind());
        let (first, second) = optimizer.moments();
        let mut pairs = vec![
            ("weight", parameters.values(), &self.weights),
            ("first moment", first, &self.first),
            ("second moment", second, &self.second),
        ];
        pairs.extend(ema.map(|ema| ("average", ema.average(), &self.average)));
        for (what, got, want) in pairs {
            let largest = want.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
            for (i, (got, want)) in numbers(got).iter().zip(want).enumerate() {
                assert!((got - want).abs() <= tolerance * largest, "{what} {i}: got {got:e}, want {want:e}");
            }
        }
    }
}

/// Gradients of three steps, some of them beyond ± 1, and below what clipping at 1 makes of them.
const GRADIENTS: [[f64; 7]; 3] = [
    [5.0, -5.0, 0.01, -0.02, 0.9, 1.0, -1.0],
    [0.03, 5.0, -5.0, 0.5, -0.9, 1.5, 0.0],
    [-5.0, 0.02, 0.3, -1.25, 5.0, -0.001, 2.0],
];
const CLIPPED: [[f64; 7]; 3] = [
    [1.0, -1.0, 0.01, -0.02, 0.9, 1.0, -1.0],
    [0.03, 1.0, -1.0, 0.5, -0.9, 1.0, 0.0],
    [-1.0, 0.02, 0.3, -1.0, 1.0, -0.001, 1.0],
];

#[test]
fn a_step_cuts_elements_beyond_the_limit_and_no_others() {
    for kind in [Kind::Float, Kind::Double] {
        let mut parameters = parameters(&[&[7]], kind);
        let mut optimizer = AdamW::new(RULE, &parameters);
        let mut by_hand = ByHand::at(numbers(parameters.values()));
        for (gradient, clipped) in GRADIENTS.iter().zip(&CLIPPED) {
            put(parameters.gradients(), gradient.iter().copied());
            let bound = Clip::Value(1.0).bound(norm(parameters.gradients()));
            optimizer.step(&mut parameters, &[1e-2], bound, None).unwrap();
            by_hand.step(clipped, &[1e-2; 7]);
            by_hand.check(&parameters, &optimizer, None);
        }
    }
}

/// Odd sizes: loops have rests, groups begin anywhere in the buffer, the last is worked on in several pieces.
const SIZES: [&[i64]; 3] = [&[13], &[129, 7], &[262_147]];
const LRS: [f64; 3] = [1e-2, 3e-3, 5e-4];
/// Widths of the gradients of five steps. Their norms are about 296 times that: three are beyond the longest.
const WIDTHS: [f64; 5] = [1.0, 0.1, 3.0, 0.01, 0.7];
const LONGEST: f64 = 100.0;
/// Of a gradient of the longest norm about a quarter of the elements lie beyond it.
const LIMIT: f64 = 0.25;

/// Five steps with clipping by norm and then by value, weight decay, and the average where there is one.
fn five_steps(kind: Kind, averaged: bool) {
    let mut parameters = parameters(&SIZES, kind);
    let ema = averaged.then(|| Ema::new(EMA, &parameters));
    let mut optimizer = AdamW::new(RULE, &parameters);
    let mut by_hand = ByHand::at(numbers(parameters.values()));
    let each = SIZES.iter().map(|size| size.iter().product::<i64>() as usize);
    let lrs: Vec<f64> = each.zip(LRS).flat_map(|(elements, lr)| vec![lr; elements]).collect();
    let (mut shortened, mut cut) = (0, 0);
    for (step, width) in WIDTHS.iter().enumerate() {
        put(parameters.gradients(), fill::centred(&format!("gradient {step}")).map(|g| g * width));
        let gradient = numbers(parameters.gradients());
        let length = norm(parameters.gradients());
        // In parts, which rounds less often. The loop adds up 256 squares at a time in single precision.
        let squares = gradient.chunks(512).map(|part| part.iter().map(|g| g * g).sum::<f64>());
        let exact = squares.sum::<f64>().sqrt();
        assert!((length - exact).abs() <= 256.0 * rounding(kind) * exact, "norm: got {length}, want {exact}");
        let bound = Bound { limit: Some(LIMIT), ..Clip::Norm(LONGEST).bound(length) };
        optimizer.step(&mut parameters, &LRS, bound, ema.as_ref()).unwrap();

        let scale = if length > LONGEST { LONGEST / (length + 1e-6) } else { 1.0 };
        let scaled = gradient.iter().map(|g| g * scale);
        let clipped: Vec<f64> = scaled.map(|g| if g.abs() > LIMIT { LIMIT.copysign(g) } else { g }).collect();
        shortened += usize::from(scale < 1.0);
        cut += clipped.iter().filter(|g| g.abs() == LIMIT).count();
        by_hand.step(&clipped, &lrs);
    }
    by_hand.check(&parameters, &optimizer, ema.as_ref());
    assert!(shortened == 3 && (100_000..300_000).contains(&cut), "{shortened} shortened, {cut} cut");
}

#[test]
fn the_quick_loop_equals_plain_arithmetic() {
    five_steps(Kind::Float, false);
    five_steps(Kind::Float, true);
}

#[test]
fn libtorchs_operations_equal_plain_arithmetic() {
    five_steps(Kind::Double, false);
    five_steps(Kind::Double, true);
}
