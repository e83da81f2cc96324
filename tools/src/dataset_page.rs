//! A dataset's section of the page.

use std::collections::BTreeMap;

use shards::layout::NeighborStorage;

use crate::dataset_report::{DatasetReport, SplitSummary};
use crate::document::{Document, Labels};
use crate::html::{Cell, Table};
use crate::number::{self, integer, significant, with_spread};
use crate::sample_page;
use crate::summary_page::sizes;
use crate::svg::periodic_table;

/// Count columns that are drawn; the table has them all.
const DRAWN_COUNTS: [&str; 3] = ["edges_main", "triplets", "quadruplets"];

/// Renders a dataset. Closed parts show only their heads until they are clicked.
pub fn render(document: &mut Document, dataset: &DatasetReport, anchor: &str, open: bool) {
    document.open_section(anchor, &dataset.name);
    facts(document, dataset);
    document.open_details("Distributions", open);
    elements_figure(document, dataset);
    document.open_grid();
    plots(document, dataset);
    if let Some(sample) = &dataset.sample {
        sample_page::plots(document, sample, dataset);
    }
    document.close_grid();
    document.close_details();
    document.open_details("Tables", open);
    document.table(&split_table(dataset));
    label_table(document, dataset);
    document.table(&count_table(dataset));
    memory_table(document, dataset);
    document.table(&element_table(dataset));
    if let Some(sample) = &dataset.sample {
        sample_page::tables(document, sample);
    }
    document.close_details();
    checks(document, dataset);
    rejects(document, dataset);
    document.close_section();
}

fn facts(document: &mut Document, d: &DatasetReport) {
    let labels: Vec<String> = d
        .labels
        .iter()
        .map(|(name, unit)| if unit.is_empty() { name.clone() } else { format!("{name} ({unit})") })
        .collect();
    let g = &d.graph;
    let graph = format!(
        "{} Å; neighbours: {} main, {} atom–edge, {} quadruplet, {} atom–atom",
        g.cutoff, g.main, g.atom_edge, g.quadruplet, g.atom_atom
    );
    let neighbors = match d.neighbors {
        NeighborStorage::Full => "all within the cutoff".to_string(),
        NeighborStorage::Nearest(k) => format!("the {k} nearest"),
        NeighborStorage::None => "none".to_string(),
    };
    document.facts(&[
        ("domain", d.domain.clone()),
        ("level of theory", d.level_of_theory.clone()),
        ("licence", d.licence.clone()),
        ("labels", labels.join(", ")),
        ("structures", integer(d.rows)),
        ("atoms", integer(d.atoms)),
        ("shards", format!("{} in {} Parquet files", number::bytes(d.bytes), integer(d.parts as u64))),
        ("sources", format!("{} in {} files", number::bytes(d.source_bytes), integer(d.sources as u64))),
        ("graph counts are for", graph),
        ("stored neighbours", neighbors),
        ("directory", d.directory.clone()),
    ]);
}

fn elements_figure(document: &mut Document, d: &DatasetReport) {
    let counts: BTreeMap<u8, u64> = d.elements.iter().map(|e| (e.atomic_number, e.atoms)).collect();
    let title = format!("Atoms of each element{}", of_split(d.overview_split.as_deref()));
    let plot = periodic_table::draw(&counts, "atoms");
    document.wide_figure(&title, &plot, "Shaded by the logarithm of the count.");
}

fn plots(document: &mut Document, d: &DatasetReport) {
    let labels = Labels { title: "Atoms per structure", x: "atoms", y: "structures", note: "All rows." };
    document.histogram(&d.sizes, labels);
    if let Some(e) = &d.energy_per_atom {
        let (mean, std) = with_spread(e.mean, e.std);
        let note = format!(
            "Energy as the source defines its zero. All {} with an energy: mean {mean}, standard deviation {std} eV.",
            integer(e.count)
        );
        let title = "Energy per atom";
        document.histogram(
            &e.histogram,
            Labels { title, x: "energy per atom / eV", y: "structures", note: &note },
        );
    }
    if let Some(norms) = &d.force_norms {
        let zero = match d.zero_forces {
            0 => String::new(),
            n => format!(" {} atoms with zero force are left out.", integer(n)),
        };
        let note = format!("All rows; bins of a quarter decade.{zero}");
        let title = format!("Force norms{}", of_split(d.overview_split.as_deref()));
        document
            .histogram(norms, Labels { title: &title, x: "force norm / (eV/Å)", y: "atoms", note: &note });
    }
    for count in d.counts.iter().filter(|c| DRAWN_COUNTS.contains(&c.column.as_str())) {
        let note = format!(
            "All rows: mean {}, median {}, 95 % at most {}.",
            significant(count.mean, 4),
            integer(count.median),
            integer(count.p95)
        );
        let title = format!("{} per structure", capitalised(&count.title));
        document.histogram(
            &count.histogram,
            Labels { title: &title, x: &count.title, y: "structures", note: &note },
        );
    }
}

fn split_table(d: &DatasetReport) -> Table {
    let columns = [
        "split",
        "structures",
        "atoms: mean (min–max)",
        "with forces",
        "force rms / (eV/Å)",
        "mean norm / (eV/Å)",
        "largest norm / (eV/Å)",
        "how it was chosen",
    ];
    let mut table = Table::new("Splits", columns);
    for split in &d.splits {
        let forces = split.forces;
        table.row(vec![
            Cell::text(&split.name),
            Cell::integer(split.rows),
            sizes(split),
            Cell::integer(forces.map_or(0, |f| f.structures)),
            Cell::number(forces.map(|f| f.rms), 4),
            Cell::number(forces.map(|f| f.mean_norm), 4),
            Cell::number(forces.map(|f| f.max_norm), 4),
            Cell::text(&chosen(split)),
        ]);
    }
    table
}

fn chosen(split: &SplitSummary) -> String {
    match split.seed {
        Some(seed) => format!("{} (seed {seed})", split.algorithm),
        None => split.algorithm.clone(),
    }
}

fn label_table(document: &mut Document, d: &DatasetReport) {
    let columns = [
        "split",
        "label",
        "unit",
        "structures",
        "mean",
        "std",
        "min",
        "max",
        "std after reference",
        "MAE after reference",
        "largest after reference",
        "rank",
        "elements",
        "condition",
    ];
    let mut table =
        Table::new("Labels before and after the linear reference, each fitted on its own split", columns);
    for split in &d.splits {
        for (label, l) in &split.labels {
            table.row(vec![
                Cell::text(&split.name),
                Cell::text(label),
                Cell::text(d.labels.get(label).map_or("", String::as_str)),
                Cell::integer(l.count),
                Cell::number(Some(l.mean), 6),
                Cell::number(Some(l.std), 4),
                Cell::number(Some(l.min), 6),
                Cell::number(Some(l.max), 6),
                Cell::number(Some(l.referenced_std), 4),
                Cell::number(Some(l.referenced_mae), 4),
                Cell::number(Some(l.referenced_max), 4),
                Cell::number(l.rank.map(|r| r as f64), 6),
                Cell::integer(l.elements as u64),
                Cell::number(l.condition, 3),
            ]);
        }
    }
    let lacking =
        d.splits.iter().flat_map(|s| s.labels.values()).any(|l| l.rank.is_some_and(|rank| rank < l.elements));
    document.table(&table);
    if lacking {
        let note = "Where the rank is below the number of elements, the compositions do not determine each coefficient; the \
                    one of least norm is taken.";
        document.paragraph("note", note);
    }
}

fn count_table(d: &DatasetReport) -> Table {
    let columns =
        ["per structure", "mean", "min", "median", "95 % at most", "max", "all structures together"];
    let mut table = Table::new("Graphs, all rows", columns);
    for count in &d.counts {
        table.row(vec![
            Cell::text(&count.title),
            Cell::number(Some(count.mean), 5),
            Cell::integer(count.min),
            Cell::integer(count.median),
            Cell::integer(count.p95),
            Cell::integer(count.max),
            Cell::integer(count.total),
        ]);
    }
    table
}

fn memory_table(document: &mut Document, d: &DatasetReport) {
    let columns =
        ["model", "edges, mean", "triplets, mean", "quadruplets, mean", "together, mean", "at most"];
    let mut table = Table::new("Memory that the graphs of a structure imply, one interaction block", columns);
    for m in &d.memory {
        let mut row = vec![Cell::text(&m.model)];
        row.extend([m.edges, m.triplets, m.quadruplets, m.mean, m.max].map(Cell::bytes));
        table.row(row);
    }
    document.table(&table);
    if !d.memory.is_empty() {
        let note = "Edges, triplets of all kinds and quadruplets with an embedding each, 32 bits, at the sizes of the paper's \
                    Table 17. A training step holds several blocks and what lies between; kernels that sum as they go hold \
                    less.";
        document.paragraph("note", note);
    }
}

fn element_table(d: &DatasetReport) -> Table {
    let title = format!(
        "Elements{}, coefficients{}",
        of_split(d.overview_split.as_deref()),
        of_split(d.training_split.as_deref())
    );
    let mut table = Table::new(&title, ["element", "Z", "structures", "atoms", "linear reference / eV"]);
    for e in &d.elements {
        table.row(vec![
            Cell::text(&e.symbol),
            Cell::integer(u64::from(e.atomic_number)),
            Cell::integer(e.structures),
            Cell::integer(e.atoms),
            Cell::number(e.reference, 8),
        ]);
    }
    table
}

fn checks(document: &mut Document, d: &DatasetReport) {
    if d.checks.is_empty() {
        return;
    }
    let columns = ["check", "structures", "what it means"];
    let mut table = Table::new("Suspicious structures: outliers, duplicates, physics", columns);
    let columns = ["check", "id", "row", "found", "limit, or the earlier row"];
    let mut listed = Table::new("The first of them; more are in outliers.parquet", columns);
    for check in &d.checks {
        table.row(vec![
            Cell::text(&check.check),
            Cell::integer(check.structures),
            Cell::text(&check.meaning),
        ]);
        for suspect in &check.first {
            listed.row(vec![
                Cell::text(&check.check),
                Cell::text(&suspect.id),
                Cell::integer(suspect.row),
                Cell::number(Some(suspect.value), 5),
                Cell::number(Some(suspect.limit), 5),
            ]);
        }
    }
    document.table(&table);
    document.table(&listed);
}

fn rejects(document: &mut Document, d: &DatasetReport) {
    let total: u64 = d.rejects.values().sum();
    if total == 0 {
        document.paragraph("note", "No structure was rejected at conversion.");
        return;
    }
    let mut table = Table::new("Rejected at conversion", ["reason", "structures"]);
    d.rejects.iter().for_each(|(reason, &n)| table.row(vec![Cell::text(reason), Cell::integer(n)]));
    let mut first = Table::new("The first of them; all are in rejects.parquet", ["id", "what is wrong"]);
    d.first_rejects.iter().for_each(|(id, reason)| first.row(vec![Cell::text(id), Cell::text(reason)]));
    document.paragraph("warning", &format!("{} structures were rejected at conversion.", integer(total)));
    document.table(&table);
    document.table(&first);
}

fn of_split(split: Option<&str>) -> String {
    split.map(|name| format!(" of split {name}")).unwrap_or_default()
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    first + characters.as_str()
}
