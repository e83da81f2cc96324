//! The sections of a configuration, as they stand in the file. Every value is valid by its type.

mod data;
mod learning;
mod run;
mod schedule;
mod transfer;
mod upkeep;

pub use data::{DatasetSection, SamplingSection};
pub use learning::{LossSection, OptimizerSection, Reduction, SurgeryTasks};
pub use run::{Precision, RunSection};
pub use schedule::{FinetuneSchedule, LayerRates, PretrainSchedule, StopSection};
pub use transfer::TransferSection;
pub use upkeep::{CheckpointSection, GuardSection, NonFinite, ValidationSection};
