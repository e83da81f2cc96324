//! Tells near from far for 64 atoms at once, in single precision, and says which of them it cannot tell.

/// How many images are sieved at once.
pub(super) const LANES: usize = 64;

/// Squared distance, Å², at and below which two atoms count as the same.
pub(super) const SAME: f64 = 1e-4;

/// Bounds of single-precision squared distances: outside `outer` is certainly beyond the cutoff, between `same` and
/// `inner` certainly within it and not the same atom. All else needs double precision.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sieve {
    outer: f32,
    inner: f32,
    same: f32,
}

impl Sieve {
    /// For coordinates up to `largest` Å from the origin.
    ///
    /// Rounding moves a coordinate by 2⁻²⁴ of itself and a difference by as much of its own, so a difference is off by
    /// at most `e = 4·largest·2⁻²⁴`, and the square of a distance `d` by 2·√3·d·e + 3e² + 2⁻²¹d².
    pub(super) fn new(cutoff: f64, largest: f64) -> Self {
        let e = 4.0 * largest * f64::from(f32::EPSILON);
        let slack = |d: f64| 4.0 * d * e + 4.0 * e * e + d * d * 2f64.powi(-20);
        let square = cutoff * cutoff;
        Self {
            outer: (square + slack(cutoff)) as f32,
            inner: (square - slack(cutoff)) as f32,
            same: (2.0 * SAME + slack(2.0 * SAME.sqrt())) as f32,
        }
    }

    /// Squared distance beyond which an image is certainly out of reach.
    pub(super) fn outer(&self) -> f32 {
        self.outer
    }

    /// Bit masks of the images that may be neighbours, and of those among them that certainly are.
    ///
    /// Comparisons are such that a NaN, from coordinates beyond single precision, counts as "may be".
    pub(super) fn masks(&self, images: [&[f32; LANES]; 3], target: [f32; 3]) -> (u64, u64) {
        let [x, y, z] = images;
        let (mut far, mut sure) = ([0u8; LANES], [0u8; LANES]);
        for i in 0..LANES {
            let d = [x[i] - target[0], y[i] - target[1], z[i] - target[2]];
            let d2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
            far[i] = u8::from(d2 > self.outer);
            sure[i] = u8::from(d2 < self.inner) & u8::from(d2 > self.same);
        }
        (!bits(&far), bits(&sure))
    }
}

/// One bit for each byte that is 1; the others are 0.
fn bits(bytes: &[u8; LANES]) -> u64 {
    let mut mask = 0;
    for (k, eight) in bytes.as_chunks::<8>().0.iter().enumerate() {
        // Moves the lowest bit of byte i to bit 56 + i.
        let gathered = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        mask |= gathered << (8 * k);
    }
    mask
}

/// Calls `each` with the number of every bit set, ascending.
pub(super) fn each_bit(mut mask: u64, mut each: impl FnMut(usize)) {
    while mask != 0 {
        each(mask.trailing_zeros() as usize);
        mask &= mask - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever single precision says for certain is so in double precision, near the cutoff and far from the origin.
    #[test]
    fn what_is_sure_is_true() {
        for largest in [20.0, 3e3, 1e6, 1e30, 1e300] {
            let (cutoff, sieve) = (5.0, Sieve::new(5.0, largest));
            for step in 0..2_000 {
                let distance = if step % 2 == 0 { 5.0 } else { 0.01 };
                let d = distance * (1.0 + f64::from(step - 1_000) * 1e-9);
                let target = [largest * 0.57, -largest * 0.3, largest * 0.123_456];
                let image = [target[0] + d * 0.6, target[1] - d * 0.64, target[2] + d * 0.48];
                let exact = (0..3).map(|k| (image[k] - target[k]).powi(2)).sum::<f64>();
                let lanes = image.map(|x| [x as f32; LANES]);
                let (may, sure) = sieve.masks([&lanes[0], &lanes[1], &lanes[2]], target.map(|x| x as f32));
                let is = exact > SAME && exact < cutoff * cutoff;
                assert!(!is || may == u64::MAX, "{largest}: {exact} is lost");
                assert!(is || sure == 0, "{largest}: {exact} is no neighbour");
            }
        }
    }

    #[test]
    fn bits_keep_their_order() {
        let mut bytes = [0u8; LANES];
        let set = [0, 1, 7, 8, 31, 32, 62, 63];
        set.iter().for_each(|i| bytes[*i] = 1);
        let mut found = Vec::new();
        each_bit(bits(&bytes), |i| found.push(i));
        assert_eq!(found, set);
    }
}
