use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<Vec<Frame>, FrameError> {
    let mut frames = Frames::new(text.as_bytes(), Mark::START, &["forces", "move_mask", "tags", "name"]);
    let mut all = Vec::new();
    while let Some(frame) = frames.next_frame()? {
        all.push(frame);
    }
    Ok(all)
}

fn info(line: &str) -> Info {
    Info::parse(line).unwrap()
}

#[test]
fn entries_in_all_their_spellings() {
    let got = info(
        r#"a=1 b = "two words" c={1 2 3} d=[[1, 2], [3, 4]] flag "quoted key"=x e="say \"hi\"" f='s t' a=2 g="#,
    );
    let keys: Vec<&str> = got.keys().collect();
    assert_eq!(keys, ["b", "c", "d", "flag", "quoted key", "e", "f", "a", "g"]);
    assert_eq!(got.text("b"), Some("two words"));
    assert_eq!(numbers(got.text("c").unwrap()), Some(vec![1.0, 2.0, 3.0]));
    assert_eq!(numbers(got.text("d").unwrap()), Some(vec![1.0, 2.0, 3.0, 4.0]));
    assert_eq!((got.text("flag"), got.text("quoted key")), (Some("T"), Some("x")));
    assert_eq!((got.text("e"), got.text("f")), (Some("say \"hi\""), Some("s t")));
    assert_eq!((got.number(&["none", "a"]), got.text("g")), (Ok(Some(2.0)), Some("")));
    assert!(got.number(&["b"]).unwrap_err().contains("`b`: expected a number, found \"two words\""));
    assert!(Info::parse("a=\"open").unwrap_err().contains("does not end"));
    assert_eq!(info("a plain comment, 1.5 and \"so on"), Info::default());
}

#[test]
fn periodic_directions_in_all_their_spellings() {
    for (text, want) in [
        ("pbc=\"T T F\"", [true, true, false]),
        ("pbc=[True, False, True]", [true, false, true]),
        ("pbc=\"1 0 0\"", [true, false, false]),
        ("pbc=F", [false; 3]),
        ("pbc=TFT", [true, false, true]),
        ("x=1", [true; 3]),
    ] {
        assert_eq!(info(text).pbc(true), Ok(want), "{text}");
    }
    assert_eq!(info("x=1").pbc(false), Ok([false; 3]));
    assert!(info("pbc=\"T T\"").pbc(true).is_err());
    assert_eq!(info("Lattice=\"1 2 3 4 5 6 7 8 9d0\"").lattice().unwrap().unwrap()[8], 9.0);
    assert_eq!(info("Lattice=\"0 0 0 0 0 0 0 0 0\"").lattice(), Ok(None));
    assert!(info("Lattice=\"1 2 3\"").lattice().unwrap_err().contains("nine numbers"));
}

#[test]
fn columns_come_in_any_order() {
    let text = "2\nProperties=name:S:1:forces:R:3:junk:R:2:pos:R:3:move_mask:L:1:Z:I:1:tags:I:1\n\
                a 1 2 3 9 9 0.5 0 -1d-1 T 26 2\nb 4 5 6 9 9 1 1 1 F 8 0\n";
    let frame = &read(text).unwrap()[0];
    assert_eq!(frame.atomic_numbers, [26, 8]);
    assert_eq!(frame.positions, [0.5, 0.0, -0.1, 1.0, 1.0, 1.0]);
    assert_eq!(frame.column("forces").unwrap().values, Values::Real(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    assert_eq!(frame.column("move_mask").unwrap().values, Values::Logical(vec![true, false]));
    assert_eq!(frame.column("tags").unwrap().values, Values::Integer(vec![2, 0]));
    assert_eq!(frame.column("name").unwrap().values, Values::Text(vec!["a".into(), "b".into()]));
    assert!(frame.column("junk").is_none());
}

#[test]
fn plain_xyz_with_blank_lines_and_labels() {
    let text = "\r\n3\r\n-76.4 hartree\r\nO1 0 0 0 0.33\r\nH 0 0 1\r\n1 0 1 0\r\n\r\n\r\n1\r\n\r\nCL 1 2 3";
    let frames = read(text).unwrap();
    assert_eq!(frames[0].atomic_numbers, [8, 1, 1]);
    assert_eq!((frames[1].atomic_numbers.as_slice(), frames[1].index, frames[1].line), (&[17u8][..], 1, 9));
}

#[test]
fn faults_name_frame_line_and_what_was_expected() {
    let check = |text: &str, expected: &str| {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    };
    check("two\n\n", "frame 0 (line 1): expected a number of atoms, which begins a frame, found \"two\"");
    check("-1\n\n", "expected a number of atoms");
    check("2\n\nH 0 0 0\n", "frame 0 (line 1): the file ends after 1 of its 2 atoms: it is truncated");
    check("1\n", "ends after its number of atoms");
    check("1\n\nH 0 0\n", "line 3): expected 4 columns (species:S:1:pos:R:3), found \"H 0 0\"");
    check("1\n\nH 0 x 0\n", "expected a number, found \"x\"");
    check("1\n\nXx 0 0 0\n", "expected an element's symbol, found \"Xx\"");
    check("1\nProperties=pos:R:3\n0 0 0\n", "expected species (or Z) and pos");
    check("1\nProperties=species:S:1:pos:R\nH 0 0 0\n", "expected Properties=name:type:columns");
    check("1\nProperties=species:S:1:pos:R:3:x:Q:1\nH 0 0 0 1\n", "known are S, R, I and L");
    check("1\nProperties=species:S:1:pos:R:3\nH 0 0 0 1\n", "found more");
    check("1\nProperties=species:S:1:pos:R:3:Z:I:1\nH 0 0 0 2\n", "the symbol is of element 1, but `Z` is 2");
    check("99999999999\n\n", "ends after 0 of its 99999999999 atoms");
    check("1\nProperties=species:S:1:pos:R:3:x:R:99999999999\nH 0 0 0\n", "has \"99999999999\" columns");
}

#[test]
fn a_bad_row_costs_its_frame_only() {
    let text = "1\n\nH 0 0 bad\n1\na=\"open\nH 1 1 1\n1\n\nH 2 2 2\n";
    let mut frames = Frames::new(text.as_bytes(), Mark::START, &[]);
    assert!(frames.next_frame().unwrap_err().can_go_on);
    assert!(frames.next_frame().unwrap_err().can_go_on);
    assert_eq!(frames.next_frame().unwrap().unwrap().positions, [2.0; 3]);
    assert_eq!(frames.next_frame().unwrap(), None);
}

#[test]
fn marks_lead_to_the_same_frames() {
    let text = (1..=25)
        .map(|i| format!("{0}\nenergy={i}\n{1}\n", i % 4 + 1, "H 0 0 0\n".repeat(i % 4 + 1)))
        .collect::<Vec<String>>()
        .concat();
    let marks = scan(text.as_bytes(), 10).unwrap();
    let frames: Vec<u64> = marks.iter().map(|m| m.frame).collect();
    assert_eq!(frames, [0, 10, 20, 25]);
    let whole = read(&text).unwrap();
    for pair in marks.windows(2) {
        let part = &text[pair[0].offset as usize..pair[1].offset as usize];
        let mut frames = Frames::new(part.as_bytes(), pair[0], &[]);
        for frame in &whole[pair[0].frame as usize..pair[1].frame as usize] {
            assert_eq!(frames.next_frame().unwrap().as_ref(), Some(frame));
        }
        assert_eq!(frames.next_frame().unwrap(), None);
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "[0-9]{0,2}\n[ -~]{0,60}\n[A-Za-z0-9 .:=\"\\-\n]{0,80}") {
        let _ = read(&text);
        let _ = scan(text.as_bytes(), 2);
    }
}
