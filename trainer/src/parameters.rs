//! All trainable tensors of a model as views of one flat buffer.
//!
//! The optimiser, the averages and clipping then work on a few long vectors instead of hundreds of small ones, every
//! parameter always has a gradient (zero where a head was not used, so that weight decay acts on it), and a parameter
//! group is a range.

use std::collections::BTreeMap;
use std::ops::Range;

use tch::{Device, Kind, Tensor, nn, no_grad};
use thiserror::Error;

use crate::native;

/// Elements worked on at once on a CPU: long enough to use all threads, short enough for temporaries to stay in the cache.
const CHUNK: i64 = 1 << 18;
/// The same on a GPU. Its temporaries are in no cache, and each operation on each piece is a kernel to be launched: cut for
/// caches, one step of the large model's optimiser would launch ten thousand. 128 MB bound a temporary in single precision.
const GPU_CHUNK: i64 = 1 << 25;

/// Why tensors and a model do not fit together.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ParameterError {
    /// A tensor the model needs is not there.
    #[error("tensor `{name}` is missing")]
    Missing {
        /// Name in the model.
        name: String,
    },
    /// A tensor has another shape than the model's.
    #[error("tensor `{name}`: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// Name in the model.
        name: String,
        /// The model's shape.
        expected: Vec<i64>,
        /// The shape offered.
        found: Vec<i64>,
    },
    /// libtorch refused.
    #[error("tensor `{name}`")]
    Torch {
        /// Name in the model.
        name: String,
        /// Its own words.
        source: tch::TchError,
    },
}

/// One trainable tensor and its place in the flat buffers.
#[derive(Debug)]
pub struct Parameter {
    /// Name, equal to the reference checkpoint's.
    pub name: String,
    /// Shape.
    pub size: Vec<i64>,
    /// Elements in the flat buffers.
    pub range: Range<i64>,
    /// Index of its parameter group.
    pub group: usize,
}

/// The trainable tensors of a [`nn::VarStore`], moved into one buffer, with their gradients in another.
#[derive(Debug)]
pub struct Parameters {
    entries: Vec<Parameter>,
    groups: Vec<Range<i64>>,
    values: Tensor,
    gradients: Tensor,
    tensors: Vec<Tensor>,
}

impl Parameters {
    /// Moves the trainable tensors of `store` into a flat buffer, sorted by group and name.
    ///
    /// `group` gives each name its parameter group, an index below `groups`. The tensors the model holds become views:
    /// nothing in the model changes but the place of its memory.
    pub fn flatten(
        store: &nn::VarStore,
        groups: usize,
        group: impl Fn(&str) -> usize,
    ) -> Result<Self, ParameterError> {
        let mut sorted: Vec<(usize, String, Tensor)> = store
            .variables()
            .into_iter()
            .filter(|(_, tensor)| tensor.requires_grad())
            .map(|(name, tensor)| (group(&name), name, tensor))
            .collect();
        sorted.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let total: i64 = sorted.iter().map(|(_, _, t)| t.numel() as i64).sum();
        let options = (sorted.first().map_or(Kind::Float, |(_, _, t)| t.kind()), store.device());
        let values = Tensor::zeros([total], options);
        let gradients = Tensor::zeros([total], options);
        let mut ranges = vec![0..0; groups];
        let (mut entries, mut tensors, mut start) = (Vec::new(), Vec::new(), 0);
        for (group, name, mut tensor) in sorted {
            let length = tensor.numel() as i64;
            adopt(&mut tensor, &values, &gradients, start)
                .map_err(|source| ParameterError::Torch { name: name.clone(), source })?;
            if ranges[group].is_empty() {
                ranges[group] = start..start;
            }
            ranges[group].end = start + length;
            entries.push(Parameter { name, size: tensor.size(), range: start..start + length, group });
            tensors.push(tensor);
            start += length;
        }
        Ok(Self { entries, groups: ranges, values, gradients, tensors })
    }

    /// The tensors in their order in the buffers.
    pub fn entries(&self) -> &[Parameter] {
        &self.entries
    }

    /// Elements of each parameter group.
    pub fn groups(&self) -> &[Range<i64>] {
        &self.groups
    }

    /// All values, `[p]`.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// All gradients, `[p]`.
    pub fn gradients(&self) -> &Tensor {
        &self.gradients
    }

    /// The tensors themselves, in the order of [`Self::entries`].
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Number of elements `p`.
    pub fn len(&self) -> i64 {
        self.values.size()[0]
    }

    /// Whether nothing is trainable.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A new vector like the flat buffers, filled with zeros.
    pub fn zeros(&self) -> Tensor {
        Tensor::zeros_like(&self.values)
    }

    /// Sets all gradients to zero (not to "none": unused heads must decay too).
    pub fn zero_gradients(&mut self) {
        let _ = self.gradients.zero_();
    }

    /// Divides in `gradients`, flat like [`Self::gradients`], those of each tensor that `divisor` knows: those shared by
    /// several blocks (SPEC: `grad_divisor`).
    ///
    /// To be called once an optimiser step, after the last backward pass of an accumulation.
    pub fn divide_shared(&self, gradients: &Tensor, divisor: impl Fn(&str) -> Option<f64>) {
        for entry in &self.entries {
            if let Some(divisor) = divisor(&entry.name) {
                let _ = slice(gradients, &entry.range).g_div_scalar_(divisor);
            }
        }
    }

    /// Adds tensors in the order of [`Self::tensors`] to `flat`; undefined ones stand for zeros.
    pub fn add_ordered(&self, flat: &Tensor, tensors: &[Tensor]) {
        for (entry, tensor) in self.entries.iter().zip(tensors).filter(|(_, tensor)| tensor.defined()) {
            let _ = no_grad(|| slice(flat, &entry.range).g_add_(&tensor.flatten(0, -1)));
        }
    }

    /// The tensors by name, as part of `flat` (one of [`Self::values`], [`Self::gradients`], moments, averages).
    pub fn named(&self, flat: &Tensor) -> BTreeMap<String, Tensor> {
        let view = |e: &Parameter| (e.name.clone(), slice(flat, &e.range).view(e.size.as_slice()));
        self.entries.iter().map(view).collect()
    }

    /// Copies named tensors into `flat`; every one must be there with its shape.
    pub fn copy_named(&self, flat: &Tensor, named: &BTreeMap<String, Tensor>) -> Result<(), ParameterError> {
        for entry in &self.entries {
            let source =
                named.get(&entry.name).ok_or_else(|| ParameterError::Missing { name: entry.name.clone() })?;
            if source.size() != entry.size {
                return Err(ParameterError::Shape {
                    name: entry.name.clone(),
                    expected: entry.size.clone(),
                    found: source.size(),
                });
            }
            let mut target = slice(flat, &entry.range).view(entry.size.as_slice());
            no_grad(|| target.f_copy_(source))
                .map_err(|source| ParameterError::Torch { name: entry.name.clone(), source })?;
        }
        Ok(())
    }

    /// Whether the model's tensors still are views of the buffers; false would be a fault of this program.
    pub fn is_intact(&self) -> bool {
        let base = self.values.data_ptr() as usize;
        let width = self.values.kind().elt_size_in_bytes();
        self.entries
            .iter()
            .zip(&self.tensors)
            .all(|(e, t)| t.data_ptr() as usize == base + e.range.start as usize * width)
    }
}

/// Makes `tensor` and its gradient views of the flat buffers from `start` on.
fn adopt(tensor: &mut Tensor, values: &Tensor, gradients: &Tensor, start: i64) -> Result<(), tch::TchError> {
    let (size, length) = (tensor.size(), tensor.numel() as i64);
    let place = values.f_narrow(0, start, length)?.f_view(size.as_slice())?;
    no_grad(|| place.shallow_clone().f_copy_(tensor))?;
    tensor.f_set_data(&place)?;
    // A gradient exists only once something was differentiated; afterwards backward adds to it in place.
    tensor.f_sum(tensor.kind())?.f_backward()?;
    let mut gradient = tensor.f_grad()?;
    let place = gradients.f_narrow(0, start, length)?.f_view(size.as_slice())?;
    gradient.f_set_data(&place)
}

/// Elements `range` of a flat buffer.
pub fn slice(flat: &Tensor, range: &Range<i64>) -> Tensor {
    flat.narrow(0, range.start, range.end - range.start)
}

/// Elements that operations on flat buffers take at once on this device.
pub fn piece_size(device: Device) -> i64 {
    if device == Device::Cpu { CHUNK } else { GPU_CHUNK }
}

/// Cuts `range` into pieces of `size` elements, the last one shorter.
pub fn pieces(range: Range<i64>, size: i64) -> impl Iterator<Item = Range<i64>> {
    let end = range.end;
    range.step_by(size as usize).map(move |start| start..(start + size).min(end))
}

/// Cuts `range` into pieces of a size that caches hold.
pub fn chunks(range: Range<i64>) -> impl Iterator<Item = Range<i64>> {
    pieces(range, CHUNK)
}

/// L2 norm of a flat buffer, added up in double precision.
pub fn norm(flat: &Tensor) -> f64 {
    if let Some(squares) = native::sum_of_squares(flat) {
        return squares.sqrt();
    }
    norm_in_pieces(flat, piece_size(flat.device()))
}

/// The same by tch's operations.
fn norm_in_pieces(flat: &Tensor, size: i64) -> f64 {
    let squares: Vec<Tensor> = pieces(0..flat.size()[0], size)
        .map(|piece| slice(flat, &piece).norm().to_kind(Kind::Double).square())
        .collect();
    if squares.is_empty() {
        0.0
    } else {
        Tensor::stack(&squares, 0).sum(Kind::Double).sqrt().double_value(&[])
    }
}

/// The device named by a configuration: `cpu`, `cuda`, `cuda:N` or `auto`.
pub fn device(name: &str) -> Option<Device> {
    match name {
        "cpu" => Some(Device::Cpu),
        "auto" => Some(Device::cuda_if_available()),
        "cuda" => Some(Device::Cuda(0)),
        _ => name.strip_prefix("cuda:")?.parse().ok().map(Device::Cuda),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (nn::VarStore, Tensor, Tensor) {
        let store = nn::VarStore::new(Device::Cpu);
        let root = store.root();
        let b = root.var("b", &[2, 3], nn::Init::Const(2.0));
        let a = root.var("a", &[4], nn::Init::Const(1.0));
        let _ = root.zeros_no_train("buffer", &[1]);
        (store, a, b)
    }

    #[test]
    fn the_model_sees_the_flat_buffer_and_the_buffer_its_gradients() {
        let (store, a, b) = store();
        let mut parameters = Parameters::flatten(&store, 1, |_| 0).unwrap();
        assert_eq!(parameters.len(), 10);
        assert!(parameters.is_intact());
        for _ in 0..2 {
            parameters.zero_gradients();
            (&b * 3.0).sum(Kind::Float).backward();
        }
        // `a` took no part: its gradient is zero, not undefined.
        assert_eq!(
            Vec::<f32>::try_from(parameters.gradients()).unwrap(),
            [&[0.0; 4][..], &[3.0; 6]].concat()
        );
        let _ = no_grad(|| parameters.values().shallow_clone().g_mul_scalar_(2.0));
        assert_eq!(a.sum(Kind::Float).double_value(&[]), 8.0);
        assert_eq!(b.sum(Kind::Float).double_value(&[]), 24.0);
    }

    #[test]
    fn groups_are_ranges_and_come_first_in_the_order() {
        let (store, _, _) = store();
        let parameters = Parameters::flatten(&store, 2, |name| usize::from(name == "a")).unwrap();
        assert_eq!(parameters.groups(), [0..6, 6..10]);
        assert_eq!(parameters.entries()[0].name, "b");
    }

    #[test]
    fn a_wrong_shape_is_named() {
        let (store, _, _) = store();
        let parameters = Parameters::flatten(&store, 1, |_| 0).unwrap();
        let mut named = parameters.named(parameters.values());
        named.insert("b".into(), Tensor::zeros([3, 2], (Kind::Float, Device::Cpu)));
        let error = parameters.copy_named(parameters.values(), &named).unwrap_err();
        assert_eq!(error.to_string(), "tensor `b`: expected shape [2, 3], found [3, 2]");
    }

    #[test]
    fn the_norm_of_many_pieces_is_the_norm() {
        let count = CHUNK * 2 + 7;
        let want = 0.5 * (count as f64).sqrt();
        for kind in [Kind::Float, Kind::Double] {
            let flat = Tensor::full([count], 0.5, (kind, Device::Cpu));
            assert!((norm(&flat) - want).abs() < 1e-6 * want);
            for size in [CHUNK, GPU_CHUNK, 1001] {
                let found = norm_in_pieces(&flat, size);
                assert!((found - want).abs() < 1e-6 * want, "{kind:?}, pieces of {size}: {found} and {want}");
            }
        }
        assert_eq!(norm_in_pieces(&Tensor::zeros([0], (Kind::Float, Device::Cpu)), CHUNK), 0.0);
    }

    #[test]
    fn pieces_cover_a_range_and_a_gpu_has_few_of_them() {
        assert_eq!(pieces(3..12, 4).collect::<Vec<_>>(), [3..7, 7..11, 11..12]);
        assert_eq!(pieces(5..5, 4).count(), 0);
        // The parameters of joint pre-training of the large model.
        let count = |device| pieces(0..234_267_648, piece_size(device)).count();
        assert_eq!((count(Device::Cpu), count(Device::Cuda(1))), (894, 7));
    }
}
