//! A whole model: embedding, backbone, and the heads of a run's tasks.

use std::collections::BTreeMap;
use std::convert::Infallible;

use shards::batch::HostBatch;
use tch::{Device, Tensor, nn, no_grad};

use crate::batch::Batch;
use crate::checkpoint::TaskRecord;
use crate::config::model::ModelSection;
use crate::config::sections::Precision;
use crate::config::{ForceMode, RunKind};
use crate::gemnet::{Backbone, GemNetConfig, ScaleFactor, fit_scale_factors, gradient_divisors};
use crate::heads::{
    AtomEmbedding, EnergyHead, ForceHead, Pooling, PretrainHeads, ScalarHead, gradient_forces,
};
use crate::parameters::ParameterError;
use crate::prediction::Prediction;

/// Whether an energy head has biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bias {
    /// As the published fine-tuning heads.
    #[default]
    Without,
    /// As the heads of joint pre-training, which it continues.
    With,
}

impl Bias {
    /// With biases, if so.
    pub fn when(with: bool) -> Self {
        if with { Self::With } else { Self::Without }
    }
}

/// Which heads a network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadLayout {
    /// An energy and a direct-force head for each of this many tasks.
    Joint(usize),
    /// One energy head, with or without biases, forces as told.
    Single(ForceMode, Bias),
    /// One property of a structure, pooled so.
    Scalar(Pooling),
}

impl HeadLayout {
    /// The heads of a run's tasks, given by how each comes to forces and whether a single energy head has biases.
    pub fn of(kind: RunKind, tasks: &[(ForceMode, Bias)]) -> Self {
        match kind {
            RunKind::Pretrain => Self::Joint(tasks.len()),
            RunKind::Finetune => {
                let (forces, bias) = tasks.first().copied().unwrap_or_default();
                Self::Single(forces, bias)
            }
        }
    }

    /// The heads of a model that was trained on these tasks.
    pub fn of_records(kind: RunKind, tasks: &[TaskRecord]) -> Self {
        let scalar = tasks.first().and_then(|task| task.scalar.as_ref());
        if let Some(scalar) = scalar.filter(|_| kind == RunKind::Finetune) {
            return Self::Scalar(scalar.pooling);
        }
        let heads = tasks.iter().map(|task| (task.forces, Bias::when(task.head_bias)));
        Self::of(kind, &heads.collect::<Vec<_>>())
    }

    fn direct_forces(self) -> bool {
        matches!(self, Self::Joint(_) | Self::Single(ForceMode::Direct, _))
    }
}

#[derive(Debug)]
enum Heads {
    Joint(PretrainHeads),
    Energy(EnergyHead),
    Direct(EnergyHead, ForceHead),
    Gradient(EnergyHead),
    /// With the weights of the elements by atomic number, where the pooling needs them.
    Scalar(ScalarHead, Option<Tensor>),
}

/// Embedding, backbone and heads with their tensors.
#[derive(Debug)]
pub struct Network {
    store: nn::VarStore,
    config: GemNetConfig,
    embedding: AtomEmbedding,
    backbone: Backbone,
    heads: Heads,
}

impl Network {
    /// A network with fresh weights drawn from `seed`. Names of tensors equal the reference's.
    pub fn new(
        section: &ModelSection,
        layout: HeadLayout,
        seed: u64,
        precision: Precision,
        device: Device,
    ) -> Self {
        tch::manual_seed(seed as i64);
        let config = section.gemnet(layout.direct_forces());
        let mut store = nn::VarStore::new(device);
        store.set_kind(precision.weights());
        let root = store.root();
        let embedding = match layout {
            HeadLayout::Joint(_) => &root / "embedding" / "atom_embedding",
            HeadLayout::Single(..) | HeadLayout::Scalar(_) => &root / "embedding",
        };
        let embedding = AtomEmbedding::new(&embedding, &config);
        let backbone = Backbone::new(&(&root / "backbone"), &config)
            .computing_in(precision.activations())
            .recomputing(section.recompute);
        let energy = |bias| EnergyHead::new(&(&root / "out_energy"), &config, bias == Bias::With);
        let heads = match layout {
            HeadLayout::Joint(tasks) => Heads::Joint(PretrainHeads::new(&(&root / "output"), tasks, &config)),
            HeadLayout::Single(ForceMode::None, bias) => Heads::Energy(energy(bias)),
            HeadLayout::Single(ForceMode::Gradient, bias) => Heads::Gradient(energy(bias)),
            HeadLayout::Single(ForceMode::Direct, bias) => {
                Heads::Direct(energy(bias), ForceHead::new(&(&root / "out_forces"), &config))
            }
            HeadLayout::Scalar(pooling) => {
                let weighs = pooling == Pooling::SquaredRadius;
                let weights = weighs.then(|| Tensor::from_slice(&shards::element::WEIGHTS).to_device(device));
                Heads::Scalar(ScalarHead::new(&(&root / "out_scalar"), &config, pooling), weights)
            }
        };
        Self { store, config, embedding, backbone, heads }
    }

    /// The same with dropout before the head of a property, in training.
    #[must_use]
    pub fn dropping_out(mut self, share: f64) -> Self {
        if let Heads::Scalar(head, _) = &mut self.heads {
            head.drop_out(share);
        }
        self
    }

    /// The tensors.
    pub fn store(&self) -> &nn::VarStore {
        &self.store
    }

    /// The backbone's sizes.
    pub fn config(&self) -> &GemNetConfig {
        &self.config
    }

    /// A batch on the network's device, in its precision.
    pub fn batch(&self, host: &HostBatch) -> Batch {
        Batch::from_host(host, self.store.kind(), self.store.device())
    }

    /// Predictions in normalised units. With `train` they can be differentiated, forces that are gradients included.
    pub fn forward(&self, batch: &Batch, train: bool) -> Prediction {
        match &self.heads {
            Heads::Gradient(head) => {
                let _ = batch.positions.set_requires_grad(true);
                let energy = head.forward(&self.embed(batch, train), batch);
                let forces = gradient_forces(&energy, batch, train);
                Prediction { energy, forces: Some(forces) }
            }
            _ if train => self.forward_direct(batch, true),
            _ => no_grad(|| self.forward_direct(batch, false)),
        }
    }

    fn forward_direct(&self, batch: &Batch, train: bool) -> Prediction {
        let embeddings = self.embed(batch, train);
        match &self.heads {
            Heads::Joint(heads) => {
                let crate::heads::Prediction { energy, forces } = heads.forward(&embeddings, batch);
                Prediction { energy, forces: Some(forces) }
            }
            Heads::Direct(energy, forces) => Prediction {
                energy: energy.forward(&embeddings, batch),
                forces: Some(forces.forward(&embeddings, batch)),
            },
            Heads::Energy(energy) | Heads::Gradient(energy) => {
                Prediction { energy: energy.forward(&embeddings, batch), forces: None }
            }
            Heads::Scalar(head, weights) => {
                let masses = weights.as_ref().map(|weights| weights.index_select(0, &batch.atomic_numbers));
                Prediction { energy: head.forward(&embeddings, batch, masses.as_ref(), train), forces: None }
            }
        }
    }

    /// Node and edge embeddings after the last interaction block: `h [n, a]` and `m [e, m]`.
    pub fn last_embeddings(&self, batch: &Batch) -> (Tensor, Tensor) {
        no_grad(|| {
            let h = self.embedding.forward(&batch.atomic_numbers);
            let mut last = (h.shallow_clone(), h.shallow_clone());
            let keep = |_, h: &Tensor, m: &Tensor| last = (h.shallow_clone(), m.shallow_clone());
            drop(self.backbone.forward_watched(&h, batch, false, keep));
            last
        })
    }

    /// The learned vectors of elements, `[elements, a]`; row `Z − 1`.
    pub fn element_vectors(&self) -> &Tensor {
        self.embedding.vectors()
    }

    fn embed(&self, batch: &Batch, train: bool) -> crate::gemnet::Embeddings {
        let h = self.embedding.forward(&batch.atomic_numbers);
        self.backbone.forward(&h, batch, train)
    }

    /// What gradients of shared parameters are divided by, by full name.
    pub fn gradient_divisors(&self) -> BTreeMap<String, f64> {
        gradient_divisors(&self.config).into_iter().map(|(name, d)| (format!("backbone.{name}"), d)).collect()
    }

    /// Tensors that are not trained: scale factors and constants of the bases.
    pub fn buffers(&self) -> BTreeMap<String, Tensor> {
        self.store.variables().into_iter().filter(|(_, t)| !t.requires_grad()).collect()
    }

    /// Copies buffers by name; each must be there with as many elements.
    pub fn load_buffers(&self, named: &BTreeMap<String, Tensor>) -> Result<(), ParameterError> {
        for (name, mut buffer) in self.buffers() {
            let source = named.get(&name).ok_or_else(|| ParameterError::Missing { name: name.clone() })?;
            let expected = buffer.size();
            if source.numel() != buffer.numel() {
                return Err(ParameterError::Shape { name, expected, found: source.size() });
            }
            no_grad(|| buffer.f_copy_(&source.view(expected.as_slice())))
                .map_err(|source| ParameterError::Torch { name, source })?;
        }
        Ok(())
    }

    /// Draws the atom embedding anew.
    pub fn reset_embedding(&self, seed: u64) {
        tch::manual_seed(seed as i64);
        for (name, mut tensor) in self.store.variables() {
            if name.starts_with("embedding.") {
                let _ = no_grad(|| tensor.normal_(0.0, 1.0));
            }
        }
    }

    /// Keeps tensors as they are from now on; nothing is computed for them in backward passes. Returns how many.
    pub fn freeze(&self, chosen: impl Fn(&str) -> bool) -> usize {
        let of_backward = |name: &String, tensor: &Tensor| tensor.requires_grad() && chosen(name);
        let frozen: Vec<_> = self.store.variables().into_iter().filter(|(n, t)| of_backward(n, t)).collect();
        frozen.iter().for_each(|(_, tensor)| drop(tensor.set_requires_grad(false)));
        frozen.len()
    }

    /// Copies every tensor by name; all must be there with their shapes.
    pub fn load(&self, named: &BTreeMap<String, Tensor>) -> Result<(), ParameterError> {
        self.load_buffers(named)?;
        let variables: BTreeMap<String, Tensor> = self.store.variables().into_iter().collect();
        for (name, mut target) in variables.into_iter().filter(|(_, t)| t.requires_grad()) {
            let source = named.get(&name).ok_or_else(|| ParameterError::Missing { name: name.clone() })?;
            if source.size() != target.size() {
                return Err(ParameterError::Shape { name, expected: target.size(), found: source.size() });
            }
            no_grad(|| target.f_copy_(source)).map_err(|source| ParameterError::Torch { name, source })?;
        }
        Ok(())
    }

    /// Scale factors in the order in which a forward pass meets them.
    pub fn scale_factors(&self) -> Vec<&ScaleFactor> {
        self.backbone.scale_factors()
    }

    /// Fits each unfitted scale factor on `batches`, in the order of execution (GemNet, arXiv:2106.08903, App. D):
    /// later factors see what earlier ones changed. Returns how many were fitted.
    pub fn fit_scale_factors(&self, batches: &[HostBatch]) -> usize {
        let batches: Vec<Batch> = batches.iter().map(|host| self.batch(host)).collect();
        let forward = |_: &Backbone| -> Result<(), Infallible> {
            batches.iter().for_each(|batch| drop(self.embed(batch, false)));
            Ok(())
        };
        let Ok(fitted) = fit_scale_factors(&self.backbone, forward);
        fitted.iter().filter(|factor| factor.value.is_some()).count()
    }
}
