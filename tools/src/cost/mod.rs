//! Hours of devices and what they emit (paper App. E, after Lacoste et al., arXiv:1910.09700).

mod page;

use serde::Serialize;

pub use page::document;

use crate::error::ReportError;
use crate::paper::Paper;
use crate::run_report::RunReport;
use crate::sessions::{self, Session};

/// What turns hours into emissions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rates {
    /// Power of one device, W.
    pub power_watts: f64,
    /// Carbon intensity of the electricity, kg CO₂eq/kWh.
    pub intensity_kg_per_kwh: f64,
    /// Power usage effectiveness: energy of the whole centre over that of its devices. The paper's calculator uses 1.
    pub pue: f64,
}

impl Rates {
    /// Energy of so many device hours, kWh.
    pub fn energy(&self, hours: f64) -> f64 {
        hours * self.power_watts / 1000.0 * self.pue
    }

    /// Emissions of so many device hours, kg CO₂eq.
    pub fn emissions(&self, hours: f64) -> f64 {
        self.energy(hours) * self.intensity_kg_per_kwh
    }

    /// Refuses what cannot be a rate.
    pub fn check(&self) -> Result<(), ReportError> {
        let wrong = |name: &str, found: f64, expected: &str| {
            Err(ReportError::Usage(format!("--{name}: expected {expected}, found {found}")))
        };
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if !positive(self.power_watts) {
            return wrong("power", self.power_watts, "the watts of one device, above 0");
        }
        if !(self.intensity_kg_per_kwh.is_finite() && self.intensity_kg_per_kwh >= 0.0) {
            return wrong("intensity", self.intensity_kg_per_kwh, "kg CO₂eq per kWh, not below 0");
        }
        if !(self.pue.is_finite() && self.pue >= 1.0) {
            return wrong("pue", self.pue, "a factor of at least 1");
        }
        Ok(())
    }
}

/// A run, or hours from elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// The run's name or a label.
    pub label: String,
    /// Hours on the clock, of a run.
    pub wall_hours: Option<f64>,
    /// Devices at work at once, of a run; absent where sessions had different ones.
    pub devices: Option<u32>,
    /// Where that number is from, of a run.
    pub devices_from: Option<DevicesFrom>,
    /// Device hours.
    pub hours: f64,
    /// Energy, kWh.
    pub energy_kwh: f64,
    /// Emissions, kg CO₂eq.
    pub emissions_kg: f64,
    /// Structures consumed, of a run.
    pub samples: Option<u64>,
}

/// Where a number of devices is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DevicesFrom {
    /// The user said it.
    Given,
    /// The run recorded it.
    Record,
    /// Nobody told; one is assumed.
    Assumed,
}

impl DevicesFrom {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Record => "recorded",
            Self::Assumed => "assumed",
        }
    }
}

/// A row of Table 14 with its figure worked out anew.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PaperItem {
    /// What was trained.
    pub label: String,
    /// GPU hours.
    pub hours: f64,
    /// Emissions as printed, kg CO₂eq.
    pub printed_kg: f64,
    /// Emissions from the hours, kg CO₂eq.
    pub computed_kg: f64,
}

/// All that the report says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CostReport {
    /// What the items were worked out with.
    pub rates: Option<Rates>,
    /// Runs and hours in the order given.
    pub items: Vec<Item>,
    /// Device hours of all items.
    pub total_hours: f64,
    /// Emissions of all items, kg CO₂eq.
    pub total_kg: f64,
    /// What the paper's figures are worked out with.
    pub paper_rates: Rates,
    /// Table 14.
    pub paper: Vec<PaperItem>,
}

impl Item {
    /// Hours from elsewhere.
    pub fn given(label: &str, hours: f64, rates: &Rates) -> Self {
        Self {
            label: label.into(),
            wall_hours: None,
            devices: None,
            devices_from: None,
            hours,
            energy_kwh: rates.energy(hours),
            emissions_kg: rates.emissions(hours),
            samples: None,
        }
    }

    /// A run on so many devices, else on those that it recorded, else on one; `None` if it recorded no time.
    pub fn of_run(run: &RunReport, given: Option<u32>, rates: &Rates) -> Option<Self> {
        let minutes = run.minutes?;
        let wall = minutes / 60.0;
        let recorded = sessions::device_hours(&run.sessions, minutes);
        let (devices, from, hours) = match (given, recorded) {
            (Some(devices), _) => (Some(devices), DevicesFrom::Given, wall * f64::from(devices)),
            (None, Some(hours)) => (same_devices(&run.sessions), DevicesFrom::Record, hours),
            (None, None) => (Some(1), DevicesFrom::Assumed, wall),
        };
        Some(Self {
            wall_hours: Some(wall),
            devices,
            devices_from: Some(from),
            samples: run.samples,
            ..Self::given(&run.name, hours, rates)
        })
    }
}

/// The number of devices, if it was the same in all sessions.
fn same_devices(sessions: &[Session]) -> Option<u32> {
    let first = sessions.first()?.devices();
    sessions.iter().all(|s| s.devices() == first).then_some(first)
}

impl CostReport {
    /// The report of some items.
    pub fn new(rates: Option<Rates>, items: Vec<Item>, paper: &Paper) -> Self {
        let cost = &paper.cost;
        let paper_rates = Rates {
            power_watts: cost.power_watts,
            intensity_kg_per_kwh: cost.intensity_kg_per_kwh,
            pue: 1.0,
        };
        let of = |row: &crate::paper::CostRow| PaperItem {
            label: row.label.clone(),
            hours: row.hours,
            printed_kg: row.kg,
            computed_kg: paper_rates.emissions(row.hours),
        };
        Self {
            rates,
            total_hours: items.iter().map(|i| i.hours).sum(),
            total_kg: items.iter().map(|i| i.emissions_kg).sum(),
            items,
            paper: cost.rows.iter().map(of).collect(),
            paper_rates,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_14_follows_from_its_inputs() {
        let paper = Paper::read().unwrap();
        let report = CostReport::new(None, vec![], &paper);
        assert_eq!(report.paper.len(), 4);
        for item in &report.paper {
            assert!((item.computed_kg - item.printed_kg).abs() < 0.005, "{}", item.label);
        }
        let total: f64 = report.paper.iter().map(|i| i.computed_kg).sum();
        assert!((total - paper.cost.total_kg).abs() < 0.005);
        // By hand: 34,400 h × 0.3 kW = 10,320 kWh; × 0.432 = 4,458.24 kg.
        assert!((report.paper_rates.energy(34_400.0) - 10_320.0).abs() < 1e-9);
    }

    #[test]
    fn the_effectiveness_of_the_centre_multiplies() {
        let rates = Rates { power_watts: 65.0, intensity_kg_per_kwh: 0.4, pue: 1.5 };
        let item = Item::given("x", 10.0, &rates);
        assert!((item.energy_kwh - 0.975).abs() < 1e-12 && (item.emissions_kg - 0.39).abs() < 1e-12);
        let wrong = Rates { pue: 0.5, ..rates };
        assert!(
            wrong
                .check()
                .unwrap_err()
                .to_string()
                .contains("--pue: expected a factor of at least 1, found 0.5")
        );
        assert!(Rates { power_watts: f64::NAN, ..rates }.check().is_err());
    }
}
