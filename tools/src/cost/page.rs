//! The page of `jmp-tools cost`.

use super::{CostReport, DevicesFrom, Item, Rates};
use crate::document::Document;
use crate::html::{Cell, Table};
use crate::number::significant;
use crate::svg::bars::{self, Bar};

/// The page and its numbers.
pub fn document(report: &CostReport) -> Document {
    let mut document = Document::new("Cost of training");
    if let Some(rates) = report.rates {
        document.open_section("cost", "These runs");
        document.facts(&rate_facts(&rates));
        document.table(&items(report));
        document.open_grid();
        bar_figure(&mut document, "Emissions", &report.items);
        document.close_grid();
        document.paragraph("note", METHOD);
        document.close_section();
    }
    document.open_section("paper", "The paper's runs (Table 14)");
    document.facts(&rate_facts(&report.paper_rates));
    document.table(&paper(report));
    document.close_section();
    document
}

const METHOD: &str = "Emissions = device hours × power × PUE × carbon intensity, with the power of a device at full load \
    all the time, as in the paper's App. E. Hours of a run are those of its clock, validations and checkpoints \
    included, times the number of devices: those given, else those that the run recorded (GPUs by rank, processors by \
    machine), else one.";

fn rate_facts(rates: &Rates) -> [(&'static str, String); 3] {
    [
        ("power of a device", format!("{} W", significant(rates.power_watts, 4))),
        ("carbon intensity", format!("{} kg CO₂eq/kWh", significant(rates.intensity_kg_per_kwh, 4))),
        ("power usage effectiveness", significant(rates.pue, 4)),
    ]
}

fn items(report: &CostReport) -> Table {
    let columns = [
        "what",
        "hours on the clock / h",
        "devices",
        "devices are",
        "device hours / h",
        "energy / kWh",
        "emissions / kg CO₂eq",
        "structures",
        "g CO₂eq per 1000 structures",
    ];
    let mut table = Table::new("Hours and emissions", columns);
    for item in &report.items {
        let each = item.samples.filter(|n| *n > 0).map(|n| 1e6 * item.emissions_kg / n as f64);
        table.row(vec![
            Cell::text(&item.label),
            Cell::number(item.wall_hours, 4),
            item.devices.map_or(Cell::number(None, 1), |d| Cell::integer(u64::from(d))),
            Cell::text(item.devices_from.map_or("–", DevicesFrom::words)),
            Cell::number(Some(item.hours), 4),
            Cell::number(Some(item.energy_kwh), 4),
            Cell::number(Some(item.emissions_kg), 4),
            item.samples.map_or(Cell::number(None, 1), Cell::integer),
            Cell::number(each, 3),
        ]);
    }
    if report.items.len() > 1 {
        let energy: f64 = report.items.iter().map(|i| i.energy_kwh).sum();
        let none = || Cell::number(None, 1);
        table.total(vec![
            Cell::text("all"),
            none(),
            none(),
            Cell::text("–"),
            Cell::number(Some(report.total_hours), 4),
            Cell::number(Some(energy), 4),
            Cell::number(Some(report.total_kg), 4),
            none(),
            none(),
        ]);
    }
    table
}

fn paper(report: &CostReport) -> Table {
    let columns = [
        "what",
        "device hours / h",
        "emissions as printed / kg CO₂eq",
        "worked out from the hours / kg CO₂eq",
    ];
    let mut table = Table::new("Hours and emissions in the paper", columns);
    let row = |label: &str, hours: f64, printed: f64, computed: f64| {
        vec![
            Cell::text(label),
            Cell::fixed(Some(hours), 0),
            Cell::fixed(Some(printed), 2),
            Cell::fixed(Some(computed), 2),
        ]
    };
    for item in &report.paper {
        table.row(row(&item.label, item.hours, item.printed_kg, item.computed_kg));
    }
    let sum = |of: fn(&super::PaperItem) -> f64| report.paper.iter().map(of).sum();
    table.total(row("all", sum(|i| i.hours), sum(|i| i.printed_kg), sum(|i| i.computed_kg)));
    table
}

fn bar_figure(document: &mut Document, title: &str, items: &[Item]) {
    let bars: Vec<Bar> =
        items.iter().map(|i| Bar { name: &i.label, value: i.emissions_kg, series: 0 }).collect();
    document.figure(title, &bars::draw(&bars, "emissions / kg CO₂eq"), "");
}
