// SPDX-License-Identifier: Apache-2.0
//! tests/vectors/cases.json: configs, patterns, what engines are given, what is refused.
mod common;

use common::{json, status, text};
use indexcache::{Engine, Error, Schedule, ScheduleDesc, ScheduleFlags};
use serde_json::Value;
use std::ffi::CString;

/// The fields of ic_schedule_desc that a case names.
fn schedule(fields: &Value) -> Result<Schedule, Error> {
    let string = |name: &str| CString::new(fields[name].as_str().unwrap_or_default()).unwrap();
    let (pattern, config) = (string("pattern"), string("config_json"));
    let list: Vec<i32> = fields["indexer_layers"].as_array().into_iter().flatten().map(number).collect();
    let mut desc = ScheduleDesc::new();
    for (name, value) in fields.as_object().unwrap() {
        desc = match name.as_str() {
            "num_layers" => desc.num_layers(number(value)),
            "num_mtp_layers" => desc.num_mtp_layers(number(value)),
            "freq" => desc.freq(number(value)),
            "offset" => desc.offset(number(value)),
            "flags" => desc.flags(ScheduleFlags(value.as_u64().unwrap() as u32)),
            "pattern" => desc.pattern(&pattern),
            "config_json" => desc.config_json(&config),
            "indexer_layers" => desc.indexer_layers(&list),
            other => panic!("cases.json has the field {other}"),
        };
    }
    Schedule::new(&desc)
}

fn number(value: &Value) -> i32 {
    value.as_i64().unwrap() as i32
}

fn of_config(case: &Value) -> Result<Schedule, Error> {
    let mut fields = serde_json::Map::new();
    fields.insert("config_json".into(), text(&format!("config/{}", case["config"].as_str().unwrap())).into());
    if let Some(pattern) = case.get("pattern") {
        fields.insert("pattern".into(), pattern.clone());
    }
    schedule(&Value::Object(fields))
}

fn cases(group: &str, at_least: usize) -> Vec<Value> {
    let cases = json("cases.json")[group].as_array().unwrap().clone();
    assert!(cases.len() >= at_least, "{group} has {} cases", cases.len());
    cases
}

fn expect_refused(case: &Value, result: Result<Schedule, Error>) {
    let error = result.expect_err(&case.to_string());
    assert_eq!(error.status(), status(case["status"].as_str().unwrap()), "{case}: {error}");
    assert!(error.message().contains(case["message"].as_str().unwrap()), "{case}: {error}");
}

#[test]
fn published_configs() {
    for case in cases("resolved", 8) {
        let mut without_override = case.clone();
        without_override.as_object_mut().unwrap().remove("pattern");
        let schedule = of_config(&without_override).unwrap();
        assert_eq!(schedule.pattern().unwrap(), case["pattern"].as_str().unwrap(), "{case}");
        let info = schedule.info().unwrap();
        assert_eq!(info.num_layers, number(&case["num_layers"]), "{case}");
        if let Some(count) = case.get("num_mtp_layers") {
            assert_eq!(info.num_mtp_layers, number(count), "{case}");
        }
        let full = case["pattern"].as_str().unwrap().matches('F').count();
        assert_eq!(info.num_full as usize, full, "{case}");
    }
}

#[test]
fn other_sparse_attention_is_refused_by_name() {
    for case in cases("refused", 7) {
        expect_refused(&case, of_config(&case));
    }
}

#[test]
fn what_engines_are_given() {
    for case in cases("exported", 15) {
        let engine = match case["engine"].as_str().unwrap() {
            "IC_ENGINE_VLLM" => Engine::VLLM,
            "IC_ENGINE_SGLANG" => Engine::SGLANG,
            "IC_ENGINE_TENSORRT_LLM" => Engine::TENSORRT_LLM,
            "IC_ENGINE_TRANSFORMERS" => Engine::TRANSFORMERS,
            other => panic!("{other}"),
        };
        let exported = of_config(&case).unwrap().export(engine).unwrap();
        assert_eq!(exported + "\n", text(&format!("schedule/{}", case["file"].as_str().unwrap())), "{case}");
    }
}

#[test]
fn descs() {
    for case in cases("descs", 13) {
        let result = schedule(&case["desc"]);
        if case.get("status").is_some() {
            expect_refused(&case, result);
        } else {
            assert_eq!(result.unwrap().pattern().unwrap(), case["pattern"].as_str().unwrap(), "{case}");
        }
    }
}

#[test]
fn layers_of_a_shared_config() {
    let schedule = of_config(&serde_json::json!({"config": "glm-5.2.json"})).unwrap();
    assert_eq!(schedule.layer(39).unwrap().source_layer, Some(38));
    assert_eq!(schedule.cut(39).unwrap(), Some(38));
    assert_eq!(schedule.cut(38).unwrap(), None);
    assert!(schedule.layer(78).unwrap().is_mtp);
    assert!(schedule.info().unwrap().mtp_can_share);
    assert_eq!(schedule.layer(3).unwrap().key_slot, None);
    assert!(schedule.explain().unwrap().contains("layer 74 Full, read by Shared layers 75 76 77\n"));
    assert_eq!(schedule.cache_slot(2, 4).unwrap(), 2);
    let first = Schedule::new(&ScheduleDesc::new().pattern(c"FS").num_layers(2)).unwrap();
    assert_eq!(first.cut(1).unwrap(), Some(0));
}
