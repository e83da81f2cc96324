//! A tree of squares over points of the plane, for sums over far points at once (Barnes and Hut 1986; van der Maaten 2014).

/// Depth from which points share a leaf: they differ by less than 2⁻⁴⁰ of the whole.
const DEEPEST: usize = 40;

/// No child.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone)]
struct Node {
    centre: [f64; 2],
    /// Half of the square's side.
    half: f64,
    /// Mean of the points.
    mean: [f64; 2],
    count: f64,
    children: [u32; 4],
    leaf: bool,
}

/// The tree.
#[derive(Debug, Clone)]
pub struct QuadTree {
    nodes: Vec<Node>,
}

/// What all points together do to one of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Repulsion {
    /// Σ_j (1 + |y_i − y_j|²)⁻¹ over the others.
    pub normaliser: f64,
    /// Σ_j (1 + |y_i − y_j|²)⁻² (y_i − y_j).
    pub force: [f64; 2],
}

impl QuadTree {
    /// A tree over points, put in in their order.
    pub fn new(points: &[[f64; 2]]) -> Self {
        let bound =
            |pick: fn(f64, f64) -> f64, k: usize| points.iter().map(|p| p[k]).reduce(pick).unwrap_or(0.0);
        let (low, high) = ([0, 1].map(|k| bound(f64::min, k)), [0, 1].map(|k| bound(f64::max, k)));
        let half = 0.5 * (high[0] - low[0]).max(high[1] - low[1]).max(1e-12) * (1.0 + 1e-9);
        let root = Node::empty([f64::midpoint(low[0], high[0]), f64::midpoint(low[1], high[1])], half);
        let mut tree = Self { nodes: vec![root] };
        points.iter().for_each(|point| tree.insert(*point));
        tree
    }

    fn insert(&mut self, point: [f64; 2]) {
        let (mut at, mut depth) = (0, 0);
        loop {
            let node = &mut self.nodes[at];
            let (before, count) = (node.mean, node.count);
            node.count += 1.0;
            node.mean = [0, 1].map(|k| (before[k] * count + point[k]) / node.count);
            if node.leaf {
                if count == 0.0 || before == point {
                    // Not a mean of equal numbers, which rounding would move.
                    node.mean = point;
                    return;
                }
                if depth >= DEEPEST {
                    return;
                }
                // The leaf's point moves one level down; the new one goes on from here.
                node.leaf = false;
                let child = self.child(at, before);
                self.nodes[child].mean = before;
                self.nodes[child].count = count;
            }
            at = self.child(at, point);
            depth += 1;
        }
    }

    /// The child that a point falls into; made where there is none.
    fn child(&mut self, at: usize, point: [f64; 2]) -> usize {
        let Node { centre, half, children, .. } = self.nodes[at];
        let right = [point[0] >= centre[0], point[1] >= centre[1]];
        let quadrant = usize::from(right[0]) + 2 * usize::from(right[1]);
        if children[quadrant] == NONE {
            let half = half / 2.0;
            let shifted = [0, 1].map(|k| centre[k] + if right[k] { half } else { -half });
            self.nodes[at].children[quadrant] = self.nodes.len() as u32;
            self.nodes.push(Node::empty(shifted, half));
        }
        self.nodes[at].children[quadrant] as usize
    }

    /// The repulsion on a point of the tree. A square counts as one point where its side is below `theta` times the distance;
    /// 0 is exact. `theta` must be below 0.7, so that no square that holds the point itself counts as one.
    pub fn repulsion(&self, point: [f64; 2], theta: f64, stack: &mut Vec<u32>) -> Repulsion {
        debug_assert!(theta < 0.7);
        let mut sum = Repulsion { normaliser: -1.0, ..Repulsion::default() };
        stack.clear();
        stack.push(0);
        while let Some(index) = stack.pop() {
            let node = &self.nodes[index as usize];
            let apart = [point[0] - node.mean[0], point[1] - node.mean[1]];
            let squared = apart[0] * apart[0] + apart[1] * apart[1];
            let side = 2.0 * node.half;
            if node.leaf || side * side < theta * theta * squared {
                let kernel = 1.0 / (1.0 + squared);
                sum.normaliser += node.count * kernel;
                let weight = node.count * kernel * kernel;
                sum.force[0] += weight * apart[0];
                sum.force[1] += weight * apart[1];
            } else {
                stack.extend(node.children.iter().filter(|c| **c != NONE));
            }
        }
        sum
    }
}

impl Node {
    fn empty(centre: [f64; 2], half: f64) -> Self {
        Self { centre, half, mean: [0.0; 2], count: 0.0, children: [NONE; 4], leaf: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(n: usize) -> Vec<[f64; 2]> {
        let noise = |i: usize| ((i * 7919 + 104_729) % 10_007) as f64 / 10_007.0 - 0.5;
        (0..n).map(|i| [20.0 * noise(2 * i), 20.0 * noise(2 * i + 1)]).collect()
    }

    fn exact(points: &[[f64; 2]], i: usize) -> Repulsion {
        let mut sum = Repulsion::default();
        for (j, other) in points.iter().enumerate().filter(|(j, _)| *j != i) {
            let _ = j;
            let apart = [points[i][0] - other[0], points[i][1] - other[1]];
            let kernel = 1.0 / (1.0 + apart[0].powi(2) + apart[1].powi(2));
            sum.normaliser += kernel;
            (0..2).for_each(|k| sum.force[k] += kernel * kernel * apart[k]);
        }
        sum
    }

    #[test]
    fn nothing_approximated_is_brute_force() {
        let mut points = points(300);
        // Some lie upon one another, some almost.
        points[7] = points[3];
        points[8] = points[3];
        points[9] = [points[3][0] + 1e-14, points[3][1]];
        let tree = QuadTree::new(&points);
        for i in 0..points.len() {
            let (got, want) = (tree.repulsion(points[i], 0.0, &mut vec![]), exact(&points, i));
            assert!((got.normaliser - want.normaliser).abs() < 1e-10 * want.normaliser, "{i}");
            (0..2).for_each(|k| assert!((got.force[k] - want.force[k]).abs() < 1e-10, "{i}"));
        }
    }

    #[test]
    fn approximated_is_near_and_cheaper() {
        let points = points(2000);
        let tree = QuadTree::new(&points);
        let mut worst = 0.0f64;
        for i in (0..points.len()).step_by(37) {
            let (got, want) = (tree.repulsion(points[i], 0.5, &mut vec![]), exact(&points, i));
            worst = worst.max((got.normaliser - want.normaliser).abs() / want.normaliser);
        }
        // Neither exact (it would be no approximation) nor off by more than a few per cent.
        assert!(worst > 1e-6 && worst < 0.03, "{worst}");
    }
}
