//! What a sample of decoded structures tells, on the page.

use crate::dataset_report::DatasetReport;
use crate::distribution::RealDistribution;
use crate::document::{Document, Labels};
use crate::html::{Cell, Table};
use crate::number::{integer, significant, with_spread};
use crate::sample::{Geometry, Sample};

/// A distribution with its words: title, horizontal axis with unit, what is counted, and more for the note.
struct Shown<'a> {
    title: &'a str,
    x: &'a str,
    unit: &'a str,
    y: &'a str,
    more: String,
}

/// Draws the sample's distributions.
pub(crate) fn plots(document: &mut Document, sample: &Sample, dataset: &DatasetReport) {
    let scope = scope(sample);
    energies(document, sample, dataset, &scope);
    if let Some(components) = &sample.force_components {
        let shown = Shown {
            title: "Force components",
            x: "force component / (eV/Å)",
            unit: "eV/Å",
            y: "components",
            more: String::new(),
        };
        draw(document, components, &shown, &scope);
    }
    geometry(document, &sample.geometry, dataset, &scope);
}

/// Whose numbers these are.
fn scope(sample: &Sample) -> String {
    let n = integer(sample.structures);
    if sample.complete {
        format!("All {n} structures")
    } else {
        format!(
            "A sample of {n} structures from {} row groups, seed {}",
            integer(sample.row_groups as u64),
            sample.seed
        )
    }
}

fn draw(document: &mut Document, distribution: &RealDistribution, shown: &Shown, scope: &str) {
    let d = distribution;
    let unit = if shown.unit.is_empty() { String::new() } else { format!(" {}", shown.unit) };
    let beyond = match d.beyond {
        0 => String::new(),
        n => format!(
            " {} beyond the plot, from {} to {}.",
            integer(n),
            significant(d.min, 4),
            significant(d.max, 4)
        ),
    };
    let (mean, std) = with_spread(d.mean, d.std);
    let note = format!("{scope}: mean {mean}, standard deviation {std}{unit}.{}{beyond}", shown.more);
    let labels = Labels { title: shown.title, x: shown.x, y: shown.y, note: &note };
    document.histogram(&d.histogram, labels);
}

fn energies(document: &mut Document, sample: &Sample, dataset: &DatasetReport, scope: &str) {
    let Some(e) = &sample.energies else { return };
    let split = dataset.training_split.as_deref().map(|s| format!(" of split {s}")).unwrap_or_default();
    let more = match e.unreferenced {
        0 => String::new(),
        n => format!(" {} with an element that the reference does not have are left out.", integer(n)),
    };
    let (before, after) = ("Energy".to_string(), format!("Energy after the linear reference{split}"));
    let each = format!("Energy per atom after the linear reference{split}");
    let plots = [
        (Some(&e.total), before, "energy / eV", String::new()),
        (e.referenced.as_ref(), after, "energy − reference / eV", more.clone()),
        (e.referenced_per_atom.as_ref(), each, "(energy − reference) per atom / eV", more),
    ];
    for (distribution, title, x, more) in plots {
        let Some(distribution) = distribution else { continue };
        let shown = Shown { title: &title, x, unit: "eV", y: "structures", more };
        draw(document, distribution, &shown, scope);
    }
}

fn geometry(document: &mut Document, geometry: &Geometry, dataset: &DatasetReport, scope: &str) {
    let cutoff = dataset.graph.cutoff;
    if let Some(nearest) = &geometry.nearest {
        let more = match geometry.isolated {
            0 => String::new(),
            n => format!(" {} atoms have none within {cutoff} Å.", integer(n)),
        };
        let shown = Shown { title: "Nearest neighbour", x: "distance / Å", unit: "Å", y: "atoms", more };
        draw(document, nearest, &shown, scope);
    }
    let n = &geometry.neighbors;
    let most = dataset.graph.atom_atom;
    let note = format!(
        "{scope}: mean {}, largest {}. Within {cutoff} Å, at most the {most} nearest.",
        significant(n.mean, 4),
        integer(n.max)
    );
    let labels = Labels { title: "Neighbours per atom", x: "neighbours", y: "atoms", note: &note };
    document.histogram(&n.histogram, labels);
    let Some(cells) = &geometry.cells else { return };
    let plots = [
        (&cells.volume, "Cell volume", "volume / Å³", "Å³"),
        (&cells.volume_per_atom, "Cell volume per atom", "volume per atom / Å³", "Å³"),
        (&cells.density, "Density of the cell", "density / (g/cm³)", "g/cm³"),
    ];
    for (distribution, title, x, unit) in plots {
        let shown = Shown { title, x, unit, y: "structures", more: String::new() };
        draw(document, distribution, &shown, scope);
    }
}

/// What the linear reference leaves, by element and by composition.
pub(crate) fn tables(document: &mut Document, sample: &Sample) {
    let Some(e) = &sample.energies else { return };
    let columns = ["element", "structures with it", "mean / (eV/atom)", "std / (eV/atom)"];
    let mut table = Table::new("Energy after the linear reference, in structures with an element", columns);
    for r in &e.by_element {
        table.row(vec![
            Cell::text(&r.symbol),
            Cell::integer(r.structures),
            Cell::number(Some(r.mean), 4),
            Cell::number(Some(r.std), 4),
        ]);
    }
    document.table(&table);
    let columns = ["composition", "structures", "mean / (eV/atom)"];
    let mut table = Table::new("Compositions that the linear reference fits worst", columns);
    for r in &e.by_composition {
        table.row(vec![Cell::text(&r.formula), Cell::integer(r.structures), Cell::number(Some(r.mean), 4)]);
    }
    document.table(&table);
    if !e.by_element.is_empty() {
        document.paragraph("note", &format!("{}.", scope(sample)));
    }
}
