//! `jmp-tools cost`: device hours and emissions.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::page_args::PageArgs;
use crate::cost::{self, CostReport, Item, Rates};
use crate::error::ReportError;
use crate::number::significant;
use crate::paper::Paper;
use crate::run_report;

/// Arguments of `cost`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    jmp-tools cost runs/pretrain runs/ethanol --power 65 --intensity 0.38 --output cost.html\n  \
    jmp-tools cost runs/pretrain=128 --hours tests=40 --power 300 --pue 1.1\n  \
    jmp-tools cost    # the paper's Table 14 from its inputs\n\n\
    Exit codes: 0 done, 1 failed (report cannot be written), 2 bad input or usage.")]
pub struct CostArgs {
    /// Run directories of jmp-train; with =N for a run on N devices at once, where the record that it kept is not to count or is
    /// not there.
    #[arg(value_name = "RUN[=N]")]
    runs: Vec<String>,
    /// Device hours spent elsewhere; may be given several times.
    #[arg(long, value_name = "LABEL=HOURS", num_args = 1..)]
    hours: Vec<String>,
    /// Power of a device at full load, W: of a GPU, or of a processor with its memory. Needed with runs or hours.
    #[arg(long, value_name = "WATTS")]
    power: Option<f64>,
    /// Carbon intensity of the electricity, kg CO₂eq/kWh; the paper's is 0.432.
    #[arg(long, value_name = "KG", default_value_t = 0.432)]
    intensity: f64,
    /// Power usage effectiveness of the data centre; 1 counts the devices alone, as the paper does.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pue: f64,
    #[command(flatten)]
    page: PageArgs,
}

impl CostArgs {
    /// Runs the command; what is said goes to `out`.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        self.page.check()?;
        let paper = Paper::read()?;
        let rates = self.rates()?;
        let items = match &rates {
            Some(rates) => self.items(rates)?,
            None => vec![],
        };
        let report = CostReport::new(rates, items, &paper);
        let line = |label: &str, hours: f64, kg: f64| {
            format!("{label}: {} device hours, {} kg CO₂eq", significant(hours, 6), significant(kg, 6))
        };
        let mut lines: Vec<String> =
            report.items.iter().map(|i| line(&i.label, i.hours, i.emissions_kg)).collect();
        lines.extend(
            report.paper.iter().map(|i| line(&format!("paper, {}", i.label), i.hours, i.computed_kg)),
        );
        self.page.finish(&report, &cost::document(&report), (&lines, &[]), out)
    }

    fn rates(&self) -> Result<Option<Rates>, ReportError> {
        if self.runs.is_empty() && self.hours.is_empty() {
            return Ok(None);
        }
        let Some(power_watts) = self.power else {
            return Err(ReportError::Usage(
                "--power WATTS is needed: the power of one device at full load (the paper's V100: 300)"
                    .into(),
            ));
        };
        let rates = Rates { power_watts, intensity_kg_per_kwh: self.intensity, pue: self.pue };
        rates.check()?;
        Ok(Some(rates))
    }

    fn items(&self, rates: &Rates) -> Result<Vec<Item>, ReportError> {
        let mut items = vec![];
        for text in &self.runs {
            let (dir, devices) = run_and_devices(text)?;
            let run = run_report::gather(&dir)?;
            items.push(Item::of_run(&run, devices, rates).ok_or_else(|| ReportError::Run {
                path: dir.join("metrics.jsonl"),
                problem: "no line tells minutes: the run has not begun, or an earlier version made it and it did not end; \
                    give its hours with --hours LABEL=HOURS"
                    .into(),
            })?);
        }
        for text in &self.hours {
            let parsed =
                text.rsplit_once('=').and_then(|(label, hours)| Some((label, hours.parse::<f64>().ok()?)));
            let (label, hours) =
                parsed.filter(|(_, hours)| hours.is_finite() && *hours >= 0.0).ok_or_else(|| {
                    ReportError::Usage(format!("--hours {text}: expected LABEL=HOURS, such as tests=12.5"))
                })?;
            items.push(Item::given(label, hours, rates));
        }
        Ok(items)
    }
}

/// `RUN` or `RUN=N`. A directory whose name has a `=` is meant as it is.
fn run_and_devices(text: &str) -> Result<(PathBuf, Option<u32>), ReportError> {
    match text.rsplit_once('=') {
        Some((run, devices)) if !PathBuf::from(text).exists() => match devices.parse() {
            Ok(devices) if devices > 0 => Ok((run.into(), Some(devices))),
            _ => Err(ReportError::Usage(format!("{text}: expected RUN=N with N devices, 1 or more"))),
        },
        _ => Ok((text.into(), None)),
    }
}
