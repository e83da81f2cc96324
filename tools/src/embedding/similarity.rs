//! How alike the embeddings of elements are (paper Figure 6).

use serde::Serialize;
use shards::element;

use super::table::Elements;
use crate::error::ReportError;

/// An element's likeness to another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Similarity {
    /// Atomic number of the other.
    pub atomic_number: u8,
    /// Its symbol.
    pub symbol: &'static str,
    /// Cosine of the angle between the two embeddings.
    pub cosine: f64,
    /// Whether the other occurs in the training data; its embedding is random where it does not.
    pub trained: Option<bool>,
}

/// An element's likeness to all others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ElementRow {
    /// The element.
    pub symbol: &'static str,
    /// Whether it occurs in the training data.
    pub trained: Option<bool>,
    /// The others, by atomic number.
    pub others: Vec<Similarity>,
}

/// All that the report says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SimilarityReport {
    /// The file of embeddings.
    pub file: String,
    /// Numbers of an embedding.
    pub dimensions: usize,
    /// The chosen elements.
    pub elements: Vec<ElementRow>,
}

/// The cosine of the angle between two vectors; 0 where one vanishes.
pub fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { (dot(a, b) / norms).clamp(-1.0, 1.0) } else { 0.0 }
}

/// Compares chosen elements, given by symbol, with all others of a file.
pub fn compare(file: &str, elements: &Elements, chosen: &[String]) -> Result<SimilarityReport, ReportError> {
    let row = |symbol: &String| -> Result<ElementRow, ReportError> {
        let unknown = || {
            ReportError::Usage(format!("--elements {symbol}: expected symbols of elements, such as H,C,Co"))
        };
        let z = element::atomic_number(symbol).ok_or_else(unknown)?;
        let own = elements.atomic_numbers.iter().position(|n| *n == z).ok_or_else(|| {
            ReportError::Usage(format!("--elements {symbol}: {file} has no embedding of it"))
        })?;
        let others =
            (0..elements.atomic_numbers.len()).filter(|other| *other != own).map(|other| Similarity {
                atomic_number: elements.atomic_numbers[other],
                symbol: element::symbol(elements.atomic_numbers[other]),
                cosine: cosine(elements.vectors.point(own), elements.vectors.point(other)),
                trained: elements.trained[other],
            });
        let mut others: Vec<Similarity> = others.collect();
        others.sort_by_key(|s| s.atomic_number);
        Ok(ElementRow { symbol: element::symbol(z), trained: elements.trained[own], others })
    };
    Ok(SimilarityReport {
        file: file.into(),
        dimensions: elements.vectors.dimensions(),
        elements: chosen.iter().map(row).collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::points::Points;

    #[test]
    fn cosines_are_those_of_the_angle() {
        assert!((cosine(&[1.0, 0.0], &[1.0, 1.0]) - 0.5f64.sqrt()).abs() < 1e-15);
        assert_eq!((cosine(&[2.0, 0.0], &[-3.0, 0.0]), cosine(&[0.0, 0.0], &[1.0, 0.0])), (-1.0, 0.0));
    }

    #[test]
    fn chosen_elements_are_compared_with_all_others() {
        let elements = Elements {
            atomic_numbers: vec![1, 6, 8],
            trained: vec![Some(true), None, Some(false)],
            vectors: Points::new(2, vec![1.0, 0.0, 0.0, 2.0, 3.0, 4.0]),
        };
        let report = compare("f", &elements, &["O".into()]).unwrap();
        let told: Vec<(&str, f64)> = report.elements[0].others.iter().map(|s| (s.symbol, s.cosine)).collect();
        assert_eq!(told, [("H", 0.6), ("C", 0.8)]);
        let error = |symbol: &str| compare("f", &elements, &[symbol.into()]).unwrap_err().to_string();
        assert!(error("Xx").contains("expected symbols"), "{}", error("Xx"));
        assert!(error("Cu").contains("no embedding"));
    }
}
