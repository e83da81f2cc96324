//! Strides, bounds and number formats.

use super::dtype::half_to_f32;
use super::*;

fn bytes(n: usize) -> Vec<u8> {
    (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

#[test]
fn a_transposed_slice_is_read_row_by_row() {
    let data = bytes(8);
    let a = Array::strided(Dtype::F32, vec![3, 2], vec![1, 3], 2, Blob::borrowed(&data)).unwrap();
    assert_eq!(a.to_f64(), [2.0, 5.0, 3.0, 6.0, 4.0, 7.0]);
    assert_eq!(a.rows(1, 2).to_f64(), [3.0, 6.0]);
}

#[test]
fn fortran_order_is_undone() {
    let data = bytes(6);
    let a = Array::dense(Dtype::F32, vec![2, 3], true, Blob::borrowed(&data)).unwrap();
    assert_eq!(a.to_f32(), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
}

#[test]
fn views_outside_the_storage_are_refused() {
    let data = bytes(6);
    for (shape, strides, offset) in [
        (vec![7], vec![1], 0),
        (vec![2], vec![5], 1),
        (vec![2], vec![usize::MAX], 1),
        (vec![usize::MAX, 2], vec![0, 0], 0),
        (vec![1 << 30], vec![0], 0),
        (vec![2, 2], vec![1], 0),
    ] {
        assert!(Array::strided(Dtype::F32, shape, strides, offset, Blob::borrowed(&data)).is_err());
    }
}

#[test]
fn halves_have_ieee_values() {
    let check = |bits: u16, value: f32| assert_eq!(half_to_f32(bits), value);
    check(0x3e00, 1.5);
    check(0xc000, -2.0);
    check(0x0001, 2f32.powi(-24));
    check(0x7c00, f32::INFINITY);
    assert!(half_to_f32(0x7e00).is_nan());
}

#[test]
fn floats_that_are_not_whole_are_no_atomic_numbers() {
    let data: Vec<u8> = [29.0f32, 8.5].iter().flat_map(|v| v.to_le_bytes()).collect();
    let a = Array::dense(Dtype::F32, vec![2], false, Blob::borrowed(&data)).unwrap();
    assert_eq!(a.to_i64(), Err(ArrayError::NotWhole { index: 1, value: 8.5 }));
}
