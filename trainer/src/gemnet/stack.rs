use std::rc::Rc;

use tch::{Tensor, nn};

use super::bases::BasisValues;
use super::dense::{Dropout, chain, residuals};
use super::interaction::InteractionBlock;
use super::output::{EdgeOutput, OutputBlock};
use super::{GemNetConfig, Init, Residual, ScaleFactor};
use crate::batch::GraphTensors;
use crate::native;

/// `MLP(x₀ ‖ x₁ ‖ …)` of all output blocks, evaluated as a sum over blocks, so that nothing is concatenated.
#[derive(Debug)]
pub(crate) struct GlobalOutput {
    weight: Tensor,
    layers: Vec<Residual>,
}

impl GlobalOutput {
    fn new(path: &nn::Path, units: i64, config: &GemNetConfig, init: Init) -> Self {
        let path = path / "out_mlp";
        let size = [units, units * (config.num_blocks + 1)];
        Self {
            weight: init.weight(&(&path / 0 / "linear"), "weight", &size),
            layers: residuals(&path, 1, config.num_global_out_layers, units, init),
        }
    }

    /// Block `i`'s part of the first layer, from atoms.
    fn part(&self, x: &Tensor, block: usize) -> Tensor {
        native::linear(x, &self.weight_of(block))
    }

    /// Block `i`'s part of the first layer, from edges that are yet to be gated by their radial basis `[e, rbf]`.
    fn gated_part(&self, edges: &EdgeOutput, radial: &Tensor, block: usize) -> Tensor {
        native::gated_linear(&edges.x, None, (radial, &edges.radial_weight), &self.weight_of(block), false)
    }

    fn weight_of(&self, block: usize) -> Tensor {
        let units = self.weight.size()[0];
        self.weight.narrow(1, block as i64 * units, units)
    }

    /// The other layers, of the sum of all parts.
    pub(crate) fn finish(&self, sum: &Tensor, dropout: Dropout) -> Tensor {
        chain(&self.layers, native::activation(sum), dropout)
    }
}

/// What one stage of the stack leaves to the next, and its parts of the global outputs.
#[derive(Debug)]
pub(crate) struct StageOutput {
    /// Atoms `[n, a]`.
    pub(crate) h: Tensor,
    /// Edges `[e, m]`.
    pub(crate) m: Tensor,
    /// Part of the global energy output `[n, a]`.
    pub(crate) energy: Tensor,
    /// Part of the global force output `[e, m]`, with direct forces.
    pub(crate) forces: Option<Tensor>,
}

/// What all stages of one forward pass share.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    pub(crate) basis: Rc<BasisValues>,
    pub(crate) graph: Rc<GraphTensors>,
    /// What the output blocks' sums are multiplied by while edges are dropped.
    pub(crate) factor: f64,
    pub(crate) dropout: Dropout,
}

/// Interaction and output blocks: stage 0 is the first output block alone, stage `i` interaction block `i − 1` and the
/// output block after it.
#[derive(Debug)]
pub(crate) struct Stack {
    interactions: Vec<InteractionBlock>,
    outputs: Vec<OutputBlock>,
    pub(crate) energy: GlobalOutput,
    pub(crate) forces: Option<GlobalOutput>,
}

impl Stack {
    pub(crate) fn new(path: &nn::Path, config: &GemNetConfig, init: Init) -> Self {
        let GemNetConfig { emb_size_atom: atom, emb_size_edge: edge, num_blocks, .. } = *config;
        Self {
            interactions: (0..num_blocks)
                .map(|i| InteractionBlock::new(&(path / "int_blocks" / i), config, init))
                .collect(),
            outputs: (0..=num_blocks)
                .map(|i| OutputBlock::new(&(path / "out_blocks" / i), config, init))
                .collect(),
            energy: GlobalOutput::new(&(path / "out_mlp_E"), atom, config, init),
            forces: config
                .direct_forces
                .then(|| GlobalOutput::new(&(path / "out_mlp_F"), edge, config, init)),
        }
    }

    /// Number of stages.
    pub(crate) fn stages(&self) -> usize {
        self.outputs.len()
    }

    /// Stage `i` on `h [n, a]` and `m [e, m]`.
    pub(crate) fn stage(&self, i: usize, (h, m): (&Tensor, &Tensor), pass: &Pass) -> StageOutput {
        let Pass { basis, graph, factor, dropout } = pass;
        let (h, m) = match i {
            0 => (h.shallow_clone(), m.shallow_clone()),
            i => self.interactions[i - 1].forward((h, m), basis, graph, *dropout),
        };
        let (atoms, edges) = self.outputs[i].forward((&h, &m), &basis.output, graph, *factor, *dropout);
        let forces = self
            .forces
            .as_ref()
            .zip(edges)
            .map(|(global, edges)| global.gated_part(&edges, &basis.output, i));
        StageOutput { energy: self.energy.part(&atoms, i), h, m, forces }
    }

    /// The same, keeping nothing but its inputs: the stage runs again in the backward pass.
    pub(crate) fn recomputed_stage(
        self: &Rc<Self>,
        i: usize,
        (h, m): (&Tensor, &Tensor),
        pass: &Pass,
    ) -> StageOutput {
        let mut inputs = vec![h.shallow_clone(), m.shallow_clone()];
        pass.basis.map(&mut |tensor| {
            inputs.push(tensor.shallow_clone());
            tensor.shallow_clone()
        });
        let (stack, pass, shape) = (Rc::clone(self), pass.clone(), Rc::clone(&pass.basis));
        let run = move |inputs: &[Tensor]| {
            let mut rest = inputs[2..].iter();
            let basis = shape.map(&mut |old| rest.next().unwrap_or(old).shallow_clone());
            let pass = Pass { basis: Rc::new(basis), ..pass.clone() };
            let StageOutput { h, m, energy, forces } = stack.stage(i, (&inputs[0], &inputs[1]), &pass);
            [h, m, energy].into_iter().chain(forces).collect()
        };
        let count = 3 + usize::from(self.forces.is_some());
        let mut made = native::recomputed(&inputs, count, run).into_iter();
        let mut next = || made.next().unwrap_or_else(|| h.shallow_clone());
        let (h, m, energy) = (next(), next(), next());
        StageOutput { h, m, energy, forces: made.next() }
    }

    /// All scale factors in the order in which a forward pass meets them.
    pub(crate) fn scale_factors(&self) -> Vec<&ScaleFactor> {
        let mut factors: Vec<&ScaleFactor> = self.outputs[0].scale_factors().collect();
        for (interaction, output) in self.interactions.iter().zip(&self.outputs[1..]) {
            factors.extend(interaction.scale_factors());
            factors.extend(output.scale_factors());
        }
        factors
    }
}
