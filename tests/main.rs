//! End-to-end cases: the three programs, driven as a user drives them, on fixtures of the upstream layouts.
//!
//! What is judged here is judged from outside: files and exit codes, read with other code than the product's own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test stops at what it did not expect"
)]

mod cases {
    mod ablation;
    mod bad_input;
    mod convert;
    mod finetune;
    mod pretrain;
    mod readme;
    mod real_data;
    mod train;
}
mod least_squares;
mod npz;
mod programs;
mod rows;
