//! Many points of many dimensions, in one piece of memory.

/// `n` points of `d` dimensions, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Points {
    dimensions: usize,
    values: Vec<f64>,
}

impl Points {
    /// Points from their coordinates, point by point. What does not fill a whole point is cut off.
    pub fn new(dimensions: usize, mut values: Vec<f64>) -> Self {
        let dimensions = dimensions.max(1);
        values.truncate(values.len() / dimensions * dimensions);
        Self { dimensions, values }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.dimensions
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Of how many dimensions.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// One point.
    pub fn point(&self, index: usize) -> &[f64] {
        &self.values[index * self.dimensions..(index + 1) * self.dimensions]
    }

    /// All points.
    pub fn iter(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.dimensions)
    }

    /// All coordinates, point by point.
    pub fn values(&self) -> &[f64] {
        &self.values
    }
}
