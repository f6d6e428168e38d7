//! `mutants.json` names each guard of the escrow protocol by the edit that removes it. The gate that applies them is to
//! come; until then this keeps the list in step with the code: an edit that no longer fits guards nothing.

use std::path::Path;

use serde_json::Value;

#[test]
fn every_mutant_still_fits_the_code() {
    let testkit = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read_to_string(testkit.join("mutants.json")).expect("it is there");
    let list: Value = serde_json::from_str(&list).expect("it is JSON");
    let text = |mutant: &Value, field: &str| mutant[field].as_str().map(str::to_owned);
    for mutant in list.as_array().expect("a list") {
        let name = text(mutant, "name").expect("each has a name");
        for part in ["", "2"] {
            let Some(file) = text(mutant, &format!("file{part}")) else { continue };
            let code = std::fs::read_to_string(testkit.join("..").join(&file)).expect("the file is there");
            let find = text(mutant, &format!("find{part}")).expect("what to find");
            assert!(text(mutant, &format!("replace{part}")).is_some_and(|with| with != find), "{name}: no edit");
            assert_eq!(code.matches(&find).count(), 1, "{name}: {find:?} in {file}");
        }
    }
}
