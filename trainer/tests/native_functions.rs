//! The shim's functions against the same expressions in tch: values, first and second derivatives, in double precision
//! to rounding and in single precision to its rounding; derivatives in double precision also against finite differences.
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use tch::{Device, Kind, Tensor};
use trainer::native;

type Map<'a> = &'a dyn Fn(&[Tensor]) -> Tensor;

fn random(size: &[i64], kind: Kind) -> Tensor {
    Tensor::randn(size, (Kind::Double, Device::Cpu)).to_kind(kind)
}

fn index(values: &[i64]) -> Tensor {
    Tensor::from_slice(values)
}

fn silu(x: &Tensor) -> Tensor {
    x * x.sigmoid() / 0.6
}

/// Value, gradient of a random projection, and gradient of a random projection of that.
fn derivatives(map: Map, leaves: &[Tensor], directions: &[Tensor]) -> Vec<Tensor> {
    let kind = leaves[0].kind();
    let y = map(leaves);
    let loss = (&y * &directions[0]).sum(kind);
    let first = gradients(&loss, leaves, true);
    let mut slope = Tensor::zeros([], (kind, Device::Cpu));
    for (g, d) in first.iter().zip(&directions[1..]) {
        slope += (g * d).sum(kind);
    }
    let second = gradients(&slope, leaves, false);
    [y].into_iter().chain(first).chain(second).collect()
}

/// Gradients, zero where there is none.
fn gradients(of: &Tensor, leaves: &[Tensor], keep: bool) -> Vec<Tensor> {
    let found = Tensor::run_backward(&[of], leaves, keep, keep);
    let or_zero = |(g, x): (Tensor, &Tensor)| if g.defined() { g } else { x.zeros_like() };
    found.into_iter().zip(leaves).map(or_zero).collect()
}

/// Largest difference over largest value.
fn error(found: &Tensor, wanted: &Tensor) -> f64 {
    let scale = wanted.abs().max().double_value(&[]).max(1e-3);
    (found - wanted).abs().max().double_value(&[]) / scale
}

fn check(name: &str, sizes: &[&[i64]], ours: Map, plain: Map) {
    tch::manual_seed(7);
    let values: Vec<Tensor> = sizes.iter().map(|size| random(size, Kind::Double)).collect();
    let out = plain(&values);
    let mut directions = vec![random(&out.size(), Kind::Double)];
    directions.extend(values.iter().map(|v| random(&v.size(), Kind::Double)));
    let in_kind = |kind: Kind| -> (Vec<Tensor>, Vec<Tensor>) {
        let leaves = values.iter().map(|v| v.to_kind(kind).copy().set_requires_grad(true)).collect();
        (leaves, directions.iter().map(|d| d.to_kind(kind)).collect())
    };
    let (leaves, along) = in_kind(Kind::Double);
    let wanted = derivatives(plain, &leaves, &along);
    for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 2e-5)] {
        let (leaves, along) = in_kind(kind);
        for (i, (found, wanted)) in derivatives(ours, &leaves, &along).iter().zip(&wanted).enumerate() {
            let off = error(&found.to_kind(Kind::Double), wanted);
            assert!(off <= tolerance, "{name}, {kind:?}, tensor {i}: off by {off:e}");
        }
    }
    // Central differences of the value and of the gradient along the directions.
    let step = 1e-5;
    let at = |sign: f64| -> Vec<Tensor> {
        leaves
            .iter()
            .zip(&along[1..])
            .map(|(x, d)| (x.detach() + d * (sign * step)).set_requires_grad(true))
            .collect()
    };
    let (above, below) = (derivatives(ours, &at(1.0), &along), derivatives(ours, &at(-1.0), &along));
    let found = derivatives(ours, &leaves, &along);
    let projected = |tensors: &[Tensor], with: &[Tensor]| -> f64 {
        tensors.iter().zip(with).map(|(t, d)| (t * d).sum(Kind::Double).double_value(&[])).sum()
    };
    let n = leaves.len();
    let pairs = [(0..1, 0..1, &found[1..=n]), (1..n + 1, 1..n + 1, &found[n + 1..])];
    for (range, with, slopes) in pairs {
        let change =
            projected(&above[range.clone()], &along[with.clone()]) - projected(&below[range], &along[with]);
        let (numeric, exact) = (change / (2.0 * step), projected(slopes, &along[1..]));
        assert!(
            (numeric - exact).abs() <= 1e-6 * exact.abs().max(1.0),
            "{name}: {numeric} by differences, {exact}"
        );
    }
}

#[test]
fn activation() {
    check("activation", &[&[37, 5]], &|x| native::activation(&x[0]), &|x| silu(&x[0]));
}

/// Rows that oneDNN takes, with a remainder, and rows that it does not.
#[test]
fn linear() {
    for rows in [3, 64, 131] {
        let sizes: &[&[i64]] = &[&[rows, 48], &[33, 48]];
        check("linear", sizes, &|x| native::linear(&x[0], &x[1]), &|x| x[0].matmul(&x[1].tr()));
    }
}

#[test]
fn activated_linear() {
    check(
        "activated_linear",
        &[&[66, 20], &[17, 20], &[17]],
        &|x| native::activated_linear(&x[0], &x[1], Some(&x[2])),
        &|x| silu(&x[0]).matmul(&x[1].tr()) + &x[2],
    );
    check(
        "activated_linear without bias",
        &[&[5, 4], &[3, 4]],
        &|x| native::activated_linear(&x[0], &x[1], None),
        &|x| silu(&x[0]).matmul(&x[1].tr()),
    );
}

#[test]
fn gated_linear() {
    let rows = index(&[0, 2, 2, 1, 0, 3, 3]);
    let plain = |x: &[Tensor], rows: Option<&Tensor>, activated: bool| {
        let inner = if activated { silu(&x[0]) } else { x[0].shallow_clone() };
        let inner = rows.map_or(inner.shallow_clone(), |rows| inner.index_select(0, rows));
        (inner * x[1].matmul(&x[2].tr())).matmul(&x[3].tr())
    };
    let sizes = |rows: i64| [vec![rows, 6], vec![7, 3], vec![6, 3], vec![5, 6]];
    for activated in [true, false] {
        let (with, without) = (sizes(4), sizes(7));
        let with: Vec<&[i64]> = with.iter().map(Vec::as_slice).collect();
        let without: Vec<&[i64]> = without.iter().map(Vec::as_slice).collect();
        check(
            "gated_linear with index",
            &with,
            &|x| native::gated_linear(&x[0], Some(&rows), (&x[1], &x[2]), &x[3], activated),
            &|x| plain(x, Some(&rows), activated),
        );
        check(
            "gated_linear",
            &without,
            &|x| native::gated_linear(&x[0], None, (&x[1], &x[2]), &x[3], activated),
            &|x| plain(x, None, activated),
        );
    }
}

#[test]
fn gated_sum() {
    let target = index(&[0, 0, 1, 3, 3, 3]);
    check(
        "gated_sum",
        &[&[6, 5], &[6, 2], &[5, 2]],
        &|x| native::gated_sum(&x[0], (&x[1], &x[2]), &target, 4),
        &|x| {
            let zeros = Tensor::zeros([4, 5], (x[0].kind(), Device::Cpu));
            zeros.index_add(0, &target, &(&x[0] * x[1].matmul(&x[2].tr())))
        },
    );
}

/// Widths below, at and above the panels of the loops; rows that are no multiple of four.
#[test]
fn batched_products() {
    for (m, k, n) in [(3, 7, 5), (4, 2, 16), (9, 5, 31), (6, 3, 64), (5, 4, 130)] {
        let sizes: &[&[i64]] = &[&[3, m, k], &[3, k, n]];
        check("batched", sizes, &|x| native::batched(&x[0], &x[1]), &|x| x[0].bmm(&x[1]));
        let turned: &[&[i64]] = &[&[3, k, m], &[3, n, k]];
        check(
            "batched, transposed",
            turned,
            &|x| native::batched(&x[0].transpose(1, 2), &x[1].transpose(1, 2)),
            &|x| x[0].transpose(1, 2).bmm(&x[1].transpose(1, 2)),
        );
    }
}

#[test]
fn bilinear() {
    check(
        "bilinear",
        &[&[8, 3, 4], &[8, 4, 6], &[5, 18]],
        &|x| native::bilinear(&x[0], &x[1], &x[2]),
        &|x| x[0].bmm(&x[1]).view([8, 18]).matmul(&x[2].tr()),
    );
}

#[test]
fn sums() {
    let half = std::f64::consts::FRAC_1_SQRT_2;
    let two: &[&[i64]] = &[&[6, 5], &[6, 5]];
    check("residual", two, &|x| native::residual(&x[0], &x[1]), &|x| (&x[0] + silu(&x[1])) * half);
    // Squares, so that there is a second derivative.
    let squares = |x: &[Tensor]| [&x[0] * &x[0], &x[1] * &x[1]];
    check(
        "half_sum",
        two,
        &|x| {
            let [a, b] = squares(x);
            native::half_sum(&a, &b)
        },
        &|x| {
            let [a, b] = squares(x);
            (a + b) * half
        },
    );
    let reverse = index(&[3, 2, 1, 0, 5, 4]);
    check(
        "symmetric_update",
        &[&[6, 3], &[5, 3], &[5, 3]],
        &|x| native::symmetric_update(&x[0], &x[1], &x[2], &reverse),
        &|x| {
            let [a, b] = [1, 2].map(|i| silu(&x[0].matmul(&x[i].tr())));
            (a + b.index_select(0, &reverse)) * half
        },
    );
}

#[test]
fn rows() {
    let (source, target) = (index(&[0, 2, 2, 1, 0]), index(&[0, 0, 1, 2, 2]));
    check(
        "edge_sum",
        &[&[5, 4], &[3, 4], &[3, 4]],
        &|x| native::edge_sum(&x[0], (&x[1], &source), (&x[2], &target)),
        &|x| silu(&(&x[0] + x[1].index_select(0, &source) + x[2].index_select(0, &target))),
    );
    // Squares, so that second derivatives are not all zero.
    check("gather", &[&[3, 4]], &|x| native::gather(&(&x[0] * &x[0]), &source), &|x| {
        (&x[0] * &x[0]).index_select(0, &source)
    });
    check("scatter", &[&[5, 4]], &|x| native::scatter(&(&x[0] * &x[0]), &source, 3), &|x| {
        Tensor::zeros([3, 4], (x[0].kind(), Device::Cpu)).index_add(0, &source, &(&x[0] * &x[0]))
    });
}

#[test]
fn the_activation_holds_far_from_zero() {
    let x = Tensor::from_slice(&[-1000.0_f32, -88.0, -20.0, -1e-8, 0.0, 1e-8, 20.0, 88.0, 1000.0]);
    let found = native::activation(&x).to_kind(Kind::Double);
    let wanted = silu(&x.to_kind(Kind::Double));
    let off = ((&found - &wanted).abs() / (wanted.abs() + 1e-30)).max().double_value(&[]);
    assert!(found.isfinite().all().int64_value(&[]) == 1);
    assert!((found - wanted).abs().max().double_value(&[]) < 2e-4, "{off}");
    assert_eq!(native::activation(&Tensor::from_slice(&[f32::NAN])).isnan().int64_value(&[0]), 1);
}

#[test]
fn only_the_leaves_asked_for_get_gradients() {
    let leaf = || Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let (a, b) = (leaf(), leaf());
    native::backward(&(&a * &b * 3.0).sum(Kind::Float), std::slice::from_ref(&a)).unwrap();
    assert_eq!(Vec::<f32>::try_from(a.grad()).unwrap(), [3.0, 3.0]);
    assert!(!b.grad().defined());
}

#[test]
fn a_sum_of_squares_does_not_depend_on_threads() {
    tch::manual_seed(3);
    let x = random(&[300_001], Kind::Float);
    let threads = tch::get_num_threads();
    let sums: Vec<f64> = [1, 2, 3]
        .map(|n| {
            tch::set_num_threads(n);
            native::sum_of_squares(&x).unwrap()
        })
        .to_vec();
    tch::set_num_threads(threads);
    let exact = x.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[]);
    assert!(sums.iter().all(|sum| *sum == sums[0] && (sum - exact).abs() < 1e-7 * exact), "{sums:?} {exact}");
}
