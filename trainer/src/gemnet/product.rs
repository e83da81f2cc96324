use tch::{Device, Kind, Tensor};

/// Smallest number of rows, and of a weight's columns and rows, from which oneDNN's product is the quicker one.
const MANY: i64 = 256;
const WIDE: i64 = 64;

/// Rows are filled up to a multiple of this: oneDNN is slow for the weight's gradient where their number has a large
/// prime factor.
const BLOCK: i64 = 32;

/// `x Wᵀ + b`: `[i, in]`, `[out, in]`, `[out]` to `[i, out]`.
///
/// libtorch's `linear` calls MKL, which keeps to AVX2 on processors that are not Intel's. oneDNN uses AVX-512 on all of
/// them and is about twice as fast there; libtorch reaches it in single precision through convolutions alone. A row of
/// `x` is a pixel's channels, so the product is a convolution with a kernel of one pixel over an image of `i` pixels in
/// channels-last layout, with derivatives of any order.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    if !suits(x, weight) {
        return x.linear(weight, bias);
    }
    let [rows, input] = [x.size()[0], x.size()[1]];
    let output = weight.size()[0];
    let padded = (rows + BLOCK - 1) / BLOCK * BLOCK;
    let image = if padded == rows { x.shallow_clone() } else { x.constant_pad_nd([0, 0, 0, padded - rows]) };
    let image = image.reshape([1, padded, 1, input]).permute([0, 3, 1, 2]);
    // A dilation means nothing to a kernel of one pixel; without it libtorch leaves oneDNN out on a single thread.
    let dilation = [2, 2];
    let kernel = weight.reshape([output, input, 1, 1]);
    let image = image.conv2d(&kernel, bias, [1, 1], [0, 0], dilation, 1);
    image.permute([0, 2, 3, 1]).reshape([padded, output]).narrow(0, 0, rows)
}

fn suits(x: &Tensor, weight: &Tensor) -> bool {
    let size = x.size();
    size.len() == 2
        && size[0] >= MANY
        && weight.size().iter().all(|side| *side >= WIDE)
        && x.device() == Device::Cpu
        && x.kind() == Kind::Float
        && weight.kind() == Kind::Float
        && tch::utils::has_mkldnn()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values, first and second derivatives of both products agree to rounding.
    #[test]
    fn both_products_agree() {
        tch::manual_seed(1);
        let random = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
        let leaf = |size: &[i64]| random(size).set_requires_grad(true);
        let (x, weight, bias) = (leaf(&[261, 160]), leaf(&[65, 160]), leaf(&[65]));
        let (direction, tilt) = (random(&[261, 65]), random(&[261, 160]));
        let run = |product: fn(&Tensor, &Tensor, Option<&Tensor>) -> Tensor| {
            let y = product(&x, &weight, Some(&bias));
            let loss = (y.silu() * &direction).sum(Kind::Float);
            let mut all = Tensor::run_backward(&[loss], &[&x, &weight, &bias], true, true);
            let slope = (&all[0] * &tilt).sum(Kind::Float);
            all.extend(Tensor::run_backward(&[slope], &[&x, &weight, &bias], false, false));
            all.push(y);
            all
        };
        assert!(suits(&x, &weight));
        #[allow(
            clippy::redundant_closure_for_method_calls,
            reason = "the method is not general in its lifetimes"
        )]
        let plain = run(|x, weight, bias| x.linear(weight, bias));
        for (i, (plain, fast)) in plain.iter().zip(run(linear)).enumerate() {
            let error = (plain - fast).abs().max().double_value(&[]);
            let largest = plain.abs().max().double_value(&[]);
            assert!(error <= 1e-5 * largest, "tensor {i}: off by {error} of {largest}");
        }
    }
}
