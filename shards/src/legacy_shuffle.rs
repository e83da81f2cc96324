//! numpy's legacy `RandomState(seed).shuffle`, bit for bit: every published split of the fine-tuning sets is one.

/// MT19937 as numpy's `RandomState` seeds it from a 32-bit integer.
#[derive(Debug, Clone)]
pub struct LegacyRng {
    state: [u32; 624],
    next: usize,
}

impl LegacyRng {
    /// The generator of `numpy.random.RandomState(seed)`.
    pub fn new(seed: u32) -> Self {
        let mut state = [0u32; 624];
        state[0] = seed;
        for i in 1..624 {
            let previous = state[i - 1];
            state[i] = 1_812_433_253_u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: 624 }
    }

    fn refill(&mut self) {
        for i in 0..624 {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % 624] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + 397) % 624] ^ (y >> 1) ^ odd;
        }
        self.next = 0;
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == 624 {
            self.refill();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// Uniform in `0..=max` by masked rejection, as numpy draws it.
    fn up_to(&mut self, max: u32) -> u32 {
        if max == 0 {
            return 0;
        }
        let mask = u32::MAX >> max.leading_zeros();
        loop {
            let value = self.next_u32() & mask;
            if value <= max {
                return value;
            }
        }
    }

    /// Shuffles in place as `RandomState.shuffle` does.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.up_to(i as u32) as usize;
            items.swap(i, j);
        }
    }
}

/// `numpy.random.RandomState(seed).permutation(n)`.
pub fn permutation(n: u32, seed: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n).collect();
    LegacyRng::new(seed).shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::permutation;

    /// First five and last two values of numpy's own shuffles.
    #[track_caller]
    fn check(n: u32, seed: u32, first: [u32; 5], last: [u32; 2]) {
        let got = permutation(n, seed);
        assert_eq!(got[..5], first);
        assert_eq!(got[n as usize - 2..], last);
    }

    #[test]
    fn equals_numpy() {
        check(10, 42, [8, 1, 5, 0, 7], [3, 6]);
        check(1000, 42, [521, 737, 740, 660, 411], [435, 102]);
        check(100_000, 42, [75721, 80184, 19864, 76699, 92991], [860, 15795]);
        check(99_988, 42, [33964, 96378, 19448, 9732, 7129], [860, 15795]);
        check(130_831, 42, [112_526, 100_113, 55940, 12786, 34071], [15795, 121_958]);
        check(4764, 18_012_019, [742, 2696, 1090, 2838, 1174], [4096, 1126]);
    }
}
