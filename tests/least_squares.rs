//! Least squares by Householder reflections on the matrix itself (the product solves the normal equations).

/// `x` of least residual for a matrix of full column rank, given by rows.
#[allow(clippy::needless_range_loop, reason = "indices as in the formula")]
pub(crate) fn solve(matrix: &[Vec<f64>], target: &[f64]) -> Vec<f64> {
    let (rows, columns) = (matrix.len(), matrix[0].len());
    let (mut a, mut b) = (matrix.to_vec(), target.to_vec());
    for k in 0..columns {
        let norm = (k..rows).map(|i| a[i][k] * a[i][k]).sum::<f64>().sqrt();
        let alpha = if a[k][k] > 0.0 { -norm } else { norm };
        let mut v: Vec<f64> = (k..rows).map(|i| a[i][k]).collect();
        v[0] -= alpha;
        let square: f64 = v.iter().map(|x| x * x).sum();
        assert!(square > 0.0, "column {k} depends on those before it");
        for j in k..columns {
            let dot: f64 = (k..rows).map(|i| v[i - k] * a[i][j]).sum();
            (k..rows).for_each(|i| a[i][j] -= 2.0 * dot / square * v[i - k]);
        }
        let dot: f64 = (k..rows).map(|i| v[i - k] * b[i]).sum();
        (k..rows).for_each(|i| b[i] -= 2.0 * dot / square * v[i - k]);
    }
    let mut x = vec![0.0; columns];
    for k in (0..columns).rev() {
        let known: f64 = (k + 1..columns).map(|j| a[k][j] * x[j]).sum();
        x[k] = (b[k] - known) / a[k][k];
    }
    x
}

#[test]
fn fits_a_line() {
    // y = 2 + 3t, exactly.
    let matrix: Vec<Vec<f64>> = (0..5).map(|t| vec![1.0, f64::from(t)]).collect();
    let target: Vec<f64> = (0..5).map(|t| 2.0 + 3.0 * f64::from(t)).collect();
    let x = solve(&matrix, &target);
    assert!((x[0] - 2.0).abs() < 1e-12 && (x[1] - 3.0).abs() < 1e-12, "{x:?}");
}
