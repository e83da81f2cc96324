//! PCGrad (Yu et al., arXiv:2001.06782; App. B.2): gradients of tasks that point against each other are projected before
//! they are added.
//!
//! Each task's gradient loses, one other task after the other, the part that points against that task's own gradient:
//! `g_i ← g_i − min(0, g_i·g_j) / ‖g_j‖² · g_j`. Only parameters that tasks share take part, the embedding and the backbone;
//! a head has one task's gradient anyway. The order of the others is drawn anew for each task from the step's seed.

use std::ops::Range;

use tch::{Kind, Tensor};

use crate::config::sections::SurgeryTasks;
use crate::parameters::{Parameters, chunks, slice};

/// Gradients of the tasks of one optimiser step.
#[derive(Debug)]
pub struct Surgery {
    tasks: SurgeryTasks,
    shared: Vec<Range<i64>>,
    gradients: Vec<Tensor>,
}

impl Surgery {
    /// For the tasks that `datasets` datasets have.
    pub fn new(tasks: SurgeryTasks, datasets: usize, parameters: &Parameters) -> Self {
        let count = match tasks {
            SurgeryTasks::Labels => 2 * datasets,
            SurgeryTasks::Datasets => datasets,
        };
        let shared = parameters.entries().iter().filter(|e| !e.name.starts_with("output."));
        Self {
            tasks,
            shared: joined(shared.map(|e| e.range.clone())),
            gradients: (0..count).map(|_| parameters.zeros()).collect(),
        }
    }

    /// What counts as a task.
    pub fn tasks(&self) -> SurgeryTasks {
        self.tasks
    }

    /// How many tasks there are.
    pub fn len(&self) -> usize {
        self.gradients.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.gradients.is_empty()
    }

    /// Begins a step.
    pub fn clear(&mut self) {
        for gradient in &mut self.gradients {
            let _ = gradient.zero_();
        }
    }

    /// The gradient of one task, `[p]`, to be added to.
    pub fn gradient(&mut self, task: usize) -> &mut Tensor {
        &mut self.gradients[task]
    }

    /// The sum of the projected gradients, into `total`, `[p]`.
    pub fn combine(&self, seed: u64, total: &mut Tensor) {
        let products = self.products();
        let _ = total.zero_();
        for task in 0..self.gradients.len() {
            *total += &self.gradients[task];
            for (other, factor) in projections(&products, task, &mut Draws(seed ^ ((task as u64) << 32))) {
                for range in &self.shared {
                    let mut part = slice(total, range);
                    let _ = part.g_add_(&(slice(&self.gradients[other], range) * factor));
                }
            }
        }
    }

    /// Scalar products of all pairs over the shared parameters, added up in double precision.
    fn products(&self) -> Vec<Vec<f64>> {
        let count = self.gradients.len();
        let of = |i: usize, j: usize| -> f64 {
            self.shared.iter().cloned().flat_map(chunks).map(|piece| self.product(i, j, &piece)).sum()
        };
        let half: Vec<Vec<f64>> = (0..count).map(|i| (0..=i).map(|j| of(i, j)).collect()).collect();
        (0..count).map(|i| (0..count).map(|j| half[i.max(j)][i.min(j)]).collect()).collect()
    }

    fn product(&self, i: usize, j: usize, piece: &Range<i64>) -> f64 {
        let [a, b] = [i, j].map(|task| slice(&self.gradients[task], piece).to_kind(Kind::Double));
        a.dot(&b).double_value(&[])
    }
}

/// The multiples of the others' gradients that are added to the gradient of `task`, in the order drawn.
///
/// All that a projection asks for are scalar products, and those of a sum of gradients follow from those of the gradients.
fn projections(products: &[Vec<f64>], task: usize, draws: &mut Draws) -> Vec<(usize, f64)> {
    let mut others: Vec<usize> = (0..products.len()).filter(|&other| other != task).collect();
    for last in (1..others.len()).rev() {
        others.swap(last, draws.below(last as u64 + 1) as usize);
    }
    let mut taken: Vec<(usize, f64)> = Vec::new();
    for other in others {
        let so_far: f64 = taken.iter().map(|(earlier, factor)| factor * products[*earlier][other]).sum();
        let product = products[task][other] + so_far;
        let square = products[other][other];
        if product < 0.0 && square > 0.0 {
            taken.push((other, -product / square));
        }
    }
    taken
}

/// SplitMix64.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// Ascending ranges with neighbours joined.
fn joined(ranges: impl Iterator<Item = Range<i64>>) -> Vec<Range<i64>> {
    let mut joined: Vec<Range<i64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surgery(gradients: &[&[f64]], shared: Range<i64>) -> Surgery {
        let gradients = gradients.iter().map(|g| Tensor::from_slice(g)).collect();
        Surgery { tasks: SurgeryTasks::Datasets, shared: vec![shared], gradients }
    }

    fn combined(surgery: &Surgery, seed: u64) -> Vec<f64> {
        let mut total = surgery.gradients[0].zeros_like();
        surgery.combine(seed, &mut total);
        Vec::try_from(total).unwrap()
    }

    #[test]
    fn two_tasks_against_each_other_lose_what_conflicts() {
        // g1 = (1, 0), g2 = (-1, 1): g1·g2 = -1, so g1' = (1, 0) + ½(-1, 1) = (½, ½) and g2' = (-1, 1) + (1, 0) = (0, 1).
        let conflict = surgery(&[&[1.0, 0.0], &[-1.0, 1.0]], 0..2);
        assert_eq!(combined(&conflict, 5), [0.5, 1.5]);
        // At an acute angle nothing happens.
        let agreement = surgery(&[&[1.0, 0.0], &[1.0, 1.0]], 0..2);
        assert_eq!(combined(&agreement, 5), [2.0, 1.0]);
    }

    #[test]
    fn heads_stay_out_of_it() {
        // The third number belongs to task 2's head: it neither changes the products nor is it changed.
        let conflict = surgery(&[&[1.0, 0.0, 0.0], &[-1.0, 1.0, 7.0]], 0..2);
        assert_eq!(combined(&conflict, 5), [0.5, 1.5, 7.0]);
    }

    /// The rule as it is written down, with vectors instead of products.
    fn by_hand(gradients: &[&[f64]], task: usize, order: &[usize]) -> Vec<f64> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let mut own = gradients[task].to_vec();
        for &other in order {
            let product = dot(&own, gradients[other]);
            if product < 0.0 {
                let square = dot(gradients[other], gradients[other]);
                own.iter_mut().zip(gradients[other]).for_each(|(x, y)| *x -= product / square * y);
            }
        }
        own
    }

    #[test]
    fn three_tasks_are_projected_one_after_the_other_in_an_order_of_the_seed() {
        let gradients: [&[f64]; 3] = [&[1.0, 0.2, -0.5], &[-1.0, 0.7, 0.1], &[-0.3, -0.9, 0.8]];
        let orders = |task: usize| match task {
            0 => [[1, 2], [2, 1]],
            1 => [[0, 2], [2, 0]],
            _ => [[0, 1], [1, 0]],
        };
        let mut possible = Vec::new();
        for choice in 0..8 {
            let picked = (0..3).map(|t| by_hand(&gradients, t, &orders(t)[choice >> t & 1]));
            possible.push(picked.fold([0.0; 3], |sum, g| [0, 1, 2].map(|k| sum[k] + g[k])));
        }
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..40 {
            let got = combined(&surgery(&gradients, 0..3), seed);
            let near = |want: &[f64; 3]| got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-14);
            seen.insert(possible.iter().position(near).unwrap());
        }
        assert!(seen.len() > 1, "every seed gave the same order");
    }

    #[test]
    fn shared_ranges_are_joined() {
        assert_eq!(joined([0..2, 2..5, 7..8].into_iter()), [0..5, 7..8]);
    }
}
