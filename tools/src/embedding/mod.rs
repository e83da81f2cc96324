//! Embeddings of structures and elements: maps and similarities.

pub mod affinity;
pub mod map;
pub mod map_page;
pub mod pca;
pub mod points;
pub mod quadtree;
pub mod sample;
pub mod similarity;
pub mod similarity_page;
pub mod table;
pub mod tsne;
