//! GemNet-OC on libtorch: pre-training, fine-tuning, evaluation, prediction (Shoghi et al., arXiv:2310.16802).

pub mod clip;
pub mod config;
pub mod ema;
pub mod optim;
pub mod parameters;
pub mod plateau;
pub mod schedule;
