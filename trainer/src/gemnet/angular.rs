use std::f64::consts::PI;

use tch::Tensor;

/// `Y_l0 = √((2l+1)/4π) P_l(cos)` for `l < orders`, stacked at dimension `at` and zero wherever `mask` is.
///
/// The recursion `(l+1) P_{l+1} = (2l+1) x P_l − l P_{l−1}` is linear, so starting it from the mask masks every order.
pub(crate) fn harmonics(cosine: &Tensor, mask: &Tensor, orders: i64, at: i64) -> Tensor {
    let norm = |l: i64| ((2 * l + 1) as f64 / (4.0 * PI)).sqrt();
    let mut orders_done: Vec<Tensor> = vec![mask * norm(0)];
    for l in 0..orders - 1 {
        let (n, last) = (l as f64, &orders_done[l as usize]);
        let mut next = last * cosine * ((2.0 * n + 1.0) / (n + 1.0) * norm(l + 1) / norm(l));
        if l > 0 {
            next -= &orders_done[l as usize - 1] * (n / (n + 1.0) * norm(l + 1) / norm(l - 1));
        }
        orders_done.push(next);
    }
    Tensor::stack(&orders_done, at)
}
