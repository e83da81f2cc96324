//! The tasks of MatBench v0.1 that start from structures, as matminer's `dataset_metadata.json` describes them.

/// What is known about a task beforehand.
pub(super) struct Task {
    pub(super) name: &'static str,
    /// The target's column in the source.
    pub(super) column: &'static str,
    /// Its name in the dataset.
    pub(super) target: &'static str,
    pub(super) unit: &'static str,
    pub(super) meaning: &'static str,
    pub(super) rows: usize,
    pub(super) level: &'static str,
}

/// Most of the sets.
const MATERIALS_PROJECT: &str = "PBE and PBE+U, PAW (VASP), Materials Project";

/// All tasks with structures.
pub(super) const TASKS: [Task; 9] = [
    Task {
        name: "jdft2d",
        column: "exfoliation_en",
        target: "exfoliation_energy",
        unit: "meV/atom",
        meaning: "energy to peel a layer off",
        rows: 636,
        level: "optB88-vdW, PAW (VASP), JARVIS-DFT",
    },
    Task {
        name: "phonons",
        column: "last phdos peak",
        target: "last_phdos_peak",
        unit: "cm⁻¹",
        meaning: "frequency of the highest optical phonon peak in the density of states",
        rows: 1265,
        level: "PBEsol, DFPT (ABINIT)",
    },
    Task {
        name: "dielectric",
        column: "n",
        target: "refractive_index",
        unit: "1",
        meaning: "refractive index",
        rows: 4764,
        level: "PBE and PBE+U, DFPT (VASP), Materials Project",
    },
    Task {
        name: "log_gvrh",
        column: "log10(G_VRH)",
        target: "log10_g_vrh",
        unit: "log₁₀ GPa",
        meaning: "logarithm of the Voigt-Reuss-Hill shear modulus",
        rows: 10_987,
        level: MATERIALS_PROJECT,
    },
    Task {
        name: "log_kvrh",
        column: "log10(K_VRH)",
        target: "log10_k_vrh",
        unit: "log₁₀ GPa",
        meaning: "logarithm of the Voigt-Reuss-Hill bulk modulus",
        rows: 10_987,
        level: MATERIALS_PROJECT,
    },
    Task {
        name: "perovskites",
        column: "e_form",
        target: "e_form",
        unit: "eV/unit cell",
        meaning: "heat of formation of the five-atom cell, oxygen as in water vapour",
        rows: 18_928,
        level: "RPBE (GPAW)",
    },
    Task {
        name: "mp_gap",
        column: "gap pbe",
        target: "band_gap_pbe",
        unit: "eV",
        meaning: "band gap",
        rows: 106_113,
        level: MATERIALS_PROJECT,
    },
    Task {
        name: "mp_e_form",
        column: "e_form",
        target: "e_form",
        unit: "eV/atom",
        meaning: "formation energy",
        rows: 132_752,
        level: MATERIALS_PROJECT,
    },
    Task {
        name: METAL,
        column: "is_metal",
        target: "is_metal",
        unit: "1",
        meaning: "1 for a metal, 0 otherwise",
        rows: 106_113,
        level: MATERIALS_PROJECT,
    },
];

/// The one task whose folds are stratified.
pub(super) const METAL: &str = "mp_is_metal";
