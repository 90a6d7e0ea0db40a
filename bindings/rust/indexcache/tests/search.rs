// SPDX-License-Identifier: Apache-2.0
//! tests/vectors/search/cases.json, and a search that goes on from its journal.
mod common;

use common::{json, status};
use indexcache::{Error, Search, SearchDesc, SearchState, SearchStrategy, Status};
use serde_json::Value;
use std::ffi::CString;

fn number(value: &Value) -> i32 {
    i32::try_from(value.as_i64().unwrap()).unwrap()
}

fn strategy(name: &str) -> SearchStrategy {
    match name {
        "IC_STRATEGY_GREEDY" => SearchStrategy::GREEDY,
        "IC_STRATEGY_GREEDY_BLOCKS" => SearchStrategy::GREEDY_BLOCKS,
        "IC_STRATEGY_UNIFORM" => SearchStrategy::UNIFORM,
        "IC_STRATEGY_SIMILARITY_DP" => SearchStrategy::SIMILARITY_DP,
        "IC_STRATEGY_RANDOM" => SearchStrategy::RANDOM,
        other => panic!("{other} is no strategy"),
    }
}

fn state(name: &str) -> SearchState {
    match name {
        "IC_SEARCH_DONE" => SearchState::DONE,
        "IC_SEARCH_BUDGET" => SearchState::BUDGET,
        "IC_SEARCH_EXHAUSTED" => SearchState::EXHAUSTED,
        other => panic!("{other} is no end of a search"),
    }
}

/// The fields of ic_search_desc that a case names.
fn search(fields: &Value, journal: &str) -> Result<Search, Error> {
    let start = CString::new(fields["start"].as_str().unwrap_or_default()).unwrap();
    let keep_full: Vec<i32> = fields["keep_full"].as_array().into_iter().flatten().map(number).collect();
    let entries = fields["similarity"].as_array().into_iter().flatten();
    let similarity: Vec<f64> = entries.map(|entry| entry.as_f64().unwrap()).collect();
    let mut desc = SearchDesc::new().journal(journal.as_bytes());
    for (name, value) in fields.as_object().unwrap() {
        desc = match name.as_str() {
            "num_layers" => desc.num_layers(number(value)),
            "strategy" => desc.strategy(strategy(value.as_str().unwrap())),
            "start" => desc.start(&start),
            "keep_full" => desc.keep_full(&keep_full),
            "num_full" => desc.num_full(number(value)),
            "max_full" => desc.max_full(number(value)),
            "num_blocks" => desc.num_blocks(number(value)),
            "loss_budget" => desc.loss_budget(value.as_f64().unwrap()),
            "similarity" => desc.similarity(&similarity),
            "num_samples" => desc.num_samples(number(value)),
            "seed" => desc.seed(value.as_u64().unwrap()),
            "journal" => desc.journal(value.as_str().unwrap().as_bytes()),
            other => panic!("cases.json has the field {other}"),
        };
    }
    Search::new(&desc)
}

/// Answers by id until the end.
fn run(search: &mut Search, case: &Value) {
    while let Some(candidate) = search.next_candidate().unwrap() {
        let id = usize::try_from(candidate.id).unwrap();
        assert_eq!(search.candidate_pattern(candidate.id).unwrap(), case["patterns"][id].as_str().unwrap(), "{case}");
        match case["losses"][id].as_f64() {
            Some(loss) => search.tell(candidate.id, loss).unwrap(),
            None => search.reject(candidate.id).unwrap(),
        }
    }
}

fn expect_end(search: &Search, case: &Value) {
    let info = search.info().unwrap();
    assert_eq!(info.state, state(case["state"].as_str().unwrap()), "{case}");
    assert_eq!(info.baseline_loss, case["losses"][0].as_f64().unwrap());
    let steps = case["steps"].as_array().unwrap();
    assert_eq!(usize::try_from(info.num_steps).unwrap(), steps.len(), "{case}");
    for (index, wanted) in (0..).zip(steps) {
        let step = search.step(index).unwrap();
        assert_eq!(step.layer.unwrap_or(-1), number(&wanted["layer"]), "{case}");
        assert_eq!(step.loss, wanted["loss"].as_f64().unwrap(), "{case}");
        assert_eq!(step.num_full, number(&wanted["num_full"]), "{case}");
        assert_eq!(search.step_pattern(index).unwrap(), wanted["pattern"].as_str().unwrap(), "{case}");
    }
    let accepted = steps.last().map_or(&case["patterns"][0], |step| &step["pattern"]);
    assert_eq!(search.accepted().unwrap(), accepted.as_str().unwrap(), "{case}");
}

#[test]
fn searches_with_known_ends_whole_and_resumed() {
    let cases = json("search/cases.json")["searches"].as_array().unwrap().clone();
    assert!(cases.len() >= 12);
    for case in &cases {
        let mut whole = search(&case["desc"], "").unwrap();
        run(&mut whole, case);
        expect_end(&whole, case);
        let journal = whole.journal(0).unwrap();
        for cut in [journal.len() / 3, journal.len() / 2, journal.len()] {
            let mut resumed = search(&case["desc"], &journal[..cut]).unwrap();
            let kept = resumed.info().unwrap().journal_resumed;
            run(&mut resumed, case);
            expect_end(&resumed, case);
            let file = journal[..usize::try_from(kept).unwrap()].to_owned() + &resumed.journal(kept).unwrap();
            assert_eq!(file, journal);
        }
    }
}

#[test]
fn refused_descs() {
    let cases = json("search/cases.json")["refused"].as_array().unwrap().clone();
    assert!(cases.len() >= 8);
    for case in &cases {
        let error = search(&case["desc"], "").expect_err(&case.to_string());
        assert_eq!(error.status(), status(case["status"].as_str().unwrap()), "{case}: {error}");
        assert!(error.message().contains(case["message"].as_str().unwrap()), "{case}: {error}");
    }
}

#[test]
fn answers() {
    let mut search = Search::new(&SearchDesc::new().num_layers(4).strategy(SearchStrategy::GREEDY)).unwrap();
    let baseline = search.next_candidate().unwrap().unwrap();
    assert_eq!((baseline.id, baseline.step, baseline.layer, baseline.first_layer), (0, None, None, 0));
    assert_eq!(search.next_candidate().unwrap(), None);
    assert!(search.info().unwrap().baseline_loss.is_nan());
    search.tell(0, 1.5).unwrap();
    search.tell(0, 1.5).unwrap();
    assert_eq!(search.tell(0, 2.5).unwrap_err().status(), Status::ALREADY_TOLD);
    assert_eq!(search.tell(1, f64::NAN).unwrap_err().status(), Status::INVALID_ARGUMENT);
    let first = search.next_candidate().unwrap().unwrap();
    assert_eq!((first.id, first.step, first.layer, first.first_layer), (1, Some(0), Some(1), 1));
    search.release(first.id).unwrap();
    assert_eq!(search.next_candidate().unwrap(), Some(first));
    let journal = search.journal(0).unwrap();
    let other = SearchDesc::new().num_layers(5).strategy(SearchStrategy::GREEDY);
    let error = Search::new(&other.journal(journal.as_bytes())).unwrap_err();
    assert_eq!(error.status(), Status::JOURNAL);
    assert!(error.message().contains("num_layers 4; the desc has 5"), "{error}");
}
