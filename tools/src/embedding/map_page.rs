//! The page of `jmp-tools embedding-map`.

use super::map::{LevelMap, MapReport};
use crate::document::Document;
use crate::html::{Cell, Table};
use crate::number::{integer, percent, significant};
use crate::svg::scatter::{self, Group};

/// The page and its numbers.
pub fn document(report: &MapReport) -> Document {
    let mut document = Document::new("Map of embeddings");
    document.open_section("map", "Structures");
    let thinned = report.datasets.iter().any(|d| d.shown < d.structures);
    if thinned {
        let text = "Of each dataset a random part is shown (--per-dataset); the table says how many.";
        document.paragraph("note", text);
    }
    let names: Vec<&str> = report.datasets.iter().map(|d| d.name.as_str()).collect();
    for map in &report.maps {
        let groups: Vec<Group> =
            names.iter().map(|name| Group { name, points: points(report, map, name) }).collect();
        let title = match map.level {
            "node" => "Node level: mean over atoms",
            _ => "Edge level: mean over edges",
        };
        let plot = scatter::draw(&groups, title) + &scatter::legend(&groups);
        document.wide_figure(title, &plot, &note(map));
    }
    let mut table = Table::new("Datasets", ["dataset", "structures", "on the map"]);
    for dataset in &report.datasets {
        table.row(vec![
            Cell::text(&dataset.name),
            Cell::integer(dataset.structures),
            Cell::integer(dataset.shown),
        ]);
    }
    document.table(&table);
    document.table(&how(report));
    document.paragraph("note", READING);
    document.close_section();
    document
}

const READING: &str = "Each point is a structure; what lies together has similar embeddings (paper eq. 3 and Figure 5). The axes of \
    t-SNE have no unit and no meaning, and neither have distances between far groups or the sizes of groups. The same \
    files and seed give the same map. Where each structure lies is in the Parquet file beside this page.";

fn points(report: &MapReport, map: &LevelMap, name: &str) -> Vec<[f64; 2]> {
    let own = map.rows.iter().zip(&map.places).filter(|(row, _)| report.names[**row] == name);
    own.map(|(_, place)| *place).collect()
}

fn note(map: &LevelMap) -> String {
    format!(
        "{} structures; {} of {} principal components hold {} of the variance; perplexity {}; {}.",
        integer(map.places.len() as u64),
        map.components,
        map.dimensions,
        percent(map.explained),
        significant(map.perplexity, 3),
        if map.exact { "all pairs summed" } else { "Barnes–Hut" }
    )
}

fn how(report: &MapReport) -> Table {
    let columns = [
        "level",
        "numbers",
        "components",
        "variance held",
        "perplexity",
        "iterations",
        "seed",
        "Kullback–Leibler divergence / nat",
    ];
    let mut table = Table::new("How the maps were made", columns);
    for map in &report.maps {
        table.row(vec![
            Cell::text(map.level),
            Cell::integer(map.dimensions as u64),
            Cell::integer(map.components as u64),
            Cell::percent(map.explained),
            Cell::number(Some(map.perplexity), 4),
            Cell::integer(report.iterations as u64),
            Cell::integer(report.seed),
            Cell::number(Some(map.divergence), 4),
        ]);
    }
    table
}
