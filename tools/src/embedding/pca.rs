//! Principal components: the directions in which points differ most.

use nalgebra::{DMatrix, SymmetricEigen};

use super::points::Points;

/// The first principal components of some points.
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    /// The points along the components; the mean lies at the origin.
    pub scores: Points,
    /// Variance along each component, falling; the divisor is n − 1.
    pub variances: Vec<f64>,
    /// Variance of all dimensions together.
    pub total_variance: f64,
}

impl Pca {
    /// At most `components` components of at least two points. A component's largest coefficient is positive, so that the
    /// result does not depend on how the eigenvectors come out.
    pub fn new(points: &Points, components: usize) -> Self {
        let (n, d) = (points.len(), points.dimensions());
        // A point is a column.
        let mut centred = DMatrix::from_column_slice(d, n, points.values());
        let mean = centred.column_mean();
        centred.column_iter_mut().for_each(|mut point| point -= &mean);
        let divisor = n.saturating_sub(1).max(1) as f64;
        let total_variance = centred.norm_squared() / divisor;
        let mut axes = axes(&centred, components.min(d).min(n.saturating_sub(1)).max(1));
        for mut axis in axes.column_iter_mut() {
            let largest = axis.iter().copied().fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
            axis *= largest.signum();
        }
        let scores = axes.transpose() * &centred;
        let variances = scores.row_iter().map(|row| row.norm_squared() / divisor).collect();
        Self { scores: Points::new(axes.ncols(), scores.as_slice().to_vec()), variances, total_variance }
    }

    /// Share of the variance that the components hold.
    pub fn explained(&self) -> f64 {
        if self.total_variance > 0.0 { self.variances.iter().sum::<f64>() / self.total_variance } else { 1.0 }
    }
}

/// Unit eigenvectors of the covariance of centred points (columns), the largest eigenvalue first.
fn axes(centred: &DMatrix<f64>, components: usize) -> DMatrix<f64> {
    let (d, n) = centred.shape();
    // The smaller of the two matrices of inner products has the same eigenvalues.
    let few = n < d;
    let products = if few { centred.tr_mul(centred) } else { centred * centred.transpose() };
    let eigen = SymmetricEigen::new(products);
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let mut axes = DMatrix::zeros(d, components);
    for (column, &index) in order.iter().take(components).enumerate() {
        let vector = eigen.eigenvectors.column(index);
        let mut axis = if few { centred * vector } else { vector.clone_owned() };
        // Along a direction without variance every unit vector is as good; zero says so.
        let length = axis.norm();
        axis /= if length > 1e-12 * centred.norm().max(f64::MIN_POSITIVE) || !few {
            length
        } else {
            f64::INFINITY
        };
        axes.set_column(column, &axis);
    }
    axes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_in_the_plane_has_one_component() {
        // Points t·(3, 4) + (1, 1) for t = −1, 0, 1: distances ±5 along (0.6, 0.8), variance 25.
        let points = Points::new(2, vec![-2.0, -3.0, 1.0, 1.0, 4.0, 5.0]);
        let pca = Pca::new(&points, 2);
        assert!((pca.variances[0] - 25.0).abs() < 1e-12 && pca.variances[1].abs() < 1e-12);
        let along: Vec<f64> = pca.scores.iter().map(|p| p[0]).collect();
        assert!(along.iter().zip([-5.0, 0.0, 5.0]).all(|(a, b)| (a - b).abs() < 1e-12), "{along:?}");
        assert!((pca.total_variance - 25.0).abs() < 1e-12 && (pca.explained() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn fewer_points_than_dimensions_give_the_same_distances() {
        let noise = |i: usize| ((i * 7919 + 13) % 1009) as f64 / 1009.0;
        let points = Points::new(7, (0..28).map(noise).collect());
        let pca = Pca::new(&points, 7);
        assert_eq!((pca.scores.len(), pca.scores.dimensions()), (4, 3));
        assert!((pca.explained() - 1.0).abs() < 1e-12);
        let distance = |p: &Points, a, b| -> f64 {
            p.point(a).iter().zip(p.point(b)).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt()
        };
        for (a, b) in [(0, 1), (0, 3), (2, 3)] {
            assert!((distance(&points, a, b) - distance(&pca.scores, a, b)).abs() < 1e-12);
        }
        assert!(pca.variances.windows(2).all(|w| w[0] >= w[1]));
    }

    #[test]
    fn equal_points_have_no_variance() {
        let pca = Pca::new(&Points::new(3, [1.0, 2.0, 3.0].repeat(4)), 2);
        assert!(pca.variances.iter().all(|v| *v == 0.0) && pca.explained() == 1.0);
        assert!(pca.scores.values().iter().all(|v| *v == 0.0));
    }
}
