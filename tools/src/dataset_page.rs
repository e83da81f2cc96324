//! A dataset's section of the page.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use shards::layout::NeighborStorage;

use crate::dataset_report::{DatasetReport, SplitSummary};
use crate::html::{self, Cell, Table, escape};
use crate::number::{self, integer, significant};
use crate::summary_page::sizes;
use crate::svg::{histogram, periodic_table};

/// Count columns that are drawn; the table has them all.
const DRAWN_COUNTS: [&str; 3] = ["edges_main", "triplets", "quadruplets"];

/// Renders a dataset. Closed sections show only their heads until they are clicked.
pub fn render(dataset: &DatasetReport, anchor: &str, open: bool) -> String {
    let mut html = format!("<section id=\"{anchor}\">\n<h2>{}</h2>\n", escape(&dataset.name));
    html.push_str(&facts(dataset));
    let state = if open { " open=\"open\"" } else { "" };
    let _ = writeln!(html, "<details{state}><summary>Distributions</summary>");
    html.push_str(&elements_figure(dataset));
    html.push_str(&plots(dataset));
    html.push_str("</details>\n");
    let _ = writeln!(html, "<details{state}><summary>Tables</summary>");
    html.push_str(&split_table(dataset));
    html.push_str(&label_table(dataset));
    html.push_str(&count_table(dataset));
    html.push_str(&element_table(dataset));
    html.push_str("</details>\n");
    html.push_str(&rejects(dataset));
    html + "</section>\n"
}

fn facts(d: &DatasetReport) -> String {
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
    html::facts(&[
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
    ])
}

fn elements_figure(d: &DatasetReport) -> String {
    let counts: BTreeMap<u8, u64> = d.elements.iter().map(|e| (e.atomic_number, e.atoms)).collect();
    let title = format!("Atoms of each element{}", of_split(d.overview_split.as_deref()));
    let figure = html::figure(
        &title,
        &periodic_table::draw(&counts, "atoms"),
        "Shaded by the logarithm of the count.",
    );
    figure.replacen("<figure>", "<figure class=\"wide\">", 1)
}

fn plots(d: &DatasetReport) -> String {
    let mut html = String::from("<div class=\"grid\">\n");
    html.push_str(&html::figure(
        "Atoms per structure",
        &histogram::draw(&d.sizes, "atoms", "structures"),
        "All rows.",
    ));
    if let Some(e) = &d.energy_per_atom {
        let note = format!(
            "Energy as the source defines its zero. All {} with an energy: mean {}, standard deviation {} eV.",
            integer(e.structures),
            significant(e.mean, 5),
            significant(e.std, 3)
        );
        let plot = histogram::draw(&e.histogram, "energy per atom / eV", "structures");
        html.push_str(&html::figure("Energy per atom", &plot, &note));
    }
    html.push_str(&referenced_figure(d));
    if let Some(norms) = &d.force_norms {
        let zero = match d.zero_forces {
            0 => String::new(),
            n => format!(" {} atoms with zero force are left out.", integer(n)),
        };
        let note = format!("Bins of a quarter decade.{zero}");
        let title = format!("Force norms{}", of_split(d.overview_split.as_deref()));
        html.push_str(&html::figure(&title, &histogram::draw(norms, "force norm / (eV/Å)", "atoms"), &note));
    }
    for count in d.counts.iter().filter(|c| DRAWN_COUNTS.contains(&c.column.as_str())) {
        let note = format!(
            "All rows: mean {}, median {}, 95 % at most {}.",
            significant(count.mean, 4),
            integer(count.median),
            integer(count.p95)
        );
        let title = format!("{} per structure", capitalised(&count.title));
        let plot = histogram::draw(&count.histogram, &count.title, "structures");
        html.push_str(&html::figure(&title, &plot, &note));
    }
    html + "</div>\n"
}

fn referenced_figure(d: &DatasetReport) -> String {
    let Some(sample) = &d.referenced else { return String::new() };
    let e = &sample.per_atom;
    let scope = if sample.complete {
        format!("All {}", integer(e.structures))
    } else {
        format!("A sample of {} structures", integer(sample.read))
    };
    let left_out = match sample.unreferenced {
        0 => String::new(),
        n => format!(" {} with an element that the reference does not have are left out.", integer(n)),
    };
    let note = format!(
        "{scope}: mean {}, standard deviation {} eV.{left_out}",
        significant(e.mean, 3),
        significant(e.std, 3)
    );
    let plot = histogram::draw(&e.histogram, "(energy − reference) per atom / eV", "structures");
    let title = format!("After the linear reference{}", of_split(d.training_split.as_deref()));
    html::figure(&title, &plot, &note)
}

fn split_table(d: &DatasetReport) -> String {
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
    table.render()
}

fn chosen(split: &SplitSummary) -> String {
    match split.seed {
        Some(seed) => format!("{} (seed {seed})", split.algorithm),
        None => split.algorithm.clone(),
    }
}

fn label_table(d: &DatasetReport) -> String {
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
    let note = "<p class=\"note\">Where the rank is below the number of elements, the compositions do not determine each \
                coefficient; the one of least norm is taken.</p>\n";
    table.render() + if lacking { note } else { "" }
}

fn count_table(d: &DatasetReport) -> String {
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
    table.render()
}

fn element_table(d: &DatasetReport) -> String {
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
    table.render()
}

fn rejects(d: &DatasetReport) -> String {
    let total: u64 = d.rejects.values().sum();
    if total == 0 {
        return "<p class=\"note\">No structure was rejected at conversion.</p>\n".into();
    }
    let mut table = Table::new("Rejected at conversion", ["reason", "structures"]);
    d.rejects.iter().for_each(|(reason, &n)| table.row(vec![Cell::text(reason), Cell::integer(n)]));
    let mut first = Table::new("The first of them; all are in rejects.parquet", ["id", "what is wrong"]);
    d.first_rejects.iter().for_each(|(id, reason)| first.row(vec![Cell::text(id), Cell::text(reason)]));
    let words =
        format!("<p class=\"warning\">{} structures were rejected at conversion.</p>\n", integer(total));
    words + &table.render() + &first.render()
}

fn of_split(split: Option<&str>) -> String {
    split.map(|name| format!(" of split {name}")).unwrap_or_default()
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    first + characters.as_str()
}
