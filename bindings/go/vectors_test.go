// SPDX-License-Identifier: Apache-2.0

package indexcache_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	. "libindexcache.invalid/go"
)

// A case of tests/vectors/cases.json: configs, patterns, what engines are given, what is refused.
type vectorCase struct {
	Config       string
	Pattern      *string
	NumLayers    int32  `json:"num_layers"`
	NumMTPLayers *int32 `json:"num_mtp_layers"`
	Status       string
	Message      string
	File         string
	Engine       string
	Desc         map[string]json.RawMessage
}

func cases(t *testing.T, group string, atLeast int) []vectorCase {
	t.Helper()
	groups := parse[map[string]json.RawMessage](t, vector(t, "cases.json"))
	found := parse[[]vectorCase](t, groups[group])
	if len(found) < atLeast {
		t.Fatalf("%s has %d cases", group, len(found))
	}
	return found
}

// schedule has the fields of ic_schedule_desc that a case names.
func schedule(t *testing.T, fields map[string]json.RawMessage) (*Schedule, error) {
	t.Helper()
	desc := new(ScheduleDesc)
	known := map[string]any{
		"num_layers": &desc.NumLayers, "num_mtp_layers": &desc.NumMTPLayers, "pattern": &desc.Pattern,
		"freq": &desc.Freq, "offset": &desc.Offset, "indexer_layers": &desc.IndexerLayers, "flags": &desc.Flags,
		"config_json": &desc.ConfigJSON,
	}
	for name, value := range fields {
		if known[name] == nil {
			t.Fatalf("cases.json has the field %s", name)
		}
		ok(t, json.Unmarshal(value, known[name]))
	}
	return NewSchedule(desc)
}

func ofConfig(t *testing.T, config string, pattern *string) (*Schedule, error) {
	t.Helper()
	desc := &ScheduleDesc{ConfigJSON: string(vector(t, "config/"+config))}
	if pattern != nil {
		desc.Pattern = *pattern
	}
	return NewSchedule(desc)
}

// status of a C name.
func status(t *testing.T, name string) Status {
	t.Helper()
	for number := range Status(100) {
		if strings.HasPrefix(number.String(), name+":") {
			return number
		}
	}
	t.Fatalf("no status is called %s", name)
	return 0
}

func TestPublishedConfigs(t *testing.T) {
	for _, c := range cases(t, "resolved", 8) {
		s := got(ofConfig(t, c.Config, nil))(t)
		if pattern := got(s.Pattern())(t); pattern != *c.Pattern {
			t.Errorf("%s: %s", c.Config, pattern)
		}
		info := got(s.Info())(t)
		full := int32(strings.Count(*c.Pattern, "F"))
		if info.NumLayers != c.NumLayers || info.NumFull != full {
			t.Errorf("%s: %+v", c.Config, info)
		}
		if c.NumMTPLayers != nil && info.NumMTPLayers != *c.NumMTPLayers {
			t.Errorf("%s: %+v", c.Config, info)
		}
		ok(t, s.Close())
	}
}

func TestOtherSparseAttentionIsRefusedByName(t *testing.T) {
	for _, c := range cases(t, "refused", 7) {
		_, err := ofConfig(t, c.Config, c.Pattern)
		refused(t, err, status(t, c.Status), c.Message)
	}
}

func TestWhatEnginesAreGiven(t *testing.T) {
	engines := map[string]Engine{
		"IC_ENGINE_VLLM": EngineVLLM, "IC_ENGINE_SGLANG": EngineSGLang,
		"IC_ENGINE_TENSORRT_LLM": EngineTensorRTLLM, "IC_ENGINE_TRANSFORMERS": EngineTransformers,
	}
	for _, c := range cases(t, "exported", 15) {
		s := got(ofConfig(t, c.Config, c.Pattern))(t)
		if text := got(s.Export(engines[c.Engine]))(t) + "\n"; text != string(vector(t, "schedule/"+c.File)) {
			t.Errorf("%s: %s", c.File, text)
		}
		ok(t, s.Close())
	}
}

func TestDescs(t *testing.T) {
	for _, c := range cases(t, "descs", 13) {
		s, err := schedule(t, c.Desc)
		if c.Status != "" {
			refused(t, err, status(t, c.Status), c.Message)
			continue
		}
		ok(t, err)
		if pattern := got(s.Pattern())(t); pattern != *c.Pattern {
			t.Errorf("%s: %s", c.Desc, pattern)
		}
		ok(t, s.Close())
	}
}

func TestLayersOfASharedConfig(t *testing.T) {
	s, err := ofConfig(t, "glm-5.2.json", nil)
	closing(t, s, err)
	if layer := got(s.Layer(39))(t); layer.SourceLayer != 38 || layer.Mode != LayerShared || layer.KeySlot != -1 {
		t.Errorf("%+v", layer)
	}
	if cut := got(s.Cut(39))(t); cut != 38 {
		t.Error(cut)
	}
	if cut := got(s.Cut(38))(t); cut != -1 {
		t.Error(cut)
	}
	if !got(s.Layer(78))(t).IsMTP || !got(s.Info())(t).MTPCanShare || got(s.Layer(77))(t).IsMTP {
		t.Error("MTP")
	}
	if text := got(s.Explain())(t); !strings.Contains(text, "layer 74 Full, read by Shared layers 75 76 77\n") {
		t.Error(text)
	}
	if slot := got(s.CacheSlot(2, 4))(t); slot != 2 {
		t.Error(slot)
	}
	if _, err := s.Layer(79); !errors.Is(err, ErrInvalidArgument) {
		t.Error(err)
	}
}
